"""The data of the models that the benchmarks fit. Needs nothing but NumPy."""

from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

TRUTH = np.array([0.5, -2.3, -0.23])  # m, b and logs of the line


def line_data(n):
    """Return x and y of ``n`` points; for 50, those of the 2018 post."""
    np.random.seed(42)
    x = np.random.uniform(0, 10, n)
    y = x * TRUTH[0] + TRUTH[1]
    return x, y + np.exp(TRUTH[2]) * np.random.randn(n)


def schools():
    """Return effects of coaching in eight schools, and their standard errors (Rubin 1981)."""
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    return effects, np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def correlated(size=20):
    """Return the covariance of a normal: neighbours correlate by 0.8, scales from 0.3 to 3."""
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    scales = np.geomspace(0.3, 3, size)
    return scales[:, None] * 0.8**distance * scales


def logistic(n=10_000, size=25):
    """Return predictors, shape (n, size), and outcomes, zeros and ones."""
    rng = np.random.RandomState(42)
    x, coefficients = rng.normal(size=(n, size)), rng.normal(scale=0.5, size=size)
    return x, (rng.uniform(size=n) < 1 / (1 + np.exp(-x @ coefficients))).astype(float)


def factors(n=1000, size=250, common=5):
    """Return predictors that share a few factors, shape (n, size), and outcomes."""
    rng = np.random.RandomState(42)
    shared = rng.normal(size=(n, common)) @ rng.normal(size=(common, size))
    x = shared + rng.normal(size=(n, size))
    return x, x @ rng.normal(scale=0.3, size=size) + rng.normal(size=n)


def counts(n=100):
    """Return times and counts whose rate varies smoothly in time."""
    times = np.linspace(0, 10, n)
    rate = np.exp(1 + np.sin(times) - 0.1 * times)
    return times, np.random.RandomState(42).poisson(rate).astype(float)


def outliers():
    """Return x, y and sigma_y of a line with outliers (Hogg, Bovy & Lang 2010, Table 1)."""
    table = np.genfromtxt(EXAMPLES / "hogg2010_table1.csv", delimiter=",", names=True)
    return table["x"], table["y"], table["sigma_y"]
