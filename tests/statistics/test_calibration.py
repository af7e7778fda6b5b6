"""Simulation-based calibration: over data drawn from the model, its posterior is never off."""

import calibration
import numpy as np
import pymc3 as pm
import pytest
from bands import deviation
from support import QUIET, assert_same_posterior

import pymc3_tf


def test_a_band_holds_uniform_ranks_as_often_as_it_says():
    random, outside = np.random.RandomState(0), 0.05
    away = [deviation(random.randint(0, 20, 200), 20, outside) > 1 for _ in range(4000)]
    # A standard deviation is 0.0034. Numbers of ranks are whole, so that a band holds a bit more.
    assert 0.03 < np.mean(away) < 0.06
    assert deviation(random.randint(0, 20, 200) // 2 * 2, 20, outside) > 1


def test_ranks_are_uniform_and_those_of_a_broken_twin_are_not():
    right, wrong = (calibration.ranks("line", wrong, replicates=150) for wrong in (False, True))
    assert calibration.largest(right) <= 1 < calibration.largest(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", calibration.MODELS)
def test_ranks_of_the_true_parameters_are_uniform(name):
    assert calibration.largest(calibration.ranks(name)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", calibration.MODELS)
def test_broken_twins_are_found_out(name):
    assert calibration.largest(calibration.ranks(name, wrong=True)) > 1


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
