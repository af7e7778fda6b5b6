"""Benchmark: how long chains take to start by each method, and what a second core gains.

    python tests/benchmarks/parallel.py

prints two tables. Starting: seconds of the first call of ``pm.sample`` with four chains and hardly
a draw, and of a second one in the same process (a forkserver stays), beside those of chains in this
process. Scaling: draws per second of two chains on two cores, forked or started by a forkserver
with one thread each, by those in a process that has one core.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import multiprocessing
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pymc3 as pm
import tensorflow as tf
from report import print_table, progress

METHODS = ["one process", "fork", "forkserver with preload", "forkserver", "spawn"]
THREADED = "forkserver, a thread each"
WAYS = ["one core", "fork", THREADED]
ROUNDS = 3
DRAWS = 300


def light(y, mu):
    return -0.5 * tf.square(y - mu)


def elementwise(y, mu):
    """A density of many points."""
    return tf.reduce_sum(tf.exp(-tf.square(y - mu))) * 1e-6


def linear_algebra(y, mu):
    """A density of a product and a factorization of matrices."""
    matrix = tf.reshape(y[:40_000], [200, 200])
    matrix = tf.matmul(matrix, matrix, transpose_b=True) + 1e3 * tf.eye(200, dtype=y.dtype)
    factor = tf.linalg.cholesky(matrix * tf.exp(1e-3 * mu))
    return 1e-3 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))


HEAVY = {"1,000,000 points": (elementwise, 1_000_000), "linear algebra": (linear_algebra, 40_000)}


def model_of(density, size):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", density, {"mu": mu}, feed_dict={"y": np.linspace(-1, 1, size)})
    return model


def sample(model, draws, **kwargs):
    with model:
        return pm.sample(
            draws,
            tune=draws,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
            return_inferencedata=False,
            **kwargs,
        )


def start(method):
    """Print the seconds of the first two calls of a process."""
    model = model_of(light, 100)
    sample(model, 2, chains=1, cores=1)  # whatever is compiled once
    if "preload" in method:
        multiprocessing.set_forkserver_preload(["pymc3_tf"])
    how = {"cores": 1} if method == METHODS[0] else {"mp_ctx": method.split()[0], "cores": 4}
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        sample(model, 2, chains=4, **how)
        times.append(time.perf_counter() - begin)
    print(*times)


def scale(density, way):
    """Print the draws per second of two chains, on one core or on two."""
    model = model_of(*HEAVY[density])
    if way == WAYS[0]:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        how = {"cores": 1}
    else:
        how = {"cores": 2, "mp_ctx": way.split(",")[0]}
    times = {}

    def note(trace, draw):
        times.setdefault(draw.chain, []).append(time.perf_counter())

    sample(model, DRAWS, chains=2, callback=note, **how)
    rates = [(len(found) - 1) / (found[-1] - found[0]) for found in times.values()]
    print(sum(rates) if how["cores"] == 2 else statistics.mean(rates))


def measured(*arguments):
    environment = {
        **os.environ,
        **({"TF_NUM_INTRAOP_THREADS": "1"} if THREADED in arguments else {}),
    }
    result = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(number) for number in result.stdout.splitlines()[-1].split()]


def main():
    starts = {method: [] for method in METHODS}
    draws = {(density, way): [] for density in HEAVY for way in WAYS}
    for turn in range(ROUNDS):
        progress(f"round {turn + 1}")
        for method, found in starts.items():
            found.append(measured("start", method))
        for case, found in draws.items():
            found.append(measured("scale", *case))
    print("\nseconds of a call with four chains and hardly any draws")
    rows = [[method, *map(statistics.median, zip(*found))] for method, found in starts.items()]
    print_table(
        [["", "first call", "second call"]]
        + [[method, f"{first:.2f}", f"{second:.2f}"] for method, first, second in rows]
    )
    print("\ndraws per second of two chains, by those on one core")
    medians = {case: statistics.median(map(sum, found)) for case, found in draws.items()}
    print_table(
        [["", *WAYS]]
        + [
            [density, *(f"{medians[density, way] / medians[density, WAYS[0]]:.2f}" for way in WAYS)]
            for density in HEAVY
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        {"start": start, "scale": scale}[sys.argv[1]](*sys.argv[2:])
