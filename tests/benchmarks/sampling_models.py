"""The models of the sampling benchmark in PyMC3, with the likelihood of PyMC3 or of a TFDensity.

``MODELS`` has a function for each: ``plain`` and ``density`` declare it in the model on the stack.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # noqa: F401  # isort: skip  # on Python 3.11 it has to come before PyMC3

import model_data
import numpy as np
import pymc3 as pm
import tensorflow as tf
from two_op_bridge import TwoOpBridge

v1 = tf.compat.v1


def log_normal(x, mean, variance):
    """Return the log density of a normal in TensorFlow."""
    return -0.5 * (tf.square(x - mean) / variance + tf.math.log(2 * np.pi * variance))


class Line:
    """The line of the 2018 post."""

    def __init__(self, points):
        self.x, self.y = model_data.line_data(points)

    def priors(self):
        return [pm.Uniform(name, -5, 5) for name in ("m", "b", "logs")]

    def plain(self):
        m, b, logs = self.priors()
        pm.Normal("y", mu=m * self.x + b, sigma=pm.math.exp(logs), observed=self.y)

    def density(self):
        def logp(y, m, b, logs, x):
            return log_normal(y, m * x + b, tf.exp(2 * logs))

        params = dict(zip(("m", "b", "logs"), self.priors()))
        pm.TFDensity("y", logp, params=params, feed_dict={"x": self.x, "y": self.y})

    def bridge(self):
        """Declare the likelihood as two ops that each run a session."""
        with tf.Graph().as_default():
            inputs = [v1.placeholder(tf.float64, [], name) for name in ("m", "b", "logs")]
            m, b, logs = inputs
            mean = m * tf.constant(self.x) + b
            logp = tf.reduce_sum(log_normal(tf.constant(self.y), mean, tf.exp(2 * logs)))
            op = TwoOpBridge(v1.Session(), inputs, logp)
            pm.Potential("loglike", op(*self.priors()))


class Schools:
    """Eight schools, non-centred."""

    def __init__(self):
        self.y, self.sigma = model_data.schools()

    def effects(self):
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        eta = pm.Normal("eta", 0, 1, shape=8)
        return pm.Deterministic("theta", mu + tau * eta)

    def plain(self):
        pm.Normal("y", self.effects(), self.sigma, observed=self.y)

    def density(self):
        pm.TFDensity(
            "y",
            lambda y, theta, sigma: log_normal(y, theta, tf.square(sigma)),
            {"theta": self.effects()},
            feed_dict={"y": self.y, "sigma": self.sigma},
        )


class Correlated:
    """A normal of 20 dimensions, neighbours among which are correlated."""

    def __init__(self):
        self.covariance = model_data.correlated()

    def plain(self):
        size = len(self.covariance)
        pm.MvNormal("x", np.zeros(size), chol=np.linalg.cholesky(self.covariance), shape=size)

    def density(self):
        def logp(x, precision):
            return -0.5 * tf.reduce_sum(x * tf.linalg.matvec(precision, x))

        feed = {"precision": np.linalg.inv(self.covariance)}
        pm.TFDensity("x", logp, feed_dict=feed, shape=len(self.covariance))


class Logistic:
    """Logistic regression."""

    def __init__(self):
        self.x, self.y = model_data.logistic()

    def coefficients(self):
        return pm.Normal("beta", 0, 2.5, shape=self.x.shape[1])

    def plain(self):
        pm.Bernoulli("y", logit_p=pm.math.dot(self.x, self.coefficients()), observed=self.y)

    def density(self):
        def logp(y, beta, x):
            return -tf.nn.sigmoid_cross_entropy_with_logits(y, tf.linalg.matvec(x, beta))

        pm.TFDensity("y", logp, {"beta": self.coefficients()}, feed_dict={"x": self.x, "y": self.y})


class Factors:
    """Linear regression with predictors that share a few factors."""

    def __init__(self):
        self.x, self.y = model_data.factors()

    def parameters(self):
        return pm.Normal("beta", 0, 1, shape=self.x.shape[1]), pm.HalfNormal("sigma", 1)

    def plain(self):
        beta, sigma = self.parameters()
        pm.Normal("y", pm.math.dot(self.x, beta), sigma, observed=self.y)

    def density(self):
        def logp(y, beta, sigma, x):
            return log_normal(y, tf.linalg.matvec(x, beta), tf.square(sigma))

        params = dict(zip(("beta", "sigma"), self.parameters()))
        pm.TFDensity("y", logp, params, feed_dict={"x": self.x, "y": self.y})


class GaussianProcess:
    """Counts, the logarithm of whose rate is a Gaussian process."""

    def __init__(self, points=100):
        self.x, self.y = model_data.counts(points)

    def log_rate(self):
        ell = pm.Gamma("ell", 4, 2)
        height = pm.HalfNormal("height", 1)
        covariance = height**2 * pm.gp.cov.ExpQuad(1, ell)
        return pm.gp.Latent(cov_func=covariance).prior("f", self.x[:, None])

    def plain(self):
        pm.Poisson("y", pm.math.exp(self.log_rate()), observed=self.y)

    def density(self):
        def logp(y, f):
            return y * f - tf.exp(f) - tf.math.lgamma(y + 1)

        pm.TFDensity("y", logp, {"f": self.log_rate()}, feed_dict={"y": self.y})


class Outliers:
    """A line with outliers: docs/examples/robust_line.py."""

    def __init__(self):
        self.x, self.y, self.sigma_y = model_data.outliers()

    def parameters(self):
        m = pm.Normal("m", 0, 10)
        height = pm.Normal("height", 400, 200)
        P_b = pm.Uniform("P_b", 0, 1)
        Y_b = pm.Normal("Y_b", 400, 200)
        ln_V_b = pm.Normal("ln_V_b", 9, 2)
        return m, height - m * self.x.mean(), P_b, Y_b, pm.math.exp(ln_V_b)

    def plain(self):
        m, b, P_b, Y_b, V_b = self.parameters()
        foreground = pm.Normal.dist(m * self.x + b, self.sigma_y)
        background = pm.Normal.dist(Y_b + 0 * self.x, pm.math.sqrt(V_b + self.sigma_y**2))
        weights = pm.math.stack([1 - P_b, P_b])
        pm.Mixture("y", weights, [foreground, background], observed=self.y)

    def density(self):
        def logp(y, m, b, P_b, Y_b, V_b, x, sigma_y):
            variance = tf.square(sigma_y)
            foreground = tf.math.log1p(-P_b) + log_normal(y, m * x + b, variance)
            background = tf.math.log(P_b) + log_normal(y, Y_b, V_b + variance)
            return tf.reduce_logsumexp(tf.stack([foreground, background]), axis=0)

        params = dict(zip(("m", "b", "P_b", "Y_b", "V_b"), self.parameters()))
        feed = {"x": self.x, "y": self.y, "sigma_y": self.sigma_y}
        pm.TFDensity("y", logp, params, feed_dict=feed)


MODELS = {
    "line_50": lambda: Line(50),
    "line_1e5": lambda: Line(100_000),
    "schools": Schools,
    "correlated": Correlated,
    "logistic": Logistic,
    "gaussian_process": GaussianProcess,
    "outliers": Outliers,
}
# Of hundreds of parameters, for the benchmark of the warmup.
LARGE_MODELS = {"factors": Factors}
