"""Distributions of TensorFlow Probability, and what is expected of their variables."""

from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import tensorflow_probability as tfp

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
