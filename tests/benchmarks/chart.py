"""The bar chart of the line benchmark."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

OURS, OURS_BASE, OTHERS = "#f2a65a", "#d9622b", "#8d99ae"
INK, FAINT = "#2b2d42", "#d8dbe2"


def draw(results, path):
    """Save microseconds per logp and gradient by method and number of points, on a log scale.

    Parameters
    ----------
    results : dict
        What ``line.py`` saves as JSON.
    path : path
        Of the PNG.
    """
    labels, every = results["labels"], results["evaluation"]
    figure, axes = plt.subplots(1, len(every), figsize=(13.5, 4.3), sharey=True)
    for axis, (points, table) in zip(axes, every.items()):
        _draw_panel(axis, table, list(labels), f"{int(points):,} points")
    axes[0].set_yticks(range(len(labels)))
    axes[0].set_yticklabels(labels.values())
    for tick, name in zip(axes[0].get_yticklabels(), labels):
        tick.set_fontweight("bold" if name == "density" else "normal")
    axes[0].invert_yaxis()
    figure.suptitle(
        "One evaluation of log density and gradient, line fit", x=0.012, y=0.975, ha="left",
        fontsize=14, fontweight="bold", color=INK,
    )  # fmt: skip
    machine, versions = results["machine"], results["versions"]
    figure.text(
        0.012, 0.87, "microseconds per call of model.logp_dlogp_function(), log scale; "
        "in brackets: times the time of TFDensity", fontsize=10.5, color=INK,
    )  # fmt: skip
    figure.text(
        0.012, 0.02, f"{machine['cpu']}, {machine['cores']} cores.  PyMC3 {versions['pymc3']}, "
        f"TensorFlow {versions['tensorflow']}, Python {versions['python']}.  Fastest of "
        "interleaved rounds; every call at a new point.", fontsize=8.5, color="#6c757d",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.05, 1, 0.86), w_pad=2.5)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _draw_panel(axis, table, names, title):
    values = [table[name]["minimum"] for name in names]
    base = table["density"]["minimum"]
    colors = [
        OURS_BASE if name == "density" else OURS if name.startswith("density") else OTHERS
        for name in names
    ]
    axis.set_xscale("log")
    lowest = 10 ** _floor_log(min(values)) * 0.5
    bars = axis.barh(range(len(names)), [v - lowest for v in values], left=lowest, color=colors,
                     height=0.68)  # fmt: skip
    axis.set_xlim(lowest, max(values) * (max(values) / lowest) ** 0.55)
    for bar, value in zip(bars, values):
        number = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
        axis.annotate(
            f"{number} µs ({value / base:.2g}×)" if value / base < 10
            else f"{number} µs ({value / base:.0f}×)",
            (value, bar.get_y() + bar.get_height() / 2), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=9.5, color=INK,
        )  # fmt: skip
    axis.set_title(title, loc="left", fontsize=11.5, color=INK)
    axis.grid(axis="x", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    axis.tick_params(length=0, colors=INK)
    axis.minorticks_off()


def _floor_log(value):
    exponent = -9
    while 10 ** (exponent + 1) <= value:
        exponent += 1
    return exponent
