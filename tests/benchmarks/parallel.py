"""Benchmark: how long chains take to start by each method, and what a second core gains.

    python tests/benchmarks/parallel.py

prints two tables. Starting: seconds of a call of ``pm.sample`` with four chains and hardly a draw,
in processes of their own, beside that of chains in this process. Scaling: draws per second of two
chains with a heavy density, on one core and on two.
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
ROUNDS = 3


def light(y, mu):
    return -0.5 * tf.square(y - mu)


def heavy(y, mu):
    """A density that takes milliseconds: a factorization and an elementwise part."""
    matrix = tf.reshape(y[:40_000], [200, 200])
    matrix = tf.matmul(matrix, matrix, transpose_b=True) + 1e3 * tf.eye(200, dtype=y.dtype)
    factor = tf.linalg.cholesky(matrix * tf.exp(1e-3 * mu))
    return tf.reduce_sum(tf.exp(-tf.square(y - mu))) * 1e-4 + 1e-3 * tf.reduce_sum(
        tf.math.log(tf.linalg.diag_part(factor))
    )


def model_of(density, size):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", density, {"mu": mu}, feed_dict={"y": np.linspace(-1, 1, size)})
    return model


def seconds(model, draws, **kwargs):
    begin = time.perf_counter()
    with model:
        pm.sample(
            draws,
            tune=draws,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
            return_inferencedata=False,
            **kwargs,
        )
    return time.perf_counter() - begin


def start(method):
    """Print the seconds of a first call of each of ROUNDS processes: a forkserver stays."""
    model = model_of(light, 100)
    seconds(model, 2, chains=1, cores=1)  # whatever is compiled once
    if "preload" in method:
        multiprocessing.set_forkserver_preload(["pymc3_tf"])
    how = {"mp_ctx": method.split()[0], "cores": 4} if method != METHODS[0] else {"cores": 1}
    print(seconds(model, 2, chains=4, **how))


def scale(cores):
    """Print draws per second of two chains that may use some of the cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    model = model_of(heavy, 100_000)
    seconds(model, 2, chains=2, cores=cores)
    print(4 * 100 / seconds(model, 100, chains=2, cores=cores))


def measured(function, argument):
    command = [sys.executable, __file__, function, str(argument)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(result.stdout.split()[-1])


def main():
    starts = {method: [] for method in METHODS}
    draws = {1: [], 2: []}
    for turn in range(ROUNDS):
        progress(f"round {turn + 1}")
        for method, found in starts.items():
            found.append(measured("start", method))
        for cores, found in draws.items():
            found.append(measured("scale", cores))
    medians = {method: statistics.median(found) for method, found in starts.items()}
    print("\nseconds of a call with four chains and hardly any draws")
    print_table(
        [["", "median", "by one process"]]
        + [[m, f"{s:.2f}", f"{s / medians[METHODS[0]]:.1f}"] for m, s in medians.items()]
    )
    one, two = (statistics.median(found) for found in draws.values())
    print("\ndraws per second of two chains with a heavy density")
    print_table(
        [
            ["", "median", "by one core"],
            ["one core", f"{one:.0f}", "1.00"],
            ["two cores", f"{two:.0f}", f"{two / one:.2f}"],
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "start":
        start(sys.argv[2])
    else:
        scale(int(sys.argv[2]))
