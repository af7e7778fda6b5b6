"""The sampler moves along the gradients that PyMC3 has: they are never zero without a word."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import theano.tensor as tt
from support import REGIMES, declare, tf_normal

import pymc3_tf
from pymc3_tf.nuts.sampler import CompiledSampler, Control, State
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

X = np.linspace(-1.0, 1.0, 8)
Y = 0.3 + np.sin(4 * X)
GROUP = np.array([0, 1, 2, 2, 1, 0, 1, 2])
VECTOR, SCALAR = tf.TensorSpec([8], tf.float64), tf.TensorSpec([], tf.float64)


def line():
    return pm.Normal("a", testval=0.4) + pm.Normal("b", testval=-0.3) * X


def noise():
    return pm.HalfNormal("sigma", 1.0, testval=0.8)


def density(regime):
    """A density with random parameters, declared by a graph, a variable, a function..."""

    def declare_kind(ours):
        params = {"mu": line(), "sigma": noise()}
        if ours:
            declare(regime, "y", tf_normal, params, observed=Y)
        else:
            pm.Normal("y", **params, observed=Y)

    return declare_kind


def free_density(ours):
    """A density of a free variable, with a transform, under another one."""
    scale = pm.HalfNormal("scale", 1.0, testval=0.7)
    log = pm.distributions.transforms.log
    if ours:

        def logp(x, scale):
            return -x / scale - tf.math.log(scale)

        x = pm.TFDensity("x", logp, {"scale": scale}, shape=8, transform=log, testval=X + 2)
    else:
        x = pm.Exponential("x", 1 / scale, shape=8, testval=X + 2)
    pm.Normal("y", x, 0.5, observed=Y)


def distribution(ours):
    mu = line()
    if ours:
        tfd = tfp.distributions
        x = pm.TFDensity("x", distribution=lambda m: tfd.LogNormal(m, 0.5), params={"m": mu})
    else:
        x = pm.Lognormal("x", mu, 0.5, shape=8)
    pm.Normal("y", x, noise(), observed=Y)


def linked_model(ours):
    """No TensorFlow in it: the same declaration for both."""
    alpha = pm.Normal("alpha", 0.0, pm.HalfNormal("sigma_alpha", testval=0.7), shape=3)
    weights = pm.Dirichlet("weights", np.ones(2))
    mean = alpha[GROUP] + weights[0] * X
    pm.StudentT("y", 4.0, mean, sigma=noise(), observed=Y)


def op_in_a_mean(ours):
    scale, mu = pm.Normal("scale", testval=0.5), line()
    if ours:
        op = pymc3_tf.TensorFlowOp(lambda x, a: tf.sin(x) * tf.exp(a), [VECTOR, SCALAR])
        pm.Normal("y", op(mu, scale), noise(), observed=Y)
    else:
        pm.Normal("y", tt.sin(mu) * tt.exp(scale), noise(), observed=Y)


def integers_and_data(ours):
    alpha, group, x = pm.Normal("alpha", shape=3), pm.Data("group", GROUP), pm.Data("x", X)
    if ours:

        def logp(y, alpha, group, x):
            return tf_normal(y, tf.gather(alpha, group) * x, np.float64(0.5))

        feeds = {"group": group, "x": x}
        pm.TFDensity("y", logp, {"alpha": alpha}, feed_dict=feeds, observed=Y)
    else:
        pm.Normal("y", alpha[group] * x, 0.5, observed=Y)


def gradient_by_the_user(ours):
    @tf.custom_gradient
    def cube(x):
        # Without the gradient that is given, there would be none.
        return tf.stop_gradient(x) ** 3, lambda upstream: 3 * upstream * tf.square(x)

    a = line()
    if ours:
        pm.TFDensity("y", lambda y, a: tf_normal(y, cube(a), np.float64(1)), {"a": a}, observed=Y)
    else:
        pm.Normal("y", a**3, 1.0, observed=Y)


def loop(ours):
    """TensorFlow has no vectorized form of it: chains of a batch are evaluated one by one."""
    a = pm.Normal("a", 0.4, 0.1)
    if ours:

        def logp(y, a):
            zero = tf.zeros([], tf.float64)
            mean = tf.scan(lambda z, x: z * a + x, tf.constant(X), zero)
            return tf_normal(y, mean, np.float64(0.5))

        pm.TFDensity("y", logp, {"a": a}, observed=Y)
    else:
        z, means = 0.0, []
        for x in X:
            z = z * a + x
            means.append(z)
        pm.Normal("y", tt.stack(means), 0.5, observed=Y)


KINDS = {
    **{regime: density(regime) for regime in REGIMES},
    "free_density": free_density,
    "distribution": distribution,
    "linked_model": linked_model,
    "op_in_a_mean": op_in_a_mean,
    "integers_and_data": integers_and_data,
    "gradient_by_the_user": gradient_by_the_user,
}


def model_of(kinds, ours):
    """Each kind has variables of its own, so that each is seen in a part of the gradient."""
    with pm.Model() as model:
        for name, declare_kind in kinds.items():
            with pm.Model(name=name):
                declare_kind(ours)
    return model


class Reference:
    """Value and gradient of PyMC3's own function of a model, as the sampler orders them."""

    def __init__(self, model, unconstrained, **options):
        self.function = model.logp_dlogp_function(**options)
        self.function.set_extra_values({})
        self.unconstrained = unconstrained

    def __call__(self, position):
        point = self.unconstrained.point(position)
        value, gradient = self.function(self.function.dict_to_array(point))
        return value, self.function.array_to_dict(gradient)

    def assert_equal(self, position, value, gradient):
        expected, slopes = self(position)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        for name, slope in self.unconstrained.point(gradient).items():
            assert np.all(np.abs(slopes[name]) > 1e-9), name
            np.testing.assert_allclose(slope, slopes[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kinds", [KINDS, {"loop": loop}], ids=["vectorized", "loop"])
def test_sampler_has_the_gradients_of_pymc3_for_one_chain_and_for_a_batch(kinds):
    model = model_of(kinds, ours=True)
    unconstrained = UnconstrainedModel(model)
    builtin = model_of(kinds, ours=False)
    references = [
        Reference(model, unconstrained),
        Reference(builtin, unconstrained, mode="FAST_COMPILE"),
    ]
    data = [tf.constant(array) for array in unconstrained.data]
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in data]
    one, batch = (
        CompiledSampler(unconstrained.log_density, unconstrained.size, specs, chains=chains)
        for chains in (0, 3)
    )
    middle = unconstrained.vector(model.test_point)
    positions = middle + 0.3 * np.random.RandomState(7).randn(3, middle.size)
    for position, *of_batch in zip(positions, *batch.evaluate(positions, data)):
        of_one = one.evaluate(position, data)
        for reference in references:
            reference.assert_equal(position, *of_one)
            reference.assert_equal(position, *of_batch)

    # A draw, of which XLA computed the gradient.
    state = State(position, *of_one, np.array([0.01, 0.0, 0.0, 0.0]))
    plan = Control(first=0, number=1, leapfrogs=3, step=0, adaptation=0, depth=10)
    after = one.draw(state, np.ones(middle.size), 0.8, np.array([1, 2], np.int32), plan, data).state
    assert np.all(after.position.numpy() != position)
    references[0].assert_equal(*(x.numpy() for x in (after.position, after.lp, after.gradient)))


@pytest.mark.parametrize("has_checks", [False, True])
def test_loop_of_the_value_is_that_of_its_gradient(has_checks):
    def step(z, x, a):
        if has_checks:
            tf.debugging.assert_positive(a)
        return z * a + x

    def logp(y, a):
        zero = tf.zeros([], tf.float64)
        return tf_normal(y, tf.scan(lambda z, x: step(z, x, a), X, zero), np.float64(0.5))

    with pm.Model() as model:
        pm.TFDensity("y", logp, {"a": pm.HalfNormal("a")}, observed=Y)
    unconstrained = UnconstrainedModel(model)
    program = CompiledSampler(unconstrained.log_density, 1)
    with tf.Graph().as_default() as graph:
        program.in_draws(tf.compat.v1.placeholder(tf.float64, [1]))
    loops = [op.name for op in graph.get_operations() if op.type.endswith("While")]
    assert len(loops) == 2 and sum("grad" in name for name in loops) == 1, loops
