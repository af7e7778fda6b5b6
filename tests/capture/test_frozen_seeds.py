"""A density that draws random numbers is refused, wherever their seed comes from."""

import importlib

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf

from pymc3_tf.exceptions import UnsupportedOpError

f64 = tf.float64
# TensorFlow has Keras 2 up to its version 2.15, and Keras 3 from then on.
KERAS_3 = hasattr(tf.keras, "random")
tf_keras = importlib.import_module("tf_keras") if KERAS_3 else tf.keras
X = np.linspace(0.1, 0.9, 5)[:, None]
Y = np.zeros(5)


def declare(noise, **kwargs):
    """Declare a density whose mean is multiplied by something random."""
    with pm.Model() as model:
        a = pm.Normal("a", 1.0, 1.0)
        pm.TFDensity("y", lambda y, a: -0.5 * (y - a * noise()) ** 2, {"a": a}, observed=Y)
    return model


def layers_of_keras():
    layers = tf.keras.layers
    dropout = layers.Dropout(0.5, dtype="float64")
    gaussian = layers.GaussianNoise(0.5, dtype="float64")
    network = tf.keras.Sequential([layers.Input((1,), dtype="float64"), dropout])
    functions = {}
    if KERAS_3:
        generator = tf.keras.random.SeedGenerator(1)
        functions["Keras's random functions"] = lambda: tf.keras.random.normal(
            (5,), dtype="float64", seed=generator
        )
    return {
        **functions,
        "a model": lambda: network(X, training=True)[:, 0],
        "a layer": lambda: gaussian(X, training=True)[:, 0],
        "the same layer twice": lambda: gaussian(gaussian(X, training=True), training=True)[:, 0],
        "in a tf.function": lambda: tf.function(lambda: gaussian(X, training=True))()[:, 0],
        "in a loop": lambda: tf.map_fn(
            lambda x: gaussian(x[None], training=True)[0], tf.constant(X)
        )[:, 0],
        "in a condition": lambda: tf.cond(
            tf.reduce_sum(X) > 0, lambda: gaussian(X, training=True), lambda: tf.constant(X)
        )[:, 0],
    }


def older_layers():
    layer = tf_keras.layers.Dropout(0.5, dtype="float64")
    stateful = tf_keras.layers.Dropout(0.5, dtype="float64", rng_type="stateful")
    return {
        "a layer of Keras 2": lambda: layer(X, training=True)[:, 0],
        "a stateful layer of Keras 2": lambda: stateful(X, training=True)[:, 0],
    }


def tensorflow():
    generator, seed = tf.random.Generator.from_seed(1), tf.Variable([1, 2])
    x = tf.constant(X[:, 0])
    return {
        "a generator": lambda: generator.normal([5], dtype=f64),
        "seeds of a generator": lambda: tf.random.stateless_normal(
            [5], generator.make_seeds()[:, 0], dtype=f64
        ),
        "a seed that is a variable": lambda: tf.random.stateless_normal([5], seed, dtype=f64),
        "a seed computed from one": lambda: tf.random.stateless_uniform(
            [5], tf.random.experimental.stateless_fold_in(seed, 3), dtype=f64
        ),
        "a shuffle": lambda: tf.random.experimental.stateless_shuffle(x, seed=seed),
        "a dropout": lambda: tf.nn.experimental.stateless_dropout(x, 0.5, seed=seed),
        "a gamma variable": lambda: tf.random.stateless_gamma([5], seed, 2.0 * x, dtype=f64),
        "no seed": lambda: tf.random.normal([5], dtype=f64),
    }


NOISE = {**layers_of_keras(), **older_layers(), **tensorflow()}


@pytest.mark.parametrize("name", NOISE)
def test_random_numbers_are_refused(name):
    with pytest.raises(UnsupportedOpError, match="draws random numbers.*training=False"):
        declare(NOISE[name])


def test_seed_of_a_graph_is_a_variable():
    v1 = tf.compat.v1
    for use_resource in (False, True):
        with tf.Graph().as_default(), v1.Session() as session:
            a = v1.placeholder(f64, [])
            seed = v1.Variable([1, 2], use_resource=use_resource)
            logp = -0.5 * (a - tf.random.stateless_normal([], seed, dtype=f64)) ** 2
            session.run(v1.global_variables_initializer())
            with pm.Model(), pytest.raises(UnsupportedOpError, match="draws random numbers"):
                pm.TFDensity("y", logp, {a: pm.Normal("a", 0.0, 1.0)})


def test_fixed_seed_is_the_users_own():
    noise = tf.random.stateless_normal([5], [1, 2], dtype=f64)
    model = declare(lambda: tf.random.stateless_normal([5], [1, 2], dtype=f64))
    expected = -0.5 * np.sum(noise.numpy() ** 2)
    np.testing.assert_allclose(model.y.logp({"a": 1.0}), expected)


def test_seed_may_be_data():
    def logp(y, a, seed):
        return -0.5 * (y - a * tf.random.stateless_normal([5], seed, dtype=f64)) ** 2

    seed = np.array([1, 2], np.int32)
    with pm.Model() as model:
        a = pm.Normal("a", 1.0, 1.0)
        pm.TFDensity("y", logp, {"a": a}, feed_dict={"y": Y, "seed": seed})
    noise = tf.random.stateless_normal([5], seed, dtype=f64)
    np.testing.assert_allclose(model.y.logp({"a": 1.0}), -0.5 * np.sum(noise.numpy() ** 2))


def test_layers_without_training_are_taken():
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [layers.Input((1,), dtype="float64"), layers.Dropout(0.5, dtype="float64")]
    )
    model = declare(lambda: network(X, training=False)[:, 0])
    np.testing.assert_allclose(model.y.logp({"a": 1.0}), -0.5 * np.sum(X**2))


def test_batch_normalization_in_training_is_what_keras_computes():
    layer = tf.keras.layers.BatchNormalization(dtype="float64")
    expected = layer(X, training=True).numpy()[:, 0]
    before = [weight.numpy() for weight in layer.weights]
    model = declare(lambda: layer(X, training=True)[:, 0])
    np.testing.assert_allclose(model.y.logp({"a": 1.0}), -0.5 * np.sum(expected**2))
    for weight, value in zip(layer.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_density_that_changes_a_variable_is_refused():
    counter = tf.Variable(0.0, dtype=f64)

    def after():
        counter.assign_add(1.0)
        return counter

    text = "Assign.*changes a variable.*Leave the assignment out"
    for change in (lambda: counter.assign_add(1.0), after):
        with pytest.raises(UnsupportedOpError, match=text):
            declare(change)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.placeholder(f64, [])
        variable = v1.Variable(np.float64(1.0), use_resource=False)
        logp = -0.5 * (a - v1.assign(variable, variable + 1.0)) ** 2
        session.run(v1.global_variables_initializer())
        with pm.Model(), pytest.raises(UnsupportedOpError, match=text):
            pm.TFDensity("y", logp, {a: pm.Normal("a", 0.0, 1.0)})
