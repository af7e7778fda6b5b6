"""A row for each PyMC3 distribution: log density, kinds of arguments, and their shapes."""

import itertools
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np
import pymc3 as pm
import scipy.stats
import theano
import theano.tensor as tt
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pymc3.distributions.multivariate import _LKJCholeskyCov

# -- kinds of arguments -----------------------------------------------------------------------


class Kind(NamedTuple):
    """What an argument can be: arrays of numbers in a range, made into what is needed."""

    low: float
    high: float
    stray: Tuple[float, float]  # the range of an argument that may leave the support
    dtype: str = "float64"
    make: Callable[[np.ndarray], np.ndarray] = lambda array: array

    def arrays(self, shape, strays):
        low, high = self.stray if strays else (self.low, self.high)
        if self.dtype == "int64":
            elements = st.integers(low, high)
        else:
            # Zero, but nothing so near to it that squares and reciprocals overflow.
            elements = st.floats(low, high).map(lambda x: round(x, 6))
        return st_numpy.arrays(self.dtype, shape, elements=elements).map(self.make)


def _triangular(array):
    """Return a lower triangular matrix with the diagonal as it is, and smaller numbers below it."""
    return np.tril(array - 1.0, -1) + np.tril(np.triu(array))


def _ascending(array):
    """Return numbers from their differences, which are none of them nearly zero."""
    return np.cumsum(np.where(np.abs(array) < 0.05, 0.05, array), -1) - 2.0


real = Kind(-3.0, 3.0, (-30.0, 30.0))
positive = Kind(0.2, 6.0, (-1.0, 20.0))
above_zero = Kind(0.2, 6.0, (0.2, 20.0))  # for what PyMC3 does not check
near = Kind(0.5, 3.0, (-1.0, 6.0))
scale = Kind(0.5, 3.0, (-1.0, -0.1))
unit = Kind(0.02, 0.98, (-0.5, 1.5))
half = Kind(0.02, 0.49, (-0.2, 0.7))
angle = Kind(-3.1, 3.1, (-5.0, 5.0))
counts = Kind(0, 9, (-3, 30), "int64")
simplex = Kind(0.05, 1.0, (-0.2, 1.0), make=lambda x: x / (np.abs(x).sum(-1, keepdims=True) + 1e-9))
ascending = Kind(0.1, 2.0, (-0.5, 2.0), make=_ascending)
small = Kind(-0.3, 0.3, (-0.3, 0.3))
moderate = Kind(-1.0, 1.0, (-1.0, 1.0))
triangular = Kind(0.2, 2.0, (-0.5, 2.0), make=_triangular)


def integers(low, high):
    return Kind(low, high, (low - 3, high + 3), "int64")


def reals(low, high):
    width = high - low
    return Kind(low, high, (low - width, high + width))


# -- distributions ----------------------------------------------------------------------------

# Shapes of the value and of the parameters, one letter or digit for each dimension. Hypothesis
# chooses the length for a letter; shapes of digits only are compiled by XLA.
UNIVARIATE = [
    ("", [""]),
    ("mn", ["m1", "n", "", "mn"]),
    ("n", ["m1", "", "n"]),
]


class Row(NamedTuple):
    """A distribution: its log density, and the kinds of its value and of its parameters."""

    logp: Callable[..., Any]
    value: Kind
    params: Dict[str, Kind]
    # For each layout the shape of the value and those of the parameters.
    layouts: Sequence[Sequence[str]]


def density(logp, value, *layouts, **params):
    """Return the row of a log density, a function of the value and of named parameters."""
    if not layouts:
        number = len(params)
        layouts = [
            [first, *itertools.islice(itertools.cycle(rest), number)] for first, rest in UNIVARIATE
        ]
    return Row(logp, value, params, layouts)


def distribution(dist, value, *layouts, **params):
    """Return the row of a distribution, made by a function of named parameters."""
    return density(lambda value, **params: dist(**params).logp(value), value, *layouts, **params)


def covariance(factor, shift):
    """Return a matrix that is positive definite if the shift is positive, and exactly symmetric."""
    product = tt.dot(factor, factor.T)
    return (product + product.T) / 2 + shift * tt.eye(factor.shape[0])


def _interpolated():
    grid = np.linspace(-4, 4, 30)
    return pm.Interpolated.dist(grid, scipy.stats.norm.pdf(grid))


def _mixture(w, mu, nu):
    components = [pm.Normal.dist(mu, 1.0), pm.StudentT.dist(nu=nu, mu=1.0, lam=2.0)]
    return pm.Mixture.dist(w, components)


def _wishart_bartlett(value, diagonal):
    """Log density of the free variables: logarithms of the diagonal, and what is below it."""
    with theano.config.change_flags(compute_test_value="raise"), pm.Model() as model:
        pm.WishartBartlett("x", np.eye(3), 5, is_cholesky=True)
    return theano.clone(model.logpt, dict(zip(model.vars, [diagonal, value])))


DISTRIBUTIONS = {
    "Uniform": distribution(pm.Uniform.dist, reals(-1, 1), lower=reals(-3, -1), upper=reals(1, 3)),
    "Flat": distribution(pm.Flat.dist, real),
    "HalfFlat": distribution(pm.HalfFlat.dist, positive),
    "Normal": distribution(pm.Normal.dist, real, mu=real, sigma=positive),
    "Normal tau": distribution(pm.Normal.dist, real, mu=real, tau=positive),
    "TruncatedNormal": distribution(
        pm.TruncatedNormal.dist,
        reals(-1, 1),
        mu=real,
        sigma=positive,
        lower=reals(-3, -1),
        upper=reals(1, 3),
    ),
    "Beta": distribution(pm.Beta.dist, unit, alpha=positive, beta=positive),
    "Kumaraswamy": distribution(pm.Kumaraswamy.dist, unit, a=positive, b=positive),
    "Exponential": distribution(pm.Exponential.dist, positive, lam=positive),
    "Laplace": distribution(pm.Laplace.dist, real, mu=real, b=positive),
    "StudentT": distribution(pm.StudentT.dist, real, nu=positive, mu=real, sigma=positive),
    "Cauchy": distribution(pm.Cauchy.dist, real, alpha=real, beta=positive),
    "HalfCauchy": distribution(pm.HalfCauchy.dist, positive, beta=positive),
    "Gamma": distribution(pm.Gamma.dist, positive, alpha=positive, beta=positive),
    "Weibull": distribution(pm.Weibull.dist, positive, alpha=positive, beta=positive),
    "Bound": distribution(
        lambda mu, upper: pm.Bound(pm.Normal, lower=0.0, upper=upper).dist(mu=mu, sigma=1.0),
        reals(0, 4),
        mu=real,
        upper=reals(4, 6),
    ),
    "Bound discrete": distribution(
        lambda mu: pm.Bound(pm.Poisson, lower=1).dist(mu=mu), integers(1, 9), mu=positive
    ),
    "Lognormal": distribution(pm.Lognormal.dist, positive, mu=real, sigma=positive),
    "HalfStudentT": distribution(pm.HalfStudentT.dist, positive, nu=positive, sigma=positive),
    "ChiSquared": distribution(pm.ChiSquared.dist, positive, nu=positive),
    "HalfNormal": distribution(pm.HalfNormal.dist, positive, sigma=positive),
    "Wald": distribution(pm.Wald.dist, reals(1, 4), mu=positive, lam=positive, alpha=reals(0, 0.9)),
    "Pareto": distribution(pm.Pareto.dist, reals(2, 6), alpha=positive, m=reals(0.2, 1.9)),
    "InverseGamma": distribution(pm.InverseGamma.dist, positive, alpha=positive, beta=positive),
    "ExGaussian": distribution(pm.ExGaussian.dist, real, mu=real, sigma=positive, nu=positive),
    "VonMises": distribution(pm.VonMises.dist, angle, mu=angle, kappa=positive),
    "Binomial": distribution(pm.Binomial.dist, counts, n=integers(9, 15), p=unit),
    "BetaBinomial": distribution(
        pm.BetaBinomial.dist, counts, alpha=positive, beta=positive, n=integers(9, 15)
    ),
    "Bernoulli": distribution(pm.Bernoulli.dist, integers(0, 1), p=unit),
    "Bernoulli logit": distribution(pm.Bernoulli.dist, integers(0, 1), logit_p=real),
    "Poisson": distribution(pm.Poisson.dist, counts, mu=positive),
    "NegativeBinomial": distribution(pm.NegativeBinomial.dist, counts, mu=positive, alpha=positive),
    "ConstantDist": distribution(pm.ConstantDist.dist, integers(4, 4), c=integers(4, 4)),
    "Constant": distribution(pm.Constant.dist, integers(4, 4), c=integers(4, 4)),
    "ZeroInflatedPoisson": distribution(
        pm.ZeroInflatedPoisson.dist, counts, psi=unit, theta=positive
    ),
    "ZeroInflatedNegativeBinomial": distribution(
        pm.ZeroInflatedNegativeBinomial.dist, counts, psi=unit, mu=positive, alpha=positive
    ),
    "ZeroInflatedBinomial": distribution(
        pm.ZeroInflatedBinomial.dist, counts, psi=unit, n=integers(9, 15), p=unit
    ),
    "DiscreteUniform": distribution(
        pm.DiscreteUniform.dist, counts, lower=integers(-3, 0), upper=integers(9, 15)
    ),
    "Geometric": distribution(pm.Geometric.dist, integers(1, 9), p=unit),
    "HyperGeometric": distribution(
        pm.HyperGeometric.dist,
        integers(0, 5),
        N=integers(20, 30),
        k=integers(5, 9),
        n=integers(5, 9),
    ),
    "Categorical": distribution(
        pm.Categorical.dist, integers(0, 2), ("", "3"), ("n", "3"), ("n", "n3"), p=simplex
    ),
    # Far from the cutpoints the probabilities are differences of two numbers that round to one.
    "OrderedLogistic": distribution(
        pm.OrderedLogistic.dist,
        integers(0, 3),
        ("", "", "3"),
        ("n", "", "3"),
        ("n", "n", "3"),
        eta=reals(-1, 1),
        cutpoints=ascending,
    ),
    "OrderedProbit": distribution(
        pm.OrderedProbit.dist,
        integers(0, 3),
        ("", "", "3"),
        ("n", "", "3"),
        ("n", "n", "3"),
        eta=reals(-1, 1),
        cutpoints=ascending,
    ),
    "DensityDist": distribution(
        lambda mu: pm.DensityDist.dist(lambda x: -(tt.abs_(x - mu) ** 1.5) - tt.log1p(tt.sqr(x))),
        real,
        mu=real,
    ),
    "MvNormal": distribution(
        lambda mu, factor, shift: pm.MvNormal.dist(mu, cov=covariance(factor, shift)),
        real,
        ("3", "3", "33", ""),
        ("k", "k", "kk", ""),
        ("nk", "k", "kk", ""),
        ("nk", "nk", "kk", ""),
        mu=real,
        factor=reals(-1, 1),
        shift=positive,
    ),
    "MvNormal tau": distribution(
        lambda mu, factor, shift: pm.MvNormal.dist(mu, tau=covariance(factor, shift)),
        real,
        ("3", "3", "33", ""),
        ("nk", "k", "kk", ""),
        mu=real,
        factor=reals(-1, 1),
        shift=positive,
    ),
    "MvNormal chol": distribution(
        pm.MvNormal.dist, real, ("3", "3", "33"), ("nk", "k", "kk"), mu=real, chol=triangular
    ),
    "MatrixNormal": distribution(
        lambda mu, rowchol, factor, shift: pm.MatrixNormal.dist(
            mu, rowchol=rowchol, colcov=covariance(factor, shift), shape=(3, 2)
        ),
        real,
        ("32", "32", "33", "22", ""),
        ("nk", "nk", "nn", "kk", ""),
        mu=real,
        rowchol=triangular._replace(stray=(0.2, 2.0)),
        factor=reals(-1, 1),
        shift=above_zero,
    ),
    # Eigenvalues that are apart: eigenvectors of nearly equal ones are ill-conditioned. And not
    # compiled by XLA, whose eigenvectors have six digits.
    "KroneckerNormal": distribution(
        lambda mu, first, second, sigma: pm.KroneckerNormal.dist(
            mu,
            covs=[
                covariance(x, 0.0) + tt.diag(1 + 2 * tt.arange(x.shape[0])) for x in (first, second)
            ],
            sigma=sigma,
        ),
        real,
        ("n6", "6", "22", "33", ""),
        mu=real,
        first=small,
        second=small,
        sigma=positive,
    ),
    "KroneckerNormal chols": distribution(
        lambda mu, first, second: pm.KroneckerNormal.dist(mu, chols=[first, second]),
        real,
        ("6", "6", "22", "33"),
        ("n6", "6", "22", "33"),
        mu=real,
        first=triangular._replace(stray=(0.2, 2.0)),
        second=triangular._replace(stray=(0.2, 2.0)),
    ),
    "MvStudentT": distribution(
        lambda nu, mu, factor, shift: pm.MvStudentT.dist(
            nu, Sigma=covariance(factor, shift), mu=mu
        ),
        real,
        ("3", "", "3", "33", ""),
        ("nk", "", "k", "kk", ""),
        nu=above_zero,
        mu=real,
        factor=reals(-1, 1),
        shift=positive,
    ),
    "Dirichlet": distribution(
        lambda a: pm.Dirichlet.dist(a, shape=(3,)),
        simplex,
        ("3", "3"),
        ("n3", "3"),
        ("n3", "n3"),
        a=positive,
    ),
    "Multinomial": density(
        lambda value, p, more: pm.Multinomial.dist(
            n=value.sum(-1) + more, p=p, shape=(1,) * value.ndim
        ).logp(value),
        counts,
        ("4", "4", ""),
        ("n4", "4", "n"),
        ("n4", "n4", ""),
        p=simplex,
        more=integers(0, 0),
    ),
    "DirichletMultinomial": density(
        lambda value, a, more: pm.DirichletMultinomial.dist(
            n=value.sum(-1) + more, a=a, shape=(1,) * value.ndim
        ).logp(value),
        counts,
        ("4", "4", ""),
        ("n4", "4", "n"),
        ("n4", "n4", ""),
        a=positive,
        more=integers(0, 0),
    ),
    "Wishart": density(
        lambda value, shift, nu, factor: pm.Wishart.dist(nu, covariance(factor, 1.0)).logp(
            covariance(value, shift)
        ),
        reals(-1, 1),
        ("33", "", "", "33"),
        ("kk", "", "", "kk"),
        shift=positive._replace(stray=(-20.0, -17.0)),  # Theano cannot invert a singular matrix
        nu=reals(4, 9),
        factor=reals(-1, 1),
    ),
    "WishartBartlett": density(_wishart_bartlett, real, ("3", "3"), diagonal=real),
    "LKJCholeskyCov": distribution(
        lambda eta, beta: _LKJCholeskyCov.dist(eta, 3, pm.HalfCauchy.dist(beta)),
        positive,
        ("6", "", ""),
        ("6", "", "3"),
        eta=positive,
        beta=positive,
    ),
    "LKJCorr": distribution(
        lambda eta: pm.LKJCorr.dist(eta, 3),
        Kind(-0.45, 0.45, (-1.2, 1.2)),
        ("3", ""),
        eta=positive,
    ),
    "AR1": distribution(pm.AR1.dist, real, ("6", "", ""), ("t", "", ""), k=unit, tau_e=positive),
    "AR": distribution(
        lambda first, second, sigma: pm.AR.dist([first, second], sigma=sigma),
        real,
        ("6", "", "", ""),
        ("6n", "n", "n", ""),
        first=real,
        second=real,
        sigma=positive,
    ),
    "AR constant": distribution(
        lambda first, second, tau: pm.AR.dist([first, second], tau=tau, constant=True),
        real,
        ("6", "", "", ""),
        first=real,
        second=real,
        tau=positive,
    ),
    "AsymmetricLaplace": distribution(
        pm.AsymmetricLaplace.dist, real, b=positive, kappa=positive, mu=real
    ),
    "GaussianRandomWalk": distribution(
        pm.GaussianRandomWalk.dist,
        real,
        ("6", "", ""),
        ("t", "t", ""),
        ("tk", "", ""),
        mu=real,
        sigma=positive,
    ),
    "MvGaussianRandomWalk": distribution(
        pm.MvGaussianRandomWalk.dist,
        real,
        ("43", "3", "33"),
        ("tk", "k", "kk"),
        mu=real,
        chol=triangular,
    ),
    "MvStudentTRandomWalk": distribution(
        pm.MvStudentTRandomWalk.dist,
        real,
        ("43", "", "3", "33"),
        ("tk", "", "k", "kk"),
        nu=above_zero,
        mu=real,
        chol=triangular,
    ),
    "EulerMaruyama": distribution(
        lambda k, s: pm.distributions.timeseries.EulerMaruyama.dist(
            0.1, lambda x, k, s: (-k * x, s), [k, s]
        ),
        real,
        ("6", "", ""),
        ("t", "", ""),
        k=positive,
        s=positive,
    ),
    "GARCH11": distribution(
        pm.GARCH11.dist,
        real,
        ("6", "", "", "", ""),
        ("t", "", "", "", ""),
        omega=positive,
        alpha_1=half,
        beta_1=half,
        initial_vol=positive,
    ),
    # In its tail, the logarithm of 1 + erf is that of a difference of two numbers close to one.
    "SkewNormal": distribution(
        pm.SkewNormal.dist, moderate, mu=moderate, sigma=scale, alpha=moderate
    ),
    "Mixture": distribution(
        _mixture,
        real,
        ("", "2", "", ""),
        ("n", "2", "", ""),
        ("n", "n2", "", ""),
        w=simplex,
        mu=real,
        nu=positive,
    ),
    "NormalMixture": distribution(
        pm.NormalMixture.dist,
        real,
        ("", "3", "3", "3"),
        ("n", "3", "3", ""),
        ("n", "n3", "3", "3"),
        w=simplex,
        mu=real,
        sigma=positive,
    ),
    "MixtureSameFamily": distribution(
        lambda w, mu: pm.MixtureSameFamily.dist(w, pm.Normal.dist(mu, 1.0, shape=(6, 2)), shape=6),
        real,
        ("6", "2", "62"),
        ("6", "62", "62"),
        w=simplex,
        mu=real,
    ),
    "Triangular": distribution(
        pm.Triangular.dist,
        reals(-0.9, 0.9),
        lower=reals(-3, -1),
        c=reals(-0.9, 0.9),
        upper=reals(1, 3),
    ),
    "DiscreteWeibull": distribution(pm.DiscreteWeibull.dist, counts, q=unit, beta=reals(0.3, 1.2)),
    "Gumbel": distribution(pm.Gumbel.dist, real, mu=real, beta=positive),
    "Logistic": distribution(pm.Logistic.dist, real, mu=real, s=positive),
    "LogitNormal": distribution(pm.LogitNormal.dist, unit, mu=real, sigma=positive),
    "Interpolated": distribution(_interpolated, real),
    # Under XLA numbers below 1e-307 are zero, and here they have a logarithm.
    "Rice": distribution(pm.Rice.dist, near, nu=near, sigma=scale),
    "Moyal": distribution(pm.Moyal.dist, real, mu=real, sigma=positive),
}

# Base classes, and two that have no log density in PyMC3 either: they have samplers of their own.
WITHOUT_LOG_DENSITY = {
    *("Distribution", "Continuous", "Discrete", "NoDistribution", "TensorType"),
    *("Simulator", "BART", "fast_sample_posterior_predictive"),
}
