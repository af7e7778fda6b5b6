"""Scalar ops: what Theano applies to each element."""

from __future__ import annotations

import functools
from typing import List

import numpy as np
import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.scalar import basic as scalar
from theano.scalar import basic_scipy as special
from theano.tensor.elemwise import MulWithoutZeros
from theano.tensor.nnet.nnet import ScalarSoftsign
from theano.tensor.nnet.sigm import ScalarSigmoid, ScalarSoftplus, UltraFastScalarSigmoid
from theano.tensor.xlogx import XlogX, XlogY0

from pymc3_tf.linker import functions
from pymc3_tf.linker.dispatch import Translation, Value, cast, is_known, tf_funcify

math = tf.math


def zero_safe(function: Translation) -> Translation:
    """Make the gradient of an elementwise function zero wherever the upstream gradient is.

    Otherwise an infinite derivative in the branch of a switch that is not taken would make the
    gradient NaN. Theano moves the switch through such products.
    """

    @functools.wraps(function)
    def safe(*values: Value) -> Value:
        places = [i for i, x in enumerate(values) if not is_known(x) and x.dtype.is_floating]

        def of(tensors: Value) -> Value:
            merged = list(values)
            for i, x in zip(places, tensors):
                merged[i] = x
            return function(*merged)

        @tf.custom_gradient
        def with_gradient(*tensors: Value) -> Value:
            y = of(tensors)

            def gradient(upstream: Value) -> List[Value]:
                # Inputs as large as the output, so that nothing is summed before it is masked.
                wide = [tf.broadcast_to(x, tf.shape(y)) for x in tensors]
                with tf.GradientTape() as tape:
                    tape.watch(wide)
                    again = of(wide)
                partials = tape.gradient(again, wide, upstream, tf.UnconnectedGradients.ZERO)
                return [
                    _sum_to_shape(tf.where(tf.equal(upstream, 0), tf.zeros_like(p), p), x)
                    for p, x in zip(partials, tensors)
                ]

            return y, gradient

        return with_gradient(*[values[i] for i in places]) if places else function(*values)

    return safe


def _sum_to_shape(wide: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    if wide.shape.is_fully_defined() and wide.shape == like.shape:
        return wide
    # Ranks are equal in Theano: only dimensions of length 1 are broadcast.
    axes = [i for i, n in enumerate(like.shape) if n == 1]
    extra = list(range(wide.shape.rank - like.shape.rank))
    axes = extra + [len(extra) + i for i in axes]
    return tf.reshape(tf.reduce_sum(wide, axes), tf.shape(like)) if axes else wide


def register_scalar(op: type, function: Translation, safe: bool = True) -> None:
    """Translate a scalar op by a function of tensors of the output's dtype.

    ``safe`` says that nothing of the argument multiplies the upstream gradient.
    """
    if not safe:
        function = zero_safe(function)

    @tf_funcify.register(op)
    def _(op: Op, node: Apply) -> Translation:
        dtype = node.outputs[0].dtype
        if dtype == "float32" and not any(x.dtype.startswith("float") for x in node.inputs):
            # A float32 that comes from small integers is exact to its last digit in Theano.
            return lambda *xs: cast(function(*[cast(x, "float64") for x in xs]), dtype)
        return lambda *xs: function(*[cast(x, dtype) for x in xs])


def _variadic(function: Translation) -> Translation:
    return lambda *xs: functools.reduce(function, xs[1:], tf.convert_to_tensor(xs[0]))


def _by_dtype(logical: Translation, bitwise: Translation) -> Translation:
    def function(*xs: Value) -> Value:
        tensors = [tf.convert_to_tensor(x) for x in xs]
        return (logical if tensors[0].dtype == tf.bool else bitwise)(*tensors)

    return function


def _int_div(x: Value, y: Value) -> Value:
    return math.floordiv(x, y) if _is_float(x) else _int_safe(math.floordiv, x, y)


def _mod(x: Value, y: Value) -> Value:
    return math.floormod(x, y) if _is_float(x) else _int_safe(math.floormod, x, y)


def _is_float(x: Value) -> bool:
    return tf.as_dtype(x.dtype).is_floating


def _int_safe(function: Translation, x: Value, y: Value) -> Value:
    # Division of integers by zero gives zero, where TensorFlow may end the process.
    zero = tf.equal(y, 0)
    return tf.where(
        zero, tf.zeros([], x.dtype), function(x, tf.where(zero, tf.ones([], y.dtype), y))
    )


def _clip(x: Value, low: Value, high: Value) -> Value:
    return tf.where(x < low, low, tf.where(x > high, high, x))


def _abs(x: Value) -> Value:
    return x if x.dtype == tf.bool or x.dtype.is_unsigned else tf.abs(x)


def _pow(x: Value, y: Value) -> Value:
    # TensorFlow has no powers of small integers.
    return (
        math.pow(x, y)
        if _is_float(x)
        else cast(math.pow(cast(x, "int64"), cast(y, "int64")), x.dtype)
    )


def _square(x: Value) -> Value:
    if x.dtype == tf.bool:
        return x
    return math.square(x) if _is_float(x) else math.multiply(x, x)


def _round_away(x: Value) -> Value:
    return tf.sign(x) * tf.floor(tf.abs(x) + 0.5)


def _truncate(x: Value) -> Value:
    return tf.where(x < 0, tf.math.ceil(x), tf.floor(x)) if _is_float(x) else x


def _mul_without_zeros(x: Value, y: Value) -> Value:
    return tf.where(tf.equal(x, 0), y, tf.where(tf.equal(y, 0), x, x * y))


def _bool_or(function: Translation, logical: Translation) -> Translation:
    """Use the logical function for booleans, as NumPy does."""
    return lambda x, y: logical(x, y) if x.dtype == tf.bool else function(x, y)


# What passes the upstream gradient on as it is or not at all: linear, selecting, or constant.
for _op, _function in {
    scalar.Add: _variadic(_bool_or(math.add, math.logical_or)),
    scalar.Sub: math.subtract,
    scalar.Neg: math.negative,
    scalar.Identity: tf.identity,
    scalar.Sgn: math.sign,
    scalar.ScalarMaximum: _variadic(_bool_or(math.maximum, math.logical_or)),
    scalar.ScalarMinimum: _variadic(_bool_or(math.minimum, math.logical_and)),
    scalar.Clip: _clip,
    scalar.Ceil: math.ceil,
    scalar.Floor: math.floor,
    scalar.Trunc: _truncate,
    scalar.RoundHalfToEven: math.round,
    scalar.RoundHalfAwayFromZero: _round_away,
    scalar.IntDiv: _int_div,
    scalar.OR: _by_dtype(math.logical_or, tf.bitwise.bitwise_or),
    scalar.AND: _by_dtype(math.logical_and, tf.bitwise.bitwise_and),
    scalar.XOR: _by_dtype(math.logical_xor, tf.bitwise.bitwise_xor),
    scalar.Invert: _by_dtype(math.logical_not, tf.bitwise.invert),
    scalar.Deg2Rad: lambda x: x * (np.pi / 180),
    scalar.Rad2Deg: lambda x: x * (180 / np.pi),
}.items():
    register_scalar(_op, _function)

# What has a derivative that is infinite or no number somewhere, if only where the argument is.
for _op, _function in {
    scalar.Cos: math.cos,
    scalar.Sin: math.sin,
    scalar.ArcTan: math.atan,
    scalar.ArcSinh: math.asinh,
    scalar.Tanh: math.tanh,
    ScalarSigmoid: math.sigmoid,
    UltraFastScalarSigmoid: math.sigmoid,
    ScalarSoftplus: math.softplus,
    ScalarSoftsign: math.softsign,
    special.Erf: math.erf,
    special.Erfc: math.erfc,
    special.J0: tf.math.special.bessel_j0,
    special.J1: tf.math.special.bessel_j1,
    scalar.Abs: _abs,
    scalar.Mul: _variadic(_bool_or(math.multiply, math.logical_and)),
    MulWithoutZeros: _mul_without_zeros,
    scalar.TrueDiv: math.divide,
    scalar.Mod: _mod,
    scalar.Pow: _pow,
    scalar.Inv: math.reciprocal,
    scalar.Log: math.log,
    scalar.Log2: lambda x: math.log(x) / np.log(2),
    scalar.Log10: lambda x: math.log(x) / np.log(10),
    scalar.Log1p: math.log1p,
    scalar.Exp: math.exp,
    scalar.Exp2: lambda x: math.pow(tf.constant(2, x.dtype), x),
    scalar.Expm1: math.expm1,
    scalar.Sqr: _square,
    scalar.Sqrt: math.sqrt,
    scalar.ArcCos: math.acos,
    scalar.ArcSin: math.asin,
    scalar.Tan: math.tan,
    scalar.ArcTan2: math.atan2,
    scalar.Cosh: math.cosh,
    scalar.ArcCosh: math.acosh,
    scalar.Sinh: math.sinh,
    scalar.ArcTanh: math.atanh,
    XlogX: lambda x: math.xlogy(x, x),
    XlogY0: math.xlogy,
    special.Erfcx: functions.erfcx,
    special.Erfinv: math.erfinv,
    special.Erfcinv: math.erfcinv,
    special.Gamma: functions.gamma,
    special.GammaLn: math.lgamma,
    special.Psi: functions.digamma,
    special.TriGamma: functions.trigamma,
    special.Chi2SF: lambda x, k: math.igammac(k / 2, x / 2),
    special.GammaInc: math.igamma,
    special.GammaIncC: math.igammac,
    special.GammaU: lambda k, x: math.igammac(k, x) * functions.gamma(k),
    special.GammaL: lambda k, x: math.igamma(k, x) * functions.gamma(k),
    special.I0: lambda x: math.bessel_i0e(x) * math.exp(math.abs(x)),
    special.I1: lambda x: math.bessel_i1e(x) * math.exp(math.abs(x)),
}.items():
    register_scalar(_op, _function, safe=False)


@tf_funcify.register(scalar.Cast)
def _cast(op: Op, node: Apply) -> Translation:
    source, target = node.inputs[0].dtype, node.outputs[0].dtype
    if target == "bool":
        return lambda x: tf.not_equal(x, tf.zeros([], source))
    return lambda x: cast(x, target)


@tf_funcify.register(scalar.Second)
def _second(op: Op, node: Apply) -> Translation:
    dtype = node.outputs[0].dtype

    def second(x: Value, y: Value) -> Value:
        shape = tf.broadcast_static_shape(tf.TensorShape(x.shape), tf.TensorShape(y.shape))
        if not shape.is_fully_defined():
            shape = tf.broadcast_dynamic_shape(tf.shape(x), tf.shape(y))
        return tf.broadcast_to(cast(y, dtype), shape)

    return second


@tf_funcify.register(scalar.Switch)
def _switch(op: Op, node: Apply) -> Translation:
    dtype = node.outputs[0].dtype
    return lambda c, x, y: tf.where(_as_bool(c), cast(x, dtype), cast(y, dtype))


def _as_bool(x: Value) -> Value:
    return x if x.dtype == bool or x.dtype == tf.bool else tf.not_equal(x, tf.zeros([], x.dtype))


for _op, _function in {
    scalar.LT: math.less,
    scalar.GT: math.greater,
    scalar.LE: math.less_equal,
    scalar.GE: math.greater_equal,
    scalar.EQ: math.equal,
    scalar.NEQ: math.not_equal,
}.items():

    @tf_funcify.register(_op)
    def _comparison(op: Op, node: Apply, function: Translation = _function) -> Translation:
        dtype = str(np.result_type(*[x.dtype for x in node.inputs]))
        if dtype == "bool" and function not in (math.equal, math.not_equal):
            dtype = "int8"
        return lambda x, y: function(cast(x, dtype), cast(y, dtype))


@tf_funcify.register(scalar.InRange)
def _in_range(op: Op, node: Apply) -> Translation:
    dtype = str(np.result_type(*[x.dtype for x in node.inputs]))
    above = math.greater if op.openlow else math.greater_equal
    below = math.less if op.openhi else math.less_equal

    def in_range(x: Value, low: Value, high: Value) -> Value:
        x, low, high = cast(x, dtype), cast(low, dtype), cast(high, dtype)
        return math.logical_and(above(x, low), below(x, high))

    return in_range


for _op, _function in {scalar.IsNan: math.is_nan, scalar.IsInf: math.is_inf}.items():

    @tf_funcify.register(_op)
    def _test(op: Op, node: Apply, function: Translation = _function) -> Translation:
        if not node.inputs[0].dtype.startswith("float"):
            return lambda x: tf.zeros(tf.shape(x), tf.bool)
        return function


@tf_funcify.register(scalar.Composite)
def _composite(op: Op, node: Apply) -> Translation:
    graph = op.fgraph

    def composite(*xs: Value) -> Value:
        values = dict(zip(graph.inputs, xs))
        for inner in graph.toposort():
            inputs = [
                values[x] if x in values else np.asarray(x.data, x.dtype) for x in inner.inputs
            ]
            values[inner.outputs[0]] = tf_funcify(inner.op, inner)(*inputs)
        outputs = [values[y] if y in values else np.asarray(y.data, y.dtype) for y in graph.outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    return composite
