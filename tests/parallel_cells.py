"""Samples models in several processes, as one script; ``test_parallel`` runs it.

    python parallel_cells.py '[[method, backend, parent, size, source, repeats], ...]'

Cells of one call share the parent process, so they should agree in ``parent``: what that process
does with TensorFlow before it samples. The draws of chains in processes of their own have to equal
those of chains in this process.
"""

import json
import logging
import os
import sys
import threading

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
import pymc3_tf  # noqa: F401  # isort: skip  # on Python 3.11 it has to come before PyMC3

import numpy as np
import pymc3 as pm
import tensorflow as tf

v1 = tf.compat.v1
SIZES = {"small": 20, "large": 1_000_000}


def logp(y, mu, scale):
    """Log density of a normal; for many points with a matrix that takes all threads."""
    # As informative as a few points, so that a few draws see the posterior.
    total = 20 * tf.reduce_mean(-0.5 * tf.square((y - mu) / scale) - tf.math.log(scale))
    if y.shape[0] > 1000:
        matrix = tf.reshape(y[:250_000], [500, 500])
        matrix = tf.matmul(matrix, matrix, transpose_b=True) + 1e4 * tf.eye(500, dtype=y.dtype)
        factor = tf.linalg.cholesky(matrix * tf.exp(0.01 * mu))
        total += 1e-3 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
    return total


def data(size):
    return np.random.RandomState(0).normal(1.0, 2.0, SIZES[size])


def from_placeholders(mu, y):
    with tf.Graph().as_default():
        y_t, mu_t, scale_t = (v1.placeholder(tf.float64, s) for s in (y.shape, (), ()))
        density = logp(y_t, mu_t, scale_t)
        pm.TFDensity("y", density, {mu_t: mu}, feed_dict={y_t: y, scale_t: np.array(2.0)})


def from_variables(mu, y):
    with tf.Graph().as_default(), v1.Session() as session:
        y_t = v1.placeholder(tf.float64, y.shape)
        mu_t = v1.get_variable("mu", [], tf.float64)
        scale_t = v1.get_variable("scale", initializer=np.array(2.0), use_resource=True)
        session.run(v1.global_variables_initializer())
        pm.TFDensity("y", logp(y_t, mu_t, scale_t), {mu_t: mu}, feed_dict={y_t: y})


def from_function(mu, y, wrap=lambda function: function, **kwargs):
    feed_dict = {"y": y, "scale": np.array(2.0)}
    pm.TFDensity("y", wrap(logp), {"mu": mu}, feed_dict=feed_dict, **kwargs)


def from_distribution(mu, y):
    import tensorflow_probability as tfp

    def distribution(mu):
        return tfp.distributions.Normal(mu, np.float64(2.0))

    y = y[:100]  # of more points, a few draws would not find the posterior
    pm.TFDensity("y", distribution=distribution, params={"mu": mu}, feed_dict={"value": y})


SOURCES = {
    "placeholders": from_placeholders,
    "variables": from_variables,
    "function": from_function,
    "tf_function": lambda mu, y: from_function(mu, y, wrap=tf.function),
    "xla": lambda mu, y: from_function(mu, y, jit_compile=True),
    "distribution": from_distribution,
}


def use_nothing():
    pass


def use_eager():
    matrix = tf.random.normal([600, 600])
    assert tf.reduce_sum(tf.matmul(matrix, matrix)).numpy() != 0
    assert tf.reduce_sum(tf.ones([1_000_000])).numpy() == 1e6


def use_session():
    with tf.Graph().as_default(), v1.Session() as session:
        matrix = tf.random.normal([600, 600])
        session.run(tf.matmul(matrix, matrix))


def use_xla():
    square = tf.function(lambda x: tf.reduce_sum(x * x), jit_compile=True)
    assert square(tf.ones([1000])).numpy() == 1000


def use_threads():
    """Leave threads that have used TensorFlow: one has ended, the other waits."""
    done = threading.Event()

    def work(wait):
        use_eager()
        use_session()
        done.set()
        if wait:
            threading.Event().wait()

    first = threading.Thread(target=work, args=(False,))
    first.start()
    first.join()
    done.clear()
    threading.Thread(target=work, args=(True,), daemon=True).start()
    done.wait()


PARENTS = {
    "nothing": use_nothing,
    "eager": use_eager,
    "session": use_session,
    "xla": use_xla,
    "threads": use_threads,
}


def sample(model, **kwargs):
    with model:
        return pm.sample(
            5,
            tune=5,
            chains=2,
            random_seed=[1, 2],
            progressbar=False,
            compute_convergence_checks=False,
            return_inferencedata=False,
            **kwargs,
        )["mu"]


def run(method, backend, size, source, repeats):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        SOURCES[source](mu, data(size))
    found = [sample(model, cores=2, mp_ctx=method, pickle_backend=backend) for _ in range(repeats)]
    expected = sample(model, cores=1)
    assert np.unique(expected).size > 2
    for draws in found:
        # The sums of a million numbers depend on the number of threads.
        np.testing.assert_allclose(draws, expected, rtol=1e-6)


def main():
    cells = json.loads(sys.argv[1])
    (parent,) = {cell[2] for cell in cells}
    PARENTS[parent]()
    for method, backend, _, size, source, repeats in cells:
        print(method, backend, parent, size, source, flush=True)
        run(method, backend, size, source, repeats)
    print("done", len(cells))


if __name__ == "__main__":
    main()
