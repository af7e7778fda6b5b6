"""The models of the sampling benchmark as one would write them for TensorFlow Probability alone.

Each has ``size``, ``logp(q)`` of unconstrained parameters of shape (..., size), Jacobian terms of
the transforms included, and ``values(q)``: the parameters by name.
"""

import quiet  # noqa: F401  # isort: skip

import model_data
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd, tfb = tfp.distributions, tfp.bijectors
log_sigmoid, total = tf.math.log_sigmoid, tf.reduce_sum


def constant(array):
    return tf.constant(array, tf.float64)


class Line:
    size = 3

    def __init__(self, points):
        self.x, self.y = map(constant, model_data.line_data(points))

    def logp(self, q):
        m, b, logs = (p[..., None] for p in tf.unstack(-5 + 10 * tf.sigmoid(q), axis=-1))
        jacobian = total(log_sigmoid(q) + log_sigmoid(-q), axis=-1)
        residuals = (self.y - m * self.x - b) * tf.exp(-logs)
        return jacobian + total(-0.5 * tf.square(residuals) - logs, axis=-1)

    def values(self, q):
        return dict(zip(("m", "b", "logs"), np.moveaxis(-5 + 10 / (1 + np.exp(-q)), -1, 0)))


class Schools:
    size = 10

    def __init__(self):
        self.y, self.sigma = map(constant, model_data.schools())

    def logp(self, q):
        mu, log_tau, eta = q[..., 0], q[..., 1], q[..., 2:]
        tau = tf.exp(log_tau)
        prior = -0.5 * tf.square(mu / 5) - tf.math.log1p(tf.square(tau / 5)) + log_tau
        theta = mu[..., None] + tau[..., None] * eta
        chi2 = tf.square(eta) + tf.square((self.y - theta) / self.sigma)
        return prior - 0.5 * total(chi2, axis=-1)

    def values(self, q):
        return {"mu": q[..., 0], "tau": np.exp(q[..., 1]), "eta": q[..., 2:]}


class Correlated:
    def __init__(self):
        covariance = model_data.correlated()
        self.size = len(covariance)
        self.precision = constant(np.linalg.inv(covariance))

    def logp(self, q):
        return -0.5 * total(q * tf.linalg.matvec(self.precision, q), axis=-1)

    def values(self, q):
        return {"x": q}


class Logistic:
    def __init__(self):
        x, y = model_data.logistic()
        self.size = x.shape[1]
        self.x, self.y = constant(x), constant(y)

    def logp(self, q):
        prior = -0.5 * total(tf.square(q / 2.5), axis=-1)
        rows = tf.reshape(q, [-1, self.size])
        logits = tf.matmul(rows, self.x, transpose_b=True)
        likelihood = total(self.y * logits - tf.math.softplus(logits), axis=-1)
        return prior + tf.reshape(likelihood, tf.shape(q)[:-1])

    def values(self, q):
        return {"beta": q}


class GaussianProcess:
    def __init__(self):
        x, y = model_data.counts()
        self.size = len(x) + 2
        self.squares = constant(np.subtract.outer(x, x) ** 2)
        self.jitter, self.y = constant(1e-6 * np.eye(len(x))), constant(y)

    def logp(self, q):
        log_ell, log_height, white = q[..., 0], q[..., 1], q[..., 2:]
        ell, height = (tf.exp(p)[..., None, None] for p in (log_ell, log_height))
        prior = 4 * log_ell - 2 * tf.exp(log_ell)
        prior += log_height - 0.5 * tf.exp(2 * log_height)
        prior -= 0.5 * total(tf.square(white), axis=-1)
        covariance = tf.square(height) * tf.exp(-0.5 * self.squares / tf.square(ell))
        f = tf.linalg.matvec(tf.linalg.cholesky(covariance + self.jitter), white)
        return prior + total(self.y * f - tf.exp(f), axis=-1)

    def values(self, q):
        return {"ell": np.exp(q[..., 0]), "height": np.exp(q[..., 1]), "f_rotated_": q[..., 2:]}


class Outliers:
    size = 5

    def __init__(self):
        x, y, sigma_y = model_data.outliers()
        self.x, self.y, self.variance = map(constant, (x - x.mean(), y, sigma_y**2))

    def logp(self, q):
        m, height, u, Y_b, ln_V_b = (p[..., None] for p in tf.unstack(q, axis=-1))
        normal = tf.square(m / 10) + tf.square((height - 400) / 200)
        normal += tf.square((Y_b - 400) / 200) + tf.square((ln_V_b - 9) / 2)
        prior = log_sigmoid(u) + log_sigmoid(-u) - 0.5 * normal
        variance = tf.exp(ln_V_b) + self.variance
        inlier = tf.square(self.y - m * self.x - height) / self.variance
        outlier = tf.square(self.y - Y_b) / variance
        likelihood = tf.math.reduce_logsumexp(
            tf.stack(
                [
                    log_sigmoid(-u) - 0.5 * (inlier + tf.math.log(self.variance)),
                    log_sigmoid(u) - 0.5 * (outlier + tf.math.log(variance)),
                ]
            ),
            axis=0,
        )
        return prior[..., 0] + total(likelihood, axis=-1)

    def values(self, q):
        values = dict(zip(("m", "height", "P_b", "Y_b", "ln_V_b"), np.moveaxis(q, -1, 0)))
        return {**values, "P_b": 1 / (1 + np.exp(-values["P_b"]))}


MODELS = {
    "line_50": lambda: Line(50),
    "line_1e5": lambda: Line(100_000),
    "schools": Schools,
    "correlated": Correlated,
    "logistic": Logistic,
    "gaussian_process": GaussianProcess,
    "outliers": Outliers,
}


# -- as joint distributions -------------------------------------------------------------------


def line_distribution():
    """Return the line with 50 points, and what is observed."""
    x, y = map(constant, model_data.line_data(50))
    low, high = constant(-5), constant(5)

    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        m = yield tfd.Uniform(low, high, name="m")
        b = yield tfd.Uniform(low, high, name="b")
        logs = yield tfd.Uniform(low, high, name="logs")
        yield tfd.Normal(m * x + b, tf.exp(logs), name="y")

    return model, y


def schools_distribution():
    """Return eight schools, and what is observed."""
    y, sigma = map(constant, model_data.schools())

    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        mu = yield tfd.Normal(constant(0), constant(5), name="mu")
        tau = yield tfd.HalfCauchy(constant(0), constant(5), name="tau")
        eta = yield tfd.Sample(tfd.Normal(constant(0), constant(1)), 8, name="eta")
        yield tfd.Normal(mu + tau * eta, sigma, name="y")

    return model, y


JOINT_DISTRIBUTIONS = {"line_50": line_distribution, "schools": schools_distribution}
