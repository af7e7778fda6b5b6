"""The log likelihood of InferenceData: equal to ArviZ's own, without a call for each draw."""

import pickle

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
import xarray as xr
from arviz.data import io_pymc3_3x
from support import QUIET, tf_normal
from theano.graph.basic import graph_inputs

import pymc3_tf.patches.arviz_converter
from pymc3_tf.bridge.stacks import evaluate_draws

v1 = tf.compat.v1
CHAINS, DRAWS = 2, 15
ARVIZ = io_pymc3_3x.PyMC3Converter.__bases__[0]
X = np.linspace(-1.0, 1.0, 6)
Y = np.array([0.3, -1.2, 2.5, 0.1, 0.0, -0.7])
MISSING = np.ma.masked_array(Y, [False, True, False, False, True, False])


def joint_normal(value, mu, sigma):
    return tf.reduce_sum(tf_normal(value, mu, sigma))


def trace_of(model, draws=DRAWS):
    """Random points near the test point: a trace without the time that sampling takes."""
    random = np.random.RandomState(1)
    straces = []
    with model:
        for chain in range(CHAINS):
            strace = pm.backends.NDArray(vars=model.unobserved_RVs)
            strace.setup(draws, chain)
            for _ in range(draws):
                point = {}
                for x in model.free_RVs:
                    shift = random.uniform(-1.0, 1.0, x.tag.test_value.shape)
                    if "int" in x.dtype:
                        shift = np.round(shift)
                    point[x.name] = np.asarray(model.test_point[x.name] + shift, x.dtype)
                strace.record(point)
            strace.close()
            straces.append(strace)
    return pm.backends.base.MultiTrace(straces)


def plain():
    pm.TFDensity(
        "y",
        tf_normal,
        {"mu": pm.Normal("mu"), "sigma": pm.HalfNormal("sigma")},
        feed_dict={"value": Y},
    )


def expression():
    mu = pm.Normal("m") * X + pm.Normal("b")
    params = {"mu": mu, "sigma": tt.exp(pm.Uniform("logs", -2, 2))}
    pm.TFDensity("y", tf_normal, params, feed_dict={"value": Y})


def effects_by_group():
    mu = pm.Normal("mu", shape=3)[np.array([0, 0, 1, 2, 2, 1])]
    pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, feed_dict={"value": Y})


def matrix_product():
    mu = tt.dot(np.stack([X, X**2], axis=1), pm.Normal("beta", shape=2))
    pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, feed_dict={"value": Y})


def expressions_without_a_stacked_form():
    mu = tt.cumsum(pm.Normal("mu", shape=6)) + tt.dot(X, pm.Normal("beta", shape=6))
    sigma = tt.exp(pm.Normal("logs", shape=(6, 1)).sum(axis=1))
    pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": sigma}, feed_dict={"value": Y})


def shapes_of_one():
    mu = pm.Normal("mu", shape=1)
    pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, feed_dict={"value": Y[:1]})


def discrete():
    mu = pm.Poisson("n", 3.0, testval=3)
    pm.TFDensity("y", tf_normal, {"mu": tt.cast(mu, "float64"), "sigma": 1.0}, observed=Y)


def simplex():
    weights = pm.Dirichlet("weights", np.ones(6))
    pm.TFDensity("y", tf_normal, {"mu": weights, "sigma": 1.0}, feed_dict={"value": Y})


def several():
    mu, sigma = pm.Normal("mu"), pm.HalfNormal("sigma")
    pm.TFDensity("a", tf_normal, {"mu": mu, "sigma": sigma}, feed_dict={"value": Y})
    pm.Normal("b", mu, sigma, observed=Y[:4])
    pm.TFDensity("c", tf_normal, {"mu": 2 * mu, "sigma": 1.0}, feed_dict={"value": Y[:3]})


def missing():
    params = {"mu": pm.Normal("mu"), "sigma": pm.HalfNormal("sigma")}
    pm.TFDensity("y", tf_normal, params, observed=MISSING)


def missing_in_rows():
    def logp(value, mu):
        return tf.reduce_sum(-tf.square(value - mu), axis=-1)

    pm.TFDensity("y", logp, {"mu": pm.Normal("mu")}, observed=MISSING.reshape(3, 2))


def joint():
    params = {"mu": pm.Normal("mu"), "sigma": pm.HalfNormal("sigma")}
    pm.TFDensity("y", joint_normal, params, feed_dict={"value": Y})


def without_value():
    def logp(mu, y):
        return -tf.square(y - mu)

    pm.TFDensity("y", logp, {"mu": pm.Normal("mu")}, feed_dict={"y": Y})


def total_size():
    params = {"mu": pm.Normal("mu"), "sigma": 1.0}
    pm.TFDensity("y", tf_normal, params, feed_dict={"value": Y}, total_size=600)


def float32():
    def logp(y, mu):
        return tf.cast(tf_normal(tf.cast(y, tf.float32), tf.cast(mu, tf.float32), 1.0), tf.float32)

    pm.TFDensity("y", logp, {"mu": pm.Normal("mu")}, feed_dict={"y": Y})


def no_free_parameter():
    pm.Normal("mu")
    pm.TFDensity("y", tf_normal, {"mu": 1.0, "sigma": 2.0}, feed_dict={"value": Y})


def matrix_cholesky():
    def logp(y, scale):
        k = tf.exp(-tf.square(X[:, None] - X) * scale) + 0.1 * tf.eye(6, dtype=tf.float64)
        root = tf.linalg.cholesky(k)
        z = tf.linalg.triangular_solve(root, y[:, None])
        return -0.5 * tf.reduce_sum(z**2) - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)))

    pm.TFDensity("y", logp, {"scale": pm.HalfNormal("scale")}, feed_dict={"y": Y})


def loop():
    def logp(y, mu):
        def body(i, a):
            return i + 1, tf.cond(a > 1.0, lambda: a * 0.5, lambda: a * 1.7 + 0.1)

        steps = tf.cast(tf.abs(mu) * 5.0, tf.int32)
        return -tf.square(y - tf.while_loop(lambda i, a: i < steps, body, [0, mu])[1])

    pm.TFDensity("y", logp, {"mu": pm.Normal("mu")}, feed_dict={"y": Y})


def as_many_calls_as_without():
    """TensorFlow's first kind of loop cannot stand inside another one."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph):
        mu_t = v1.placeholder(tf.float64, [])
        v1.disable_control_flow_v2()
        a = tf.while_loop(lambda a: a < 10.0, lambda a: a * 1.5 + tf.abs(mu_t) + 1.0, [mu_t])
        v1.enable_control_flow_v2()
        logp = -tf.square(tf.constant(Y) - a)
        pm.TFDensity("y", logp, {mu_t: pm.Normal("mu")})


def within_a_mixture():
    mu, weights = pm.Normal("mu"), pm.Dirichlet("weights", np.ones(2))
    parts = [
        pm.TFDensity.dist(tf_normal, {"mu": mu, "sigma": 1.0}, shape=6),
        pm.TFDensity.dist(tf_normal, {"mu": 2.0 * mu, "sigma": 2.0}, shape=6),
    ]
    pm.Mixture("mixed", weights, parts, observed=Y, shape=6)


IN_BATCHES = [
    plain,
    expression,
    effects_by_group,
    matrix_product,
    expressions_without_a_stacked_form,
    shapes_of_one,
    discrete,
    simplex,
    several,
    missing,
    missing_in_rows,
    joint,
    without_value,
    total_size,
    float32,
    no_free_parameter,
    matrix_cholesky,
    loop,
]  # fmt: skip


def assert_equal_to_arviz(trace, model, rtol=1e-12, **kwargs):
    ours = io_pymc3_3x.PyMC3Converter(trace=trace, model=model, **kwargs)
    theirs = ARVIZ(trace=trace, model=model, **kwargs)
    got, expected = ours.to_inference_data(), theirs.to_inference_data()
    assert got.groups() == expected.groups()
    got, expected = got.log_likelihood, expected.log_likelihood
    xr.testing.assert_allclose(got, expected, rtol=rtol, atol=0.0)
    assert list(got.data_vars) == list(expected.data_vars)
    for name, values in expected.data_vars.items():
        assert got[name].dims == values.dims
        assert got[name].dtype == values.dtype
        assert list(got[name].coords) == list(values.coords)
        assert np.ptp(values.values[np.isfinite(values.values)]) > 0.0
    return got


@pytest.mark.parametrize("declare", IN_BATCHES, ids=lambda f: f.__name__)
def test_equal_to_arviz_with_few_calls(declare, calls):
    with pm.Model() as model:
        declare()
    trace = trace_of(model)
    calls = calls()
    converter = io_pymc3_3x.PyMC3Converter(trace=trace, model=model)
    converter._extract_log_likelihood(converter.posterior_trace)
    densities = sum(isinstance(y.distribution, pm.TFDensity) for y in model.observed_RVs)
    assert calls.number <= 2 * densities
    assert calls.number > 0 or declare is no_free_parameter
    assert_equal_to_arviz(trace, model, rtol=1e-5 if declare is float32 else 1e-12)


@pytest.mark.parametrize("declare", [as_many_calls_as_without, within_a_mixture])
def test_what_cannot_be_had_in_batches_is_still_right(declare):
    with pm.Model() as model:
        declare()
    assert_equal_to_arviz(trace_of(model), model)


def test_equal_to_the_builtin_distribution():
    idata = []
    for normal in (
        lambda mu, sigma: pm.Normal("y", mu, sigma, observed=Y),
        lambda mu, sigma: pm.TFDensity(
            "y", tf_normal, {"mu": mu, "sigma": sigma}, feed_dict={"value": Y}
        ),
    ):
        with pm.Model() as model:
            normal(pm.Normal("mu"), pm.HalfNormal("sigma"))
        idata.append(az.from_pymc3(trace_of(model, draws=100), model=model))
    theirs, ours = idata
    xr.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, rtol=1e-12)
    for method in (az.loo, az.waic):
        expected, got = method(theirs, pointwise=True), method(ours, pointwise=True)
        np.testing.assert_allclose(got.iloc[0], expected.iloc[0], rtol=1e-10)
        np.testing.assert_allclose(got.iloc[1], expected.iloc[1], rtol=1e-10)


def test_sampling_into_inference_data(calls):
    def evaluations(log_likelihood):
        with pm.Model() as model:
            plain()
            before = calls()
            idata = pm.sample(
                30, tune=20, chains=2, cores=1, random_seed=1, progressbar=False,
                compute_convergence_checks=False, return_inferencedata=True,
                idata_kwargs={"log_likelihood": log_likelihood},
            )  # fmt: skip
        return before.number, idata, model

    without, idata, model = evaluations(False)
    number, idata, model = evaluations(True)
    assert number - without <= 2
    posterior = idata.posterior
    expected = (
        -0.5 * ((Y - posterior["mu"].values[..., None]) / posterior["sigma"].values[..., None]) ** 2
    )
    expected -= np.log(posterior["sigma"].values[..., None]) + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(idata.log_likelihood["y"].values, expected, rtol=1e-12)


def test_dims_and_coordinates():
    with pm.Model(coords={"place": list("abcdef")}) as model:
        pm.TFDensity(
            "y",
            tf_normal,
            {"mu": pm.Normal("mu"), "sigma": 1.0},
            feed_dict={"value": Y},
            dims="place",
        )
    got = assert_equal_to_arviz(trace_of(model), model)
    assert got["y"].dims == ("chain", "draw", "place")
    assert list(got["place"].values) == list("abcdef")


def test_only_the_variables_that_are_wanted():
    with pm.Model() as model:
        several()
    got = assert_equal_to_arviz(trace_of(model), model, log_likelihood=["c", "b"])
    assert list(got.data_vars) == ["b", "c"]


def test_slices_of_a_trace_keep_the_order_of_chains():
    with pm.Model() as model:
        plain()
    assert_equal_to_arviz(trace_of(model)[3::2], model)


def test_data_set_after_sampling_counts():
    with pm.Model() as model:
        x, y = pm.Data("x", X), pm.Data("y_data", Y)
        line = pm.Deterministic("line", pm.Normal("m") * x)
        pm.TFDensity("y", tf_normal, {"mu": line, "sigma": 1.0}, observed=y)
        trace = trace_of(model)
        before = assert_equal_to_arviz(trace, model)
        pm.set_data({"x": np.arange(4.0), "y_data": np.ones(4)})
        after = assert_equal_to_arviz(trace, model)
    assert before["y"].shape[-1] == 6 and after["y"].shape[-1] == 4
    expected = tf_normal(np.ones(4), trace["m"][:, None] * np.arange(4.0), np.float64(1.0))
    np.testing.assert_allclose(after["y"].values.reshape(-1, 4), expected)


def test_random_data_is_drawn_again_for_each_draw():
    """What pm.Minibatch makes: data at random places."""
    with pm.Model() as model:
        places = pm.tt_rng(1).uniform(size=(4,), low=0.0, high=100.0).astype("int64")
        batch = theano.shared(np.arange(100.0))[places]
        pm.TFDensity("y", tf_normal, {"mu": pm.Normal("mu"), "sigma": 1.0}, observed=batch)
    trace = trace_of(model)
    inputs = graph_inputs([model.y.logp_elemwiset])
    states = [x for x in inputs if getattr(x, "default_update", None) is not None]
    values = [x.get_value() for x in states]
    results = []
    for converter in (io_pymc3_3x.PyMC3Converter, ARVIZ):
        for x, value in zip(states, values):
            x.set_value(value)
        results.append(converter(trace=trace, model=model)._extract_log_likelihood(trace)["y"])
    got, expected = results
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert len(np.unique(got.max(axis=-1))) > CHAINS * DRAWS / 2


def test_large_data_is_evaluated_in_chunks(calls):
    data = np.random.RandomState(0).standard_normal(20_000)
    with pm.Model() as model:
        pm.TFDensity(
            "y", tf_normal, {"mu": pm.Normal("mu"), "sigma": 1.0}, feed_dict={"value": data}
        )
    trace = trace_of(model, draws=50)
    before = calls()
    converter = io_pymc3_3x.PyMC3Converter(trace=trace, model=model)
    got = converter._extract_log_likelihood(trace)["y"]
    assert 10 < before.number <= 101  # each chunk takes some MB, and all of them 16 MB and more
    mu = np.array(trace.get_values("mu", combine=False))[..., None]
    np.testing.assert_allclose(got, tf_normal(data, mu, np.float64(1.0)), rtol=1e-12)


def test_log_likelihood_of_all_observed_variables(calls):
    with pm.Model() as model:
        several()
    trace = trace_of(model)
    draws = {x: np.array(trace.get_values(x, combine=False)) for x in ("mu", "sigma")}
    before = calls()
    got = pymc3_tf.model.inference_data.log_likelihood(model, draws)
    assert before.number <= 4
    expected = ARVIZ(trace=trace, model=model)._extract_log_likelihood(trace)
    assert set(got) == {"a", "b", "c"}
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-12)


def test_draws_without_a_free_variable():
    with pm.Model() as model:
        plain()
    with pytest.raises(ValueError, match="the draws have no variable 'sigma_log__'.*They have: mu"):
        pymc3_tf.model.inference_data.log_likelihood(model, {"mu": np.zeros((2, 3))})


def test_draws_of_another_shape():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        y = 2.0 * x
    with pytest.raises(ValueError, match="'x' has 1 dimensions in the model.*draws have 0"):
        evaluate_draws([y], {x: np.zeros(5)}, 5)


def test_arviz_is_changed_once():
    converter = io_pymc3_3x.PyMC3Converter
    pymc3_tf.patches.arviz_converter.install()
    assert io_pymc3_3x.PyMC3Converter is converter
    assert not hasattr(ARVIZ, "in_batches")


def test_converter_that_is_not_the_expected_one_stays(monkeypatch):
    monkeypatch.setattr(io_pymc3_3x, "PyMC3Converter", object)
    pymc3_tf.patches.arviz_converter.install()
    assert io_pymc3_3x.PyMC3Converter is object


def test_fed_arrays_are_constant_data_with_their_dims():
    x, weights = np.linspace(0.0, 1.0, 4), np.array([1.0, 2.0])

    def logp(y, m, x, weights, level):
        return tf_normal(y, m * x, np.float64(1.0)) * tf.reduce_sum(weights) + level

    with pm.Model(coords={"obs": list("abcd")}) as model:
        m = pm.Normal("m")
        level = pm.Data("level", 3.0)
        pm.TFDensity(
            "y",
            logp,
            {"m": m},
            feed_dict={"x": x, "y": np.ones(4), "weights": weights, "level": level},
            dims="obs",
        )
        pm.TFDensity("x_free", lambda v, x: -tf.square(v - x), feed_dict={"x": np.float64(2.0)})
        trace = pm.sample(
            5,
            tune=5,
            chains=2,
            cores=1,
            return_inferencedata=False,
            **QUIET,
        )
        for each in (model, pickle.loads(pickle.dumps(model))):
            idata = az.from_pymc3(trace, model=each)
            assert set(idata.constant_data) == {"x", "weights", "level", "x_free_x"}
            np.testing.assert_array_equal(idata.constant_data["x"], x)
            assert idata.constant_data["x"].dims == ("obs",)
            assert list(idata.constant_data["x"]["obs"].values) == list("abcd")
            np.testing.assert_array_equal(idata.constant_data["weights"], weights)
            assert list(idata.observed_data) == ["y"]


def test_of_a_density_without_value_the_last_array_is_observed_and_the_others_constant():
    with pm.Model() as model:
        m = pm.Normal("m")
        logp = lambda m, x, y: tf_normal(y, m * x, np.float64(1.0))  # noqa: E731
        pm.TFDensity("like", logp, {"m": m}, feed_dict={"x": np.ones(3), "y": np.zeros(3)})
    prior = {"m": np.zeros(2), "like": np.zeros((2, 3))}
    idata = az.from_pymc3(prior=prior, model=model)
    np.testing.assert_array_equal(idata.observed_data["like"], np.zeros(3))
    np.testing.assert_array_equal(idata.constant_data["x"], np.ones(3))
    assert list(idata.constant_data) == ["x"]
