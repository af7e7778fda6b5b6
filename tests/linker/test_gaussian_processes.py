"""The linker: PyMC3's Gaussian processes."""

import numpy as np
import pymc3 as pm
import pytest
import theano.tensor as tt
from comparisons import COUNTS, X, Y, assert_same_log_density, positive, real

COVARIANCES = {
    "Constant": lambda: pm.gp.cov.Constant(positive("c")),
    "WhiteNoise": lambda: pm.gp.cov.WhiteNoise(positive("s")),
    "Circular": lambda: pm.gp.cov.Circular(1, period=positive("p") + 3, tau=4 + positive("t")),
    "Periodic": lambda: pm.gp.cov.Periodic(1, period=positive("p"), ls=positive("l")),
    "ExpQuad": lambda: pm.gp.cov.ExpQuad(1, ls=positive("l")),
    "RatQuad": lambda: pm.gp.cov.RatQuad(1, ls=positive("l"), alpha=positive("a")),
    "Matern52": lambda: pm.gp.cov.Matern52(1, ls=positive("l")),
    "Matern32": lambda: pm.gp.cov.Matern32(1, ls=positive("l")),
    "Matern12": lambda: pm.gp.cov.Matern12(1, ls=positive("l")),
    "Exponential": lambda: pm.gp.cov.Exponential(1, ls=positive("l")),
    "Cosine": lambda: pm.gp.cov.Cosine(1, ls=positive("l")),
    "Linear": lambda: pm.gp.cov.Linear(1, c=real("c")),
    "Polynomial": lambda: pm.gp.cov.Polynomial(1, c=real("c"), d=2, offset=positive("o")),
    "WarpedInput": lambda: pm.gp.cov.WarpedInput(
        1, pm.gp.cov.Matern52(1, ls=positive("l")), lambda x, a: x + a * tt.tanh(x), (real("a"),)
    ),
    "Gibbs": lambda: pm.gp.cov.Gibbs(1, lambda x, a: a + tt.sqr(x), (positive("a"),)),
    "ScaledCov": lambda: pm.gp.cov.ScaledCov(
        1, pm.gp.cov.ExpQuad(1, ls=1.0), lambda x, a: a + x, (positive("a"),)
    ),
    "Coregion": lambda: (
        pm.gp.cov.ExpQuad(1, ls=1.0)
        * pm.gp.cov.Coregion(
            1, active_dims=[0], W=pm.Normal("W", shape=(3, 2)), kappa=positive("k", 3)
        )
    ),
    "Add": lambda: pm.gp.cov.ExpQuad(1, ls=1.0) + positive("s") * pm.gp.cov.Linear(1, c=0.0),
    "Prod": lambda: pm.gp.cov.ExpQuad(1, ls=positive("l")) * pm.gp.cov.Cosine(1, ls=2.0),
    "Exponentiated": lambda: pm.gp.cov.ExpQuad(1, ls=positive("l")) ** 1.5,
    "Kron": lambda: pm.gp.cov.Kron([pm.gp.cov.ExpQuad(1, ls=positive("l"))] * 2),
}


def test_every_covariance_function_is_in_the_table():
    classes = {
        name
        for name, c in vars(pm.gp.cov).items()
        if isinstance(c, type) and issubclass(c, pm.gp.cov.Covariance)
    }
    assert classes - {"Covariance", "Combination", "Stationary"} == set(COVARIANCES)


@pytest.mark.parametrize("name", COVARIANCES)
def test_gaussian_processes_have_the_same_density(name):
    with pm.Model() as model:
        x = np.array([[0.0], [1.0], [2.0], [0.5], [1.5], [2.5]])
        x = np.hstack([x, x[::-1]]) if name == "Kron" else x
        x = np.floor(x) if name == "Coregion" else x
        gp = pm.gp.Marginal(cov_func=COVARIANCES[name]())
        gp.marginal_likelihood("y", X=x, y=Y, noise=0.5 + positive("noise"))
    assert_same_log_density(model, name, rtol=1e-9)


def _latent():
    gp = pm.gp.Latent(pm.gp.mean.Linear(real("slope")), pm.gp.cov.Matern52(1, ls=positive("l")))
    pm.Poisson("n", tt.exp(gp.prior("f", X[:, :1])), observed=COUNTS)


def _latent_without_reparameterization():
    gp = pm.gp.Latent(cov_func=pm.gp.cov.Exponential(1, ls=positive("l")))
    f = gp.prior("f", X[:, :1], reparameterize=False)
    gp.conditional("g", X[:2, :1] + 0.5)
    pm.Normal("y", f, 1.0, observed=Y)


def _student_process():
    gp = pm.gp.TP(cov_func=pm.gp.cov.Exponential(1, ls=positive("l")), nu=positive("nu") + 2)
    pm.Normal("y", gp.prior("f", X[:, :1]), 1.0, observed=Y)


def _sparse(approx):
    gp = pm.gp.MarginalSparse(cov_func=pm.gp.cov.ExpQuad(1, ls=positive("l")), approx=approx)
    gp.marginal_likelihood("y", X=X[:, :1], Xu=np.array([[0.0], [1.0]]), y=Y, noise=positive("s"))


def _latent_kron():
    gp = pm.gp.LatentKron(cov_funcs=[pm.gp.cov.Exponential(1, ls=positive("l"))] * 2)
    f = gp.prior("f", [X[:2, :1], X[:3, 1:]])
    pm.Normal("y", f, 1.0, observed=Y)


def _marginal_kron():
    gp = pm.gp.MarginalKron(cov_funcs=[pm.gp.cov.Exponential(1, ls=positive("l"))] * 2)
    gp.marginal_likelihood("y", [X[:2, :1], X[:3, 1:]], Y, sigma=positive("s"))


PROCESSES = {
    "latent": _latent,
    "latent_without_reparameterization": _latent_without_reparameterization,
    "student": _student_process,
    "fitc": lambda: _sparse("FITC"),
    "vfe": lambda: _sparse("VFE"),
    "dtc": lambda: _sparse("DTC"),
    "latent_kron": _latent_kron,
    "marginal_kron": _marginal_kron,
}


@pytest.mark.parametrize("name", PROCESSES)
def test_latent_and_sparse_processes_have_the_same_density_under_xla(name):
    with pm.Model() as model:
        PROCESSES[name]()
    assert_same_log_density(model, name, jit_compile=True, rtol=1e-8)
