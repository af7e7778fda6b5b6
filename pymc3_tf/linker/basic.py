"""Making, reshaping, joining and sorting tensors; views of them that change nothing."""

from __future__ import annotations

from typing import Any, Callable, List

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
from theano.tensor import basic, extra_ops, nlinalg
from theano.tensor.opt import Assert, MakeVector
from theano.tensor.sort import ArgSortOp, SortOp
from theano.tensor.type_other import MakeSlice

from pymc3_tf.linker.dispatch import as_sizes, cast, is_known, shape_of, tf_funcify
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
    def _identity(op: Any, node: Any) -> Callable[..., Any]:
        return lambda x: x


for _op in (ConsiderConstant, ZeroGrad, DisconnectedGrad, UndefinedGrad):

    @tf_funcify.register(_op)
    def _constant(op: Any, node: Any) -> Callable[..., Any]:
        return tf.stop_gradient


@tf_funcify.register(GradClip)
def _grad_clip(op: Any, node: Any) -> Callable[..., Any]:
    low, high = op.clip_lower_bound, op.clip_upper_bound
    return tf.custom_gradient(
        lambda x: (tf.identity(x), lambda upstream: tf.clip_by_value(upstream, low, high))
    )


@tf_funcify.register(GradScale)
def _grad_scale(op: Any, node: Any) -> Callable[..., Any]:
    scale = op.multiplier
    return tf.custom_gradient(lambda x: (tf.identity(x), lambda upstream: scale * upstream))


@tf_funcify.register(SpecifyShape)
def _specify_shape(op: Any, node: Any) -> Callable[..., Any]:
    def specify_shape(x: Any, shape: Any) -> Any:
        return tf.ensure_shape(x, as_sizes(shape, 0)) if is_known(shape) else x

    return specify_shape


@tf_funcify.register(Assert)
def _assert(op: Any, node: Any) -> Callable[..., Any]:
    def check(x: Any, *conditions: Any) -> Any:
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


def shape_value(x: Any) -> Any:
    """Return the shape as one value, known if TensorFlow knows it."""
    shape = shape_of(x)
    if all(is_known(n) for n in shape):
        return np.array(shape, "int64")
    return tf.stack([tf.cast(n, tf.int64) for n in shape])


@tf_funcify.register(Shape)
def _shape(op: Any, node: Any) -> Callable[..., Any]:
    return shape_value


@tf_funcify.register(Shape_i)
def _shape_i(op: Any, node: Any) -> Callable[..., Any]:
    def shape_i(x: Any) -> Any:
        n = shape_of(x)[op.i]
        return np.array(n, "int64") if is_known(n) else n

    return shape_i


@tf_funcify.register(MakeVector)
def _make_vector(op: Any, node: Any) -> Callable[..., Any]:
    return lambda *xs: stacked([tf.convert_to_tensor(cast(x, op.dtype)) for x in xs])


@tf_funcify.register(MakeSlice)
def _make_slice(op: Any, node: Any) -> Callable[..., Any]:
    return slice


@tf_funcify.register(basic.Reshape)
def _reshape(op: Any, node: Any) -> Callable[..., Any]:
    def reshape(x: Any, shape: Any) -> Any:
        return tf.reshape(x, as_sizes(shape, op.ndim) if op.ndim else [])

    return reshape


@tf_funcify.register(basic.Flatten)
def _flatten(op: Any, node: Any) -> Callable[..., Any]:
    kept = op.outdim - 1
    return lambda x: tf.reshape(x, as_sizes([*shape_of(x)[:kept], np.int64(-1)], op.outdim))


# -- new tensors ------------------------------------------------------------------------------


@tf_funcify.register(basic.Alloc)
@tf_funcify.register(extra_ops.BroadcastTo)
def _broadcast_to(op: Any, node: Any) -> Callable[..., Any]:
    return lambda x, *shape: tf.broadcast_to(x, as_sizes(shape, len(shape)))


@tf_funcify.register(basic.AllocEmpty)
def _alloc_empty(op: Any, node: Any) -> Callable[..., Any]:
    return lambda *shape: tf.zeros(as_sizes(shape, len(shape)), op.dtype)


@tf_funcify.register(basic.ARange)
def _arange(op: Any, node: Any) -> Callable[..., Any]:
    return lambda *limits: tf.range(*[cast(x, op.dtype) for x in limits])


def _diagonals(rows: Any, columns: Any) -> Any:
    """Return for each element of a matrix on which diagonal it lies, counted from the main one."""
    return tf.range(tf.cast(columns, tf.int64)) - tf.range(tf.cast(rows, tf.int64))[:, None]


@tf_funcify.register(basic.Eye)
def _eye(op: Any, node: Any) -> Callable[..., Any]:
    return lambda rows, columns, offset: tf.cast(
        tf.equal(_diagonals(rows, columns), cast(offset, "int64")), op.dtype
    )


@tf_funcify.register(basic.Tri)
def _tri(op: Any, node: Any) -> Callable[..., Any]:
    return lambda rows, columns, offset: tf.cast(
        _diagonals(rows, columns) <= cast(offset, "int64"), op.dtype
    )


# -- joining and splitting --------------------------------------------------------------------


def _required(x: Any, what: str) -> int:
    if not is_known(x):
        raise NotImplementedError(f"{what} has to be a constant to be translated to TensorFlow")
    return int(x)


@tf_funcify.register(basic.Join)
def _join(op: Any, node: Any) -> Callable[..., Any]:
    dtype = node.outputs[0].dtype

    def join(axis: Any, *xs: Any) -> Any:
        return tf.concat([cast(x, dtype) for x in xs], _required(axis, "the axis of a join"))

    return join


@tf_funcify.register(basic.Split)
def _split(op: Any, node: Any) -> Callable[..., Any]:
    def split(x: Any, axis: Any, sizes: Any) -> List[Any]:
        axis = _required(axis, "the axis of a split")
        return tf.split(x, as_sizes(sizes, op.len_splits), axis, num=op.len_splits)

    return split


@tf_funcify.register(extra_ops.RepeatOp)
def _repeat(op: Any, node: Any) -> Callable[..., Any]:
    return lambda x, repeats: tf.repeat(x, repeats, axis=op.axis)


# -- diagonals --------------------------------------------------------------------------------


@tf_funcify.register(basic.ExtractDiag)
def _extract_diag(op: Any, node: Any) -> Callable[..., Any]:
    rank = node.inputs[0].ndim
    axes = [op.axis1 % rank, op.axis2 % rank]
    order = [i for i in range(rank) if i not in axes] + axes
    return lambda x: tf.linalg.diag_part(tf.transpose(x, order), k=op.offset)


@tf_funcify.register(basic.AllocDiag)
def _alloc_diag(op: Any, node: Any) -> Callable[..., Any]:
    rank = node.outputs[0].ndim
    axes = [op.axis1 % rank, op.axis2 % rank]
    order = np.argsort([i for i in range(rank) if i not in axes] + axes).tolist()
    return lambda x: tf.transpose(tf.linalg.diag(x, k=op.offset), order)


@tf_funcify.register(nlinalg.AllocDiag)
def _alloc_diag_of_vector(op: Any, node: Any) -> Callable[..., Any]:
    return tf.linalg.diag


@tf_funcify.register(extra_ops.FillDiagonal)
def _fill_diagonal(op: Any, node: Any) -> Callable[..., Any]:
    def fill_diagonal(x: Any, value: Any) -> Any:
        shape = shape_of(x)
        diagonal = np.zeros(shape, bool)
        np.fill_diagonal(diagonal, True)
        return tf.where(diagonal, cast(value, node.outputs[0].dtype), x)

    return fill_diagonal


# -- sorting and accumulating -----------------------------------------------------------------


@tf_funcify.register(SortOp)
def _sort(op: Any, node: Any) -> Callable[..., Any]:
    return lambda x, axis: tf.sort(x, _required(axis, "the axis of a sort"))


@tf_funcify.register(ArgSortOp)
def _argsort(op: Any, node: Any) -> Callable[..., Any]:
    def argsort(x: Any, axis: Any) -> Any:
        axis = _required(axis, "the axis of a sort")
        return cast(tf.argsort(x, axis, stable=True), node.outputs[0].dtype)

    return argsort


@tf_funcify.register(extra_ops.SearchsortedOp)
def _searchsorted(op: Any, node: Any) -> Callable[..., Any]:
    dtype = str(np.result_type(node.inputs[0].dtype, node.inputs[1].dtype))

    def searchsorted(x: Any, values: Any, sorter: Any = None) -> Any:
        if sorter is not None:
            x = tf.gather(x, sorter)
        flat = tf.reshape(cast(values, dtype), [-1])
        found = tf.searchsorted(cast(x, dtype), flat, side=op.side, out_type=tf.int64)
        return tf.reshape(found, tf.shape(values))

    return searchsorted


@tf_funcify.register(extra_ops.CumOp)
def _cumulate(op: Any, node: Any) -> Callable[..., Any]:
    function = tf.cumsum if op.mode == "add" else tf.math.cumprod
    if op.axis is None:
        return lambda x: function(tf.reshape(x, [-1]))
    return lambda x: function(x, op.axis)


@tf_funcify.register(extra_ops.DiffOp)
def _diff(op: Any, node: Any) -> Callable[..., Any]:
    rank = node.inputs[0].ndim
    axis = op.axis % rank

    def diff(x: Any) -> Any:
        for _ in range(op.n):
            after: List[Any] = [slice(None)] * rank
            before: List[Any] = [slice(None)] * rank
            after[axis], before[axis] = slice(1, None), slice(None, -1)
            x = x[tuple(after)] - x[tuple(before)]
        return x

    return diff


@tf_funcify.register(basic.Nonzero)
def _nonzero(op: Any, node: Any) -> Callable[..., Any]:
    return lambda x: tf.unstack(tf.where(tf.cast(x, tf.bool)), num=node.inputs[0].ndim, axis=1)
