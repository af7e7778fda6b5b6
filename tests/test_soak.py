"""A process that runs for long: its memory does not grow."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

START = """
import gc, logging, os
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
import pymc3_tf
import numpy as np, pymc3 as pm, tensorflow as tf

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def model_of(number):
    # Each has other data, so that nothing can be shared.
    y = np.random.RandomState(number).randn(1000)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        DECLARE
    return model

def check(work, times):
    for i in range(times):
        work(i)
        if i == times // 10:
            before = resident()
    after = resident()
    print(f"from {before:.1f} to {after:.1f} MB")
    assert after < 1.05 * before
"""
DENSITY = """pm.TFDensity("y", lambda y, mu: -0.5 * tf.square(y - mu), {"mu": mu}, observed=y)"""


def run(script):
    result = subprocess.run(
        [sys.executable, "-c", START.replace("DECLARE", DENSITY) + textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    print(result.stdout)


@pytest.mark.slow
def test_gradient_evaluations():
    run(
        """
        function = model_of(0).logp_dlogp_function()
        function.set_extra_values({})
        check(lambda i: function(np.array([1e-5 * i])), 200_000)
        """
    )


@pytest.mark.slow
def test_models_that_are_built_and_dropped():
    run(
        """
        def build(i):
            function = model_of(i).logp_dlogp_function()
            function.set_extra_values({})
            assert np.isfinite(function(np.array([0.5]))[0])

        check(build, 200)
        """
    )
