"""Distributions of TensorFlow Probability are variables of PyMC3: numbers, shapes, calls."""

import pickle

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from scipy import stats
from support import Calls, assert_same_posterior, logp_dlogp
from tensorflow.python.util import deprecation
from tfp_cases import CASES, HALVES, ONE, SCALE, declare, masked_flow, name_of, point_near, tfd

import pymc3_tf
from pymc3_tf.sampling.unconstrained import UnconstrainedModel


def in_tensorflow(case, point):
    """Log density under the bijector, and its gradients, as TensorFlow Probability has them."""
    given = {name: tf.constant(point[name]) for name in case.params}
    z = tf.constant(point[name_of(case)])
    with tf.GradientTape() as tape:
        tape.watch([z, given])
        distribution = case.build(**given)
        bijector = case.bijector or distribution.experimental_default_event_space_bijector()
        if isinstance(distribution.dtype, tf.DType):
            parts, rank = z, len(distribution.event_shape_tensor())
        else:
            sample = bijector.inverse(distribution.sample(seed=1))
            flat, start = [], 0
            for part in tf.nest.flatten(sample):
                size = int(np.prod(part.shape))
                flat.append(tf.reshape(z[start : start + size], part.shape))
                start += size
            parts = tf.nest.pack_sequence_as(sample, flat)
            rank = tf.nest.map_structure(len, distribution.event_shape)
        logp = distribution.log_prob(bijector.forward(parts))
        ranks = bijector.inverse_event_ndims(rank)
        logp = tf.reduce_sum(logp + bijector.forward_log_det_jacobian(parts, ranks))
    gradients = tape.gradient(logp, {"z": z, **given})
    found = {name: gradients[name].numpy() for name in given}
    found[name_of(case)] = gradients["z"].numpy()
    return logp.numpy(), found


@pytest.mark.parametrize("name", CASES)
def test_variable_is_that_of_tensorflow_probability(name):
    case = CASES[name]
    model = declare(case)
    assert model.x.tag.test_value.shape == case.shape
    assert model.test_point[name_of(case)].shape == case.free
    assert np.isfinite(model.logp(model.test_point))

    function = model.logp_dlogp_function()
    function.set_extra_values({})
    point = point_near(model, 1)
    counted = Calls()
    array = function.dict_to_array(point_near(model, np.random.randint(100, 2**31)))
    function(array)
    assert counted.number == 1

    # Value and gradient, the priors of the parameters aside.
    expected, expected_gradient = in_tensorflow(case, point)
    for key, value in case.params.items():
        expected += stats.norm(value, 0.1).logpdf(point[key]).sum()
        expected_gradient[key] = expected_gradient[key] - (point[key] - value) / 0.01
    value, gradient = function(function.dict_to_array(point))
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    gradient = function.array_to_dict(gradient)
    for key in expected_gradient:
        np.testing.assert_allclose(gradient[key], expected_gradient[key], rtol=1e-8, atol=1e-10)

    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(twin.logp(point), expected, rtol=1e-9)
    draws = pm.sample_prior_predictive(3, model=model, random_seed=1)
    assert draws["x"].shape == (3, *case.shape)
    assert draws[name_of(case)].shape == (3, *case.free)


LINKED = [
    "Uniform, random bounds",
    "Dirichlet, batch, repeated",
    "CholeskyLKJ",
    "Sample",
    "RealNVP",
    "MaskedAutoregressiveFlow",
    "LinearGaussianStateSpaceModel",
    "HiddenMarkovModel",
    "JointDistributionNamedAutoBatched",
]


@pytest.mark.parametrize("name", LINKED)
def test_program_of_the_whole_model_has_the_same_numbers(name):
    """Which `pymc3_tf.sample` compiles."""
    model = declare(CASES[name])
    point = point_near(model, 8)
    linked = UnconstrainedModel(model)

    @tf.function(autograph=False)
    def value_and_gradient(vector):
        with tf.GradientTape() as tape:
            tape.watch(vector)
            logp = linked.log_density(vector)
        return logp, tape.gradient(logp, vector)

    value, gradient = value_and_gradient(tf.constant(linked.vector(point)))
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    expected, expected_gradient = function(function.dict_to_array(point))
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    expected_gradient = linked.vector(function.array_to_dict(expected_gradient))
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-8, atol=1e-10)


def test_flow_with_a_loop_is_sampled_as_one_program(caplog):
    distribution = masked_flow(np.float64(0.4))
    with pm.Model() as model:
        pm.TFDensity("x", distribution=distribution)
    idata = pymc3_tf.sample(500, tune=300, chains=2, model=model, progressbar=False, random_seed=3)
    assert not [m for m in caplog.messages if "pfor" in m]
    # What the flow maps from is normal with a mean of 0.4.
    base = distribution.bijector.inverse(idata.posterior["x"].values).numpy()
    assert_same_posterior(base, (0.4, 1.0))


BUILTINS = {
    "Normal": lambda a: pm.Normal("x", a, 1.0),
    "MultivariateNormalTriL": lambda a: pm.MvNormal("x", a, chol=SCALE, shape=2),
    "HalfNormal": lambda a: pm.HalfNormal("x", a, shape=3),
    "Gamma": lambda a: pm.Gamma("x", a, 2.0),
    "Beta": lambda a: pm.Beta("x", a, 2.0),
    "LogNormal": lambda a: pm.Lognormal("x", a, 1.0),
    "InverseGamma": lambda a: pm.InverseGamma("x", a, 1.0),
    "Pareto": lambda a: pm.Pareto("x", 2.0, a),
    "Uniform, random bounds": lambda a, b: pm.Uniform("x", a, a + b, shape=3),
    "Dirichlet": lambda a: pm.Dirichlet("x", a, shape=3),
    "Dirichlet, batch, repeated": lambda a: pm.Dirichlet("x", a, shape=(4, 2, 3)),
    "StudentT": lambda a: pm.StudentT("x", 4.0, a, 1.0),
    "VonMises": lambda a: pm.VonMises("x", 1.0, a),
    "MixtureSameFamily": lambda a: pm.Mixture(
        "x", HALVES, pm.Gamma.dist(a * np.array([1.0, 4.0]), 1.0, shape=2)
    ),
}


@pytest.mark.parametrize("name", BUILTINS)
def test_log_density_is_the_builtins_but_for_the_jacobian(name):
    case = CASES[name]
    ours = declare(case)
    with pm.Model() as theirs:
        BUILTINS[name](
            **{k: pm.Normal(k, v, 0.1, shape=np.shape(v)) for k, v in case.params.items()}
        )
    point = point_near(ours, 2)
    their_point = dict(point, x=ours.fn(ours.x)(point))
    if hasattr(theirs.x, "transformed"):
        z = theirs.x.transformation.forward_val(their_point["x"], point=point)
        their_point[theirs.x.transformed.name] = z
    their_point = {v.name: their_point[v.name] for v in theirs.free_RVs}
    np.testing.assert_allclose(ours.logp_nojac(point), theirs.logp_nojac(their_point), rtol=1e-8)


@pytest.mark.parametrize("name, key", [("Beta", "x_logodds__"), ("Uniform, random bounds", None)])
def test_whole_log_density_is_the_builtins_where_the_transform_is_the_same(name, key):
    case = CASES[name]
    ours = declare(case)
    with pm.Model() as theirs:
        BUILTINS[name](
            **{k: pm.Normal(k, v, 0.1, shape=np.shape(v)) for k, v in case.params.items()}
        )
    point = point_near(ours, 3)
    their_point = dict(point, x_interval__=point.get("x_bijector__"))
    their_point = {v.name: their_point[v.name] for v in theirs.free_RVs}
    ours, theirs = logp_dlogp(ours, point), logp_dlogp(theirs, their_point)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["HiddenMarkovModel", "LinearGaussianStateSpaceModel", "Gamma"])
def test_observed_distribution_has_its_own_log_density(name):
    case = CASES[name]
    shape = case.shape or (6,)
    data = np.random.RandomState(0).gamma(3.0, size=shape)
    model = declare(case, feed_dict={"value": data})
    point = point_near(model, 4)
    given = {key: tf.constant(point[key]) for key in case.params}
    expected = tf.reduce_sum(case.build(**given).log_prob(data)).numpy()
    np.testing.assert_allclose(model.x.logp(point), expected, rtol=1e-9)
    assert set(model.test_point) == set(case.params)
    counted = Calls()
    logp_dlogp(model, offset=np.random.uniform(0.01, 0.1))
    assert counted.number <= 2  # one of them at the test point, while Theano compiles


def test_discrete_distribution_has_its_own_log_density_of_observed_counts():
    data = np.array([0, 2, 5])
    with pm.Model() as model:
        rate = pm.Gamma("rate", 2.0, 1.0)
        pm.TFDensity("y", distribution=lambda r: tfd.Poisson(r), params={"r": rate}, observed=data)
    point = {"rate_log__": 0.3}
    expected = stats.poisson(np.exp(0.3)).logpmf(data).sum()
    np.testing.assert_allclose(model.y.logp(point), expected, rtol=1e-10)


def test_what_tensorflow_probability_gives_itself_is_not_said_to_be_deprecated(caplog, monkeypatch):
    monkeypatch.setattr(deprecation, "_PRINTED_WARNING", {})  # each is printed once in a process
    declare(CASES["GaussianProcess"])
    assert "deprecated" not in caplog.text
    with tf.Graph().as_default():
        CASES["GaussianProcess"].build(amplitude=ONE, length=ONE)
    assert "`jitter` is deprecated" in caplog.text
