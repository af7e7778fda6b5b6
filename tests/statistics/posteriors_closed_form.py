"""Posteriors in closed form: conjugate models, and densities with the marginals of textbooks."""

import numpy as np
import pymc3 as pm
import tensorflow as tf
import tensorflow_probability as tfp
from contract.twins import dirichlet, gamma, mv_normal
from marginals import Posterior, exact, mixture, normals, of, on_grid
from normal_line import X, Y, line_posterior
from pymc3.distributions import transforms
from scipy import special, stats
from support import tf_normal

tfd = tfp.distributions


def line():
    mean, covariance = line_posterior()

    def build():
        beta = pm.Normal("beta", 0.0, 10.0, shape=2)
        pm.Deterministic("sum", beta[0] + beta[1])
        pm.TFDensity(
            "y",
            lambda y, beta: tf_normal(y, beta[0] + beta[1] * X, np.float64(0.5)),
            {"beta": beta},
            observed=Y,
        )

    at_one = of(stats.norm(mean.sum(), np.sqrt(covariance.sum())))
    expected = {"beta": normals(mean, covariance), "sum": [at_one]}
    return Posterior("regression", "closed form", build, expected)


def variance():
    y = np.random.RandomState(7).normal(1.0, 2.0, 12)
    n, a, b, k = len(y), 3.0, 4.0, 0.5
    mean, scale = n * y.mean() / (n + k), b + 0.5 * (n - 1) * y.var(ddof=1)
    scale += 0.5 * k * n * y.mean() ** 2 / (n + k)
    shape = a + n / 2

    def build():
        variance = pm.TFDensity(
            "variance", lambda v: -(a + 1) * tf.math.log(v) - b / v, transform=transforms.log
        )
        mu = pm.Normal("mu", 0.0, (variance / k) ** 0.5)
        pm.TFDensity(
            "y",
            lambda y, mu, v: tf_normal(y, mu, tf.sqrt(v)),
            {"mu": mu, "v": variance},
            observed=y,
        )

    mu = stats.t(2 * shape, mean, np.sqrt(scale / (shape * (n + k))))
    expected = {"mu": [of(mu)], "variance": [of(stats.invgamma(shape, scale=scale))]}
    return Posterior("mean and variance", "closed form", build, expected)


def proportions():
    tries, hits = np.array([5.0, 12.0, 30.0]), np.array([0.0, 9.0, 11.0])
    a, b = 1.0 + hits, 2.0 + tries - hits

    def build():
        pm.TFDensity(
            "p",
            lambda p: (a - 1) * tf.math.log(p) + (b - 1) * tf.math.log1p(-p),
            shape=3,
            transform=transforms.logodds,
        )

    expected = {"p": [of(stats.beta(*pair)) for pair in zip(a, b)]}
    return Posterior("constrained: an interval", "closed form", build, expected)


def rate():
    counts = np.array([3.0, 1.0, 0.0, 4.0, 2.0])

    def build():
        alpha, beta = np.float64(2.0), np.float64(0.5)
        params = {"alpha": alpha, "beta": beta}
        rate = pm.TFDensity("rate", gamma, params, transform=transforms.log, testval=2.0)
        pm.TFDensity("counts", lambda k, r: k * tf.math.log(r) - r, {"r": rate}, observed=counts)

    expected = {"rate": [of(stats.gamma(2.0 + counts.sum(), scale=1 / (0.5 + len(counts))))]}
    return Posterior("constrained: positive", "closed form", build, expected)


def shares():
    counts, a = np.array([7.0, 0.0, 3.0, 11.0]), np.array([1.0, 2.0, 0.7, 1.5])

    def build():
        share = pm.TFDensity(
            "share", dirichlet, {"a": a}, shape=4, transform=transforms.stick_breaking
        )
        pm.TFDensity(
            "counts",
            lambda k, share: tf.reduce_sum(k * tf.math.log(share)),
            {"share": share},
            observed=counts,
        )

    a_n = a + counts
    expected = {"share": [of(stats.beta(x, a_n.sum() - x)) for x in a_n]}
    return Posterior("simplex: Dirichlet", "closed form", build, expected)


def correlated():
    scales = np.array([0.1, 1.0, 10.0, 1.0, 3.0, 0.3])
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    mu, covariance = np.linspace(-1.0, 1.0, 6), 0.9**distance * np.outer(scales, scales)

    def build():
        pm.TFDensity("x", mv_normal, {"mu": mu, "cov": covariance}, shape=6)

    return Posterior("correlated", "closed form", build, {"x": normals(mu, covariance)})


def funnel():
    """Neal's, of which the log variance has a standard deviation of one."""

    def logp(z):
        below = tf.reduce_sum(tf_normal(z[1:], np.float64(0), tf.exp(z[0] / 2)))
        return below + tf_normal(z[0], np.float64(0), np.float64(1))

    def build():
        pm.TFDensity("z", logp, shape=4)

    v = np.linspace(-8.0, 8.0, 401)
    x = mixture(stats.norm.pdf(v), 0.0, np.exp(v / 2))
    expected = {"z": [of(stats.norm()), x, x, x]}
    return Posterior("funnel", "closed form", build, expected, {"target_accept": 0.95})


def banana():
    def logp(z):
        return -0.5 * z[0] ** 2 - 0.5 * ((z[1] - z[0] ** 2) / 0.5) ** 2

    x = np.linspace(-8.0, 8.0, 801)
    y = mixture(stats.norm.pdf(x), x**2, 0.5)
    return Posterior(
        "banana",
        "closed form",
        lambda: pm.TFDensity("z", logp, shape=2),
        {"z": [of(stats.norm()), y]},
        {"target_accept": 0.95},
    )


def cauchy():
    """Without moments: the angle under which a point is seen is uniform, and has them."""

    def build():
        x = pm.TFDensity("x", lambda x: -tf.math.log1p(((x - 1.0) / 2.0) ** 2), shape=2)
        pm.Deterministic("angle", pm.math.tt.arctan((x - 1.0) / 2.0))

    expected = {"angle": [of(stats.uniform(-np.pi / 2, np.pi))] * 2}
    return Posterior("heavy tails: Cauchy", "closed form", build, expected)


def student():
    nu, mu = 8.0, np.array([1.0, -2.0, 0.0])
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
    precision = np.linalg.inv(covariance)

    def logp(x):
        away = tf.reduce_sum((x - mu) * tf.linalg.matvec(precision, x - mu))
        return -0.5 * (nu + 3) * tf.math.log1p(away / nu)

    marginals = [of(stats.t(nu, m, s)) for m, s in zip(mu, np.sqrt(np.diag(covariance)))]
    return Posterior(
        "heavy tails: Student",
        "closed form",
        lambda: pm.TFDensity("x", logp, shape=3),
        {"x": marginals},
    )


def ordered():
    """Order statistics of four normals."""

    def build():
        start = np.array([-1.0, 0.0, 0.5, 1.0])
        pm.TFDensity(
            "x",
            lambda x: tf_normal(x, np.float64(0), np.float64(1)),
            shape=4,
            transform=transforms.ordered,
            testval=start,
        )

    grid = np.linspace(-7.0, 7.0, 2801)
    below, density = stats.norm.cdf(grid), stats.norm.pdf(grid)
    ranks = [(k, 5 - k) for k in range(1, 5)]
    expected = {"x": [on_grid(grid, stats.beta.pdf(below, *rank) * density) for rank in ranks]}
    return Posterior("ordered", "closed form", build, expected)


def correlations():
    """Each correlation of Lewandowski, Kurowicka and Joe's matrix is a beta variable, stretched."""
    size, eta = 4, np.float64(2)
    rows, columns = np.tril_indices(size, -1)

    def build():
        factor = pm.TFDensity("factor", distribution=tfd.CholeskyLKJ(size, eta))
        product = pm.math.dot(factor, factor.T)
        pm.Deterministic("correlation", product[rows, columns])

    a = eta - 1 + size / 2
    expected = {"correlation": [of(stats.beta(a, a, -1, 2))] * len(rows)}
    return Posterior("correlation matrix: LKJ", "closed form", build, expected)


def truncated():
    """Normals of which a bound or two are known."""

    def build():
        for name, transform in {
            "inside": transforms.interval(-1.0, 2.0),
            "above": transforms.lowerbound(0.5),
            "below": transforms.upperbound(0.0),
        }.items():
            start = {"inside": 0.5, "above": 1.0, "below": -1.0}[name]
            pm.TFDensity(name, lambda x: -0.5 * x**2, transform=transform, testval=start)

    bounds = {"inside": (-1.0, 2.0), "above": (0.5, np.inf), "below": (-np.inf, 0.0)}
    expected = {name: [of(stats.truncnorm(*pair))] for name, pair in bounds.items()}
    return Posterior("constrained: bounds", "closed form", build, expected)


def angle():
    mu, kappa = 0.5, 2.0

    def build():
        x = pm.TFDensity("x", lambda x: kappa * tf.cos(x - mu), transform=transforms.circular)
        pm.Deterministic("cos", pm.math.cos(x - mu))
        pm.Deterministic("sin", pm.math.sin(x - mu))

    bessel = [special.iv(k, kappa) / special.iv(0, kappa) for k in range(3)]
    squares = (1 + bessel[2]) / 2

    def cdf_of_cos(c):
        return 1 - 2 * (stats.vonmises.cdf(np.arccos(np.clip(c, -1, 1)), kappa) - 0.5)

    def cdf_of_sin(s):
        # Below the sine are two arcs, one of which ends where the circle is cut.
        return 0.5 + _arc(np.arcsin(np.clip(s, -1, 1)))

    def _arc(a):
        def within(x):
            return stats.vonmises.cdf(x, kappa) - 0.5

        return within(a) + np.sign(a) * (0.5 - within(np.pi - np.abs(a)))

    expected = {
        "cos": [exact(bessel[1], np.sqrt(squares - bessel[1] ** 2), cdf_of_cos)],
        "sin": [exact(0.0, np.sqrt(1 - squares), cdf_of_sin)],
    }
    return Posterior("circular: von Mises", "closed form", build, expected)


def local_level():
    """A random walk seen through noise: the smoother's means and variances, by linear algebra."""
    level, noise, length = 0.5, 1.0, 20
    random = np.random.RandomState(8)
    y = random.normal(0.0, level, length).cumsum() + random.normal(0.0, noise, length)

    def walk(x):
        steps = x - tf.concat([tf.zeros(1, x.dtype), x[:-1]], 0)
        return tf.reduce_sum(tf_normal(steps, np.float64(0), np.float64(level)))

    def build():
        x = pm.TFDensity("x", walk, shape=length)
        pm.TFDensity("y", lambda y, x: tf_normal(y, x, np.float64(noise)), {"x": x}, observed=y)

    difference = np.eye(length) - np.eye(length, k=-1)
    precision = difference.T @ difference / level**2 + np.eye(length) / noise**2
    covariance = np.linalg.inv(precision)
    expected = {"x": normals(covariance @ y / noise**2, covariance)}
    return Posterior("state space: smoother", "closed form", build, expected)


def missing():
    """A line through points of which three were not observed, and are drawn."""
    gone = [2, 9, 17]
    here = np.setdiff1d(np.arange(len(X)), gone)
    y = np.where(np.isin(np.arange(len(X)), gone), np.nan, Y)

    def build():
        beta = pm.Normal("beta", 0.0, 10.0, shape=2)
        pm.TFDensity(
            "y",
            lambda y, beta: tf_normal(y, beta[0] + beta[1] * X, np.float64(0.5)),
            {"beta": beta},
            observed=y,
        )

    mean, covariance = line_posterior(Y[here], X[here])
    design = np.stack([np.ones(3), X[gone]], axis=1)
    unseen = design @ covariance @ design.T + 0.25 * np.eye(3)
    expected = {
        "beta": normals(mean, covariance),
        "y_missing": normals(design @ mean, unseen),
    }
    return Posterior("missing data", "closed form", build, expected)


MODELS = {
    function.__name__: function
    for function in (
        line,
        variance,
        proportions,
        rate,
        shares,
        correlated,
        funnel,
        banana,
        cauchy,
        student,
        ordered,
        correlations,
        truncated,
        angle,
        local_level,
        missing,
    )
}
