"""A straight line through data with outliers.

The data are the 20 points of Table 1 of Hogg, Bovy & Lang (2010), https://arxiv.org/abs/1008.4686,
and the model is that of their section 3: a point belongs either to the line or, with probability
``P_b``, to a broad background distribution. The likelihood is a TensorFlow graph, which knows
nothing of PyMC3; priors and sampling are PyMC3's.

    python robust_line.py --output pictures

With ``--sampler xla``, the whole model is compiled by XLA and sampled by ``pymc3_tf.sample``, which
needs TensorFlow Probability: ``python -m pip install ".[tfp]"`` in the folder of this repository.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import NamedTuple

# Theano's advice on BLAS, PyMC3's to move to its successor, and xarray's to ArviZ.
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").addFilter(lambda record: "outdated" not in record.getMessage())
warnings.filterwarnings("ignore", "The return type of `Dataset.dims`")

import pymc3_tf  # before pymc3, for the sake of Python 3.11  # isort: skip
import arviz as az
import matplotlib
import numpy as np
import pymc3 as pm
import tensorflow as tf

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

HERE = Path(__file__).resolve().parent
VARIABLES = ["m", "b", "P_b", "Y_b", "ln_V_b", "height"]
COLOURS = LinearSegmentedColormap.from_list("outlier", ["#27548a", "#8e6c8a", "#e2711d"])
INK = "#22313f"
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "legend.frameon": False,
    "savefig.dpi": 160,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def load(path=HERE / "hogg2010_table1.csv"):
    """Read the table: columns id, x, y and sigma_y (and two that this model does without)."""
    return np.genfromtxt(path, delimiter=",", names=True)


class Graph(NamedTuple):
    """Tensors of the likelihood's graph."""

    m: tf.Tensor
    b: tf.Tensor
    P_b: tf.Tensor
    Y_b: tf.Tensor
    V_b: tf.Tensor
    x: tf.Tensor
    y: tf.Tensor
    sigma_y: tf.Tensor
    logp: tf.Tensor  # of each point
    outlier: tf.Tensor  # probability that each point is one
    grid: tf.Tensor
    line: tf.Tensor  # at the points of the grid


def graph():
    """Build the likelihood, marginalised over which of the points are outliers."""

    def log_normal_density(y, mean, variance):
        return -0.5 * (tf.square(y - mean) / variance + tf.math.log(2 * np.pi * variance))

    with tf.Graph().as_default():
        placeholder = tf.compat.v1.placeholder
        m, b, P_b, Y_b, V_b = (
            placeholder(tf.float64, [], name) for name in ["m", "b", "P_b", "Y_b", "V_b"]
        )
        x, y, sigma_y, grid = (
            placeholder(tf.float64, [None], name) for name in ["x", "y", "sigma_y", "grid"]
        )
        variance = tf.square(sigma_y)
        foreground = tf.math.log1p(-P_b) + log_normal_density(y, m * x + b, variance)
        background = tf.math.log(P_b) + log_normal_density(y, Y_b, V_b + variance)
        logp = tf.reduce_logsumexp(tf.stack([foreground, background]), axis=0)
        outlier = tf.exp(background - logp)
        line = m * grid + b
    return Graph(m, b, P_b, Y_b, V_b, x, y, sigma_y, logp, outlier, grid, line)


def model(data, tensors):
    """Declare the priors, wide ones, and the likelihood."""
    centre = data["x"].mean()
    with pm.Model() as result:
        m = pm.Normal("m", 0, 10)
        # NUTS has it easier with the height of the line in the middle of the data: it hardly
        # depends on the slope, unlike b, the height at x = 0.
        height = pm.Normal("height", 400, 200)
        b = pm.Deterministic("b", height - m * centre)
        P_b = pm.Uniform("P_b", 0, 1)
        Y_b = pm.Normal("Y_b", 400, 200)
        ln_V_b = pm.Normal("ln_V_b", 9, 2)  # (90, give or take a factor e) squared
        pm.TFDensity(
            "y",
            tensors.logp,
            value=tensors.y,
            params={
                tensors.m: m,
                tensors.b: b,
                tensors.P_b: P_b,
                tensors.Y_b: Y_b,
                tensors.V_b: pm.math.exp(ln_V_b),
            },
            feed_dict={
                tensors.x: data["x"],
                tensors.y: data["y"],
                tensors.sigma_y: data["sigma_y"],
            },
        )
    return result


def sample(line_model, draws=1000, tune=1000, chains=4, seed=None, sampler="pymc3"):
    """Sample the posterior."""
    with line_model:
        if sampler == "xla":
            return pymc3_tf.sample(draws, tune, chains, random_seed=seed, target_accept=0.95)
        return pm.sample(
            draws,
            tune=tune,
            chains=chains,
            cores=min(chains, os.cpu_count()),
            random_seed=seed,
            target_accept=0.95,
            return_inferencedata=True,
        )


def summarise(posterior):
    """Return ArviZ's summary, and what it says against the draws in words."""
    summary = az.summary(posterior, var_names=VARIABLES)
    concerns = []
    if summary["r_hat"].max() > 1.01:
        worst = summary["r_hat"].idxmax()
        concerns.append(
            f"r_hat of {worst} is {summary['r_hat'][worst]}, above 1.01: the chains do not agree "
            "yet, so do not rely on these numbers. Run it with more --tune and --draws."
        )
    diverging = int(posterior.sample_stats["diverging"].sum())
    if diverging:
        concerns.append(f"{diverging} draws diverged: some of the posterior may be missing.")
    return summary, concerns


def plot_line(axes, data, probability, grid, lines):
    """Draw the data, coloured by the probability of being an outlier, and lines on the grid."""
    x, y, sigma_y = data["x"], data["y"], data["sigma_y"]
    colours = COLOURS(probability)
    axes.plot(grid, lines.T, color=INK, alpha=0.13, lw=1)
    axes.plot([], [], color=INK, alpha=0.6, lw=1, label=f"{len(lines)} draws of the posterior")
    fit = np.polyval(np.polyfit(x, y, 1, w=1 / sigma_y), grid)
    axes.plot(grid, fit, "--", color="#9aa5ae", lw=1.5, label="least squares, all points")
    axes.errorbar(x, y, sigma_y, fmt="none", ecolor=colours, elinewidth=1.5, zorder=3)
    axes.scatter(x, y, c=colours, s=42, edgecolors="white", linewidths=0.8, zorder=4)
    for i in np.flatnonzero(probability > 0.5):
        axes.annotate(
            f"{data['id'][i]:.0f}",
            (x[i], y[i]),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=colours[i],
            weight="bold",
        )
    axes.set(xlabel="x", ylabel="y", xlim=grid[[0, -1]], ylim=(0, 720))
    axes.legend(loc="upper left", handlelength=1.6)


def plot_outliers(axes, data, probability):
    """Draw each point's probability of being an outlier."""
    order = np.argsort(probability, kind="stable")
    rows = np.arange(len(order))
    colours = COLOURS(probability[order])
    axes.axvline(0.5, color="#c9d0d6", lw=1, zorder=0)
    axes.hlines(rows, 0, probability[order], color=colours, lw=2)
    axes.scatter(probability[order], rows, c=colours, s=42, zorder=3, clip_on=False)
    axes.set_yticks(rows)
    axes.set_yticklabels([f"{number:.0f}" for number in data["id"][order]], fontsize=9)
    axes.set(
        xlabel="probability of being an outlier",
        ylabel="point",
        xlim=(0, 1),
        ylim=(-0.7, len(order) - 0.3),
    )
    axes.tick_params(axis="y", length=0)


def plot(output, data, posterior, probability, grid, lines):
    """Save all pictures in a folder; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    paths = []

    def save(figure, name):
        paths.append(output / name)
        figure.savefig(paths[-1])
        plt.close(figure)

    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, 4.8), gridspec_kw={"width_ratios": [2, 1]}, constrained_layout=True
        )
        plot_line(left, data, probability, grid, lines)
        plot_outliers(right, data, probability)
        save(figure, "robust_line.png")

        figure, axes = plt.subplots(figsize=(7, 4.8), constrained_layout=True)
        plot_line(axes, data, probability, grid, lines)
        save(figure, "lines.png")

        figure, axes = plt.subplots(figsize=(5, 4.8), constrained_layout=True)
        plot_outliers(axes, data, probability)
        save(figure, "outliers.png")

        shown = posterior.posterior[["m", "b", "P_b", "Y_b", "ln_V_b"]]
        labels = {"m": "$m$", "b": "$b$", "P_b": "$P_b$", "Y_b": "$Y_b$", "ln_V_b": r"$\ln V_b$"}
        labeller = az.labels.MapLabeller(var_name_map=labels)
        axes = az.plot_trace(
            shown,
            figsize=(10, 9),
            compact=False,
            labeller=labeller,
            chain_prop={"color": [COLOURS(c) for c in np.linspace(0, 1, shown.sizes["chain"])]},
            trace_kwargs={"alpha": 0.5, "lw": 0.6},
        )
        for left, right in axes:
            left.set_yticks([])
            left.spines["left"].set_visible(False)
            right.set_ylabel(right.get_title())
            right.set_title("")
            left.set_xlabel(left.get_title())
            left.set_title("")
        axes[-1, 1].set_xlabel("draw")
        figure = axes[0, 0].figure
        figure.tight_layout()
        figure.align_ylabels(axes[:, 1])
        save(figure, "trace.png")

        axes = az.plot_pair(
            shown,
            marginals=True,
            figsize=(9, 9),
            textsize=13,
            labeller=labeller,
            scatter_kwargs={"alpha": 0.1, "color": COLOURS(0.0)},
            marginal_kwargs={"color": COLOURS(0.0)},
        )
        for panel in np.diag(axes):
            panel.tick_params(left=False, labelleft=False)
            panel.spines["left"].set_visible(False)
        axes[0, 0].set_ylabel("")
        figure = axes[0, 0].figure
        for panel in figure.axes:
            panel.tick_params(labelsize=9)
        figure.subplots_adjust(0.1, 0.08, 0.98, 0.98, 0.15, 0.15)
        figure.align_ylabels(axes[:, 0])
        save(figure, "pair.png")
    return paths


def main(arguments=None):
    """Fit the line, print the result and save the pictures."""
    parser = argparse.ArgumentParser(description="A straight line through data with outliers.")
    parser.add_argument("--draws", type=int, default=1000, help="of each chain (%(default)s)")
    parser.add_argument("--tune", type=int, default=1000, help="tuning draws (%(default)s)")
    parser.add_argument("--chains", type=int, default=4, help="number of chains (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sampler (%(default)s)")
    parser.add_argument(
        "--sampler", choices=["pymc3", "xla"], default="pymc3", help="which NUTS (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "output", help="folder for the pictures (%(default)s)"
    )
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    data, tensors = load(), graph()
    line_model = model(data, tensors)
    posterior = sample(
        line_model, options.draws, options.tune, options.chains, options.seed, options.sampler
    )
    summary, concerns = summarise(posterior)
    print(summary.to_string())
    for concern in concerns:
        print("Warning:", concern)

    # Any tensor of the same graph, for every draw: arrays of shape (chain, draw, ...).
    grid = np.linspace(0, 300, 100)
    with line_model:
        outlier, lines = pymc3_tf.evaluate(
            [tensors.outlier, tensors.line], posterior, feed_dict={tensors.grid: grid}
        )
    probability = outlier.mean(axis=(0, 1))
    lines = lines.reshape(-1, len(grid))
    some = np.random.RandomState(options.seed).choice(len(lines), min(50, len(lines)), False)
    print("\nProbability of being an outlier:")
    for number, p in zip(data["id"], probability):
        print(f"  point {number:2.0f}  {p:.3f}" + ("  <- more likely than not" if p > 0.5 else ""))

    paths = plot(options.output, data, posterior, probability, grid, lines[some])
    print(f"\n{time.perf_counter() - start:.0f} seconds. Pictures:")
    for path in paths:
        print(f"  {path}")


if __name__ == "__main__":
    main()
