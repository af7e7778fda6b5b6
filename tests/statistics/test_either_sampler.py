"""A posterior that is known exactly, by both samplers, in whichever floatX Theano has."""

import numpy as np
import pymc3 as pm
import pytest
import theano
from support import QUIET, assert_same_posterior, tf_normal

import pymc3_tf

FLOATX = theano.config.floatX
SAMPLERS = {
    "pymc3": lambda: pm.sample(
        1000, tune=500, chains=2, cores=2, random_seed=1, return_inferencedata=True, **QUIET
    ),
    "pymc3_tf": lambda: pymc3_tf.sample(1000, tune=500, chains=2, random_seed=1, **QUIET),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_posterior_is_the_closed_form_in_either_floatx(sampler):
    data = np.random.RandomState(1).normal(1.0, 0.5, 20).astype(FLOATX)
    scale = np.dtype(FLOATX).type(0.5)
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", lambda y, mu: tf_normal(y, mu, scale), {"mu": mu}, observed=data)
        posterior = SAMPLERS[sampler]().posterior
    precision = 1.0 + len(data) / 0.25
    expected = data.sum() / 0.25 / precision, precision**-0.5
    assert_same_posterior(posterior["mu"], expected)
    assert posterior["mu"].dtype == FLOATX
