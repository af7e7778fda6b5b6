"""Benchmark: effective samples per gradient, warmup included, by how the warmup learns.

    python tests/benchmarks/adaptation.py [--models ...] [--methods ...] [--nutpie-python PATH]

prints a table, and writes ``adaptation.json`` and its chart. What is counted does not depend on the
machine, nor on what else it does. nutpie and NumPyro need an environment of their own, whose Python
is ``--nutpie-python``.
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # isort: skip  # before PyMC3, for Python 3.11

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path

import adaptation_chart
import arviz as az
import numpy as np
import pymc3 as pm
from pymc3.util import get_untransformed_name, is_transformed_name
from report import as_json, print_table, progress, versions
from sampling_models import LARGE_MODELS, MODELS
from sampling_worker import Worker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

METHODS = {
    "auto": ("adapt_diag_grad, tune='auto'", {"tune": "auto"}),
    "grad": ("adapt_diag_grad, tune=1000", {}),
    "diag": ("adapt_diag, tune=1000", {"init": "jitter+adapt_diag"}),
    "full": ("adapt_full, tune=1000", {"init": "jitter+adapt_full"}),
    "lowrank": (
        "adapt_lowrank, tune='auto'",
        {"init": "jitter+adapt_lowrank", "tune": "auto"},
    ),
    "nutpie": ("nutpie, tune=400", None),
    "nutpie_lowrank": ("nutpie, low rank, tune=400", None),
    "numpyro": ("NumPyro, tune=1000", None),
}
DRAWS, CHAINS = 1000, 4
EVERY = {**MODELS, **LARGE_MODELS}


class Ours:
    """pymc3_tf.sample with some settings."""

    def __init__(self, model, settings):
        self.settings = settings
        with pm.Model() as self.model:
            EVERY[model]().plain()
        names = [v.name for v in self.model.vars]
        self.names = [get_untransformed_name(n) if is_transformed_name(n) else n for n in names]

    def sample(self, seed):
        """Return the draws, shape (chains, draws, n), and the leapfrog steps."""
        idata = pymc3_tf.sample(
            DRAWS,
            chains=CHAINS,
            model=self.model,
            random_seed=seed,
            progressbar=False,
            discard_tuned_samples=False,
            compute_convergence_checks=False,
            idata_kwargs={"log_likelihood": False},
            **self.settings,
        )
        arrays = [idata.posterior[name].values for name in self.names]
        return {
            "x": np.concatenate([a.reshape(*a.shape[:2], -1) for a in arrays], axis=-1),
            "warmup": idata.warmup_sample_stats.n_steps.values,
            "draws": idata.sample_stats.n_steps.values,
        }


def measured(found):
    """Return what is counted in one run."""
    warmup, draws = int(found["warmup"].sum()), int(found["draws"].sum())
    x = found["x"]
    ess = min(float(az.ess(x[..., i])) for i in range(x.shape[-1]))
    return {
        "tune": found["warmup"].shape[1],
        "warmup": warmup / CHAINS,
        "draws": draws / CHAINS,
        "ess": ess,
        "ess_per_1000": 1000 * ess / (warmup + draws),
        "ess_per_1000_draws_alone": 1000 * ess / draws,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=EVERY, default=list(EVERY))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="how many; default: 5")
    parser.add_argument(
        "--nutpie-python",
        type=Path,
        default=os.environ.get("NUTPIE_PYTHON"),
        help="a Python that has nutpie and NumPyro; default: NUTPIE_PYTHON in the environment",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the JSON"
    )
    arguments = parser.parse_args()
    if not arguments.nutpie_python:
        arguments.methods = [name for name in arguments.methods if METHODS[name][1] is not None]
        progress("nutpie and NumPyro are left out: --nutpie-python is a Python that has them")

    path = arguments.output / "adaptation.json"
    # Models and methods that are not measured now stay as they were.
    results = json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}
    results["date"] = datetime.date.today().isoformat()
    results["versions"] = versions()
    results["labels"] = {name: label for name, (label, _) in METHODS.items()}
    for model in arguments.models:
        for method in arguments.methods:
            progress(f"{model}: {method}")
            runs = runs_of(model, method, arguments)
            results["models"].setdefault(model, {})[method] = runs
            path.write_text(as_json(results) + "\n", encoding="utf-8")
    adaptation_chart.draw(results, arguments.output / "adaptation.png")
    print_tables(results["models"])


def runs_of(model, method, arguments):
    """Return what is measured, by seed."""
    seeds = range(1, arguments.seeds + 1)
    if METHODS[method][1] is not None:
        ours = Ours(model, METHODS[method][1])
        return [measured(ours.sample(seed)) for seed in seeds]
    with tempfile.TemporaryDirectory() as folder:
        script = HERE / "adaptation_nutpie.py"
        worker = Worker(arguments.nutpie_python, script, Path(folder), method)
        try:
            worker.wait_until_ready()
            worker.prepare(model, draws=DRAWS, chains=CHAINS)
            return [measured(worker.sample(seed=seed)["draws"]) for seed in seeds]
        finally:
            worker.stop()


def print_tables(models):
    """Print means over seeds, and the geometric means of what is ahead of nutpie."""
    head = ["", "tune", "gradients, warmup", "draws", "ESS per 1,000", "draws alone"]
    for model, methods in models.items():
        rows = [head]
        for method, runs in methods.items():
            mean = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
            keys = "tune", "warmup", "draws"
            cells = [f"{mean[key]:,.0f}" for key in keys]
            cells += [f"{mean[key]:.1f}" for key in ("ess_per_1000", "ess_per_1000_draws_alone")]
            rows.append([METHODS[method][0], *cells])
        print(f"\n{model}")
        print_table(rows)
    ratios = [
        np.mean([run["ess_per_1000"] for run in methods["auto"]])
        / np.mean([run["ess_per_1000"] for run in methods["nutpie"]])
        for methods in models.values()
        if {"auto", "nutpie"} <= set(methods)
    ]
    if ratios:
        mean, least = np.exp(np.mean(np.log(ratios))), min(ratios)
        print(f"\n'auto' by nutpie: geometric mean {mean:.2f}, least {least:.2f}")


if __name__ == "__main__":
    main()
