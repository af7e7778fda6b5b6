"""What a warmup learns from its draws: the metric, the step size, and when it has learnt enough.

An adaptation is shown the draws of some chains, block by block, and answers with a plan for the
next block. It needs nothing but NumPy, and nothing here draws: that is what ``chains`` does.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Protocol, Tuple

import numpy as np


class Plan(NamedTuple):
    """How some chains make their next draws.

    Parameters
    ----------
    length : int
        Number of draws; zero at the end of the warmup.
    factor : array, shape (chains, n), (chains, n, 1 + rank) or (chains, n, n)
        The metric: standard deviations of the positions, these with directions as of
        ``low_rank.pack``, or the lower Cholesky factor of the covariance.
    averaging : array, shape (chains, 4), optional
        The memory of the dual averaging to start from, as ``averaging_from`` or ``fixed`` return
        it. None: it goes on.
    before, adaptation : int
        ``step`` of ``Control`` for the first draw, and its ``adaptation``.
    depth : int, optional
        How often a trajectory is doubled at most; by default, as often as the sampler can.
    """

    length: int
    factor: np.ndarray
    averaging: Optional[np.ndarray] = None
    before: int = 0
    adaptation: int = 0
    depth: Optional[int] = None


class Seen(NamedTuple):
    """Draws that chains made by a plan.

    Parameters
    ----------
    positions, gradients : array, shape (draws, chains, n)
    lp, acceptance, diverging : array, shape (draws, chains)
    step_size : array, shape (chains,)
        What the next draw would be made with if the plan went on.
    """

    positions: np.ndarray
    gradients: np.ndarray
    lp: np.ndarray
    acceptance: np.ndarray
    diverging: np.ndarray
    step_size: np.ndarray


class Adaptation(Protocol):
    """The warmup of one chain, or of some that learn together."""

    def first(self) -> Plan:
        """Return the plan for the first block."""

    def next(self, seen: Seen) -> Plan:
        """Return the plan for the block after the one that was made by the last plan."""


def averaging_from(step_size: np.ndarray) -> np.ndarray:
    """Return the memory of a dual averaging that starts at a step size, shape (..., 4)."""
    zero = np.zeros_like(step_size)
    return np.stack([step_size, zero, zero, np.log(10 * step_size)], axis=-1)


def fixed(step_size: np.ndarray) -> np.ndarray:
    """Return the memory of a dual averaging that is over, shape (..., 4)."""
    zero, log = np.zeros_like(step_size), np.log(step_size)
    return np.stack([step_size, zero, log, log], axis=-1)


# Draws of the shortest blocks, with so many doublings up to so many draws: as long as the metric
# and the step size are guesses, deep trees cost much and teach little.
_BLOCK = 10
_DEPTHS = ((30, 5), (100, 7))
# A search for a step size takes a draw of one leapfrog step for each doubling: so many at most. It
# is needed again where a chain rejects nearly everything, or so much less than it should.
_SEARCH, _CROSSED = 60, 0.8
_STUCK, _TOO_CAREFUL = 0.02, 0.05
# Draws before chains share a metric: until then, each may be somewhere else.
_ALONE = 30
# A chain whose acceptance is this far from that of the others has a step size of its own.
_OUTSIDER = 0.25
# The share of an element in its gradient is one until draws say otherwise: as if so many had said
# so that are independent. Less than the least share is not believed.
_PRIOR, _LEAST_SHARE = 10, 0.1
# To stop early takes so many draws of each chain, and so many of all; so little change of the
# metric (in logarithms of its elements) and of the step size; chains that agree; and in the window
# a rate of rejection within this factor of what was asked for, and almost no divergences.
_LEAST, _LEAST_IN_ALL = 50, 200
_CHANGE, _STEP_CHANGE, _RHAT = 0.2, 0.3, 1.2
_REJECTED, _DIVERGING = 1.5, 0.01


class Window:
    """The latter half of the draws so far."""

    def __init__(self) -> None:
        self._made = 0
        self._blocks: List[Seen] = []

    def add(self, seen: Seen) -> None:
        """Add a block of draws."""
        self._made += len(seen.lp)
        self._blocks.append(seen)
        # Those that will not be asked for again are given up.
        while self._held() - len(self._blocks[0].lp) >= self._made - self._made // 2:
            del self._blocks[0]

    def __call__(self, name: str) -> np.ndarray:
        """Return what there is of a field of ``Seen``."""
        whole = np.concatenate([getattr(block, name) for block in self._blocks])
        return whole[self._held() - (self._made - self._made // 2) :]

    def _held(self) -> int:
        return sum(len(block.lp) for block in self._blocks)


class GradientAdaptation:
    """A diagonal metric from draws and gradients, which chains learn together.

    Parameters
    ----------
    gradients : array, shape (chains, n)
        The gradients where the chains start.
    tune : int
        Number of draws of each chain.
    target_accept : float
        Mean acceptance rate to which the step size is tuned.
    stops_early : bool
        End the warmup as soon as the metric and the step size have settled and chains agree.

    Notes
    -----
    The variance of an element is estimated by the variance of its draws over minus their covariance
    with its gradients, which is one for any density (by parts). For independent normals that is
    exact after two draws, wherever the chain is; the variance of draws alone takes hundreds, and is
    wrong as long as the chain is on its way. It comes from the latter half of the draws so far: bad
    early draws are soon forgotten, and the more draws there are, the better is the estimate. Chains
    share the median of their estimates, so that one that is stuck does not spoil it.

    The covariance is a product of the two deviations and of a correlation. That correlation is
    minus one without noise as long as elements are independent, so it starts from there; the
    estimate is then the square root of the variance of draws over that of gradients, which
    minimizes the Fisher divergence. In a density where elements are correlated, it would make the
    elements that depend most on others, which mix slowest, slower still.

    The step size is fixed within a block. Afterwards it is corrected by what the mean acceptance
    says of it. That is more exact than dual averaging, which looks at one draw at a time and varies
    the step size by factors of two to do so. When the metric changes, the step size is scaled such
    that the mean energy error of a normal stays the same. The last stretch changes only the step
    size, and its estimates are averaged.
    """

    def __init__(
        self,
        gradients: np.ndarray,
        tune: int,
        *,
        target_accept: float = 0.8,
        stops_early: bool = False,
    ) -> None:
        self._tune = tune
        self._target_accept = target_accept
        self._stops_early = stops_early
        self._made = 0
        # Draws at the end that leave the metric as it is, and where they begin.
        self._final = min(max(tune // 10, 20), tune // 2)
        self._end_begins = tune - self._final
        self._factor = np.ones_like(gradients)
        if tune:
            # A guess: a normal whose mean is one standard deviation away.
            magnitude = np.where(gradients == 0, 1, np.abs(gradients))
            self._factor = np.clip(magnitude, 1e-10, 1e20) ** -0.5
        chains, size = gradients.shape
        self._log_step = np.full(chains, np.log(0.25 / size**0.25))
        self._begin_search(np.full(chains, tune > 0))
        self._window = Window()
        self._settled: List[Tuple[int, np.ndarray]] = []

    def first(self) -> Plan:
        """Return the plan for the first block."""
        return self._plan()

    def next(self, seen: Seen) -> Plan:
        """Return the plan for the block after the one that was made by the last plan."""
        self._made += len(seen.lp)
        self._window.add(seen)
        if self._searching:
            self._search(seen.acceptance[-1])
            return self._plan()
        if self._made > self._end_begins:
            self._settle(seen.acceptance)
        else:
            self._learn(seen.acceptance)
        return self._plan()

    def _plan(self) -> Plan:
        left = self._tune - self._made
        if not left:
            return Plan(0, self._metric(), fixed(np.exp(self._log_step)))
        if self._searching:
            return self._block(1, 1)
        depth = next((depth for until, depth in _DEPTHS if self._made < until), None)
        return self._block(self._length(), depth)

    def _block(self, length: int, depth: Optional[int]) -> Plan:
        return Plan(length, self._metric(), fixed(np.exp(self._log_step)), depth=depth)

    def _metric(self) -> np.ndarray:
        return self._factor

    def _length(self) -> int:
        """Return the length of the next block: a part of what there is, or what remains."""
        left = self._end_begins - self._made
        length = max(_BLOCK, self._made // 4)
        if left <= 0:
            left = self._tune - self._made
            length = max(_BLOCK, self._final // 3)
        return left if left < length + _BLOCK else length

    def _length_of_end(self) -> int:
        # So many that the acceptance of all chains is known to two or three percent.
        return int(np.clip(80 // len(self._log_step), 20, 50))

    def _learn(self, acceptance: np.ndarray) -> None:
        mean = acceptance.mean(axis=0)
        lost = (mean < _STUCK) | (1 - mean < _TOO_CAREFUL * (1 - self._target_accept))
        if len(acceptance) >= _BLOCK:
            self._begin_search(lost)
        change = self._correction(mean, len(acceptance))
        self._log_step = self._log_step + change
        if self._together:
            own = self._outsiders(mean)
            self._log_step = np.where(own, self._log_step, np.median(self._log_step))
        moved = self._learn_metric()
        if self._stops_early and self._has_settled(change, moved):
            self._end_begins = self._made
            self._tune = min(self._tune, self._made + self._length_of_end())

    def _begin_search(self, chains: np.ndarray) -> None:
        self._found = ~chains
        self._directions = np.zeros(len(chains))
        self._searching = bool(chains.any())
        self._search_ends = self._made + min(_SEARCH, (self._tune - self._made) // 2)

    def _search(self, acceptance: np.ndarray) -> None:
        """Double or halve step sizes until the acceptance of one leapfrog step crosses a line."""
        directions = np.where(acceptance > _CROSSED, 1, -1)
        self._found |= directions == -self._directions
        self._directions = directions
        self._log_step = self._log_step + np.where(self._found, 0, directions * np.log(2))
        self._searching = not self._found.all() and self._made < self._search_ends

    def _correction(self, mean: np.ndarray, number: Any) -> np.ndarray:
        """Return by how much to change the logarithm of the step size."""
        rejected = np.clip(1 - mean, 1 / (2 + number), 1)
        log_ratio = np.log((1 - self._target_accept) / rejected)
        # For small steps the rate of rejection goes with the square of the step size, which would
        # make it a half. It rises faster where steps are about to become unstable, and the whole
        # correction would never come to rest.
        change = np.where(np.abs(log_ratio) > np.log(2), 0.5, 0.35) * log_ratio
        # Where nearly all is rejected, the rate says only that the step size is far too large.
        return np.clip(np.where(mean < 0.3, np.minimum(change, -1), change), -2, 1)

    def _outsiders(self, mean: np.ndarray) -> np.ndarray:
        return np.abs(mean - np.median(mean)) > _OUTSIDER

    def _settle(self, acceptance: np.ndarray) -> None:
        """Average what the blocks of the last stretch say about the step size."""
        mean = acceptance.mean(axis=0)
        own = self._outsiders(mean)
        number = np.where(own, len(acceptance), acceptance[:, ~own].size)
        if not own.all():
            mean = np.where(own, mean, mean[~own].mean())
        self._settled.append((len(acceptance), self._log_step + self._correction(mean, number)))
        numbers, estimates = zip(*self._settled)
        self._log_step = np.average(estimates, axis=0, weights=numbers)

    def _learn_metric(self) -> float:
        """Learn the metric, scale the step size with it, and return by how much it has changed."""
        logs = self._log_deviations()
        if self._together:
            logs = logs - np.log(self._share_of_own_gradient()) / 2
        log_ratio = np.log(self._factor) - logs
        # The energy error of a normal goes with the square of the step size over its deviation,
        # and the squares of these errors add up.
        self._log_step = self._log_step + _log_mean_exp(4 * log_ratio) / 4
        self._factor = np.exp(np.log(self._factor) - log_ratio)
        return float(np.sqrt(np.mean(log_ratio**2)))

    def _log_deviations(self) -> np.ndarray:
        """Return the logarithms of what minimizes the Fisher divergence."""
        with np.errstate(all="ignore"):
            variances = self._window("positions").var(axis=0), self._window("gradients").var(axis=0)
            logs = (np.log(variances[0]) - np.log(variances[1])) / 4
        logs = np.where(np.isfinite(logs), logs, np.log(self._factor))
        return np.broadcast_to(np.median(logs, axis=0), logs.shape) if self._together else logs

    def _share_of_own_gradient(self) -> np.ndarray:
        """Return how much of the gradient of an element comes from the element itself."""
        x, g = (self._window(name) for name in ("positions", "gradients"))
        # About how many independent draws there are: means of halves of chains vary that much.
        halves, half = 2 * x.shape[1], max(len(x) // 2, 1)
        with np.errstate(all="ignore"):
            number = halves / np.maximum(rhat(x) ** 2 - 1 + 1 / half, 1 / half)
            x, g = ((a - a.mean(axis=0)) / a.std(axis=0) for a in (x, g))
            correlation = np.median(-np.mean(x * g, axis=0), axis=0)
            shrunk = (number * correlation + _PRIOR) / (number + _PRIOR)
        return np.clip(np.where(np.isfinite(shrunk), shrunk, 1), _LEAST_SHARE, 1)

    @property
    def _together(self) -> bool:
        """Whether chains share what they learn."""
        return self._made >= _ALONE

    def _has_settled(self, change: np.ndarray, moved: float) -> bool:
        if self._made < _LEAST or self._made * len(change) < _LEAST_IN_ALL:
            return False
        if moved > _CHANGE or abs(change.mean()) > _STEP_CHANGE:
            return False
        rejected = (1 - self._window("acceptance").mean()) / (1 - self._target_accept)
        if not 1 / _REJECTED < rejected < _REJECTED:
            return False
        if self._window("diverging").mean() >= _DIVERGING:
            return False
        values = np.concatenate([self._window("positions"), self._window("lp")[..., None]], axis=-1)
        return bool(np.all(rhat(values) < _RHAT))


def _log_mean_exp(x: np.ndarray) -> np.ndarray:
    largest = x.max(axis=-1, keepdims=True)
    return np.log(np.mean(np.exp(x - largest), axis=-1)) + largest[..., 0]


def rhat(draws: np.ndarray) -> np.ndarray:
    """Return by how much chains differ: Gelman and Rubin's R-hat of halves of chains.

    Parameters
    ----------
    draws : array, shape (draws, chains, ...)

    Returns
    -------
    array, shape (...)
        Infinite where no chain has moved.
    """
    half = len(draws) // 2
    halves = np.concatenate([draws[:half], draws[-half:]], axis=1)
    within = halves.var(axis=0, ddof=1).mean(axis=0)
    between = halves.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(1 - 1 / half + between / within)
    return np.where(within > 0, ratio, np.inf)
