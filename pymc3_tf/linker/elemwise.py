"""Elementwise ops, reductions, and the reordering of dimensions."""

from __future__ import annotations

from typing import List

import numpy as np
import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.scalar import basic as scalar
from theano.tensor.basic import Argmax, MaxAndArgmax, Mean
from theano.tensor.elemwise import CAReduce, DimShuffle, Elemwise, MulWithoutZeros

from pymc3_tf.linker.dispatch import Translation, Value, cast, shape_of, tf_funcify


@tf_funcify.register(Elemwise)
def _elemwise(op: Op, node: Apply) -> Translation:
    return tf_funcify(op.scalar_op, node)


@tf_funcify.register(DimShuffle)
def _dimshuffle(op: Op, node: Apply) -> Translation:
    kept = [i for i in op.new_order if i != "x"]

    def dimshuffle(x: Value) -> Value:
        shape = shape_of(x)
        order = kept + [i for i in range(len(shape)) if i not in kept]
        moved = x if order == sorted(order) else tf.transpose(x, order)
        new_shape = [1 if i == "x" else shape[i] for i in op.new_order]
        if len(new_shape) == len(shape) and "x" not in op.new_order:
            return moved
        return tf.reshape(moved, new_shape)

    return dimshuffle


def _axes(op: Op, node: Apply) -> List[int]:
    axis = op.axis
    if axis is None:
        return list(range(node.inputs[0].ndim))
    return [int(i) for i in np.atleast_1d(axis)]


def _extreme(reduce: Translation) -> Translation:
    """Give no element the gradient if none is the extreme, because that is NaN."""

    def extreme(x: Value, axes: List[int]) -> Value:
        @tf.custom_gradient
        def with_gradient(x: Value) -> Value:
            y = reduce(x, axes, keepdims=True)

            def gradient(upstream: Value) -> Value:
                chosen = tf.cast(tf.equal(x, y), x.dtype)
                share = tf.math.divide_no_nan(chosen, tf.reduce_sum(chosen, axes, keepdims=True))
                return share * tf.reshape(upstream, tf.shape(y))

            return tf.squeeze(y, axes), gradient

        return with_gradient(tf.convert_to_tensor(x))

    return extreme


_maximum, _minimum = _extreme(tf.reduce_max), _extreme(tf.reduce_min)
_REDUCTIONS = {
    scalar.Add: tf.reduce_sum,
    scalar.Mul: tf.reduce_prod,
    scalar.ScalarMaximum: _maximum,
    scalar.ScalarMinimum: _minimum,
    scalar.AND: tf.reduce_all,
    scalar.OR: tf.reduce_any,
    MulWithoutZeros: lambda x, axes: tf.reduce_prod(
        tf.where(tf.equal(x, 0), tf.ones_like(x), x), axes
    ),
}


@tf_funcify.register(CAReduce)
def _reduce(op: Op, node: Apply) -> Translation:
    axes, dtype = _axes(op, node), node.outputs[0].dtype
    kind = type(op.scalar_op)
    # Sums of small numbers are accumulated in a larger type, if Theano does.
    wide = getattr(op, "acc_dtype", None) or dtype
    if kind in (scalar.AND, scalar.OR):
        if node.inputs[0].dtype != "bool":
            raise NotImplementedError(f"{op} is translated for booleans only")
        wide = "bool"
    reduce = _REDUCTIONS[kind]
    return lambda x: cast(reduce(cast(x, wide), axes), dtype)


@tf_funcify.register(Mean)
def _mean(op: Op, node: Apply) -> Translation:
    axes, dtype = _axes(op, node), node.outputs[0].dtype
    return lambda x: tf.reduce_mean(cast(x, dtype), axes)


def _argmax(x: Value, axes: List[int]) -> Value:
    shape = shape_of(x)
    kept = [i for i in range(len(shape)) if i not in axes]
    moved = tf.transpose(x, kept + axes)
    flat = tf.reshape(moved, [*(shape[i] for i in kept), -1])
    return tf.argmax(flat, axis=-1, output_type=tf.int64)


@tf_funcify.register(Argmax)
def _argmax_op(op: Op, node: Apply) -> Translation:
    return lambda x: _argmax(x, _axes(op, node))


@tf_funcify.register(MaxAndArgmax)
def _max_and_argmax(op: Op, node: Apply) -> Translation:
    axes = _axes(op, node)
    return lambda x: [_maximum(x, axes), _argmax(x, axes)]
