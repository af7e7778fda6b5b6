"""A metric that is diagonal but for some directions, learnt from draws and gradients.

The form, and what makes it best, are those of Seyboldt, Carlson and Carpenter, "Preconditioning
Hamiltonian Monte Carlo by minimizing Fisher Divergence", arXiv:2603.18845 (2026). Nothing here
needs more than NumPy.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from pymc3_tf.nuts.adaptation import GradientAdaptation

_log = logging.getLogger("pymc3")

# Directions at most: a leapfrog step takes two products with so many vectors.
_RANK = 32
# Draws of all chains for each direction that is looked at, and how many there have to be.
_DRAWS_PER_DIRECTION, _LEAST_DRAWS = 4, 50
# Draws of all chains that are looked at: more say no more, and take longer.
_MOST_DRAWS = 1000
# Along a direction that is used, the variance is larger or smaller by this factor.
_CUTOFF = 2.0
# Added to variances, in units of what they should be.
_RIDGE = 1e-5
# Chains where gradients are so much larger than in most of them are on their way.
_FAR = 10
_PROBES = 64


def rank(size: int) -> int:
    """Return the number of directions for positions of some size."""
    return min(size, _RANK)


def pack(deviations: np.ndarray, directions: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the factor of a metric, for as many directions as there can be.

    Parameters
    ----------
    deviations : array, shape (n,)
        By these, positions are scaled.
    directions : array, shape (n, k)
        Orthogonal vectors of length one, for scaled positions.
    along : array, shape (k,)
        Standard deviations of scaled positions along them; across them, it is one.

    Returns
    -------
    array, shape (n, 1 + rank)
        Deviations, and each direction times the deviation along it; zeros for directions that are
        not used.

    Examples
    --------
    >>> pack(np.array([1.0, 2.0]), np.array([[0.0], [1.0]]), np.array([3.0])).tolist()
    [[1.0, 0.0, 0.0], [2.0, 3.0, 0.0]]
    """
    factor = np.zeros([len(deviations), 1 + rank(len(deviations))])
    factor[:, 0] = deviations
    factor[:, 1 : 1 + len(along)] = directions * along
    return factor


def directions_of(draws: np.ndarray, gradients: np.ndarray) -> Tuple[float, np.ndarray, np.ndarray]:
    """Find directions along which scaled draws vary much more or less than across them.

    Parameters
    ----------
    draws, gradients : array, shape (draws, n)
        With a mean of zero.

    Returns
    -------
    across : float
        Standard deviation of what remains without these directions.
    directions : array, shape (n, k)
    along : array, shape (k,)
        Standard deviations along the directions, as parts of this.

    Notes
    -----
    Draws vary most along the largest eigenvectors of the covariance, gradients along the smallest.
    In the space of the first few of both, the Fisher divergence is least for the matrix that
    turns the covariance of gradients into that of draws, the geometric mean of the one and the
    inverse of the other. For a normal it is exact as soon as there are more draws than dimensions.
    """
    number, size = draws.shape
    # With enough draws, all directions are looked at; there are some hundreds then.
    basis = np.eye(size)
    if 2 * size > min(number, _MOST_DRAWS):
        some = min(rank(size), number // _DRAWS_PER_DIRECTION)
        leading = [np.linalg.svd(a, full_matrices=False)[2][:some] for a in (draws, gradients)]
        basis = np.linalg.qr(np.concatenate(leading).T)[0]
    of_draws, of_gradients = (_covariance(rows @ basis) for rows in (draws, gradients))
    root, inverse = _powers(of_gradients, 0.5, -0.5)
    (middle,) = _powers(root @ of_draws @ root, 0.5)
    variances, vectors = np.linalg.eigh(inverse @ middle @ inverse)
    # A few directions that are unlike all others have a share in the scale of every element.
    level = np.median(variances)
    if len(variances) < size:
        rests = [rows - rows @ basis @ basis.T for rows in (draws, gradients)]
        level = np.linalg.norm(rests[0]) / np.linalg.norm(rests[1])
    variances = variances / level
    strength = np.abs(np.log(variances))
    used = np.argsort(-strength)[: rank(size)]
    used = used[strength[used] > np.log(_CUTOFF)]
    return np.sqrt(level), basis @ vectors[:, used], np.sqrt(variances[used])


def _covariance(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows / len(rows) + _RIDGE * np.eye(rows.shape[1])


def _powers(matrix: np.ndarray, *exponents: float) -> Any:
    values, vectors = np.linalg.eigh(matrix)
    return [(vectors * values**exponent) @ vectors.T for exponent in exponents]


class Factor(NamedTuple):
    """A metric: what ``pack`` takes."""

    deviations: np.ndarray
    directions: np.ndarray
    along: np.ndarray

    def stretched(self, columns: np.ndarray, exponent: int) -> np.ndarray:
        """Return columns times a power of what the deviations along directions are."""
        change = (self.along**exponent - 1)[:, None] * (self.directions.T @ columns)
        return columns + self.directions @ change

    def seen_by(self, other: Factor, columns: np.ndarray) -> np.ndarray:
        """Return columns times the precision of a normal of this metric, scaled by another one."""
        scale = (other.deviations / self.deviations)[:, None]
        inner = self.stretched(scale * other.stretched(columns, 1), -2)
        return other.stretched(scale * inner, 1)


class LowRankAdaptation(GradientAdaptation):
    """A diagonal metric and some directions, from draws and gradients of all chains together.

    The deviations minimize the Fisher divergence, as the directions do. These are learnt as soon as
    chains learn together and there are enough draws; until then the metric is diagonal.
    """

    def __init__(self, gradients: np.ndarray, tune: int, **settings: Any) -> None:
        super().__init__(gradients, tune, **settings)
        self._shared: Optional[Factor] = None
        self._probes = np.random.RandomState(0).choice([-1.0, 1.0], (gradients.shape[1], _PROBES))

    def _metric(self) -> np.ndarray:
        if self._shared:
            one = pack(*self._shared)
            return np.broadcast_to(one, (len(self._factor), *one.shape))
        if 0 < self._tune == self._made:
            _log.warning(
                "The warmup was too short for a low rank mass matrix, and made a diagonal one. "
                "Give a larger tune, or init='jitter+adapt_diag_grad'."
            )
        return np.stack([pack(*_diagonal(deviations)) for deviations in self._factor])

    def _learn_metric(self) -> float:
        new = self._learn_shared() if self._together else None
        if new is None:
            return super()._learn_metric() if self._shared is None else np.inf
        # How a normal of the new metric looks in the old one, and what that says of the step size.
        seen = new.seen_by(self._shared or _diagonal(self._factor[0]), self._probes)
        self._log_step = self._log_step + np.log(np.mean(seen**2)) / 4
        self._factor = np.broadcast_to(new.deviations, self._factor.shape)
        self._shared = new
        return float(np.sqrt(np.mean((seen - self._probes) ** 2)) / 2)

    def _learn_shared(self) -> Optional[Factor]:
        """Return a metric for all chains, if there is one."""
        deviations = np.exp(self._log_deviations()[0])
        draws, gradients = self._window("positions"), self._window("gradients")
        with np.errstate(all="ignore"):
            draws = (draws - draws.mean(axis=0)) / deviations
            gradients = (gradients - gradients.mean(axis=0)) * deviations
            # A chain that is on its way would be all that is seen.
            size = np.mean(gradients**2, axis=(0, 2))
            near = size <= _FAR * np.median(size)
            draws, gradients = (_rows(array[:, near]) for array in (draws, gradients))
            if len(draws) < _LEAST_DRAWS:
                return None
            try:
                across, *directions = directions_of(draws, gradients)
            except np.linalg.LinAlgError:  # not finite
                return None
            new = Factor(across * deviations, *directions)
            packed = pack(*new)
        fine = np.isfinite(packed).all() and min(new.deviations.min(), new.along.min(initial=1)) > 0
        return new if fine else None


def _diagonal(deviations: np.ndarray) -> Factor:
    return Factor(deviations, np.zeros([len(deviations), 0]), np.zeros(0))


def _rows(array: np.ndarray) -> np.ndarray:
    rows = array.reshape(-1, array.shape[-1])
    return rows[:: -(-len(rows) // _MOST_DRAWS) or 1]
