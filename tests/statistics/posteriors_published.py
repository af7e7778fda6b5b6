"""Posteriors with published references: Stan's draws in posteriordb, of its models written again.

And one with a long run of plain PyMC3, which this module makes if it is run as a script, with
``PYTHONPATH=tests``.
"""

import json
from pathlib import Path

import pymc3_tf  # isort: skip  # before pymc3, for the sake of Python 3.11
import numpy as np
import pymc3 as pm
import tensorflow as tf
import tensorflow_probability as tfp
from marginals import Posterior, of_draws, runge_kutta_step
from pymc3.distributions import transforms
from support import moments, tf_normal

tfd = tfp.distributions
HERE = Path(__file__).parent
TABLE = json.loads((HERE / "posteriordb.json").read_text("utf-8"))
LONG_RUN = HERE / "stochastic_volatility.json"


def published(kind, posterior, build, names, **options):
    """Return a model with the marginals of the given variables, by their names in Stan."""
    known = TABLE["posteriors"][posterior]
    expected = {
        variable: [
            of_draws(*(np.array(known[key][what]) for what in ("moments", "quantiles")))
            for key in keys
        ]
        for variable, keys in names.items()
    }
    return Posterior(kind, "posteriordb (Stan)", build, expected, options)


def numbered(name, number):
    return [f"{name}[{i + 1}]" for i in range(number)]


def data(name):
    known = TABLE["data"][name]
    return {key: np.array(value, float) for key, value in known.items()}


def eight_schools():
    given = data("eight_schools")

    def build():
        mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
        theta = pm.Deterministic("theta", mu + tau * pm.Normal("z", 0.0, 1.0, shape=8))
        pm.TFDensity("y", tf_normal, {"mu": theta, "sigma": given["sigma"]}, observed=given["y"])

    names = {"theta": numbered("theta", 8), "mu": ["mu"], "tau": ["tau"]}
    name = "eight_schools-eight_schools_noncentered"
    return published("hierarchical: eight schools", name, build, names, target_accept=0.95)


def lynx_and_hare():
    given, per_year = data("hudson_lynx_hare"), 5
    pelts = np.concatenate([given["y_init"][None], given["y"]])

    def density(pelts, theta, z_init, sigma):
        def change(z):
            return tf.stack(
                [(theta[0] - theta[1] * z[1]) * z[0], (theta[3] * z[0] - theta[2]) * z[1]]
            )

        steps = np.full((pelts.shape[0] - 1) * per_year, 1.0 / per_year)
        path = tf.concat(
            [z_init[None], tf.scan(runge_kutta_step(change), steps, initializer=z_init)], axis=0
        )
        return tf_normal(tf.math.log(pelts), tf.math.log(path[::per_year]), sigma)

    def build():
        positive = pm.Bound(pm.Normal, lower=0.0)
        mean = np.array([1.0, 0.05, 1.0, 0.05])
        theta = positive("theta", mean, mean * [0.5, 1, 0.5, 1], shape=4, testval=mean)
        params = {
            "theta": theta,
            "z_init": pm.Lognormal("z_init", np.log(10.0), 1.0, shape=2),
            "sigma": pm.Lognormal("sigma", -1.0, 1.0, shape=2),
        }
        pm.TFDensity("pelts", density, params, observed=pelts, jit_compile=True)

    names = {key: numbered(key, size) for key, size in dict(theta=4, z_init=2, sigma=2).items()}
    # Chains that start anywhere can stay where the numbers hardly change: the log density is 40
    # lower there, but it is a mode. So they start at a period and an equilibrium as recorded.
    rate, (hares, lynxes) = 2 * np.pi / 10, pelts.mean(axis=0)
    theta = np.array([rate, rate / lynxes, rate, rate / hares])
    start = {"theta": theta, "z_init": pelts[0], "sigma": np.full(2, 0.4)}
    name = "hudson_lynx_hare-lotka_volterra"
    return published("differential equation: lynx and hare", name, build, names, start=start)


def covariance(x, rho, alpha):
    distance = np.subtract.outer(x, x) ** 2
    return alpha**2 * tf.exp(-0.5 * distance / rho**2)


def gaussian_process():
    given = data("gp_pois_regr")

    def density(y, rho, alpha, sigma):
        matrix = covariance(given["x"], rho, alpha) + sigma * np.eye(len(given["x"]))
        return tfd.MultivariateNormalTriL(scale_tril=tf.linalg.cholesky(matrix)).log_prob(y)

    def build():
        params = {
            "rho": pm.Gamma("rho", 25.0, 4.0),
            "alpha": pm.HalfNormal("alpha", 2.0),
            "sigma": pm.HalfNormal("sigma", 1.0),
        }
        pm.TFDensity("y", density, params, observed=given["y"])

    names = {key: [key] for key in ("rho", "alpha", "sigma")}
    return published("Gaussian process", "gp_pois_regr-gp_regr", build, names)


def latent_process():
    given = data("gp_pois_regr")

    def latent(rho, alpha, z):
        matrix = covariance(given["x"], rho, alpha) + 1e-10 * np.eye(len(given["x"]))
        return tf.linalg.matvec(tf.linalg.cholesky(matrix), z)

    def build():
        rho, alpha = pm.Gamma("rho", 25.0, 4.0), pm.HalfNormal("alpha", 2.0)
        z = pm.Normal("z", 0.0, 1.0, shape=len(given["x"]))
        shapes = [[], [], given["x"].shape]
        op = pymc3_tf.TensorFlowOp(latent, [tf.TensorSpec(s, tf.float64) for s in shapes])
        f = pm.Deterministic("f", op(rho, alpha, z))
        pm.TFDensity("k", lambda k, f: k * f - tf.exp(f), {"f": f}, observed=given["k"])

    names = {"rho": ["rho"], "alpha": ["alpha"], "f": numbered("f", 11)}
    name = "gp_pois_regr-gp_pois_regr"
    # Where rho is large, the matrix cannot be factorized: chains meet a wall there.
    return published("Gaussian process: counts", name, build, names, target_accept=0.95)


def hidden_markov():
    given = data("hmm_example")

    def density(y, mu, theta1, theta2):
        """Sum over all sequences of states by the forward algorithm."""
        transition = tf.math.log(tf.stack([theta1, theta2]))
        seen = tf_normal(y[:, None], mu, np.float64(1))

        def step(states, seen):
            return tf.reduce_logsumexp(states[:, None] + transition, axis=0) + seen

        return tf.reduce_logsumexp(tf.scan(step, seen[1:], initializer=seen[0])[-1])

    def build():
        center = np.array([3.0, 10.0])
        params = {
            "mu": pm.Normal(
                "mu", center, 1.0, shape=2, transform=transforms.ordered, testval=center
            ),
            "theta1": pm.Dirichlet("theta1", np.ones(2)),
            "theta2": pm.Dirichlet("theta2", np.ones(2)),
        }
        pm.TFDensity("y", density, params, observed=given["y"], jit_compile=True)

    names = {key: numbered(key, 2) for key in ("theta1", "theta2", "mu")}
    return published("state space: hidden Markov", "hmm_example-hmm_example", build, names)


def autoregression():
    given = data("arK")
    y, order = given["y"], int(given["K"])
    past = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], axis=1)

    def build():
        params = {
            "alpha": pm.Normal("alpha", 0.0, 10.0),
            "beta": pm.Normal("beta", 0.0, 10.0, shape=order),
            "sigma": pm.HalfCauchy("sigma", 2.5),
        }
        pm.TFDensity(
            "y",
            lambda y, alpha, beta, sigma: tf_normal(y, alpha + tf.linalg.matvec(past, beta), sigma),
            params,
            observed=y[order:],
        )

    names = {"alpha": ["alpha"], "beta": numbered("beta", 5), "sigma": ["sigma"]}
    return published("time series: autoregression", "arK-arK", build, names)


def garch():
    given = data("garch")

    def density(y, mu, alpha0, share):
        shocks = alpha0 + share[0] * (y[:-1] - mu) ** 2
        first = tf.constant(given["sigma1"] ** 2, tf.float64)
        later = tf.scan(lambda v, shock: shock + share[1] * v, shocks, initializer=first)
        return tf_normal(y, mu, tf.sqrt(tf.concat([first[None], later], 0)))

    def build():
        # Flat where alpha1 and beta1 are positive with a sum below one: two thirds of a simplex.
        share = pm.Dirichlet("share", np.ones(3))
        alpha0 = pm.HalfFlat("alpha0", testval=1.0)
        params = {"mu": pm.Flat("mu", testval=5.0), "alpha0": alpha0, "share": share}
        pm.Deterministic("alpha1", share[0])
        pm.Deterministic("beta1", share[1])
        pm.TFDensity("y", density, params, observed=given["y"], jit_compile=True)

    names = {key: [key] for key in ("mu", "alpha0", "alpha1", "beta1")}
    return published("time series: GARCH", "garch-garch11", build, names)


VOLATILE = np.random.RandomState(9).normal(size=30) * np.exp(np.sin(np.arange(30) / 5))


def stochastic_volatility(plain=False):
    """Build the model, with built-in distributions only if ``plain``."""

    def build():
        scale = pm.Exponential("scale", 5.0)
        log_sd = pm.Deterministic("log_sd", scale * pm.Normal("z", 0.0, 1.0, shape=30).cumsum())
        if plain:
            pm.StudentT("y", 4.0, 0.0, sigma=pm.math.exp(log_sd), observed=VOLATILE)
        else:
            pm.TFDensity("y", student, {"log_sd": log_sd}, observed=VOLATILE)

    def student(y, log_sd):
        return tfd.StudentT(np.float64(4), np.float64(0), tf.exp(log_sd)).log_prob(y)

    table = json.loads(LONG_RUN.read_text("utf-8")) if LONG_RUN.exists() else {}
    expected = {
        name: [of_draws(row) for row in rows] for name, rows in table.get("moments", {}).items()
    }
    kind, reference = "stochastic volatility", "long run of plain PyMC3"
    return Posterior(kind, reference, build, expected, {"target_accept": 0.9})


MODELS = {
    function.__name__: function
    for function in (
        eight_schools,
        lynx_and_hare,
        gaussian_process,
        latent_process,
        hidden_markov,
        autoregression,
        garch,
        stochastic_volatility,
    )
}


def long_run(draws=5000):
    """Sample stochastic volatility with plain PyMC3, and write its moments and their errors."""
    with pm.Model():
        stochastic_volatility(plain=True).build()
        idata = pm.sample(
            draws, tune=2000, chains=4, target_accept=0.95, random_seed=10,
            return_inferencedata=True, idata_kwargs={"log_likelihood": False},
        )  # fmt: skip
    rows = {
        name: np.stack([np.ravel(x) for x in moments(idata.posterior[name])], axis=1)
        for name in ("scale", "log_sd")
    }
    table = {
        "made by": f"PyMC3 {pm.__version__}, pm.sample, 4 chains of {draws} draws",
        "columns": ["mean", "standard deviation", "their Monte Carlo standard errors"],
        "moments": {
            name: [[float(f"{x:.7g}") for x in row] for row in array]
            for name, array in rows.items()
        },
    }
    LONG_RUN.write_text(json.dumps(table).replace("], [", "],\n[") + "\n", "utf-8")


if __name__ == "__main__":
    long_run()
