"""The linker: the log density of whole PyMC3 models, and its gradient."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import COUNTS, X, Y, assert_same_log_density, positive, real, simplex, unit
from pymc3.distributions import transforms

import pymc3_tf
from pymc3_tf.linker import link


def test_discrete_free_variables_are_inputs_without_gradient():
    with pm.Model() as model:
        n = pm.Poisson("n", 3.0, testval=2)
        p = unit("p")
        pm.Binomial("x", n + 5, p, observed=COUNTS)
    assert_same_log_density(model, "discrete")


# -- transforms -------------------------------------------------------------------------------

TRANSFORMS = {
    "log": lambda: pm.Gamma("x", 2.0, 1.0, transform=transforms.log, shape=3),
    "log_exp_m1": lambda: pm.Gamma("x", 2.0, 1.0, transform=transforms.log_exp_m1, shape=3),
    "logodds": lambda: pm.Beta("x", 2.0, 1.0, transform=transforms.logodds, shape=3),
    "interval": lambda: pm.Uniform("x", 1.0, 4.0, transform=transforms.interval(1.0, 4.0), shape=3),
    "lowerbound": lambda: pm.Normal(
        "x", transform=transforms.lowerbound(-1.0), shape=3, testval=np.ones(3)
    ),
    "upperbound": lambda: pm.Normal(
        "x", transform=transforms.upperbound(2.0), shape=3, testval=np.ones(3)
    ),
    "ordered": lambda: pm.Normal(
        "x", transform=transforms.ordered, shape=3, testval=np.arange(3.0)
    ),
    "sum_to_1": lambda: pm.Dirichlet("x", np.full(3, 2.0), transform=transforms.sum_to_1),
    "stick_breaking": lambda: pm.Dirichlet("x", np.full(3, 2.0), shape=(2, 3)),
    "circular": lambda: pm.VonMises("x", 0.0, 2.0, transform=transforms.circular, shape=3),
    "chain": lambda: pm.Gamma(
        "x",
        2.0,
        1.0,
        transform=transforms.Chain([transforms.log, transforms.ordered]),
        shape=3,
        testval=np.arange(1.0, 4.0),
    ),
    "cholesky_cov_packed": lambda: pm.LKJCholeskyCov(
        "x", n=3, eta=1.5, sd_dist=pm.HalfNormal.dist(1.0), compute_corr=True
    ),
}


def test_every_transform_is_in_the_table():
    names = {n for n, t in vars(transforms).items() if isinstance(t, transforms.Transform)}
    classes = {"interval", "lowerbound", "upperbound", "chain", "cholesky_cov_packed"}
    assert names | classes == set(TRANSFORMS) | {"t_stick_breaking"} & names


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformed_variables_have_the_same_density(name):
    with pm.Model() as model:
        TRANSFORMS[name]()
    assert_same_log_density(model, name, jit_compile=True, scale=0.1)


# -- whole models -----------------------------------------------------------------------------


def _eight_schools():
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    sigma = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    theta = pm.Deterministic("theta", mu + tau * pm.Normal("eta", 0, 1, shape=8))
    pm.Normal("y", theta, sigma=sigma, observed=y)


def _hierarchical_regression():
    groups = pm.Data("groups", np.array([0, 1, 2, 2, 1, 0]))
    x = pm.Data("x", X)
    alpha = pm.Normal("alpha", 0, pm.HalfNormal("sigma_alpha"), shape=3)
    beta = pm.Normal("beta", shape=2)
    pm.StudentT("y", 4, mu=alpha[groups] + tt.dot(x, beta), sigma=positive("sigma"), observed=Y)


def _glm():
    data = {"y": (Y > 0).astype(float), "a": X[:, 0], "b": X[:, 1]}
    pm.glm.GLM.from_formula("y ~ a + b", data, family=pm.glm.families.Binomial())


def _linear_glm():
    pm.glm.LinearComponent(X, Y, name="linear")
    pm.glm.GLM(X, Y, family=pm.glm.families.StudentT(), name="robust")


def _missing_values():
    observed = np.ma.masked_invalid(np.where(np.arange(6) == 2, np.nan, Y))
    pm.Normal("y", real("mu"), positive("sigma"), observed=observed)


def _total_size():
    pm.Normal("y", real("mu"), positive("sigma"), observed=Y, total_size=60)


def _changepoint():
    early, late = positive("early"), positive("late")
    where = pm.Uniform("where", 0, 6)
    pm.Poisson("n", tt.switch(where >= np.arange(6) + 0.25, early, late), observed=COUNTS)


def _marginalised_mixture():
    mu = pm.Normal("mu", 0, 1, shape=3, transform=transforms.ordered, testval=np.arange(3.0))
    log_weights = tt.log(simplex("w"))
    terms = log_weights + pm.Normal.dist(mu, 0.5).logp(Y[:, None])
    pm.Potential("y", pm.math.logsumexp(terms, axis=1).sum())


def _stochastic_volatility():
    s = pm.GaussianRandomWalk("s", sigma=pm.Exponential("step", 10.0), shape=6)
    pm.StudentT("r", pm.Exponential("nu", 0.1), lam=pm.math.exp(-2 * s), observed=Y)


def _correlated_slopes():
    chol, _, _ = pm.LKJCholeskyCov(
        "chol", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1.0), compute_corr=True
    )
    slopes = tt.dot(chol, pm.Normal("z", shape=(2, 6))).T
    pm.Normal("y", slopes[:, 0] + slopes[:, 1] * X[:, 0], 1.0, observed=Y)


def _state_space():
    x0, k = real("x0"), unit("k")
    path, _ = theano.scan(
        lambda noise, before, k: k * before + 0.3 * noise,
        sequences=[pm.Normal("noise", shape=6)],
        outputs_info=[x0],
        non_sequences=[k],
    )
    pm.Normal("y", path, 0.5, observed=Y)


def _set_subtensor():
    free = pm.Normal("free", shape=3)
    weights = tt.set_subtensor(tt.zeros((2, 2))[np.tril_indices(2)], free)
    pm.Normal("y", tt.dot(X, weights).sum(axis=1), 1.0, observed=Y)


def _neural_network():
    hidden = tt.tanh(tt.dot(X, pm.Normal("w", shape=(2, 4))))
    pm.Bernoulli("y", logit_p=tt.dot(hidden, pm.Normal("v", shape=4)), observed=Y > 0)


def _tf_density():
    def log_density(y, x, a, b, s):
        return -0.5 * tf.square((y - a * x - b) / s) - tf.math.log(s)

    params = {"a": real("a"), "b": real("b"), "s": positive("s")}
    pm.TFDensity("y", log_density, params, feed_dict={"y": Y, "x": X[:, 0]})


def _large_tf_density():
    x = np.linspace(0, 1, 1000)

    def log_density(value, x, y):
        return -0.5 * tf.reduce_sum(tf.square(y - value[0] * x - tf.exp(value[1])))

    pm.TFDensity("v", log_density, shape=2, feed_dict={"x": x, "y": 2 * x + 1})


def _tf_density_of_version_1():
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        y, mu = v1.placeholder(tf.float64, [3]), v1.placeholder(tf.float64, [])
        # XLA has to know how often a loop goes round at most.
        _, total = v1.while_loop(
            lambda i, t: i < 3, lambda i, t: (i + 1, t + mu * y[i]), (0, mu), maximum_iterations=3
        )
        log_density = -0.5 * tf.reduce_sum(tf.square(y - mu)) - tf.square(total)
        pm.TFDensity("y", log_density, {mu: real("mu")}, y, shape=3)


def _tensorflow_op():
    @tf.custom_gradient
    def cube(x):
        return x**3, lambda upstream: 3 * upstream * tf.square(x)

    op = pymc3_tf.TensorFlowOp(
        lambda x, a: [cube(x) * a, tf.reduce_sum(x)],
        [tf.TensorSpec([3], tf.float64), tf.TensorSpec([], tf.float64)],
    )
    cubes, total = op(pm.Normal("x", shape=3), real("a"))
    pm.Potential("p", -tt.sqr(cubes).sum() + tt.sin(total))


MODELS = {
    "eight_schools": _eight_schools,
    "hierarchical_regression": _hierarchical_regression,
    "glm": _glm,
    "linear_glm": _linear_glm,
    "missing_values": _missing_values,
    "total_size": _total_size,
    "changepoint": _changepoint,
    "marginalised_mixture": _marginalised_mixture,
    "stochastic_volatility": _stochastic_volatility,
    "correlated_slopes": _correlated_slopes,
    "state_space": _state_space,
    "set_subtensor": _set_subtensor,
    "neural_network": _neural_network,
    "tf_density": _tf_density,
    "large_tf_density": _large_tf_density,
    "tf_density_of_version_1": _tf_density_of_version_1,
    "tensorflow_op": _tensorflow_op,
}


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_same_density_under_xla(name):
    with pm.Model() as model:
        MODELS[name]()
    assert_same_log_density(model, name, jit_compile=True)


@pytest.mark.parametrize(
    "name", ["hierarchical_regression", "correlated_slopes", "tf_density", "tensorflow_op"]
)
def test_gradients_at_many_points_are_vectorized(name):
    with pm.Model() as model:
        MODELS[name]()
    linked = link([model.logpt], model.vars)
    values = [np.asarray(model.test_point[v.name]) + 0.1 for v in model.vars]
    batch = [tf.constant(np.stack([x, 1.1 * x, 1.2 * x])) for x in values]

    def at_one_point(point):
        with tf.GradientTape() as tape:
            tape.watch(point)
            (value,) = linked(*point)
        return [value, *tape.gradient(value, point)]

    def at_all_points(*batch):
        return tf.vectorized_map(at_one_point, list(batch))

    got = tf.function(at_all_points, jit_compile=True, autograph=False)(*batch)
    expected = zip(*[at_one_point([x[i] for x in batch]) for i in range(3)])
    for array, one_by_one in zip(got, expected):
        np.testing.assert_allclose(array, np.stack(one_by_one), rtol=1e-9, atol=1e-11)


def test_deterministics_are_linked_as_well():
    with pm.Model() as model:
        _eight_schools()
    linked = link(model.unobserved_RVs, model.vars)
    values = [np.asarray(model.test_point[v.name]) + 0.1 for v in model.vars]
    expected = theano.function(model.vars, model.unobserved_RVs, on_unused_input="ignore")(*values)
    for got, value in zip(linked(*values), expected):
        np.testing.assert_allclose(got, value, rtol=1e-12)


def test_matrix_that_is_not_positive_definite_has_density_minus_infinity():
    with pm.Model() as model:
        r = pm.Uniform("r", -2, 2, transform=None, testval=0.1)
        cov = tt.stack([[1.0, r], [r, 1.0]])
        pm.MvNormal("y", mu=np.zeros(2), cov=cov, observed=X)
    linked = link([model.logpt], model.vars)
    for jit in (None, True):
        assert tf.function(linked, jit_compile=jit)(np.float64(1.5))[0] == -np.inf
