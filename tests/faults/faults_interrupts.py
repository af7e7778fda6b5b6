"""Ctrl-C, at any moment of a declaration, a compilation, or of sampling."""

import os
import signal
import sys
import time
from unittest import mock

import numpy as np
from beside import Beside
from faults_processes import goes_on
from parallel_cells import chain_values, pm, sample, tensorflow_model
from support import QUIET

import pymc3_tf
from pymc3_tf.sampling import chains

PHASES = ["declaration", "compilation", "sampling"]
# PyMC3 has nothing to return.
NO_DRAWS = "Not enough samples to build a trace."


class Cycle:
    """One declaration and what follows, each with the time of its beginning."""

    draws = 0

    def __init__(self):
        self.begins = {}

    def mark(self, phase):
        """A phase begins, if it has not yet."""
        self.begins.setdefault(phase, time.monotonic())

    def run(self):
        """Return how many draws there are of each chain."""
        self.mark("declaration")
        model = tensorflow_model("function", "small")
        self.mark("compilation")
        number = self.sample(model)
        self.mark("end")
        return number

    def seconds(self, phase):
        """How long a phase took."""
        times = [*self.begins.values()]
        begin = [*self.begins].index(phase)
        return times[begin + 1] - times[begin]

    def phase_at(self, moment):
        """Which phase it was."""
        begun = [phase for phase, begin in self.begins.items() if begin <= moment]
        return begun[-1] if begun else PHASES[0]


class PyMC3(Cycle):
    """pm.sample with two processes."""

    draws = 400

    def sample(self, model):
        """Return how many draws there are."""
        with model:
            trace = pm.sample(
                self.draws, tune=100, chains=2, cores=2, mp_ctx="fork", return_inferencedata=False,
                callback=lambda trace, draw: self.mark("sampling"), **QUIET,
            )  # fmt: skip
        return len(trace)


class Ours(Cycle):
    """pymc3_tf.sample."""

    draws = 40_000

    def sample(self, model):
        """Return how many draws there are."""

        def run(*args):
            self.mark("sampling")
            return before(*args)

        before = chains._run
        with mock.patch.object(chains, "_run", run):
            idata = pymc3_tf.sample(self.draws, tune=200, chains=2, model=model, **QUIET)
        return idata.posterior.sizes["draw"]


def in_pm_sample(fault, random):
    """Interrupt pm.sample."""
    model = tensorflow_model("function", "small")
    expected = chain_values(sample(model, "nuts", 2, cores=1))
    return interrupted(PyMC3, random, lambda: goes_on(model, expected))


def in_our_sample(fault, random):
    """Interrupt pymc3_tf.sample."""
    model = tensorflow_model("function", "small")

    def draws():
        idata = pymc3_tf.sample(20, tune=20, chains=2, random_seed=1, model=model, **QUIET)
        return idata.posterior["x"].values

    expected = draws()
    return interrupted(Ours, random, lambda: np.testing.assert_array_equal(draws(), expected))


def interrupted(cycle_of, random, goes_on):
    """Interrupt one cycle after the other."""
    dropped = []
    sys.unraisablehook = lambda said: dropped.append(name_of(said.object))
    undisturbed = cycle_of()
    assert undisturbed.run() == cycle_of.draws
    while True:
        dropped.clear()
        cycle, phase = cycle_of(), random.choice(PHASES)
        press = CtrlC(cycle, phase, random.uniform(0.0, undisturbed.seconds(phase)))
        number = None
        try:
            with press:
                number = cycle.run()
            text = "all draws" if number == cycle.draws else "the draws so far"
        except KeyboardInterrupt:
            text = "KeyboardInterrupt"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
            if str(error) == NO_DRAWS:
                text = "PyMC3's error that there are no draws"
        seconds = time.monotonic() - press.time
        if not press.time:
            continue  # the cycle was faster, and this was no trial
        phase = cycle.phase_at(press.time)
        good = is_right(cycle_of, phase, text)
        if not good and dropped:
            # What is raised there Python cannot pass on. Users press again.
            text, good, seconds = f"dropped by Python in {dropped[0]}", True, 0.0
        goes_on()
        yield f"{phase}: {text}", good, seconds


def name_of(function):
    """Return the name of what Python could not raise an error in."""
    return getattr(function, "__qualname__", type(function).__name__)


def is_right(cycle_of, phase, text):
    """Whether this may come of Ctrl-C in a phase."""
    right = ["KeyboardInterrupt"]
    if phase in ("sampling", "end"):
        # All of them if what comes after the last draw was interrupted.
        right += ["the draws so far", "all draws"]
    if cycle_of is PyMC3 and phase != "declaration":
        right += ["PyMC3's error that there are no draws", "the draws so far"]
    return text in right


class CtrlC(Beside):
    """Sends what a terminal sends, to this process and those of its chains."""

    def __init__(self, cycle, phase, wait):
        self.cycle, self.phase, self.wait, self.time = cycle, phase, wait, 0.0
        super().__init__()

    def work(self):
        while not (self.phase in self.cycle.begins or self.over.wait(0.002)):
            pass
        if not self.over.wait(self.wait):
            self.time = time.monotonic()
            os.killpg(os.getpgrp(), signal.SIGINT)
