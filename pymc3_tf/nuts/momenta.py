"""The normal distributions of momenta: one for each form that a metric can have.

TensorFlow Probability's own distributions do the same; without their constants the energy is the
one that PyMC3 and Stan report, and without their layers a program compiles faster.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple, Type

import tensorflow as tf

from pymc3_tf.nuts import randomness
from pymc3_tf.nuts.low_rank import rank


class Diagonal:
    """Momenta for uncorrelated positions.

    Parameters
    ----------
    factor : tf.Tensor, shape (..., n)
        Standard deviations of the positions.
    """

    dtype = [tf.float64]

    def __init__(self, factor: tf.Tensor) -> None:
        self.factor = factor

    def sample(self, seed: tf.Tensor) -> List[tf.Tensor]:
        """Draw a momentum."""
        shape = self.factor.shape[: self.factor.shape.rank - self._further_axes]
        return [self._colored(randomness.normal(shape, seed))]

    def log_prob(self, momentum: Any) -> tf.Tensor:
        """Return the log density of a momentum but for a constant: minus its kinetic energy."""
        (momentum,) = tf.nest.flatten(momentum)
        return -0.5 * self._square(momentum)

    _further_axes = 0  # of the factor, after those of a position

    def _colored(self, white: tf.Tensor) -> tf.Tensor:
        return white / self.factor

    def _square(self, momentum: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(self.factor * momentum), axis=-1)


class Dense(Diagonal):
    """Momenta for any covariance of the positions.

    Parameters
    ----------
    factor : tf.Tensor, shape (..., n, n)
        Its lower Cholesky factor.
    """

    _further_axes = 1

    def _colored(self, white: tf.Tensor) -> tf.Tensor:
        return tf.linalg.triangular_solve(self.factor, white[..., None], adjoint=True)[..., 0]

    def _square(self, momentum: tf.Tensor) -> tf.Tensor:
        white = tf.linalg.matvec(self.factor, momentum, transpose_a=True)
        return tf.reduce_sum(tf.square(white), axis=-1)


class LowRank(Diagonal):
    """Momenta for positions that are correlated along some directions.

    Parameters
    ----------
    factor : tf.Tensor, shape (..., n, 1 + rank)
        As ``low_rank.pack`` returns it.
    """

    _further_axes = 1

    def __init__(self, factor: tf.Tensor) -> None:
        super().__init__(factor)
        self._deviations, along = factor[..., 0], factor[..., 1:]
        length = tf.linalg.norm(along, axis=-2)
        # A direction that is not used is zero. Nothing is special along it.
        self._stretch = tf.where(length > 0, length, 1)
        self._directions = along / self._stretch[..., None, :]

    def _colored(self, white: tf.Tensor) -> tf.Tensor:
        change = (1 / self._stretch - 1) * self._along(white)
        return (white + tf.linalg.matvec(self._directions, change)) / self._deviations

    def _square(self, momentum: tf.Tensor) -> tf.Tensor:
        scaled = self._deviations * momentum
        more = (tf.square(self._stretch) - 1) * tf.square(self._along(scaled))
        return tf.reduce_sum(tf.square(scaled), axis=-1) + tf.reduce_sum(more, axis=-1)

    def _along(self, vector: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(self._directions, vector, transpose_a=True)


METRICS: Dict[str, Type[Diagonal]] = {"diagonal": Diagonal, "low_rank": LowRank, "dense": Dense}


def factor_shape(metric: str, size: int) -> Tuple[int, ...]:
    """Return the shape of the factor of a metric for positions of some size."""
    return {"diagonal": (size,), "low_rank": (size, 1 + rank(size)), "dense": (size, size)}[metric]
