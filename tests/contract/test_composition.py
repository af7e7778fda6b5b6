"""A density inside other distributions, and TensorFlow anywhere else in a model."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt
from support import assert_same_model
from twins import TWINS, both, dirichlet, draw, mv_normal, normal

from pymc3_tf import TensorFlowOp

DATA = np.array([0.3, -1.2, 2.5, 0.7])


def dist(name, ours, **kwargs):
    """A distribution without a name, by default with the twin's own parameters."""
    twin = TWINS[name]
    shape = kwargs.pop("shape", twin.shape)
    params = {**twin.params, **kwargs}
    if ours:
        return pm.TFDensity.dist(twin.logp, params, shape=shape)
    return twin.builtin.dist(**params, shape=shape)


def mixture_of_a_list(ours, **kwargs):
    w = pm.Dirichlet("w", np.ones(2))
    mu = pm.Normal("mu", 0.0, 1.0, shape=2)
    components = [dist("Normal", ours, mu=mu[0]), dist("StudentT", ours, mu=mu[1])]
    pm.Mixture("y", w, components, **kwargs)


def mixture_over_a_vector(ours, **kwargs):
    mu = pm.Normal("mu", 0.0, 1.0, shape=3)
    pm.Mixture("y", [0.2, 0.3, 0.5], dist("Normal", ours, mu=mu, shape=3), **kwargs)


def mixture_over_a_matrix(ours, **kwargs):
    mu = pm.Normal("mu", 0.0, 1.0, shape=(4, 3))
    pm.Mixture("y", [0.2, 0.3, 0.5], dist("Normal", ours, mu=mu, shape=(4, 3)), **kwargs)


def mixture_among_builtins(ours, **kwargs):
    mu = pm.Normal("mu", 0.0, 1.0)
    components = [
        dist("Normal", ours, mu=mu),
        pm.Laplace.dist(mu, 2.0),
        dist("StudentT", ours, mu=mu),
    ]
    pm.Mixture("y", [0.2, 0.3, 0.5], components, **kwargs)


def mixture_of_scalars(ours, **kwargs):
    mu = pm.Normal("mu", 0.0, 1.0)
    pm.Mixture("y", [0.4, 0.6], [dist("Normal", ours, mu=mu), pm.Normal.dist(mu, 5.0)], **kwargs)


MIXTURES = {
    f.__name__: f
    for f in (
        mixture_of_a_list, mixture_over_a_vector, mixture_over_a_matrix, mixture_among_builtins,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", MIXTURES)
def test_observed_mixture_equals_the_builtin(name):
    ours, theirs = both(lambda ours: MIXTURES[name](ours, observed=DATA))
    assert_same_model(ours, theirs)
    elements = [model.y.logp_elemwise(ours.test_point) for model in (ours, theirs)]
    assert elements[0].shape == elements[1].shape == (4,)
    np.testing.assert_allclose(*elements, rtol=1e-10)


@pytest.mark.parametrize("name", MIXTURES)
def test_free_mixture_equals_the_builtin(name):
    def build(ours):
        MIXTURES[name](ours, shape=4, testval=np.linspace(-1.0, 1.0, 4))

    assert_same_model(*both(build))


def test_free_mixture_of_scalars_equals_the_builtin():
    assert_same_model(*both(lambda ours: mixture_of_scalars(ours, testval=0.5)))


def test_mixture_of_a_mixture_equals_the_builtin():
    def build(ours):
        mu = pm.Normal("mu", 0.0, 1.0)
        inner = pm.Mixture.dist([0.4, 0.6], [dist("Normal", ours, mu=mu), dist("StudentT", ours)])
        pm.Mixture("y", [0.5, 0.5], [inner, dist("Normal", ours, mu=-mu)], observed=DATA)

    assert_same_model(*both(build))


@pytest.mark.parametrize("name", MIXTURES)
def test_free_mixture_asks_for_a_start_value(name):
    """PyMC3 starts a mixture at the means of its components, which a log density does not tell."""
    with pm.Model(), pytest.raises(AttributeError, match="Pass testval"):
        MIXTURES[name](True, shape=4)


BOUNDS = {
    "lower": {"lower": -1.0},
    "upper": {"upper": 2.0},
    "both": {"lower": -1.0, "upper": 2.0},
    "arrays": {"lower": np.array([-1.0, 0.0, 1.0])},
}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("name", ["Normal", "StudentT"])
def test_bound_equals_the_builtin(name, bounds):
    def build(ours):
        mu = pm.Normal("mu", 0.0, 1.0)
        twin = TWINS[name]
        params = {**twin.params, "mu": mu}
        kwargs = {"shape": 3, "testval": np.array([0.5, 0.6, 1.5])}
        if ours:
            pm.Bound(pm.TFDensity, **BOUNDS[bounds])("x", twin.logp, params, **kwargs)
        else:
            pm.Bound(twin.builtin, **BOUNDS[bounds])("x", **params, **kwargs)

    assert_same_model(*both(build))


def test_bound_by_variables_equals_the_builtin():
    def build(ours):
        low = pm.Normal("low", 0.0, 1.0)
        params = TWINS["Normal"].params
        if ours:
            pm.Bound(pm.TFDensity, lower=low)("x", normal, params, testval=1.0)
        else:
            pm.Bound(pm.Normal, lower=low)("x", **params, testval=1.0)

    assert_same_model(*both(build))


def test_bound_starts_inside_of_its_bounds():
    for bounds in BOUNDS.values():
        with pm.Model() as model:
            params = TWINS["Normal"].params
            pm.Bound(pm.TFDensity, **bounds)("x", normal, params, shape=3)
        start = model.x.tag.test_value
        assert (start > bounds.get("lower", -np.inf)).all()
        assert (start < bounds.get("upper", np.inf)).all()
        assert np.isfinite(model.logp(model.test_point))


def test_observed_bound_is_refused_as_for_the_builtin():
    errors = []
    for distribution, args in (
        (pm.TFDensity, (normal, {"mu": 0.0, "sigma": 1.0})),
        (pm.Normal, ()),
    ):
        with pm.Model(), pytest.raises(ValueError) as error:
            pm.Bound(distribution, lower=0.0)("y", *args, observed=DATA)
        errors.append(str(error.value).replace(distribution.__name__, ""))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("shape", [3, (2, 3)])
def test_hierarchy_with_discrete_parents_equals_the_builtin(shape):
    """Discrete parents: as an index in Theano, as a number, and as an index inside TensorFlow."""

    def switched(value, k, mu):
        return normal(value, tf.gather(mu, k), tf.constant(1.0, mu.dtype))

    def build(ours):
        k = pm.Categorical("k", np.array([0.2, 0.3, 0.5]), shape=shape)
        count = pm.Poisson("count", 3.0)
        mu = pm.Normal("mu", 0.0, 1.0, shape=3, testval=np.array([-1.0, 0.0, 1.0]))
        if ours:
            pm.TFDensity("x", switched, {"k": k, "mu": mu}, shape=shape)
        else:
            pm.Normal("x", mu[k], 1.0, shape=shape)
        TWINS["Normal"].declare("y", ours, {"mu": mu[k]}, observed=np.ones(shape))
        # A function of TensorFlow gets the integers as such.
        count = tt.cast(count, "float64") if ours else count
        TWINS["StudentT"].declare("z", ours, {"mu": count}, observed=DATA)

    ours, theirs = both(build)
    functions = [logp_dlogp_of_continuous(model) for model in (ours, theirs)]
    random = np.random.RandomState(0)
    for _ in range(4):
        point = {**ours.test_point, "k": random.randint(0, 3, shape), "count": random.randint(0, 9)}
        for got, expected in zip(*(f(point) for f in functions)):
            np.testing.assert_allclose(got, expected, rtol=1e-10)


def logp_dlogp_of_continuous(model):
    function = model.logp_dlogp_function(model.cont_vars)

    def evaluate(point):
        function.set_extra_values(point)
        return function(function.dict_to_array(point))

    return evaluate


def test_density_over_and_under_other_densities_equals_the_builtin():
    """A chain of three: each is a parameter of the next."""

    def build(ours):
        sigma = TWINS["Gamma"].declare("sigma", ours, testval=1.5)
        x = TWINS["MvNormal"].declare("x", ours, {"cov": np.eye(3)})
        w = TWINS["Dirichlet"].declare("w", ours, testval=np.full(3, 1 / 3))
        mean = tt.dot(w, x)
        TWINS["Normal"].declare("y", ours, {"mu": mean, "sigma": sigma}, observed=DATA)

    assert_same_model(*both(build))


@pytest.mark.parametrize("name", ["MvNormal", "Dirichlet"])
def test_joint_density_is_refused_where_it_would_be_counted_twice(name):
    logp, params = {"MvNormal": mv_normal, "Dirichlet": dirichlet}[name], TWINS[name].params
    with pm.Model(), pytest.raises(ValueError, match="joint over several elements"):
        pm.Bound(pm.TFDensity, lower=0.0)("x", logp, params, shape=3)


def test_op_in_deterministic_potential_and_parameters_equals_theano():
    def softplus_and_sum(x):
        return tf.math.softplus(x), tf.reduce_sum(tf.square(x))

    op = TensorFlowOp(softplus_and_sum, [tf.TensorSpec([3], tf.float64)])

    def build(ours):
        x = TWINS["Normal"].declare("x", ours, shape=3)
        positive, total = op(x) if ours else (tt.nnet.softplus(x), tt.sum(tt.sqr(x)))
        pm.Deterministic("positive", positive)
        pm.Deterministic("mean", positive.mean())
        pm.Potential("penalty", -0.1 * total)
        pm.Normal("y", positive.sum(), positive[0], observed=DATA)

    ours, theirs = both(build)
    assert [v.name for v in ours.deterministics] == [v.name for v in theirs.deterministics]
    assert_same_model(ours, theirs)
    traces = [draw(model, pm.NUTS, start=ours.test_point) for model in (ours, theirs)]
    for name in ("x", "positive", "mean"):
        np.testing.assert_allclose(traces[0][name], traces[1][name], rtol=1e-8)
