"""What test_parallel.py runs in processes of their own: sampling with several processes.

A cell says how processes start, what is sampled and with what. The cells of one process come as
JSON in the environment, so that the same text runs as a script, after ``python -c``, in a notebook
and in pytest. Draws are compared with those of the closed form of the same model, which knows
nothing of TensorFlow, in one process with the same seeds.
"""

import json
import logging
import multiprocessing
import os
import threading

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("theano.configdefaults").setLevel(logging.ERROR)
logging.getLogger("pymc3").setLevel(logging.ERROR)

import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano.tensor as tt

CELLS = "PYMC3_TF_TEST_CELLS"
# (points of data, rows of the matrix). The large ones use TensorFlow's pool of threads.
SIZES = {"small": (8, 3), "large": (1_000_000, 500)}
PRECISION = 25.0
PRIOR_SCALE = 0.5


def main():
    """Run the cells of the environment, one after the other."""
    process = json.loads(os.environ[CELLS])
    release = use_tensorflow(process["parent"])
    start, _, preload = process["start"].partition("-")
    multiprocessing.set_start_method(start, force=True)  # population sampling and SMC ask for it
    if preload:
        multiprocessing.set_forkserver_preload(["pymc3_tf"])
    for cell in process["cells"]:
        run(start, **cell)
        print("right:", *cell.values(), flush=True)
    release.set()
    print(f"{len(process['cells'])} cells are right", flush=True)


def test_cells():
    """Let pytest run them."""
    main()


# -- what the parent does before it samples ---------------------------------------------------


def use_tensorflow(how):
    """Use TensorFlow and its pool of threads in one of the ways that there are."""
    release = threading.Event()
    if how == "eager":
        large_product().numpy()
    elif how == "session":
        run_session()
    elif how == "xla":
        tf.function(large_product, jit_compile=True)().numpy()
    elif how == "threads":
        finished = threading.Thread(target=run_session)
        finished.start()
        finished.join()
        for function in (large_product, run_session):
            used = threading.Event()
            threading.Thread(target=stay, args=(function, used, release), daemon=True).start()
            used.wait()
    else:
        assert how == "nothing"
    return release


def large_product():
    matrix = tf.ones([500, 500], tf.float64)
    return tf.reduce_sum(tf.linalg.matmul(matrix, matrix))


SESSIONS = []


def run_session():
    with tf.Graph().as_default() as graph:
        total = large_product()
    SESSIONS.append(tf.compat.v1.Session(graph=graph))
    assert SESSIONS[-1].run(total) == 500.0**3


def stay(function, used, release):
    function()
    used.set()
    release.wait()


# -- the model, twice -------------------------------------------------------------------------


def data_of(size):
    return np.random.RandomState(1).normal(1.0, 1.0, SIZES[size][0])


def tensorflow_model(source, size):
    """Return the model whose likelihood is in TensorFlow: y ~ Normal(exp(x), scale)."""
    y, scale = data_of(size), np.sqrt(SIZES[size][0] / PRECISION)

    def location(x):
        # exp(x), by way of a factorization, a product and their gradients.
        matrix = tf.exp(x) * tf.eye(SIZES[size][1], dtype=tf.float64)
        factor = tf.linalg.cholesky(matrix)
        product = tf.linalg.matmul(factor, factor, transpose_b=True)
        return tf.linalg.trace(product) / SIZES[size][1]

    def logp(y, x, scale=scale):
        return -0.5 * tf.square((y - location(x)) / scale)

    v1 = tf.compat.v1
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, PRIOR_SCALE)
        if source in ("placeholder", "variable"):
            with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
                y_t = v1.placeholder(tf.float64, [None])
                if source == "placeholder":
                    x_t, scale_t = v1.placeholder(tf.float64, []), scale
                else:
                    x_t = v1.get_variable("x", [], tf.float64)
                    scale_t = v1.get_variable("scale", initializer=scale)
                session.run(v1.global_variables_initializer())
                density = logp(y_t, x_t, scale_t)
                pm.TFDensity("y", density, {x_t: x}, feed_dict={y_t: y}, session=session)
        elif source == "distribution":
            import tensorflow_probability as tfp

            def distribution(x):
                return tfp.distributions.Normal(location(x), scale)

            pm.TFDensity("y", params={"x": x}, observed=y, distribution=distribution)
        else:
            function = tf.function(logp) if source == "tf_function" else logp
            jit_compile = source == "jit_compile"
            pm.TFDensity("y", function, {"x": x}, feed_dict={"y": y}, jit_compile=jit_compile)
    return model


def closed_form(size):
    """Return the same model, up to a constant, without TensorFlow."""
    mean = data_of(size).mean()
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, PRIOR_SCALE)
        pm.Potential("y", -0.5 * PRECISION * tt.square(tt.exp(x) - mean))
    return model


# -- sampling ---------------------------------------------------------------------------------


def run(start, backend, size, source, step, chains=2):
    """Sample in several processes, and compare."""
    ours, theirs = tensorflow_model(source, size), closed_form(size)
    if step == "smc":
        draws = [smc(ours, chains, parallel=True), smc(theirs, chains, parallel=False)]
        np.testing.assert_allclose(*draws, rtol=1e-6)
        return
    # The population of DEMetropolis needs three chains.
    chains = max(chains, 3) if step == "demetropolis" else chains
    trace = sample(ours, step, chains, cores=2, mp_ctx=start, pickle_backend=backend)
    if step == "demetropolis":
        check_acceptance(trace, size)
    else:
        expected = sample(theirs, step, chains, cores=1)
        np.testing.assert_allclose(
            trace.get_values("x", combine=False),
            expected.get_values("x", combine=False),
            rtol=1e-6,
        )
    assert trace.nchains == chains and not np.allclose(*chain_values(trace)[:2])


def sample(model, step, chains, **kwargs):
    steps = {"nuts": None, "metropolis": pm.Metropolis, "demetropolis": pm.DEMetropolis}
    number = {"nuts": 6, "metropolis": 30, "demetropolis": 30}[step]
    with model:
        return pm.sample(
            number,
            tune=number,
            chains=chains,
            step=steps[step] and steps[step](),
            random_seed=list(range(chains)),
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
            discard_tuned_samples=False,
            **kwargs,
        )


def smc(model, chains, parallel):
    with model:
        trace = pm.sample_smc(
            30,
            n_steps=3,
            chains=chains,
            cores=2,
            parallel=parallel,
            random_seed=list(range(chains)),
        )
    return trace["x"]


def chain_values(trace):
    return np.array(trace.get_values("x", combine=False, squeeze=False))


def check_acceptance(trace, size):
    """Check the log density by its differences: PyMC3 seeds a population's processes anew."""
    x = chain_values(trace)
    logp = -0.5 * (x / PRIOR_SCALE) ** 2
    logp -= 0.5 * PRECISION * (np.exp(x) - data_of(size).mean()) ** 2
    accept = np.array(trace.get_sampler_stats("accept", combine=False, squeeze=False))
    moved = np.diff(x) != 0.0
    assert moved.any(axis=1).all(), "a chain did not move"
    np.testing.assert_allclose(
        accept.reshape(x.shape)[:, 1:][moved], np.exp(np.diff(logp))[moved], rtol=1e-6
    )


if __name__ == "__main__":
    main()
