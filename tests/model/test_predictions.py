"""Predictions from the user's own graph: what a draw feeds, and evaluate for all of them."""

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from support import load_example

import pymc3_tf

line_2018 = load_example("line_2018")


def predicting(kind):
    """A line with its data in placeholders, and its parameters in what ``kind`` says."""
    with tf.Graph().as_default() as graph:

        def parameter(name):
            if kind == "placeholder":
                return tf.compat.v1.placeholder(tf.float64, [], name)
            resource = kind == "resource variable"
            return tf.compat.v1.Variable(0.1, dtype=tf.float64, name=name, use_resource=resource)

        m, b, logs = map(parameter, line_2018.NAMES)
        x, y, t = (tf.compat.v1.placeholder(tf.float64, [None], name) for name in "xyt")
        residual = (y - m * x - b) * tf.exp(-logs)
        logp = -0.5 * tf.square(residual) - logs - 0.5 * np.log(2 * np.pi)
        pred = m * t + b
        session = tf.compat.v1.Session(graph=graph)
        session.run(tf.compat.v1.global_variables_initializer())
    data = dict(zip("xy", line_2018.load()))
    with pm.Model() as model:
        variables = [pm.Uniform(name, -5, 5) for name in line_2018.NAMES]
        pm.TFDensity(
            "y",
            logp,
            value=y,
            params={key.ref(): variable for key, variable in zip([m, b, logs], variables)},
            feed_dict={x: data["x"], y: data["y"]},
            session=session,
        )
        trace = pm.sample(
            10,
            tune=10,
            chains=3,
            cores=1,
            step=pm.Metropolis(),
            random_seed=1,
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
        )
    posterior = az.from_pymc3(trace, model=model, log_likelihood=False)
    draws = {name: posterior.posterior[name].values for name in line_2018.NAMES}
    assert len(np.unique(draws["m"][:, -1])) == 3, "the chains have to differ for these tests"
    return dict(locals(), density=model["y"].distribution)


KINDS = ["placeholder", "ref variable", "resource variable"]
POINTS = np.array([-1.0, 0.0, 2.5, 10.0])


@pytest.fixture(scope="module", params=KINDS)
def prediction(request):
    return predicting(request.param)


def test_feed_of_a_draw_gives_its_prediction(prediction):
    p = prediction
    expected = p["draws"]["m"][..., None] * POINTS + p["draws"]["b"][..., None]
    for draw in [0, 4, 9]:
        # trace[i] is a draw of the last chain.
        feed = {**p["density"].feed_dict(p["trace"][draw]), p["t"]: POINTS}
        found = p["session"].run(p["pred"], feed_dict=feed)
        assert_allclose(found, expected[-1, draw], rtol=1e-14)
        assert_array_equal(p["pred"].eval(feed_dict=feed, session=p["session"]), found)
        for chain in range(3):
            sample = {name: values[chain, draw] for name, values in p["draws"].items()}
            feed = {**p["density"].feed_dict(sample), p["t"]: POINTS}
            found = p["session"].run(p["pred"], feed_dict=feed)
            assert_allclose(found, expected[chain, draw], rtol=1e-14)
    if p["kind"] != "placeholder":
        # A feed replaces the values of variables for one run, and does not assign them.
        assert_array_equal(p["session"].run([p["m"], p["b"]]), [0.1, 0.1])


def test_feed_of_a_draw_has_the_data(prediction):
    p = prediction
    sample = p["trace"][3]
    logp = p["session"].run(p["logp"], feed_dict=p["density"].feed_dict(sample))
    mean = sample["m"] * p["data"]["x"] + sample["b"]
    assert_allclose(logp, stats.norm.logpdf(p["data"]["y"], mean, np.exp(sample["logs"])))


def test_evaluate_equals_a_run_for_each_draw(prediction):
    p = prediction
    found = pymc3_tf.evaluate(
        p["pred"], p["trace"], feed_dict={p["t"]: POINTS}, session=p["session"]
    )
    assert found.shape == (3, 10, len(POINTS))
    expected = p["draws"]["m"][..., None] * POINTS + p["draws"]["b"][..., None]
    assert_allclose(found, expected, rtol=1e-14)
    feed = {**p["density"].feed_dict(p["trace"][7]), p["t"]: POINTS}
    assert_allclose(found[-1, 7], p["session"].run(p["pred"], feed_dict=feed), rtol=1e-14)


def test_evaluate_takes_inference_data(prediction):
    p = prediction
    arguments = dict(feed_dict={p["t"]: POINTS}, session=p["session"])
    from_trace = pymc3_tf.evaluate(p["pred"], p["trace"], **arguments)
    with p["model"]:
        in_context = pymc3_tf.evaluate(p["pred"], p["posterior"], **arguments)
    of_model = pymc3_tf.evaluate(p["pred"], p["posterior"], model=p["model"], **arguments)
    params = {p["m"].ref(): "m", p["b"].ref(): "b"}
    by_name = pymc3_tf.evaluate(p["pred"], p["posterior"], params, **arguments)
    for found in [in_context, of_model, by_name]:
        assert_array_equal(found, from_trace)


def test_evaluate_has_the_data(prediction):
    p = prediction
    pred, logp = pymc3_tf.evaluate(
        [p["pred"], p["logp"]], p["trace"], feed_dict={p["t"]: POINTS}, session=p["session"]
    )
    assert pred.shape == (3, 10, len(POINTS))
    m, b, logs = (p["draws"][name][..., None] for name in line_2018.NAMES)
    expected = stats.norm.logpdf(p["data"]["y"], m * p["data"]["x"] + b, np.exp(logs))
    assert_allclose(logp, expected, rtol=1e-12)
