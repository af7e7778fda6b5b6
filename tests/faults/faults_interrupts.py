"""Ctrl-C, at any moment of a declaration, a compilation, or of sampling."""

import os
import signal
import threading
import time
from unittest import mock

import numpy as np
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

    def moment(self, phase, random):
        """Some time in a phase, from the beginning of the cycle on."""
        times = [*self.begins.values()]
        begin = [*self.begins].index(phase)
        return random.uniform(*times[begin : begin + 2]) - times[0]

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
    undisturbed = cycle_of()
    assert undisturbed.run() == cycle_of.draws
    while True:
        cycle = cycle_of()
        press = CtrlC(undisturbed.moment(random.choice(PHASES), random))
        text, ends_well = "", False
        try:
            with press:
                number = cycle.run()
            ends_well = True
        except KeyboardInterrupt:
            text = "KeyboardInterrupt"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
            if str(error) == NO_DRAWS:
                text = "PyMC3's error that there are no draws"
        seconds = time.monotonic() - press.time if press.time else 0.0
        phase = cycle.phase_at(press.time) if press.time else "end"
        if ends_well:
            text = "all draws" if number == cycle.draws else "the draws so far"
        goes_on()
        yield f"{phase}: {text}", is_right(cycle_of, phase, text), seconds


def is_right(cycle_of, phase, text):
    """Whether this may come of Ctrl-C in a phase."""
    right = ["KeyboardInterrupt"]
    if phase in ("sampling", "end"):
        # All of them if what comes after the last draw was interrupted.
        right += ["the draws so far", "all draws"]
    if cycle_of is PyMC3 and phase != "declaration":
        right += ["PyMC3's error that there are no draws", "the draws so far"]
    return text in right


class CtrlC:
    """Sends what a terminal sends, to this process and those of its chains."""

    def __init__(self, wait):
        self.wait, self.time = wait, 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()

    def work(self):
        if not self.over.wait(self.wait):
            self.time = time.monotonic()
            os.killpg(os.getpgrp(), signal.SIGINT)
