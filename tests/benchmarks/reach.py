"""Benchmark: what pymc3_tf.sample reaches for densities that are hard to write in PyMC3.

    python tests/benchmarks/reach.py [--models ...] [--quick] [--numpyro-python PATH]

prints a table, and writes ``reach.json``. Each model has a process of its own, and a limit of time.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # isort: skip  # before PyMC3, for Python 3.11

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pymc3 as pm
import reach_gradient
import reach_models
import tensorflow as tf
from report import as_json, machine, print_table, progress, target, versions
from sampling_worker import Worker

from pymc3_tf.checking import timing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

LABELS = {
    "ar": "AR(2), 200 points, tf.scan",
    "garch": "GARCH(1,1), 200 points, tf.scan",
    "lotka_volterra": "Lotka-Volterra, 400 Runge-Kutta steps",
    "dormand_prince": "Lotka-Volterra, DormandPrince",
    "hidden_markov": "HiddenMarkovModel, 500 steps",
    "kalman": "LinearGaussianStateSpaceModel, 200 steps",
    "kepler": "Kepler's equation, op in C++",
    "gaussian_process": "Gaussian process, 100 points",
    "gaussian_process_500": "Gaussian process, 500 points",
}
# Draws of which two chains are compared with one: so many that the rest is little.
SCALING = {"garch": 10_000, "kepler": 8_000}
GAUSSIAN = {"gaussian_process", "gaussian_process_500"}
CHAINS, SCALING_ROUNDS = 2, 7
# Trajectories of at most 31 steps, for pm.sample would take hours otherwise.
DEPTH = 5
BUDGET = 20  # seconds of pm.sample, about


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--quick", action="store_true", help="a smoke test: hardly any draws")
    parser.add_argument(
        "--numpyro-python",
        default=os.environ.get("NUMPYRO_PYTHON"),
        help="a Python that has NumPyro; default: NUMPYRO_PYTHON in the environment",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of reach.json; default: docs/benchmarks, with --quick none",
    )
    parser.add_argument("--gradients", action="store_true", help="without draws")
    parser.add_argument(
        "--time-limit", type=int, default=600, help="seconds of a model; default: 600"
    )
    parser.add_argument("--alone", choices=LABELS, help="this model in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        for result in measure(arguments.alone, arguments.quick, arguments.numpyro_python):
            print(json.dumps(result), flush=True)
            if arguments.gradients:
                break
        return
    output = arguments.output
    if output is None and not arguments.quick:
        output = ROOT / "docs" / "benchmarks"
    path = output and output / "reach.json"
    # Models that are not measured now stay as they were.
    results = json.loads(path.read_text("utf-8")) if path and path.exists() else {"models": {}}
    results.update(date=datetime.date.today().isoformat(), versions=versions(), machine=machine())
    results["labels"] = LABELS
    for model in arguments.models:
        progress(LABELS[model])
        found = in_process(model, arguments)
        if found:
            known = results["models"].setdefault(model, {})
            known.pop("failure", None)  # that of an earlier run
            known.update(found)
        results["targets"] = targets(results["models"])
        if path:
            path.write_text(as_json(results) + "\n", encoding="utf-8")
    print_tables(results)


def in_process(model, arguments):
    """Return what is measured of a model; None, with the reason on stderr, if there is none."""
    command = [sys.executable, __file__, "--alone", model]
    command += ["--quick"] * arguments.quick + ["--gradients"] * arguments.gradients
    if arguments.numpyro_python:
        command += ["--numpyro-python", arguments.numpyro_python]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=arguments.time_limit)
            failure = f"code {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and the chains and NumPyro, which it started
            output, _ = process.communicate()
            failure = f"{arguments.time_limit} s are over"
        log.seek(0)
        said = log.readlines()
    sys.stderr.writelines(line for line in said if " s: " in line)
    if failure:
        progress(f"{model}: {failure}. {''.join(said[-15:])}")
    lines = output.decode().splitlines()
    # What there was before a failure counts.
    return {**json.loads(lines[-1]), **({"failure": failure} if failure else {})} if lines else None


# -- in the process of a model ----------------------------------------------------------------


def measure(name, quick, numpyro_python):
    """Yield seconds of a gradient, and draws per second of each way to sample, as they come."""
    declared = reach_models.MODELS[name]()
    with pm.Model() as model:
        declared.declare()
    progress("gradients")
    result = {"gradient": compare(name, declared, model)}
    yield result
    draws = 5 if quick else affordable(model)
    result["draws"] = draws
    options = {"draws": draws, "tune": draws, "start": getattr(declared, "at", None)}
    progress(f"pymc3_tf.sample, {draws} draws")
    first, _ = ours(model, 0, **options)
    result["first_call_seconds"] = first
    result["ours"] = rates(*ours(model, 1, **options), draws)
    yield result
    progress("pm.sample")
    result["pm_sample"] = rates(*by_pm_sample(model, **options), draws)
    # Once more, after the other: the machine may have been busy the first time.
    again = rates(*ours(model, 2, **options), draws)
    result["ours"] = max(result["ours"], again, key=lambda found: found["draws_per_second"])
    yield result
    if name in GAUSSIAN and numpyro_python:
        progress("NumPyro")
        result["numpyro"] = rates(by_numpyro(name, numpyro_python, draws), None, draws)
        yield result
    if name in SCALING:
        progress("two chains and one")
        options["draws"] = options["tune"] = 50 if quick else SCALING[name]
        result["scaling"] = scaling(model, **options)
        yield result


def compare(name, declared, model):
    """Return seconds of a gradient by TensorFlow alone and in the sampler."""
    if name in GAUSSIAN:
        plain = reach_gradient.UnconstrainedModel(model)
        logp, start = plain.log_density, [plain.vector(model.test_point)]
    else:
        start = list(declared.start.values())

        def logp(*params):
            return declared.logp(tf.constant(declared.y), **dict(zip(declared.start, params)))

    jit_compile = getattr(declared, "jit_compile", True)
    return reach_gradient.compare(
        lambda: reach_gradient.ByHand(logp, start, jit_compile),
        lambda: reach_gradient.InSampler(model),
    )


def affordable(model):
    """Return how many draws pm.sample makes within the budget, with as many of tuning."""
    return int(np.clip(BUDGET / (2 * 2**DEPTH * timing.theano(model)(1.0)), 5, 200))


def rates(seconds, gradients, draws):
    """Return draws per second of both chains, those of the tuning included."""
    found = {"seconds": seconds, "draws_per_second": CHAINS * 2 * draws / seconds}
    if gradients is not None:
        found["gradients_per_second"] = gradients / seconds
    return found


def ours(model, seed, chains=CHAINS, **options):
    """Return seconds of the whole call, and gradients."""
    begin = time.perf_counter()
    idata = pymc3_tf.sample(
        **options,
        chains=chains,
        max_treedepth=DEPTH,
        model=model,
        random_seed=seed,
        progressbar=False,
        compute_convergence_checks=False,
        discard_tuned_samples=False,
        idata_kwargs={"log_likelihood": False},  # pm.sample computes none either
    )
    seconds = time.perf_counter() - begin
    stats = idata.sample_stats, idata.warmup_sample_stats
    return seconds, int(sum(group.n_steps.values.sum() for group in stats))


def by_pm_sample(model, **options):
    """Return the seconds that PyMC3 reports, without compiling, and gradients."""
    with model:
        trace = pm.sample(
            **options,
            chains=CHAINS,
            cores=CHAINS,
            max_treedepth=DEPTH,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
            discard_tuned_samples=False,
            return_inferencedata=False,
        )
    return trace.report.t_sampling, int(trace.get_sampler_stats("tree_size").sum())


def by_numpyro(name, python, draws):
    """Return the seconds of a call that does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(python, HERE / "sampling_numpyro.py", Path(folder), "numpyro")
        try:
            worker.wait_until_ready()
            worker.prepare(name, draws=draws, tune=draws, target_accept=0.8, max_treedepth=DEPTH)
            return min(worker.sample(seed=seed)["seconds"] for seed in range(3))
        finally:
            worker.stop()


def scaling(model, **options):
    """Return gradients per second of two chains, as a multiple of those of one.

    Of chains that learn together, which wait for each other in the warmup, and of chains that learn
    alone. The two have one seed, so that none waits for the other at the end. Beside it is how far
    two threads go on this machine that only compute. Each is the median of the rounds, because the
    speed of a virtual machine can change between two.
    """
    found = {"together": [], "alone": [], "of_the_machine": []}

    def pace(seed, init, chains):
        way = dict(chains=chains, cores=chains, init=f"jitter+{init}")
        seconds, gradients = ours(model, [seed] * chains, **way, **options)
        return gradients / seconds

    for seed in range(SCALING_ROUNDS):
        found["of_the_machine"].append(hashes_per_second(CHAINS) / hashes_per_second(1))
        for way, init in (("together", "adapt_diag_grad"), ("alone", "adapt_diag")):
            found[way].append(pace(seed, init, CHAINS) / pace(seed, init, 1))
    return {"rounds": found, **{way: float(np.median(ratios)) for way, ratios in found.items()}}


def hashes_per_second(threads):
    """Return how often a megabyte is hashed, by threads without Python's lock."""
    block, number = bytes(1 << 20), 300
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        done = executor.map(lambda n: [hashlib.sha256(block) for _ in range(n)], [number] * threads)
    return sum(map(len, done)) / (time.perf_counter() - begin)


# -- what comes of it -------------------------------------------------------------------------


def ratios(found):
    """Return the ratios that have aims, by name."""
    gradient = found["gradient"]
    by = {"gradient by TensorFlow's": gradient["ours"] / gradient["loop"]}
    if not gradient["islands"]:  # XLA cannot compile them
        by["compiling by TensorFlow's"] = gradient["ours_compile"] / gradient["loop_compile"]
    for name, label in (("pm_sample", "pm.sample"), ("numpyro", "NumPyro")):
        if name in found:
            rate = "draws_per_second"
            by[f"draws/s by {label}'s"] = found["ours"][rate] / found[name][rate]
    if "scaling" in found:
        by["two chains by one"] = found["scaling"]["together"]
        by["two alone by one"] = found["scaling"]["alone"]
    return by


BOUNDS = {
    "gradient by TensorFlow's": {"at_most": 1.3},
    "compiling by TensorFlow's": {"at_most": 2},
    "draws/s by pm.sample's": {"at_least": 5},
    "draws/s by NumPyro's": {"at_least": 1.2},
    "two chains by one": {"at_least": 1.8},
    "two alone by one": {"at_least": 1.8},
}
PLAIN = {"gaussian_process": 2, "gaussian_process_500": 1.5}  # against PyMC3's own


def targets(models):
    found = {model: {} for model in models}
    for model, results in models.items():
        for text, value in ratios(results).items():
            bound = BOUNDS[text]
            if model in PLAIN and "pm.sample" in text:
                bound = {"at_least": PLAIN[model]}
            found[model][text] = target(text, value, **bound)
    return found


def print_tables(results):
    """Print the ratios, with a star where an aim is missed."""
    rows = [["", *BOUNDS]]
    for model, found in results["targets"].items():
        cells = [found.get(text) for text in BOUNDS]
        cells = [f"{x['value']:.3g}{'' if x['reached'] else '*'}" if x else "" for x in cells]
        rows.append([results["labels"][model], *cells])
    print_table(rows)
    print("\n*: an aim that is missed")


if __name__ == "__main__":
    main()
