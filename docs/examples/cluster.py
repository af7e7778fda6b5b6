"""A linear regression on a million rows that stay on two workers.

The workers are processes of their own (cluster_worker.py), servers of TensorFlow's distributed
runtime. Each makes its half of the data in its own memory. This process, the head, has none of it:
on each step of NUTS, the parameters go to the workers, and the log density and its gradient come
back. The priors and the noise are normal, so that the posterior is known: it is printed beside the
draws.

    python cluster.py --chains 2
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines

import argparse
import contextlib
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple

# Theano's advice on BLAS, and PyMC3's to move to its successor.
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").addFilter(lambda record: "outdated" not in record.getMessage())

import pymc3_tf  # noqa: F401  # before pymc3, for the sake of Python 3.11  # isort: skip
import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf

HERE = Path(__file__).resolve().parent
EFFECTS = [0.5, -0.3, 0.2]
NOISE = 50.0  # a hundred times the effects: a thousand rows would not show them
PRIOR = 1.0


# -- the cluster --------------------------------------------------------------------------------


@contextlib.contextmanager
def workers(number):
    """Start workers on free ports; yield their processes and the target for a session."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    try:
        for task in range(number):
            command = [sys.executable, str(HERE / "cluster_worker.py"), str(task), *addresses]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
            processes.append(process)
        for process in processes:
            assert process.stdout.readline(), "a worker could not start"
        yield processes, f"grpc://{addresses[0]}"
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            process.stdin.close()
            process.stdout.close()


# -- the model ----------------------------------------------------------------------------------


class Graph(NamedTuple):
    """Tensors of the likelihood's graph."""

    effects: tf.Tensor
    logp: tf.Tensor
    shards: List[tf.Variable]  # x and y of the first worker, x and y of the second, ...
    products: List[tf.Tensor]  # of the columns x_1, x_2, ..., y: the sufficient statistics


def graph(rows, number, seed):
    """Build the likelihood, each shard on its worker."""
    shards, products, terms = [], [], []
    with tf.Graph().as_default():
        effects = tf.compat.v1.placeholder(tf.float64, [len(EFFECTS)], "effects")
        for task in range(number):
            with tf.device(f"/job:worker/task:{task}"):
                # What fills the variable runs on the worker as well. It could read a file there.
                share = rows // number + (task < rows % number)
                draws = tf.random.stateless_normal(
                    [share, len(EFFECTS) + 1], seed=[seed, task], dtype=tf.float64
                )
                x_0, noise = draws[:, :-1], draws[:, -1]
                y_0 = tf.linalg.matvec(x_0, tf.constant(EFFECTS, tf.float64)) + NOISE * noise
                x, y = (
                    tf.compat.v1.get_variable(f"{name}_{task}", initializer=values)
                    for name, values in [("x", x_0), ("y", y_0)]
                )
                residual = y - tf.linalg.matvec(x, effects)
                constant = share * np.log(2 * np.pi * NOISE**2)
                terms.append(-0.5 * (tf.reduce_sum(residual**2) / NOISE**2 + constant))
                columns = tf.concat([x, y[:, None]], axis=1)
                products.append(tf.matmul(columns, columns, transpose_a=True))
                shards += [x, y]
        logp = tf.add_n(terms)
    return Graph(effects, logp, shards, products)


def connect(tensors, target):
    """Open the head's session, and let the workers make their data."""
    config = tf.compat.v1.ConfigProto(operation_timeout_in_ms=60_000)
    session = tf.compat.v1.Session(target, graph=tensors.logp.graph, config=config)
    session.run([shard.initializer for shard in tensors.shards])
    return session


def model(tensors, session):
    """Declare the prior, and the likelihood that lives on the cluster."""
    with pm.Model() as result:
        effects = pm.Normal("effects", 0.0, PRIOR, shape=len(EFFECTS))
        pm.TFDensity("y", tensors.logp, params={tensors.effects: effects}, session=session)
    return result


def closed_form(tensors, session):
    """Return mean and standard deviation of the posterior, from the sufficient statistics."""
    products = sum(session.run(tensors.products)) / NOISE**2
    covariance = np.linalg.inv(products[:-1, :-1] + np.eye(len(EFFECTS)) / PRIOR**2)
    return covariance @ products[:-1, -1], np.sqrt(np.diag(covariance))


def main(arguments=None):
    """Start the workers, sample, and compare with what is known."""
    parser = argparse.ArgumentParser(description="A linear regression on two workers.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of all shards (%(default)s)")
    parser.add_argument("--draws", type=int, default=300, help="of each chain (%(default)s)")
    parser.add_argument("--tune", type=int, default=200, help="tuning draws (%(default)s)")
    parser.add_argument("--chains", type=int, default=2, help="number of chains (%(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of data and sampler (%(default)s)")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    tensors = graph(options.rows, 2, options.seed)
    with workers(2) as (_, target), contextlib.closing(connect(tensors, target)) as session:
        mean, sd = closed_form(tensors, session)
        with model(tensors, session):
            posterior = pm.sample(
                options.draws,
                tune=options.tune,
                chains=options.chains,
                cores=options.cores,
                mp_ctx="forkserver",  # a forked process cannot use the cluster
                random_seed=options.seed,
                return_inferencedata=True,
                idata_kwargs={"log_likelihood": False},
            )
    summary = az.summary(posterior)
    summary["known mean"], summary["known sd"] = mean, sd
    print(summary.round(3).to_string())
    error = np.abs(summary["mean"] - mean) / sd
    print(f"\nThe means are within {error.max():.2f} standard deviations of the known ones.")
    print(f"{options.rows:,} rows on two workers, {time.perf_counter() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
