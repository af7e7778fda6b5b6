"""Seeded draws of small models, by both samplers, for `drift.py` and its test."""

import numpy as np
import pymc3 as pm
import tensorflow as tf
from support import QUIET, tf_normal

import pymc3_tf

RANDOM = np.random.RandomState(5)
X = np.linspace(-1.0, 1.0, 20)
Y = 0.5 + 2.0 * X + 0.3 * RANDOM.normal(size=20)
COUNTS = RANDOM.poisson(np.exp(1.0 + np.sin(3.0 * X))).astype(float)
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def line():
    """A line, with an unknown width of the scatter around it."""
    params = {
        "m": pm.Normal("m", 0.0, 5.0),
        "b": pm.Normal("b", 0.0, 5.0),
        "s": pm.HalfNormal("s", 1.0),
    }
    pm.TFDensity("y", lambda y, m, b, s: tf_normal(y, m * X + b, s), params, observed=Y)


def schools():
    """Eight schools, non-centred."""
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    theta = mu + tau * pm.Normal("eta", 0.0, 1.0, shape=8)
    pm.TFDensity("y", lambda y, t: tf_normal(y, t, ERRORS), {"t": theta}, observed=EFFECTS)


def mixture():
    """A line, some points of which belong to something else."""

    def logp(y, m, share):
        line = tf.math.log1p(-share) + tf_normal(y, m * X, np.float64(0.5))
        other = tf.math.log(share) + tf_normal(y, 0.0, np.float64(3.0))
        return tf.reduce_logsumexp(tf.stack([line, other]), axis=0)

    params = {"m": pm.Normal("m", 0.0, 5.0), "share": pm.Uniform("share", 0.0, 1.0)}
    pm.TFDensity("y", logp, params, observed=Y)


def scan():
    """Each value depends on the one before it."""

    def logp(y, a, s):
        means = tf.scan(lambda mean, value: 0.5 * mean + a * value, y[:-1], tf.zeros_like(a))
        return tf.reduce_sum(tf_normal(y[1:], means, s))

    params = {"a": pm.Normal("a", 0.0, 1.0), "s": pm.HalfNormal("s", 1.0)}
    pm.TFDensity("y", logp, params, observed=Y)


def process():
    """Counts, the logarithm of whose rate is a Gaussian process."""
    distances = np.subtract.outer(X, X) ** 2

    def logp(y, length, white):
        covariance = tf.exp(-0.5 * distances / length**2) + 1e-6 * np.eye(len(X))
        rate = tf.linalg.matvec(tf.linalg.cholesky(covariance), white)
        return y * rate - tf.exp(rate)

    params = {"length": pm.Gamma("length", 4.0, 8.0), "white": pm.Normal("white", shape=len(X))}
    pm.TFDensity("y", logp, params, observed=COUNTS)


MODELS = {
    "line": line,
    "eight schools": schools,
    "mixture": mixture,
    "scan": scan,
    "Gaussian process": process,
}


def by_pm_sample(model, number):
    """Return the first draws of a chain of pm.sample, on the unconstrained scale."""
    with model:
        step = pm.NUTS(max_treedepth=5)
        trace = pm.sample(
            draws=1, tune=number, step=step, start=model.test_point, chains=1, cores=1,
            random_seed=1, discard_tuned_samples=False, return_inferencedata=False, **QUIET,
        )  # fmt: skip
    return np.stack([model.dict_to_array(trace.point(i)) for i in range(number)])


def by_sample(model, number):
    """Return the first draws of two chains of pymc3_tf.sample, on the unconstrained scale."""
    found = pymc3_tf.sample(
        draws=1, tune=200, chains=2, cores=1, max_treedepth=5, init="adapt_diag_grad",
        random_seed=1, model=model, discard_tuned_samples=False, keep_untransformed=True, **QUIET,
    ).warmup_posterior  # fmt: skip
    names = [variable.name for variable in model.vars]
    return np.concatenate(
        [found[name].values[:, :number].reshape(2, number, -1) for name in names], axis=-1
    )


SAMPLERS = {"pm.sample": by_pm_sample, "pymc3_tf.sample": by_sample}
# How many of the first draws are compared.
# Where `pymc3_tf.sample` first learns from draws, rounding can decide between trajectories.
NUMBERS = {"pm.sample": 20, "pymc3_tf.sample": 12}
BOUND = 1e-6
CASES = [(model, sampler) for model in MODELS for sampler in SAMPLERS]


def label(model, sampler):
    """Return the name under which draws are kept."""
    return f"{model}, {sampler}"


def draws(name, sampler):
    """Return the first draws of a model by a sampler."""
    with pm.Model() as model:
        MODELS[name]()
    return SAMPLERS[sampler](model, 20)[..., : NUMBERS[sampler], :]


def difference(found, kept):
    """Return the largest difference, relative to the largest number of each variable."""
    found, kept = (np.asarray(a).reshape(-1, np.shape(a)[-1]) for a in (found, kept))
    scale = np.abs(kept).max(axis=0)  # zero where a chain has not left its start
    return float((np.abs(found - kept) / np.where(scale > 0, scale, 1)).max())
