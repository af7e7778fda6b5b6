"""Making, reshaping, joining and sorting tensors; views of them that change nothing."""

from __future__ import annotations

from typing import List

import numpy as np
import tensorflow as tf
from theano.compile.ops import DeepCopyOp, Rebroadcast, Shape, Shape_i, SpecifyShape, ViewOp
from theano.gradient import (
    ConsiderConstant,
    DisconnectedGrad,
    GradClip,
    GradScale,
    UndefinedGrad,
    ZeroGrad,
)
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.tensor import basic, extra_ops, nlinalg
from theano.tensor.opt import Assert, MakeVector
from theano.tensor.sort import ArgSortOp, SortOp
from theano.tensor.type_other import MakeSlice

from pymc3_tf.linker.dispatch import (
    Translation,
    Value,
    as_sizes,
    cast,
    is_known,
    shape_of,
    tf_funcify,
)
from pymc3_tf.linker.scalars import stacked

# -- views ------------------------------------------------------------------------------------

for _op in (
    ViewOp,
    DeepCopyOp,
    Rebroadcast,
    basic.TensorFromScalar,
    basic.ScalarFromTensor,
    extra_ops.CpuContiguous,
):

    @tf_funcify.register(_op)
    def _identity(op: Op, node: Apply) -> Translation:
        return lambda x: x


for _op in (ConsiderConstant, ZeroGrad, DisconnectedGrad, UndefinedGrad):

    @tf_funcify.register(_op)
    def _constant(op: Op, node: Apply) -> Translation:
        return tf.stop_gradient


@tf_funcify.register(GradClip)
def _grad_clip(op: Op, node: Apply) -> Translation:
    low, high = op.clip_lower_bound, op.clip_upper_bound
    return tf.custom_gradient(
        lambda x: (tf.identity(x), lambda upstream: tf.clip_by_value(upstream, low, high))
    )


@tf_funcify.register(GradScale)
def _grad_scale(op: Op, node: Apply) -> Translation:
    scale = op.multiplier
    return tf.custom_gradient(lambda x: (tf.identity(x), lambda upstream: scale * upstream))


@tf_funcify.register(SpecifyShape)
def _specify_shape(op: Op, node: Apply) -> Translation:
    def specify_shape(x: Value, shape: Value) -> Value:
        return tf.ensure_shape(x, as_sizes(shape, 0)) if is_known(shape) else x

    return specify_shape


@tf_funcify.register(Assert)
def _assert(op: Op, node: Apply) -> Translation:
    def check(x: Value, *conditions: Value) -> Value:
        if any(is_known(c) and not np.all(c) for c in conditions):
            raise AssertionError(op.msg)
        checks = [
            tf.debugging.Assert(tf.reduce_all(tf.cast(c, tf.bool)), [op.msg])
            for c in conditions
            if not is_known(c)
        ]
        with tf.control_dependencies([c for c in checks if c is not None]):
            return tf.identity(x)

    return check


# -- shapes -----------------------------------------------------------------------------------


def shape_value(x: Value) -> Value:
    """Return the shape as one value, known if TensorFlow knows it."""
    shape = shape_of(x)
    if all(is_known(n) for n in shape):
        return np.array(shape, "int64")
    return tf.stack([tf.cast(n, tf.int64) for n in shape])


@tf_funcify.register(Shape)
def _shape(op: Op, node: Apply) -> Translation:
    return shape_value


@tf_funcify.register(Shape_i)
def _shape_i(op: Op, node: Apply) -> Translation:
    def shape_i(x: Value) -> Value:
        n = shape_of(x)[op.i]
        return np.array(n, "int64") if is_known(n) else n

    return shape_i


@tf_funcify.register(MakeVector)
def _make_vector(op: Op, node: Apply) -> Translation:
    return lambda *xs: stacked([tf.convert_to_tensor(cast(x, op.dtype)) for x in xs])


@tf_funcify.register(MakeSlice)
def _make_slice(op: Op, node: Apply) -> Translation:
    return slice


@tf_funcify.register(basic.Reshape)
def _reshape(op: Op, node: Apply) -> Translation:
    def reshape(x: Value, shape: Value) -> Value:
        return tf.reshape(x, as_sizes(shape, op.ndim) if op.ndim else [])

    return reshape


@tf_funcify.register(basic.Flatten)
def _flatten(op: Op, node: Apply) -> Translation:
    kept = op.outdim - 1
    return lambda x: tf.reshape(x, as_sizes([*shape_of(x)[:kept], np.int64(-1)], op.outdim))


# -- new tensors ------------------------------------------------------------------------------


@tf_funcify.register(basic.Alloc)
@tf_funcify.register(extra_ops.BroadcastTo)
def _broadcast_to(op: Op, node: Apply) -> Translation:
    return lambda x, *shape: tf.broadcast_to(x, as_sizes(shape, len(shape)))


@tf_funcify.register(basic.AllocEmpty)
def _alloc_empty(op: Op, node: Apply) -> Translation:
    return lambda *shape: tf.zeros(as_sizes(shape, len(shape)), op.dtype)


@tf_funcify.register(basic.ARange)
def _arange(op: Op, node: Apply) -> Translation:
    return lambda *limits: tf.range(*[cast(x, op.dtype) for x in limits])


def _diagonals(rows: Value, columns: Value) -> Value:
    """Return for each element of a matrix on which diagonal it lies, counted from the main one."""
    return tf.range(tf.cast(columns, tf.int64)) - tf.range(tf.cast(rows, tf.int64))[:, None]


@tf_funcify.register(basic.Eye)
def _eye(op: Op, node: Apply) -> Translation:
    return lambda rows, columns, offset: tf.cast(
        tf.equal(_diagonals(rows, columns), cast(offset, "int64")), op.dtype
    )


@tf_funcify.register(basic.Tri)
def _tri(op: Op, node: Apply) -> Translation:
    return lambda rows, columns, offset: tf.cast(
        _diagonals(rows, columns) <= cast(offset, "int64"), op.dtype
    )


# -- joining and splitting --------------------------------------------------------------------


def _required(x: Value, what: str) -> int:
    if not is_known(x):
        raise NotImplementedError(f"{what} has to be a constant to be translated to TensorFlow")
    return int(x)


@tf_funcify.register(basic.Join)
def _join(op: Op, node: Apply) -> Translation:
    dtype = node.outputs[0].dtype

    def join(axis: Value, *xs: Value) -> Value:
        return tf.concat([cast(x, dtype) for x in xs], _required(axis, "the axis of a join"))

    return join


@tf_funcify.register(basic.Split)
def _split(op: Op, node: Apply) -> Translation:
    def split(x: Value, axis: Value, sizes: Value) -> List[Value]:
        axis = _required(axis, "the axis of a split")
        return tf.split(x, as_sizes(sizes, op.len_splits), axis, num=op.len_splits)

    return split


@tf_funcify.register(extra_ops.RepeatOp)
def _repeat(op: Op, node: Apply) -> Translation:
    return lambda x, repeats: tf.repeat(x, repeats, axis=op.axis)


# -- diagonals --------------------------------------------------------------------------------


@tf_funcify.register(basic.ExtractDiag)
def _extract_diag(op: Op, node: Apply) -> Translation:
    rank = node.inputs[0].ndim
    axes = [op.axis1 % rank, op.axis2 % rank]
    order = [i for i in range(rank) if i not in axes] + axes
    return lambda x: tf.linalg.diag_part(tf.transpose(x, order), k=op.offset)


@tf_funcify.register(basic.AllocDiag)
def _alloc_diag(op: Op, node: Apply) -> Translation:
    rank = node.outputs[0].ndim
    axes = [op.axis1 % rank, op.axis2 % rank]
    order = np.argsort([i for i in range(rank) if i not in axes] + axes).tolist()
    return lambda x: tf.transpose(tf.linalg.diag(x, k=op.offset), order)


@tf_funcify.register(nlinalg.AllocDiag)
def _alloc_diag_of_vector(op: Op, node: Apply) -> Translation:
    return tf.linalg.diag


@tf_funcify.register(extra_ops.FillDiagonal)
def _fill_diagonal(op: Op, node: Apply) -> Translation:
    def fill_diagonal(x: Value, value: Value) -> Value:
        shape = shape_of(x)
        diagonal = np.zeros(shape, bool)
        np.fill_diagonal(diagonal, True)
        return tf.where(diagonal, cast(value, node.outputs[0].dtype), x)

    return fill_diagonal


# -- sorting and accumulating -----------------------------------------------------------------


@tf_funcify.register(SortOp)
def _sort(op: Op, node: Apply) -> Translation:
    return lambda x, axis: tf.sort(x, _required(axis, "the axis of a sort"))


@tf_funcify.register(ArgSortOp)
def _argsort(op: Op, node: Apply) -> Translation:
    def argsort(x: Value, axis: Value) -> Value:
        axis = _required(axis, "the axis of a sort")
        return cast(tf.argsort(x, axis, stable=True), node.outputs[0].dtype)

    return argsort


@tf_funcify.register(extra_ops.SearchsortedOp)
def _searchsorted(op: Op, node: Apply) -> Translation:
    dtype = str(np.result_type(node.inputs[0].dtype, node.inputs[1].dtype))

    def searchsorted(x: Value, values: Value, sorter: Value = None) -> Value:
        if sorter is not None:
            x = tf.gather(x, sorter)
        flat = tf.reshape(cast(values, dtype), [-1])
        found = tf.searchsorted(cast(x, dtype), flat, side=op.side, out_type=tf.int64)
        return tf.reshape(found, tf.shape(values))

    return searchsorted


@tf_funcify.register(extra_ops.CumOp)
def _cumulate(op: Op, node: Apply) -> Translation:
    function = tf.cumsum if op.mode == "add" else tf.math.cumprod
    if op.axis is None:
        return lambda x: function(tf.reshape(x, [-1]))
    return lambda x: function(x, op.axis)


@tf_funcify.register(extra_ops.DiffOp)
def _diff(op: Op, node: Apply) -> Translation:
    rank = node.inputs[0].ndim
    axis = op.axis % rank

    def diff(x: Value) -> Value:
        for _ in range(op.n):
            after: List[Value] = [slice(None)] * rank
            before: List[Value] = [slice(None)] * rank
            after[axis], before[axis] = slice(1, None), slice(None, -1)
            x = x[tuple(after)] - x[tuple(before)]
        return x

    return diff


@tf_funcify.register(basic.Nonzero)
def _nonzero(op: Op, node: Apply) -> Translation:
    return lambda x: tf.unstack(tf.where(tf.cast(x, tf.bool)), num=node.inputs[0].ndim, axis=1)
