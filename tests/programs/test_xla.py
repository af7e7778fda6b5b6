"""What is said of XLA without compiling is what XLA says."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support import logp_dlogp_function, run_text

from pymc3_tf import TensorFlowOp
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input
from pymc3_tf.exceptions import CompilationError, EvaluationError, UnsupportedOpError
from pymc3_tf.linker import compile_alone
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.programs.xla import unsupported_by_xla
from pymc3_tf.runtime import functions


def asserted(x):
    distribution = tfp.distributions.MultivariateNormalDiag(x, x, validate_args=True)
    return distribution.log_prob(x)


def looped(x):
    return tf.while_loop(
        lambda i, _: i < 3, lambda i, y: (i + 1, y * x[0]), (0, x[1]), maximum_iterations=5
    )[1]


def as_strings(x):
    return tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(x)), tf.float64) * x


FUNCTIONS = {
    "arithmetic": (lambda x: tf.sin(x) / x, []),
    "special functions": (lambda x: tf.math.betainc(x, x, x) + tf.math.igamma(x, x), []),
    "linear algebra": (lambda x: tf.linalg.inv(tf.linalg.diag(x)), []),
    "a condition": (lambda x: tf.cond(x[0] > 0, lambda: x, lambda: 2 * x), []),
    "a loop": (looped, []),
    "a compiled function": (tf.function(lambda x: x * x, jit_compile=True), []),
    "assertions": (asserted, []),
    "printing": (lambda x: (tf.print("x:", x), x)[1], []),
    "random numbers": (
        lambda x: x * tf.random.stateless_normal([3], [1, 2], dtype=tf.float64, alg="philox"),
        [],
    ),
    "strings": (as_strings, ["AsString", "StringToNumber"]),
    "segments": (lambda x: tf.math.segment_sum(x, [0, 0, 1]), ["SegmentSum"]),
    "a gradient": (tf.math.special.bessel_k0, ["BesselK0", "BesselK1"]),
    "a determinant": (
        lambda x: tf.linalg.slogdet(tf.linalg.diag(x))[1],
        ["LogMatrixDeterminant"],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ops_without_a_kernel_are_those_at_which_xla_stops(name):
    function, expected = FUNCTIONS[name]
    inputs = [Input("x", "float64", (3,))]

    def logp(x):
        return tf.reduce_sum(function(x))

    program = capture(logp, inputs)
    assert unsupported_by_xla(tf.compat.v1.GraphDef.FromString(program.graph_def)) == expected
    if expected:
        with pytest.raises(tf.errors.InvalidArgumentError, match="|".join(expected)):
            compile_alone(program)
        with pytest.raises(UnsupportedOpError, match=f"{', '.join(expected)}, which logp.*jit_com"):
            capture(logp, inputs, jit_compile=True)
    else:
        plain, compiled = (
            functions.evaluate(value_and_vjp(p), [[0.4, 0.5, 0.6]])
            for p in (program, capture(logp, inputs, jit_compile=True))
        )
        for found, result in zip(compiled, plain):
            np.testing.assert_allclose(found, result, rtol=1e-10)


def test_forked_process_does_not_start_xla():
    result = run_text(
        """
        import multiprocessing
        import pymc3_tf, tensorflow as tf
        from pymc3_tf.capture.capture import capture
        from pymc3_tf.capture.keys import Input

        def declare(index):
            program = capture(tf.sin, [Input("x", "float64", ())], jit_compile=True)
            return program.jit_compile

        tf.sin(tf.constant(1.0)).numpy()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.map_async(declare, [0]).get(timeout=120))
        """
    )
    assert result.stdout.split() == ["[True]"], result.stderr


def unbounded(y, a):
    """A loop without a bound, whose gradient XLA cannot compile, and with it the whole graph."""
    _, total = tf.while_loop(lambda i, z: z < 10.0, lambda i, z: (i + 1, z * (1 + a)), (0, a))
    return -0.5 * tf.square(y - total)


@pytest.mark.parametrize("check_gradient", [True, False])
def test_what_xla_cannot_compile_is_an_error_at_declaration(check_gradient):
    with pm.Model():
        a = pm.Gamma("a", 4.0, 5.0)
        with pytest.raises(
            CompilationError, match=r"XLA cannot compile .*logp at .*a = 0\.8.*Leave jit_compile"
        ):
            pm.TFDensity(
                "y",
                unbounded,
                {"a": a},
                observed=np.ones(3),
                jit_compile=True,
                check_gradient=check_gradient,
            )
        op = TensorFlowOp(
            lambda a: unbounded(1.0, a),
            [tf.TensorSpec([], tf.float64)],
            jit_compile=True,
            check_gradient=check_gradient,
        )
        with pytest.raises(CompilationError, match="XLA cannot compile outputs"):
            op(a)


def shortened(y, a):
    """XLA wants the variables of a loop to keep their shape, as they do for three."""
    start = tf.ensure_shape(tf.identity(y), [None])
    _, z = tf.while_loop(
        lambda i, z: i < 2,
        lambda i, z: (i + 1, z[:3]),
        (0, start),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
        maximum_iterations=2,
    )
    return -0.5 * tf.reduce_sum(tf.square(a * tf.stop_gradient(z)))


def test_what_xla_cannot_compile_later_is_an_error_and_no_divergence():
    with pm.Model() as model:
        a = pm.Gamma("a", 4.0, 5.0)
        data = pm.Data("data", np.ones(3))
        pm.TFDensity("y", shortened, {"a": a}, feed_dict={"y": data}, jit_compile=True)
    function = logp_dlogp_function(model)
    assert np.isfinite(function()[0])
    with model:
        pm.set_data({"data": np.ones(4)})
    with pytest.raises(CompilationError, match=r"XLA cannot compile .*\[1., 1., 1., 1.\].*Leave"):
        function()


def test_shapes_that_do_not_fit_are_no_fault_of_xla():
    with pm.Model() as model:
        a = pm.Gamma("a", 4.0, 5.0)
        data = pm.Data("data", np.ones(3))
        pm.TFDensity(
            "y",
            lambda y, a: -0.5 * tf.reduce_sum(tf.square(y - a * np.ones(3))),
            {"a": a},
            feed_dict={"y": data},
            jit_compile=True,
        )
    function = logp_dlogp_function(model)
    with model:
        pm.set_data({"data": np.ones(4)})
    with pytest.raises(EvaluationError, match="TensorFlow failed at .*shape"):
        function()
