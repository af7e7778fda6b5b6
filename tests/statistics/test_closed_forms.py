"""Posteriors that are known in closed form, or by quadrature, are sampled."""

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from normal_line import assert_normal, line_model, line_posterior, sample
from scipy import stats
from scipy.special import gammaln
from support import assert_same_posterior

import pymc3_tf

tfd = tfp.distributions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tune": "auto"},
        {"init": "jitter+adapt_diag"},
        {"init": "jitter+adapt_full"},
        {"chain_method": "vectorized", "chains": 4},
        {"init": "adapt_full", "chain_method": "vectorized", "start": {"beta": [1.0, 1.0]}},
    ],
)
def test_posterior_is_the_closed_form(options):
    idata = sample(line_model(), **options)
    mean, covariance = line_posterior()
    for i in range(2):
        draws = idata.posterior["beta"].values[..., i]
        assert_normal(draws, mean[i], np.sqrt(covariance[i, i]))
    at_one = idata.posterior["at_one"].values
    np.testing.assert_allclose(at_one, idata.posterior["beta"].values.sum(-1))
    assert_normal(at_one, mean.sum(), np.sqrt(covariance.sum()))


def test_every_transform_samples_its_own_distribution():
    with pm.Model() as model:
        pm.Gamma("gamma", 3.0, 2.0)
        pm.Beta("beta", 2.0, 3.0)
        pm.Uniform("uniform", -2.0, 5.0)
        pm.Dirichlet("simplex", np.array([1.0, 2.0, 3.0]))
        pm.VonMises("angle", 0.5, 10.0)
        pm.Bound(pm.Normal, lower=1.0)("bounded", 0.0, 1.0)
        pm.TFDensity(
            "positive",
            lambda x: -x,
            shape=2,
            transform=pm.distributions.transforms.log,
        )
    posterior = sample(model, 2000).posterior
    for draws, cdf in (
        (posterior["gamma"], stats.gamma(3, 0, 0.5).cdf),
        (posterior["beta"], stats.beta(2, 3).cdf),
        (posterior["uniform"], stats.uniform(-2, 7).cdf),
        (posterior["simplex"][..., 0], stats.beta(1, 5).cdf),
        (posterior["simplex"][..., 2], stats.beta(3, 3).cdf),
        (posterior["angle"], stats.vonmises(10, 0.5).cdf),
        (posterior["bounded"], stats.truncnorm(1, np.inf).cdf),
        (posterior["positive"][..., 1], stats.expon().cdf),
    ):
        values = draws.values
        thin = values.ravel()[:: int(np.ceil(values.size / az.ess(values)))]
        assert stats.kstest(thin, cdf).pvalue > 1e-4
    np.testing.assert_allclose(posterior["simplex"].sum(axis=-1), 1.0)


@pytest.mark.parametrize("sample", [pm.sample, pymc3_tf.sample])
def test_posterior_of_a_variance_is_that_of_quadrature(sample):
    """Given the shape of its inverse gamma prior, its posterior is one too."""
    y, one = np.random.RandomState(3).normal(0.0, 1.5, 20), np.float64(1)
    with pm.Model():
        shape = pm.TFDensity("shape", distribution=tfd.Uniform(one, 5 * one))
        variance = pm.TFDensity(
            "variance",
            distribution=lambda a: tfd.InverseGamma(a, 2 * one),
            params={"a": shape},
        )
        pm.Normal("y", 0.0, variance**0.5, observed=y)
        options = {"cores": 1, "return_inferencedata": True} if sample is pm.sample else {}
        trace = sample(draws=600, tune=400, chains=2, random_seed=1, progressbar=False, **options)
    # The marginal of the shape by quadrature, and the moments of the variance given it.
    grid = np.linspace(1.0, 5.0, 400)
    n, squares = len(y), np.sum(y**2) / 2
    log_weight = gammaln(grid + n / 2) - gammaln(grid) + grid * np.log(2.0)
    log_weight = log_weight - (grid + n / 2) * np.log(2.0 + squares)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ grid
    expected = mean, np.sqrt(weight @ (grid - mean) ** 2)
    assert_same_posterior(trace.posterior["shape"], expected)
    means = (2.0 + squares) / (grid + n / 2 - 1)
    mean = weight @ means
    spread = means**2 / (grid + n / 2 - 2) + (means - mean) ** 2
    assert_same_posterior(trace.posterior["variance"], (mean, np.sqrt(weight @ spread)))


def test_posterior_of_a_loop_is_that_of_its_closed_form_for_any_length_of_data():
    values = np.linspace(1.0, 1.6, 20)

    def recurrence(y, a):
        z = tf.scan(lambda z, v: z * a + v * 0.0 + 1.0, y, tf.zeros([], y.dtype))
        return -0.5 * tf.square((y - z) / 0.3)

    def mean_and_deviation(length):
        grid = np.linspace(0.0, 0.8, 2001)
        z = np.zeros_like(grid)
        logp = -0.5 * ((grid - 0.4) / 0.1) ** 2
        for y in values[:length]:
            z = z * grid + 1.0
            logp += -0.5 * ((y - z) / 0.3) ** 2
        p = np.exp(logp - logp.max())
        mean = (p * grid).sum() / p.sum()
        return mean, np.sqrt((p * (grid - mean) ** 2).sum() / p.sum())

    with pm.Model():
        data = pm.Data("data", values)
        pm.TFDensity("y", recurrence, {"a": pm.Normal("a", 0.4, 0.1)}, observed=data)
        for length in (20, 7):
            pm.set_data({"data": values[:length]})
            idata = pymc3_tf.sample(1000, chains=2, random_seed=1, progressbar=False)
            assert_same_posterior(idata.posterior["a"], mean_and_deviation(length))
