"""What TensorFlow's own ops check of their inputs, as functions of these inputs."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

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


def _is_item(x: tf.Tensor, begin: tf.Tensor, axes: Dict[int, int]) -> tf.Tensor:
    """Whether the entries of ``begin`` are indices of axes, which may count from the end."""
    index = tf.gather(begin, list(axes))
    size = tf.gather(tf.shape(x, begin.dtype), list(axes.values()))
    return _all((index >= -size) & (index < size))


def _item_axes(node: NodeDef) -> Dict[int, int]:
    """Which axis each index of a slice is one of, without those behind an ellipsis."""
    bits = {name: node.attr[f"{name}_mask"].i for name in ("shrink_axis", "new_axis", "ellipsis")}
    axes: Dict[int, int] = {}
    axis, i = 0, 0
    while bits["shrink_axis"] >> i and not bits["ellipsis"] >> i & 1:
        if bits["shrink_axis"] >> i & 1 and not bits["new_axis"] >> i & 1:
            axes[i] = axis
        axis += not bits["new_axis"] >> i & 1
        i += 1
    return axes


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
        axes = _item_axes(node)
        return Check((1,), lambda x, begin, *_: _is_item(x, begin, axes)) if axes else None
    check = CHECKS.get(node.op)
    if check and check.of_integers and not tf.as_dtype(node.attr["T"].type).is_integer:
        return None
    return check


def dtypes(node: NodeDef) -> List[tf.DType]:
    """Return the dtypes of the inputs of an op without lists."""
    arguments = op_definition(node.op).input_arg
    return [tf.as_dtype(arg.type or node.attr[arg.type_attr].type) for arg in arguments]
