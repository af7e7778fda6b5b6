"""Servers of a cluster that end while chains use them."""

import logging
import time

import pymc3_tf  # noqa: F401  # isort: skip  # before pymc3, for the sake of Python 3.11
import numpy as np
import pymc3 as pm
import tensorflow as tf
from support import QUIET, load_example

from pymc3_tf.programs import cluster

v1 = tf.compat.v1
example = load_example("cluster")
TUNE, DRAWS, SECONDS = 40, 80, 3


def lost_in_tuning(fault, random):
    """End a server in the warmup."""
    return lost(random, lambda: random.randrange(TUNE))


def lost_in_drawing(fault, random):
    """End a server after it."""
    return lost(random, lambda: random.randrange(TUNE + 1, TUNE + DRAWS - 10))


def lost(random, moment):
    """End one of two servers at some draw, again and again."""
    cluster.PROBE_TIMEOUT = SECONDS
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("pymc3").addHandler(handler)
    while True:
        messages.clear()
        draw = moment()
        number, seconds = sample_and_lose(draw, cores=random.choice([1, 2]))
        said = any("/job:worker/replica:0/task:1 of the cluster" in text for text in messages)
        text = "the draws so far" if number else "PyMC3's error that there are no draws"
        good = said and (TUNE + number > draw - 1 if number else draw <= TUNE + 1)
        check_that_it_goes_on()
        yield f"{text}, and the log {'names' if said else 'lacks'} the server", good, seconds


def sample_and_lose(at, cores):
    """Return how many draws are left if a server ends at one, and after how many seconds."""
    times = []
    with example.workers(2) as (processes, target):

        def kill(trace, draw):
            if draw.draw_idx == at and not times:
                processes[1].kill()
                processes[1].wait()
                times.append(time.monotonic())

        try:
            number = len(sample(declare(target), cores, callback=kill))
        except ValueError as error:
            assert str(error) == "Not enough samples to build a trace."
            number = 0
        return number, time.monotonic() - times[0]


def declare(target):
    """Declare the regression of the example."""
    tensors = example.graph(1000, 2, seed=3)
    example.connect(tensors, target).close()  # before the server that it would wait for ends
    config = v1.ConfigProto(operation_timeout_in_ms=1000 * SECONDS)
    return example.model(tensors, v1.Session(target, tensors.logp.graph, config))


def sample(model, cores, draws=DRAWS, tune=TUNE, **options):
    """Sample in this process, or in two."""
    with model:
        return pm.sample(
            draws, tune=tune, chains=2, cores=cores, mp_ctx="forkserver", random_seed=1,
            return_inferencedata=False, **QUIET, **options,
        )  # fmt: skip


def check_that_it_goes_on():
    """Sample with servers that are there, in the same process."""
    with example.workers(2) as (_, target):
        trace = sample(declare(target), cores=1, draws=5, tune=5)
        assert len(trace) == 5 and np.isfinite(trace["effects"]).all()
