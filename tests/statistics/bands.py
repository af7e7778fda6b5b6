"""Simultaneous bands for the ranks of simulation-based calibration.

Säilynoja, Bürkner & Vehtari (2022), https://doi.org/10.1007/s11222-022-10090-6. The number of ranks
below each value is binomial. A band holds these numbers at all values at once: the probability with
which it holds each of them alone follows from the probability of all, by their recursion.
"""

import functools

import numpy as np
from scipy import optimize, stats


def limits(tail, replicates, values):
    """Return the binomial quantiles, with half of ``tail`` on each side, below each value."""
    below = np.arange(1, values) / values
    return (stats.binom.ppf(p, replicates, below) for p in (tail / 2, 1 - tail / 2))


def coverage(tail, replicates, values):
    """Probability that ranks of as many values, all equally likely, are within the limits."""
    counts, probability = np.zeros(1), np.ones(1)
    for i, (low, high) in enumerate(zip(*limits(tail, replicates, values))):
        after = np.arange(low, high + 1)
        step = stats.binom.pmf(
            after - counts[:, None], replicates - counts[:, None], 1 / (values - i)
        )
        counts, probability = after, probability @ step
    return probability.sum()


@functools.lru_cache(maxsize=None)
def band(replicates, values, outside):
    """Return the limits that hold all numbers, except with a probability of ``outside``."""

    def excess(log_tail):
        return coverage(np.exp(log_tail), replicates, values) - (1 - outside)

    # All of them together are outside at least as often as one, and at most as often as their sum.
    low, high = np.log(outside / (2 * values)), np.log(outside)
    tail = np.exp(optimize.brentq(excess, low, high, xtol=0.01))
    return tuple(limits(tail, replicates, values))


def differences(ranks, values):
    """Number of ranks below each value, less the number that is expected."""
    below = np.searchsorted(np.sort(ranks), np.arange(1, values), side="left")
    return below - len(ranks) * np.arange(1, values) / values


def deviation(ranks, values, outside):
    """Return the largest difference in units of the band: within it, up to one."""
    expected = len(ranks) * np.arange(1, values) / values
    low, high = (limit - expected for limit in band(len(ranks), values, outside))
    away = differences(ranks, values)
    return float(np.max(np.where(away < 0, away / low, away / high)))
