"""Indexing, and setting or incrementing the selected elements.

If TensorFlow's own slices and gathers are not enough, an index (basic or advanced) becomes the
positions of the selected elements in the flattened tensor.
"""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np
import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedIncSubtensor1,
    AdvancedSubtensor,
    AdvancedSubtensor1,
    IncSubtensor,
    Subtensor,
    get_idx_list,
)

from pymc3_tf.linker.dispatch import (
    Size,
    Translation,
    Value,
    as_sizes,
    cast,
    is_known,
    shape_of,
    tf_funcify,
)

# Of an index: a value, a slice of values, or None where it takes all.
Entry = Any


def _parts(entry: Entry) -> List[Value]:
    return [entry.start, entry.stop, entry.step] if isinstance(entry, slice) else [entry]


def _all_known(index: Sequence[Entry]) -> bool:
    return all(is_known(part) for entry in index for part in _parts(entry))


def _python(entry: Entry) -> Value:
    """Return a known slice or scalar as Python's own."""
    if isinstance(entry, slice):
        return slice(*[None if part is None else int(part) for part in _parts(entry)])
    return int(entry)


def _wrap(index: Value, length: Size) -> Value:
    """Return an index with negative entries counted from the end."""
    if is_known(index) and is_known(length):
        index = np.asarray(index, "int64")
        if np.any(index >= length) or np.any(index < -length):
            raise IndexError(f"index out of bounds for an axis of length {length}")
        return np.where(index < 0, index + length, index)
    index = cast(index, "int64")
    return tf.where(index < 0, index + cast(length, "int64"), index)


def _bounded(index: Value, length: Size, shape: Sequence[Size]) -> Value:
    """Return an index that is out of bounds of the whole tensor if it is so in its dimension.

    In the flattened tensor it could select another element, and segment sums drop negative ones.
    """
    if is_known(index) and is_known(length):
        return index
    size: Size = 1
    for n in shape:
        size = size * n
    inside = (index >= 0) & (index < cast(length, "int64"))
    return tf.where(inside, index, cast(size, "int64"))


def positions(shape: Sequence[Value], index: Sequence[Entry]) -> Value:
    """Return where the selected elements are in the flattened tensor.

    Parameters
    ----------
    shape : sequence of int or tensor
        The shape of the tensor.
    index : sequence
        Slices, None, integers and arrays of integers, known or tensors, and known masks.

    Returns
    -------
    array or tensor of int64
        Of the shape of the selection.
    """
    if _all_known(index) and all(is_known(n) for n in shape):
        numbers = np.arange(int(np.prod(shape, dtype="int64"))).reshape(shape)
        exact = [_python(i) if isinstance(i, slice) else i for i in index]
        return numbers[tuple(exact)]
    entries: List[Value] = []
    for entry in index:
        if entry is None or isinstance(entry, slice):
            entries.append(entry)
        elif entry.dtype in (bool, tf.bool):
            if not is_known(entry):
                raise NotImplementedError(
                    "a mask that is computed by the model selects a number of elements that XLA "
                    "cannot know. Use a constant mask, or theano.tensor.switch."
                )
            entries.extend(np.nonzero(entry))
        else:
            entries.append(entry)
    used = sum(entry is not None for entry in entries)
    entries += [slice(None)] * (len(shape) - used)

    arrays = [i for i, e in enumerate(entries) if e is not None and not isinstance(e, slice)]
    rank = max([len(entries[i].shape) for i in arrays], default=0)
    # NumPy puts the dimensions of arrays first if other entries stand between them.
    adjacent = bool(arrays) and arrays == list(range(arrays[0], arrays[-1] + 1))
    place = sum(i not in arrays for i in range(arrays[0])) if adjacent else 0
    others = [i for i in range(len(entries)) if i not in arrays]
    total = rank + len(others)

    strides: List[Value] = [1]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    dimension = 0
    result: Value = np.zeros([1] * total, "int64")
    for i, entry in enumerate(entries):
        if entry is None:
            continue
        length, stride = shape[dimension], strides[dimension]
        dimension += 1
        if i in arrays:
            local = _bounded(_wrap(entry, length), length, shape)
            axes = [place + rank - len(local.shape) + k for k in range(len(local.shape))]
        else:
            local = _range(entry, length)
            k = others.index(i)
            axes = [k if k < place else k + rank]
        sizes = [1] * total
        for axis, n in zip(axes, shape_of(local)):
            sizes[axis] = n
        spread = tf.reshape(cast(local, "int64"), as_sizes(sizes, total))
        result = result + spread * cast(stride, "int64")
    return result


def _range(entry: Entry, length: Size) -> Value:
    if is_known(length) and _all_known([entry]):
        return np.arange(length)[_python(entry)]
    return tf.range(cast(length, "int64"))[entry]


def _select(x: Value, index: Sequence[Entry]) -> Value:
    return tf.gather(tf.reshape(x, [-1]), positions(shape_of(x), index))


def _scatter(x: Value, index: Sequence[Entry], y: Value, replace: bool) -> Value:
    """Return x with the selected elements replaced or incremented."""
    where = positions(shape_of(x), index)
    y = tf.reshape(tf.broadcast_to(cast(y, x.dtype), _sizes(where)), [-1])
    flat = tf.reshape(x, [-1])
    where = where.reshape(-1) if is_known(where) else tf.reshape(where, [-1])
    return tf.reshape(_scatter_rows(flat, where, y, replace), tf.shape(x))


def _sizes(where: Value) -> Value:
    """Return the shape as what TensorFlow takes as a shape."""
    shape = shape_of(where)
    return as_sizes(shape, len(shape)) if shape else []


def _scatter_rows(x: Value, rows: Value, y: Value, replace: bool) -> Value:
    if not replace:
        # Not by tensor_scatter_nd_add, which TensorFlow's vectorized_map does not know.
        return x + tf.math.unsorted_segment_sum(y, rows, shape_of(x)[0])
    if is_known(rows) and len(np.unique(rows)) < len(rows):
        # The last of several values for one place counts.
        _, last = np.unique(rows[::-1], return_index=True)
        kept = len(rows) - 1 - last
        rows, y = rows[kept], tf.gather(y, kept)
    # It takes no larger index either.
    return tf.tensor_scatter_nd_update(x, cast(rows, "int32")[:, None], y)


@tf_funcify.register(Subtensor)
def _subtensor(op: Op, node: Apply) -> Translation:
    def subtensor(x: Value, *parts: Value) -> Value:
        index = get_idx_list((x, *parts), op.idx_list)
        if _all_known(index):
            index = [_python(entry) for entry in index]
            for entry, n in zip(index, shape_of(x)):
                if isinstance(entry, int) and is_known(n):
                    _wrap(entry, n)
            return tf.convert_to_tensor(x)[tuple(index)]
        if len(index) == 1 and not isinstance(index[0], slice):
            return tf.gather(x, _wrap(index[0], shape_of(x)[0]))
        return _select(x, index)

    return subtensor


@tf_funcify.register(AdvancedSubtensor1)
def _rows(op: Op, node: Apply) -> Translation:
    return lambda x, rows: tf.gather(x, _wrap(rows, shape_of(x)[0]))


@tf_funcify.register(AdvancedSubtensor)
def _advanced_subtensor(op: Op, node: Apply) -> Translation:
    return lambda x, *index: _select(x, index)


@tf_funcify.register(IncSubtensor)
def _inc_subtensor(op: Op, node: Apply) -> Translation:
    def inc_subtensor(x: Value, y: Value, *parts: Value) -> Value:
        index = get_idx_list((x, *parts), op.idx_list)
        return _scatter(tf.convert_to_tensor(x), index, y, op.set_instead_of_inc)

    return inc_subtensor


@tf_funcify.register(AdvancedIncSubtensor1)
def _inc_rows(op: Op, node: Apply) -> Translation:
    def inc_rows(x: Value, y: Value, rows: Value) -> Value:
        x = tf.convert_to_tensor(x)
        shape = shape_of(x)
        rows = _bounded(_wrap(rows, shape[0]), shape[0], shape[:1])
        sizes = [*shape_of(rows), *shape[1:]]
        y = tf.broadcast_to(cast(y, x.dtype), as_sizes(sizes, len(sizes)))
        return _scatter_rows(x, rows, y, op.set_instead_of_inc)

    return inc_rows


@tf_funcify.register(AdvancedIncSubtensor)
def _advanced_inc_subtensor(op: Op, node: Apply) -> Translation:
    return lambda x, y, *index: _scatter(tf.convert_to_tensor(x), index, y, op.set_instead_of_inc)
