"""Seven distributions of PyMC3, written again as TensorFlow log densities."""

from typing import Any, Callable, Dict, NamedTuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
from pymc3.distributions import transforms

# The tests of numbers run in float64, and once more in a process whose Theano is float32.
FLOATX = theano.config.floatX
RTOL = {"float64": 1e-10, "float32": 1e-5}[FLOATX]


def normal(value, mu, sigma):
    return -0.5 * tf.square((value - mu) / sigma) - tf.math.log(sigma) - 0.5 * np.log(2 * np.pi)


def half_normal(value, sigma):
    logp = 0.5 * np.log(2 / np.pi) - tf.math.log(sigma) - 0.5 * tf.square(value / sigma)
    return inside(value >= 0, logp)


def student_t(value, nu, mu, sigma):
    kernel = tf.math.log1p(tf.square((value - mu) / sigma) / nu)
    normalization = tf.math.lgamma((nu + 1) / 2) - tf.math.lgamma(nu / 2)
    return normalization - 0.5 * tf.math.log(np.pi * nu * sigma**2) - (nu + 1) / 2 * kernel


def gamma(value, alpha, beta):
    normalization = alpha * tf.math.log(beta) - tf.math.lgamma(alpha)
    return inside(value >= 0, normalization + (alpha - 1) * tf.math.log(value) - beta * value)


def beta(value, alpha, beta):
    normalization = tf.math.lgamma(alpha + beta) - tf.math.lgamma(alpha) - tf.math.lgamma(beta)
    kernel = (alpha - 1) * tf.math.log(value) + (beta - 1) * tf.math.log1p(-value)
    return inside((value >= 0) & (value <= 1), normalization + kernel)


def mv_normal(value, mu, cov):
    """One number for each row of the value, or a scalar for a vector."""
    difference = value - mu
    rows = tf.reshape(difference, [-1, tf.shape(cov)[0]])
    cholesky = tf.linalg.cholesky(cov)
    z = tf.linalg.triangular_solve(cholesky, tf.transpose(rows))
    log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(cholesky)))
    constant = 0.5 * np.log(2 * np.pi) * tf.cast(tf.shape(cov)[0], cov.dtype)
    logp = -0.5 * tf.reduce_sum(tf.square(z), axis=0) - log_determinant - constant
    return tf.reshape(logp, tf.shape(difference)[:-1])


def dirichlet(value, a):
    """One number for each row of the value, or a scalar for a vector."""
    normalization = tf.math.lgamma(tf.reduce_sum(a, -1)) - tf.reduce_sum(tf.math.lgamma(a), -1)
    return normalization + tf.reduce_sum((a - 1) * tf.math.log(value), -1)


def inside(support, logp):
    """Return the log density, and minus infinity outside of its support."""
    return tf.where(support, logp, tf.constant(-np.inf, logp.dtype))


class Twin(NamedTuple):
    """A built-in distribution and the TensorFlow log density that it has."""

    builtin: Any
    logp: Callable[..., Any]
    params: Dict[str, Any]  # an example
    transform: Any = None  # the built-in's own
    shape: Any = ()

    @property
    def event(self):
        """Number of dimensions over which the log density is joint."""
        return len(self.shape)

    def declare(self, name, ours, params=None, transform="own", **kwargs):
        """Declare a variable, as a TFDensity or as the built-in, with the built-in's transform."""
        params = floats({**self.params, **(params or {})})
        if transform == "own":
            transform = self.transform
        kwargs.setdefault("shape", self.shape)
        if kwargs.get("observed") is not None or "dims" in kwargs:
            del kwargs["shape"]
        if ours:
            return pm.TFDensity(name, self.logp, params, transform=transform, **kwargs)
        if "observed" not in kwargs:
            kwargs["transform"] = transform
        return self.builtin(name, **params, **kwargs)


def floats(params):
    """Cast numbers to floatX, as the built-in distributions do."""
    return {
        k: v if isinstance(v, theano.graph.basic.Variable) else np.asarray(v, FLOATX)
        for k, v in params.items()
    }


def both(build):
    """Build a model with our densities, and with the built-ins."""
    models = []
    for ours in (True, False):
        with pm.Model() as model:
            build(ours)
        models.append(model)
    return models


def draw(model, step, draws=20, start=None, chains=1, **kwargs):
    """Draw from a model without adaptation, which would let rounding errors grow."""
    with model:
        if step in (pm.NUTS, pm.HamiltonianMC):
            kwargs.setdefault("adapt_step_size", False)
        return pm.sample(
            draws,
            tune=0,
            chains=chains,
            cores=1,
            step=step(**kwargs),
            start=start or model.test_point,
            random_seed=4,
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
        )


COVARIANCE = np.array([[1.0, 0.6, 0.1], [0.6, 2.0, -0.3], [0.1, -0.3, 0.5]])
TWINS = {
    "Normal": Twin(pm.Normal, normal, {"mu": 0.5, "sigma": 2.0}),
    "HalfNormal": Twin(pm.HalfNormal, half_normal, {"sigma": 1.5}, transforms.log),
    "StudentT": Twin(pm.StudentT, student_t, {"nu": 4.0, "mu": 0.5, "sigma": 2.0}),
    "Gamma": Twin(pm.Gamma, gamma, {"alpha": 2.5, "beta": 1.5}, transforms.log),
    "Beta": Twin(pm.Beta, beta, {"alpha": 2.0, "beta": 3.0}, transforms.logodds),
    "MvNormal": Twin(
        pm.MvNormal, mv_normal, {"mu": np.array([0.1, -0.2, 0.3]), "cov": COVARIANCE}, shape=(3,)
    ),
    "Dirichlet": Twin(
        pm.Dirichlet, dirichlet, {"a": np.array([1.5, 2.0, 0.8])}, transforms.stick_breaking, (3,)
    ),
}
