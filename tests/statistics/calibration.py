"""Simulation-based calibration: models, twins of them that are wrong, and their ranks.

Parameters are drawn from the prior, here by NumPy, and data from the parameters. The rank of a
parameter among draws of its posterior is uniform if these are right (Talts, Betancourt, Simpson,
Vehtari & Gelman 2018, https://arxiv.org/abs/1804.06788).
``PYTHONPATH=tests python tests/statistics/calibration.py`` writes
``docs/evidence/calibration.json`` and its picture.
"""

import argparse
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pymc3_tf  # isort: skip  # before pymc3, for the sake of Python 3.11
import evidence_file
import numpy as np
import pymc3 as pm
import tensorflow as tf
from bands import band, deviation, differences
from contract.twins import half_normal
from pymc3.distributions import transforms
from support import QUIET, tf_normal

REPLICATES = 1000
TOGETHER = 50  # data sets of one model, which is sampled again for the next ones
KEPT = 99  # draws of each posterior: ranks go from 0 to 99
# All quantities of all models together are within their bands, except once in a hundred tables.
OUTSIDE = 0.01
X = np.linspace(-1.0, 1.0, 12)
OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "calibration.json"


class Calibrated(NamedTuple):
    """A model of ``TOGETHER`` data sets, each with parameters of its own, and how to draw them."""

    build: Callable[[Any, bool], Any]  # of the data, and whether it is to be wrong
    simulate: Callable[[np.random.RandomState], Any]  # parameters by name, and data
    wrong: str  # what is wrong in the twin


def line():
    def build(data, wrong):
        def logp(y, a, b, sigma):
            missing = 0.5 * tf.math.log(sigma) if wrong else 0.0 * sigma
            return tf_normal(y, a[:, None] + b[:, None] * X, sigma[:, None]) + missing[:, None]

        params = {
            "a": pm.Normal("a", 0.0, 1.0, shape=TOGETHER),
            "b": pm.Normal("b", 0.0, 2.0, shape=TOGETHER),
            "sigma": pm.Gamma("sigma", 4.0, 4.0, shape=TOGETHER),
        }
        pm.TFDensity("y", logp, params, observed=data)

    def simulate(random):
        a, b = random.normal(0.0, 1.0, TOGETHER), random.normal(0.0, 2.0, TOGETHER)
        sigma = random.gamma(4.0, 1 / 4, TOGETHER)
        y = random.normal(a[:, None] + b[:, None] * X, sigma[:, None])
        return {"a": a, "b": b, "sigma": sigma}, y

    return Calibrated(build, simulate, "log sigma is halved in the likelihood")


def hierarchy():
    """Groups with means of their own, not centred."""

    def build(data, wrong):
        mu = pm.Normal("mu", 0.0, 2.0, shape=TOGETHER)
        scale = {"sigma": np.float64(2.5 if wrong else 1.5)}
        tau = pm.TFDensity("tau", half_normal, scale, shape=TOGETHER, transform=transforms.log)
        theta = pm.Normal("theta", 0.0, 1.0, shape=(TOGETHER, 6))
        params = {"mu": mu[:, None] + tau[:, None] * theta, "sigma": np.float64(1.0)}
        pm.TFDensity("y", tf_normal, params, observed=data)

    def simulate(random):
        mu, tau = random.normal(0.0, 2.0, TOGETHER), abs(random.normal(0.0, 1.5, TOGETHER))
        theta = random.normal(size=(TOGETHER, 6))
        y = random.normal(mu[:, None] + tau[:, None] * theta, 1.0)
        return {"mu": mu, "tau": tau, "theta": theta}, y

    return Calibrated(build, simulate, "the prior of tau is wider")


class LogWithoutJacobian(transforms.Log):
    def jacobian_det(self, x):
        return 0.0 * x


def composition():
    """Proportions on a simplex and a rate, with a Poisson likelihood."""
    a = np.array([2.0, 3.0, 4.0])

    def build(data, wrong):
        share = pm.Dirichlet("share", np.tile(a, (TOGETHER, 1)), shape=(TOGETHER, 3))
        rate = pm.TFDensity(
            "rate",
            lambda x: 2 * tf.math.log(x) - 0.1 * x,
            shape=TOGETHER,
            transform=LogWithoutJacobian() if wrong else transforms.log,
            testval=np.full(TOGETHER, 20.0),
        )
        pm.TFDensity(
            "y",
            lambda y, mean: y * tf.math.log(mean) - mean,
            {"mean": rate[:, None] * share},
            observed=data,
        )

    def simulate(random):
        share, rate = random.dirichlet(a, TOGETHER), random.gamma(3.0, 10.0, TOGETHER)
        y = random.poisson(rate[:, None] * share).astype(float)
        return {"share": share, "rate": rate}, y

    return Calibrated(build, simulate, "the log transform has no Jacobian")


def gaussian_process():
    distance = np.subtract.outer(X[:8], X[:8]) ** 2

    def covariance(scale, noise, exp):
        scale, noise = scale[:, None, None], noise[:, None, None]
        return exp(-0.5 * distance / scale**2) + (noise**2 + 1e-6) * np.eye(8)

    def build(data, wrong):
        def logp(y, scale, noise):
            factor = tf.linalg.cholesky(covariance(scale, noise, tf.exp))
            z = tf.linalg.triangular_solve(factor, y[..., None])[..., 0]
            log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), -1)
            return -0.5 * tf.reduce_sum(z**2, -1) - (0.5 if wrong else 1.0) * log_determinant

        params = {
            "scale": pm.Gamma("scale", 4.0, 8.0, shape=TOGETHER),
            "noise": pm.HalfNormal("noise", 0.5, shape=TOGETHER),
        }
        pm.TFDensity("y", logp, params, observed=data)

    def simulate(random):
        scale = random.gamma(4.0, 1 / 8, TOGETHER)
        noise = abs(random.normal(0.0, 0.5, TOGETHER))
        factor = np.linalg.cholesky(covariance(scale, noise, np.exp))
        y = (factor @ random.normal(size=(TOGETHER, 8, 1)))[..., 0]
        return {"scale": scale, "noise": noise}, y

    return Calibrated(build, simulate, "the log determinant is halved")


def autoregression():
    """A stationary series of order one: its first value has a variance of its own."""

    def build(data, wrong):
        def logp(y, phi, sigma):
            first = sigma if wrong else sigma / tf.sqrt(1 - phi**2)
            later = tf_normal(y[:, 1:], phi[:, None] * y[:, :-1], sigma[:, None])
            return tf.reduce_sum(later, -1) + tf_normal(y[:, 0], np.float64(0), first)

        params = {
            "phi": pm.Uniform("phi", -1.0, 1.0, shape=TOGETHER),
            "sigma": pm.Gamma("sigma", 4.0, 4.0, shape=TOGETHER),
        }
        pm.TFDensity("y", logp, params, observed=data)

    def simulate(random):
        phi, sigma = random.uniform(-1.0, 1.0, TOGETHER), random.gamma(4.0, 1 / 4, TOGETHER)
        y = random.normal(size=(TOGETHER, 10)) * sigma[:, None]
        y[:, 0] /= np.sqrt(1 - phi**2)
        for i in range(1, 10):
            y[:, i] += phi * y[:, i - 1]
        return {"phi": phi, "sigma": sigma}, y

    return Calibrated(build, simulate, "the first value has the variance of the others")


def mixture():
    def build(data, wrong):
        def logp(y, share, mu):
            share, mu = share[:, None], mu[:, None]
            far = tf.math.log(share) + tf_normal(y, mu, np.float64(1))
            near = tf.math.log1p(-share) + tf_normal(y, np.float64(0), np.float64(1))
            both = tf.stack([near, far])
            return tf.reduce_max(both, 0) if wrong else tf.reduce_logsumexp(both, 0)

        params = {
            "share": pm.Beta("share", 2.0, 2.0, shape=TOGETHER),
            "mu": pm.Gamma("mu", 4.0, 2.0, shape=TOGETHER),
        }
        pm.TFDensity("y", logp, params, observed=data)

    def simulate(random):
        share, mu = random.beta(2.0, 2.0, TOGETHER), random.gamma(4.0, 1 / 2, TOGETHER)
        far = random.uniform(size=(TOGETHER, 20)) < share[:, None]
        return {"share": share, "mu": mu}, random.normal(mu[:, None] * far, 1.0)

    return Calibrated(build, simulate, "each point is of the likelier component only")


MODELS = {
    function.__name__: function
    for function in (line, hierarchy, composition, gaussian_process, autoregression, mixture)
}
QUANTITIES = 21  # of all models together


def ranks(name, wrong=False, replicates=REPLICATES):
    """Return the ranks of all parameters of a model: an array (replicate, parameter)."""
    calibrated, random = MODELS[name](), np.random.RandomState(sorted(MODELS).index(name))
    with pm.Model() as model:
        data = pm.Data("data", calibrated.simulate(np.random.RandomState(0))[1])
        calibrated.build(data, wrong)
    found = []
    for i in range(-(-replicates // TOGETHER)):
        parameters, data = calibrated.simulate(random)
        pm.set_data({"data": data}, model=model)
        posterior = pymc3_tf.sample(
            # Of ten draws one is kept, so that they are as good as independent.
            10 * KEPT,
            tune=500,
            chains=1,
            model=model,
            random_seed=i,
            target_accept=0.9,
            **QUIET,
            idata_kwargs={"log_likelihood": False},
        ).posterior
        below = [
            (posterior[key].values[0, ::10] < value).sum(axis=0).reshape(TOGETHER, -1)
            for key, value in parameters.items()
        ]
        found.append(np.concatenate(below, axis=1))
    return np.concatenate(found)[:replicates]


def largest(found):
    """Return the largest deviation of any parameter, in units of its band."""
    return max(deviation(column, KEPT + 1, OUTSIDE / QUANTITIES) for column in found.T)


def row_of(name, right, wrong):
    deviations = largest(right), largest(wrong)
    return [
        name.replace("_", " "),
        right.shape[1],
        len(right),
        round(deviations[0], 2),
        "yes" if deviations[0] <= 1 else "no",
        MODELS[name]().wrong,
        round(deviations[1], 2),
        "yes" if deviations[1] > 1 else "no",
    ]


def write(results, path):
    """Write the table of the results so far, from which the page of the documentation is made."""
    rows = [row_of(name, *pair) for name, pair in results.items()]
    inside, caught = (sum(row[i] == "yes" for row in rows) for i in (4, 7))
    evidence_file.keep(
        path.stem,
        title="Simulation-based calibration",
        text=f"For each of {len(rows)} models, parameters and data were drawn "
        f"{len(next(iter(results.values()))[0]):,} times, and the posterior was sampled with "
        "pymc3_tf.sample, fifty data sets at a time, in one compiled program. The ranks of the "
        "true parameters among the draws have to be uniform: their cumulative numbers within a "
        "band that holds all of them, in all models together, with a probability of 99 % "
        f"(Säilynoja, Bürkner and Vehtari 2022). {inside} of {len(rows)} models are inside. Of the "
        f"same models with an error, {caught} of {len(rows)} are found out.",
        command="PYTHONPATH=tests python tests/statistics/calibration.py",
        columns=[
            "model", "parameters", "replicates", "largest deviation / band", "inside",
            "the broken twin", "its largest deviation / band", "caught",
        ],
        rows=rows,
        picture=path.with_suffix(".png").name,
        folder=path.parent,
    )  # fmt: skip


def draw(results, path):
    """Draw the differences from uniform ranks, with their bands."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(6.4, 4.2), sharex=True, sharey=True)
    at = np.arange(1, KEPT + 1) / (KEPT + 1)
    for panel, (name, (right, wrong)) in zip(axes.flat, results.items()):
        number = len(right)
        limits = band(number, KEPT + 1, OUTSIDE / QUANTITIES)
        panel.fill_between(at, *(x / number - at for x in limits), color="0.85", lw=0)
        for found, style in ((wrong, dict(color="C1", lw=0.9)), (right, dict(color="C0", lw=1.2))):
            for column in found.T:
                panel.plot(at, differences(column, KEPT + 1) / len(found), **style)
        panel.set_title(name.replace("_", " "), fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes.flat[len(results) :]:
        panel.set_axis_off()
    axes[0, 0].set(ylim=(-0.15, 0.15), yticks=[-0.1, 0, 0.1], xticks=[0, 0.5, 1])
    figure.supxlabel("rank (blue: the model, orange: its broken twin)", fontsize=11)
    figure.supylabel("difference from uniform", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=160, facecolor="white")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--ranks", type=Path, help="folder of ranks, to go on from there")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.models:
        kept = arguments.ranks and arguments.ranks / f"{name}.npz"
        if kept and kept.exists():
            results[name] = list(np.load(kept).values())
        else:
            results[name] = [ranks(name, wrong, arguments.replicates) for wrong in (False, True)]
        if kept:
            np.savez(kept, *results[name])
        print(*row_of(name, *results[name]), flush=True)
        write(results, arguments.output)
        draw(results, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
