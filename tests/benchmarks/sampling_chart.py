"""The chart of the sampling benchmark."""

import math

import chart
import matplotlib.pyplot as plt

COLUMNS = 4


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
            text += f" ({speed / base:.3g}×)"
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
