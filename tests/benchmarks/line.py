"""Benchmark: fitting a line, by TFDensity and by the ways that there are besides it.

    python tests/benchmarks/line.py [--quick] [--output DIR]

prints a table of ratios, and writes ``line.json`` (all that was measured) and ``line.png``. All
methods take turns in one run, so that whatever else the machine does meets all of them.
"""

import quiet  # noqa: F401  # isort: skip
from line_methods import METHODS, OURS, expected, new_points  # isort: skip

import argparse
import collections
import concurrent.futures
import contextlib
import datetime
import gc
import os
import statistics
import time
import warnings
from pathlib import Path

import chart
import fresh_process
import numpy as np
import pymc3 as pm
from model_data import line_data
from report import (
    as_json,
    machine,
    print_table,
    progress,
    rotated,
    summarize,
    target,
    versions,
)

ROOT = Path(__file__).resolve().parents[2]

FULL = {
    # Points of the line: (builds, rounds, evaluations in a round). Rounds are short, so that some
    # fall between what other processes do. Models of much data are built several times: where the
    # data lies in memory makes a difference of up to a tenth.
    "evaluations": {50: (1, 200, 100), 10_000: (1, 150, 50), 1_000_000: (4, 15, 5)},
    "sampling": {"points": 50, "draws": 1000, "tune": 1000, "repetitions": 5},
    "memory": {"points": 1_000_000},
    "declarations": 15,
    "imports": 5,
}
QUICK = {
    "evaluations": {50: (1, 5, 20), 10_000: (1, 5, 20), 1_000_000: (1, 5, 2)},
    "sampling": {"points": 50, "draws": 50, "tune": 50, "repetitions": 1},
    "memory": {"points": 1_000_000},
    "declarations": 3,
    "imports": 1,
}
WARM_UP = 3
SEED = 42


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test of the benchmark")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of line.json and line.png; default: docs/benchmarks, with --quick none",
    )
    arguments = parser.parse_args()
    output = arguments.output
    if output is None and not arguments.quick:
        output = ROOT / "docs" / "benchmarks"
    settings = QUICK if arguments.quick else FULL

    results = {"date": datetime.date.today().isoformat(), "versions": versions()}
    results["machine"] = machine()
    results["settings"] = settings
    results["labels"] = {name: method.label for name, method in METHODS.items()}
    results["evaluation"] = {
        str(n): time_evaluations(n, *size) for n, size in settings["evaluations"].items()
    }
    results["sampling"] = time_sampling(**settings["sampling"])
    results["declaration"] = time_declarations(settings["declarations"])
    results["memory"] = measure_memory(**settings["memory"])
    results["import"] = time_imports(settings["imports"])
    results["machine"]["load_after"] = os.getloadavg()[0]
    results["targets"] = targets(results)

    print_tables(results)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "line.json").write_text(as_json(results) + "\n", encoding="utf-8")
        chart.draw(results, output / "line.png")


# -- what is measured -------------------------------------------------------------------------


def time_evaluations(n, builds, rounds, calls):
    """Return microseconds per logp and gradient, each time at a new point."""
    x, y = line_data(n)
    rng = np.random.default_rng(SEED)
    results = {name: {"microseconds": [], "tensorflow_calls": []} for name in METHODS}
    for build in range(builds):
        progress(f"logp and gradient of {n} points, {build + 1} of {builds}")
        methods = {name: method(x, y) for name, method in METHODS.items()}
        for method in methods.values():
            check_numbers(method, x, y, new_points(rng, 2))
        with without_garbage_collection():
            for turn in range(rounds):
                points = new_points(rng, WARM_UP + calls)
                # Another one goes first in each round.
                for name in rotated(list(methods), turn):
                    seconds, made = time_calls(methods[name], points)
                    results[name]["microseconds"].append(round(seconds / calls * 1e6, 3))
                    results[name]["tensorflow_calls"].append(made / calls)
    for name, result in results.items():
        calls_made = set(result["tensorflow_calls"])
        assert calls_made == {METHODS[name].calls_per_evaluation}, (name, n, calls_made)
        (result["tensorflow_calls"],) = calls_made
        summarize(result, "microseconds")
    return results


@contextlib.contextmanager
def without_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_calls(method, points):
    """Return seconds of evaluating all points but the first few, and the calls of TensorFlow."""
    arguments, evaluate = method.arguments(points), method.evaluate
    for argument in arguments[:WARM_UP]:  # the caches are as another method left them
        evaluate(argument)
    calls = method.tensorflow_calls()
    start = time.perf_counter()
    for argument in arguments[WARM_UP:]:
        evaluate(argument)
    seconds = time.perf_counter() - start
    return seconds, method.tensorflow_calls() - calls


def check_numbers(method, x, y, points):
    """Assert that a method computes the model: all of it but a constant."""
    found = [method.logp_and_gradient(point) for point in points]
    wanted = [expected(x, y, point, method.transformed) for point in points]
    for (_, gradient), (_, wanted_gradient) in zip(found, wanted):
        np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-8, atol=1e-10 * len(x))
    difference, wanted_difference = (pair[1][0] - pair[0][0] for pair in (found, wanted))
    np.testing.assert_allclose(difference, wanted_difference, rtol=1e-8, atol=1e-10 * len(x))


def time_sampling(points, draws, tune, repetitions):
    """Return draws per second (tuning included) and leapfrog steps of ``pm.sample``.

    All methods have the same seed, another one for each repetition: at the same points as before,
    TFDensity would find results that it remembers.
    """
    x, y = line_data(points)
    methods = {name: METHODS[name](x, y) for name in METHODS if name != "bare"}
    results = {name: collections.defaultdict(list) for name in methods}
    for turn in range(repetitions):
        chains = {}
        for name in rotated(list(methods), turn):
            progress(f"pm.sample, {turn + 1} of {repetitions}: {METHODS[name].label}")
            before = methods[name].tensorflow_calls()
            trace = draw_chain(methods[name].model, draws, tune, SEED + turn)
            calls = methods[name].tensorflow_calls() - before
            start, took, leapfrogs = (trace.get_sampler_stats(key) for key in SAMPLER_STATS)
            seconds = np.append(start[1:], start[-1] + took[-1]) - start
            undisturbed = undisturbed_seconds(seconds, leapfrogs)
            chains[name] = trace["m"]
            steps, result = int(leapfrogs.sum()), results[name]
            result["draws_per_second"].append(round(len(seconds) / undisturbed, 3))
            result["draws_per_second_by_the_clock"].append(round(len(seconds) / seconds.sum(), 3))
            result["microseconds_per_leapfrog"].append(round(undisturbed / steps * 1e6, 3))
            result["leapfrogs"].append(steps)
            result["tensorflow_calls_per_leapfrog"].append(round(calls / steps, 4))
        for name, chain in chains.items():
            difference = np.abs(chain - chains["pymc3"]).max()
            results[name]["largest_difference_from_pymc3"].append(float(difference))
    for result in results.values():
        summarize(result, "draws_per_second")
    return results


def undisturbed_seconds(seconds, leapfrogs):
    """Return the time of all draws, if each took the median of those with as many leapfrog steps.

    Other processes disturb some draws, and hardly ever most.
    """
    return sum(
        np.median(seconds[leapfrogs == n]) * np.sum(leapfrogs == n) for n in np.unique(leapfrogs)
    )


# Times of the sampler itself: neither Theano's compiler nor start values are in them.
SAMPLER_STATS = ("perf_counter_start", "perf_counter_diff", "tree_size")


def draw_chain(model, draws, tune, seed):
    with model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pm.sample(
            draws,
            tune=tune,
            chains=1,
            cores=1,
            random_seed=seed,
            progressbar=False,
            discard_tuned_samples=False,
            compute_convergence_checks=False,
            return_inferencedata=False,
        )


def time_declarations(repetitions):
    """Return seconds for declaring a density of 50 points in a model, each time with new data."""
    progress("declaring")
    results = {}
    for name in OURS:
        seconds = []
        for k in range(repetitions + 1):
            x, y = line_data(50)
            seconds.append(METHODS[name](x, y + k).declaration_seconds)
        results[name] = {"seconds": [round(s, 5) for s in seconds[1:]]}
        summarize(results[name], "seconds")
    return results


def measure_memory(points):
    """Return how often the data is in memory, the user's own arrays included.

    From the growth for ``points`` the growth for 50 points is subtracted: the price of a model.
    """
    progress(f"memory with {points} points")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = pool.map(lambda name: fresh_process.memory(name, points), METHODS)
    results = dict(zip(METHODS, runs))
    for result in results.values():
        for key, times in (("growth", "times_data"), ("peak", "times_data_peak")):
            by_data = result[key] - result[f"{key}_of_50_points"]
            result[times] = round(1 + by_data / result["data"], 3)
    return results


def time_imports(repetitions):
    """Return seconds for importing tensorflow and pymc3, and what pymc3_tf adds."""
    progress("imports")
    fresh_process.imports()  # writes bytecode, fills the disk cache
    runs = [fresh_process.imports() for _ in range(repetitions)]
    results = {}
    for key in ("libraries", "added", "all"):
        results[key] = {"seconds": [round(run[key], 4) for run in runs]}
        summarize(results[key], "seconds")
    return results


# -- what comes of it -------------------------------------------------------------------------


def targets(results):
    """Return one entry for each target: the bound, what was measured, whether it was reached.

    Ratios of times are those of the fastest rounds, which other processes disturbed least, and
    ratios of draws per second those of the medians; ``by_rounds`` has the medians of the ratios of
    each round.
    """
    every = results["evaluation"]
    small, large = every["50"], every["1000000"]
    sampling, memory = results["sampling"], results["memory"]
    calls = {table[name]["tensorflow_calls"] for table in every.values() for name in OURS}
    added, declared = results["import"]["added"], results["declaration"]["density"]
    us, draws = "microseconds", "draws_per_second"
    return [
        target(
            "logp and gradient at 50 points: two session.run take this many times TFDensity's time",
            *ratios(small, "two_op", "density", us, min),
            at_least=20,
        ),
        target(
            "logp and gradient at 50 points: TFDensity takes this many times plain PyMC3's time",
            *ratios(small, "density", "pymc3", us, min),
            at_most=1.5,
        ),
        target(
            "pm.sample at 50 points: draws/s of TFDensity by those of two session.run",
            *ratios(sampling, "density", "two_op", draws, statistics.median),
            at_least=4.7,
        ),
        target(
            "pm.sample at 50 points: draws/s of TFDensity by those of plain PyMC3",
            *ratios(sampling, "density", "pymc3", draws, statistics.median),
            at_least=0.75,
        ),
        target(
            "logp and gradient at 1e6 points: TFDensity takes this many times the bare callable's",
            *ratios(large, "density", "bare", us, min),
            at_most=1.1,
        ),
        target(
            # To a tenth: what else comes and goes in a process is some percent of the data.
            "memory with 1e6 points: the data is in it this many times",
            round(memory["density"]["times_data"], 1),
            at_most=2,
        ),
        target("TensorFlow calls per logp and gradient", max(calls), at_most=1),
        target("seconds that importing pymc3_tf adds", added["median"], at_most=0.15),
        target("seconds to declare a density", declared["median"], at_most=0.2),
    ]


def ratios(table, over, under, key, best):
    """Return the ratio of the best rounds, and the median of the ratios of each round."""
    over, under = table[over][key], table[under][key]
    return best(over) / best(under), statistics.median(a / b for a, b in zip(over, under))


def print_tables(results):
    labels, every = results["labels"], results["evaluation"]
    print("\nlogp and gradient: microseconds in the fastest round (and times TFDensity's)")
    rows = [["", *(f"{int(n):,} points" for n in every), "TensorFlow calls"]]
    for name, label in labels.items():
        cells = [
            f"{t[name]['minimum']:,.1f} ({t[name]['minimum'] / t['density']['minimum']:.2f})"
            for t in every.values()
        ]
        calls = max(table[name]["tensorflow_calls"] for table in every.values())
        rows.append([label, *cells, f"{calls:g}"])
    print_table(rows)

    points = results["settings"]["sampling"]["points"]
    print(f"\npm.sample of {points} points, tuning included: medians (and times TFDensity's)")
    rows = [["", "draws/s", "by the clock", "us per leapfrog step", "TensorFlow calls per step"]]
    sampling = results["sampling"]
    for name, result in sampling.items():
        draws, base = result["median"], sampling["density"]["median"]
        step = statistics.median(result["microseconds_per_leapfrog"])
        calls = statistics.median(result["tensorflow_calls_per_leapfrog"])
        clock = statistics.median(result["draws_per_second_by_the_clock"])
        draws = f"{draws:.0f} ({draws / base:.2f})"
        rows.append([labels[name], draws, f"{clock:.0f}", f"{step:.0f}", f"{calls:g}"])
    print_table(rows)

    points = results["settings"]["memory"]["points"]
    print(f"\nmemory with {points:,} points: how many times x and y are in it, the user's included")
    rows = [["", "afterwards", "at the highest"]]
    for name, result in results["memory"].items():
        times = [f"{result[key]:.2f}" for key in ("times_data", "times_data_peak")]
        rows.append([labels[name], *times])
    print_table(rows)

    print("\ntargets")
    rows = [["", "measured", "by rounds", "target", ""]]
    for entry in results["targets"]:
        medians = f"{entry['by_rounds']:.2f}" if "by_rounds" in entry else ""
        reached = "reached" if entry["reached"] else "not reached"
        rows.append([entry["text"], f"{entry['value']:.3g}", medians, entry["target"], reached])
    print_table(rows)
    load = results["machine"]
    print(f"\nload average before {load['load_before']:.2f}, after {load['load_after']:.2f}")


if __name__ == "__main__":
    main()
