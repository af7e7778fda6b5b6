"""The chart of the benchmark of the warmup.

    python tests/benchmarks/adaptation_chart.py docs/benchmarks

draws it again from the ``adaptation.json`` in a folder.
"""

import json
import statistics
import sys
from pathlib import Path

import chart

STYLES = {
    "auto": ("o", chart.BASE_COLOR, True),
    "lowrank": ("D", chart.BASE_COLOR, False),
    "grad": ("o", chart.BASE_COLOR, False),
    "diag": ("s", chart.INK, False),
    "nutpie": ("^", chart.OTHER_COLOR, True),
    "nutpie_lowrank": ("^", chart.OTHER_COLOR, False),
    "numpyro": ("v", chart.INK, True),
}
MODELS = {
    "line_50": "line, 50 points",
    "line_1e5": "line, 100,000 points",
    "schools": "eight schools",
    "outliers": "line with outliers",
    "correlated": "correlated normal",
    "logistic": "logistic regression",
    "gaussian_process": "Gaussian process",
    "factors": "250 coefficients",
}


def draw(results, path):
    """Save effective samples per 1,000 gradients by model and method, on a log scale.

    Parameters
    ----------
    results : dict
        What ``adaptation.py`` saves as JSON.
    path : path
        Of the PNG.
    """
    rows = {
        MODELS[model]: {
            name: statistics.mean(run["ess_per_1000"] for run in runs)
            for name, runs in methods.items()
        }
        for model, methods in results["models"].items()
    }
    title = "ESS per 1,000 gradients, log scale"
    chart.dots(rows, STYLES, results["labels"], title, path, width=5.7, columns=2)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw(json.loads((folder / "adaptation.json").read_text("utf-8")), folder / "adaptation.png")
