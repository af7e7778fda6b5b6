"""A straight line of which the posterior is a normal distribution, and draws compared with one."""

import arviz as az
import numpy as np
import pymc3 as pm
from scipy import stats
from support import assert_same_posterior, tf_normal

import pymc3_tf

X = np.linspace(-1.0, 1.0, 20)
Y = 0.5 + 2.0 * X + np.random.RandomState(3).normal(0, 0.5, 20)


def sample(model, draws=1000, **kwargs):
    kwargs = {"chains": 2, "tune": 500, "random_seed": 1, "progressbar": False, **kwargs}
    return pymc3_tf.sample(draws, model=model, **kwargs)


def line_model(y=Y, x=X):
    """A straight line, the posterior of which is a normal distribution."""
    with pm.Model(coords={"point": np.arange(len(Y))}) as model:
        beta = pm.Normal("beta", 0.0, 10.0, shape=2)
        x = pm.Data("x", x)
        pm.Deterministic("at_one", beta[0] + beta[1])
        pm.TFDensity(
            "y",
            lambda y, beta, x: tf_normal(y, beta[0] + beta[1] * x, np.float64(0.5)),
            {"beta": beta},
            feed_dict={"x": x, "y": pm.Data("y_data", y)},
            dims="point",
        )
    return model


def line_posterior(y=Y, x=X):
    design = np.stack([np.ones_like(x), x], axis=1)
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.eye(2) / 100)
    return covariance @ design.T @ y / 0.25, covariance


def assert_normal(draws, mean, sd):
    """The draws of one parameter, shape (chain, draw), have a normal distribution."""
    assert_same_posterior(draws, (mean, sd))
    z = (np.asarray(draws) - mean) / sd
    # As many draws as are independent.
    thin = z.ravel()[:: int(np.ceil(z.size / az.ess(z)))]
    assert stats.kstest(thin, "norm").pvalue > 1e-4
