"""Many scalar ops of one kind become one op on a vector.

A model can have hundreds of scalar variables. One op for each step of each prior makes a program
that TensorFlow builds, and XLA compiles, slowly.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from theano.graph.basic import Apply, Variable
from theano.scalar.basic import Pow, Switch
from theano.tensor.elemwise import Elemwise

from pymc3_tf.linker.dispatch import Value, is_known, tf_funcify

# Fewer ops than these stay as they are.
_MANY = 8

# What these become depends on numbers that are known.
_BY_VALUE = (Switch, Pow)


def levels(nodes: Sequence[Apply]) -> Iterator[List[Apply]]:
    """Yield the nodes of a graph, so that none needs another one of its own level.

    What is done alike to many variables comes together so.
    """
    depths: Dict[Variable, int] = {}
    found: Dict[int, List[Apply]] = {}
    for node in nodes:
        depth = 1 + max([depths.get(x, 0) for x in node.inputs], default=0)
        depths.update((y, depth) for y in node.outputs)
        found.setdefault(depth, []).append(node)
    for depth in sorted(found):
        yield found[depth]


def alike(nodes: Sequence[Apply], inputs: Dict[Apply, List[Value]]) -> Iterator[List[Apply]]:
    """Yield lists of the nodes that one op on vectors can compute, which others yield alone."""
    groups: Dict[Any, List[Apply]] = {}
    for node in nodes:
        groups.setdefault(_kind(node, inputs[node]), []).append(node)
    for kind, group in groups.items():
        if kind is not None and len(group) >= _MANY:
            # Neighbours in a vector that is there already need no new one.
            yield sorted(group, key=lambda node: _place(inputs[node]))
        else:
            yield from ([node] for node in group)


def apply_alike(nodes: Sequence[Apply], inputs: Dict[Apply, List[Value]]) -> List[Value]:
    """Evaluate nodes of one kind; return their values."""
    columns = [_column(values) for values in zip(*(inputs[node] for node in nodes))]
    vector = tf_funcify(nodes[0].op, nodes[0])(*columns)
    return tf.unstack(tf.broadcast_to(vector, [len(nodes)]), len(nodes))


def stacked(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return a vector of scalar tensors: where they come from one, of its parts."""
    runs: List[List[Any]] = []  # vector, first index, last index + 1
    for i, x in enumerate(tensors):
        vector, place = _origin(x)
        if runs and vector is not None and runs[-1][0] is vector and runs[-1][2] == place:
            runs[-1][2] += 1
        else:
            runs.append([vector, place, place + 1, i])
    if 2 * len(runs) > len(tensors):
        return tf.stack(tensors)
    parts = [
        tf.reshape(tensors[i], [1]) if vector is None else vector[start:stop]
        for vector, start, stop, i in runs
    ]
    if len(parts) == 1 and runs[0][0].shape == [len(tensors)]:
        return runs[0][0]
    return tf.concat(parts, 0)


def _kind(node: Apply, values: Sequence[Value]) -> Any:
    """Return what nodes that are computed alike have in common; None if there are none."""
    op = node.op
    if not isinstance(op, Elemwise) or len(node.outputs) > 1 or node.outputs[0].ndim:
        return None
    known = tuple([is_known(x) for x in values])
    if all(known):
        return None
    by_value = isinstance(op.scalar_op, _BY_VALUE)
    numbers = [np.asarray(x).tobytes() for x in values if is_known(x)] if by_value else []
    return op.scalar_op, tuple([x.dtype for x in node.inputs]), known, tuple(numbers)


def _column(values: Sequence[Value]) -> Value:
    if not is_known(values[0]):
        same = all(x is values[0] for x in values)
        return values[0] if same else stacked(values)
    array = np.stack(values)
    return array[0] if (array == array[0]).all() else array


def _origin(x: tf.Tensor) -> Tuple[Optional[tf.Tensor], int]:
    """Return the vector that a scalar was unstacked from, and its place there."""
    op = None if tf.executing_eagerly() or is_known(x) else x.op
    if op is None or op.type != "Unpack" or op.inputs[0].shape.rank != 1:
        return None, -1
    return op.inputs[0], x.value_index


def _place(values: Sequence[Value]) -> int:
    return next(place for place in (_origin(x)[1] for x in values if not is_known(x)))
