"""Markov chains: warmup, threads, progress and interruption, around the sampler of ``nuts``.

Chains are advanced in turns of a fraction of a second, one thread per core (XLA releases the
interpreter's lock). Turns depend on the clock, draws do not: they are decided by seeds and starts.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from pymc3_tf.exceptions import StartError
from pymc3_tf.nuts.adaptation import Adaptation, GradientAdaptation, averaging_from
from pymc3_tf.nuts.low_rank import LowRankAdaptation
from pymc3_tf.nuts.runners import TURN, Group, Runner
from pymc3_tf.nuts.sampler import COLUMNS, CompiledSampler, State
from pymc3_tf.nuts.stan import WindowedAdaptation
from pymc3_tf.runtime import interruptible
from pymc3_tf.runtime.forks import available_cores
from pymc3_tf.sampling.arguments import is_whole

# How a warmup can learn, and the form of the metric.
INITS = {
    "adapt_diag_grad": "diagonal",
    "adapt_lowrank": "low_rank",
    "adapt_diag": "diagonal",
    "adapt_full": "dense",
}
# In these, all chains learn together.
POOLED = {"adapt_diag_grad": GradientAdaptation, "adapt_lowrank": LowRankAdaptation}

# What a warmup of tune="auto" takes at most.
LONGEST_WARMUP = 1000


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
        if not is_whole(seed) or seed < 0:
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
    factor : array
        The metric of each chain, in the form that ``Plan`` has.
    tune : int
        How many draws the warmup of a chain took.
    interrupted : bool
    """

    draws: Draws
    warmup: Optional[Draws]
    chains: np.ndarray
    factor: np.ndarray
    tune: int
    interrupted: bool


class Progress(NamedTuple):
    """How far sampling is.

    Parameters
    ----------
    draws : array of int, shape (chains,)
        Draws made, warmup included.
    total : int
        Draws of one chain that there will be, warmup included; a warmup that may end early counts
        as long as it can be, until it has ended.
    divergences : array of int, shape (chains,)
        Divergences after the warmup.
    """

    draws: np.ndarray
    total: int
    divergences: np.ndarray


def run_chains(
    sampler: CompiledSampler,
    starts: np.ndarray,
    draws: int = 1000,
    tune: Union[int, str] = 1000,
    *,
    init: str = "adapt_diag_grad",
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
    draws : int
        Draws of each chain after the warmup.
    tune : int or "auto"
        Draws of each chain in the warmup; "auto" ends it when the adaptation has settled.
    init : {"adapt_diag_grad", "adapt_lowrank", "adapt_diag", "adapt_full"}
        How the warmup learns. The first two learn from all chains together, the others from each
        alone. The sampler has to be made for the form of the metric.
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
    _require_fitting(sampler, starts, draws, tune, init)
    constants = [tf.constant(array) for array in data]
    seeds = chain_seeds(random_seed, len(starts))
    first = range(len(starts))
    if sampler.batch:
        # One chain, as far as all that follows is concerned.
        starts, seeds, first = starts[None], _words(seeds.view(np.uint32).ravel(), 1), range(1)
    runners = [
        Runner(
            sampler,
            _start(sampler, *at, constants),
            seed,
            target_accept,
            constants,
            keep_warmup,
        )
        for at, seed in zip(zip(starts, first), seeds)
    ]
    prepare(sampler, np.atleast_2d(runners[0].state.position), data)
    groups = _groups(runners, draws, tune, init, target_accept)
    interrupted = False
    try:
        _run(groups, draws, cores or available_cores(), callback)
    except KeyboardInterrupt:
        interrupted = True
        if not any(runner.draws for runner in runners):
            raise
    return _collect(sampler, runners, keep_warmup, interrupted)


def prepare(sampler: CompiledSampler, starts: np.ndarray, data: Sequence[np.ndarray]) -> None:
    """Compile a sampler, if that was not done before. Ctrl-C ends it."""
    constants = [tf.constant(array) for array in data]
    interruptible.run(functools.partial(sampler.prepare, starts[0], constants))


def _groups(
    runners: Sequence[Runner],
    draws: int,
    tune: Union[int, str],
    init: str,
    target_accept: float,
) -> List[Group]:
    """Let runners learn together, or each on its own."""
    automatic = tune == "auto"
    length = LONGEST_WARMUP if automatic else int(tune)
    together = init in POOLED
    groups = []
    for members in [runners] if together else [[runner] for runner in runners]:
        gradients = np.concatenate([np.atleast_2d(r.state.gradient) for r in members])
        adaptation: Adaptation
        if together:
            adaptation = POOLED[init](
                gradients, length, target_accept=target_accept, stops_early=automatic
            )
        else:
            adaptation = WindowedAdaptation(gradients, length, dense=INITS[init] == "dense")
        groups.append(Group(members, adaptation, length, draws))
    return groups


def _require_fitting(
    sampler: CompiledSampler, starts: np.ndarray, draws: int, tune: Union[int, str], init: str
) -> None:
    chains = sampler.batch[0] if sampler.batch else len(starts)
    if starts.ndim != 2 or not len(starts) or starts.shape != (chains, sampler.size):
        raise ValueError(
            f"starts: shape {starts.shape} does not fit. Give one row for each of "
            f"{chains or 'at least one'} chains, with {sampler.size} elements."
        )
    if INITS.get(init) != sampler.metric:
        fitting = [name for name, metric in INITS.items() if metric == sampler.metric]
        raise ValueError(
            f"init is {init!r}. For this sampler, give {' or '.join(map(repr, fitting))}."
        )
    if draws < 1 or (tune != "auto" and int(tune) < 0):
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
    groups: Sequence[Group],
    draws: int,
    cores: int,
    callback: Optional[Callable[[Progress], None]],
) -> None:
    stop = threading.Event()
    runners = [runner for group in groups for runner in group.runners]
    reported = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(min(cores, len(runners))) as executor:
        try:
            turns = {executor.submit(runner.turn, stop): runner for runner in runners}
            while turns:
                ended = concurrent.futures.wait(
                    turns, return_when=concurrent.futures.FIRST_COMPLETED
                ).done
                for future in ended:
                    del turns[future]
                    future.result()
                busy = set(turns.values())
                for group in groups:
                    ready = group.ready(busy)
                    turns.update({executor.submit(runner.turn, stop): runner for runner in ready})
                # The first blocks take no time at all.
                if callback is not None and (
                    not turns or time.perf_counter() - reported > TURN / 2
                ):
                    callback(_progress(groups, draws))
                    reported = time.perf_counter()
        finally:
            # Chains end their turn within one call; draws of calls that are under way count.
            stop.set()


def _progress(groups: Sequence[Group], draws: int) -> Progress:
    runners = [runner for group in groups for runner in group.runners]
    width = runners[0].divergences.size
    return Progress(
        np.repeat([runner.made for runner in runners], width),
        max(group.tune for group in groups) + draws,
        np.concatenate([np.atleast_1d(runner.divergences) for runner in runners]),
    )


def _collect(
    sampler: CompiledSampler, runners: Sequence[Runner], keep_warmup: bool, interrupted: bool
) -> ChainsResult:
    kept, length = most_draws([sum(map(len, runner.draws)) for runner in runners])
    some = [runners[i] for i in kept]

    def gather(rows: Sequence[Sequence[np.ndarray]], length: Optional[int] = None) -> Draws:
        empty = np.empty((0, *sampler.batch, sampler.size + len(COLUMNS)))
        joined = [np.concatenate([empty, *blocks])[:length] for blocks in rows]
        return _draws(np.moveaxis(joined[0], 1, 0) if sampler.batch else np.stack(joined))

    factors = np.concatenate([r.factor if sampler.batch else r.factor[None] for r in some])
    return ChainsResult(
        gather([runner.draws for runner in some], length),
        gather([runner.warmup for runner in some]) if keep_warmup else None,
        np.arange(len(factors)) if sampler.batch else np.array(kept),
        factors,
        some[0].tuned,
        interrupted,
    )


def most_draws(lengths: Sequence[int]) -> Tuple[List[int], int]:
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
