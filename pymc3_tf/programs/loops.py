"""Loops and conditions, differentiated so that XLA can compile them.

XLA wants to know how long each list is that a loop keeps for its gradient. TensorFlow sees to that
where it traces a function for XLA, but gradients of programs are made before it is known what will
run them. What is done here serves both: XLA compiles it, and TensorFlow's own runtime takes it.
"""

from __future__ import annotations

import math
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Set

import numpy as np
import tensorflow as tf

from pymc3_tf.private_tensorflow import (
    branch_graphs,
    called_graph,
    loop_graphs,
    replace_input,
)

_WHILE = ("While", "StatelessWhile")
_NO_BOUND = -1


def bound_loops(outputs: Sequence[tf.Tensor]) -> None:
    """Give ``tf.while_loop`` without ``maximum_iterations`` the bound that its condition implies.

    A condition such as ``i < n``, by itself or among others that have to hold too, with a step that
    is a constant, ends the loop after so many iterations at the latest.

    Parameters
    ----------
    outputs : sequence of tf.Tensor
        Of a live graph. The loops on which they depend are changed in place; what they compute
        stays the same.
    """
    seen: Set[Any] = set()
    stack = [tensor.op for tensor in outputs]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack += [tensor.op for tensor in op.inputs]
        if op.type in _WHILE:
            _bound(op)
        for inner in _inner_graphs(op):
            stack += [tensor.op for tensor in inner.outputs]


def _inner_graphs(op: tf.Operation) -> List[tf.Graph]:
    if op.type in _WHILE:
        return [loop_graphs(op)[1]]
    if op.type in ("If", "StatelessIf", "Case", "StatelessCase"):
        return branch_graphs(op)
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        graph = called_graph(op)
        return [] if graph is None else [graph]
    return []


def _bound(op: tf.Operation) -> None:
    declared = tf.get_static_value(op.inputs[1])
    if declared is not None and declared != _NO_BOUND:
        return
    loop = _Loop(op)
    known = [bound for bound in map(loop.iterations, loop.comparisons()) if bound is not None]
    if known:
        # A number rather than a tensor, of which XLA would have to find out that it is constant.
        bound = min(known, key=lambda b: b if isinstance(b, int) else math.inf)
        if declared is not None or isinstance(bound, int):
            with op.graph.as_default(), tf.control_dependencies(None):
                replace_input(op, 1, tf.cast(bound, tf.int32))


class _Comparison(NamedTuple):
    """The loop goes on while one loop variable is less (or greater) than a limit."""

    variable: int  # its position
    limit: Any  # a number, or the position of a loop variable
    ascending: bool
    inclusive: bool


_ORDER = {
    "Less": (True, False),
    "LessEqual": (True, True),
    "Greater": (False, False),
    "GreaterEqual": (False, True),
}


class _Loop:
    """A while loop of a live graph, with the graphs of its condition and its body."""

    def __init__(self, op: tf.Operation) -> None:
        self._op = op
        self._condition, self._body = loop_graphs(op)

    def comparisons(self) -> Iterator[_Comparison]:
        """Yield the comparisons that all have to hold for the loop to go on."""
        stack = [self._condition.outputs[0]]
        positions = {tensor.ref(): i for i, tensor in enumerate(self._condition.inputs)}
        while stack:
            tensor = _source(stack.pop())
            stack += _conjuncts(tensor)
            if tensor.op.type not in _ORDER:
                continue
            ascending, inclusive = _ORDER[tensor.op.type]
            left, right = map(_source, tensor.op.inputs)
            for variable, limit, up in ((left, right, ascending), (right, left, not ascending)):
                number = tf.get_static_value(limit)
                limit = positions.get(limit.ref()) if number is None else np.asarray(number)
                if variable.ref() in positions and limit is not None:
                    yield _Comparison(positions[variable.ref()], limit, up, inclusive)

    def iterations(self, comparison: _Comparison) -> Any:
        """Return after how many iterations a comparison fails: an int, a tensor, or None."""
        start, step = self._op.inputs[comparison.variable], self._step(comparison.variable)
        limit = comparison.limit
        if isinstance(limit, int):
            limit = self._op.inputs[limit] if self._stays(limit) else None
        if step is None or limit is None or (step > 0) != comparison.ascending:
            return None
        if start.shape.rank != 0 or len(limit.shape):
            return None
        # One more where it may be equal, and for what floating numbers round.
        more = int(comparison.inclusive or not start.dtype.is_integer)
        end = limit if isinstance(limit, np.ndarray) else tf.get_static_value(limit)
        begin = tf.get_static_value(start)
        if begin is not None and end is not None:
            number = math.ceil((float(end) - float(begin)) / step)
            return max(number + more, 0) if number < 2**31 - 1 else None
        with self._op.graph.as_default(), tf.control_dependencies(None):
            distance = tf.cast(limit, tf.float64) - tf.cast(start, tf.float64)
            return tf.maximum(tf.cast(tf.math.ceil(distance / step), tf.int32) + more, 0)

    def _stays(self, variable: int) -> bool:
        """Whether a loop variable keeps its value."""
        return _source(self._body.outputs[variable]) is self._body.inputs[variable]

    def _step(self, variable: int) -> Optional[float]:
        """Return by how much a loop variable grows in each iteration, if that is a constant."""
        result = _source(self._body.outputs[variable])
        if result.op.type not in ("Add", "AddV2", "Sub"):
            return None
        left, right = map(_source, result.op.inputs)
        if result.op.type != "Sub" and right is self._body.inputs[variable]:
            left, right = right, left
        number = tf.get_static_value(right)
        for i, tensor in enumerate(self._body.inputs):
            if right is tensor and self._stays(i):
                number = tf.get_static_value(self._op.inputs[i])
        if left is not self._body.inputs[variable] or number is None or np.ndim(number):
            return None
        return float(-number if result.op.type == "Sub" else number) or None


def _conjuncts(tensor: tf.Tensor) -> List[tf.Tensor]:
    """Return the conditions that have to hold for a condition to hold, as far as they are seen."""
    op = tensor.op
    if op.type == "LogicalAnd":
        return list(op.inputs)
    if op.type in ("All", "Squeeze", "Reshape"):
        return [op.inputs[0]]
    if op.type in ("If", "StatelessIf"):
        # AutoGraph's `and`: if the first does not hold, the result is the first.
        _, otherwise = branch_graphs(op)
        result = _source(otherwise.outputs[tensor.value_index])
        inputs = zip(otherwise.inputs, op.inputs[1:])
        is_first = any(result is x and _source(y) is _source(op.inputs[0]) for x, y in inputs)
        if is_first or tf.get_static_value(result) is False:
            return [op.inputs[0]]
    return []


def _source(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor
