"""One TensorFlow call for each evaluation of a log density and its gradient."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.distributions import transforms
from support import Calls, tf_normal

from pymc3_tf import TensorFlowOp

DATA = np.array([0.3, -1.2, 2.5, 0.7])
ONE = np.float64(1.0)


def new_points(point, number=5):
    """Points that no other test has asked for: equal programs share what they remember."""
    return [point + offset for offset in np.random.RandomState().uniform(0.01, 0.1, number)]


def density(value, mu):
    return tf_normal(value, mu, ONE)


def joint(value, mu):
    return tf.reduce_sum(density(value, mu))


def free(**kwargs):
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.TFDensity("x", density, {"mu": mu}, **kwargs)


def observed(**kwargs):
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.TFDensity("y", density, {"mu": mu}, **kwargs)


def bound():
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.Bound(pm.TFDensity, lower=-1.0)("x", density, {"mu": mu}, shape=3)


def minibatch():
    data = np.arange(20.0)
    try:
        batch = pm.Minibatch(data, 4)
    except IndexError:
        # PyMC3's own class fails with NumPy 1.23 (Python 3.11): the expression that it would make.
        rows = pm.theanof.tt_rng().uniform(size=(4,), low=0.0, high=20.0 - 1e-16).astype("int64")
        batch = theano.shared(data)[rows]
        batch.tag.test_value = data[:4]
    observed(observed=batch, total_size=20)


def potential():
    op = TensorFlowOp(lambda mu: tf.reduce_sum(density(DATA, mu)), [tf.TensorSpec([], tf.float64)])
    pm.Potential("y", op(pm.Normal("mu", 0.0, 1.0)))


def two_densities():
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.TFDensity("y", density, {"mu": mu}, observed=DATA)
    pm.TFDensity("z", density, {"mu": mu}, observed=DATA + 1.0)


def mixture(logp, data):
    mu = pm.Normal("mu", 0.0, 1.0)
    components = [pm.TFDensity.dist(logp, {"mu": mu}), pm.Normal.dist(0.0, 5.0)]
    pm.Mixture("y", [0.4, 0.6], components, observed=data)


MODELS = {
    "free": (free, 1),
    "free vector": (lambda: free(shape=3), 1),
    "log": (lambda: free(shape=3, transform=transforms.log), 1),
    "interval": (lambda: free(shape=3, transform=transforms.interval(-3.0, 3.0)), 1),
    "ordered": (lambda: free(shape=3, transform=transforms.ordered), 1),
    "stick-breaking": (lambda: free(shape=3, transform=transforms.stick_breaking), 1),
    "observed": (lambda: observed(observed=DATA), 1),
    "observed by feed": (lambda: observed(feed_dict={"value": DATA}), 1),
    "missing values": (lambda: observed(observed=np.array([0.1, np.nan, 2.0])), 1),
    "total_size": (lambda: observed(observed=DATA, total_size=40), 1),
    "minibatch": (minibatch, 1),
    "bound": (bound, 1),
    "potential": (potential, 1),
    "two densities": (two_densities, 2),
    # The upstream gradient depends on the density's own value: the product has to come after it.
    "pointwise in a mixture": (lambda: mixture(density, DATA), 2),
    # For one number it is linear in the upstream gradient, and comes with the value.
    "scalar in a mixture": (lambda: mixture(joint, np.array(0.7)), 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_calls_for_one_evaluation_of_logp_and_gradient(name):
    build, expected = MODELS[name]
    with pm.Model() as model:
        build()
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    point = function.dict_to_array(model.test_point)
    function(point)
    counted = Calls()
    for each in new_points(point):
        function(each)
    assert counted.number == 5 * expected


def gradient_free(function):
    return not any(node.startswith("gradient") for node in function.nodes)


@pytest.mark.parametrize("name", ["free vector", "log", "observed", "bound", "potential"])
def test_value_alone_costs_one_call_and_no_gradient(name):
    build, expected = MODELS[name]
    with pm.Model() as model:
        build()
    logp = model.logp
    logp(model.test_point)
    counted = Calls()
    for array in new_points(model.dict_to_array(model.test_point)):
        logp(model.bijection.rmap(array))
    assert counted.number == 5 * expected
    assert all(gradient_free(f) for f in counted.functions)


def test_metropolis_pays_no_gradient():
    with pm.Model():
        observed(observed=DATA)
        counted = Calls()
        pm.sample(
            50, tune=0, chains=1, cores=1, step=pm.Metropolis(), progressbar=False,
            compute_convergence_checks=False, return_inferencedata=False,
        )  # fmt: skip
    assert 50 <= counted.number <= 60
    assert all(gradient_free(f) for f in counted.functions)


def test_advi_makes_one_call_for_each_evaluation():
    with pm.Model():
        observed(observed=DATA)
        step = pm.ADVI(random_seed=1).objective.step_function(score=False)
        step()
        counted = Calls()
        for _ in range(5):
            step()
    assert counted.number == 5


def test_nuts_makes_one_call_for_each_leapfrog_step_and_none_for_known_points():
    with pm.Model():
        observed(observed=DATA)
        pm.sample(1, tune=0, chains=1, cores=1, progressbar=False, random_seed=1,
                  compute_convergence_checks=False)  # fmt: skip
        counted = Calls()
        trace = pm.sample(
            50, tune=50, chains=1, cores=1, progressbar=False, random_seed=3,
            compute_convergence_checks=False, return_inferencedata=False,
            discard_tuned_samples=False,
        )  # fmt: skip
    steps = int(trace.get_sampler_stats("tree_size").sum())
    # The start of every trajectory is a point of the one before it, and not evaluated again.
    assert steps <= counted.number <= steps + 5


def test_deterministic_of_an_op_is_not_computed_again_for_the_draw():
    op = TensorFlowOp(lambda mu: tf.sin(mu), [tf.TensorSpec([], tf.float64)])
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        sine = pm.Deterministic("sine", op(mu))
        pm.Normal("y", sine, 1.0, observed=DATA)
        counted = Calls()
        trace = pm.sample(
            50, tune=0, chains=1, cores=1, progressbar=False, random_seed=3,
            compute_convergence_checks=False, return_inferencedata=False,
        )  # fmt: skip
    np.testing.assert_allclose(trace["sine"], np.sin(trace["mu"]))
    steps = int(trace.get_sampler_stats("tree_size").sum())
    # Value and, after it, gradient, because the gradient's upstream needs the value.
    assert counted.number <= 2 * (steps + 5)


@pytest.mark.parametrize("mode", ["FAST_RUN", "FAST_COMPILE"])
def test_rewrite_serves_plain_theano_functions(mode):
    op = TensorFlowOp(lambda a: tf.reduce_sum(tf.sin(a)), [tf.TensorSpec([None], tf.float64)])
    with theano.config.change_flags(compute_test_value="off"):
        a = tt.dvector("a")
        value = op(a)
        function = theano.function([a], [value, tt.grad(value, a)], mode=mode)
    counted = Calls()
    (x,) = new_points(np.array([0.1, 0.2, 0.3]), 1)
    result, gradient = function(x)
    assert counted.number == 1
    np.testing.assert_allclose(result, np.sin(x).sum())
    np.testing.assert_allclose(gradient, np.cos(x))
