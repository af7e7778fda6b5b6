"""Many scalar variables: what is done alike to all of them is one op on a vector."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from support import logp_dlogp

from pymc3_tf.linker import link
from pymc3_tf.sampling.unconstrained import UnconstrainedModel


def normals(number):
    with pm.Model() as model:
        effects = [pm.Normal(f"a{i}", 0.1 * i, 1.0) for i in range(number)]
        pm.Normal("y", pm.math.stack(effects), 1.0, observed=np.zeros(number))
    return model


def mixed():
    with pm.Model() as model:
        effects = [pm.Normal(f"a{i}", 0.1 * i, 1.0) for i in range(30)]
        scales = [pm.HalfNormal(f"s{i}", 1.0 + i) for i in range(20)]
        shapes = [pm.Gamma(f"g{i}", 2.0 + i, 1.0) for i in range(10)]
        mu = pm.math.stack(effects[::-1])[:20]
        pm.Normal("y", mu, pm.math.stack(scales) * shapes[0], observed=np.zeros(20))
    return model


def powers():
    # Vectors between the scalars, and exponents that differ.
    with pm.Model() as model:
        x = [pm.Normal(f"x{i}", shape=() if i % 3 else 2) for i in range(30)]
        pm.Normal("y", sum(v**k for k, v in enumerate(v for v in x if not v.ndim)), observed=1.0)
    return model


def traced(model):
    """Value and gradient of a model's log density, as a concrete function of the position."""
    unconstrained = UnconstrainedModel(model)

    @tf.function(autograph=False)
    def value_and_gradient(position):
        with tf.GradientTape() as tape:
            tape.watch(position)
            value = unconstrained.log_density(position)
        return value, tape.gradient(value, position)

    spec = tf.TensorSpec([unconstrained.size], tf.float64)
    return unconstrained, value_and_gradient.get_concrete_function(spec)


def twenty_normals():
    return normals(20)


@pytest.mark.parametrize("build", [twenty_normals, mixed, powers])
def test_log_density_and_gradient_are_those_of_pymc3(build):
    model = build()
    unconstrained, function = traced(model)
    random = np.random.RandomState(1)
    point = {v.name: np.asarray(random.randn(*v.tag.test_value.shape)) for v in model.vars}
    value, gradient = function(tf.constant(unconstrained.vector(point)))
    expected, expected_gradient = logp_dlogp(model, point)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    # PyMC3 may have the variables in another order.
    order = model.logp_dlogp_function().array_to_dict(expected_gradient)
    np.testing.assert_allclose(gradient, unconstrained.vector(order), rtol=1e-8, atol=1e-10)


def test_number_of_ops_does_not_grow_with_the_number_of_variables():
    graphs = [traced(normals(n))[1].graph for n in (20, 60)]
    few, many = (sum(op.type != "Const" for op in g.get_operations()) for g in graphs)
    assert many <= few + 2


@pytest.fixture
def no_test_values():
    with theano.config.change_flags(compute_test_value="off"):
        yield


@pytest.mark.usefixtures("no_test_values")
def test_parts_of_a_vector_in_another_order_are_right():
    x = [tt.dscalar() for _ in range(12)]
    f = link([tt.stack([tt.exp(v) for v in x[::-1]]), tt.stack(x[2:11]), tt.exp(x[5])], x)

    @tf.function(autograph=False)
    def g(values):
        return f(*tf.unstack(values))

    values = np.linspace(0.1, 1.2, 12)
    backwards, some, one = g(tf.constant(values))
    np.testing.assert_allclose(backwards, np.exp(values[::-1]), rtol=1e-14)
    np.testing.assert_array_equal(some, values[2:11])
    np.testing.assert_allclose(one, np.exp(values[5]), rtol=1e-14)


@pytest.mark.usefixtures("no_test_values")
def test_switches_by_constants_stay_apart():
    x = [tt.dscalar() for _ in range(20)]
    flags = [theano.shared(np.int8(i % 2)) for i in range(20)]
    f = link([tt.stack([tt.switch(flag, v, -v) for flag, v in zip(flags, x)])], x)
    values = np.linspace(1.0, 2.0, 20)
    (found,) = tf.function(lambda v: f(*tf.unstack(v)), autograph=False)(tf.constant(values))
    np.testing.assert_array_equal(found, np.where(np.arange(20) % 2, values, -values))


def test_log_density_asks_for_no_test_values(monkeypatch):
    # Theano would compile C code for them: of 300 terms, for 20 seconds.
    with pm.Model() as model:
        for i in range(3):
            pm.Normal(f"a{i}", 0.0, 1.0)

    def refuse(node):
        raise AssertionError(f"the test value of {node} was asked for")

    monkeypatch.setattr(theano.graph.op, "compute_test_value", refuse)
    unconstrained = UnconstrainedModel(model)
    monkeypatch.undo()
    found = unconstrained.log_density(tf.zeros(3, tf.float64), *unconstrained.data)
    np.testing.assert_allclose(found, model.logp(model.test_point), rtol=1e-12)
