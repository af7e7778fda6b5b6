"""Three densities, written in every way in which people write TensorFlow.

Each row declares them from another kind of source. Value, gradient and Hessian-vector product have
to be those that TensorFlow computes eagerly, and a pickled model has to give them too.
"""

import functools
import pickle
from typing import Any, Callable, NamedTuple

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt

import pymc3_tf

v1 = tf.compat.v1

# -- the densities ------------------------------------------------------------------------------

POINTS = np.linspace(-1.0, 1.0, 6)
COVARIANCE = np.array([[1.0, 0.3, 0.1], [0.3, 2.0, 0.4], [0.1, 0.4, 1.5]])


def normal_log_density(residual, scale):
    return tf.reduce_sum(
        -0.5 * tf.square(residual / scale) - tf.math.log(scale) - 0.5 * np.log(2 * np.pi)
    )


def mv_normal_log_density(residual, covariance):
    factor = tf.linalg.cholesky(covariance)
    white = tf.linalg.triangular_solve(factor, residual[:, None])
    log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
    constant = 0.5 * np.log(2 * np.pi) * tf.cast(tf.size(residual), residual.dtype)
    return -0.5 * tf.reduce_sum(tf.square(white)) - log_determinant - constant


def line(y, p, q):
    """Offset p and scale q."""
    return normal_log_density(y - 0.7 * POINTS - p, q)


def mv_normal(y, p, q):
    """Mean p and a scale q of the covariance."""
    return mv_normal_log_density(y - p, q * COVARIANCE)


def gaussian_process(y, p, q):
    """Amplitude p and length scale q."""
    distance = tf.constant(POINTS[:, None] - POINTS[None, :])
    kernel = tf.square(p) * tf.exp(-0.5 * tf.square(distance / q))
    return mv_normal_log_density(y, kernel + 0.1 * tf.eye(len(POINTS), dtype=y.dtype))


class Density(NamedTuple):
    function: Callable[..., Any]
    y: np.ndarray
    p: np.ndarray
    q: np.ndarray

    @property
    def specs(self):
        return [tf.TensorSpec(x.shape, tf.float64, name=n) for n, x in zip("ypq", self[1:])]


DENSITIES = [
    Density(line, np.sin(np.arange(6.0)), np.array(0.4), np.array(0.8)),
    Density(mv_normal, np.array([0.3, -1.0, 0.5]), np.array([0.1, -0.4, 0.9]), np.array(1.3)),
    Density(gaussian_process, np.cos(np.arange(6.0)), np.array(0.9), np.array(0.6)),
]
DIRECTION = np.array([0.3, -0.7, 1.1, 0.5])


def expected(density):
    """Value, gradient and Hessian-vector product by TensorFlow's own tapes."""
    p, q, y = (tf.constant(x) for x in (density.p, density.q, density.y))
    with tf.GradientTape() as outer:
        outer.watch([p, q])
        with tf.GradientTape() as inner:
            inner.watch([p, q])
            value = density.function(y, p, q)
        gradient = tf.concat([tf.reshape(g, [-1]) for g in inner.gradient(value, [p, q])], 0)
        directional = tf.reduce_sum(gradient * DIRECTION[: gradient.shape[0]])
    product = tf.concat([tf.reshape(g, [-1]) for g in outer.gradient(directional, [p, q])], 0)
    return value.numpy(), gradient.numpy(), product.numpy()


def results(model, second=True):
    """Value, gradient and Hessian-vector product of a model of p and q."""
    variables = [model["p"], model["q"]]
    size = sum(v.tag.test_value.size for v in variables)

    def flat_gradient(of):
        return tt.concatenate([g.flatten() for g in theano.grad(of, variables)])

    with theano.config.change_flags(compute_test_value="off"):
        wanted = [model.logpt, flat_gradient(model.logpt)]
        if second:
            directional = (wanted[1] * DIRECTION[:size]).sum()
            wanted.append(flat_gradient(directional))
        return model.fastfn(wanted)(model.test_point)


# -- the rows: each declares the density d, given PyMC3's p and q ------------------------------

ROWS = {}


def row(declare):
    ROWS[declare.__name__] = declare
    return declare


def placeholders(d):
    return [v1.placeholder(tf.float64, x.shape, name=name) for name, x in zip("ypq", d[1:])]


def named(graph, *names):
    return [graph.get_tensor_by_name(f"{name}:0") for name in names]


@row
def graph_of_placeholders(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t, p_t, q_t = placeholders(d)
        logp = d.function(y_t, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, feed_dict={y_t: d.y})


@row
def placeholders_with_defaults(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t = v1.placeholder_with_default(d.y, d.y.shape)
        p_t, q_t = (v1.placeholder_with_default(np.ones(x.shape), x.shape) for x in (d.p, d.q))
        logp = d.function(y_t, p_t, q_t)  # y keeps its default
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


def _variables(d, p, q, use_resource):
    with tf.Graph().as_default() as graph:
        y_t = v1.get_variable("y", initializer=d.y, use_resource=use_resource)
        p_t, q_t = (
            v1.get_variable(name, initializer=np.ones(x.shape), use_resource=use_resource)
            for name, x in (("p", d.p), ("q", d.q))
        )
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            # y is frozen at its value; p and q are parameters.
            pm.TFDensity("y", d.function(y_t, p_t, q_t), {p_t: p, q_t: q}, session=session)


@row
def reference_variables(d, p, q, tmp_path):
    _variables(d, p, q, use_resource=False)


@row
def resource_variables(d, p, q, tmp_path):
    _variables(d, p, q, use_resource=True)


@row
def intermediate_tensors(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t, start_p, start_q = placeholders(d)
        p_t, q_t, value = 2.0 * start_p, tf.exp(start_q), y_t + 1.0
        logp = d.function(value, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, value=value, observed=d.y)


@row
def default_session(d, p, q, tmp_path):
    with tf.Graph().as_default(), v1.Session().as_default() as session:
        offset = v1.get_variable("offset", initializer=d.y)
        session.run(v1.global_variables_initializer())
        y_t, p_t, q_t = placeholders(d)
        logp = d.function(y_t + offset, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, feed_dict={y_t: np.zeros(d.y.shape)})


@row
def interactive_session(d, p, q, tmp_path):
    with tf.Graph().as_default():
        session = v1.InteractiveSession()
        try:
            y_t = v1.get_variable("y", initializer=d.y)
            session.run(v1.global_variables_initializer())
            _, p_t, q_t = placeholders(d)
            pm.TFDensity("y", d.function(y_t, p_t, q_t), {p_t: p, q_t: q})
        finally:
            session.close()


def _graph_with_a_variable(d):
    """A graph of placeholders p and q with the data in a variable; its session."""
    with tf.Graph().as_default() as graph:
        y_t = v1.get_variable("data", initializer=d.y)
        _, p_t, q_t = placeholders(d)
        tf.identity(d.function(y_t, p_t, q_t), name="logp")
        session = v1.Session(graph=graph)
        session.run(v1.global_variables_initializer())
    return graph, session


@row
def meta_graph_restored_by_a_saver(d, p, q, tmp_path):
    graph, session = _graph_with_a_variable(d)
    with graph.as_default(), session:
        v1.train.Saver().save(session, str(tmp_path / "model"))
    with tf.Graph().as_default() as restored, v1.Session() as session:
        v1.train.import_meta_graph(str(tmp_path / "model.meta")).restore(
            session, str(tmp_path / "model")
        )
        logp, p_t, q_t = named(restored, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def parameters_of_a_meta_graph(d, p, q, tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        p_t, q_t = (v1.get_variable(n, initializer=x) for n, x in (("p", d.p), ("q", d.q)))
        tf.identity(d.function(tf.constant(d.y), p_t, q_t), name="logp")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"))
    with tf.Graph().as_default() as restored:
        v1.train.import_meta_graph(str(tmp_path / "model.meta"))
        p_t, q_t = v1.global_variables()
        (logp,) = named(restored, "logp")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def frozen_graph_of_a_file(d, p, q, tmp_path):
    graph, session = _graph_with_a_variable(d)
    with session:
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logp"]
        )
    tf.io.write_graph(frozen, str(tmp_path), "frozen.pb", as_text=False)
    with tf.Graph().as_default() as graph:
        graph_def = v1.GraphDef.FromString((tmp_path / "frozen.pb").read_bytes())
        tf.import_graph_def(graph_def, name="")
        logp, p_t, q_t = named(graph, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def saved_model_in_a_session(d, p, q, tmp_path):
    graph, session = _graph_with_a_variable(d)
    logp, p_t, q_t = named(graph, "logp", "p", "q")
    with graph.as_default(), session:
        v1.saved_model.simple_save(
            session, str(tmp_path / "model"), {"p": p_t, "q": q_t}, {"logp": logp}
        )
    with tf.Graph().as_default() as graph, v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        logp, p_t, q_t = named(graph, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


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
    graph, session = _graph_with_a_variable(d)
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


def _saved(d, tmp_path):
    module = tf.Module()
    module.data = tf.Variable(d.y)
    module.log_density = tf.function(d.function, input_signature=d.specs)
    module.of_data = tf.function(
        lambda p, q: d.function(module.data, p, q), input_signature=d.specs[1:]
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.log_density)
    return str(tmp_path)


@row
def signature_of_a_saved_model(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(_saved(d, tmp_path)), **given(d, p, q), value="y")


@row
def function_of_a_saved_model(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(_saved(d, tmp_path), "log_density"), **given(d, p, q))


@row
def function_of_a_saved_model_with_variables(d, p, q, tmp_path):
    pm.TFDensity("y", pymc3_tf.load(_saved(d, tmp_path), "of_data"), {"p": p, "q": q})


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


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: d.function.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_source(name, density, request):
    of_row = request.getfixturevalue("op" if name == "custom_op" else "tmp_path")
    value, gradient, product = expected(density)
    with pm.Model() as model:
        # Flat, so that the model has the density and nothing else.
        p = pm.Flat("p", shape=density.p.shape, testval=density.p)
        q = pm.Flat("q", testval=density.q)
        ROWS[name](density, p, q, of_row)
    second = name != "custom_gradient"
    if not second:
        with pytest.raises(NotImplementedError, match="no second derivatives through"):
            results(model)
    for each in (model, pickle.loads(pickle.dumps(model))):
        found = results(each, second)
        np.testing.assert_allclose(found[0], value, rtol=1e-10)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-9)
        if second:
            np.testing.assert_allclose(found[2], product, rtol=1e-8)


# -- what else belongs to sources --------------------------------------------------------------


def test_priors_of_keras_weights_reach_predictive_draws():
    layer = tf.keras.layers.Dense(1, use_bias=False, dtype="float64")
    layer.build([None, 1])
    x = np.array([[1.0], [-2.0], [3.0]])

    def mean(x):
        return layer(x)[:, 0]

    with pm.Model() as model:
        w = pm.Normal("w", 5.0, 2.0, shape=(1, 1))
        pm.TFDensity(
            "y",
            lambda y, x: -0.5 * tf.square(y - mean(x)),
            [(layer.kernel, w)],
            feed_dict={"x": x, "y": np.zeros(3)},
            random=lambda x, size, seed: (
                mean(x) + 0.01 * tf.random.stateless_normal(size, seed, dtype=tf.float64)
            ),
        )
        draws = pm.sample_prior_predictive(200, random_seed=1)
    np.testing.assert_allclose(draws["y"], draws["w"][:, 0] * x[:, 0], atol=0.06)
    assert model["y"].distribution.program.frozen == ()


def test_op_returns_its_variables_as_the_source_nests_its_tensors():
    with tf.Graph().as_default():
        x_t = v1.placeholder(tf.float64, [None])
        i_t = v1.placeholder(tf.int32, [None])
        b_t = v1.placeholder(tf.bool, [])
        outputs = {
            "picked": tf.gather(x_t, i_t),
            "both": (tf.where(b_t, x_t, -x_t), [tf.size(x_t)]),
        }
        op = pymc3_tf.TensorFlowOp(outputs, [x_t, i_t, b_t])
    x, i, b = tt.dvector(), tt.ivector(), tt.bscalar()
    with theano.config.change_flags(compute_test_value="off"):
        found = op(x, i, tt.neq(b, 0))
        signed, (size,) = found["both"]
        # The gradient comes through two of the outputs; the third is an integer.
        total = (found["picked"] * np.array([10.0, 100.0])).sum() + signed.sum()
        gradient = theano.grad(total, x)
        function = theano.function([x, i, b], [found["picked"], signed, size, gradient])
    picked, signed, size, gradient = function([1.0, 2.0, 3.0], [2, 2], 0)
    np.testing.assert_array_equal(picked, [3.0, 3.0])
    np.testing.assert_array_equal(signed, [-1.0, -2.0, -3.0])
    assert size == 3
    np.testing.assert_array_equal(gradient, [-1.0, -1.0, 109.0])
    assert set(found) == {"picked", "both"}


def test_gradient_through_some_of_the_outputs():
    op = pymc3_tf.TensorFlowOp(
        lambda x: {"used": tf.sin(x), "unused": tf.exp(x)}, [tf.TensorSpec([2], tf.float64)]
    )
    x = tt.dvector()
    with theano.config.change_flags(compute_test_value="off"):
        gradient = theano.function([x], theano.grad(op(x)["used"].sum(), x))
    np.testing.assert_allclose(gradient([0.3, 0.5]), np.cos([0.3, 0.5]), rtol=1e-12)


def test_op_takes_variables_of_the_function_as_inputs():
    weight = tf.Variable([1.0, 1.0], dtype=tf.float64, name="weight")
    op = pymc3_tf.TensorFlowOp(
        lambda x: [x * weight, weight], [tf.TensorSpec([2], tf.float64), weight]
    )
    x, w = tt.dvectors("x", "w")
    with theano.config.change_flags(compute_test_value="off"):
        product, same = op(x, w)
        function = theano.function([x, w], [product, same, theano.grad(product.sum(), w)])
    for found, wanted in zip(function([1.0, 2.0], [3.0, 4.0]), ([3.0, 8.0], [3.0, 4.0], [1, 2])):
        np.testing.assert_array_equal(found, wanted)


def test_op_takes_data_by_tensor_reference_and_variable():
    with tf.Graph().as_default():
        x_t, t_t = (tf.compat.v1.placeholder(tf.float64, [2]) for _ in range(2))
        by_tensor = pymc3_tf.TensorFlowOp(x_t * t_t, [x_t], {t_t.ref(): [3.0, 5.0]})
    weight = tf.Variable([1.0, 1.0], dtype=tf.float64)
    by_variable = pymc3_tf.TensorFlowOp(
        lambda x: x * weight, [tf.TensorSpec([2], tf.float64)], [(weight, [3.0, 5.0])]
    )
    for op in (by_tensor, by_variable):
        np.testing.assert_array_equal(op(np.array([1.0, 2.0])).eval(), [3.0, 10.0])


def test_summary_lists_what_was_captured():
    offset = tf.Variable(np.ones((2, 3), np.float32), name="offset")
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        x = pm.Data("x", np.zeros(5))
        density = pm.TFDensity(
            "y",
            lambda y, mu, x: -tf.square(y - mu - x) - tf.cast(offset[0, 0], tf.float64),
            {"mu": mu},
            feed_dict={"x": x, "y": np.arange(5.0)},
        ).distribution
    op = pymc3_tf.TensorFlowOp(
        lambda a, t: a * t, [tf.TensorSpec([], tf.float64)], {"t": np.ones(7)}
    )
    lines = [line.split() for line in density.program.summary().splitlines()]
    assert ["inputs", "y:", "float64", "(5,)"] in lines
    assert ["mu:", "float64", "()"] in lines
    assert ["x:", "float64", "(?,)"] in lines
    assert ["outputs", "logp:", "float64", "(?,)"] in lines or [
        "outputs", "logp:", "float64", "(5,)",
    ] in lines  # fmt: skip
    assert ["frozen", "offset:", "float32", "(2,", "3),", "24", "bytes"] in lines
    assert ["feeds", "t:", "float64", "(7,),", "56", "bytes"] in [
        line.split() for line in op.program.summary().splitlines()
    ]
    for text in ("mu: float64 ()", "offset: float32 (2, 3), 24 bytes", "with the gradient"):
        assert text in repr(density.program)


def test_saved_function_shows_its_arguments(tmp_path):
    path = _saved(DENSITIES[0], tmp_path)
    assert repr(pymc3_tf.load(path, "log_density")) == "SavedFunction(log_density(y, p, q))"


# -- errors -------------------------------------------------------------------------------------


def declare(*args, **kwargs):
    with pm.Model():
        return pm.TFDensity("y", *args, **kwargs)


def test_saved_model_that_is_not_there(tmp_path):
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="has no SavedModel.*directory"):
        pymc3_tf.load(tmp_path)


def test_signature_that_the_saved_model_has_not(tmp_path):
    path = _saved(DENSITIES[0], tmp_path)
    with pytest.raises(
        pymc3_tf.exceptions.DeclarationError,
        match="signature is 'logp'.*'serving_default', 'log_density', 'of_data'",
    ):
        pymc3_tf.load(path, "logp")


def test_saved_model_in_graph_mode(tmp_path):
    path = _saved(DENSITIES[0], tmp_path)
    with tf.Graph().as_default():
        with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="needs eager execution"):
            pymc3_tf.load(path)


def test_function_whose_variables_are_gone(tmp_path):
    path = _saved(DENSITIES[0], tmp_path)
    function = tf.saved_model.load(path).of_data
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="variables which have been del"):
        declare(function, {"p": 0.1, "q": 1.0})


def test_arguments_without_an_order_that_leave_the_value_open(tmp_path):
    path = _saved(DENSITIES[0], tmp_path)
    with pytest.raises(pymc3_tf.exceptions.UnfedPlaceholderError, match="'y'.*'p'|'p'.*'y'"):
        declare(pymc3_tf.load(path), {"q": 1.0})
    # One that is left open is the value.
    variable = declare(pymc3_tf.load(path), {"p": 0.4, "q": 0.8}, shape=6)
    point = {"y": DENSITIES[0].y}
    np.testing.assert_allclose(variable.logp(point), expected(DENSITIES[0])[0], rtol=1e-12)


def test_several_outputs_are_no_log_density():
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match=r"logp\['a'\], logp\['b'\]"):
        declare(lambda y: {"b": -y, "a": y}, observed=[1.0])


def test_dictionary_of_one_output_is_a_log_density():
    with pm.Model():
        variable = pm.TFDensity("y", lambda y: {"log_density": -2.0 * y}, observed=[1.0])
    assert variable.logp({}) == -2.0


@pytest.mark.parametrize("params", [5, "ab", [1, 2], np.zeros((2, 2))])
def test_params_that_are_no_dict(params):
    with pytest.raises(pymc3_tf.exceptions.DeclarationTypeError, match="params is a .* list of pa"):
        declare(lambda y, m: -y, params)


def test_variable_that_the_function_does_not_use():
    unused = tf.Variable(1.0, name="unused")
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="does not depend on 'unused'"):
        declare(lambda y: -y, [(unused, 1.0)], observed=[1.0])


def test_prior_that_does_not_fit_the_weights():
    layer = tf.keras.layers.Dense(2, dtype="float64")
    layer.build([None, 3])
    one = tf.ones([1, 3], tf.float64)
    with pm.Model():
        w = pm.Normal("w", 0.0, 1.0, shape=(2, 3))
        with pytest.raises(
            pymc3_tf.exceptions.DeclarationError, match=r"kernel' has shape \(3, 2\)"
        ):
            pm.TFDensity("y", lambda y: y - layer(one), [(layer.kernel, w)], observed=[1.0])


def test_feed_of_a_function_has_its_arguments():
    weight = tf.Variable(1.0, dtype=tf.float64, name="weight")
    with pm.Model():
        m = pm.Normal("m", 0.0, 1.0)
        plain = pm.TFDensity("y", lambda y, m: -y * m, {"m": m}, feed_dict={"y": [1.0]})
        bound = pm.TFDensity("z", lambda z: -z * weight, [(weight, m)], observed=[1.0])
    assert plain.distribution.feed_dict({"m": 3.0}) == {"m": 3.0, "y": [1.0]}
    with pytest.raises(ValueError, match="'weight' belongs to no graph.*variable.assign"):
        bound.distribution.feed_dict({"m": 3.0})
