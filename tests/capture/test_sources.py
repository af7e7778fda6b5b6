"""Three densities, written in every way in which people write functions of TensorFlow."""

import functools
import itertools

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from source_densities import (
    COVARIANCE,
    DENSITIES,
    POINTS,
    assert_same_numbers,
    gaussian_process,
    graph_with_a_variable,
    line,
    model_of,
    mv_normal,
    named,
    results,
    save_module,
)

import pymc3_tf

v1 = tf.compat.v1

# -- the rows: each declares the density d, given PyMC3's p and q ------------------------------

ROWS = {}


def row(declare):
    ROWS[declare.__name__] = declare
    return declare


def given(d, p, q):
    return dict(params={"p": p, "q": q}, feed_dict={"y": d.y})


@row
def plain_function(d, p, q, tmp_path):
    pm.TFDensity("y", d.function, **given(d, p, q))


@row
def function_in_graph_mode(d, p, q, tmp_path):
    with tf.Graph().as_default():
        assert not tf.executing_eagerly()
        pm.TFDensity("y", d.function, **given(d, p, q))


@row
def lambda_with_xla(d, p, q, tmp_path):
    pm.TFDensity("y", lambda y, p, q: d.function(y, p, q), **given(d, p, q), jit_compile=True)


@row
def method(d, p, q, tmp_path):
    class Physics:
        def log_density(self, y, p, q):
            return d.function(y, p, q)

    pm.TFDensity("y", Physics().log_density, **given(d, p, q))


@row
def callable_object(d, p, q, tmp_path):
    class Physics:
        def __call__(self, y, p, q):
            return d.function(y, p, q)

    pm.TFDensity("y", Physics(), **given(d, p, q))


@row
def partial_function(d, p, q, tmp_path):
    function = functools.partial(lambda y, power, p, q: power * d.function(y, p, q), power=1.0)
    pm.TFDensity("y", function, **given(d, p, q))


@row
def keyword_and_default_arguments(d, p, q, tmp_path):
    def log_density(y, power=1.0, *, p, q):
        return power * d.function(y, p, q)

    pm.TFDensity("y", log_density, **given(d, p, q))


@row
def positional_only_arguments(d, p, q, tmp_path):
    namespace = dict(d=d)
    exec("def log_density(y, p, /, q): return d.function(y, p, q)", namespace)  # not in Python 3.7
    pm.TFDensity("y", namespace["log_density"], **given(d, p, q))


@row
def any_keyword_arguments(d, p, q, tmp_path):
    pm.TFDensity("y", lambda y, **others: d.function(y, **others), **given(d, p, q))


@row
def any_positional_arguments(d, p, q, tmp_path):
    pm.TFDensity("y", lambda y, *others: d.function(y, *others), **given(d, p, q))


@row
def tf_function(d, p, q, tmp_path):
    pm.TFDensity("y", tf.function(d.function), **given(d, p, q))


@row
def method_that_is_a_tf_function(d, p, q, tmp_path):
    class Physics(tf.Module):
        @tf.function
        def log_density(self, y, p, q):
            return d.function(y, p, q)

    physics = Physics()
    pm.TFDensity("y", physics.log_density, **given(d, p, q))


@row
def concrete_function(d, p, q, tmp_path):
    concrete = tf.function(d.function).get_concrete_function(*d.specs)
    pm.TFDensity("y", concrete, **given(d, p, q))


@row
def imported_graph_as_a_function(d, p, q, tmp_path):
    graph, session = graph_with_a_variable(d)
    with session:
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logp"]
        )
    wrapped = v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), [])
    logp, p_t, q_t = named(wrapped.graph, "logp", "p", "q")
    pm.TFDensity("y", wrapped.prune([p_t, q_t], logp), {"p": p, "q": q}, value=None)


@row
def captured_variables_and_tensors(d, p, q, tmp_path):
    variable, constant = tf.Variable(d.y), tf.constant(1.0, tf.float64)
    pm.TFDensity("y", lambda p, q: constant * d.function(variable, p, q), {"p": p, "q": q})


@row
def variables_captured_by_a_tf_function(d, p, q, tmp_path):
    variable = tf.Variable(d.y)
    function = tf.function(lambda p, q: 1.0 * d.function(variable * 1.0, p, q))
    pm.TFDensity("y", function, {"p": p, "q": q})


@row
def variables_as_parameters(d, p, q, tmp_path):
    p_v, q_v = tf.Variable(np.ones(d.p.shape)), tf.Variable(1.0, dtype=tf.float64)
    log_density = tf.function(lambda y: d.function(y, p_v, q_v))
    pm.TFDensity("y", log_density, {p_v.ref(): p, q_v.ref(): q}, observed=d.y)


@row
def while_loop(d, p, q, tmp_path):
    def log_density(y, p, q):
        def body(i, total):
            return i + 1, total + 0.5 * d.function(y, p, q)

        zero = tf.zeros([], tf.float64)
        return tf.while_loop(lambda i, _: i < 2, body, (0, zero), maximum_iterations=2)[1]

    pm.TFDensity("y", log_density, **given(d, p, q))


@row
def scan(d, p, q, tmp_path):
    def log_density(y, p, q):
        def step(total, weight):
            return total + weight * d.function(y, p, q)

        weights = tf.constant([0.25, 0.75], tf.float64)
        return tf.scan(step, weights, initializer=tf.zeros([], tf.float64))[-1]

    pm.TFDensity("y", log_density, **given(d, p, q))


@row
def map_fn(d, p, q, tmp_path):
    weights = tf.constant([0.25, 0.75], tf.float64)
    pm.TFDensity(
        "y",
        lambda y, p, q: tf.reduce_sum(tf.map_fn(lambda w: w * d.function(y, p, q), weights)),
        **given(d, p, q),
    )


@row
def cond(d, p, q, tmp_path):
    pm.TFDensity(
        "y",
        lambda y, p, q: tf.cond(q > 0.0, lambda: d.function(y, p, q), lambda: -q),
        **given(d, p, q),
    )


@row
def autograph(d, p, q, tmp_path):
    @tf.function
    def log_density(y, p, q):
        total = tf.zeros([], tf.float64)
        for i in tf.range(3):
            if i > 0:
                total += 0.5 * d.function(y, p, q)
        return total

    pm.TFDensity("y", log_density, **given(d, p, q))


@row
def custom_gradient(d, p, q, tmp_path):
    @tf.custom_gradient
    def identity(x):
        return x, lambda upstream: upstream

    pm.TFDensity("y", lambda y, p, q: d.function(y, identity(p), q), **given(d, p, q))


@row
def keras_layer_that_is_frozen(d, p, q, tmp_path):
    layer = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="float64")
    layer.build([None, 1])
    one = tf.ones([1, 1], tf.float64)
    pm.TFDensity("y", lambda y, p, q: layer(one)[0, 0] * d.function(y, p, q), **given(d, p, q))


@row
def keras_weights_as_parameters(d, p, q, tmp_path):
    layer = tf.keras.layers.Dense(1, use_bias=False, dtype="float64")
    layer.build([None, 1])
    one = tf.ones([1, 1], tf.float64)
    pm.TFDensity(
        "y",
        lambda y, p: d.function(y, p, layer(one)[0, 0]),
        [("p", p), (layer.kernel, q.reshape((1, 1)))],
        feed_dict={"y": d.y},
    )


@row
def signature_of_a_saved_model(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(save_module(d, tmp_path)), **given(d, p, q), value="y")


@row
def function_of_a_saved_model(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(save_module(d, tmp_path), "log_density"), **given(d, p, q))


@row
def function_of_a_saved_model_with_variables(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(save_module(d, tmp_path), "of_data"), {"p": p, "q": q})


@row
def tensorflow_probability(d, p, q, tmp_path):
    import tensorflow_probability as tfp

    tfd, kernels = tfp.distributions, tfp.math.psd_kernels
    distributions = {
        line: lambda p, q: tfd.Independent(tfd.Normal(0.7 * POINTS + p, q), 1),
        mv_normal: lambda p, q: tfd.MultivariateNormalTriL(p, tf.linalg.cholesky(q * COVARIANCE)),
        gaussian_process: lambda p, q: tfd.GaussianProcess(
            kernels.ExponentiatedQuadratic(p, q),
            POINTS[:, None],
            observation_noise_variance=np.float64(0.1),
            jitter=np.float64(0.0),
        ),
    }
    pm.TFDensity(
        "y",
        distribution=distributions[d.function],
        params={"p": p, "q": q},
        feed_dict={"value": d.y},
    )


@row
def custom_op(d, p, q, eccentric_anomaly):
    def log_density(y, p, q):
        # On a circle the eccentric anomaly is the mean anomaly.
        same = eccentric_anomaly(tf.reshape(p, [-1]), tf.zeros([], p.dtype))
        return d.function(y, tf.reshape(same, p.shape), q)

    pm.TFDensity("y", log_density, **given(d, p, q))


@row
def op_of_a_potential(d, p, q, tmp_path):
    op = pymc3_tf.TensorFlowOp(
        lambda p, q, y: {"density": {"log": d.function(y, p, q)}, "parameters": [p, q]},
        d.specs[1:],
        feed_dict={"y": d.y},
    )
    pm.Potential("y", op(p, q)["density"]["log"])


def pairs_of_sources_and_densities():
    """Yield all pairs. In each quick one either the source or the density is the first."""
    for name, density in itertools.product(ROWS, DENSITIES):
        is_quick = density is DENSITIES[0] or name == next(iter(ROWS))
        marks = () if is_quick else pytest.mark.slow
        yield pytest.param(name, density, marks=marks, id=f"{name}-{density.function.__name__}")


@pytest.mark.parametrize(("name", "density"), pairs_of_sources_and_densities())
def test_density_by_a_function_has_the_numbers_of_eager_tensorflow(name, density, request):
    of_row = request.getfixturevalue("op" if name == "custom_op" else "tmp_path")
    model = model_of(density, ROWS[name], of_row)
    second = name != "custom_gradient"
    if not second:
        with pytest.raises(NotImplementedError, match="no second derivatives through"):
            results(model)
    assert_same_numbers(model, density, second)
