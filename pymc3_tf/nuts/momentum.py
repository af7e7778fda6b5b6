"""Momenta of a trajectory, for a metric that is diagonal or dense."""

from __future__ import annotations

from typing import Any, List, Sequence

import tensorflow as tf


class Momentum:
    """Momenta for a metric that is given by a factor of the covariance of the positions.

    TensorFlow Probability's own distributions do the same; without their constants the energy is
    the one that PyMC3 and Stan report, and without their layers a program compiles faster.
    """

    dtype = [tf.float64]

    def __init__(self, factor: tf.Tensor, batch: Sequence[int], dense: bool) -> None:
        self.factor = factor
        self.shape = [*batch, factor.shape[-1]]
        self.dense = dense

    def sample(self, seed: tf.Tensor) -> List[tf.Tensor]:
        """Draw momenta."""
        white = tf.random.stateless_normal(self.shape, seed, dtype=tf.float64)
        if not self.dense:
            return [white / self.factor]
        return [tf.linalg.triangular_solve(self.factor, white[..., None], adjoint=True)[..., 0]]

    def log_prob(self, momentum: Any) -> tf.Tensor:
        """Return the log density without its constants."""
        (momentum,) = tf.nest.flatten(momentum)
        if self.dense:
            white = tf.linalg.matvec(self.factor, momentum, transpose_a=True)
        else:
            white = self.factor * momentum
        return -0.5 * tf.reduce_sum(tf.square(white), axis=-1)
