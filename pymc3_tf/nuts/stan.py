"""The warmup of Stan, for each chain alone."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from pymc3_tf.nuts.adaptation import Plan, Seen, averaging_from

# As in its reference manual, "HMC algorithm parameters".
_INITIAL, _WINDOW, _FINAL = 75, 25, 50


class Phase(NamedTuple):
    """Consecutive draws of a chain between two changes of how it samples.

    Parameters
    ----------
    length : int
        Number of draws.
    learns : bool
        Whether the metric is set to the covariance of these draws after them.
    before : int
        Draws of earlier phases from which the adaptation of the step size goes on; it starts
        afresh if there are none.
    adaptation : int
        Draws after which the step size is settled, counted as ``before`` is.
    """

    length: int
    learns: bool
    before: int
    adaptation: int


def phases(tune: int) -> List[Phase]:
    """Return the phases of Stan's warmup.

    The step size alone is adapted at the beginning and at the end; in between the metric is learnt
    in windows, each twice as long as the one before, and the last one up to where the end begins.

    One thing is not Stan's. At the end the adaptation of the step size goes on from the last window
    instead of starting afresh: what fifty draws settle for tends to be too small, and costs
    leapfrog steps. If that window still had the unit metric, its step size says nothing.

    Examples
    --------
    >>> [phase.length for phase in phases(1000)]
    [75, 25, 50, 100, 200, 500, 50]
    >>> [phase.length for phase in phases(100)]
    [15, 75, 10]
    """
    if tune < 20:
        return [Phase(tune, False, 0, tune)] if tune else []
    initial, window, final = _INITIAL, _WINDOW, _FINAL
    if tune < initial + window + final:
        initial, final = int(0.15 * tune), int(0.1 * tune)
        window = tune - initial - final
    lengths = []
    left = tune - initial - final
    while left:
        # A window takes what remains if the next one, twice as long, would not fit.
        lengths.append(left if left < 3 * window else window)
        left -= lengths[-1]
        window *= 2
    before = lengths[-1] if len(lengths) > 1 else 0
    return [
        Phase(initial, False, 0, initial),
        *(Phase(length, True, 0, length) for length in lengths[:-1]),
        Phase(lengths[-1], True, 0, lengths[-1] + (final if before else 0)),
        Phase(final, False, before, before + final),
    ]


def factor_of_covariance(positions: np.ndarray, dense: bool) -> np.ndarray:
    """Estimate the metric from draws, as a factor of their covariance.

    Parameters
    ----------
    positions : array, shape (draws, ..., n)
    dense : bool

    Returns
    -------
    array
        Standard deviations, shape (..., n), or the lower Cholesky factor, shape (..., n, n), of the
        covariance, shrunk a little towards the unit matrix as in Stan.
    """
    number = len(positions)
    shrunk, unit = number / (number + 5), 1e-3 * 5 / (number + 5)
    if not dense:
        return np.sqrt(shrunk * positions.var(axis=0, ddof=1) + unit)
    centered = np.moveaxis(positions - positions.mean(axis=0), 0, -1)
    covariance = centered @ np.swapaxes(centered, -1, -2) / (number - 1)
    return np.linalg.cholesky(shrunk * covariance + unit * np.eye(positions.shape[-1]))


class WindowedAdaptation:
    """Stan's warmup: the covariance of draws in windows, each chain on its own.

    Parameters
    ----------
    gradients : array, shape (chains, n)
        The gradients where the chains start.
    tune : int
        Number of draws.
    dense : bool
        Learn the whole covariance, not only the variances.
    """

    def __init__(self, gradients: np.ndarray, tune: int, *, dense: bool = False) -> None:
        chains, size = gradients.shape
        self._dense = dense
        unit = np.eye(size) if dense else np.ones(size)
        self._factor = np.broadcast_to(unit, (chains, *unit.shape))
        self._phases = phases(tune)

    def first(self) -> Plan:
        """Return the plan for the first block."""
        return self._plan(None)

    def next(self, seen: Seen) -> Plan:
        """Return the plan for the block after the one that was made by the last plan."""
        phase = self._phases.pop(0)
        if phase.learns:
            factor = factor_of_covariance(seen.positions, self._dense)
            self._factor = np.where(np.isfinite(factor), factor, self._factor)
        goes_on = not self._phases or self._phases[0].before
        return self._plan(None if goes_on else averaging_from(seen.step_size))

    def _plan(self, averaging: Optional[np.ndarray]) -> Plan:
        if not self._phases:
            return Plan(0, self._factor)
        length, _, before, adaptation = self._phases[0]
        return Plan(length, self._factor, averaging, before, adaptation)
