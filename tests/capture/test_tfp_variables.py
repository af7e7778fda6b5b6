"""Variables by distributions of TensorFlow Probability: transforms, parts, draws, errors."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from pymc3.distributions import transforms
from scipy import stats
from support import Calls, logp_dlogp
from tfp_cases import CASES, ONE, SCALE, declare, mixture_of, name_of, point_near, tfd

from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError

# -- transforms ---------------------------------------------------------------------------------


def test_transform_of_the_user_comes_first():
    gamma = tfd.Gamma(3 * ONE, 2 * ONE)
    with pm.Model() as model:
        pm.TFDensity("none", distribution=gamma, transform=None, testval=1.0)
        pm.TFDensity("log", distribution=gamma, transform=transforms.log)
        pm.Gamma("builtin", 3, 2)
    assert {v.name for v in model.free_RVs} == {"none", "log_log__", "builtin_log__"}
    point = {"none": 0.7, "log_log__": 0.2, "builtin_log__": 0.2}
    logp = stats.gamma(3, scale=0.5).logpdf
    np.testing.assert_allclose(model.none.logp(point), logp(0.7))
    np.testing.assert_allclose(model.log.transformed.logp(point), logp(np.exp(0.2)) + 0.2)


def test_distributions_of_single_precision_are_variables_of_double():
    """Numbers without a dtype are float32 for TensorFlow, and PyMC3's variables are float64."""
    with pm.Model() as model:
        pm.TFDensity("x", distribution=tfd.Gamma(3.0, 2.0))
        pm.TFDensity("w", distribution=tfd.Dirichlet([1.0, 2.0, 3.0]))
    assert {v.dtype for v in model.free_RVs} == {"float64"}
    point = point_near(model, 5)
    x, w = model.fn([model.x, model.w])(point)
    expected = stats.gamma(3, scale=0.5).logpdf(x) + np.log(60.0 * w[1] * w[2] ** 2)
    np.testing.assert_allclose(model.logp_nojac(point), expected, rtol=1e-5)


def test_distribution_declared_in_a_graph_is_the_same():
    """Outside of eager mode the distribution is built in the user's graph."""
    case = CASES["Uniform, random bounds"]
    model = declare(case)
    with tf.Graph().as_default():
        in_graph = declare(case)
    point = point_near(model, 6)
    np.testing.assert_allclose(in_graph.logp(point), model.logp(point), rtol=1e-12)


def test_map_is_the_mode_of_the_distribution():
    """The Jacobian determinant has no part in it."""
    with pm.Model():
        pm.TFDensity("x", distribution=tfd.InverseGamma(3 * ONE, 2 * ONE))
        found = pm.find_MAP(progressbar=False)
    np.testing.assert_allclose(found["x"], 0.5, rtol=1e-4)


def test_a_variable_that_others_depend_on_costs_one_call_more():
    """What comes from the others depends on its value, so its gradient comes second."""
    with pm.Model() as model:
        x = pm.TFDensity("x", distribution=tfd.InverseGamma(3 * ONE, 2 * ONE))
        pm.Normal("y", 0.0, x)
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    point = function.dict_to_array(model.test_point)
    function(point)
    counted = Calls()
    function(point + np.random.uniform(0.01, 0.1))
    assert counted.number == 2


def test_where_the_density_fails_it_is_minus_infinity():
    case = CASES["InverseGamma"]._replace(build=lambda a: tfd.InverseGamma(2 * ONE, a))
    point = {"a": np.array(-1.0), "x_bijector__": np.array(0.3)}
    value, gradient = logp_dlogp(declare(case), point)
    assert value == -np.inf
    np.testing.assert_allclose(sorted(gradient), [0.0, 200.0])  # the prior of a has the other one
    with pytest.raises(ValueError, match=r"TensorFlow failed at .*a = -1: .*not a number"):
        logp_dlogp(declare(case, errors="raise"), point)


@pytest.mark.parametrize("name", ["Gamma", "Dirichlet", "InverseGamma", "JointDistributionNamed"])
def test_prior_draws_have_the_distribution_and_its_transform(name):
    parameter = 2 * np.ones(3 if name == "Dirichlet" else ())
    case = CASES[name]._replace(params={}, build=lambda: CASES[name].build(parameter))
    model = declare(case)
    draws = pm.sample_prior_predictive(1000, model=model, random_seed=2)
    backward = model.fn(model.x)
    for i in range(5):
        point = {name_of(case): draws[name_of(case)][i]}
        np.testing.assert_allclose(backward(point), draws["x"][i], rtol=1e-6)
    first, cdf = {
        "Gamma": (draws["x"], stats.gamma(2, scale=0.5).cdf),
        "Dirichlet": (draws["x"][..., 0], stats.beta(2, 4).cdf),
        "InverseGamma": (draws["x"], stats.invgamma(2).cdf),
        "JointDistributionNamed": (draws["x"][..., 0], stats.norm(2, 1).cdf),
    }[name]
    assert stats.kstest(first, cdf).pvalue > 1e-3


# -- joint distributions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shapes",
    [
        ("JointDistributionNamed", {"m": (), "s": (), "w": (3,), "y": (2,)}),
        ("JointDistributionSequential", {"m": (), "s": (), "x": (2, 2)}),
        ("JointDistributionCoroutine", {"m": (), "s": (), "y": (3,)}),
    ],
)
def test_parts_of_a_joint_distribution_are_deterministics(name, shapes):
    model = declare(CASES[name])
    names = [f"x_{part}" for part in shapes]
    point = point_near(model, 7)
    values = dict(zip(["x", *names], model.fn([model[n] for n in ["x", *names]])(point)))
    assert {n: values[n].shape for n in names} == {f"x_{n}": s for n, s in shapes.items()}
    np.testing.assert_array_equal(np.concatenate([values[n].ravel() for n in names]), values["x"])
    assert values["x_s"] > 0
    draws = pm.sample_prior_predictive(4, model=model)
    assert {n: draws[n].shape for n in names} == {f"x_{n}": (4, *s) for n, s in shapes.items()}


def test_parts_without_names_are_numbered():
    inner = tfd.JointDistributionSequential([tfd.Normal(ONE, ONE), tfd.HalfNormal(ONE)])
    with pm.Model() as model:
        joint = tfd.JointDistributionNamed(dict(a=inner, b=tfd.Normal(ONE, ONE)))
        pm.TFDensity("x", distribution=joint)
    assert {v.name for v in model.deterministics} == {"x", "x_a_0", "x_a_1", "x_b"}


# -- what cannot work ---------------------------------------------------------------------------

NAMED = tfd.JointDistributionNamed


@pytest.mark.parametrize(
    "distribution, options, error, text",
    [
        (tfd.Poisson(ONE), {}, DeclarationTypeError, "Poisson is discrete.*Give it data"),
        (
            tfd.Bernoulli(probs=0.5 * ONE),
            {"transform": None},
            DeclarationTypeError,
            "Bernoulli is discrete",
        ),
        (
            mixture_of(tfd.Poisson(np.array([1.0, 2.0]))),
            {},
            DeclarationTypeError,
            "MixtureSameFamily is discrete",
        ),
        (
            NAMED(dict(k=tfd.Poisson(ONE), m=tfd.Normal(ONE, ONE))),
            {},
            DeclarationTypeError,
            "the part 'k' of JointDistributionNamed is a Poisson, which is discrete.*Leave",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE), y=lambda m: tfd.Normal(m, np.ones(3)))),
            {},
            DeclarationError,
            r"the part 'y' of JointDistributionNamed has the batch shape \(3,\).*tfd.Independent",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE))),
            {"feed_dict": {"value": {"m": 1.0}}},
            DeclarationError,
            "structure of several tensors.*experimental_pin",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE))),
            {"observed": [1.0]},
            DeclarationError,
            "value of JointDistributionNamed is a structure of several tensors.*experimental_pin",
        ),
        (
            tfd.JointDistributionSequential([tfd.Normal(ONE, ONE)]),
            {"observed": [1.0, np.ones(3)]},
            DeclarationError,
            "structure of several tensors",
        ),
        (
            tfd.MultivariateNormalTriL(np.zeros(2), SCALE),
            {"shape": 1},
            DeclarationError,
            r"shape is \(1,\), and MultivariateNormalTriL has .* shape \(2,\).*Leave shape out",
        ),
        (
            NAMED(dict(m=tfd.Normal(ONE, ONE), n=tfd.Normal(ONE, ONE))),
            {"shape": (3, 2)},
            DeclarationError,
            r"shape is \(3, 2\), and JointDistributionNamed has .* \(2,\)",
        ),
    ],
)
def test_declarations_that_cannot_work_are_refused(distribution, options, error, text):
    with pm.Model(), pytest.raises(error, match=text):
        pm.TFDensity("x", distribution=distribution, **options)


class Undrawn(tfd.Normal):
    """A distribution that has a log density alone."""

    def _sample_n(self, n, seed=None):
        raise NotImplementedError("no draws")


def test_distribution_without_a_sampler_has_a_density_but_no_draws():
    with pm.Model() as model:
        pm.TFDensity("x", distribution=Undrawn(ONE, ONE))
    np.testing.assert_allclose(model.logp({"x": 0.3}), stats.norm(1, 1).logpdf(0.3))
    with pytest.raises(ValueError, match=r"no sampler \(random could.*no draws.*random=lambda"):
        pm.sample_prior_predictive(3, model=model)


def test_observed_data_can_be_a_list():
    data = [0.5, -1.0, 2.0]
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity(
            "y", params={"mu": mu}, distribution=lambda mu: tfd.Normal(mu, ONE), observed=data
        )
    with pm.Model() as builtin:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 1.0, observed=data)
    np.testing.assert_allclose(model.logp({"mu": 0.3}), builtin.logp({"mu": 0.3}), rtol=1e-14)
