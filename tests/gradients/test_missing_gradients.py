"""A gradient that TensorFlow does not have is an error at declaration, never a silent zero."""

import gc
import warnings

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support import logp_dlogp_function

import pymc3_tf
from pymc3_tf.exceptions import (
    DeclarationError,
    GradientError,
    MissingGradientWarning,
    UnsupportedOpError,
)
from pymc3_tf.runtime import functions, sessions

f64 = tf.float64
X = np.linspace(0.1, 0.9, 5)
Y = np.exp(-0.4 * np.arange(1.0, 6.0))


def normal(y, mu):
    return -0.5 * tf.square((y - mu) / 0.1)


def declare(mean, observed=Y, **kwargs):
    """Declare a model whose parameter has a known prior; the mean is a function of it."""
    with pm.Model() as model:
        a = pm.Gamma("a", 4.0, 5.0)
        pm.TFDensity("y", lambda y, a: normal(y, mean(a)), {"a": a}, observed=observed, **kwargs)
    return model


def assert_gradient(model, rtol=1e-5, step=1e-5):
    """The gradient of a model is that of central differences."""
    function = logp_dlogp_function(model)
    _, gradient = function(offset=0.013)
    for found, unit in zip(gradient, np.eye(len(gradient))):
        ahead, behind = (function(offset=0.013 + d * unit)[0] for d in (step, -step))
        np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=rtol)


def captured(a, x=2.0):
    @tf.custom_gradient
    def scaled(x):
        return x * a, lambda upstream: upstream * a

    return scaled(tf.constant(x, f64))


def in_while(a):
    def step(i, z):
        return i + 1, z + captured(a)

    return tf.while_loop(lambda i, z: i < 3, step, (0, tf.constant(0.0, f64)))[1]


def in_custom_loop(a):
    @tf.custom_gradient
    def scaled(x):
        return tf.map_fn(lambda z: z * a, x), lambda upstream: upstream * a

    return scaled(tf.constant(X))


CAPTURED = {
    "in a function": captured,
    "in a tf.function": tf.function(captured, autograph=False),
    "computed from a parameter": lambda a: captured(tf.exp(a)),
    "in a while loop": in_while,
    "in map_fn": lambda a: tf.map_fn(lambda z: z + captured(a), tf.constant(X)),
    "in scan": lambda a: tf.scan(lambda s, z: 0.1 * s + z * captured(a), tf.constant(X)),
    "in a condition": lambda a: tf.cond(a > 0, lambda: captured(a), lambda: a),
    "in a loop under it": in_custom_loop,
    "beside a good way": lambda a: a + captured(a),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_tensor_that_a_custom_gradient_captures(name):
    with pytest.raises(
        UnsupportedOpError, match=r"logp depends on 'a'.*tf.custom_gradient.*as an argument"
    ):
        declare(CAPTURED[name])


def betainc(a, b=2.0, x=0.3):
    return tf.math.betainc(*(tf.convert_to_tensor(z, f64) for z in (a, b, x)))


LACKING = {
    "Betainc": betainc,
    "Zeta": lambda a: tf.math.zeta(a + 2, tf.constant(2.0, f64)),
    "Polygamma": lambda a: tf.math.polygamma(a, tf.constant(2.0, f64)),
    "Range": lambda a: tf.range(a, a + 4.6, 1.0),
    "OneHot": lambda a: tf.one_hot(2, 5, a, tf.constant(0.0, f64)),
}


@pytest.mark.parametrize("op", LACKING)
def test_op_without_a_gradient_by_one_of_its_inputs(op):
    with pytest.raises(
        UnsupportedOpError, match=f"logp depends on 'a' through {op} at the node .*another formula"
    ):
        declare(LACKING[op])


WAYS = {
    "beside a good way": lambda a: a + betainc(a),
    "by two inputs, one of them good": lambda a: betainc(2.0, 2.0, a / 3) + betainc(a),
    "in a condition": lambda a: tf.cond(a > 0, lambda: betainc(a), lambda: a),
    "in a loop": lambda a: tf.map_fn(lambda z: betainc(a, 2.0, z), tf.constant(X)),
    "after a rounding on another way": lambda a: tf.floor(a) + betainc(a),
}


@pytest.mark.parametrize("name", WAYS)
def test_one_way_without_a_gradient(name):
    with pytest.raises(UnsupportedOpError, match="'a' through Betainc.*tfp.math.betainc"):
        declare(WAYS[name])


def test_the_one_parameter_of_several_is_named():
    with pm.Model():
        a, b = pm.Gamma("a", 4.0, 5.0), pm.Gamma("b", 4.0, 5.0)
        with pytest.raises(UnsupportedOpError, match="'b' through Betainc"):
            pm.TFDensity(
                "y",
                lambda y, a, b: normal(y, a * betainc(b)),
                {"a": a, "b": b},
                observed=Y,
            )


def test_variable_as_the_parameter():
    variable = tf.Variable(0.7, dtype=f64)

    @tf.custom_gradient
    def scaled(x):
        def gradient(upstream, variables=None):
            return upstream * variable, [tf.reduce_sum(upstream * x)]

        return x * variable, gradient

    with pm.Model() as model:
        a = pm.Gamma("a", 4.0, 5.0)
        with pytest.raises(UnsupportedOpError, match="through Betainc"):
            pm.TFDensity("bad", lambda y: normal(y, betainc(variable)), [(variable, a)], observed=Y)
        good = tf.constant(2.0, f64)
        pm.TFDensity("y", lambda y: normal(y, scaled(good)), [(variable, a)], observed=Y)
    assert_gradient(model)


@pytest.mark.parametrize("loops", ["version 1", "version 2"])
def test_graphs_of_either_version(loops):
    v1 = tf.compat.v1
    try:
        with tf.Graph().as_default():
            if loops == "version 1":
                v1.disable_control_flow_v2()
            a = v1.placeholder(f64, [], name="a")
            lost = normal(tf.constant(Y), in_while(a))
            blind = tf.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z + betainc(a)), (0, a))
            blind = normal(tf.constant(Y), blind[1])
    finally:
        v1.enable_control_flow_v2()
    for logp, text in ((lost, "tf.custom_gradient"), (blind, "Betainc")):
        with pm.Model(), pytest.raises(UnsupportedOpError, match=f"'a' through .*{text}"):
            pm.TFDensity("y", logp, {a: pm.Gamma("a", 4.0, 5.0)})


def solve(a, **kwargs):
    def rate(t, z, **constants):
        return -constants.get("a", a) * z

    solver = tfp.math.ode.DormandPrince()
    return solver.solve(rate, 0.0, tf.ones(1, f64), tf.constant([1.0], f64), **kwargs).states[0, 0]


def test_ode_solver_of_tensorflow_probability():
    with pytest.raises(UnsupportedOpError, match=r"'a' .*tfp.math.ode, by constants=\{'a': "):
        declare(solve)
    declare(lambda a: solve(a, constants={"a": a}))


def custom(value, slope):
    @tf.custom_gradient
    def function(x):
        return value(x), lambda upstream: slope(upstream, x)

    return function


WRONG = {
    "none": custom(tf.square, lambda g, x: None),
    "zero": custom(tf.square, lambda g, x: tf.zeros_like(x)),
    "too steep": custom(tf.square, lambda g, x: 3 * g * x),
    "without what is computed beside it": lambda a: custom(
        lambda x: x * tf.exp(a), lambda g, x: g * tf.exp(a)
    )(a),
    "one way of two": lambda a: a + custom(tf.exp, lambda g, x: None)(a),
    "straight through": lambda a: tf.grad_pass_through(tf.floor)(10 * a),
}


@pytest.mark.parametrize("name", WRONG)
def test_gradient_that_is_not_that_of_the_value(name):
    with pytest.raises(
        GradientError,
        match=r"gradient of logp with respect to 'a' is wrong: near a = 0.8 it is "
        r".*central differences give .*say check_gradient=False",
    ):
        declare(WRONG[name])


def test_error_has_both_numbers_and_finds_the_one_input_of_many():
    bad = custom(tf.square, lambda g, x: 4 * g * x)
    with pm.Model():
        params = {f"a{i}": pm.Normal(f"a{i}", 0.0, 1.0) for i in range(12)}

        def logp(y, **a):
            return -0.5 * y**2 + 1e3 * a["a0"] + bad(a["a7"] - 1.0) + tf.add_n(list(a.values()))

        # Its slope near zero is 1 - 2, and its gradient 1 - 4.
        with pytest.raises(GradientError, match="to 'a7' is wrong.*it is -2.97.* give -0.98"):
            pm.TFDensity("y", logp, params, observed=np.ones(()))


STEPS = {
    "Floor": lambda a: tf.floor(10 * a),
    "Sign": tf.sign,
    "Greater": lambda a: tf.cast(a > 0.5, f64),
    "Cast": lambda a: tf.gather(tf.constant(X), tf.cast(3 * a, tf.int32)),
    "StopGradient": tf.stop_gradient,
}


@pytest.mark.parametrize("op", STEPS)
def test_what_has_no_gradient_by_its_nature_is_a_warning(op):
    with pytest.warns(MissingGradientWarning, match=f"logp depends on 'a' only .*{op}") as found:
        declare(STEPS[op])
    assert len(found) == 1
    assert found[0].filename == __file__


def test_stop_gradient_on_one_way_is_a_warning():
    with pytest.warns(MissingGradientWarning, match="to 'a' leaves out what tf.stop_gradient"):
        declare(lambda a: a * tf.stop_gradient(a))


FINE = {
    "an edge at the start": lambda a: tf.abs(a - 0.8),
    "a rounding beside": lambda a: a + tf.floor(10 * a),
    "a condition": lambda a: tf.where(a > 0.5, a, a * a),
    "clipping": lambda a: tf.clip_by_value(a, 0.1, 0.7),
    "a shape": lambda a: a + tf.zeros_like(a) + tf.cast(tf.size(a), f64),
    "sorting": lambda a: tf.sort(a * X) + tf.math.top_k(a * X, 5)[0],
    "float32": lambda a: tf.cast(tf.sin(tf.cast(a, tf.float32)), f64),
    "a table": lambda a: tfp.math.interp_regular_1d_grid(a * X, 0.0, 2.0, tf.constant(X)),
    "betainc of TensorFlow Probability": lambda a: tfp.math.betainc(a, a, tf.constant(0.3, f64)),
    "arguments of a custom gradient": lambda a: custom(tf.square, lambda g, x: 2 * g * x)(a),
    "a decomposition": lambda a: tf.linalg.cholesky(a * tf.eye(3, dtype=f64) + 0.1)[2, 0],
}


@pytest.mark.parametrize("name", FINE)
def test_no_false_alarm(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingGradientWarning)
        model = declare(FINE[name])
    if name == "float32":
        assert_gradient(model, rtol=1e-2, step=1e-3)
    else:
        assert_gradient(model, rtol=1e-4)


def test_matrix_of_which_a_decomposition_reads_one_half():
    with pm.Model():
        a = pm.Gamma("a", 4.0, 5.0)
        matrix = a * np.eye(3) + 0.1
        pm.TFDensity(
            "y",
            lambda y, m: -tf.linalg.logdet(m) - tf.reduce_sum(y * tf.linalg.cholesky(m)[1]),
            {"m": matrix},
            observed=Y[:3],
        )


def test_density_that_fails_at_the_start_is_not_tried():
    with pm.Model():
        a = pm.Normal("a", 0.0, 1.0)
        pm.TFDensity("y", lambda y, a: normal(y, tf.math.log(a - 5)), {"a": a}, observed=Y)
        pm.TFDensity(
            "z", lambda y, a: normal(y, tf.linalg.cholesky([[a - 5]])[0]), {"a": a}, observed=Y
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pm.TFDensity("w", lambda y, a: tf.math.log(a - 5) + 0.0 * y, {"a": a}, observed=Y)


def test_observed_value_needs_no_gradient_unless_some_of_it_is_missing():
    def logp(y, a):
        return normal(betainc(y), a)

    for observed in (Y, pm.Data):
        with pm.Model() as model:
            a = pm.Gamma("a", 4.0, 5.0)
            data = pm.Data("data", Y) if observed is pm.Data else Y
            pm.TFDensity("y", logp, {"a": a}, observed=data)
        assert_gradient(model)
    with pm.Model():
        a = pm.Gamma("a", 4.0, 5.0)
        with pytest.raises(UnsupportedOpError, match="depends on 'y' through Betainc"):
            pm.TFDensity("y", logp, {"a": a}, observed=np.ma.masked_less(Y, 0.2))


def test_free_value_and_distribution():
    with pm.Model():
        with pytest.raises(UnsupportedOpError, match="logp depends on 'y' through Betainc"):
            pm.TFDensity("y", lambda y: normal(betainc(y), 0.5), transform=pm.transforms.log)
        a = pm.Gamma("a", 4.0, 5.0)
        with pytest.raises(UnsupportedOpError, match="'a' through Betainc"):
            pm.TFDensity(
                "z", distribution=lambda a: tfp.distributions.Normal(betainc(a), a), params={"a": a}
            )


def test_ops_are_checked_where_they_are_applied():
    op = pymc3_tf.TensorFlowOp(
        lambda a: (tf.exp(a), betainc(a), tf.cast(a, tf.int32)), [tf.TensorSpec([], f64)]
    )
    op(pm.theanof.tt.constant(0.7))  # of a constant, nobody asks for a gradient
    with pm.Model() as model:
        a = pm.Gamma("a", 4.0, 5.0)
        with pytest.raises(UnsupportedOpError, match=r"outputs.* depends on 'a' through Betainc"):
            op(a)
        with pytest.raises(UnsupportedOpError, match="through Betainc"):
            op(a)  # a second time, as in a notebook
        wrong = pymc3_tf.TensorFlowOp(lambda a: WRONG["zero"](a), [tf.TensorSpec([], f64)])
        with pytest.raises(GradientError, match="gradient of outputs with respect to 'a' is wrong"):
            wrong(a)
        off = pymc3_tf.TensorFlowOp(betainc, [tf.TensorSpec([], f64)], check_gradient=False)
        pm.Deterministic("probability", off(a))
        vector = pymc3_tf.TensorFlowOp(lambda a: (a * X, tf.sin(a)), [tf.TensorSpec([], f64)])
        pm.Normal("y", vector(a)[0], 0.1, observed=Y)
    assert_gradient(model)


def test_each_input_of_an_op_is_checked_where_it_is_a_variable():
    op = pymc3_tf.TensorFlowOp(lambda a, b: a * betainc(b), [tf.TensorSpec([], f64)] * 2)
    with pm.Model():
        a = pm.Gamma("a", 4.0, 5.0)
        op(a, 0.5)
        with pytest.raises(UnsupportedOpError, match="'b' through Betainc"):
            op(0.5, a)


def test_check_can_be_turned_off():
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingGradientWarning)
        for mean in (betainc, captured, WRONG["zero"], tf.floor):
            declare(mean, check_gradient=False)


def test_it_costs_three_evaluations_and_no_session_of_its_own(calls):
    count = {}
    for check, mean in ((True, tf.sin), (False, tf.cos)):
        gc.collect()
        before, others = calls(), set(sessions._sessions)
        model = declare(mean, check_gradient=check)
        gc.collect()
        count[check] = before.number, len(set(sessions._sessions) - others)
        del model
    assert count[True][0] - count[False][0] == 3
    assert count[True][1] == count[False][1]


def test_samplers_use_what_the_check_built(calls):
    model = declare(tf.sin)
    built = set(functions.live_functions())
    function = logp_dlogp_function(model)
    before = calls()
    function(offset=0.1)
    assert before.number == 1
    assert set(before.functions) <= built


# -- gradients that TensorFlow cannot build -----------------------------------------------------


def branches_of_two_shapes(x):
    return tf.concat([x, tf.cond(tf.reduce_sum(x) > 0.0, lambda: x, lambda: x[0])], 0)


@tf.custom_gradient
def with_a_wrong_gradient(x):
    def gradient(upstream):
        return {}["no such key"]

    return -(x**2), gradient


@pytest.mark.parametrize(
    ("logp", "text"),
    [
        (branches_of_two_shapes, "tf.cond, give all of its branches the same shape"),
        (with_a_wrong_gradient, "no such key.*in a gradient of your own, mend that one"),
    ],
)
def test_a_gradient_that_tensorflow_cannot_build(logp, text):
    text = "(?s)TensorFlow fails where it builds the gradient of {}: .*" + text
    with pm.Model():
        with pytest.raises(DeclarationError, match=text.format("logp")) as caught:
            pm.TFDensity("x", logp, shape=3)
        assert caught.value.__cause__ is not None
    with pytest.raises(DeclarationError, match=text.format("outputs")):
        pymc3_tf.TensorFlowOp(logp, [tf.TensorSpec([3], f64)])


def test_a_gradient_in_a_graph_that_tensorflow_cannot_build():
    with pm.Model(), tf.Graph().as_default():
        x = tf.compat.v1.placeholder(f64, [3])
        with pytest.raises(DeclarationError, match="builds the gradient of logp: 'no such key'"):
            pm.TFDensity("x", with_a_wrong_gradient(x), shape=3)
