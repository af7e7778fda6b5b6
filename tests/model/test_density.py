"""A TFDensity is the built-in distribution that it was written to be."""

import pickle
import sys

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.distributions import transforms
from support import assert_same_model, declare, logp_dlogp, tf_normal

DATA = np.array([0.3, -1.2, 2.5, 0.7])


def normal_models(regime, joint=False):
    def logp(value, mu, sigma):
        pointwise = tf_normal(value, mu, sigma)
        return tf.reduce_sum(pointwise) if joint else pointwise

    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 2.0)
        sigma = pm.HalfNormal("sigma", 1.5)
        x = declare(regime, "x", tf_normal, {"mu": mu, "sigma": sigma})
        declare(regime, "y", logp, {"mu": mu + x, "sigma": sigma}, observed=DATA)
    with pm.Model() as theirs:
        mu = pm.Normal("mu", 0.0, 2.0)
        sigma = pm.HalfNormal("sigma", 1.5)
        x = pm.Normal("x", mu, sigma)
        pm.Normal("y", mu + x, sigma, observed=DATA)
    return ours, theirs


@pytest.mark.parametrize("joint", [False, True])
def test_free_and_observed_normal_equal_the_builtin(regime, joint):
    assert_same_model(*normal_models(regime, joint))


def sample(model, **kwargs):
    with model:
        return pm.sample(
            draws=150,
            tune=150,
            start=model.test_point,
            # An adapted step size would let rounding errors grow from draw to draw.
            step=pm.NUTS(adapt_step_size=False),
            random_seed=11,
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
            **kwargs,
        )


def test_normal_gives_the_chain_of_the_builtin(regime):
    def logp(value, mu):
        return tf_normal(value, mu, np.float64(2.0))

    with pm.Model() as ours:
        mu = declare(regime, "mu", logp, {"mu": np.float64(0.5)})
        declare(regime, "y", logp, {"mu": mu}, observed=DATA)
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.5, 2.0, testval=0.0), 2.0, observed=DATA)
    ours, theirs = (sample(m, chains=1, cores=1) for m in (ours, theirs))
    np.testing.assert_allclose(ours["mu"], theirs["mu"], rtol=1e-10, atol=1e-10)


def test_half_normal_gives_the_chain_of_the_builtin(regime):
    def logp(value, sigma):
        return -0.5 * tf.square(value / sigma) + 0.5 * np.log(2 / np.pi) - tf.math.log(sigma)

    with pm.Model() as ours:
        sigma = pm.HalfNormal("sigma", 1.0)
        declare(regime, "x", logp, {"sigma": sigma}, transform=transforms.log)
    with pm.Model() as theirs:
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.HalfNormal("x", sigma, testval=1.0)
    assert_same_model(ours, theirs)
    ours, theirs = (sample(m, chains=1, cores=1) for m in (ours, theirs))
    np.testing.assert_allclose(ours["x"], theirs["x"], rtol=1e-10, atol=1e-10)


COVARIANCE = np.array([[1.0, 0.6, 0.1], [0.6, 2.0, -0.3], [0.1, -0.3, 0.5]])


def mv_normal(value, mu):
    cholesky = tf.constant(np.linalg.cholesky(COVARIANCE))
    z = tf.linalg.triangular_solve(cholesky, tf.transpose(value - mu))
    log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(cholesky)))
    return -0.5 * tf.reduce_sum(z * z, axis=0) - log_determinant - 1.5 * np.log(2 * np.pi)


def joint_mv_normal(value, mu):
    return mv_normal(value[None, :], mu)[0]


def test_mv_normal_equals_the_builtin(regime):
    rows = np.random.RandomState(3).randn(5, 3)
    with pm.Model() as ours:
        mu = declare(regime, "mu", joint_mv_normal, {"mu": np.zeros(3)}, shape=3)
        declare(regime, "y", mv_normal, {"mu": mu}, observed=rows)
    with pm.Model() as theirs:
        mu = pm.MvNormal("mu", np.zeros(3), cov=COVARIANCE, shape=3)
        pm.MvNormal("y", mu, cov=COVARIANCE, observed=rows)
    assert_same_model(ours, theirs)
    point = ours.test_point
    elements = ours.y.logp_elemwise(point)
    assert elements.shape == (5,)
    np.testing.assert_allclose(elements, theirs.y.logp_elemwise(point), rtol=1e-10)


@pytest.mark.parametrize(
    "transform, shape, start",
    [
        (transforms.log, 3, np.ones(3)),
        (transforms.interval(-1.0, 3.0), 3, np.ones(3)),
        (transforms.lowerbound(2.0), 3, np.full(3, 3.0)),
        (transforms.ordered, 3, np.array([0.0, 1.0, 2.0])),
        (transforms.stick_breaking, 3, np.full(3, 1 / 3)),
        (transforms.logodds, 3, np.full(3, 0.5)),
    ],
)
@pytest.mark.parametrize("joint", [False, True])
def test_transformed_density_has_the_jacobian_once(transform, shape, start, joint):
    """Also for a joint density, which PyMC3 itself counts once for each element."""

    def logp(value):
        pointwise = tf_normal(value, np.float64(0.5), np.float64(2.0))
        return tf.reduce_sum(pointwise) if joint else pointwise

    with pm.Model() as ours:
        pm.TFDensity("x", logp, shape=shape, transform=transform)
    with pm.Model() as theirs:
        pm.Normal("x", 0.5, 2.0, shape=shape, transform=transform, testval=start)
    np.testing.assert_allclose(ours.test_point.popitem()[1], theirs.test_point.popitem()[1])
    assert_same_model(ours, theirs)


def test_joint_density_of_rows_under_elementwise_transform():
    def logp(value):
        return tf.reduce_sum(tf_normal(value, np.float64(0.5), np.float64(2.0)), axis=1)

    with pm.Model() as ours:
        pm.TFDensity("x", logp, shape=(3, 3), transform=transforms.log)
    with pm.Model() as theirs:
        pm.Normal("x", 0.5, 2.0, shape=(3, 3), transform=transforms.log, testval=np.ones((3, 3)))
    assert_same_model(ours, theirs)


def observed_in_three_ways():
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        mu_t = v1.placeholder(tf.float64, [], name="mu")
        y_t = v1.placeholder(tf.float64, [None], name="y")
        logp = tf_normal(y_t, mu_t, tf.constant(2.0, tf.float64))
        ways = {
            "feed_dict": {"value": y_t, "feed_dict": {y_t: DATA}},
            "observed": {"observed": DATA},
            "all fed": {"feed_dict": {y_t: DATA}},
        }
        for way, kwargs in ways.items():
            with pm.Model() as model:
                mu = pm.Normal("mu", 0.0, 1.0)
                pm.TFDensity("y", logp, {mu_t: mu}, **kwargs)
            yield way, model


def test_three_ways_of_observing_are_one_and_the_same():
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA)
    for way, ours in observed_in_three_ways():
        assert [rv.name for rv in ours.observed_RVs] == ["y"], way
        assert [rv.name for rv in ours.free_RVs] == ["mu"], way
        assert_same_model(ours, theirs)
        np.testing.assert_allclose(
            ours.y.logp_elemwise({"mu": 0.4}), theirs.y.logp_elemwise({"mu": 0.4}), rtol=1e-10
        )
        np.testing.assert_array_equal(ours.y.observations, DATA)


def test_observed_in_feed_dict_gives_pointwise_log_likelihood():
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA)
    ours = dict(observed_in_three_ways())["feed_dict"]
    trace = sample(ours, chains=2, cores=1)
    results = [az.from_pymc3(trace, model=model) for model in (ours, theirs)]
    assert results[0].log_likelihood["y"].shape == (2, 150, 4)
    np.testing.assert_allclose(
        results[0].log_likelihood["y"], results[1].log_likelihood["y"], rtol=1e-8
    )
    np.testing.assert_array_equal(results[0].observed_data["y"], DATA)
    # Its first entry is the expected log density; its name depends on ArviZ's version.
    ours, theirs = (az.loo(result).iloc[0] for result in results)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_function_observes_its_first_argument_when_it_is_fed():
    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity(
            "y", lambda y, x, mu: tf_normal(y, mu * x, np.float64(2.0)), {"mu": mu},
            feed_dict={"x": np.arange(4.0), "y": DATA},
        )  # fmt: skip
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0) * np.arange(4.0), 2.0, observed=DATA)
    assert_same_model(ours, theirs)
    np.testing.assert_array_equal(ours.y.observations, DATA)


def test_density_of_constants_only_is_a_likelihood_too():
    with tf.Graph().as_default():
        mu_t = tf.compat.v1.placeholder(tf.float64, [])
        logp = tf.reduce_sum(tf_normal(tf.constant(DATA), mu_t, tf.constant(2.0, tf.float64)))
        with pm.Model() as ours:
            pm.TFDensity("y", logp, {mu_t: pm.Normal("mu", 0.0, 1.0)})
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA)
    assert_same_model(ours, theirs)
    assert [rv.name for rv in ours.observed_RVs] == ["y"]


@pytest.mark.parametrize("where", ["observed", "feed_dict"])
def test_missing_values_are_sampled_as_with_the_builtin(where):
    masked = np.array([0.3, np.nan, 2.5, np.nan])
    given = {"observed": masked} if where == "observed" else {"feed_dict": {"y": masked}}
    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", lambda y, mu: tf_normal(y, mu, np.float64(2.0)), {"mu": mu}, **given)
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=masked)
    assert {rv.name for rv in ours.free_RVs} == {"mu", "y_missing"}
    assert_same_model(ours, theirs)


@pytest.mark.parametrize("where", ["observed", "feed_dict"])
def test_set_data_to_a_new_length_reaches_a_compiled_model(where):
    models = []
    for density in (True, False):
        with pm.Model() as model:
            x = pm.Data("x", np.arange(4.0))
            y = pm.Data("y_data", DATA)
            mu = pm.Normal("mu", 0.0, 1.0)
            if density:
                given = {"observed": y} if where == "observed" else {"feed_dict": {"y": y}}
                pm.TFDensity(
                    "y", lambda y, mu, x: tf_normal(y, mu * x, np.float64(2.0)),
                    {"mu": mu, "x": x}, **given,
                )  # fmt: skip
            else:
                pm.Normal("y", mu * x, 2.0, observed=y)
        models.append((model, model.logp_dlogp_function()))
    values = []
    for model, function in models:
        function.set_extra_values({})
        with model:
            before = [np.array(v) for v in function(np.array([0.7]))]
            pm.set_data({"x": np.arange(7.0), "y_data": np.ones(7)})
            values.append(np.hstack([*before, *function(np.array([0.7]))]))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-10)
    assert abs(values[0][0] - values[0][2]) > 0.1


def test_total_size_scales_the_likelihood():
    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0)
        declare("function", "y", lambda y, mu: tf_normal(y, mu, np.float64(2.0)), {"mu": mu},
                observed=DATA, total_size=40)  # fmt: skip
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA, total_size=40)
    assert_same_model(ours, theirs)


def test_data_of_other_kinds_is_cast_like_the_builtins():
    import pandas as pd

    for data in ([1, 2, 3, 4], DATA.astype("float32"), pd.Series(DATA), np.arange(4)):
        with pm.Model() as ours:
            mu = pm.Normal("mu", 0.0, 1.0)
            pm.TFDensity(
                "y", lambda y, mu: tf_normal(y, mu, np.float64(2.0)), {"mu": mu}, observed=data
            )
        with pm.Model() as theirs:
            pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=data)
        assert_same_model(ours, theirs)


def test_data_may_change_after_the_declaration():
    data = DATA.copy()
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity(
            "y", lambda y, mu: tf_normal(y, mu, np.float64(2.0)), {"mu": mu}, observed=data
        )
    before = logp_dlogp(model)[0]
    data[:] = 100.0
    assert logp_dlogp(model)[0] == before


def test_integer_parameters_select_groups():
    group = np.array([0, 2, 1, 2])
    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0, shape=3)
        pm.TFDensity(
            "y", lambda y, mu, group: tf_normal(y, tf.gather(mu, group), np.float64(2.0)),
            {"mu": mu}, feed_dict={"group": group}, observed=DATA,
        )  # fmt: skip
    with pm.Model() as theirs:
        mu = pm.Normal("mu", 0.0, 1.0, shape=3)
        pm.Normal("y", mu[group], 2.0, observed=DATA)
    assert_same_model(ours, theirs)


def test_float32_graph_in_a_float64_model():
    with tf.Graph().as_default():
        mu_t = tf.compat.v1.placeholder(tf.float32, [])
        y_t = tf.compat.v1.placeholder(tf.float32, [4])
        logp = tf_normal(y_t, mu_t, tf.constant(2.0))
        with pm.Model() as ours:
            pm.TFDensity("y", logp, {mu_t: pm.Normal("mu", 0.0, 1.0)}, observed=DATA)
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA)
    assert_same_model(ours, theirs, rtol=1e-5)


def test_two_densities_of_the_same_form_keep_their_own_data():
    """Theano merges ops that are equal: these two differ in their data only."""

    def logp(y, mu):
        return tf_normal(y, mu, np.float64(2.0))

    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", logp, {"mu": mu}, observed=DATA)
        pm.TFDensity("z", logp, {"mu": mu}, observed=DATA + 1.0)
    with pm.Model() as theirs:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 2.0, observed=DATA)
        pm.Normal("z", mu, 2.0, observed=DATA + 1.0)
    assert_same_model(ours, theirs)


def test_predictive_draws_are_refused_rather_than_the_data_returned():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity(
            "y", lambda y, mu: tf_normal(y, mu, np.float64(2.0)), {"mu": mu}, observed=DATA
        )
        trace = sample(model, chains=1, cores=1)
        with pytest.raises(ValueError, match="no sampler.*var_names"):
            pm.sample_posterior_predictive(trace, samples=2, progressbar=False)
        with pytest.raises(ValueError, match="no sampler.*var_names"):
            pm.sample_prior_predictive(2)
        assert set(pm.sample_prior_predictive(2, var_names=["mu"])) == {"mu"}


def test_dist_in_a_mixture_and_in_a_bound_equal_the_builtins():
    def logp(value, mu):
        return tf_normal(value, mu, np.float64(1.0))

    with pm.Model() as ours:
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        components = [pm.TFDensity.dist(logp, {"mu": mu[i]}) for i in range(2)]
        pm.Mixture("y", [0.3, 0.7], components, observed=DATA)
        pm.Bound(pm.TFDensity, lower=-1.0)("b", logp, {"mu": mu[0]})
    with pm.Model() as theirs:
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        components = [pm.Normal.dist(mu[i], 1.0) for i in range(2)]
        pm.Mixture("y", [0.3, 0.7], components, observed=DATA)
        pm.Bound(pm.Normal, lower=-1.0)("b", mu[0], 1.0, testval=0.0)
    assert_same_model(ours, theirs)


def test_names_shapes_and_printing():
    coords = {"group": ["a", "b", "c"]}
    with pm.Model(coords=coords) as model:
        x = pm.TFDensity(
            "x", lambda v: tf_normal(v, np.float64(0.0), np.float64(1.0)), dims="group"
        )
        start = pm.TFDensity(
            "start", lambda v: tf_normal(v, np.float64(0.0), np.float64(1.0)), testval=0.25
        )
    assert x.tag.test_value.shape == (3,)
    assert model.RV_dims["x"] == ("group",)
    assert start.tag.test_value == 0.25
    assert "x ~ TFDensity" in str(model)
    assert "TFDensity" in model._repr_latex_()


def test_shape_defaults_to_that_of_the_placeholder():
    with tf.Graph().as_default(), pm.Model():
        value = tf.compat.v1.placeholder(tf.float64, [3])
        x = pm.TFDensity("x", -0.5 * tf.square(value))
    assert x.tag.test_value.shape == (3,)


def test_model_survives_pickling_and_gives_the_same_numbers():
    model, theirs = normal_models("placeholder")
    copy = pickle.loads(pickle.dumps(model))
    assert_same_model(copy, theirs)


def test_gradient_through_the_parameters_of_other_variables():
    """Theano expressions as parameters, and a density as a parameter of a built-in."""
    with pm.Model() as ours:
        log_sigma = pm.Normal("log_sigma", 0.0, 1.0)
        x = declare(
            "placeholder", "x", tf_normal,
            {"mu": tt.exp(log_sigma) + 1.0, "sigma": tt.exp(log_sigma)},
        )  # fmt: skip
        pm.Normal("y", x**2, 1.0, observed=DATA)
    with pm.Model() as theirs:
        log_sigma = pm.Normal("log_sigma", 0.0, 1.0)
        x = pm.Normal("x", tt.exp(log_sigma) + 1.0, tt.exp(log_sigma))
        pm.Normal("y", x**2, 1.0, observed=DATA)
    assert_same_model(ours, theirs)


def test_map_and_second_derivatives_equal_the_builtin():
    ours, theirs = normal_models("function")
    hessians, points = [], []
    for model in (ours, theirs):
        with model:
            points.append(pm.find_MAP(progressbar=False))
        gradient = tt.grad(model.logpt, model.vars)
        rows = [tt.grad(g, model.vars) for g in gradient]
        hessian = theano.function(model.vars, [h for row in rows for h in row])
        hessians.append(hessian(**{v.name: points[0][v.name] for v in model.vars}))
    for name in ("mu", "sigma", "x"):
        np.testing.assert_allclose(points[0][name], points[1][name], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(hessians[0], hessians[1], rtol=1e-8)


def test_find_hessian_equals_the_builtin():
    """It uses Theano's scan, which does not compile on Python 3.11: nor then for the built-in."""
    results = []
    for model in normal_models("function"):
        with model:
            try:
                results.append(pm.find_hessian(model.test_point))
            except Exception as error:  # what Theano raises is no more exact
                assert sys.version_info >= (3, 11) and "longintrepr.h" in str(error)
                results.append(np.zeros(0))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-8)


def test_nan_at_the_start_is_reported_by_name_as_pymc3_does():
    with pm.Model() as model:
        pm.TFDensity("culprit", lambda value: tf.math.log(value))
    with model, pytest.raises(pm.exceptions.SamplingError, match="culprit"):
        pm.sample(1, tune=0, chains=1, progressbar=False)


def test_compute_test_value_is_left_alone():
    before = theano.config.compute_test_value
    normal_models("placeholder")
    assert theano.config.compute_test_value in (before, "raise")
