"""Benchmark: sampling whole models, by pymc3_tf.sample and by the ways that there are besides it.

    python tests/benchmarks/sampling.py [--quick] [--numpyro-python PATH] [--output DIR]

prints tables, and writes ``sampling.json`` (all that was measured) and two charts of it. Each
method has a process of its own; they take turns in one run, so that whatever else the machine does
meets all of them. NumPyro needs an environment that has it: ``--numpyro-python`` is its Python.
That all methods find the same posterior means is asserted.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import argparse
import datetime
import os
import statistics
import sys
import tempfile
from pathlib import Path

import arviz as az
import numpy as np
import sampling_chart
from report import as_json, machine, print_table, progress, rotated, target, versions
from sampling_worker import Worker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

MODELS = {
    "line_50": "line, 50 points",
    "line_1e5": "line, 100,000 points",
    "schools": "eight schools",
    "correlated": "correlated normal",
    "logistic": "logistic regression",
    "gaussian_process": "Gaussian process",
    "outliers": "line with outliers",
}
METHODS = {
    "bridge": "two session.run, pm.sample (2018)",
    "pymc3": "plain PyMC3, pm.sample",
    "density": "TFDensity, pm.sample",
    "xla": "pymc3_tf.sample",
    "xla_density": "TFDensity, pymc3_tf.sample",
    "batched": "TFP kernels by hand, one batch",
    "threads": "TFP kernels by hand, two threads",
    "windowed": "TFP windowed_adaptive_nuts",
    "numpyro": "NumPyro",
}
# Their time is what PyMC3 says that sampling took: each call compiles anew.
PM_SAMPLE = ("bridge", "pymc3", "density")
BY_HAND = ("batched", "threads")
# By hand, a Gaussian process takes minutes: XLA's own Cholesky factorization is slow.
ONLY = {
    "bridge": ("line_50",),
    "windowed": ("line_50", "schools"),
    **{name: tuple(model for model in MODELS if model != "gaussian_process") for name in BY_HAND},
}
ONE_CHAIN = "xla_one_chain"

# (draws, tune, rounds): of methods that compile the sampler, of those of pm.sample, and others.
FULL = {
    "line_50": {"compiled": (10_000, 1000, 8), "pm_sample": (2000, 1000, 1)},
    # With less tuning PyMC3 does not find so narrow a posterior.
    "line_1e5": {"compiled": (500, 300, 4), "pm_sample": (250, 1000, 1)},
    "schools": {"compiled": (10_000, 1000, 5), "pm_sample": (2000, 1000, 1)},
    "correlated": {"compiled": (10_000, 1000, 4), "pm_sample": (1000, 1000, 1)},
    "logistic": {"compiled": (500, 300, 4), "pm_sample": (300, 300, 1)},
    "gaussian_process": {"compiled": (300, 300, 2), "pm_sample": (300, 300, 1)},
    "outliers": {"compiled": (10_000, 1000, 4), "pm_sample": (2000, 1000, 1)},
}
FEW = {"bridge": (300, 300, 1), "windowed": (300, 300, 1)}
QUICK = {"line_50": {"compiled": (1000, 500, 2), "pm_sample": (500, 500, 1)}}
TARGET_ACCEPT = 0.8
CHAINS = 2
SEED = 42
# Means may differ by so many standard errors: there are more than a thousand comparisons.
STANDARD_ERRORS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test of the benchmark")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, help="default: all, with --quick the first"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all")
    parser.add_argument(
        "--numpyro-python",
        type=Path,
        default=os.environ.get("NUMPYRO_PYTHON"),
        help="a Python that has NumPyro; default: NUMPYRO_PYTHON in the environment",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of sampling.json and sampling.png; default: docs/benchmarks, with --quick or "
        "some of the models or methods none",
    )
    arguments = parser.parse_args()
    models = arguments.models or list(QUICK if arguments.quick else MODELS)
    methods = arguments.methods or list(METHODS)
    output = arguments.output
    if output is None and not (arguments.quick or arguments.models or arguments.methods):
        output = ROOT / "docs" / "benchmarks"
    if "numpyro" in methods and not arguments.numpyro_python:
        methods.remove("numpyro")
        progress("NumPyro is left out: --numpyro-python is a Python that has it")

    results = {"date": datetime.date.today().isoformat(), "versions": versions()}
    results["versions"]["tensorflow_probability"] = tfp_version()
    results["machine"] = machine()
    results["labels"] = {"models": MODELS, "methods": METHODS}
    results["models"] = {}
    with tempfile.TemporaryDirectory() as folder:
        workers = start(methods, arguments.numpyro_python, Path(folder))
        try:
            for model in models:
                settings = settings_of(model, methods, arguments.quick)
                results["models"][model] = measure(model, workers, settings)
                save(results, output)
        finally:
            for worker in workers.values():
                worker.stop()
    print_tables(results)


def save(results, output):
    """Write what there is, after each model: a run takes minutes."""
    results["machine"]["load_after"] = os.getloadavg()[0]
    results["targets"] = targets(results["models"])
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "sampling.json").write_text(as_json(results) + "\n", encoding="utf-8")
        sampling_chart.draw(results, output / "sampling.png")
        sampling_chart.overview(results, output / "sampling_overview.png")


def tfp_version():
    import tensorflow_probability

    return tensorflow_probability.__version__


def start(methods, numpyro_python, folder):
    progress("starting processes")
    ours = sys.executable, HERE / "sampling_methods.py"
    theirs = numpyro_python, HERE / "sampling_numpyro.py"
    workers = {
        name: Worker(*(theirs if name == "numpyro" else ours), folder, name) for name in methods
    }
    for worker in workers.values():
        worker.wait_until_ready()
    return workers


def settings_of(model, methods, quick):
    """Return (draws, tune, rounds) of each method that can do the model."""
    known = {**FEW, **FULL[model]}
    if quick:
        known.update({"bridge": (100, 200, 1), "windowed": (200, 200, 1)}, **QUICK["line_50"])
    return {
        name: known.get(name, known["pm_sample" if name in PM_SAMPLE else "compiled"])
        for name in methods
        if model in ONLY.get(name, MODELS)
    }


# -- what is measured -------------------------------------------------------------------------


def measure(model, workers, settings):
    """Return for each method what it took to sample a model; the means have been compared."""
    results, moments = {}, {name: [] for name in settings}

    def sample(name, turn, **options):
        found = workers[name].sample(seed=SEED + turn, **options)
        if not options:
            moments[name].append(moments_of(found["draws"]))
        return found

    for name, (draws, tune, _) in settings.items():
        progress(f"{MODELS[model]}: first call of {METHODS[name]}")
        declaration = workers[name].prepare(
            model, draws=draws, tune=tune, target_accept=TARGET_ACCEPT
        )
        first = sample(name, 0)
        results[name] = {
            "draws": draws,
            "tune": tune,
            "declaration_seconds": round(declaration, 3),
            "first_call_seconds": round(first["seconds"], 3),
            "first_sampling_seconds": first["sampling_seconds"],
            "calls": [],
        }
    if "xla" in settings:
        results[ONE_CHAIN] = {"calls": []}
    for turn in range(1, 1 + max(rounds for _, _, rounds in settings.values())):
        progress(f"{MODELS[model]}: round {turn}")
        for name in rotated(list(settings), turn):
            if turn <= settings[name][2]:
                found = sample(name, turn)
                results[name]["calls"].append(summary_of(found, moments[name][-1]))
            if name == "xla":
                found = sample(name, turn, chains=1)
                results[ONE_CHAIN]["calls"].append(summary_of(found, moments[name][-1]))
    check_means(model, moments)
    for name, (draws, tune, _) in settings.items():
        summarize(results[name], CHAINS * (draws + tune), CHAINS * draws, name in PM_SAMPLE)
    compare_with_pymc3(results)
    return results


def moments_of(draws):
    """Return mean, standard deviation and bulk effective sample size of each parameter."""
    return {
        name: {
            "mean": array.mean(axis=(0, 1)),
            "sd": array.std(axis=(0, 1)),
            "ess": az.ess({name: array}, method="bulk")[name].values,
        }
        for name, array in draws.items()
    }


def summary_of(found, moments):
    call = {"seconds": round(found["seconds"], 4)}
    if found["sampling_seconds"] is not None:
        call["sampling_seconds"] = round(found["sampling_seconds"], 4)
    call["ess"] = round(float(min(x["ess"].min() for x in moments.values())), 1)
    return call


def check_means(model, moments):
    """Assert that all methods find the same means, within Monte Carlo error."""
    reference = "xla" if "xla" in moments else next(iter(moments))
    wanted = pooled(moments[reference])
    for method, found in moments.items():
        found = pooled(found)
        for name in set(found) & set(wanted):
            difference = np.abs(found[name][0] - wanted[name][0])
            error = np.sqrt(found[name][1] ** 2 + wanted[name][1] ** 2)
            worst = float(np.max(difference / error))
            assert worst < STANDARD_ERRORS, (model, reference, method, name, worst)
    names = [set(calls[0]) for calls in moments.values()]
    assert set.intersection(*names), "the methods have no parameter in common"


def pooled(calls):
    """Return mean and Monte Carlo standard error of each parameter, over all calls."""
    return {
        name: (
            np.mean([call[name]["mean"] for call in calls], axis=0),
            np.sqrt(np.sum([c[name]["sd"] ** 2 / c[name]["ess"] for c in calls], 0)) / len(calls),
        )
        for name in calls[0]
    }


def summarize(result, iterations, kept, pm_sample):
    """Add draws and effective samples per second, and the time of compilation.

    Draws of the tuning count as draws: otherwise, methods with few draws would come off worse. For
    the same reason, effective samples per second are those of a kept draw, times draws per second.
    """
    calls = result["calls"]
    whole = [call["sampling_seconds" if pm_sample else "seconds"] for call in calls]
    sampling = [call.get("sampling_seconds", call["seconds"]) for call in calls]
    ess = statistics.mean(call["ess"] for call in calls) / kept
    result["seconds"] = statistics.median(whole)
    result["draws_per_second"] = round(iterations / result["seconds"], 1)
    result["draws_per_second_of_sampling"] = round(iterations / statistics.median(sampling), 1)
    result["ess_per_draw"] = round(ess, 4)
    result["ess_per_second"] = round(ess * result["draws_per_second"], 1)
    result["ess_per_second_of_sampling"] = round(ess * result["draws_per_second_of_sampling"], 1)
    result["overhead_seconds"] = round(
        statistics.median(a - b for a, b in zip((c["seconds"] for c in calls), sampling)), 4
    )
    later = result.pop("first_sampling_seconds") if pm_sample else result["seconds"]
    result.pop("first_sampling_seconds", None)
    result["compile_seconds"] = round(result["first_call_seconds"] - later, 3)


def compare_with_pymc3(results):
    """Add from how many draws on a method is faster than plain PyMC3, compilation included."""
    for result in results.values():
        if "pymc3" not in results or "compile_seconds" not in result:
            continue
        longer = result["compile_seconds"] - results["pymc3"]["compile_seconds"]
        gain = 1 / results["pymc3"]["draws_per_second"] - 1 / result["draws_per_second"]
        if gain > 0:
            result["break_even_draws"] = max(0, round(longer / gain))


# -- what comes of it -------------------------------------------------------------------------


def targets(models):
    """Return one entry for each target whose methods are there."""
    draws, ess, sampling = "draws_per_second", "ess_per_second", "ess_per_second_of_sampling"
    line = {"line_50": models["line_50"]} if "line_50" in models else {}

    def ratios(over, under, key, some=models):
        unders = [under] if isinstance(under, str) else under
        return {
            model: results[over][key] / max(results[u][key] for u in unders if u in results)
            for model, results in some.items()
            if over in results and any(u in results for u in unders)
        }

    def compile_ratios():
        return {
            model: results["xla"]["compile_seconds"]
            / statistics.mean(results[name]["compile_seconds"] for name in BY_HAND)
            for model, results in models.items()
            if all(name in results for name in ("xla", *BY_HAND))
        }

    def of_results(key):
        return {model: results["xla"][key] for model, results in models.items() if "xla" in results}

    entries = [
        entry(
            "draws/s of the line, 50 points: times those of two session.run",
            ratios("xla", "bridge", draws, line),
            at_least=500,
        ),
        entry(
            "draws/s of the line, 50 points: times those of plain PyMC3",
            ratios("xla", "pymc3", draws, line),
            at_least=100,
        ),
        entry(
            "draws/s, slowest model: part of those of plain PyMC3",
            ratios("xla", "pymc3", draws),
            at_least=1,
        ),
        entry(
            "effective samples/s, sampling alone, slowest model: part of those of TFP by hand",
            ratios("xla", BY_HAND, sampling),
            at_least=0.95,
        ),
        entry(
            "the same, reached by 60 % of the models",
            ratios("xla", BY_HAND, sampling),
            at_least=1,
            share=0.6,
        ),
        entry(
            "the same, of the whole call, slowest model",
            ratios("xla", BY_HAND, ess),
            at_least=0.95,
        ),
        entry(
            "effective samples/s, slowest model: times those of windowed_adaptive_nuts",
            ratios("xla", "windowed", ess),
            at_least=50,
        ),
        entry(
            "effective samples/s, reached by half of the models: times those of NumPyro",
            ratios("xla", "numpyro", ess),
            at_least=1,
            share=0.5,
        ),
        entry(
            "seconds to compile, slowest model: part of those of TFP by hand",
            compile_ratios(),
            at_most=1.5,
        ),
        entry(
            "seconds of a later call besides sampling, slowest model",
            of_results("overhead_seconds"),
            at_most=0.3,
        ),
        entry(
            "draws/s of 2 chains on 2 cores, slowest model: times those of 1 chain",
            scaling(models),
            at_least=1.7,
        ),
    ]
    return [found for found in entries if found is not None]


def scaling(models):
    return {
        model: CHAINS
        * statistics.median(call["sampling_seconds"] for call in results[ONE_CHAIN]["calls"])
        / statistics.median(call["sampling_seconds"] for call in results["xla"]["calls"])
        for model, results in models.items()
        if ONE_CHAIN in results
    }


def entry(text, values, *, at_least=None, at_most=None, share=1.0):
    """Return a target that a share of the models has to reach: its value is the least of them."""
    if not values:
        return None
    ordered = sorted(values.values(), reverse=at_most is None)
    value = ordered[int(np.ceil(share * len(ordered))) - 1]
    found = target(text, value, at_least=at_least, at_most=at_most)
    return {**found, "by_model": {model: round(value, 4) for model, value in values.items()}}


def print_tables(results):
    models, labels = results["models"], results["labels"]
    for key, title in [
        ("draws_per_second", "draws per second, tuning included"),
        ("ess_per_second", "effective samples per second, of the worst parameter"),
        ("ess_per_second_of_sampling", "the same, of sampling alone"),
        ("ess_per_draw", "effective samples per draw"),
        ("compile_seconds", "seconds to compile"),
        ("break_even_draws", "draws from which on it is faster than plain PyMC3"),
        ("overhead_seconds", "seconds of a later call besides sampling"),
    ]:
        print(f"\n{title}")
        rows = [["", *(labels["models"][model] for model in models)]]
        for name, label in labels["methods"].items():
            cells = [number(results.get(name, {}).get(key)) for results in models.values()]
            rows.append([label, *cells])
        print_table(rows)
    print("\ntargets")
    rows = [["", "measured", "target", ""]]
    for found in results["targets"]:
        reached = "reached" if found["reached"] else "not reached"
        rows.append([found["text"], f"{found['value']:.3g}", found["target"], reached])
        if len(found["by_model"]) > 1:
            cells = [f"{model} {value:.3g}" for model, value in found["by_model"].items()]
            rows.append([f"    {', '.join(cells)}", "", "", ""])
    print_table(rows)
    load = results["machine"]
    print(f"\nload average before {load['load_before']:.2f}, after {load['load_after']:.2f}")


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
