"""The charts of the sampling benchmark.

    python tests/benchmarks/sampling_chart.py docs/benchmarks

draws them again from the ``sampling.json`` in a folder.
"""

import json
import math
import sys
from pathlib import Path

import chart
import matplotlib.pyplot as plt

COLUMNS = 4
# Marker, colour, whether it is filled. One batch is left out of the overview: threads are faster.
DOTS = {
    "bridge": ("X", chart.OTHER_COLOR, True),
    "pymc3": ("o", chart.INK, True),
    "density": ("o", chart.INK, False),
    "xla": ("o", chart.BASE_COLOR, True),
    "xla_density": ("o", chart.BASE_COLOR, False),
    "threads": ("D", chart.OTHER_COLOR, True),
    "windowed": ("s", chart.OTHER_COLOR, True),
    "numpyro": ("^", chart.OTHER_COLOR, True),
}


def overview(results, path):
    """Save one panel with a dot for each method and model, fastest models on top.

    Parameters
    ----------
    results : dict
        What ``sampling.py`` saves as JSON.
    path : path
        Of the PNG.
    """
    labels = results["labels"]
    speeds = {
        model: {name: table[name]["ess_per_second"] for name in DOTS if name in table}
        for model, table in results["models"].items()
    }
    rows = {labels["models"][model]: table for model, table in speeds.items()}
    title = "Effective samples per second, log scale"
    chart.dots(rows, DOTS, labels["methods"], title, path, width=6, columns=2)


def draw(results, path):
    """Save effective samples per second by model and method, on a log scale.

    Parameters
    ----------
    results : dict
        What ``sampling.py`` saves as JSON.
    path : path
        Of the PNG.
    """
    labels, every = results["labels"], results["models"]
    methods = {n: t for n, t in labels["methods"].items() if any(n in m for m in every.values())}
    columns = min(COLUMNS, len(every))
    rows = math.ceil(len(every) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 + 3.2 * columns, 1.4 + 3.4 * rows), sharey=True, squeeze=False
    )
    for axis in axes.flat[len(every) :]:
        axis.set_visible(False)
    for axis, (model, table) in zip(axes.flat, every.items()):
        speeds = {n: table[n]["ess_per_second"] for n in methods if n in table}
        _draw_panel(axis, speeds, list(methods), labels["models"][model])
    for row in axes:
        row[0].set_yticks(range(len(methods)))
        for text, name in zip(row[0].set_yticklabels(methods.values()), methods):
            text.set_fontweight("bold" if name.startswith("xla") else "normal")
    axes[0, 0].invert_yaxis()
    machine, versions = results["machine"], results["versions"]
    left = 0.012
    title = "Sampling whole models: effective samples per second"
    subtitle = (
        "Bulk, of the worst parameter, after compilation; log scale. "
        f"In brackets: times those of {labels['methods']['pymc3']}."
    )
    footer = (
        f"{machine['cpu']}, {machine['cores']} cores, 2 chains. PyMC3 {versions['pymc3']}, "
        f"TensorFlow {versions['tensorflow']}, Python {versions['python']}."
    )
    height = figure.get_figheight()
    figure.text(left, 1 - 0.35 / height, title, fontsize=14, fontweight="bold", color=chart.INK)
    figure.text(left, 1 - 0.62 / height, subtitle, fontsize=10.5, color=chart.INK)
    figure.text(left, 0.1 / height, footer, fontsize=8.5, color=chart.FAINT_INK)
    figure.tight_layout(rect=(0, 0.25 / height, 1, 1 - 0.65 / height), w_pad=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_panel(axis, speeds, methods, title):
    lowest, highest = min(speeds.values()), max(speeds.values())
    start, base = lowest / 3, speeds.get("pymc3")
    axis.set_xscale("log")
    for name, speed in speeds.items():
        row = methods.index(name)
        color = chart.BASE_COLOR if name.startswith("xla") else chart.OTHER_COLOR
        axis.barh(row, speed - start, left=start, height=0.68, color=color)
        text = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        if base and name != "pymc3":
            text += f" ({speed / base:.3g}×)" if speed >= base else f" ({base / speed:.2g}× slower)"
        axis.annotate(
            text,
            (speed, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=chart.INK,
        )
    axis.set_xlim(start, highest * (highest / start) ** 0.75)
    chart.decades(axis, start, highest)
    axis.set_title(title, loc="left", fontsize=11, color=chart.INK)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    saved = json.loads((folder / "sampling.json").read_text("utf-8"))
    draw(saved, folder / "sampling.png")
    overview(saved, folder / "sampling_overview.png")
