"""Tensors of the user's graph over draws: feed_dict for one draw, evaluate for all."""

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt

import pymc3_tf

v1 = tf.compat.v1
Y = np.array([0.3, -1.2, 2.5])


@pytest.fixture(scope="module")
def line_model():
    """A free positive x, a mean that is an expression of the model's variables, observed y."""
    with tf.Graph().as_default() as graph:
        mu_t = v1.placeholder(tf.float64, [], name="mu")
        x_t = v1.placeholder(tf.float64, [2], name="x")
        y_t = v1.placeholder(tf.float64, [None], name="y")
        grid_t = v1.placeholder(tf.float64, [None], name="grid")
        prior = -x_t
        likelihood = -tf.square(y_t - mu_t) * tf.reduce_sum(x_t)
        tensors = {
            "prediction": mu_t * grid_t + x_t[0],
            "residual": y_t - mu_t,
            "sum": tf.reduce_sum(x_t),
            "integer": tf.cast(mu_t > 0.0, tf.int32),
        }
        with pm.Model() as model:
            log_mu = pm.Normal("log_mu", 0.0, 1.0)
            x = pm.TFDensity("x", prior, transform=pm.distributions.transforms.log)
            pm.TFDensity(
                "y", likelihood, {mu_t: tt.exp(log_mu), x_t: x}, value=y_t, feed_dict={y_t: Y}
            )
            trace = pm.sample(
                20, tune=20, chains=2, cores=1, progressbar=False, random_seed=1,
                return_inferencedata=False, compute_convergence_checks=False,
            )  # fmt: skip
        idata = az.from_pymc3(trace, model=model)
    return graph, model, {"MultiTrace": trace, "InferenceData": idata}, tensors, grid_t


@pytest.mark.parametrize("kind", ["MultiTrace", "InferenceData"])
def test_evaluate_uses_what_the_model_declared(line_model, kind):
    graph, model, traces, tensors, grid_t = line_model
    grid = np.array([0.0, 1.0, 2.0])
    chain = traces["InferenceData"].posterior
    mu, x = np.exp(chain["log_mu"].values), chain["x"].values
    with model:
        prediction, residual, total, integer = pymc3_tf.evaluate(
            list(tensors.values()), traces[kind], feed_dict={grid_t: grid}
        )
    np.testing.assert_allclose(prediction, mu[..., None] * grid + x[..., :1])
    np.testing.assert_allclose(residual, Y - mu[..., None])
    np.testing.assert_allclose(total, x.sum(axis=-1))
    np.testing.assert_array_equal(integer, np.ones((2, 20)))
    single = pymc3_tf.evaluate(tensors["sum"], traces[kind], model=model)
    np.testing.assert_array_equal(single, total)


@pytest.mark.parametrize("kind", ["MultiTrace", "InferenceData"])
def test_evaluate_calls_tensorflow_a_few_times_for_all_draws(line_model, kind, calls):
    _, model, traces, tensors, _ = line_model
    before = calls()
    names = ["residual", "sum", "integer"]
    pymc3_tf.evaluate([tensors[name] for name in names], traces[kind], model=model)
    assert 0 < before.number <= 2


def test_evaluate_graphs_that_are_hard_to_batch(calls):
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        scale = v1.get_variable("scale", [], tf.float64, initializer=tf.constant_initializer(3.0))
        session.run(v1.global_variables_initializer())
        x_t = v1.placeholder(tf.float64, [None])
        unknown = v1.placeholder(tf.float64, None)
        loop = tf.while_loop(
            lambda a: tf.reduce_sum(a) < 100.0, lambda a: [a * scale + 1.0], [tf.abs(x_t)]
        )
        v1.disable_control_flow_v2()
        old_loop = tf.while_loop(lambda a: a < 9.0, lambda a: [a * 2.0 + 1.0], [tf.abs(x_t[0])])
        v1.enable_control_flow_v2()
        loop, old_loop = tf.nest.flatten([loop, old_loop])
        tensors = [loop, tf.linalg.cholesky(tf.linalg.diag(tf.exp(x_t))), unknown * x_t[0]]
        draws = np.random.RandomState(0).standard_normal((2, 5, 3))
        idata = az.from_dict({"x": draws})
        extra = {"params": {x_t: "x"}, "session": session}
        feeds = {unknown: np.arange(4.0)}
        before = calls()
        results = pymc3_tf.evaluate(tensors, idata, feed_dict=feeds, **extra)
        assert before.number <= 3  # one to know a rank
        old_results = pymc3_tf.evaluate([*tensors, old_loop], idata, feed_dict=feeds, **extra)
        for k, tensor in enumerate([*tensors, old_loop]):
            expected = [[session.run(tensor, {x_t: x, **feeds}) for x in chain] for chain in draws]
            np.testing.assert_allclose(old_results[k], expected, rtol=1e-12)
            if k < len(results):
                np.testing.assert_allclose(results[k], expected, rtol=1e-12)


def test_evaluate_what_depends_on_no_draw(line_model):
    _, _, traces, _, grid_t = line_model
    with grid_t.graph.as_default():
        total = tf.reduce_sum(grid_t)
    got = pymc3_tf.evaluate(total, traces["MultiTrace"], feed_dict={grid_t: np.arange(4.0)})
    np.testing.assert_array_equal(got, np.full((2, 20), 6.0))


def test_feed_dict_of_one_draw_is_the_row_of_evaluate(line_model):
    graph, model, traces, tensors, _ = line_model
    trace = traces["MultiTrace"]
    residuals = pymc3_tf.evaluate(tensors["residual"], trace)
    with v1.Session(graph=graph) as session:
        for i in (0, 7, 19):
            # trace[i] is a draw of the last chain.
            feed = model.y.distribution.feed_dict(trace[i])
            result = session.run(tensors["residual"], feed_dict=feed)
            np.testing.assert_allclose(result, residuals[-1, i])
        feed = model.x.distribution.feed_dict({"x": np.array([1.0, 2.0])})
        assert session.run(tensors["sum"], feed_dict=feed) == 3.0


def test_names_can_be_given_instead(line_model):
    graph, _, traces, tensors, _ = line_model
    x_t = graph.get_tensor_by_name("x:0")
    expected = traces["InferenceData"].posterior["x"].values.sum(axis=-1)
    for params in ({x_t: "x"}, {x_t.ref(): "x"}, [(x_t, "x")]):
        got = pymc3_tf.evaluate(tensors["sum"], traces["InferenceData"], params=params)
        np.testing.assert_allclose(got, expected)


def test_graph_that_no_density_uses(line_model):
    _, model, traces, _, _ = line_model
    with tf.Graph().as_default():
        other = 2.0 * v1.placeholder(tf.float64, [])
    with pytest.raises(ValueError, match="no TFDensity of the model uses the graph.*params="):
        pymc3_tf.evaluate(other, traces["MultiTrace"])


def test_inference_data_without_a_model(line_model):
    _, _, traces, tensors, _ = line_model
    with pytest.raises(ValueError, match="does not know its model. Pass model="):
        pymc3_tf.evaluate(tensors["sum"], traces["InferenceData"])


def test_draw_without_a_variable(line_model):
    _, model, _, _, _ = line_model
    with pytest.raises(ValueError, match="the draws have no variable 'log_mu'"):
        model.y.distribution.feed_dict({"x": np.ones(2)})


def test_evaluate_what_depends_on_data_that_changed():
    with tf.Graph().as_default(), pm.Model() as model:
        x_t, d_t = (v1.placeholder(tf.float64, []) for _ in range(2))
        data = pm.Data("data", 2.0)
        # Without the draws of x_interval__ only the drawn value is left of x.
        x = pm.Uniform("x", 0.0, 10.0 * data)
        scaled = pm.Deterministic("scaled", x * data)
        pm.TFDensity("y", -tf.square(x_t + d_t), {x_t: x, d_t: scaled})
        pm.set_data({"data": 3.0})
        idata = az.from_dict({"x": np.array([[1.0, 2.0]]), "scaled": np.array([[2.0, 4.0]])})
        got = pymc3_tf.evaluate([1.0 * x_t, 1.0 * d_t], idata, model=model)
    np.testing.assert_array_equal(got, [[[1.0, 2.0]], [[3.0, 6.0]]])


def test_tensor_of_strings_cannot_be_evaluated():
    with tf.Graph().as_default():
        x_t = v1.placeholder(tf.float64, [])
        text = tf.strings.as_string(x_t, name="text")
        idata = az.from_dict({"x": np.zeros((1, 2))})
        with pytest.raises(TypeError, match="'text:0' is a tensor of dtype string.*in Python"):
            pymc3_tf.evaluate([x_t + 1.0, text], idata, params={x_t: "x"})


def test_unpickled_density_has_no_graph_to_feed(line_model):
    import pickle

    _, model, _, _, _ = line_model
    copy = pickle.loads(pickle.dumps(model.y.distribution))
    with pytest.raises(ValueError, match="unpickled density has no graph to feed"):
        copy.feed_dict({"log_mu": 0.0, "x": np.ones(2)})


def test_variable_that_no_feed_can_reach():
    with tf.Graph().as_default() as graph, v1.Session(graph=graph):
        table = v1.get_variable("table", [3], tf.float64, use_resource=True)
        logp = -tf.reduce_sum(tf.square(tf.gather(table, [0, 1, 1])))
        with pm.Model() as model:
            y = pm.TFDensity("y", logp, {table: pm.Normal("t", shape=3)})
            with pytest.raises(ValueError, match="'table:0' is used by ResourceGather.*evaluate"):
                y.distribution.feed_dict({"t": np.ones(3)})
            idata = az.from_dict({"t": np.arange(6.0).reshape(1, 2, 3)})
            got = pymc3_tf.evaluate(logp, idata, model=model)
    np.testing.assert_allclose(got, [[-2.0, -(9.0 + 16.0 + 16.0)]])
