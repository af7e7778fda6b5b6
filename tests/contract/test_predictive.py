"""Draws from a TFDensity are those of the built-in distribution that it was written to be."""

import pickle

import dill
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from pymc3.distributions import transforms
from scipy import stats
from support import tf_normal

from pymc3_tf import TFDensity

tfd = tfp.distributions
X = np.linspace(0.0, 1.0, 30)
Y = np.random.RandomState(0).normal(1.0 + X, 0.7)
KINDS = ["numpy", "stateless ops", "tensor", "distribution"]


def line(y, m, b, x):
    return tf_normal(y, m * x + b, np.float64(0.7))


def numpy_line(m, b, x, size):
    return np.random.normal(m * x + b, 0.7, size)


def declare_line(kind, m, b, x, y):
    """The likelihood of a straight line, with a sampler of one kind."""
    params, feeds = {"m": m, "b": b}, {"x": x}
    if kind == "numpy":
        return pm.TFDensity("y", line, params, feed_dict=feeds, observed=y, random=numpy_line)
    if kind == "stateless ops":

        def draw(m, b, x, size, seed):
            noise = tf.random.stateless_normal(tf.shape(x), seed, dtype=tf.float64)
            return m * x + b + 0.7 * noise

        return pm.TFDensity("y", line, params, feed_dict=feeds, observed=y, random=draw)
    if kind == "distribution":
        return pm.TFDensity(
            "y",
            distribution=lambda m, b, x: tfd.Normal(m * x + b, np.float64(0.7)),
            params=params,
            feed_dict={**feeds, "value": y},
        )
    with tf.Graph().as_default():
        m_t, b_t = (tf.compat.v1.placeholder(tf.float64, []) for _ in range(2))
        x_t, y_t = (tf.compat.v1.placeholder(tf.float64, [None]) for _ in range(2))
        return pm.TFDensity(
            "y",
            line(y_t, m_t, b_t, x_t),
            {m_t: m, b_t: b},
            feed_dict={x_t: x, y_t: y},
            value=y_t,
            random=m_t * x_t + b_t + tf.random.normal(tf.shape(x_t), 0.0, 0.7, tf.float64),
        )


def line_model(kind):
    with pm.Model() as model:
        m, b = pm.Normal("m", 1.0, 0.5), pm.Normal("b", 0.0, 0.3)
        x = pm.Data("x", X)
        if kind == "built-in":
            pm.Normal("y", m * x + b, 0.7, observed=Y)
        else:
            declare_line(kind, m, b, x, Y)
    return model


def points(number=400):
    """Draws of the parameters, as a posterior would have them."""
    random = np.random.RandomState(5)
    return [{"m": random.normal(1, 0.5), "b": random.normal(0, 0.3)} for _ in range(number)]


def assert_standard_normal(sample):
    """The draws are standard normal and independent: any two neighbours in any direction."""
    assert stats.kstest(np.ravel(sample), "norm").pvalue > 1e-3
    for axis in range(np.ndim(sample)):
        size = np.shape(sample)[axis]
        lower, upper = (np.take(sample, np.arange(k, size - 1 + k), axis).ravel() for k in (0, 1))
        assert abs(np.corrcoef(lower, upper)[0, 1]) < 4 / np.sqrt(lower.size)


@pytest.mark.parametrize("kind", KINDS)
def test_prior_predictive_draws_have_the_builtins_distribution(kind):
    with line_model(kind):
        draws = pm.sample_prior_predictive(1000, random_seed=3)
        again = pm.sample_prior_predictive(1000, random_seed=3)
    assert draws["y"].shape == (1000, 30)
    np.testing.assert_array_equal(draws["y"], again["y"])
    residual = (draws["y"] - draws["m"][:, None] * X - draws["b"][:, None]) / 0.7
    assert_standard_normal(residual)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", ["sample", "fast_sample"])
def test_posterior_predictive_draws_have_the_builtins_distribution(kind, sampler):
    sample = getattr(pm, f"{sampler}_posterior_predictive")
    slow = {"progressbar": False} if sampler == "sample" else {}
    with line_model(kind):
        draws = sample(points(), random_seed=3, **slow)["y"]
        again = sample(points(), random_seed=3, **slow)["y"]
        other = sample(points(), random_seed=4, **slow)["y"]
    assert draws.shape == (400, 30)
    np.testing.assert_array_equal(draws, again)
    assert not np.isclose(draws, other).any()
    mean = np.array([p["m"] * X + p["b"] for p in points()])
    assert_standard_normal((draws - mean) / 0.7)


def test_numpy_draws_are_the_very_draws_of_the_builtin():
    draws = {}
    for kind in ("numpy", "built-in"):
        with line_model(kind):
            draws[kind] = [
                pm.sample_prior_predictive(20, random_seed=3)["y"],
                pm.sample_posterior_predictive(points(20), random_seed=3, progressbar=False)["y"],
                pm.fast_sample_posterior_predictive(points(20), random_seed=3)["y"],
            ]
    for ours, theirs in zip(draws["numpy"], draws["built-in"]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "built-in"])
@pytest.mark.parametrize("sampler", ["sample", "fast_sample"])
def test_predictions_at_new_points_are_one_set_data_away(kind, sampler):
    sample = getattr(pm, f"{sampler}_posterior_predictive")
    new = np.array([-2.0, 0.0, 5.0])
    with line_model(kind):
        pm.set_data({"x": new})
        draws = sample(points(), random_seed=3)["y"]
    mean = np.array([p["m"] * new + p["b"] for p in points()])
    assert draws.shape == mean.shape
    assert_standard_normal((draws - mean) / 0.7)


def noise_of_numpy(m, b, x, size):
    return m * x + b + np.random.normal(0.0, 0.7, size)


def noise_of_tensorflow(m, b, x, size, seed):
    return m * x + b + 0.7 * tf.random.stateless_normal(size, seed, dtype=tf.float64)


@pytest.mark.parametrize("number", [50, 400])  # with 400, PyMC3 takes points for draws
@pytest.mark.parametrize("noise", [noise_of_numpy, noise_of_tensorflow])
def test_noise_is_independent_at_each_of_the_new_points(noise, number):
    new = np.linspace(-2.0, 5.0, number)
    with pm.Model():
        m, b = pm.Normal("m", 1.0, 0.5), pm.Normal("b", 0.0, 0.3)
        x = pm.Data("x", X)
        pm.TFDensity("y", line, {"m": m, "b": b}, feed_dict={"x": x}, observed=Y, random=noise)
        pm.set_data({"x": new})
        draws = pm.sample_prior_predictive(400, random_seed=3)
    mean = draws["m"][:, None] * new + draws["b"][:, None]
    assert_standard_normal((draws["y"] - mean) / 0.7)


@pytest.mark.parametrize("size", [None, 3, (4, 2)])
def test_size_and_shape_of_draws(size):
    front = () if size is None else tuple(np.atleast_1d(size))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.TFDensity(
            "x",
            tf_normal,
            {"mu": mu, "sigma": sigma},
            shape=(3, 2),
            random=lambda mu, sigma, size: np.random.normal(mu, sigma, size),
        )
        pm.Normal("x_builtin", mu, sigma, shape=(3, 2))
    point = {"mu": np.array([1.0, -1.0]), "sigma": np.array(0.3)}
    draws = []
    for name in ("x", "x_builtin"):
        np.random.seed(2)
        draws.append(model[name].distribution.random(point=point, size=size))
        assert draws[-1].shape == front + (3, 2)
        np.random.seed(2)
        assert model[name].distribution.random(size=size).shape == front + (3, 2)
    np.testing.assert_array_equal(*draws)


def test_free_variables_are_drawn_with_their_transform():
    with pm.Model() as ours:
        sigma = pm.TFDensity(
            "sigma",
            lambda x: 0.5 * np.log(2 / np.pi) - 0.5 * tf.square(x),
            transform=transforms.log,
            random=lambda size: np.abs(np.random.normal(size=size)),
        )
        pm.Normal("y", 0.0, sigma)
    draws = pm.sample_prior_predictive(2000, model=ours, random_seed=1)
    np.testing.assert_allclose(draws["sigma_log__"], np.log(draws["sigma"]))
    assert stats.kstest(draws["sigma"], "halfnorm").pvalue > 1e-3
    assert stats.kstest(draws["y"] / draws["sigma"], "norm").pvalue > 1e-3


def test_multivariate_distribution():
    covariance = np.array([[1.0, 0.8], [0.8, 2.0]])
    tril = np.linalg.cholesky(covariance)

    def mv_normal(mu):
        return tfd.MultivariateNormalTriL(mu, tril)

    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        pm.TFDensity("x", distribution=mv_normal, params={"mu": mu}, shape=(500, 2))
        pm.MvNormal("x_builtin", mu, chol=tril, shape=(500, 2))
    value = np.random.RandomState(0).normal(size=(500, 2))
    point = {"mu": np.array([1.0, 5.0])}
    logp = model.x.distribution.logp(value).eval({model.mu: point["mu"]})
    expected = model.x_builtin.distribution.logp(value).eval({model.mu: point["mu"]})
    np.testing.assert_allclose(logp, expected, rtol=1e-10)
    np.random.seed(3)
    draws = model.x.distribution.random(point=point, size=4)
    assert draws.shape == (4, 500, 2)
    assert_standard_normal(np.linalg.solve(tril, (draws - point["mu"])[..., None])[..., 0])


def test_distribution_without_parameters():
    with pm.Model() as model:
        gamma = tfd.Gamma(np.float64(3), np.float64(2))
        pm.TFDensity("x", distribution=gamma, testval=1.0, transform=None)
        pm.Gamma("builtin", 3, 2, testval=1.0, transform=None)
    point = {"x": 0.7, "builtin": 0.7}
    np.testing.assert_allclose(model.x.logp(point), model.builtin.logp(point))
    draws = pm.sample_prior_predictive(1000, model=model, random_seed=3)["x"]
    assert stats.kstest(draws, "gamma", (3, 0, 0.5)).pvalue > 1e-3


@pytest.mark.parametrize(
    "draw, cdf",
    [
        (lambda: tf.random.normal([500], dtype=tf.float64), stats.norm.cdf),
        (lambda: tf.random.uniform([500], 0.0, 2.0, tf.float64), stats.uniform(0, 2).cdf),
        (lambda: tf.random.gamma([500], 3.0, 2.0, tf.float64), stats.gamma(3, 0, 0.5).cdf),
        (
            lambda: tf.random.truncated_normal([500], dtype=tf.float64),
            stats.truncnorm(-2, 2).cdf,
        ),
    ],
)
def test_random_ops_of_a_graph_keep_their_distribution(draw, cdf):
    with tf.Graph().as_default(), pm.Model():
        x = tf.compat.v1.placeholder(tf.float64, [500])
        y = pm.TFDensity("y", tf_normal(x, 0.0, np.float64(1.0)), shape=500, random=draw())
    np.random.seed(11)
    first, second = y.distribution.random(size=2)
    assert stats.kstest(first, cdf).pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


@pytest.mark.parametrize(
    "draw, mean",
    [
        (lambda rate: tf.random.poisson([400], rate, tf.float64), [0.5, 4.0]),
        (lambda rate: tf.random.gamma([400], rate, dtype=tf.float64), [0.5, 4.0]),
        (
            lambda rate: (
                tf.cast(
                    tf.random.uniform([400, 2], 0, tf.cast(2 * rate + 1, tf.int64), tf.int64),
                    tf.float64,
                )
                if rate.shape == ()
                else None
            ),
            None,
        ),
        (
            lambda rate: tf.cast(
                tf.transpose(tf.random.categorical([[0.0, 0.0], [0.0, np.log(3.0)]], 400)),
                tf.float64,
            ),
            [0.5, 0.75],
        ),
    ],
)
def test_random_ops_with_parameters_of_their_own(draw, mean):
    with tf.Graph().as_default(), pm.Model():
        x = tf.compat.v1.placeholder(tf.float64, [400, 2])
        rate = tf.constant([0.5, 4.0], tf.float64) if mean else tf.constant(4.0, tf.float64)
        density = pm.TFDensity(
            "y", tf_normal(x, 0.0, np.float64(1.0)), shape=(400, 2), random=draw(rate)
        )
    np.random.seed(2)
    draws = density.distribution.random(size=10)
    assert draws.shape == (10, 400, 2)
    error = draws.std((0, 1)) / np.sqrt(4000)
    np.testing.assert_allclose(draws.mean((0, 1)), mean or [4.0, 4.0], atol=4 * error.max())


def test_two_random_ops_of_a_graph_are_independent():
    with tf.Graph().as_default(), pm.Model():
        x = tf.compat.v1.placeholder(tf.float64, [1000, 2])
        noise = [tf.random.normal([1000], dtype=tf.float64, seed=7) for _ in range(2)]
        y = pm.TFDensity(
            "y", tf_normal(x, 0.0, np.float64(1)), shape=(1000, 2), random=tf.stack(noise, 1)
        )
    assert_standard_normal(y.distribution.random())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("package", [pickle, dill])
def test_samplers_survive_pickling(kind, package):
    model = line_model(kind)
    copy = package.loads(package.dumps(model))
    draws = []
    for each in (model, copy):
        np.random.seed(3)
        draws.append(each.y.distribution.random(point=points(1)[0], size=5))
    draws[0] = draws[0].reshape(5, 30)
    np.testing.assert_array_equal(*draws)


def test_lambda_as_sampler_survives_pickling():
    scale = 3.0
    with pm.Model() as model:
        pm.TFDensity("x", lambda x: -x, random=lambda size: scale * np.random.uniform(size=size))
    copy = pickle.loads(pickle.dumps(model))
    np.random.seed(3)
    expected = 3 * np.random.uniform()
    np.random.seed(3)
    assert copy.x.distribution.random() == expected


def test_declaration_leaves_numpys_generator_alone():
    np.random.seed(1)
    expected = np.random.uniform()
    np.random.seed(1)
    line_model("numpy")
    assert np.random.uniform() == expected


def normal(**kwargs):
    return TFDensity.dist(
        tf_normal,
        kwargs,
        random=lambda mu, sigma, size: np.random.normal(mu, sigma, size),
    )


def test_bound_draws_inside_of_its_bounds():
    draws = []
    for wrapped, given in ((TFDensity, None), (pm.Normal, {"mu": 0.3, "sigma": 2.0})):
        with pm.Model():
            bounded = pm.Bound(wrapped, lower=0.0, upper=1.0)
            if given is None:
                x = bounded(
                    "x",
                    tf_normal,
                    {"mu": 0.3, "sigma": 2.0},
                    random=lambda mu, sigma, size: np.random.normal(mu, sigma, size),
                )
            else:
                x = bounded("x", **given)
        np.random.seed(3)
        draws.append(x.distribution.random(size=500))
    cdf = stats.truncnorm(-0.15, 0.35, 0.3, 2.0).cdf
    for sample in draws:
        assert sample.shape == (500,)
        assert stats.kstest(sample, cdf).pvalue > 1e-3


def test_mixture_draws_from_its_components():
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(2))
        components = [normal(mu=-3.0, sigma=0.5), normal(mu=2.0, sigma=1.0)]
        pm.Mixture("y", w, components, observed=np.zeros(200))
    weights = [{"w": np.array([0.3, 0.7])}] * 20
    draws = pm.sample_posterior_predictive(weights, model=model, random_seed=3)["y"]
    assert draws.shape == (20, 200)

    def cdf(x):
        return 0.3 * stats.norm.cdf(x, -3, 0.5) + 0.7 * stats.norm.cdf(x, 2, 1)

    assert stats.kstest(draws.ravel(), cdf).pvalue > 1e-3


def test_smc_starts_from_the_sampler():
    def model(builtin):
        with pm.Model() as made:
            if builtin:
                mu = pm.Normal("mu", 0.0, 1.0)
            else:
                params = {"mu": np.float64(0), "sigma": np.float64(1)}
                mu = pm.TFDensity(
                    "mu",
                    tf_normal,
                    params,
                    random=lambda mu, sigma, size: np.random.normal(mu, sigma, size),
                )
            pm.Normal("y", mu, 1.0, observed=Y)
        return made

    found = []
    for builtin in (False, True):
        with model(builtin):
            trace = pm.sample_smc(200, random_seed=1, chains=1)
        found.append((trace.report.log_marginal_likelihood, trace["mu"]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-8)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-8)
