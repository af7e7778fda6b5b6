"""Benchmark: the log likelihood of InferenceData, in batches and by ArviZ's loop over the draws.

    python tests/benchmarks/log_likelihood.py [--quick]

prints the time of both for 4 chains, in turns, and their ratio: for the first conversion of a
model, which also builds what later ones have, and for a later one (the fastest of several).
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import argparse
import time

import numpy as np
import pymc3 as pm
import tensorflow as tf
from arviz.data import io_pymc3_3x

OURS = io_pymc3_3x.PyMC3Converter
ARVIZ = OURS.__bases__[0]
CHAINS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test of the benchmark")
    draws, repetitions = (50, 1) if parser.parse_args().quick else (1000, 5)
    print(f"{'':40}{'ArviZ':>9}{'first':>9}{'ratio':>7}{'later':>9}{'ratio':>7}")
    for points, expression in [(50, False), (50, True), (1000, False)]:
        model = line_model(points, expression)
        trace = random_trace(model, draws)
        first, ours = timed(OURS, model, trace)
        later, loop = [], []
        for _ in range(repetitions):
            later.append(timed(OURS, model, trace)[0])
            seconds, theirs = timed(ARVIZ, model, trace)
            loop.append(seconds)
        np.testing.assert_allclose(ours["y"], theirs["y"], rtol=1e-11)
        label = f"{points} points, {'Theano expression' if expression else 'plain parameters'}"
        seconds, again = min(loop), min(later)
        print(
            f"{label:40}{1e3 * seconds:6.0f} ms{1e3 * first:6.1f} ms{seconds / first:7.0f}"
            f"{1e3 * again:6.1f} ms{seconds / again:7.0f}"
        )


def line_model(points, expression):
    random = np.random.RandomState(1)
    x = random.uniform(0, 10, points)
    y = 0.5 * x - 2.3 + random.standard_normal(points)

    def normal(y, mu, log_s):
        return -0.5 * tf.square((y - mu) / tf.exp(log_s)) - log_s - 0.5 * np.log(2 * np.pi)

    def line(y, m, b, log_s):
        return normal(y, m * x + b, log_s)

    with pm.Model() as model:
        m, b, log_s = (pm.Uniform(name, -5, 5) for name in ("m", "b", "log_s"))
        if expression:
            pm.TFDensity("y", normal, {"mu": m * x + b, "log_s": log_s}, feed_dict={"y": y})
        else:
            pm.TFDensity("y", line, {"m": m, "b": b, "log_s": log_s}, feed_dict={"y": y})
    return model


def random_trace(model, draws):
    """Points near the test point: a trace without the time that sampling takes."""
    random = np.random.RandomState(2)
    traces = []
    for chain in range(CHAINS):
        trace = pm.backends.NDArray(model=model, vars=model.unobserved_RVs)
        trace.setup(draws, chain)
        for _ in range(draws):
            trace.record(
                {v.name: model.test_point[v.name] + random.uniform(-1, 1) for v in model.free_RVs}
            )
        trace.close()
        traces.append(trace)
    return pm.backends.base.MultiTrace(traces)


def timed(converter, model, trace):
    """Return the seconds that the log likelihood takes, and the log likelihood."""
    converter = converter(trace=trace, model=model)
    start = time.perf_counter()
    result = converter._extract_log_likelihood(trace)
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
