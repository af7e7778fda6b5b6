"""What TensorFlow's own ops check of their inputs, as functions of these inputs."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.compat.v1 import NodeDef

from pymc3_tf.private_tensorflow import op_definition


def _all(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.reshape(x, [-1]), 0)  # of any rank, which is not known here


def _are_in_range(indices: tf.Tensor, bounds: tf.Tensor) -> tf.Tensor:
    return _all((indices >= 0) & (indices < tf.cast(bounds, indices.dtype)))


def _are_rows(indices: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Whether vectors of indices point into an array with a shape."""
    return _are_in_range(indices, shape[: tf.shape(indices)[-1]])


def _is_part(x: tf.Tensor, begin: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    end, shape = begin + tf.maximum(size, 0), tf.shape(x, begin.dtype)
    return _all((begin >= 0) & (end <= shape))


class _Items(NamedTuple):
    """The entries of a slice that are indices, and the axis of each."""

    axes: Dict[int, int]
    # Behind an ellipsis: an axis if there were as many as entries.
    last_axes: Dict[int, int]

    def are_there(self, x: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
        """Whether they point into an array. They may count from the end."""
        axes, last_axes = (np.array([*each.values()], np.int32) for each in self)
        axes = tf.concat([axes, last_axes + tf.rank(x) - tf.size(begin)], 0)
        index = tf.gather(begin, [*self.axes, *self.last_axes])
        size = tf.gather(tf.shape(x, begin.dtype), axes)
        return _all((index >= -size) & (index < size))


def _items(node: NodeDef) -> Optional[_Items]:
    """Return which entries of a slice are indices, if any are."""
    masks = {name: node.attr[f"{name}_mask"].i for name in ("shrink_axis", "new_axis", "ellipsis")}
    items, axis = _Items({}, {}), 0
    here = items.axes
    for i in range(masks["shrink_axis"].bit_length()):
        is_new, is_ellipsis = masks["new_axis"] >> i & 1, masks["ellipsis"] >> i & 1
        if is_ellipsis:
            new = bin(masks["new_axis"] >> i).count("1")
            here, axis = items.last_axes, i + new
        elif masks["shrink_axis"] >> i & 1 and not is_new:
            here[i] = axis
        axis += not is_new
    return items if items.axes or items.last_axes else None


class Check(NamedTuple):
    """How to see whether an op can be computed.

    Parameters
    ----------
    inputs : tuple of int
        Positions of those on which it depends, besides shapes.
    holds : callable
        Takes all inputs.
    of_integers : bool
        Whether other numbers need none.
    """

    inputs: Tuple[int, ...]
    holds: Callable[..., tf.Tensor]
    of_integers: bool = False


_FINITE = Check((0,), lambda x: _all(tf.math.is_finite(x)))
_DIVISION = Check((1,), lambda x, y: _all(tf.not_equal(y, 0)), of_integers=True)
_SCATTER = Check((1,), lambda x, indices, updates: _are_rows(indices, tf.shape(x)))
_SEGMENTS = Check((1,), lambda x, ids, n: _all(ids < tf.cast(n, ids.dtype)))
# Without StridedSlice, where it depends on what is sliced.
CHECKS: Dict[str, Check] = {
    "CheckNumerics": _FINITE,
    "CheckNumericsV2": _FINITE,
    "Gather": Check((1,), lambda x, indices: _are_in_range(indices, tf.shape(x)[0])),
    "GatherV2": Check((1,), lambda x, indices, axis: _are_in_range(indices, tf.shape(x)[axis])),
    "GatherNd": Check((1,), lambda x, indices: _are_rows(indices, tf.shape(x))),
    "Slice": Check((1,), _is_part),
    "ScatterNd": Check((0,), lambda indices, updates, shape: _are_rows(indices, shape)),
    "TensorListGetItem": Check(
        (1,), lambda x, i, shape: _are_in_range(i, tf.raw_ops.TensorListLength(input_handle=x))
    ),
    "Pow": Check((1,), lambda x, y: _all(y >= 0), of_integers=True),
    **dict.fromkeys(("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterSub"), _SCATTER),
    **dict.fromkeys(("TensorScatterMax", "TensorScatterMin"), _SCATTER),
    **dict.fromkeys(
        (f"UnsortedSegment{kind}" for kind in ("Sum", "Prod", "Max", "Min")), _SEGMENTS
    ),
    **dict.fromkeys(
        ("Div", "FloorDiv", "TruncateDiv", "Mod", "FloorMod", "TruncateMod"), _DIVISION
    ),
}


def check_of(node: NodeDef) -> Optional[Check]:
    """Return what a node checks besides shapes; None if it is nothing."""
    if node.op == "StridedSlice":
        items = _items(node)
        return Check((1,), lambda x, begin, *_: items.are_there(x, begin)) if items else None
    check = CHECKS.get(node.op)
    if check and check.of_integers and not tf.as_dtype(node.attr["T"].type).is_integer:
        return None
    return check


def dtypes(node: NodeDef) -> List[tf.DType]:
    """Return the dtypes of the inputs of an op without lists."""
    arguments = op_definition(node.op).input_arg
    return [tf.as_dtype(arg.type or node.attr[arg.type_attr].type) for arg in arguments]
