"""Markov chains: warmup, threads, progress and interruption, around the sampler of ``nuts``.

Chains are advanced in turns of a fraction of a second, one thread per core (XLA releases the
interpreter's lock). Turns depend on the clock, draws do not: they are decided by seeds and starts.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from pymc3_tf.exceptions import StartError
from pymc3_tf.nuts.sampler import COLUMNS, CompiledSampler, Control, State
from pymc3_tf.runtime.forks import available_cores

# Seconds of a turn, and of one call: together a little less than half of the time between two
# reports of progress, for calls end with whole leapfrog steps.
_TURN = 0.12

# Warmup as in Stan (reference manual, "HMC algorithm parameters").
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
        Draws after which the step size is settled, counted as ``before`` is; zero if it already is.
    """

    length: int
    learns: bool = False
    before: int = 0
    adaptation: int = 0


def warmup(tune: int) -> List[Phase]:
    """Return the phases of Stan's warmup.

    The step size alone is adapted at the beginning and at the end; in between the metric is learnt
    in windows, each twice as long as the one before, and the last one up to where the end begins.

    One thing is not Stan's. At the end the adaptation of the step size goes on from the last window
    instead of starting afresh: what fifty draws settle for tends to be too small, and costs
    leapfrog steps. If that window still had the unit metric, its step size says nothing.

    Examples
    --------
    >>> [phase.length for phase in warmup(1000)]
    [75, 25, 50, 100, 200, 500, 50]
    >>> [phase.length for phase in warmup(100)]
    [15, 75, 10]
    """
    if tune < 20:
        return [Phase(tune, adaptation=tune)] if tune else []
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
        Phase(initial, adaptation=initial),
        *(Phase(length, True, adaptation=length) for length in lengths[:-1]),
        Phase(lengths[-1], True, adaptation=lengths[-1] + (final if before else 0)),
        Phase(final, before=before, adaptation=before + final),
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


def chain_seeds(random_seed: Union[None, int, Sequence[int]], chains: int) -> np.ndarray:
    """Return one seed of int32, shape (2,), for each chain.

    Parameters
    ----------
    random_seed : int or sequence of int, optional
        One seed, or one for each chain. By default seeds are taken from the operating system.
    chains : int

    Raises
    ------
    ValueError
        If there are not as many seeds as chains, or one is no integer of zero or more.
    """
    if random_seed is None:
        return _words(None, chains)
    for seed in np.ravel(random_seed):
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(
                f"random_seed is {random_seed!r}. Give an integer of 0 or more, or a list of one "
                "for each chain."
            )
    if np.ndim(random_seed) == 0:
        return _words(int(random_seed), chains)  # type: ignore[arg-type]
    seeds = list(random_seed)  # type: ignore[arg-type]
    if len(seeds) != chains:
        raise ValueError(
            f"random_seed: {len(seeds)} seeds for {chains} chains. Give one seed for each chain, "
            "or one integer for all."
        )
    return np.concatenate([_words(seed, 1) for seed in seeds])


def _words(entropy: Any, chains: int) -> np.ndarray:
    words = np.random.SeedSequence(entropy).generate_state(2 * chains)
    return words.view(np.int32).reshape(chains, 2)


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws of all chains.

    Attributes
    ----------
    positions : array of float64, shape (chains, draws, n)
    stats : dict of str to array, shape (chains, draws)
        ``lp``, ``energy`` (minus lp plus kinetic energy), ``acceptance_rate`` (mean over the
        trajectory), ``step_size``, ``n_steps`` (leapfrog steps), ``tree_depth`` (doublings of the
        trajectory, the last of which may have stopped early), ``diverging``.
    """

    positions: np.ndarray
    stats: Dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ChainsResult:
    """What ``run_chains`` returns.

    Attributes
    ----------
    draws : Draws
    warmup : Draws or None
        The draws of the warmup, if they were asked for.
    chains : array of int
        The chains that are in it: all of them, unless sampling was interrupted.
    factor : array, shape (chains, n) or (chains, n, n)
        The metric, as ``factor_of_covariance`` returns it.
    interrupted : bool
    """

    draws: Draws
    warmup: Optional[Draws]
    chains: np.ndarray
    factor: np.ndarray
    interrupted: bool


class Progress(NamedTuple):
    """How far sampling is.

    Parameters
    ----------
    draws : array of int, shape (chains,)
        Draws made, warmup included.
    total : int
        Draws of one chain that there will be, warmup included.
    divergences : array of int, shape (chains,)
        Divergences after the warmup.
    """

    draws: np.ndarray
    total: int
    divergences: np.ndarray


class _RunningChain:
    """One chain, or a batch of chains that goes as one."""

    def __init__(
        self,
        sampler: CompiledSampler,
        state: State,
        seed: np.ndarray,
        phases: Sequence[Phase],
        target_accept: float,
        data: Sequence[tf.Tensor],
    ) -> None:
        self.phases = list(phases)
        self.made = 0
        self.finished = not phases
        self.blocks: List[List[np.ndarray]] = [[] for _ in phases]
        self.divergences = np.zeros(sampler.batch, int)
        self._sampler = sampler
        self._state = state
        self._phase = self._step = 0
        self._leapfrogs = 1
        self._fixed = tf.constant(target_accept, tf.float64), tf.constant(seed)
        self._data = data
        unit = np.eye(sampler.size) if sampler.dense else np.ones(sampler.size)
        self.factor = np.broadcast_to(unit, sampler.batch + list(unit.shape))
        self._factor = tf.constant(self.factor)

    def turn(self, stop: threading.Event) -> None:
        """Make draws for a fraction of a second."""
        end = time.perf_counter() + _TURN
        while not (self.finished or stop.is_set()) and time.perf_counter() < end:
            self._call()

    def _call(self) -> None:
        phase = self.phases[self._phase]
        control = Control(
            first=self.made,
            number=min(phase.length - self._step, self._sampler.rows),
            leapfrogs=self._leapfrogs,
            step=phase.before + self._step,
            adaptation=phase.adaptation,
        )
        begin = time.perf_counter()
        target_accept, seed = self._fixed
        block, self._state = self._sampler.draw(
            self._state, self._factor, target_accept, seed, control, self._data
        )
        n_steps = block[..., COLUMNS.index("n_steps") - len(COLUMNS)].reshape(len(block), -1)
        pace = (time.perf_counter() - begin) / n_steps.max(axis=1).sum()
        self._leapfrogs = int(min(max(_TURN / pace, 1), 2**30))
        self.blocks[self._phase].append(block)
        self.made += len(block)
        self._step += len(block)
        if not phase.adaptation:
            self.divergences += block[..., COLUMNS.index("diverging") - len(COLUMNS)].sum(0, int)
        if self._step == phase.length:
            self._finish(phase)

    def _finish(self, phase: Phase) -> None:
        if phase.learns:
            positions = np.concatenate(self.blocks[self._phase])[..., : self._sampler.size]
            self.factor = factor_of_covariance(positions, self._sampler.dense)
            self._factor = tf.constant(self.factor)
        self._phase += 1
        self._step = 0
        self.finished = self._phase == len(self.phases)
        if not self.finished and not self.phases[self._phase].before:
            step_size = self._state.averaging.numpy()[..., 0]
            self._state = self._state._replace(averaging=averaging_from(step_size))


def averaging_from(step_size: Any) -> np.ndarray:
    """Return the memory of a dual averaging that starts at a step size, shape (..., 4)."""
    zero = np.zeros_like(step_size)
    return np.stack([step_size, zero, zero, np.log(10 * step_size)], axis=-1)


def run_chains(
    sampler: CompiledSampler,
    starts: np.ndarray,
    draws: int = 1000,
    tune: int = 1000,
    *,
    data: Sequence[np.ndarray] = (),
    target_accept: float = 0.8,
    random_seed: Union[None, int, Sequence[int]] = None,
    cores: Optional[int] = None,
    callback: Optional[Callable[[Progress], None]] = None,
    keep_warmup: bool = False,
) -> ChainsResult:
    """Draw from a log density with NUTS.

    Parameters
    ----------
    sampler : CompiledSampler
        Of one chain: chains run in parallel, in threads. Of a batch: all chains go as one.
    starts : array, shape (chains, n)
    draws, tune : int
        Draws of each chain after the warmup, and in the warmup.
    data : sequence of array
        What the log density takes besides the position; of the shapes the sampler was made for.
    target_accept : float
        Mean acceptance rate to which the step size is tuned.
    random_seed : int or sequence of int, optional
        The same seed gives the same draws, whatever the number of threads.
    cores : int, optional
        Number of threads; by default as many as there are cores for this process.
    callback : callable, optional
        Called with a ``Progress`` in the calling thread, several times a second unless one
        trajectory takes longer than that.
    keep_warmup : bool
        Return the draws of the warmup too.

    Returns
    -------
    ChainsResult
        After a KeyboardInterrupt what there is so far: the same number of draws of each of those
        chains that together have most draws.

    Raises
    ------
    ValueError
        If an argument does not fit the sampler or the others.
    StartError
        If the log density or its gradient is not finite at a start.
    KeyboardInterrupt
        If there is no draw yet after the warmup.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> from pymc3_tf.sampling.chains import run_chains
    >>> from pymc3_tf.nuts.sampler import CompiledSampler
    >>> normal = CompiledSampler(lambda x: -0.5 * tf.reduce_sum(x**2), 3)
    >>> result = run_chains(normal, np.zeros((2, 3)), draws=100, tune=100, random_seed=1)
    >>> result.draws.positions.shape
    (2, 100, 3)
    """
    starts = np.array(starts, float)
    _require_fitting(sampler, starts, draws, tune)
    phases = [*warmup(tune), Phase(draws)]
    constants = [tf.constant(array) for array in data]
    seeds = chain_seeds(random_seed, len(starts))
    first = range(len(starts))
    if sampler.batch:
        # One chain, as far as all that follows is concerned.
        starts, seeds, first = starts[None], _words(seeds.view(np.uint32).ravel(), 1), range(1)
    chains = [
        _RunningChain(
            sampler, _start(sampler, *at, constants), seed, phases, target_accept, constants
        )
        for at, seed in zip(zip(starts, first), seeds)
    ]
    interrupted = False
    try:
        _run(chains, cores or available_cores(), callback, sum(phase.length for phase in phases))
    except KeyboardInterrupt:
        interrupted = True
        if not any(chain.blocks[-1] for chain in chains):
            raise
    return _collect(sampler, chains, keep_warmup, interrupted)


def _require_fitting(sampler: CompiledSampler, starts: np.ndarray, draws: int, tune: int) -> None:
    chains = sampler.batch[0] if sampler.batch else len(starts)
    if starts.ndim != 2 or not len(starts) or starts.shape != (chains, sampler.size):
        raise ValueError(
            f"starts: shape {starts.shape} does not fit. Give one row for each of "
            f"{chains or 'at least one'} chains, with {sampler.size} elements."
        )
    if draws < 1 or tune < 0:
        raise ValueError(
            f"draws={draws}, tune={tune}: give at least one draw, and a warmup of zero or more."
        )


def _start(
    sampler: CompiledSampler, position: np.ndarray, first: int, data: Sequence[tf.Tensor]
) -> State:
    lp, gradient = sampler.evaluate(position, data)
    _require_finite(np.atleast_1d(lp), np.atleast_2d(gradient), first)
    # As in PyMC3; the first draws of the warmup take it wherever it belongs.
    step_size = np.full(sampler.batch, 0.25 / sampler.size**0.25)
    return State(position, lp, gradient, averaging_from(step_size))


def _require_finite(lp: np.ndarray, gradient: np.ndarray, first: int) -> None:
    for chain, (value, slopes) in enumerate(zip(lp, gradient), first):
        if not np.isfinite(value):
            raise StartError(
                f"chain {chain} cannot start: its log density is {value}. Give a start where the "
                "model has positive density."
            )
        bad = np.flatnonzero(~np.isfinite(slopes))
        if len(bad):
            raise StartError(
                f"chain {chain} cannot start: the log density is {value}, but its gradient is not "
                f"finite in element {', '.join(map(str, bad))} of the position. Give another "
                "start, or write the density without a kink or overflow there."
            )


def _run(
    chains: Sequence[_RunningChain],
    cores: int,
    callback: Optional[Callable[[Progress], None]],
    total: int,
) -> None:
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(min(cores, len(chains))) as executor:
        try:
            turns = {executor.submit(chain.turn, stop): chain for chain in chains}
            while turns:
                ended = concurrent.futures.wait(
                    turns, return_when=concurrent.futures.FIRST_COMPLETED
                ).done
                for future in ended:
                    chain = turns.pop(future)
                    future.result()
                    if not chain.finished:
                        turns[executor.submit(chain.turn, stop)] = chain
                if callback is not None:
                    callback(_progress(chains, total))
        finally:
            # Chains end their turn within one call; draws of calls that are under way count.
            stop.set()


def _progress(chains: Sequence[_RunningChain], total: int) -> Progress:
    width = chains[0].divergences.size
    return Progress(
        np.repeat([chain.made for chain in chains], width),
        total,
        np.concatenate([np.atleast_1d(chain.divergences) for chain in chains]),
    )


def _collect(
    sampler: CompiledSampler, chains: Sequence[_RunningChain], keep_warmup: bool, interrupted: bool
) -> ChainsResult:
    kept, length = _most([sum(map(len, chain.blocks[-1])) for chain in chains])
    some = [chains[i] for i in kept]

    def gather(phases: slice, length: Optional[int]) -> Draws:
        rows = [[b for blocks in chain.blocks[phases] for b in blocks] for chain in some]
        empty = np.empty((0, *sampler.batch, sampler.size + len(COLUMNS)))
        joined = [np.concatenate([empty, *blocks])[:length] for blocks in rows]
        return _draws(np.moveaxis(joined[0], 1, 0) if sampler.batch else np.stack(joined))

    factors = np.concatenate([c.factor if sampler.batch else c.factor[None] for c in some])
    return ChainsResult(
        gather(slice(-1, None), length),
        gather(slice(None, -1), None) if keep_warmup else None,
        np.arange(len(factors)) if sampler.batch else np.array(kept),
        factors,
        interrupted,
    )


def _most(lengths: Sequence[int]) -> Tuple[List[int], int]:
    """Return which chains to keep, and up to which length, for most draws in all."""
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    number = max(range(1, len(longest) + 1), key=lambda k: (k * lengths[longest[k - 1]], k))
    kept = sorted(longest[:number])
    return kept, min(lengths[i] for i in kept)


def _draws(rows: np.ndarray) -> Draws:
    size = rows.shape[-1] - len(COLUMNS)
    stats = {name: rows[..., size + i].copy() for i, name in enumerate(COLUMNS)}
    stats["diverging"] = stats["diverging"].astype(bool)
    stats["n_steps"] = stats["n_steps"].astype(int)
    # The number of binary digits: d doublings make up to 2 ** d - 1 steps.
    stats["tree_depth"] = np.frexp(stats["n_steps"])[1].astype(int)
    return Draws(rows[..., :size].copy(), stats)
