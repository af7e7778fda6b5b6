"""Densities that are hard to write in PyMC3: loops, differential equations, filters, an op in C++.

``MODELS`` has a class for each. ``logp(y, **params)`` is TensorFlow, ``start`` has a point for it,
and ``declare`` makes it part of the PyMC3 model on the stack.
"""

import sampling_models  # isort: skip  # on Python 3.11 it has to come before PyMC3

import importlib.util
import tempfile

import numpy as np
import pymc3 as pm
import tensorflow as tf
import tensorflow_probability as tfp
from model_data import EXAMPLES
from sampling_models import log_normal

tfd = tfp.distributions


class Density:
    """A model whose likelihood is a TFDensity."""

    def declare(self):
        pm.TFDensity("y", self.logp, self.priors(), feed_dict={"y": self.y})


class Autoregression(Density):
    """Each value depends on the two before it: AR(2), 200 points, by tf.scan."""

    start = {"a": np.array([0.5, 0.2]), "log_s": np.array(0.1)}

    def __init__(self):
        random = np.random.RandomState(42)
        self.y = np.zeros(200)
        for t in range(200):
            self.y[t] = 0.6 * self.y[t - 1] + 0.2 * self.y[t - 2] + random.normal()

    def priors(self):
        return {"a": pm.Normal("a", 0, 0.5, shape=2), "log_s": pm.Normal("log_s", 0, 1)}

    def logp(self, y, a, log_s):
        def step(before, y):
            last, second, _ = before
            return y, last, log_normal(y, a[0] * last + a[1] * second, tf.exp(2 * log_s))

        return tf.scan(step, y, (tf.zeros_like(log_s),) * 3)[2]


class Garch(Density):
    """The variance depends on that before it and on the last value: GARCH(1,1), 200 points."""

    start = {"omega": np.array(0.3), "alpha": np.array(0.3), "beta": np.array(0.4)}

    def __init__(self):
        random, variance = np.random.RandomState(42), 1.0
        self.y = np.zeros(200)
        for t in range(200):
            variance = 0.2 + 0.3 * self.y[t - 1] ** 2 + 0.5 * variance
            self.y[t] = np.sqrt(variance) * random.normal()

    def priors(self):
        alpha = pm.Uniform("alpha", 0, 1)
        return {
            "omega": pm.HalfNormal("omega", 1),
            "alpha": alpha,
            "beta": (1 - alpha) * pm.Uniform("share", 0, 1),
        }

    def logp(self, y, omega, alpha, beta):
        before = tf.concat([tf.zeros([1], y.dtype), y[:-1]], 0)
        variance = tf.scan(
            lambda variance, last: omega + alpha * last**2 + beta * variance,
            before,
            tf.ones_like(omega),
        )
        return log_normal(y, 0.0, variance)


def hunt(z, alpha, beta, gamma, delta):
    """Return how fast hares and lynx change."""
    u, v = z[0], z[1]
    return tf.stack([(alpha - beta * v) * u, (delta * u - gamma) * v])


class LotkaVolterra(Density):
    """Lynx and hare in 20 years: the differential equation by Runge-Kutta steps in tf.scan."""

    start = {
        "z_0": np.array([30.0, 4.0]),
        "rates": np.array([0.55, 0.028, 0.8, 0.024]),
        "sigma": np.array(0.25),
    }
    steps = 20  # a year

    def __init__(self):
        path = EXAMPLES.parent / "gallery" / "data" / "lynx_hare.csv"
        table = np.genfromtxt(path, delimiter=",", names=True, skip_header=1)
        self.y = np.log(np.stack([table["hare"], table["lynx"]], axis=1))

    def priors(self):
        logs = pm.Normal("logs", np.log([0.5, 0.03, 0.8, 0.03]), 0.3, shape=4)
        return {
            "z_0": pm.Lognormal("z_0", np.log([30.0, 5.0]), 0.3, shape=2),
            "rates": pm.math.exp(logs),
            "sigma": pm.Lognormal("sigma", -1.0, 0.5),
        }

    def solve(self, z_0, rates):
        alpha, beta, gamma, delta = (rates[i] for i in range(4))

        def step(z, dt):
            k_1 = hunt(z, alpha, beta, gamma, delta)
            k_2 = hunt(z + 0.5 * dt * k_1, alpha, beta, gamma, delta)
            k_3 = hunt(z + 0.5 * dt * k_2, alpha, beta, gamma, delta)
            k_4 = hunt(z + dt * k_3, alpha, beta, gamma, delta)
            return z + dt / 6.0 * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4)

        path = tf.scan(step, np.full(20 * self.steps, 1.0 / self.steps), initializer=z_0)
        return tf.concat([z_0[None], path[self.steps - 1 :: self.steps]], axis=0)

    def logp(self, y, z_0, rates, sigma):
        return log_normal(y, tf.math.log(self.solve(z_0, rates)), tf.square(sigma))


class DormandPrince(LotkaVolterra):
    """The same, by the solver of TensorFlow Probability."""

    # Where chains begin. Far from the posterior a call of pm.sample takes thousands of steps.
    at = {"z_0": LotkaVolterra.start["z_0"], "logs": np.log(LotkaVolterra.start["rates"])}

    def solve(self, z_0, rates):
        def change(t, z, rates):
            return hunt(z, *(rates[i] for i in range(4)))

        # Where numbers overflow, a step never succeeds: without this the solver would not end.
        solver = tfp.math.ode.DormandPrince(rtol=1e-5, atol=1e-5, max_num_steps=1000)
        times = np.arange(1.0, 21.0)
        solved = solver.solve(change, 0.0, z_0, solution_times=times, constants={"rates": rates})
        return tf.concat([z_0[None], solved.states], axis=0)


class HiddenMarkov(Density):
    """Two hidden states, 500 steps: TensorFlow Probability's HiddenMarkovModel."""

    start = {"mean": np.array([-1.0, 1.0]), "stay": np.array([0.9, 0.8]), "s": np.array(1.0)}

    def __init__(self):
        random, state = np.random.RandomState(42), 0
        self.y = np.zeros(500)
        for t in range(500):
            state = state if random.uniform() < (0.95, 0.9)[state] else 1 - state
            self.y[t] = random.normal((-1.0, 1.0)[state])

    def priors(self):
        ordered = pm.distributions.transforms.ordered
        return {
            "mean": pm.Normal(
                "mean", 0, 2, shape=2, transform=ordered, testval=np.array([-1.0, 1.0])
            ),
            "stay": pm.Beta("stay", 8, 2, shape=2),
            "s": pm.HalfNormal("s", 1),
        }

    def logp(self, y, mean, stay, s):
        transition = tf.stack([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])
        return tfd.HiddenMarkovModel(
            initial_distribution=tfd.Categorical(probs=np.full(2, 0.5)),
            transition_distribution=tfd.Categorical(probs=transition),
            observation_distribution=tfd.Normal(mean, s),
            num_steps=500,
        ).log_prob(y)


class Kalman(Density):
    """A level and its slope, 200 steps: TensorFlow Probability's LinearGaussianStateSpaceModel."""

    start = {"level": np.array(0.5), "slope": np.array(0.1), "noise": np.array(1.0)}

    def __init__(self):
        random = np.random.RandomState(42)
        slope = np.cumsum(0.1 * random.normal(size=200))
        self.y = np.cumsum(slope + 0.5 * random.normal(size=200)) + random.normal(size=200)

    def priors(self):
        return {name: pm.HalfNormal(name, 1) for name in self.start}

    def logp(self, y, level, slope, noise):
        return tfd.LinearGaussianStateSpaceModel(
            num_timesteps=200,
            transition_matrix=np.array([[1.0, 1.0], [0.0, 1.0]]),
            transition_noise=tfd.MultivariateNormalDiag(scale_diag=tf.stack([level, slope])),
            observation_matrix=np.array([[1.0, 0.0]]),
            observation_noise=tfd.MultivariateNormalDiag(scale_diag=noise[None]),
            initial_state_prior=tfd.MultivariateNormalDiag(scale_diag=np.array([5.0, 1.0])),
        ).log_prob(y[:, None])


class Kepler(Density):
    """The orbit of a planet, with the op in C++ of docs/custom_ops.md, which XLA cannot compile."""

    jit_compile = False

    def __init__(self):
        spec = importlib.util.spec_from_file_location("kepler", EXAMPLES / "kepler.py")
        self.kepler = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.kepler)
        with tempfile.TemporaryDirectory() as folder:
            self.op = self.kepler.load(self.kepler.build(folder))
        self.t, self.y = self.kepler.simulate(self.op)
        self.start = {name: np.array(value) for name, value in self.kepler.TRUTH.items()}
        # Where chains begin: other angles are another mode.
        self.at = {name: self.kepler.TRUTH[name] for name in ("omega", "phase")}

    def declare(self):
        self.kepler.model(self.op, self.t, self.y)

    def logp(self, y, **elements):
        velocity = self.kepler.radial_velocity(self.op, tf.constant(self.t), **elements)
        return log_normal(y, velocity, tf.constant(16.0, y.dtype))


class GaussianProcess(sampling_models.GaussianProcess):
    """PyMC3's own latent Gaussian process: there is nothing to write in TensorFlow."""

    declare = sampling_models.GaussianProcess.plain


MODELS = {
    "ar": Autoregression,
    "garch": Garch,
    "lotka_volterra": LotkaVolterra,
    "dormand_prince": DormandPrince,
    "hidden_markov": HiddenMarkov,
    "kalman": Kalman,
    "kepler": Kepler,
    "gaussian_process": GaussianProcess,
    "gaussian_process_500": lambda: GaussianProcess(500),
}
