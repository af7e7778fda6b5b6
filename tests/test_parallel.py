"""Chains in processes of their own: the draws of one process, or an error, and never a hang.

What each cell of the matrix does is in ``parallel_cells``. Processes are what a cell costs, so the
cells of one parent process run one after the other, and in continuous integration they are just so
many that each pair of values occurs.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import parallel_cells
import pytest

HERE = Path(__file__).resolve().parent

FACTORS = {
    "method": ["fork", "forkserver", "spawn"],
    "backend": ["pickle", "dill"],
    "parent": list(parallel_cells.PARENTS),
    "size": list(parallel_cells.SIZES),
    "source": list(parallel_cells.SOURCES),
}
CELLS = list(itertools.product(*FACTORS.values()))
# Seconds that a cell takes, about: each process of a chain imports TensorFlow unless it is forked.
COST = {"fork": 1, "forkserver": 8, "spawn": 8}


def pairs(cell):
    return set(itertools.combinations(enumerate(cell), 2))


def covering():
    """Choose cells until each pair of values is in one of them, the cheapest first."""
    open_pairs = set().union(*map(pairs, CELLS))
    chosen = []
    while open_pairs:
        best = max(CELLS, key=lambda cell: len(pairs(cell) & open_pairs) / COST[cell[0]])
        chosen.append(best)
        open_pairs -= pairs(best)
    return chosen


def environment(**more):
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def run_cells(cells, repeats, seconds):
    cells = [[*cell, repeats(cell)] for cell in cells]
    script = [sys.executable, str(HERE / "parallel_cells.py"), json.dumps(cells)]
    result = subprocess.run(
        script, env=environment(), capture_output=True, text=True, timeout=seconds
    )
    assert result.stdout.endswith(f"done {len(cells)}\n"), result.stdout + result.stderr[-5000:]


def of_parent(cells, parent):
    """Return the cells of a parent, those that fork first: there they find it as it was left."""
    some = [cell for cell in cells if cell[2] == parent]
    return sorted(some, key=lambda cell: FACTORS["method"].index(cell[0]))


def test_each_pair_of_values_is_in_a_cell():
    chosen = covering()
    assert len(set(chosen)) == len(chosen) < len(CELLS) / 5
    for one, other in itertools.combinations(range(len(FACTORS)), 2):
        values = [list(FACTORS.values())[i] for i in (one, other)]
        assert {(c[one], c[other]) for c in chosen} == set(itertools.product(*values))


@pytest.mark.parametrize("parent", FACTORS["parent"])
def test_chains_equal_those_of_one_process(parent):
    run_cells(of_parent(covering(), parent), lambda cell: 1, seconds=600)


@pytest.mark.slow
@pytest.mark.parametrize("method", FACTORS["method"])
@pytest.mark.parametrize("parent", FACTORS["parent"])
def test_every_cell(parent, method):
    some = [cell for cell in of_parent(CELLS, parent) if cell[0] == method]
    # Two chains each: twenty forks of one parent.
    run_cells(some, lambda cell: 10 if method == "fork" else 1, seconds=3600)


# Where the code comes from

SAMPLE = """
import logging
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
import pymc3_tf
import numpy as np
import pymc3 as pm
import tensorflow as tf

def logp(y, mu):
    return -0.5 * tf.square(y - mu)

def sample(model, **kwargs):
    with model:
        return pm.sample(20, tune=20, chains=4, random_seed=1, progressbar=False,
                         compute_convergence_checks=False, return_inferencedata=False, **kwargs)

with pm.Model() as model:
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.TFDensity("y", logp, {"mu": mu}, observed=np.ones(10))
"""

COMPARE = """
expected = sample(model, cores=1)["mu"]
for method in ("fork", "forkserver"):
    np.testing.assert_array_equal(sample(model, cores=4, mp_ctx=method)["mu"], expected)
print("equal")
"""


def run_code(code, seconds=300, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**kwargs),
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_from_the_command_line():
    result = run_code(SAMPLE + COMPARE)
    assert result.stdout == "equal\n", result.stderr[-5000:]


def test_from_a_notebook():
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(env=environment(), startup_timeout=120)
    printed = []

    def hear(message):
        content = message["content"]
        printed.append(content.get("text") or "\n".join(content.get("traceback", [])))

    try:
        for cell in (SAMPLE, COMPARE):
            reply = client.execute_interactive(cell, timeout=300, output_hook=hear)
            assert reply["content"]["status"] == "ok", "".join(printed)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "equal" in "".join(printed)


# Other samplers


def test_sequential_monte_carlo_in_forks():
    result = run_code(
        SAMPLE
        + """
with model:
    found = [
        pm.sample_smc(200, chains=2, cores=2, parallel=parallel, random_seed=[1, 2]
                      ).report.log_marginal_likelihood
        for parallel in (False, True)
    ]
np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
print("equal")
"""
    )
    assert result.stdout.endswith("equal\n"), result.stderr[-5000:]


def test_population_of_chains():
    # PyMC3 does not seed the processes of a population: their draws differ from run to run.
    result = run_code(
        SAMPLE
        + """
with model:
    trace = pm.sample(5000, tune=500, chains=4, cores=4, step=pm.DEMetropolis(), random_seed=1,
                      progressbar=False, return_inferencedata=False)
import arviz
draws = np.array(trace.get_values("mu", combine=False))
error = draws.std() / np.sqrt(float(arviz.ess(draws)))
assert abs(draws.mean() - 10 / 11) < 5 * error < 0.1, (draws.mean(), error)
np.testing.assert_allclose(draws.std(), 11**-0.5, rtol=0.15)
print("right")
"""
    )
    assert result.stdout.endswith("right\n"), result.stderr[-5000:]


# Faults

TWINS = (
    SAMPLE
    + """
import multiprocessing, os, signal, sys, threading

with pm.Model() as builtin:
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.Normal("y", mu, 1.0, observed=np.ones(10))
"""
)


@pytest.mark.parametrize("model", ["model", "builtin"])
def test_chain_that_the_system_kills_is_an_error(model):
    result = run_code(
        TWINS
        + f"""
def kill(trace, draw):
    if draw.draw_idx == 30 and draw.chain == 0:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

with {model}:
    pm.sample(100_000, tune=10, chains=2, cores=2, progressbar=False, callback=kill)
"""
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith(("EOFError", "ConnectionReset"))


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("model", ["model", "builtin"])
def test_interrupt_returns_the_draws_so_far(model, cores):
    result = run_code(
        TWINS
        + f"""
def interrupt(trace, draw):
    if draw.draw_idx == 100 and draw.chain == 0:
        os.killpg(0, signal.SIGINT)  # as the terminal does

os.setpgrp()
with {model}:
    trace = pm.sample(100_000, tune=10, chains=2, cores={cores}, progressbar=False, random_seed=1,
                      compute_convergence_checks=False, return_inferencedata=False,
                      callback=interrupt)
print("draws", len(trace), np.isfinite(trace["mu"]).all())
"""
    )
    words = result.stdout.split()
    assert words[0] == "draws" and words[2] == "True", result.stdout + result.stderr[-5000:]
    assert 50 < int(words[1]) < 10_000


def test_home_that_cannot_be_written_gives_the_error_of_theano():
    code = """
import theano
x = theano.tensor.dvector()
theano.function([x], 2 * x)
"""
    flags = {"THEANO_FLAGS": "blas__ldflags=,base_compiledir=/proc/nowhere"}
    ours, theirs = (run_code(imports + code, **flags) for imports in ("import pymc3_tf", ""))
    assert ours.returncode == theirs.returncode == 1
    assert "/proc/nowhere" in theirs.stderr
    assert ours.stderr.strip().splitlines()[-1] == theirs.stderr.strip().splitlines()[-1]
