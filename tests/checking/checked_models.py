"""Models to check, and how they are checked."""

import numpy as np
import pymc3 as pm
import tensorflow as tf
from support import tf_normal

import pymc3_tf

Y = np.array([0.3, -0.2, 1.5])


def check(subject):
    return pymc3_tf.check(subject, show=False, seconds=0.1)


def right_model():
    """Return a model in which nothing is wrong."""
    with pm.Model(coords={"point": list("abc")}) as model:
        mu = pm.Normal("mu", 0.0, 1.0, testval=0.4)
        params = {"mu": mu, "sigma": pm.HalfNormal("sigma", 1.0)}
        pm.TFDensity("y", tf_normal, params, feed_dict={"value": Y}, dims="point")
    return model


def model_of(logp, observed=Y, prior=None, **kwargs):
    """Return a model with one parameter, mu, and data."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, testval=0.4) if prior is None else prior()
        pm.TFDensity("y", logp, {"mu": mu}, observed=observed, **kwargs)
    return model


def unit(y, mu):
    return tf_normal(y, mu, tf.ones_like(mu))


def failing(subject, stage, *said):
    """Check what fails at a stage, and that the text has certain words in it."""
    report = check(subject)
    assert report.failure is not None and report.failure.name == stage, str(report)
    for words in said:
        assert words in report.failure.text, report.failure.text
    return report


def outcomes(report):
    return [stage.outcome for stage in report.stages]
