"""What TensorFlow's own ops check bounds the posterior of compiled programs, too."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats
from support import QUIET, Calls, assert_same_posterior

import pymc3_tf

EDGE = 0.5


def asserted(x):
    tf.debugging.assert_greater(x, tf.constant(EDGE, x.dtype))
    return -0.5 * tf.square(x)


def truncated_normal():
    edge = stats.truncnorm(EDGE, np.inf)
    return edge.mean(), edge.std()


@pytest.mark.parametrize("chain_method", ["parallel", "vectorized"])
def test_assertion_bounds_the_posterior(chain_method):
    with pm.Model():
        pm.TFDensity("x", asserted, testval=1.0)
        idata = pymc3_tf.sample(
            4000, chains=4, chain_method=chain_method, random_seed=1, target_accept=0.95, **QUIET
        )
    assert idata.sample_stats.diverging.values.any()
    assert idata.posterior.x.values.min() > EDGE
    assert_same_posterior(idata.posterior.x, truncated_normal())


def test_assertion_bounds_the_posterior_of_pm_sample_with_jit_compile(caplog):
    with pm.Model() as model:
        pm.TFDensity("x", asserted, testval=1.0, jit_compile=True)
        calls = Calls()
        trace = pm.sample(
            3000, chains=2, cores=1, random_seed=1, return_inferencedata=False, **QUIET
        )
    x = np.stack(trace.get_values("x", combine=False))
    assert x.min() > EDGE
    assert_same_posterior(x, truncated_normal())
    assert any(f.graph.checked for f in calls.functions)
    assert model.x.logp({"x": 0.2}) == -np.inf


def test_failed_check_of_a_compiled_program_is_told_as_without_xla(caplog):
    for jit_compile in (False, True):
        with pm.Model() as model:
            pm.TFDensity("x", asserted, testval=1.0, jit_compile=jit_compile, errors="raise")
        with pytest.raises(pymc3_tf.exceptions.EvaluationError, match="x = 0.2.*assertion failed"):
            model.logp({"x": 0.2})


@pytest.mark.slow
def test_solver_that_reaches_no_end_bounds_the_posterior():
    """The solution of z' = r z^2 is 1 / (1 - r t): at r = 1 it becomes infinite before t = 1."""
    solver = tfp.math.ode.DormandPrince(rtol=1e-6, atol=1e-6, max_num_steps=500)
    y, sigma = 0.3, 0.5

    def logp(y, r):
        z = solver.solve(
            lambda t, z, r: r * z**2,
            0.0,
            tf.ones([], tf.float64),
            solution_times=[1.0],
            constants={"r": r},
        ).states[0]
        return -0.5 * tf.square((y - 1 / z) / sigma)

    with pm.Model():
        r = pm.Uniform("r", -3.0, 3.0, testval=0.0)
        pm.TFDensity("y", logp, {"r": r}, observed=np.array(y))
        idata = pymc3_tf.sample(1000, tune=500, chains=2, random_seed=1, **QUIET)
    assert idata.sample_stats.diverging.values.any()
    inverse = stats.truncnorm(-y / sigma, np.inf, y, sigma)
    assert_same_posterior(1 - idata.posterior.r, (inverse.mean(), inverse.std()))
