"""Disks that are full or read-only, and memory that is short.

matrix.py mounts the disk, a small one of this process's own, at the folder FAULTS_DISK.
"""

import contextlib
import logging
import os
import resource
import time
from pathlib import Path

import numpy as np
from parallel_cells import (
    PRECISION,
    PRIOR_SCALE,
    chain_values,
    closed_form,
    data_of,
    pm,
    sample,
    tensorflow_model,
    tf,
)
from support import QUIET

import pymc3_tf
from pymc3_tf.host import build
from pymc3_tf.runtime import memory

SIZE = 40  # of a matrix for which the routines of C++ pay
# How a lack of memory is said: by Python, by TensorFlow, by a thread or process that cannot start.
OF_MEMORY = (MemoryError, pymc3_tf.exceptions.EvaluationError, tf.errors.ResourceExhaustedError)
OF_SYSTEM = ("Cannot allocate memory", "can't start new thread", "failed: its process")


@contextlib.contextmanager
def limit(what, size):
    """Set a limit of this process for a while."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


# -- disks --------------------------------------------------------------------------------------


def factorized(x):
    """Minus half of the quadratic form of a matrix that has to be factorized."""
    matrix = tf.eye(SIZE, dtype=tf.float64) + 0.5
    factor = tf.linalg.cholesky(matrix * tf.exp(0.0 * x[0]))
    return -0.5 * tf.reduce_sum(tf.linalg.triangular_solve(factor, x[:, None]) ** 2)


def cache_of_routines(fault, random):
    """Sample where the routines of C++ cannot be kept."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("pymc3").addHandler(handler)
    logging.getLogger("pymc3").setLevel(logging.INFO)
    os.environ["XDG_CACHE_HOME"] = os.environ["FAULTS_DISK"]
    precision = np.linalg.inv(np.eye(SIZE) + 0.5)
    while True:
        build.loaded.cache_clear()
        messages.clear()
        files = limit(resource.RLIMIT_FSIZE, random.randrange(10_000))
        begin = time.monotonic()
        with files if fault.startswith("no file") else contextlib.nullcontext():
            with pm.Model() as model:
                pm.TFDensity("x", factorized, shape=SIZE)
            idata = pymc3_tf.sample(20, tune=20, chains=2, model=model, **QUIET)
        seconds = time.monotonic() - begin
        x = idata.posterior["x"].values
        expected = -0.5 * np.einsum("cdi,ij,cdj->cd", x, precision, x)
        right = np.allclose(idata.sample_stats["lp"], expected, rtol=1e-8)
        said = any("sampling goes on without them" in text for text in messages)
        left = [path for path in Path(os.environ["FAULTS_DISK"]).rglob("*") if path.is_file()]
        text = "right" if right else "wrong"
        text += " draws, without the routines, which the log says" if said else " draws"
        yield text + (f", and {left} on the disk" if left else ""), right and not left, seconds


def folder_of_theano(fault, random):
    """Compile where Theano cannot keep what it compiles: PyMC3's own models have the same error."""
    while True:
        begin = time.monotonic()
        ours = error_of(lambda: tensorflow_model("function", "small"))
        theirs = error_of(lambda: closed_form("small"))
        seconds = (time.monotonic() - begin) / 2
        same = ours == theirs is not None
        yield f"{ours}, as with PyMC3 alone" if same else f"{ours}, not {theirs}", same, seconds


def error_of(build):
    """Return which error says that a model cannot be made and compiled."""
    try:
        build().logp_dlogp_function()
    except Exception as error:
        full = "No space left" in str(error)
        return f"{type(error).__name__}{' that says so' if full else ''}"


# -- memory -------------------------------------------------------------------------------------


def memory_of_pm_sample(fault, random):
    """Sample a million points and a matrix of 500 by 500 in two processes."""
    expected = chain_values(sample(closed_form("large"), "metropolis", 2, cores=1))

    def attempt():
        model = tensorflow_model("function", "large")
        found = chain_values(sample(model, "metropolis", 2, cores=2, mp_ctx="fork"))
        return np.allclose(found, expected, rtol=1e-6)

    return short_of_memory(attempt, random)


def memory_of_our_sample(fault, random):
    """Sample the same in two threads."""
    mean = data_of("large").mean()

    def attempt():
        model = tensorflow_model("function", "large")
        idata = pymc3_tf.sample(
            6,
            tune=6,
            chains=2,
            cores=2,
            model=model,
            idata_kwargs={"log_likelihood": False},
            **QUIET,
        )
        x, lp = idata.posterior["x"].values, idata.sample_stats["lp"].values
        expected = -0.5 * (x / PRIOR_SCALE) ** 2 - 0.5 * PRECISION * (np.exp(x) - mean) ** 2
        # The closed form lacks a constant.
        return np.allclose(lp - lp[0, 0], expected - expected[0, 0], rtol=1e-6, atol=1e-6)

    return short_of_memory(attempt, random)


def short_of_memory(attempt, random):
    """Attempt something with some more memory than what is in use already."""
    while True:
        begin = time.monotonic()
        try:
            with limit(resource.RLIMIT_AS, memory.in_use() + random.randrange(1 << 30)):
                good = attempt()
            text = "right draws" if good else "wrong draws"
        except Exception as error:
            texts = [str(each) for each in (error, error.__cause__, error.__context__)]
            good = isinstance(error, OF_MEMORY) or any(
                words in text for words in OF_SYSTEM for text in texts
            )
            text = type(error).__name__ + ("" if good else f": {texts[0][:200]}")
        seconds = time.monotonic() - begin
        assert attempt(), "the session does not go on"
        yield text, good, seconds
