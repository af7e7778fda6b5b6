"""Samplers and distributions with which a TFDensity cannot draw are refused."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support import tf_normal

from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, UnsupportedOpError

tfd = tfp.distributions
X = np.linspace(0.0, 1.0, 30)
Y = np.random.RandomState(0).normal(1.0 + X, 0.7)


def test_no_sampler():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, observed=Y)
    with pytest.raises(ValueError, match="has no sampler.*random=lambda.*distribution="):
        pm.sample_prior_predictive(3, model=model)
    for sample in (pm.sample_posterior_predictive, pm.fast_sample_posterior_predictive):
        with pytest.raises(ValueError, match="has no sampler"):
            sample([{"mu": 0.0}], model=model)


@pytest.mark.parametrize(
    "random, error, text",
    [
        (3.0, DeclarationTypeError, r"random is 3.0 \(float\).*lambda mu, size"),
        (lambda mu: mu, DeclarationError, "random has to take size"),
        (
            lambda mu, scale, size: mu,
            DeclarationError,
            "random needs the argument 'scale'.*They have: mu, sigma",
        ),
        (
            lambda mu, size: np.random.normal(mu, 1.0, 7),
            DeclarationError,
            r"random drew the shape \(7,\), and the variable has shape \(30,\).*size=size",
        ),
        (
            lambda mu, size: np.random.normal(mu, -1.0, size),
            DeclarationError,
            "random failed at the test point: ValueError: scale < 0",
        ),
        (
            lambda mu, size: np.full(size, "a"),
            DeclarationTypeError,
            "random returned values of dtype <U1",
        ),
        (
            lambda mu, size, seed: tf.random.normal(size, mu, dtype=tf.float64),
            DeclarationError,
            "random uses RandomStandardNormal .*tf.random.stateless_",
        ),
    ],
)
def test_samplers_that_cannot_work(random, error, text):
    with pm.Model(), pytest.raises(error, match=text):
        params = {"mu": 0.0, "sigma": 1.0}
        pm.TFDensity("y", tf_normal, params, observed=Y, random=random)


@pytest.mark.parametrize(
    "random, error, text",
    [
        (lambda mu, size: np.random.normal(mu, 1.0, size), None, None),
        (
            lambda mu, x, y, size: mu,
            DeclarationError,
            r"random takes 3 arguments besides size \(mu, x, y\).*params in their order \(1\)"
            r".*feed_dict too \(1\)",
        ),
        ("constant", UnsupportedOpError, "random has no random op.*all draws would be the same"),
        ("shuffle", UnsupportedOpError, "random has no random op"),
        ("shuffle and noise", UnsupportedOpError, "random uses RandomShuffle .*stateless_"),
        ("other graph", DeclarationError, "which is not in the graph of random"),
        ("value", DeclarationError, "random needs the placeholder 'y', which has no value"),
        ("loop", UnsupportedOpError, "random has no random op outside of loops"),
    ],
)
def test_samplers_for_a_graph_that_cannot_work(random, error, text):
    with tf.Graph().as_default(), pm.Model():
        mu, x, y = (
            tf.compat.v1.placeholder(tf.float64, shape, name=name)
            for name, shape in (("mu", []), ("x", [2]), ("y", [2]))
        )
        noise = tf.random.normal([2], dtype=tf.float64)
        tensors = {
            "constant": mu + x,
            "shuffle": tf.random.shuffle(x),
            "shuffle and noise": tf.random.shuffle(x) + noise,
            "value": y + noise,
            "loop": tf.compat.v1.while_loop(
                lambda i, z: i < 3,
                lambda i, z: (i + 1, z + tf.random.normal([2], dtype=tf.float64)),
                [0, x],
            )[1],
        }
        random = tensors.get(random, random)
        if isinstance(random, str):
            with tf.Graph().as_default():
                random = tf.random.normal([2], dtype=tf.float64)

        def declare():
            logp = tf_normal(y, mu * x, np.float64(1.0))
            return pm.TFDensity("y", logp, {mu: 0.5}, feed_dict={x: [1.0, 2.0]}, random=random)

        if error is None:
            assert declare().distribution.random(size=3).shape == (3, 2)
        else:
            with pytest.raises(error, match=text):
                declare()


@pytest.mark.parametrize(
    "given, error, text",
    [
        ({}, DeclarationError, "TFDensity has neither logp nor distribution.*tfd.Normal"),
        (
            {"logp": tf_normal, "distribution": tfd.Normal},
            DeclarationError,
            "TFDensity has both logp and distribution",
        ),
        (
            {"distribution": lambda mu: tf.square(mu), "params": {"mu": 0.0}},
            DeclarationTypeError,
            "distribution returned .*Tensor.*tfd.Normal",
        ),
        (
            {"distribution": lambda value: tfd.Normal(value, 1.0), "params": {"value": 0.0}},
            DeclarationError,
            "distribution has an argument named 'value'.*Rename",
        ),
        (
            {"distribution": lambda mu: tfd.Normal(mu, np.float64(1)), "params": {"nu": 0.0}},
            DeclarationError,
            "'nu' is not an argument of logp. Its arguments are: value, mu",
        ),
    ],
)
def test_distributions_that_cannot_work(given, error, text):
    with pm.Model(), pytest.raises(error, match=text):
        pm.TFDensity("y", **given)
