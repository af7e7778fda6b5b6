"""Several processes: whatever starts them, chains give the right numbers, and never hang.

The cells that ``parallel_cells.py`` runs are combinations of the factors below. By default each
pair of values of two factors is in one of the cells; ``-m slow`` has every combination.
"""

import collections
import concurrent.futures
import functools
import itertools
import json
import random
import re
import signal
import textwrap
from pathlib import Path

import numpy as np
import parallel_cells
import pymc3 as pm
import pytest
from support import kill_group, python, run, run_text

FACTORS = {
    "start": ["fork", "forkserver", "forkserver-preload", "spawn"],
    "parent": ["nothing", "eager", "session", "xla", "threads"],
    "place": ["script", "command", "notebook", "pytest"],
    "backend": ["pickle", "dill"],
    "size": ["small", "large"],
    "source": [
        "placeholder", "variable", "function", "tf_function", "jit_compile", "distribution",
    ],
    "step": ["nuts", "metropolis", "demetropolis", "smc"],
}  # fmt: skip
# What makes a process of its own; the other factors can change from cell to cell in it.
PROCESS = ["start", "parent", "place"]

# Seconds, about: libraries are imported by each process that is not forked.
IMPORT = 6
IMPORTS = {"fork": 0, "forkserver": 2, "forkserver-preload": 1, "spawn": 2}


def possible(cell):
    """Whether PyMC3 can do it with any model: parallel SMC fails where processes do not fork."""
    return cell["step"] != "smc" or cell["start"] == "fork"


def process_of(cell):
    return tuple(cell[factor] for factor in PROCESS)


def pairs_of(cell):
    return set(itertools.combinations(cell.items(), 2))


def combinations_of(factors):
    return [dict(zip(factors, values)) for values in itertools.product(*factors.values())]


@functools.lru_cache(1)
def covering_cells():
    """Choose cells with each pair of values, those first that have most of them for their time."""
    cells = [(cell, pairs_of(cell)) for cell in combinations_of(FACTORS) if possible(cell)]
    missing, chosen, processes = set().union(*(pairs for _, pairs in cells)), [], set()

    def pairs_by_time(candidate):
        cell, pairs = candidate
        imports = IMPORTS[cell["start"]] + (process_of(cell) not in processes)
        return len(pairs & missing) / (1 + IMPORT * imports)

    while missing:
        cell, pairs = max(cells, key=pairs_by_time)
        missing -= pairs
        chosen.append(cell)
        processes.add(process_of(cell))
    return chosen


def every_cell(start, parent):
    """Return all combinations of the other factors, among which place and step take turns."""
    turn = random.Random(f"{start} {parent}")
    factors = {k: v for k, v in FACTORS.items() if k not in (*PROCESS, "step")}
    for cell in combinations_of(factors):
        steps = FACTORS["step"] if start == "fork" else FACTORS["step"][:-1]
        place, step = turn.choice(FACTORS["place"]), turn.choice(steps)
        yield {"start": start, "parent": parent, "place": place, **cell, "step": step}


def test_each_pair_of_values_is_in_a_cell():
    found = set().union(*map(pairs_of, covering_cells()))
    wanted = set().union(*map(pairs_of, combinations_of(FACTORS)))
    others = set(FACTORS["start"]) - {"fork"}
    assert wanted - found == {(("start", start), ("step", "smc")) for start in others}


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(start, marks=() if start == "fork" else pytest.mark.slow)
        for start in FACTORS["start"]
    ],
)
def test_draws_are_right_however_processes_start(start):
    run_cells([cell for cell in covering_cells() if cell["start"] == start])


@pytest.mark.slow
@pytest.mark.parametrize("parent", FACTORS["parent"])
@pytest.mark.parametrize("start", FACTORS["start"])
def test_draws_are_right_in_every_combination(start, parent):
    run_cells(every_cell(start, parent), chains=20 if start == "fork" else 2)


def test_preloaded_server_has_the_libraries():
    result = run_text(
        """
        import multiprocessing
        multiprocessing.set_forkserver_preload(["pymc3_tf"])
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            print(pool.apply(eval, ("'pymc3_tf' in __import__('sys').modules",)))
        """
    )
    assert result.stdout.split() == ["True"], result.stderr


THREADS = """
    import multiprocessing, os
    from parallel_cells import np, tensorflow_model
    from pymc3_tf.runtime import forks

    forks.available_cores = lambda: 8
    function = tensorflow_model("function", "small").logp_dlogp_function()
    function.set_extra_values({})

    def evaluate(everyone):
        everyone.wait()
        before = len(os.listdir("/proc/self/task"))
        function(np.array([0.1]))
        os.write(1, b"%d\\n" % (len(os.listdir("/proc/self/task")) - before))  # in one piece

    fork = multiprocessing.get_context("fork")
    for number in (1, 2, 16):
        everyone = fork.Barrier(number)
        children = [fork.Process(target=evaluate, args=(everyone,)) for _ in range(number)]
        for child in children:
            child.start()
        for child in children:
            child.join()
"""


@pytest.mark.parametrize("variable, threads", [({}, (8, 4, 1)), ({"INTRAOP": "3"}, (3, 3, 3))])
def test_forked_chains_share_the_cores(variable, threads):
    environment = {f"TF_NUM_{kind}_THREADS": number for kind, number in variable.items()}
    result = run_text(THREADS, **environment)
    # The pool has one more, for ops that wait.
    numbers = [1 + n for n, children in zip(threads, (1, 2, 16)) for _ in range(children)]
    assert list(map(int, result.stdout.split())) == numbers, result.stderr


# -- what goes wrong --------------------------------------------------------------------------


def test_killed_chain_is_an_error_and_no_hang():
    result = run_text(
        """
        import multiprocessing, os, signal
        from parallel_cells import closed_form, pm, tensorflow_model

        def kill(trace, draw):
            if draw.draw_idx == 20 and not killed:
                killed.append(multiprocessing.active_children()[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        for start in ("fork", "forkserver"):
            for model in (tensorflow_model("function", "small"), closed_form("small")):
                killed = []
                try:
                    with model:
                        pm.sample(100_000, tune=10, chains=2, cores=2, mp_ctx=start, callback=kill,
                                  progressbar=False, return_inferencedata=False)
                except RuntimeError as error:
                    print(len(killed), "killed:", error)
        """
    )
    said = r"1 killed: Chain [01] failed: its process was ended by the signal SIGKILL\. "
    lines = result.stdout.splitlines()
    assert len(lines) == 4 and all(re.match(said, line) for line in lines), result.stderr


INTERRUPTED = """
    import sys
    from parallel_cells import closed_form, np, pm, tensorflow_model

    def tell(trace, draw):
        if draw.draw_idx == 50:
            print("draws", flush=True)

    model = tensorflow_model("function", "small") if sys.argv[1] == "ours" else closed_form("small")
    with model:
        trace = pm.sample(100_000, tune=20, chains=2, cores=2, mp_ctx="fork", callback=tell,
                          random_seed=[1, 2], progressbar=False, return_inferencedata=False,
                          compute_convergence_checks=False)
    # PyMC3 leaves out a chain that is much shorter than the other one.
    np.savez(sys.argv[2], **{str(chain): trace.get_values("x", chains=chain)
                             for chain in trace.chains})
"""


def test_interrupt_returns_the_draws_so_far(tmp_path):
    with parallel_cells.closed_form("small"):
        expected = pm.sample(
            20,
            tune=20,
            chains=2,
            cores=1,
            random_seed=[1, 2],
            progressbar=False,
            return_inferencedata=False,
            compute_convergence_checks=False,
        )
    for model in ("ours", "theirs"):
        file = tmp_path / f"{model}.npz"
        with python(["-c", textwrap.dedent(INTERRUPTED), model, str(file)]) as process:
            for _ in range(2):
                assert process.stdout.readline() == "draws\n", process.stderr.read()
            kill_group(process, signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        partial = np.load(file)
        assert partial.files
        for chain in partial.files:
            assert 20 <= len(partial[chain]) < 100_000
            np.testing.assert_allclose(
                partial[chain][:20], expected.get_values("x", chains=int(chain)), rtol=1e-6
            )


def test_interrupt_at_the_fork_is_heard():
    result = run_text(
        """
        import os, signal
        from parallel_cells import pm, tensorflow_model

        def interrupt():
            if not said:
                said.append("fork")
                os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = []
        os.register_at_fork(after_in_parent=interrupt)
        for _ in range(2):
            with tensorflow_model("function", "small"):
                try:
                    pm.sample(5, tune=5, chains=2, cores=2, mp_ctx="fork", progressbar=False)
                    said.append("draws")
                except KeyboardInterrupt:
                    said.append("interrupt")
        print(*said)
        """
    )
    assert result.stdout.split() == ["fork", "interrupt", "draws"], result.stderr


def test_draws_are_returned_without_the_first_chain():
    # As after Ctrl-C, if another chain has many more draws.
    with parallel_cells.closed_form("small"):
        trace = pm.sample(
            6, tune=4, chains=1, cores=1, chain_idx=1, progressbar=False,
            return_inferencedata=False, compute_convergence_checks=False,
        )  # fmt: skip
    assert trace.chains == [1] and len(trace) == 6 and trace.report.n_tune == 4


def test_compiledir_that_cannot_be_made_is_theanos_own_error(tmp_path):
    (tmp_path / "file").write_text("")
    result = run_text(
        """
        from parallel_cells import closed_form, tensorflow_model

        for make in (lambda: tensorflow_model("function", "small"), lambda: closed_form("small")):
            try:
                make().logp_dlogp_function()
            except ValueError as error:
                print(str(error).splitlines()[0])
        """,
        # Without a compiler Theano would not look for it; it never comes to calling this one.
        THEANO_FLAGS=f"cxx=g++,blas__ldflags=,base_compiledir={tmp_path / 'file' / 'compiledir'}",
    )
    ours, theirs = result.stdout.splitlines()
    assert ours == theirs and ours.startswith("Unable to create the compiledir"), result.stderr


def test_chain_that_hangs_in_tensorflow_is_an_error():
    result = run_text(
        """
        import time
        from parallel_cells import pm, tensorflow_model
        from pymc3_tf.runtime import forks, sessions

        with tensorflow_model("function", "small"):
            forks.FORK_TIMEOUT = 2
            sessions.GraphSession.make_callable = lambda *args: lambda *args: time.sleep(1000)
            try:
                pm.sample(10, tune=10, chains=2, cores=2, mp_ctx="fork", start={"x": 0.0},
                          step=pm.Metropolis(), progressbar=False)
            except RuntimeError as error:
                print(str(error).splitlines()[0])
        """
    )
    said = r"Chain [01] failed: its process was ended by the signal SIGALRM\.\n"
    assert re.fullmatch(said, result.stdout), result.stderr
    assert "most recent call first" in result.stderr


BUSY = """
    import sys, threading
    from parallel_cells import large_product, np, pm, sample, chain_values, tensorflow_model
    from parallel_cells import closed_form
    from pymc3_tf.runtime import forks

    forks.FORK_TIMEOUT = 60
    release = threading.Event()

    def work():
        while not release.is_set():
            large_product()

    model = tensorflow_model("function", "large")
    expected = chain_values(sample(closed_form("large"), "metropolis", 2, cores=1))
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    right = failed = 0
    for _ in range(10):
        try:
            trace = sample(model, "metropolis", 2, cores=2, mp_ctx="fork")
        except RuntimeError:
            failed += 1
        else:
            np.testing.assert_allclose(chain_values(trace), expected, rtol=1e-6)
            right += 1
    release.set()
    print(right, failed)
"""


@pytest.mark.slow
def test_threads_inside_of_tensorflow_at_the_fork_cause_no_hang():
    result = run_text(BUSY, timeout=3600)
    right, failed = map(int, result.stdout.split())
    assert right + failed == 10, result.stderr


# -- soak -------------------------------------------------------------------------------------

MEMORY = """
    import ctypes, gc
    from parallel_cells import SIZES, closed_form, np, tensorflow_model

    def memory():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def compiled(model):
        function = model.logp_dlogp_function()
        function.set_extra_values({})
        return function
"""
MANY_EVALUATIONS = """
    function = compiled(tensorflow_model("function", "small"))
    points = np.random.RandomState(1).normal(size=(200_000, 1))
    for i, point in enumerate(points):
        function(point)
        if i == len(points) // 10:
            early = memory()
"""
MANY_MODELS = """
    SIZES["medium"] = (50_000, 3)
    for i in range(200):
        function = compiled(tensorflow_model("function", "medium"))
        function(np.array([0.1]))
        del function
        if i == 20:
            early = memory()
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", [MANY_EVALUATIONS, MANY_MODELS], ids=["evaluations", "models"])
def test_memory_does_not_grow(work):
    text = textwrap.dedent(MEMORY) + textwrap.dedent(work) + "print(early, memory())"
    result = run(["-c", text], timeout=3600)
    early, late = map(int, result.stdout.split())
    assert late < 1.05 * early, (early, late)


# -- running cells ----------------------------------------------------------------------------

NOTEBOOK = """
import sys
from pathlib import Path
from jupyter_client.manager import start_new_kernel

kernel, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
try:
    reply = client.execute_interactive(Path(sys.argv[1]).read_text("utf-8"), timeout=3600)
finally:
    client.stop_channels()
    kernel.shutdown_kernel(now=True)
sys.exit(reply["content"]["status"] != "ok")
"""


def run_cells(cells, chains=2):
    """Run cells, two processes at a time; fail with the output of all that fail."""
    processes = collections.defaultdict(list)
    for cell in cells:
        rest = {factor: value for factor, value in cell.items() if factor not in PROCESS}
        processes[process_of(cell)].append({**rest, "chains": chains})
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        failures = list(executor.map(failure_of, processes, processes.values()))
    assert not any(failures), "\n".join(filter(None, failures))


def failure_of(process, cells):
    """Run the cells of one process; return what went wrong, if anything did."""
    start, parent, place = process
    script = parallel_cells.__file__
    arguments = {
        "script": [script],
        "command": ["-c", Path(script).read_text("utf-8")],
        "notebook": ["-c", NOTEBOOK, script],
        "pytest": ["-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider",
                   "-o", "faulthandler_timeout=3000", script],
    }  # fmt: skip
    task = json.dumps({"start": start, "parent": parent, "cells": cells})
    result = run(arguments[place], 300 + 60 * len(cells), **{parallel_cells.CELLS: task})
    right = "1 passed" if place == "pytest" else f"{len(cells)} cells are right"
    if result.returncode == 0 and right in result.stdout:
        return None
    return f"{process}, {cells}:\n{result.stdout}\n{result.stderr}"
