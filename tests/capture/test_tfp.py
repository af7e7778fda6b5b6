"""Distributions of TensorFlow Probability are variables of PyMC3: numbers, shapes, calls, draws."""

import pickle
import subprocess
import sys
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from pymc3.distributions import transforms
from scipy import stats
from scipy.special import gammaln
from support import Calls, logp_dlogp

import pymc3_tf
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

tfd, tfb = tfp.distributions, tfp.bijectors
ONE = np.float64(1.0)
HALVES = np.array([0.5, 0.5])
SCALE = np.linalg.cholesky(np.array([[1.0, 0.8], [0.8, 2.0]]))
TIMES = np.linspace(0.0, 1.0, 4)[:, None]
WEIGHTS = np.array([[0.3, -0.6], [0.2, 0.5]])


class Case(NamedTuple):
    """A distribution, the test values of its parameters, and what is expected of the variable."""

    build: Callable[..., Any]
    params: Dict[str, Any]
    shape: Tuple[int, ...]  # of the variable
    free: Tuple[int, ...]  # of the unconstrained one
    transform: Any  # the end of its name
    options: Dict[str, Any] = {}
    bijector: Any = None  # where the distribution says that it has none


def flow(a):
    def shift_and_log_scale(x, units, **conditions):
        h = tf.tanh(tf.linalg.matvec(tf.constant(WEIGHTS), x))[..., :units]
        return h, 0.1 * h

    base = tfd.Sample(tfd.Normal(a, ONE), 3)
    return tfd.TransformedDistribution(base, tfb.RealNVP(2, None, shift_and_log_scale))


NETWORK = tfb.AutoregressiveNetwork(2, event_shape=[3], hidden_units=[4], dtype="float64")
NETWORK.build((None, 3))
NETWORK.set_weights(
    [np.random.RandomState(1).normal(scale=0.3, size=w.shape) for w in NETWORK.get_weights()]
)


def masked_flow(a):
    base = tfd.Sample(tfd.Normal(a, ONE), 3)
    return tfd.TransformedDistribution(base, tfb.MaskedAutoregressiveFlow(NETWORK))


def process(amplitude, length):
    kernel = tfp.math.psd_kernels.ExponentiatedQuadratic(amplitude, length)
    return tfd.GaussianProcess(kernel, TIMES, observation_noise_variance=np.float64(0.1))


def autoregressive(a):
    def next_distribution(x):
        before = tf.concat([tf.zeros_like(x[..., :1]), x[..., :-1]], -1)
        return tfd.Independent(tfd.Normal(a * before, ONE), 1)

    return tfd.Autoregressive(next_distribution, np.zeros(3), 3)


def state_space(scale):
    return tfd.LinearGaussianStateSpaceModel(
        num_timesteps=5,
        transition_matrix=tf.constant([[0.9]], tf.float64),
        transition_noise=tfd.MultivariateNormalDiag(scale_diag=scale[None]),
        observation_matrix=tf.constant([[1.0]], tf.float64),
        observation_noise=tfd.MultivariateNormalDiag(scale_diag=np.array([0.5])),
        initial_state_prior=tfd.MultivariateNormalDiag(scale_diag=np.array([1.0])),
    )


def hidden_markov(scale):
    return tfd.HiddenMarkovModel(
        tfd.Categorical(probs=HALVES),
        tfd.Categorical(probs=np.array([[0.9, 0.1], [0.3, 0.7]])),
        tfd.Normal(np.array([0.0, 3.0]), scale),
        num_steps=5,
    )


def mixture_of(components, weights=HALVES):
    return tfd.MixtureSameFamily(tfd.Categorical(probs=weights), components)


def named(a):
    return dict(
        m=tfd.Normal(a, ONE),
        s=tfd.HalfNormal(ONE),
        w=tfd.Dirichlet(np.array([1.0, 2.0, 3.0])),
        y=lambda s, m: tfd.Independent(tfd.Uniform(m, m + s * np.array([1.0, 2.0])), 1),
    )


def sequence(a):
    return [
        tfd.Normal(a, ONE),
        tfd.HalfNormal(ONE),
        lambda s, m: tfd.Sample(tfd.Normal(m, s), (2, 2)),
    ]


def coroutine(a):
    def model():
        root = tfd.JointDistributionCoroutine.Root
        m = yield root(tfd.Normal(a, ONE, name="m"))
        s = yield root(tfd.Gamma(2 * ONE, ONE, name="s"))
        yield tfd.Sample(tfd.Normal(m, s), 3, name="y")

    return model


A = {"a": 1.0}
CASES = {
    "Normal": Case(lambda a: tfd.Normal(a, ONE), A, (), (), None),
    "Normal of a vector, repeated": Case(
        lambda a: tfd.Normal(a, ONE), {"a": np.ones(3)}, (2, 3), (2, 3), None, {"shape": (2, 3)}
    ),
    "MultivariateNormalTriL": Case(
        lambda a: tfd.MultivariateNormalTriL(a, SCALE), {"a": np.ones(2)}, (2,), (2,), None
    ),
    "MultivariateNormalDiag, batch": Case(
        lambda a: tfd.MultivariateNormalDiag(np.zeros((4, 2)), a),
        {"a": np.ones(2)},
        (4, 2),
        (4, 2),
        None,
    ),
    "HalfNormal": Case(lambda a: tfd.HalfNormal(a), {"a": np.ones(3)}, (3,), (3,), "softplus"),
    "Gamma": Case(lambda a: tfd.Gamma(a, 2 * ONE), A, (), (), "softplus"),
    "Beta": Case(lambda a: tfd.Beta(a, 2 * ONE), A, (), (), "logodds"),
    "LogNormal": Case(lambda a: tfd.LogNormal(a, ONE), A, (), (), "log"),
    "InverseGamma": Case(lambda a: tfd.InverseGamma(a, ONE), A, (), (), "bijector"),
    "Pareto": Case(lambda a: tfd.Pareto(2 * ONE, a), A, (), (), "bijector"),
    "Uniform": Case(lambda: tfd.Uniform(ONE, np.array([2.0, 3.0])), {}, (2,), (2,), "interval"),
    "Uniform, random bounds": Case(
        lambda a, b: tfd.Uniform(a, a + b), {"a": 1.0, "b": np.ones(3)}, (3,), (3,), "bijector"
    ),
    "Uniform, random bounds, repeated": Case(
        lambda a, b: tfd.Uniform(a, b),
        {"a": 1.0, "b": 3.0},
        (4,),
        (4,),
        "bijector",
        {"shape": 4},
    ),
    "Dirichlet": Case(lambda a: tfd.Dirichlet(a), {"a": np.ones(3)}, (3,), (2,), "bijector"),
    "Dirichlet, batch, repeated": Case(
        lambda a: tfd.Dirichlet(a),
        {"a": np.ones((2, 3))},
        (4, 2, 3),
        (4, 2, 2),
        "bijector",
        {"shape": (4, 2, 3)},
    ),
    "StudentT": Case(lambda a: tfd.StudentT(4 * ONE, a, ONE), A, (), (), None),
    "CholeskyLKJ": Case(lambda a: tfd.CholeskyLKJ(3, a), A, (3, 3), (3,), "bijector"),
    "CholeskyLKJ, batch": Case(
        lambda a: tfd.CholeskyLKJ(3, a), {"a": np.ones(2)}, (2, 3, 3), (2, 3), "bijector"
    ),
    "VonMises": Case(lambda a: tfd.VonMises(ONE, a), A, (), (), "interval"),
    "Independent": Case(
        lambda a: tfd.Independent(tfd.HalfNormal(a), 1), {"a": np.ones(3)}, (3,), (3,), "softplus"
    ),
    "Sample": Case(lambda a: tfd.Sample(tfd.Exponential(a), (2, 2)), A, (2, 2), (2, 2), "softplus"),
    "Sample of Uniform, random bounds": Case(
        lambda a: tfd.Sample(tfd.Uniform(np.zeros(2), a), 3),
        {"a": np.ones(2)},
        (2, 3),
        (2, 3),
        "bijector",
    ),
    "TransformedDistribution": Case(
        lambda a: tfd.TransformedDistribution(
            tfd.Normal(ONE, a), tfb.Chain([tfb.Exp(), tfb.Shift(ONE), tfb.Scale(a)])
        ),
        A,
        (),
        (),
        "bijector",
    ),
    "TransformedDistribution, exp": Case(
        lambda a: tfd.TransformedDistribution(tfd.Normal(ONE, a), tfb.Exp()), A, (), (), "log"
    ),
    "ordered": Case(
        lambda a: tfd.TransformedDistribution(tfd.Sample(tfd.Normal(a, ONE), 3), tfb.Ascending()),
        A,
        (3,),
        (3,),
        "bijector",
    ),
    "RealNVP": Case(flow, A, (3,), (3,), "bijector"),
    "MaskedAutoregressiveFlow": Case(masked_flow, A, (3,), (3,), "bijector"),
    "MixtureSameFamily": Case(
        lambda a: mixture_of(tfd.Gamma(a * np.array([1.0, 4.0]), ONE)),
        A,
        (),
        (),
        "softplus",
        bijector=tfb.Softplus(),
    ),
    "MixtureSameFamily of Normal": Case(
        lambda a: mixture_of(tfd.Normal(a * np.array([1.0, 4.0]), ONE)),
        A,
        (),
        (),
        None,
        bijector=tfb.Identity(),
    ),
    "MixtureSameFamily of Dirichlet": Case(
        lambda a: mixture_of(tfd.Dirichlet(a * np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]))),
        A,
        (3,),
        (2,),
        "bijector",
        bijector=tfb.SoftmaxCentered(),
    ),
    "GaussianProcess": Case(process, {"amplitude": 1.0, "length": 0.5}, (4,), (4,), None),
    "Autoregressive": Case(autoregressive, A, (3,), (3,), None),
    "LinearGaussianStateSpaceModel": Case(state_space, {"scale": 1.0}, (5, 1), (5, 1), None),
    "HiddenMarkovModel": Case(hidden_markov, {"scale": 1.0}, (5,), (5,), None),
    "JointDistributionNamed": Case(
        lambda a: tfd.JointDistributionNamed(named(a)), A, (7,), (6,), "bijector"
    ),
    "JointDistributionNamedAutoBatched": Case(
        lambda a: tfd.JointDistributionNamedAutoBatched(named(a)), A, (7,), (6,), "bijector"
    ),
    "JointDistributionSequential": Case(
        lambda a: tfd.JointDistributionSequential(sequence(a)), A, (6,), (6,), "bijector"
    ),
    "JointDistributionSequentialAutoBatched": Case(
        lambda a: tfd.JointDistributionSequentialAutoBatched(sequence(a)), A, (6,), (6,), "bijector"
    ),
    "JointDistributionCoroutine": Case(
        lambda a: tfd.JointDistributionCoroutine(coroutine(a)), A, (5,), (5,), "bijector"
    ),
    "JointDistributionCoroutineAutoBatched": Case(
        lambda a: tfd.JointDistributionCoroutineAutoBatched(coroutine(a)), A, (5,), (5,), "bijector"
    ),
    "joint of Normals": Case(
        lambda a: tfd.JointDistributionNamed(
            dict(m=tfd.Normal(a, ONE), y=lambda m: tfd.Sample(tfd.Normal(m, ONE), 2))
        ),
        A,
        (3,),
        (3,),
        None,
    ),
}


def declare(case, **options):
    with pm.Model() as model:
        params = {
            name: pm.Normal(name, value, 0.1, shape=np.shape(value))
            for name, value in case.params.items()
        }
        pm.TFDensity("x", distribution=case.build, params=params, **{**case.options, **options})
    return model


def name_of(case):
    return "x" if case.transform is None else f"x_{case.transform}__"


def point_near(model, seed):
    random = np.random.RandomState(seed)
    return {
        name: value + random.uniform(-0.2, 0.2, np.shape(value))
        for name, value in model.test_point.items()
    }


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
def test_the_same_numbers_in_the_one_program_of_the_model(name):
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
    base = distribution.bijector.inverse(idata.posterior["x"].values.reshape(-1, 3)).numpy()
    np.testing.assert_allclose(base.mean(0), 0.4, atol=0.15)
    np.testing.assert_allclose(base.std(0), 1.0, rtol=0.12)


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
def test_observed(name):
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


def test_observed_counts():
    data = np.array([0, 2, 5])
    with pm.Model() as model:
        rate = pm.Gamma("rate", 2.0, 1.0)
        pm.TFDensity("y", distribution=lambda r: tfd.Poisson(r), params={"r": rate}, observed=data)
    point = {"rate_log__": 0.3}
    expected = stats.poisson(np.exp(0.3)).logpmf(data).sum()
    np.testing.assert_allclose(model.y.logp(point), expected, rtol=1e-10)


# -- transforms ---------------------------------------------------------------------------------


def test_transform_of_the_user_comes_first():
    gamma = tfd.Gamma(3 * ONE, 2 * ONE)
    with pm.Model() as model:
        pm.TFDensity("none", distribution=gamma, transform=None, testval=1.0)
        pm.TFDensity("log", distribution=gamma, transform=transforms.log)
        pm.Gamma("builtin", 3, 2)
    assert {v.name for v in model.free_RVs} == {"none", "log_log__", "builtin_log__"}
    point = {"none": 0.7, "log_log__": 0.2, "builtin_log__": 0.2}
    logp = stats.gamma(3, scale=0.5).logpdf
    np.testing.assert_allclose(model.none.logp(point), logp(0.7))
    np.testing.assert_allclose(model.log.transformed.logp(point), logp(np.exp(0.2)) + 0.2)


def test_distributions_of_single_precision():
    """Numbers without a dtype are float32 for TensorFlow, and PyMC3's variables are float64."""
    with pm.Model() as model:
        pm.TFDensity("x", distribution=tfd.Gamma(3.0, 2.0))
        pm.TFDensity("w", distribution=tfd.Dirichlet([1.0, 2.0, 3.0]))
    assert {v.dtype for v in model.free_RVs} == {"float64"}
    point = point_near(model, 5)
    x, w = model.fn([model.x, model.w])(point)
    expected = stats.gamma(3, scale=0.5).logpdf(x) + np.log(60.0 * w[1] * w[2] ** 2)
    np.testing.assert_allclose(model.logp_nojac(point), expected, rtol=1e-5)


def test_declared_in_a_graph():
    """Outside of eager mode the distribution is built in the user's graph."""
    case = CASES["Uniform, random bounds"]
    model = declare(case)
    with tf.Graph().as_default():
        in_graph = declare(case)
    point = point_near(model, 6)
    np.testing.assert_allclose(in_graph.logp(point), model.logp(point), rtol=1e-12)


def test_map_is_the_mode_of_the_distribution():
    """The Jacobian determinant has no part in it."""
    with pm.Model():
        pm.TFDensity("x", distribution=tfd.InverseGamma(3 * ONE, 2 * ONE))
        found = pm.find_MAP(progressbar=False)
    np.testing.assert_allclose(found["x"], 0.5, rtol=1e-4)


def test_a_variable_that_others_depend_on_costs_one_call_more():
    """What comes from the others depends on its value, so its gradient comes second."""
    with pm.Model() as model:
        x = pm.TFDensity("x", distribution=tfd.InverseGamma(3 * ONE, 2 * ONE))
        pm.Normal("y", 0.0, x)
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    point = function.dict_to_array(model.test_point)
    function(point)
    counted = Calls()
    function(point + np.random.uniform(0.01, 0.1))
    assert counted.number == 2


def test_where_the_density_fails_it_is_minus_infinity():
    case = CASES["InverseGamma"]._replace(build=lambda a: tfd.InverseGamma(2 * ONE, a))
    point = {"a": np.array(-1.0), "x_bijector__": np.array(0.3)}
    value, gradient = logp_dlogp(declare(case), point)
    assert value == -np.inf
    np.testing.assert_allclose(sorted(gradient), [0.0, 200.0])  # the prior of a has the other one
    with pytest.raises(ValueError, match=r"TensorFlow failed at .*a = -1: .*not a number"):
        logp_dlogp(declare(case, errors="raise"), point)


@pytest.mark.parametrize("name", ["Gamma", "Dirichlet", "InverseGamma", "JointDistributionNamed"])
def test_prior_draws_have_the_distribution_and_its_transform(name):
    parameter = 2 * np.ones(3 if name == "Dirichlet" else ())
    case = CASES[name]._replace(params={}, build=lambda: CASES[name].build(parameter))
    model = declare(case)
    draws = pm.sample_prior_predictive(1000, model=model, random_seed=2)
    backward = model.fn(model.x)
    for i in range(5):
        point = {name_of(case): draws[name_of(case)][i]}
        np.testing.assert_allclose(backward(point), draws["x"][i], rtol=1e-6)
    first, cdf = {
        "Gamma": (draws["x"], stats.gamma(2, scale=0.5).cdf),
        "Dirichlet": (draws["x"][..., 0], stats.beta(2, 4).cdf),
        "InverseGamma": (draws["x"], stats.invgamma(2).cdf),
        "JointDistributionNamed": (draws["x"][..., 0], stats.norm(2, 1).cdf),
    }[name]
    assert stats.kstest(first, cdf).pvalue > 1e-3


@pytest.mark.parametrize("sample", [pm.sample, pymc3_tf.sample])
def test_posterior_of_a_variance(sample):
    """Given the shape of its inverse gamma prior, its posterior is one too."""
    y = np.random.RandomState(3).normal(0.0, 1.5, 20)
    with pm.Model():
        shape = pm.TFDensity("shape", distribution=tfd.Uniform(ONE, 5 * ONE))
        variance = pm.TFDensity(
            "variance", distribution=lambda a: tfd.InverseGamma(a, 2 * ONE), params={"a": shape}
        )
        pm.Normal("y", 0.0, variance**0.5, observed=y)
        options = {"cores": 1, "return_inferencedata": True} if sample is pm.sample else {}
        trace = sample(draws=600, tune=400, chains=2, random_seed=1, progressbar=False, **options)
    # The marginal of the shape by quadrature, and the mean of the variance given each of them.
    grid = np.linspace(1.0, 5.0, 400)
    n, squares = len(y), np.sum(y**2) / 2
    log_weight = gammaln(grid + n / 2) - gammaln(grid) + grid * np.log(2.0)
    log_weight = log_weight - (grid + n / 2) * np.log(2.0 + squares)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    means = (2.0 + squares) / (grid + n / 2 - 1)
    draws = trace.posterior["variance"].values.ravel()
    # About four standard errors, for 400 or more effective draws.
    assert abs(draws.mean() - weight @ means) < 0.2 * draws.std()
    shapes = trace.posterior["shape"].values.ravel()
    assert abs(shapes.mean() - weight @ grid) < 0.2 * shapes.std()


# -- joint distributions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("JointDistributionNamed", {"m": (), "s": (), "w": (3,), "y": (2,)}),
        ("JointDistributionSequential", {"m": (), "s": (), "x": (2, 2)}),
        ("JointDistributionCoroutine", {"m": (), "s": (), "y": (3,)}),
    ],
)
def test_parts_of_a_joint_distribution_are_deterministics(name, shapes):
    model = declare(CASES[name])
    names = [f"x_{part}" for part in shapes]
    point = point_near(model, 7)
    values = dict(zip(["x", *names], model.fn([model[n] for n in ["x", *names]])(point)))
    assert {n: values[n].shape for n in names} == {f"x_{n}": s for n, s in shapes.items()}
    np.testing.assert_array_equal(np.concatenate([values[n].ravel() for n in names]), values["x"])
    assert values["x_s"] > 0
    draws = pm.sample_prior_predictive(4, model=model)
    assert {n: draws[n].shape for n in names} == {f"x_{n}": (4, *s) for n, s in shapes.items()}


def test_parts_without_names_are_numbered():
    inner = tfd.JointDistributionSequential([tfd.Normal(ONE, ONE), tfd.HalfNormal(ONE)])
    with pm.Model() as model:
        joint = tfd.JointDistributionNamed(dict(a=inner, b=tfd.Normal(ONE, ONE)))
        pm.TFDensity("x", distribution=joint)
    assert {v.name for v in model.deterministics} == {"x", "x_a_0", "x_a_1", "x_b"}


# -- what cannot work ---------------------------------------------------------------------------

NAMED = tfd.JointDistributionNamed


@pytest.mark.parametrize(
    "distribution, options, error, text",
    [
        (tfd.Poisson(ONE), {}, DeclarationTypeError, "Poisson is discrete.*Give it data"),
        (
            tfd.Bernoulli(probs=0.5 * ONE),
            {"transform": None},
            DeclarationTypeError,
            "Bernoulli is discrete",
        ),
        (
            mixture_of(tfd.Poisson(np.array([1.0, 2.0]))),
            {},
            DeclarationTypeError,
            "MixtureSameFamily is discrete",
        ),
        (
            NAMED(dict(k=tfd.Poisson(ONE), m=tfd.Normal(ONE, ONE))),
            {},
            DeclarationTypeError,
            "the part 'k' of JointDistributionNamed is a Poisson, which is discrete.*Leave",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE), y=lambda m: tfd.Normal(m, np.ones(3)))),
            {},
            DeclarationError,
            r"the part 'y' of JointDistributionNamed has the batch shape \(3,\).*tfd.Independent",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE))),
            {"feed_dict": {"value": {"m": 1.0}}},
            DeclarationError,
            "structure of several tensors.*experimental_pin",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE))),
            {"observed": [1.0]},
            DeclarationError,
            "value of JointDistributionNamed is a structure of several tensors.*experimental_pin",
        ),
        (
            tfd.JointDistributionSequential([tfd.Normal(ONE, ONE)]),
            {"observed": [1.0, np.ones(3)]},
            DeclarationError,
            "structure of several tensors",
        ),
        (
            tfd.MultivariateNormalTriL(np.zeros(2), SCALE),
            {"shape": 1},
            DeclarationError,
            r"shape is \(1,\), and MultivariateNormalTriL has .* shape \(2,\).*Leave shape out",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE), n=tfd.Normal(ONE, ONE))),
            {"shape": (3, 2)},
            DeclarationError,
            r"shape is \(3, 2\), and JointDistributionNamed has .* \(2,\)",
        ),
    ],
)
def test_declarations_that_cannot_work(distribution, options, error, text):
    with pm.Model(), pytest.raises(error, match=text):
        pm.TFDensity("x", distribution=distribution, **options)


class Undrawn(tfd.Normal):
    """A distribution that has a log density alone."""

    def _sample_n(self, n, seed=None):
        raise NotImplementedError("no draws")


def test_distribution_without_a_sampler():
    with pm.Model() as model:
        pm.TFDensity("x", distribution=Undrawn(ONE, ONE))
    np.testing.assert_allclose(model.logp({"x": 0.3}), stats.norm(1, 1).logpdf(0.3))
    with pytest.raises(ValueError, match=r"no sampler \(random could.*no draws.*random=lambda"):
        pm.sample_prior_predictive(3, model=model)


def test_tensorflow_probability_is_not_imported_with_pymc3_tf():
    code = "import sys, pymc3_tf; assert 'tensorflow_probability' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
