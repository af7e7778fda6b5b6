"""The line of the blog post "PyMC3 + TensorFlow" (Dan Foreman-Mackey, 2018), step by step.

https://dfm.io/posts/pymc-tensorflow/ fitted a line to 50 points with a likelihood that was written
in TensorFlow: parameters are variables of a TensorFlow 1 graph, PyMC3 samples them, and the same
graph then predicts. Here is each of its steps. One thing differs: the post subtracts N/2 times
log(s) from the log likelihood, where a normal distribution needs N times.

    python line_2018.py --output pictures
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
import theano

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
NAMES = ["m", "b", "logs"]
TRUTH = np.array([0.5, -2.3, -0.23])
ENDS = np.array([0.0, 10.0])  # where the line is drawn from and to
BLUE, ORANGE, INK = "#27548a", "#e2711d", "#22313f"
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


def load():
    """Make the data of the post: the order of the random calls is part of it."""
    np.random.seed(42)
    x = np.random.uniform(0, 10, 50)
    y = x * TRUTH[0] + TRUTH[1]
    return x, y + np.exp(TRUTH[-1]) * np.random.randn(50)


class Graph(NamedTuple):
    """The parameters are variables, so there is a session that holds their values."""

    session: tf.compat.v1.Session
    m: tf.Variable
    b: tf.Variable
    logs: tf.Variable
    loglike: tf.Tensor
    pred: tf.Tensor  # the line at its two ends


def graph(x, y):
    """Build the log likelihood and the prediction."""
    with tf.Graph().as_default() as result:
        m, b, logs = (tf.compat.v1.Variable(0.0, dtype=tf.float64, name=name) for name in NAMES)
        residual = tf.constant(y) - (m * tf.constant(x) + b)
        loglike = -0.5 * tf.reduce_sum(tf.square(residual)) * tf.exp(-2 * logs)
        loglike -= len(x) * (logs + 0.5 * np.log(2 * np.pi))
        pred = m * tf.constant(ENDS) + b
        session = tf.compat.v1.Session(graph=result)
        session.run(tf.compat.v1.global_variables_initializer())
    return Graph(session, m, b, logs, loglike, pred)


def model(line):
    """Declare uniform priors on all parameters, and the likelihood."""
    with pm.Model() as result:
        m = pm.Uniform("m", -5, 5)
        b = pm.Uniform("b", -5, 5)
        logs = pm.Uniform("logs", -5, 5)
        pm.TFDensity(
            "loglike",
            line.loglike,
            # A variable has no hash in TensorFlow 2; ref() makes a key of it.
            params={line.m.ref(): m, line.b.ref(): b, line.logs.ref(): logs},
            session=line.session,
        )
    return result


def verify_gradients(line):
    """Compare gradients with finite differences: of a square, and of the log likelihood."""
    np.random.seed(42)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = tf.compat.v1.Variable(np.random.randn(5))
        session.run(tf.compat.v1.global_variables_initializer())
        square = pymc3_tf.TensorFlowOp(tf.square(values), [values], session=session)
        start = session.run(values)
    loglike = pymc3_tf.TensorFlowOp(line.loglike, [line.m, line.b, line.logs], session=line.session)
    parameters = line.session.run([line.m, line.b, line.logs])
    # Once a model was declared, PyMC3 has Theano ask for test values, which verify_grad lacks.
    with theano.config.change_flags(compute_test_value="off"):
        theano.gradient.verify_grad(square, [start], rng=np.random)
        theano.gradient.verify_grad(loglike, parameters, rng=np.random)


def sample(line_model, draws=1000, tune=2000, chains=4, seed=None):
    """Sample the posterior on all cores."""
    with line_model:
        return pm.sample(
            draws,
            tune=tune,
            chains=chains,
            cores=min(chains, os.cpu_count()),
            random_seed=seed,
            target_accept=0.9,
            return_inferencedata=False,
        )


def plot_data(axes, x, y):
    """Draw the data and the line that they come from."""
    axes.plot(x, y, "o", color=INK, ms=4.5, mec="white", mew=0.6, label="observations", zorder=3)
    axes.plot(ENDS, TRUTH[0] * ENDS + TRUTH[1], color=BLUE, lw=2, label="truth", zorder=2)
    axes.set(xlabel="x", ylabel="y", xlim=ENDS)


def plot_trace(posterior):
    """Draw the distribution of each chain and its path."""
    chains = posterior.posterior.sizes["chain"]
    colours = [plt.get_cmap("cividis")(c) for c in np.linspace(0.1, 0.8, chains)]
    axes = az.plot_trace(
        posterior,
        var_names=NAMES,
        figsize=(10, 6),
        compact=False,
        chain_prop={"color": colours},
        trace_kwargs={"alpha": 0.6, "lw": 0.6},
    )
    axes[-1, 1].set_xlabel("draw")
    figure = axes[0, 0].figure
    figure.tight_layout()
    return figure


def plot_pair(posterior):
    """Draw the posterior of each pair of parameters, with the truth."""
    axes = az.plot_pair(
        posterior,
        var_names=NAMES,
        marginals=True,
        figsize=(7, 7),
        textsize=12,
        labeller=az.labels.MapLabeller(var_name_map={"logs": "log(s)"}),
        scatter_kwargs={"alpha": 0.1, "color": BLUE},
        marginal_kwargs={"color": BLUE},
    )
    for row in range(len(NAMES)):
        for column in range(row + 1):
            axes[row, column].axvline(TRUTH[column], color=ORANGE, lw=1)
            if column < row:
                axes[row, column].axhline(TRUTH[row], color=ORANGE, lw=1)
        axes[row, row].tick_params(left=False, labelleft=False)
        axes[row, row].spines["left"].set_visible(False)
    axes[0, 0].set_ylabel("")
    figure = axes[0, 0].figure
    figure.subplots_adjust(0.12, 0.1, 0.98, 0.98, 0.1, 0.1)
    figure.align_ylabels(axes[:, 0])
    return figure


def main(arguments=None):
    """Do what the post does, and save its pictures."""
    parser = argparse.ArgumentParser(description="The line of the 2018 post, step by step.")
    parser.add_argument("--draws", type=int, default=1000, help="of each chain (%(default)s)")
    parser.add_argument("--tune", type=int, default=2000, help="tuning draws (%(default)s)")
    parser.add_argument("--chains", type=int, default=4, help="number of chains (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sampler (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=HERE / "output", help="folder for the pictures (%(default)s)"
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    paths = []

    def save(figure, name):
        paths.append(options.output / name)
        figure.savefig(paths[-1])
        plt.close(figure)

    x, y = load()
    line = graph(x, y)
    verify_gradients(line)
    print("The gradients agree with finite differences.")

    # With uniform priors the maximum of the posterior is that of the likelihood.
    line_model = model(line)
    density = line_model["loglike"].distribution
    best = pm.find_MAP(model=line_model, progressbar=False)
    print("Maximum likelihood:", ", ".join(f"{name} = {best[name]:.4f}" for name in NAMES))
    best_line = line.pred.eval(feed_dict=density.feed_dict(best), session=line.session)

    trace = sample(line_model, options.draws, options.tune, options.chains, options.seed)
    posterior = az.from_pymc3(trace, model=line_model, log_likelihood=False)
    print(az.summary(posterior).to_string())

    # The line of one draw, from the user's own graph and session ...
    some = np.random.RandomState(options.seed).choice(len(trace), min(25, len(trace)), False)
    with line.session.as_default():
        lines = [line.pred.eval(feed_dict=density.feed_dict(trace[i])) for i in some]
    # ... and of all draws at once, as an array of shape (chain, draw, 2).
    predictions = pymc3_tf.evaluate(line.pred, trace)
    low, high = np.percentile(predictions, [2.5, 97.5], axis=(0, 1))
    for end, a, b in zip(ENDS, low, high):
        print(f"At x = {end:.0f} the line is between {a:.3f} and {b:.3f} (95 %).")

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4.8), constrained_layout=True)
        plot_data(axes, x, y)
        axes.plot(ENDS, best_line, "--", color=ORANGE, lw=2, label="maximum likelihood")
        axes.legend(loc="upper left")
        save(figure, "line_2018_maximum.png")
        save(plot_trace(posterior), "line_2018_trace.png")
        save(plot_pair(posterior), "line_2018_pair.png")
        figure, axes = plt.subplots(figsize=(7, 4.8), constrained_layout=True)
        plot_data(axes, x, y)
        axes.plot(ENDS, np.transpose(lines), color=ORANGE, alpha=0.3, lw=1)
        axes.plot([], [], color=ORANGE, label="posterior samples")
        axes.legend(loc="upper left")
        save(figure, "line_2018_predictions.png")

    print(f"{time.perf_counter() - start:.0f} seconds. Pictures:")
    for path in paths:
        print(f"  {path}")


if __name__ == "__main__":
    main()
