"""A log density and its gradient, as ops of the program that XLA compiles."""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf


def value_and_gradient(
    logp: Callable[..., tf.Tensor], batch: bool, position: tf.Tensor, *data: tf.Tensor
) -> Any:
    """Return the log density and its gradient at a position, or at each of a batch."""

    def of_one(position: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(position)
            value = tf.reshape(tf.cast(logp(position, *data), tf.float64), [])
        return value, tape.gradient(value, position, unconnected_gradients="zero")

    if not batch:
        return of_one(position)
    # The tape is inside: what is vectorized are plain ops, without the gradients of their own that
    # functions and ops of the density may have.
    try:
        return tf.vectorized_map(of_one, position)
    except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
        # Loops of programs, and some ops, have no form for many chains: one after the other.
        return each(of_one, position)


def each(of_one: Callable[..., Any], positions: tf.Tensor, *data: tf.Tensor) -> Any:
    """Return the log density and its gradient at each position of a batch, one by one."""
    signature = tf.TensorSpec([], tf.float64), tf.TensorSpec(positions.shape[1:], tf.float64)
    return tf.map_fn(
        lambda position: tuple(of_one(position, *data)), positions, fn_output_signature=signature
    )
