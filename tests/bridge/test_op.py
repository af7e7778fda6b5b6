"""TensorFlowOp: any outputs and inputs, exact gradients, anywhere in a model."""

import pickle

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_same_model

from pymc3_tf import TensorFlowOp
from pymc3_tf.bridge.op import free_inputs


@pytest.fixture(autouse=True)
def no_test_values():
    """Models of other tests leave compute_test_value at 'raise'."""
    with theano.config.change_flags(compute_test_value="off"):
        yield


def spec(*shape, dtype="float64"):
    return tf.TensorSpec(shape, dtype)


def curved(x, a):
    return tf.sin(x) * tf.exp(a), tf.reduce_sum(tf.square(x)) * a


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("given_dtype", ["float32", "float64", "int8", "int64"])
def test_inputs_are_cast_to_the_dtype_of_the_graph(dtype, rtol, given_dtype):
    op = TensorFlowOp(lambda x: tf.sin(x), [spec(None, dtype=dtype)])
    x = tt.TensorType(given_dtype, [False])("x")
    y = op(x)
    assert y.dtype == dtype
    values = np.array([1, 2, 3], given_dtype)
    np.testing.assert_allclose(y.eval({x: values}), np.sin(values.astype(dtype)), rtol=rtol)
    if given_dtype.startswith("float"):
        gradient = tt.grad(y.sum(), x)
        np.testing.assert_allclose(gradient.eval({x: values}), np.cos(values), rtol=1e-5)


def test_integer_and_boolean_inputs_have_no_gradient_and_cost_none():
    op = TensorFlowOp(
        lambda x, index, keep: tf.where(keep, tf.gather(x, index), 0.0 * tf.gather(x, index)),
        [spec(3), spec(2, dtype="int32"), spec(2, dtype="bool")],
    )
    x, index, keep = tt.dvector(), tt.ivector(), tt.TensorType("bool", [False])()
    y = op(x, index, keep)
    feed = {x: np.array([1.0, 2.0, 3.0]), index: np.array([2, 0], "int32"),
            keep: np.array([True, False])}  # fmt: skip
    np.testing.assert_array_equal(y.eval(feed), [3.0, 0.0])
    np.testing.assert_array_equal(tt.grad(y.sum(), x).eval(feed), [0.0, 0.0, 1.0])


def test_several_outputs_of_different_rank_and_dtype():
    op = TensorFlowOp(
        lambda x: (tf.reduce_sum(x), x[:, None] * x[None, :], tf.argmax(x)), [spec(None)]
    )
    x = tt.dvector("x")
    total, outer, index = op(x)
    assert [v.ndim for v in (total, outer, index)] == [0, 2, 0]
    assert index.dtype == "int64"
    values = np.array([1.0, 3.0, 2.0])
    for got, expected in zip((total, outer, index), (6.0, np.outer(values, values), 1)):
        np.testing.assert_array_equal(got.eval({x: values}), expected)
    # Through one of the outputs, and through two of them.
    np.testing.assert_allclose(tt.grad(total, x).eval({x: values}), np.ones(3))
    both = tt.grad(total * 2.0 + outer.sum(), x)
    np.testing.assert_allclose(both.eval({x: values}), 2.0 + 2.0 * values.sum() * np.ones(3))


@settings(max_examples=25, deadline=None)
@given(
    x=st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=6),
    a=st.floats(-1.0, 1.0),
    g=st.floats(-3.0, 3.0),
)
def test_values_and_gradients_for_any_length(x, a, g):
    op = CURVED
    x = np.array(x)
    wave, total, by_x, by_a = CURVED_FUNCTION(x, a, g)
    assert op.program.inputs[0].shape == (None,)
    np.testing.assert_allclose(wave, np.sin(x) * np.exp(a), rtol=1e-10)
    np.testing.assert_allclose(total, np.sum(x**2) * a, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(by_x, g * np.cos(x) * np.exp(a) + 2 * x * a, rtol=1e-9, atol=1e-9)
    expected = g * np.sum(np.sin(x)) * np.exp(a) + np.sum(x**2)
    np.testing.assert_allclose(by_a, expected, rtol=1e-9, atol=1e-9)


with theano.config.change_flags(compute_test_value="off"):
    CURVED = TensorFlowOp(curved, [spec(None), spec()])
    _x, _a, _g = tt.dvector(), tt.dscalar(), tt.dscalar()
    _wave, _total = CURVED(_x, _a)
    CURVED_FUNCTION = theano.function(
        [_x, _a, _g], [_wave, _total, *tt.grad(_g * _wave.sum() + _total, [_x, _a])]
    )


def test_theanos_own_check_of_the_gradient():
    theano.gradient.verify_grad(
        lambda x, a: CURVED(x, a)[0], [np.array([0.3, -0.2]), np.array(0.4)],
        rng=np.random.RandomState(1),
    )  # fmt: skip


def test_second_derivatives_in_closed_form():
    x, a = tt.dvector(), tt.dscalar()
    wave, _ = CURVED(x, a)
    by_a = tt.grad(tt.grad(wave.sum(), a), a)
    by_x = tt.grad(tt.grad(wave.sum(), a), x)
    values = {x: np.array([0.3, -0.2]), a: 0.4}
    np.testing.assert_allclose(by_a.eval(values), np.sin(values[x]).sum() * np.exp(0.4))
    np.testing.assert_allclose(by_x.eval(values), np.cos(values[x]) * np.exp(0.4))


def test_shapes_are_inferred_without_calling_tensorflow(calls):
    x, a = tt.dvector(), tt.dscalar()
    gradient = tt.grad(CURVED(x, a)[0].sum(), x)
    shape = theano.function([x, a], gradient.shape, on_unused_input="ignore")
    counted = calls()
    assert shape(np.random.RandomState().randn(5), 0.1) == [5]
    assert counted.number == 0


def test_broadcastable_inputs_are_accepted():
    x = tt.TensorType("float64", [True])()
    wave, _ = CURVED(x, tt.constant(0.0))
    np.testing.assert_allclose(wave.eval({x: [0.5]}), [np.sin(0.5)])
    np.testing.assert_allclose(tt.grad(wave.sum(), x).eval({x: [0.5]}), [np.cos(0.5)])


def test_theano_merges_equal_ops_and_keeps_different_ones_apart():
    def op(data):
        return TensorFlowOp(lambda x, d: x * d, [spec()], feed_dict={"d": np.float64(data)})

    x = tt.dscalar()
    assert op(2.0) == op(2.0) and op(2.0) != op(3.0)
    function = theano.function([x], [op(2.0)(x), op(3.0)(x), op(2.0)(x)])
    np.testing.assert_array_equal(function(1.0), [2.0, 3.0, 2.0])
    nodes = [n for n in function.maker.fgraph.toposort() if isinstance(n.op, TensorFlowOp)]
    assert len(nodes) == 2


def test_pickled_op_is_equal_and_computes():
    copy = pickle.loads(pickle.dumps(CURVED))
    assert copy == CURVED
    np.testing.assert_allclose(copy(np.array([0.5]), 0.0)[0].eval(), [np.sin(0.5)])


def test_physics_inside_a_pymc3_likelihood():
    """A tensor as the mean of a Normal, in a Deterministic and in a Potential."""
    t = np.linspace(0.0, 3.0, 8)
    data = np.cos(1.3 * t)
    op = TensorFlowOp(lambda omega, t: tf.cos(omega * t), [spec()], feed_dict={"t": t})
    penalty = TensorFlowOp(lambda omega: -tf.square(omega - 1.0), [spec()])
    models = []
    for bridged in (True, False):
        with pm.Model() as model:
            omega = pm.Normal("omega", 1.0, 1.0)
            mean = op(omega) if bridged else tt.cos(omega * t)
            pm.Deterministic("mean", mean)
            pm.Potential("penalty", penalty(omega) if bridged else -((omega - 1.0) ** 2))
            pm.Normal("y", mean, 0.3, observed=data)
        models.append(model)
    assert_same_model(*models)


def test_debug_mode_finds_nothing():
    x, a = tt.dvector(), tt.dscalar()
    wave, total = CURVED(x, a)
    function = theano.function(
        [x, a], [wave, total, *tt.grad(wave.sum(), [x, a])],
        mode=theano.compile.debugmode.DebugMode(check_c_code=False, stability_patience=1),
    )  # fmt: skip
    np.testing.assert_allclose(function(np.array([0.5]), 0.0)[0], [np.sin(0.5)])


def test_constants_and_shared_variables_are_no_free_inputs():
    op = TensorFlowOp(lambda a, b, c, d: a + b + c + d, [tf.TensorSpec([2], tf.float64)] * 4)
    with theano.config.change_flags(compute_test_value="off"):
        x, data = tt.dvector("x"), theano.shared(np.ones(2), "data")
        node = op(data, x, np.zeros(2), 2.0 * data + x).owner
    assert free_inputs(node) == [1, 3]
