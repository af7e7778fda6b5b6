"""What is known of one number of a posterior: its moments, their errors, and its distribution."""

from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
from scipy import stats


class Marginal(NamedTuple):
    """The moments of one number of a posterior, and how to test draws of it.

    ``p_value`` is that of independent draws, by Kolmogorov and Smirnov. The errors are those of the
    reference: zero if it is exact, NaN moments if there are none.
    """

    mean: float
    sd: float
    p_value: Callable[[np.ndarray], float]
    error_of_mean: float = 0.0
    error_of_sd: float = 0.0


class Posterior(NamedTuple):
    """A model, what is known of its posterior, and from where."""

    kind: str
    reference: str
    build: Callable[[], Any]  # declares the model on the stack
    expected: Dict[str, Sequence[Marginal]]  # of each variable, element by element
    options: Dict[str, Any] = {}  # of both samplers

    @property
    def quantities(self):
        """Number of numbers that are compared."""
        return sum(len(marginals) for marginals in self.expected.values())


def exact(mean, sd, cdf):
    """Return what is known without any error."""
    return Marginal(float(mean), float(sd), lambda draws: stats.kstest(draws, cdf).pvalue)


def of(distribution):
    """Return what SciPy knows of its distribution."""
    return exact(distribution.mean(), distribution.std(), distribution.cdf)


def normals(means, covariance) -> List[Marginal]:
    """Return the marginals of a multivariate normal."""
    return [of(stats.norm(m, s)) for m, s in zip(means, np.sqrt(np.diag(covariance)))]


def mixture(weights, means, sds):
    """Return a mixture of normals, such as a normal given what a quadrature runs over."""
    weights, means, sds = np.broadcast_arrays(weights / np.sum(weights), means, sds)
    mean = weights @ means
    sd = np.sqrt(weights @ (sds**2 + (means - mean) ** 2))
    return exact(
        mean, sd, lambda x: stats.norm.cdf((np.asarray(x)[:, None] - means) / sds) @ weights
    )


def on_grid(values, weights, cut=None):
    """Return a density on an equidistant grid, which may be cut off on one side."""
    weights = weights / weights.sum()
    ends = weights[{None: [0, -1], "left": [-1], "right": [0]}[cut]]
    assert ends.max() < 1e-5 * weights.max(), "the grid does not hold the density"
    mean = weights @ values
    edges = np.append(values[0], values + (values[1] - values[0])) - (values[1] - values[0]) / 2
    cumulated = np.append(0.0, np.cumsum(weights))
    sd = np.sqrt(weights @ (values - mean) ** 2)
    return exact(mean, sd, lambda x: np.interp(x, edges, cumulated))


def weights_on(log_density, *axes):
    """Evaluate a log density on the product of grids, and normalize it."""
    logs = log_density(*np.meshgrid(*axes, indexing="ij"))
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def on_grids(log_density, *ranges, points=200) -> List[Marginal]:
    """Return the marginals of a log density, by quadrature where it is within the ranges."""
    for _ in range(2):
        axes = [low + (high - low) * (np.arange(points) + 0.5) / points for low, high in ranges]
        weights, numbers = weights_on(log_density, *axes), range(len(axes))
        sums = [weights.sum(tuple(j for j in numbers if j != i)) for i in numbers]
        ranges = [_held(*pair) for pair in zip(axes, sums)]
    return [on_grid(*pair) for pair in zip(axes, sums)]


def _held(axis, weights):
    """Return the range that holds the density, to the edges of the cells."""
    (held,) = np.nonzero(weights > 1e-8 * weights.max())
    half = (axis[1] - axis[0]) / 2
    return axis[held[0]] - half, axis[held[-1]] + half


def of_draws(moments, quantiles=None, size=10_000):
    """Return what a long run has: moments and their errors, and hundredths of ``size`` draws.

    Without the hundredths there is no distribution to test.
    """

    def p_value(draws):
        if quantiles is None:
            return np.nan
        below = np.searchsorted(np.sort(draws), quantiles, side="right") / len(draws)
        # The distance at 99 points is at most that at all points, and its p-value at least theirs.
        largest = np.abs(below - np.arange(1, 100) / 100).max()
        return stats.kstwobign.sf(largest * np.sqrt(len(draws) * size / (len(draws) + size)))

    mean, sd, error_of_mean, error_of_sd = moments
    return Marginal(mean, sd, p_value, error_of_mean, error_of_sd)


def runge_kutta_step(change):
    """Return a step of Runge and Kutta for a differential equation that does not depend on time."""

    def step(x, dt):
        k_1 = change(x)
        k_2 = change(x + 0.5 * dt * k_1)
        k_3 = change(x + 0.5 * dt * k_2)
        k_4 = change(x + dt * k_3)
        return x + dt / 6.0 * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4)

    return step
