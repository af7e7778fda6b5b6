"""The bar chart of the line benchmark, and charts of dots."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402

BASE = "density"
BASE_COLOR, OUR_COLOR, OTHER_COLOR = "#d9622b", "#f2a65a", "#8d99ae"
INK, FAINT_INK, GRID = "#2b2d42", "#6c757d", "#d8dbe2"


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
    # One below the other, so that a phone shows them.
    figure, axes = plt.subplots(len(every), 1, figsize=(6, 8.5))
    for axis, (points, table) in zip(axes, every.items()):
        times = {name: table[name]["minimum"] for name in labels}
        _draw_panel(axis, times, f"{int(points):,} points")
        axis.set_yticks(range(len(labels)))
        for text, name in zip(axis.set_yticklabels(labels.values()), labels):
            text.set_fontweight("bold" if name == BASE else "normal")
        axis.invert_yaxis()
    machine, versions = results["machine"], results["versions"]
    subtitle = f"Microseconds, log scale. In brackets: times those of {labels[BASE]}."
    footer = (
        f"{machine['cpu']}, {machine['cores']} cores. PyMC3 {versions['pymc3']}, TensorFlow "
        f"{versions['tensorflow']}, Python {versions['python']}.\n"
        "Fastest of interleaved rounds; every call at a new point."
    )
    left = 0.02
    title = "One evaluation of log density and gradient"
    figure.text(left, 0.965, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(left, 0.935, subtitle, fontsize=10.5, color=INK)
    figure.text(left, 0.012, footer, fontsize=8.5, color=FAINT_INK)
    figure.tight_layout(rect=(0, 0.045, 1, 0.93), h_pad=1.5)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _draw_panel(axis, times, title):
    lowest, highest = min(times.values()), max(times.values())
    # A bar on a log scale has to start somewhere: half way below the fastest.
    start = lowest / 3
    axis.set_xscale("log")
    for row, (name, time) in enumerate(times.items()):
        axis.barh(row, time - start, left=start, height=0.68, color=_color(name))
        axis.annotate(
            _label(time, time / times[BASE], name),
            (time, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=INK,
        )
    # Room for the labels, a good third of the width.
    axis.set_xlim(start, highest * (highest / start) ** 0.6)
    decades(axis, start, highest)
    axis.set_title(title, loc="left", fontsize=11.5, color=INK)


def decades(axis, lowest, highest):
    """Show the powers of ten on the log scale of bars, and nothing else of the frame."""
    powers = range(math.ceil(math.log10(lowest)), math.floor(math.log10(highest)) + 1)
    axis.set_xticks([10**k for k in powers])
    axis.set_xticklabels([f"{10**k:,}".replace(",000", "k") for k in powers])
    axis.minorticks_off()
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(GRID)
    axis.tick_params(length=0, colors=INK)


def dots(rows, styles, labels, title, path, *, width=9, columns=3):
    """Save one panel with a dot for each method and model on a log scale, the largest on top.

    Parameters
    ----------
    rows : dict of str to dict
        For each model, the numbers by method.
    styles : dict of str to tuple
        Marker, colour, and whether it is filled, by method.
    labels : dict of str to str
        The names of the methods.
    title : str
    path : path
        Of the PNG.
    width : float
        In inches.
    columns : int
        Of the legend.
    """
    rows = {model: {k: row[k] for k in styles if k in row} for model, row in rows.items()}
    models = sorted(rows, key=lambda model: max(rows[model].values()))
    used = [name for name in styles if any(name in row for row in rows.values())]
    legend = math.ceil(len(used) / columns)
    figure, axis = plt.subplots(figsize=(width, 1.1 + 0.5 * len(models) + 0.27 * legend))
    for y, model in enumerate(models):
        ends = min(rows[model].values()), max(rows[model].values())
        axis.plot(ends, (y, y), color=GRID, linewidth=1.5, zorder=1)
        for name, number in rows[model].items():
            front = 3 if styles[name][1] == BASE_COLOR else 2
            axis.plot(number, y, linestyle="none", zorder=front, **_dot(*styles[name]))
    axis.set_xscale("log")
    every = [number for row in rows.values() for number in row.values()]
    decades(axis, min(every), 1.2 * max(every))
    axis.set_yticks(range(len(models)))
    axis.set_yticklabels(models, fontsize=11)
    axis.tick_params(axis="x", labelsize=10)
    axis.set_title(title, loc="left", fontsize=13, color=INK, pad=12)
    figure.legend(
        [Line2D([], [], linestyle="none", **_dot(*styles[name])) for name in used],
        [labels[name] for name in used],
        loc="lower center",
        ncol=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
    )
    figure.tight_layout(rect=(0, 0.27 * legend / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _dot(marker, color, filled):
    return {
        "marker": marker,
        "markersize": 9,
        "markeredgecolor": color,
        "markeredgewidth": 1.8,
        "markerfacecolor": color if filled else "white",
    }


def _color(name):
    if name == BASE:
        return BASE_COLOR
    return OUR_COLOR if name.startswith(BASE) else OTHER_COLOR


def _label(time, ratio, name):
    number = f"{time:,.0f} µs" if time >= 100 else f"{time:.1f} µs"
    if name == BASE:
        return number
    return f"{number} ({ratio:.1f}×)" if ratio >= 0.95 else f"{number} ({ratio:.2f}×)"
