"""Simulation-based calibration: over data drawn from the model, its posterior is never off.

The rank of the parameter from which data were drawn, among the draws of the posterior for those
data, is uniform if and only if the sampler draws from the posterior: Talts, Betancourt, Simpson,
Vehtari & Gelman (2018), https://arxiv.org/abs/1804.06788.
"""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from scipy import stats
from support import QUIET, assert_same_posterior, tf_normal

import pymc3_tf

REPLICATES = 600
KEPT = 99  # draws of each posterior: ranks go from 0 to 99
BINS = 20
X = np.linspace(-1.0, 1.0, 12)


def line():
    """A straight line with unknown noise, the likelihood of which is a TFDensity."""

    def logp(y, a, b, sigma):
        return tf_normal(y, a + b * X, sigma)

    def random(a, b, sigma, size):
        return np.random.normal(a + b * X, sigma, size)

    params = {
        "a": pm.Normal("a", 0.0, 1.0),
        "b": pm.Normal("b", 0.0, 2.0),
        "sigma": pm.Gamma("sigma", 4.0, 4.0),
    }
    y = pm.Data("data", np.zeros(12))
    pm.TFDensity("y", logp, params, observed=y, random=random)


def hierarchy():
    """Groups with means of their own, not centred: built-in distributions only."""
    mu = pm.Normal("mu", 0.0, 2.0)
    tau = pm.HalfNormal("tau", 1.5)
    theta = pm.Normal("theta", 0.0, 1.0, shape=6)
    pm.Normal("y", mu + tau * theta, 1.0, observed=pm.Data("data", np.zeros(6)))


def composition():
    """Proportions on a simplex and a rate, with a Poisson likelihood, all in one model."""
    share = pm.Dirichlet("share", np.array([2.0, 3.0, 4.0]))
    rate = pm.TFDensity(
        "rate",
        lambda x: 2 * tf.math.log(x) - 0.1 * x + 3 * np.log(0.1) - np.log(2.0),
        transform=pm.distributions.transforms.log,
        testval=20.0,
        random=lambda size: np.random.gamma(3.0, 10.0, size),
    )
    pm.Poisson("y", rate * share, observed=pm.Data("data", np.zeros(3, int)))


@pytest.mark.slow
@pytest.mark.parametrize("build", [line, hierarchy, composition])
def test_ranks_of_the_true_parameters_are_uniform(build):
    with pm.Model() as model:
        build()
    prior = pm.sample_prior_predictive(REPLICATES, model=model, random_seed=4)
    names = [v.name for v in model.unobserved_RVs if not v.name.endswith("__")]
    ranks = {name: [] for name in names}
    for i in range(REPLICATES):
        pm.set_data({"data": prior["y"][i].astype(model["data"].dtype)}, model=model)
        posterior = pymc3_tf.sample(
            # Of ten draws one is kept, so that they are as good as independent.
            10 * KEPT,
            tune=500,
            chains=1,
            model=model,
            random_seed=i,
            target_accept=0.9,
            **QUIET,
            idata_kwargs={"log_likelihood": False},
        ).posterior
        for name in names:
            ranks[name].append((posterior[name].values[0, ::10] < prior[name][i]).sum(axis=0))
    for name in names:
        for column in np.reshape(ranks[name], (REPLICATES, -1)).T:
            counts, _ = np.histogram(column, BINS, (0, KEPT + 1))
            assert counts.sum() == REPLICATES
            assert stats.chisquare(counts).pvalue > 1e-3, (name, counts)


def eight_schools():
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mu = pm.Normal("mu", 0.0, 5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    theta = pm.Normal("theta", 0.0, 1.0, shape=8)
    pm.Normal("y", mu + tau * theta, sigma, observed=y)


def mixture():
    data = np.random.RandomState(2).normal([-2.0, 3.0], 1.0, (60, 2)).ravel()
    w = pm.Dirichlet("w", np.ones(2))
    mu = pm.Normal("mu", [-1.0, 1.0], 3.0, shape=2, transform=pm.distributions.transforms.ordered)
    pm.NormalMixture("y", w, mu, sigma=pm.HalfNormal("sigma", 2.0), observed=data)


def gaussian_process():
    x = np.linspace(0, 1, 8)[:, None]
    scale = pm.Gamma("scale", 4.0, 8.0)
    gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, scale))
    y = np.sin(5 * x[:, 0]) + np.random.RandomState(0).normal(0, 0.2, 8)
    gp.marginal_likelihood("y", x, y, noise=pm.HalfNormal("noise", 0.5))


def random_walk():
    sigma = pm.Exponential("sigma", 5.0)
    walk = pm.GaussianRandomWalk("walk", sigma=sigma, shape=10)
    data = np.random.RandomState(1).normal(size=10).cumsum()
    pm.StudentT("y", 4.0, walk, 0.3, observed=data)


def logistic():
    x = np.random.RandomState(0).normal(size=(200, 4))
    y = np.random.RandomState(1).uniform(size=200) < 1 / (1 + np.exp(-x @ [1.0, -1, 0, 0.5]))
    beta = pm.Normal("beta", 0.0, 2.0, shape=4)
    pm.Bernoulli("y", logit_p=pm.math.dot(x, beta), observed=y.astype(int))


@pytest.mark.slow
@pytest.mark.parametrize("build", [eight_schools, mixture, gaussian_process, random_walk, logistic])
def test_posterior_is_that_of_pm_sample(build):
    with pm.Model():
        build()
        theirs = pm.sample(
            3000,
            tune=1000,
            chains=2,
            cores=2,
            target_accept=0.9,
            random_seed=3,
            return_inferencedata=True,
            **QUIET,
        )
        ours = pymc3_tf.sample(4000, chains=2, target_accept=0.9, random_seed=3, progressbar=False)
    for name, array in theirs.posterior.data_vars.items():
        assert_same_posterior(ours.posterior[name], array, name=name)
        assert array.dims == ours.posterior[name].dims
