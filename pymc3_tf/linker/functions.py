"""Special functions that TensorFlow lacks, or that are less exact under XLA."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pymc3_tf.linker.dispatch import Value

# Bernoulli numbers B(2), B(4), ... of the asymptotic series of the trigamma function.
_BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510]


def gamma(x: Value) -> Value:
    """Gamma function, also of negative numbers.

    ``lgamma`` is the logarithm of its absolute value; between the poles on the negative axis its
    sign alternates.
    """
    sign = tf.where(
        tf.logical_and(x < 0, tf.equal(tf.math.floormod(tf.floor(x), 2.0), 1.0)), -1.0, 1.0
    )
    return tf.cast(sign, x.dtype) * tf.exp(tf.math.lgamma(x))


def trigamma(x: Value) -> Value:
    """Second derivative of the logarithm of the gamma function.

    By recurrence up to an argument of 10 and more, and by the asymptotic series from there
    (Abramowitz and Stegun, 6.4.6 and 6.4.12); by reflection below zero (6.4.7).
    """
    x = tf.convert_to_tensor(x)
    below = x <= 0
    y = tf.where(below, 1 - x, x)
    result = tf.add_n([tf.math.reciprocal(tf.square(y + k)) for k in range(10)])
    inverse = tf.math.reciprocal(y + 10)
    square = tf.square(inverse)
    series = tf.zeros_like(x)
    for number in reversed(_BERNOULLI):
        series = (series + number) * square
    result += inverse * (1 + 0.5 * inverse + series)
    inside = tf.where(below, x, tf.constant(0.5, x.dtype))
    reflected = tf.square(np.pi / tf.sin(np.pi * inside)) - result
    return tf.where(below, reflected, result)


@tf.custom_gradient
def digamma(x: Value) -> Value:
    """First derivative of the logarithm of the gamma function."""
    return tf.math.digamma(x), lambda upstream: upstream * trigamma(x)


@tf.custom_gradient
def erfcx(x: Value) -> Value:
    """Scaled complementary error function, exp(x**2) erfc(x).

    From 10 on by its asymptotic series (Abramowitz and Stegun, 7.1.23).
    """
    x = tf.convert_to_tensor(x)
    large = x > 10
    near = tf.where(large, tf.zeros_like(x), x)
    far = tf.where(large, x, tf.fill(tf.shape(x), tf.constant(11, x.dtype)))
    half = 0.5 / tf.square(far)
    series = tf.ones_like(x)
    for k in range(21, 0, -2):
        series = 1 - k * half * series
    asymptotic = series / (far * np.sqrt(np.pi))
    y = tf.where(large, asymptotic, tf.exp(tf.square(near)) * tf.math.erfc(near))
    return y, lambda upstream: upstream * (2 * x * y - 2 / np.sqrt(np.pi))
