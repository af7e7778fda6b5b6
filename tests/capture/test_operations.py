"""TensorFlowOp: the variables that it takes and returns, and gradients through them."""

import numpy as np
import tensorflow as tf
import theano
import theano.tensor as tt

import pymc3_tf

v1 = tf.compat.v1


def test_op_returns_its_variables_as_the_source_nests_its_tensors():
    with tf.Graph().as_default():
        x_t = v1.placeholder(tf.float64, [None])
        i_t = v1.placeholder(tf.int32, [None])
        b_t = v1.placeholder(tf.bool, [])
        outputs = {
            "picked": tf.gather(x_t, i_t),
            "both": (tf.where(b_t, x_t, -x_t), [tf.size(x_t)]),
        }
        op = pymc3_tf.TensorFlowOp(outputs, [x_t, i_t, b_t])
    x, i, b = tt.dvector(), tt.ivector(), tt.bscalar()
    with theano.config.change_flags(compute_test_value="off"):
        found = op(x, i, tt.neq(b, 0))
        signed, (size,) = found["both"]
        # The gradient comes through two of the outputs; the third is an integer.
        total = (found["picked"] * np.array([10.0, 100.0])).sum() + signed.sum()
        gradient = theano.grad(total, x)
        function = theano.function([x, i, b], [found["picked"], signed, size, gradient])
    picked, signed, size, gradient = function([1.0, 2.0, 3.0], [2, 2], 0)
    np.testing.assert_array_equal(picked, [3.0, 3.0])
    np.testing.assert_array_equal(signed, [-1.0, -2.0, -3.0])
    assert size == 3
    np.testing.assert_array_equal(gradient, [-1.0, -1.0, 109.0])
    assert set(found) == {"picked", "both"}


def test_gradient_through_some_of_the_outputs():
    op = pymc3_tf.TensorFlowOp(
        lambda x: {"used": tf.sin(x), "unused": tf.exp(x)}, [tf.TensorSpec([2], tf.float64)]
    )
    x = tt.dvector()
    with theano.config.change_flags(compute_test_value="off"):
        gradient = theano.function([x], theano.grad(op(x)["used"].sum(), x))
    np.testing.assert_allclose(gradient([0.3, 0.5]), np.cos([0.3, 0.5]), rtol=1e-12)


def test_op_takes_variables_of_the_function_as_inputs():
    weight = tf.Variable([1.0, 1.0], dtype=tf.float64, name="weight")
    op = pymc3_tf.TensorFlowOp(
        lambda x: [x * weight, weight], [tf.TensorSpec([2], tf.float64), weight]
    )
    x, w = tt.dvectors("x", "w")
    with theano.config.change_flags(compute_test_value="off"):
        product, same = op(x, w)
        function = theano.function([x, w], [product, same, theano.grad(product.sum(), w)])
    for found, wanted in zip(function([1.0, 2.0], [3.0, 4.0]), ([3.0, 8.0], [3.0, 4.0], [1, 2])):
        np.testing.assert_array_equal(found, wanted)


def test_op_takes_data_by_tensor_reference_and_variable():
    with tf.Graph().as_default():
        x_t, t_t = (tf.compat.v1.placeholder(tf.float64, [2]) for _ in range(2))
        by_tensor = pymc3_tf.TensorFlowOp(x_t * t_t, [x_t], {t_t.ref(): [3.0, 5.0]})
    weight = tf.Variable([1.0, 1.0], dtype=tf.float64)
    by_variable = pymc3_tf.TensorFlowOp(
        lambda x: x * weight, [tf.TensorSpec([2], tf.float64)], [(weight, [3.0, 5.0])]
    )
    for op in (by_tensor, by_variable):
        np.testing.assert_array_equal(op(np.array([1.0, 2.0])).eval(), [3.0, 10.0])
