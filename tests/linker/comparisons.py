"""What tests of the linker share: comparisons with Theano, arrays, and priors for small models."""

import zlib

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt

from pymc3_tf.linker import link

# Fused, what Theano computes in Python raises errors where NumPy gives infinities.
MODE = theano.compile.get_mode("FAST_RUN").excluding("fusion")

random = np.random.RandomState(20)
X = random.randn(6, 2)
Y = random.randn(6)
COUNTS = np.array([0, 3, 1, 2, 5, 4])
COVARIANCE = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 1.5]])
SMALL = np.array([-0.9, -0.5, -0.1, 0.2, 0.6, 0.95])
WIDE = np.array([-30.0, -4.0, -0.7, 0.3, 1.9, 25.0])
ABOVE = np.array([1e-3, 0.4, 1.0, 2.5, 11.0, 60.0])
SQUARE = COVARIANCE + np.array([[0.0, 0.4, 0.0], [0.1, 0.0, 0.0], [0.0, 0.2, 0.0]])


def with_gradient(function, *, jit_compile=None):
    """TensorFlow function of the one output of a linked graph and its gradient."""

    def value_and_gradient(*tensors, data=None):
        with tf.GradientTape() as tape:
            floating = [x for x in tensors if x.dtype.is_floating]
            tape.watch(floating)
            (value,) = function(*tensors, data=data)
        return value, tape.gradient(value, floating, unconnected_gradients="zero")

    return tf.function(value_and_gradient, autograph=False, jit_compile=jit_compile)


def points(model, name, number=3, scale=0.3):
    """Random points near a model's test point, as dictionaries; discrete variables stay."""
    random = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
    for _ in range(number):
        yield {
            v.name: model.test_point[v.name]
            + (scale * random.randn(*v.dshape) if v.dtype.startswith("float") else 0)
            for v in model.vars
        }


def assert_same_log_density(model, name, jit_compile=None, rtol=1e-10, scale=0.3, number=3):
    """TensorFlow's log density and gradient are Theano's."""
    floating = [v for v in model.vars if v.dtype.startswith("float")]
    with theano.config.change_flags(compute_test_value="off"):
        gradient = theano.grad(model.logpt, floating, disconnected_inputs="ignore")
        expected = theano.function(
            model.vars, [model.logpt, *gradient], on_unused_input="ignore", mode=MODE
        )
    actual = with_gradient(link([model.logpt], model.vars), jit_compile=jit_compile)
    for point in points(model, name, number, scale):
        values = [np.asarray(point[v.name], v.dtype) for v in model.vars]
        value, *slopes = expected(*values)
        got, got_slopes = actual(*map(tf.constant, values))
        assert np.isfinite(value)
        np.testing.assert_allclose(got, value, rtol=rtol)
        largest = max(np.max(np.abs(slope), initial=0) for slope in slopes)
        for got_slope, slope in zip(got_slopes, slopes):
            np.testing.assert_allclose(got_slope, slope, rtol=rtol, atol=largest * rtol)


def assert_same_expression(build, *arrays, jit_compile=True, rtol=1e-10, gradient=True):
    """An expression of arrays has the same value and gradient, without XLA and with it."""
    arrays = [np.asarray(a) for a in arrays]
    tensors = [tf.constant(a) for a in arrays]
    with theano.config.change_flags(compute_test_value="off"):
        inputs = [tt.TensorType(str(a.dtype), [False] * a.ndim)() for a in arrays]
        output = tt.as_tensor_variable(build(*inputs))
        # One function has all of it: most of the time goes into compiling.
        outputs, slopes = [output], []
        if gradient and output.dtype.startswith("float"):
            shape = link([output], inputs)(*tensors)[0].shape
            outputs += [(output * np.random.RandomState(3).randn(*shape)).sum()]
            floating = [x for x in inputs if x.dtype.startswith("float")]
            slopes = theano.grad(outputs[1], floating, disconnected_inputs="ignore")
        linked = link(outputs, inputs)
        expected, *slopes = theano.function(
            inputs, [output, *slopes], on_unused_input="ignore", mode=MODE
        )(*arrays)

    def value_and_gradient(*tensors):
        with tf.GradientTape() as tape:
            floating = [x for x in tensors if x.dtype.is_floating]
            tape.watch(floating)
            value, *total = linked(*tensors)
        return value, tape.gradient(total, floating, unconnected_gradients="zero") if total else []

    for jit in {None, jit_compile}:
        compiled = tf.function(value_and_gradient, autograph=False, jit_compile=jit)
        got, got_slopes = compiled(*tensors)
        assert got.dtype.name == output.dtype
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-14, err_msg=f"XLA: {jit}")
        assert got.shape == expected.shape
        assert len(got_slopes) == len(slopes)
        for got_slope, slope in zip(got_slopes, slopes):
            atol = max(np.max(np.abs(slope), initial=0) * rtol, 1e-14)
            np.testing.assert_allclose(
                got_slope, slope, rtol=rtol, atol=atol, err_msg=f"XLA: {jit}"
            )


def real(name, shape=()):
    return pm.Normal(name, 0.2, 1.0, shape=shape)


def positive(name, shape=()):
    return pm.Lognormal(name, 0.1, 0.5, shape=shape)


def unit(name, shape=()):
    return pm.Beta(name, 2.0, 2.0, shape=shape)


def simplex(name, n=3):
    return pm.Dirichlet(name, np.ones(n))
