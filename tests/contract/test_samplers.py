"""Every sampler and approximation gives the built-in's numbers, and value-only ones no gradient."""

import copy

import numpy as np
import pymc3 as pm
import pytest
from pymc3.tuning.scaling import find_hessian_diag
from support import Calls
from twins import TWINS, both, draw

DATA = np.array([0.3, -1.2, 2.5, 0.7])
NAMES = ["mu", "sigma", "sigma_log__"]
START = {"mu": np.array(0.2), "sigma_log__": np.array(0.1)}


def declare(ours, data=DATA, **kwargs):
    mu = TWINS["Normal"].declare("mu", ours, testval=0.0)
    sigma = TWINS["Gamma"].declare("sigma", ours, testval=1.0)
    TWINS["StudentT"].declare("y", ours, {"mu": mu, "sigma": sigma}, observed=data, **kwargs)


def assert_same_draws(traces, names=NAMES, rtol=1e-6):
    ours, theirs = traces
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=1e-8)
    assert len(np.unique(ours[names[0]])) > 3


def one_vector(ours, data=DATA, **kwargs):
    """Declare the parameters as one variable: PyMC3 orders those of an approximation by chance."""
    theta = TWINS["Gamma"].declare("theta", ours, shape=2, testval=np.ones(2))
    params = {"mu": theta[0], "sigma": theta[1]}
    TWINS["StudentT"].declare("y", ours, params, observed=data, **kwargs)


INITS = [
    "auto",
    "adapt_diag",
    "jitter+adapt_diag",
    "advi",
    "advi+adapt_diag",
    "advi+adapt_diag_grad",
    "advi_map",
    "map",
    "adapt_full",
    "jitter+adapt_full",
]


@pytest.fixture(scope="module")
def vectors():
    """The model of one vector: ours and the built-in one."""
    return both(one_vector)


@pytest.mark.filterwarnings("ignore:QuadPotentialFullAdapt")
@pytest.mark.parametrize("init", INITS)
def test_nuts_and_hmc_have_the_builtins_draws_from_every_init(vectors, init):
    nuts, hmc = [], []
    for model in vectors:
        pm.set_tt_rng(3)  # advi_map passes no seed on
        with model:
            start, step = pm.init_nuts(init, 1, n_init=50, random_seed=3, progressbar=False)
            potential = copy.deepcopy(step.potential)  # as it is before NUTS adapts it
            kwargs = dict(
                tune=5, chains=1, cores=1, random_seed=4, progressbar=False, start=start[0],
                return_inferencedata=False, compute_convergence_checks=False,
            )  # fmt: skip
            nuts.append(pm.sample(10, step=step, **kwargs))
            step = pm.HamiltonianMC(potential=potential, step_scale=0.1)
            hmc.append(pm.sample(10, step=step, **kwargs))
    assert_same_draws(nuts, ["theta", "theta_log__"])
    assert_same_draws(hmc, ["theta", "theta_log__"])


VALUE_ONLY = {
    "Metropolis": (pm.Metropolis, {}),
    "Slice": (pm.Slice, {}),
    "DEMetropolis": (pm.DEMetropolis, {"chains": 4}),
    "DEMetropolisZ": (pm.DEMetropolisZ, {}),
}


def gradient_free(counted):
    nodes = [node for function in counted.functions for node in function.nodes]
    return bool(nodes) and not any(node.startswith("gradient") for node in nodes)


@pytest.mark.parametrize("name", VALUE_ONLY)
def test_sampler_without_gradients_computes_none(name):
    step, kwargs = VALUE_ONLY[name]
    ours, theirs = both(declare)
    counted = Calls()
    trace = draw(ours, step, 30, **kwargs)
    assert gradient_free(counted)
    assert_same_draws([trace, draw(theirs, step, 30, **kwargs)], rtol=1e-8)


def test_value_only_samplers_count_sees_the_gradients_of_nuts():
    counted = Calls()
    draw(both(declare)[0], pm.NUTS, 5)
    assert counted.number and not gradient_free(counted)


def mixed(ours):
    k = pm.Categorical("k", np.array([0.2, 0.3, 0.5]))
    on = pm.Bernoulli("on", 0.4)
    count = pm.Poisson("count", 3.0)
    mu = TWINS["Normal"].declare("mu", ours, shape=3, testval=np.zeros(3))
    sigma = TWINS["Gamma"].declare("sigma", ours, testval=1.0)
    mean = mu[k] + 0.5 * on + 0.1 * count
    TWINS["StudentT"].declare("y", ours, {"mu": mean, "sigma": sigma}, observed=DATA)


def test_compound_step_with_discrete_variables_has_the_builtins_draws():
    traces, methods = [], []
    for model in both(mixed):
        with model:
            steps = [
                pm.NUTS([model.mu, model.sigma], adapt_step_size=False),
                pm.CategoricalGibbsMetropolis([model.k]),
                pm.BinaryGibbsMetropolis([model.on]),
                pm.Metropolis([model.count]),
            ]
            traces.append(draw(model, lambda steps=steps: steps))
            methods.append(pm.sampling.assign_step_methods(model, None))
    assert_same_draws(traces, ["mu", "sigma", "k", "on", "count"])
    ours, theirs = ([(type(m), [v.name for v in m.vars]) for m in found] for found in methods)
    assert ours == theirs


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "Powell"])
def test_find_map_finds_the_builtins_mode(method):
    points = []
    for model in both(declare):
        with model:
            points.append(pm.find_MAP(START, method=method, progressbar=False))
    for name in NAMES:
        np.testing.assert_allclose(points[0][name], points[1][name], rtol=1e-5, atol=1e-6)


def test_find_map_of_discrete_variables_finds_the_builtins_mode():
    points = []
    for model in both(mixed):
        with model:
            free = [v for v in model.vars if v.name not in ("k", "on")]
            points.append(pm.find_MAP(vars=free, progressbar=False, maxeval=200))
    for name in ("mu", "sigma", "count"):
        np.testing.assert_allclose(points[0][name], points[1][name], rtol=1e-5, atol=1e-6)


def test_laplace_approximation_is_the_builtins():
    """Mean and covariance: the mode, and the inverse of the second derivatives there."""
    models = both(declare)
    ours, theirs = (
        pm.find_MAP(START, progressbar=False, include_transformed=True, model=model)
        for model in models
    )
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
    # At one point for both, so that the numbers are the same.
    hessian, expected = (pm.find_hessian(ours, model=model) for model in models)
    np.testing.assert_allclose(hessian, expected, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.inv(hessian), np.linalg.inv(expected), rtol=1e-9)
    assert (np.linalg.eigvalsh(hessian) > 0).all()
    diagonals = [find_hessian_diag(START, model=model) for model in models]
    np.testing.assert_allclose(*diagonals, rtol=1e-10)


METHODS = {
    "advi": {"random_seed": 5},
    "fullrank_advi": {"random_seed": 5},
    "nfvi": {"random_seed": 5},
    "nfvi=planar*2-loc": {"random_seed": 5},
    "svgd": {"inf_kwargs": {"n_particles": 5}, "random_seed": 5},
    # It takes no seed: the package's own random numbers.
    "asvgd": {"obj_n_mc": 5},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "batches", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["all data", "minibatches"]
)
@pytest.mark.parametrize("method", METHODS)
def test_variational_method_has_the_builtins_parameters(method, batches):
    data = np.random.RandomState(8).randn(40)
    fits = []
    for ours in (True, False):
        np.random.seed(5)
        pm.set_tt_rng(5)
        with pm.Model():
            observed = pm.Minibatch(data, 10, random_seed=7) if batches else data
            one_vector(ours, observed, total_size=40 if batches else None)
            fit = pm.fit(15, method=method, progressbar=False, **METHODS[method])
        fits.append([np.array(p.eval()) for p in fit.params])
    assert len(fits[0]) == len(fits[1]) > 0
    for ours, theirs in zip(*fits):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def marginal_likelihood(trace):
    return np.ravel(trace.report.log_marginal_likelihood).astype(float)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_smc_gives_the_log_marginal_likelihood_without_gradients():
    random = np.random.RandomState(2)
    start = {"mu": random.normal(0.5, 2.0, 60), "sigma_log__": np.log(random.gamma(2.5, 1.0, 60))}
    traces = []
    for model, ours in zip(both(declare), (True, False)):
        counted = Calls()
        with model:
            traces.append(
                pm.sample_smc(60, n_steps=5, start=start, chains=1, random_seed=6, parallel=False)
            )
        assert gradient_free(counted) == ours
    np.testing.assert_allclose(*map(marginal_likelihood, traces), rtol=1e-10)
    assert_same_draws(traces, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_smc_draws_its_start_from_builtin_priors():
    def build(ours):
        mu = pm.Normal("mu", 0.0, 1.0)
        TWINS["StudentT"].declare("y", ours, {"mu": mu}, observed=DATA)

    traces = []
    for model in both(build):
        with model:
            traces.append(pm.sample_smc(60, n_steps=5, chains=1, random_seed=6, parallel=False))
    np.testing.assert_allclose(*map(marginal_likelihood, traces), rtol=1e-10)
    assert_same_draws(traces, ["mu"], rtol=1e-8)
