"""Benchmark: what pymc3_tf.sample reaches for densities that are hard to write in PyMC3.

    python tests/benchmarks/reach.py [--models ...] [--quick] [--numpyro-python PATH]

prints a table, and writes ``reach.json``. Each model has a process of its own, and a limit of time.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # isort: skip  # before PyMC3, for Python 3.11

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pymc3 as pm
import reach_gradient
import reach_models
from report import as_json, machine, print_table, progress, target, versions
from sampling_worker import Worker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Draws of a chain, with as many of tuning: what pm.sample makes in less than a minute.
LABELS = {
    "ar": ("AR(2), 200 points, tf.scan", 200),
    "garch": ("GARCH(1,1), 200 points, tf.scan", 200),
    "lotka_volterra": ("Lotka-Volterra, 400 Runge-Kutta steps", 50),
    "dormand_prince": ("Lotka-Volterra, DormandPrince", 15),
    "hidden_markov": ("HiddenMarkovModel, 500 steps", 50),
    "kalman": ("LinearGaussianStateSpaceModel, 200 steps", 50),
    "kepler": ("Kepler's equation, op in C++", 200),
    "gaussian_process": ("Gaussian process, 100 points", 100),
    "gaussian_process_500": ("Gaussian process, 500 points", 20),
}
# Draws of which two chains are compared with one: a second or more.
SCALING = {"garch": 10_000, "kepler": 3_000}
GAUSSIAN = {"gaussian_process", "gaussian_process_500"}
CHAINS, ROUNDS = 2, 3
TIME_LIMIT = 240  # seconds of a model


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
    parser.add_argument("--alone", choices=LABELS, help="this model in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.alone, arguments.quick, arguments.numpyro_python)))
        return
    output = arguments.output
    if output is None and not arguments.quick:
        output = ROOT / "docs" / "benchmarks"
    path = output and output / "reach.json"
    # Models that are not measured now stay as they were.
    results = json.loads(path.read_text("utf-8")) if path and path.exists() else {"models": {}}
    results.update(date=datetime.date.today().isoformat(), versions=versions(), machine=machine())
    results["labels"] = {model: label for model, (label, _) in LABELS.items()}
    for model in arguments.models:
        progress(LABELS[model][0])
        found = in_process(model, arguments)
        if found:
            results["models"][model] = found
        results["targets"] = targets(results["models"])
        if path:
            path.write_text(as_json(results) + "\n", encoding="utf-8")
    print_tables(results)


def in_process(model, arguments):
    """Return what is measured of a model; None, with the reason on stderr, if there is none."""
    command = [sys.executable, __file__, "--alone", model]
    command += ["--quick"] * arguments.quick
    if arguments.numpyro_python:
        command += ["--numpyro-python", arguments.numpyro_python]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired as error:
        progress(f"{model} took too long: {(error.stderr or b'').decode()[-300:]}")
        return None
    if done.returncode:
        progress(f"{model} failed: {done.stderr[-2000:]}")
        return None
    sys.stderr.write("".join(x for x in done.stderr.splitlines(True) if " s: " in x))
    return json.loads(done.stdout.splitlines()[-1])


# -- in the process of a model ----------------------------------------------------------------


def measure(name, quick, numpyro_python):
    """Return seconds of a gradient, and draws per second of each way to sample."""
    declared = reach_models.MODELS[name]()
    draws = 5 if quick else LABELS[name][1]
    result = {"draws": draws}
    with pm.Model() as model:
        declared.declare()
    progress("gradients")
    if name in GAUSSIAN:
        plain = reach_gradient.UnconstrainedModel(model)
        logp, start = plain.log_density, [plain.vector(model.test_point)]
    else:
        start = list(declared.start.values())

        def logp(*params):
            given = dict(zip(declared.start, params))
            return declared.logp(reach_gradient.tf.constant(declared.y), **given)

    jit_compile = getattr(declared, "jit_compile", True)
    result["gradient"] = reach_gradient.compare(
        lambda: reach_gradient.ByHand(logp, start, jit_compile),
        lambda: reach_gradient.InSampler(model),
    )
    progress("pymc3_tf.sample")
    options = {"draws": draws, "tune": draws, "chains": CHAINS}
    at = getattr(declared, "at", None)
    result["ours"] = {"first_call_seconds": ours(model, at, 0, **options)[0]}
    seconds, gradients = ours(model, at, 1, **options)
    result["ours"].update(rates(seconds, gradients, draws))
    progress("pm.sample")
    result["pm_sample"] = rates(*by_pm_sample(model, at, draws), draws)
    if name in GAUSSIAN and numpyro_python:
        progress("NumPyro")
        result["numpyro"] = rates(by_numpyro(name, numpyro_python, draws), None, draws)
    # Once more, after the others: the machine may have been busy the first time.
    again = rates(*ours(model, at, 2, **options), draws)
    result["ours"] = max([result["ours"], again], key=lambda found: found["draws_per_second"]) | {
        "first_call_seconds": result["ours"]["first_call_seconds"]
    }
    if name in SCALING:
        progress("two chains and one")
        result["scaling"] = scaling(model, at, 50 if quick else SCALING[name])
    return result


def rates(seconds, gradients, draws):
    """Return draws per second of both chains, those of the tuning included."""
    found = {"seconds": seconds, "draws_per_second": CHAINS * 2 * draws / seconds}
    if gradients is not None:
        found["gradients_per_second"] = gradients / seconds
    return found


def ours(model, start, seed, **options):
    """Return seconds of the whole call, and gradients."""
    begin = time.perf_counter()
    idata = pymc3_tf.sample(
        **options,
        model=model,
        start=start,
        random_seed=seed,
        progressbar=False,
        compute_convergence_checks=False,
        discard_tuned_samples=False,
    )
    seconds = time.perf_counter() - begin
    stats = idata.sample_stats, idata.warmup_sample_stats
    return seconds, int(sum(group.n_steps.values.sum() for group in stats))


def by_pm_sample(model, start, draws):
    """Return the seconds that PyMC3 reports, without compiling, and gradients."""
    with model:
        trace = pm.sample(
            draws,
            tune=draws,
            chains=CHAINS,
            cores=CHAINS,
            start=start,
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
            worker.prepare(name, draws=draws, tune=draws, target_accept=0.8)
            return min(worker.sample(seed=seed)["seconds"] for seed in range(3))
        finally:
            worker.stop()


def scaling(model, start, draws):
    """Return gradients per second of two chains, as a multiple of those of one."""
    pace = {chains: [] for chains in (1, CHAINS)}
    for seed in range(ROUNDS):
        for chains, found in pace.items():
            seconds, gradients = ours(
                model, start, seed, draws=draws, tune=draws, chains=chains, cores=chains
            )
            found.append(gradients / seconds)
    return {"draws": draws, "ratio": max(pace[CHAINS]) / max(pace[1]), "gradients_per_second": pace}


# -- what comes of it -------------------------------------------------------------------------


def ratios(found):
    """Return the ratios that have aims, by name."""
    gradient = found["gradient"]
    by = {
        "gradient by TensorFlow's": gradient["ours"] / gradient["loop"],
        "compiling by TensorFlow's": gradient["ours_compile"] / gradient["loop_compile"],
    }
    for name, label in (("pm_sample", "pm.sample"), ("numpyro", "NumPyro")):
        if name in found:
            rate = "draws_per_second"
            by[f"draws/s by {label}'s"] = found["ours"][rate] / found[name][rate]
    if "scaling" in found:
        by["two chains by one"] = found["scaling"]["ratio"]
    return by


BOUNDS = {
    "gradient by TensorFlow's": {"at_most": 1.3},
    "compiling by TensorFlow's": {"at_most": 2},
    "draws/s by pm.sample's": {"at_least": 5},
    "draws/s by NumPyro's": {"at_least": 1.2},
    "two chains by one": {"at_least": 1.8},
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
    means = [found["gradient"]["ours"] / found["gradient"]["loop"]
             for found in results["models"].values()]  # fmt: skip
    if means:
        print(
            f"\n*: an aim that is missed. Median of the first column: {statistics.median(means):.2f}"
        )


if __name__ == "__main__":
    main()
