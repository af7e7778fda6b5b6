"""Chains that make draws by plan, in turns, and learn alone or together."""

from __future__ import annotations

import threading
import time
from typing import List, Sequence, Set

import numpy as np
import tensorflow as tf

from pymc3_tf.nuts.adaptation import Adaptation, Plan, Seen
from pymc3_tf.nuts.sampler import COLUMNS, CompiledSampler, Control, State

# Seconds of a turn, and of one call: together a little less than half of the time between two
# reports of progress, for calls end with whole leapfrog steps.
TURN = 0.12


class Runner:
    """One chain, or a batch of chains that goes as one."""

    def __init__(
        self,
        sampler: CompiledSampler,
        state: State,
        seed: np.ndarray,
        target_accept: float,
        data: Sequence[tf.Tensor],
        keep_warmup: bool,
    ) -> None:
        self.state = state
        self.made = self.tuned = 0
        self.warmup: List[np.ndarray] = []
        self.draws: List[np.ndarray] = []
        self.divergences = np.zeros(sampler.batch, int)
        self.factor = np.ones([*sampler.batch, sampler.size])
        self._gradients: List[np.ndarray] = []
        self._sampler = sampler
        self._leapfrogs = 1
        self._fixed = tf.constant(target_accept, tf.float64), tf.constant(seed)
        self._data = data
        self._keep_warmup = keep_warmup
        self._left = 0

    @property
    def waits(self) -> bool:
        """Whether all draws of the plan are made."""
        return not self._left

    def follow(self, plan: Plan, chains: slice, draws: int) -> None:
        """Take what concerns this runner from a plan; at the end of the warmup, begin to draw."""

        def own(array: np.ndarray) -> np.ndarray:
            return array[chains] if self._sampler.batch else array[chains][0]

        self._plan = plan
        self._step = plan.before
        self._left = plan.length or draws
        if plan.length:
            self.tuned = self.made + plan.length
        if not self._keep_warmup:
            self.warmup.clear()
        self._blocks = self.warmup if plan.length else self.draws
        self._first = len(self._blocks)
        self.factor = own(plan.factor)
        self._factor = tf.constant(self.factor)
        if plan.averaging is not None:
            self.state = self.state._replace(averaging=tf.constant(own(plan.averaging)))

    def turn(self, stop: threading.Event) -> None:
        """Make draws of the plan for a fraction of a second."""
        end = time.perf_counter() + TURN
        while self._left and not stop.is_set() and time.perf_counter() < end:
            self._call()

    def _call(self) -> None:
        control = Control(
            first=self.made,
            number=min(self._left, self._sampler.rows),
            leapfrogs=self._leapfrogs,
            step=self._step,
            adaptation=self._plan.adaptation,
            depth=min(self._plan.depth or self._sampler.max_treedepth, self._sampler.max_treedepth),
        )
        begin = time.perf_counter()
        target_accept, seed = self._fixed
        block, gradients, self.state = self._sampler.draw(
            self.state, self._factor, target_accept, seed, control, self._data
        )
        n_steps = column(block, "n_steps").reshape(len(block), -1)
        pace = (time.perf_counter() - begin) / n_steps.max(axis=1).sum()
        self._leapfrogs = int(min(max(TURN / pace, 1), 2**30))
        self._blocks.append(block)
        self.made += len(block)
        self._step += len(block)
        self._left -= len(block)
        if self._plan.length:
            self._gradients.append(gradients)
        else:
            self.divergences += column(block, "diverging").sum(0, int)

    def seen(self) -> Seen:
        """Return the draws of the plan, with an axis for chains."""
        block = np.concatenate(self._blocks[self._first :])
        gradients = np.concatenate(self._gradients)
        self._gradients.clear()
        step_size = self.state.averaging.numpy()[..., 0]
        if not self._sampler.batch:
            block, gradients, step_size = block[:, None], gradients[:, None], step_size[None]
        names = "lp", "acceptance_rate", "diverging"
        lp, acceptance, diverging = (column(block, name) for name in names)
        positions = block[..., : self._sampler.size]
        return Seen(positions, gradients, lp, acceptance, diverging, step_size)


def column(block: np.ndarray, name: str) -> np.ndarray:
    """Return a statistic of draws, by its name in ``COLUMNS``."""
    return block[..., COLUMNS.index(name) - len(COLUMNS)]


class Group:
    """Runners that learn together: all of them make a block before the next one is planned."""

    def __init__(
        self, runners: Sequence[Runner], adaptation: Adaptation, tune: int, draws: int
    ) -> None:
        self.runners = runners
        self.tune = tune
        self._adaptation = adaptation
        self._draws = draws
        self._follow(adaptation.first())

    def ready(self, busy: Set[Runner]) -> List[Runner]:
        """Return the runners that have draws to make and do not; plan the next block for all."""
        if self.samples or not all(runner.waits for runner in self.runners):
            return [runner for runner in self.runners if not (runner.waits or runner in busy)]
        if not busy.isdisjoint(self.runners):
            return []
        parts = [runner.seen() for runner in self.runners]
        # Chains are the second axis, but of the step sizes the only one.
        joined = [np.concatenate(arrays, axis=min(1, arrays[0].ndim - 1)) for arrays in zip(*parts)]
        self._follow(self._adaptation.next(Seen._make(joined)))
        return list(self.runners)

    def _follow(self, plan: Plan) -> None:
        self.samples = not plan.length
        if self.samples:
            self.tune = self.runners[0].made  # it may have ended early
        width = len(plan.factor) // len(self.runners)
        for i, runner in enumerate(self.runners):
            runner.follow(plan, slice(i * width, (i + 1) * width), self._draws)
