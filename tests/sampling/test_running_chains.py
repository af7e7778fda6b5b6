"""What is heard of chains while they run, and what is left of them after an interrupt."""

import signal
import threading

import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.nuts import runners
from pymc3_tf.nuts.sampler import COLUMNS, CompiledSampler
from pymc3_tf.sampling import chains
from pymc3_tf.sampling.chains import run_chains

SIZE = 4
ROUND, NARROW = [np.array(1.0)], [np.array(1e8)]


@pytest.fixture(scope="module")
def program():
    """A normal, and its precision."""
    return CompiledSampler(
        lambda x, precision: -0.5 * precision * tf.reduce_sum(x**2),
        SIZE,
        [tf.TensorSpec([], tf.float64)],
    )


@pytest.fixture(scope="module")
def slow():
    """A density that takes milliseconds."""
    points = np.linspace(0, 1, 100_000)

    def logp(position):
        return -tf.reduce_mean((position[0] + 1e-3 * tf.cos(points * position[1])) ** 2) - (
            0.5 * position[1] ** 2
        )

    program = CompiledSampler(logp, 2)
    run_chains(program, np.zeros((1, 2)), 1, 0)
    return program


class Clock:
    """Time that passes with leapfrog steps, in place of the module ``time``."""

    def __init__(self, seconds_per_leapfrog):
        self.now = self.longest = 0
        self.pace = seconds_per_leapfrog

    def perf_counter(self):
        return self.now

    def watch(self, draw):
        def watched(*args):
            block = draw(*args)
            seconds = self.pace * block.draws[:, SIZE + COLUMNS.index("n_steps")]
            self.now += seconds.sum()
            self.longest = max(self.longest, seconds.max())
            return block

        return watched


@pytest.mark.parametrize("pace", [1e-4, 3e-3, 3e-2])
def test_progress_twice_a_second(program, monkeypatch, pace):
    clock = Clock(pace)
    for module in (chains, runners):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(program, "draw", clock.watch(program.draw), raising=False)
    reports = []

    def callback(progress):
        # A trajectory that takes longer cannot be broken off.
        before = reports[-1][0] if reports else 0
        assert clock.now - before <= 0.5 + clock.longest
        clock.longest = 0
        reports.append((clock.now, progress))

    run_chains(
        program,
        np.zeros((1, SIZE)),
        300,
        100,
        data=ROUND,
        random_seed=1,
        cores=1,
        callback=callback,
    )
    assert reports[-1][0] == clock.now
    made = [progress.draws[0] for _, progress in reports]
    assert np.all(np.diff(made) >= 0)
    assert made[-1] == 400 and reports[-1][1].total == 400


def test_progress_counts_divergences(program):
    reports = []
    starts = np.full((2, SIZE), 1e-4)
    run_chains(program, starts, 50, 0, data=NARROW, random_seed=8, callback=reports.append)
    assert reports[-1].divergences.tolist() == [50, 50]


def test_interrupt_returns_the_draws_so_far(slow):
    main = threading.main_thread().ident
    interrupt = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT))

    def watch(progress):
        if progress.draws.min() > 12 and not interrupt.ident:
            interrupt.start()

    result = run_chains(
        slow, np.zeros((2, 2)), 10**5, 10, random_seed=1, keep_warmup=True, callback=watch
    )
    assert result.interrupted
    kept = len(result.chains)
    assert kept in (1, 2)
    number = result.draws.positions.shape[1]
    assert 1 < number < 1000
    whole = run_chains(slow, np.zeros((2, 2)), 2, 10, random_seed=1)
    expected = whole.draws.positions[result.chains]
    np.testing.assert_array_equal(expected, result.draws.positions[:, :2])
    assert result.warmup.positions.shape == (kept, 10, 2)


def test_interrupt_in_the_warmup_is_passed_on(program):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_chains(program, np.zeros((1, SIZE)), 1, 10**6, data=ROUND, callback=interrupt)


def test_chains_kept_after_an_interrupt_have_most_draws():
    assert chains.most_draws([100, 90, 10, 0]) == ([0, 1], 90)
    assert chains.most_draws([5, 5, 5]) == ([0, 1, 2], 5)
