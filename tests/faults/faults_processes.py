"""Processes of chains: how they start, and what happens if one is killed."""

import os
import signal
import time

import numpy as np
from beside import Beside
from parallel_cells import chain_values, pm, sample, tensorflow_model


def same_draws(start, random):
    """Two chains at a time have the draws that they have one after the other."""
    model = tensorflow_model("function", "small")
    expected = chain_values(sample(model, "nuts", 2, cores=1))
    while True:
        begin = time.monotonic()
        found = chain_values(sample(model, "nuts", 2, cores=2, mp_ctx=start))
        same = np.allclose(found, expected, rtol=1e-6)
        yield "the same draws" if same else "other draws", bool(same), time.monotonic() - begin


def goes_on(model, expected):
    """See that a session samples as before."""
    found = chain_values(sample(model, "nuts", 2, cores=2, mp_ctx="fork"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def chain_killed(fault, random):
    """Kill one of two chains at any moment of its life."""
    model = tensorflow_model("function", "small")
    expected = chain_values(sample(model, "nuts", 2, cores=1))
    life = Killer()
    sample_long(model, life)
    while True:
        killer = Killer(random, life.seconds)
        text, good = "all draws", False
        try:
            sample_long(model, killer)
        except Exception as error:
            said = str(error)
            good = "failed: its process was ended by the signal SIGKILL" in said
            text = "an error that says so" if good else f"{type(error).__name__}: {said}"
        seconds = time.monotonic() - killer.time
        if not killer.time:
            continue  # the chains were faster, and this was no trial
        if text == "all draws" and killer.late:
            text, good = "all draws, of which it had made its last", True
        goes_on(model, expected)
        yield text, good, seconds


def sample_long(model, watcher):
    """Sample for a second or two, watched."""
    with model, watcher:
        pm.sample(
            300,
            tune=300,
            chains=2,
            cores=2,
            mp_ctx="fork",
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
            callback=watcher.see,
        )


class Killer(Beside):
    """Kills a chain some time after the chains have started, or else sees how long they live."""

    def __init__(self, random=None, life=0.0):
        self.random, self.wait = random, random.uniform(0.0, life) if random else 0.0
        self.time = self.seconds = 0.0
        self.late = False
        super().__init__()

    def see(self, trace, draw):
        """Remember that a chain is about to end by itself."""
        self.late |= draw.is_last

    def work(self):
        while not (chains() or self.over.wait(0.002)):
            pass
        begin = time.monotonic()
        if self.random and not self.over.wait(self.wait):
            alive = chains()
            if alive:
                os.kill(self.random.choice(alive), signal.SIGKILL)
                self.time = time.monotonic()
        self.over.wait()
        self.seconds = time.monotonic() - begin


def chains():
    """Process ids of the children that the main thread has; asking for them ends none of them."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return list(map(int, file.read().split()))
