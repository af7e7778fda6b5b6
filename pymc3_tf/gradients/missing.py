"""Gaps: paths from an input to an output on which TensorFlow has no gradient, without an error.

``tf.gradients`` leaves such a path out, as if the output did not depend on the input there.
"""

from __future__ import annotations

import functools
import re
from typing import Any, FrozenSet, List, NamedTuple

import tensorflow as tf

from pymc3_tf.gradients.ways import NOWHERE, Body, Reach, Ways, dtypes_of, union
from pymc3_tf.private_tensorflow import gradient_function, op_definition
from pymc3_tf.programs.serialized import GraphDef, NodeDef

# Their outputs do not depend on the values of their inputs.
_SHAPES = frozenset("Shape ShapeN Size Rank ZerosLike OnesLike BroadcastGradientArgs".split())
# Ops without a gradient, by their nature or on purpose.
_STEPS = frozenset(
    "Floor Ceil Round Rint Sign FloorDiv TruncateDiv StopGradient StatelessRandomPoisson "
    "StatelessRandomBinomial".split()
)
_GUARDS = frozenset("IsFinite IsInf IsNan".split())
# tf.reduce_logsumexp subtracts the largest element, and adds it again.
_SHIFT = re.compile(r"(^|/)ReduceLogSumExp(_\d+)?/")
# They pass values on. Their gradients need the graph around them.
_CARRIERS = ("TensorArray", "TensorList", "Stack")
_CARRYING = frozenset(
    "Enter Exit Merge NextIteration Switch Identity IdentityN Placeholder "
    "PlaceholderWithDefault".split()
)
# They keep tensors for the gradient of a loop or a condition.
_KEEPERS = frozenset("OptionalFromValue TensorListPushBack StackPush StackPushV2".split())
_CONTINUOUS = frozenset(
    dtype.as_datatype_enum
    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128)
    + (tf.variant, tf.resource)
)


class Gap(NamedTuple):
    """An op on the paths of some inputs, which are bits."""

    bits: int
    op: str
    node: str
    is_custom: bool = False  # the function under tf.custom_gradient uses more than its arguments

    @property
    def is_harmless(self) -> bool:
        """Whether it loses nothing: a shift that cancels, or a guard against infinities."""
        return self.op in _GUARDS or bool(_SHIFT.search(self.node))


class GradientWays(Ways):
    """Finds which paths have a gradient.

    Attributes
    ----------
    gaps : list of Gap
        Where a gradient exists that TensorFlow does not know.
    steps : list of Gap
        Where none exists.
    """

    def __init__(self, graph_def: GraphDef) -> None:
        super().__init__(graph_def)
        self.gaps: List[Gap] = []
        self.steps: List[Gap] = []

    def through(self, body: Body, node: NodeDef, reaches: List[Reach], known: Any) -> List[Reach]:
        """Return what reaches the outputs of an op, given what reaches its inputs."""
        dtypes = body.outputs[node.name]
        if node.op in _SHAPES:
            return [NOWHERE] * len(dtypes)
        # Not node.attr[...], which adds an attribute that is missing.
        if "_gradient_op_type" in node.attr and (
            b"CustomGradient" in node.attr["_gradient_op_type"].s
        ):
            return self._custom(body, node, reaches, known)
        every = union(reaches)
        if node.op in _STEPS or not _CONTINUOUS.intersection(dtypes):
            self._add(self.steps, every.smooth, node)
            return [every.by_steps()] * len(dtypes)
        lacking = _lacking(_signature(node)) if _may_lack(node) else frozenset()
        if lacking:
            for i in lacking:
                self._add(self.gaps, reaches[i].smooth, node)
            every = union([r.by_gap() if i in lacking else r for i, r in enumerate(reaches)])
        return [every if dtype in _CONTINUOUS else every.by_steps() for dtype in dtypes]

    def _custom(self, body: Body, node: NodeDef, reaches: List[Reach], known: Any) -> List[Reach]:
        """Handle the op that tf.custom_gradient adds: results of a function, then its arguments.

        The gradient goes from the results to the arguments. Anything else that the results depend
        on has none.
        """
        inputs = body.inputs[node.name]
        results = _results_of(body, node.name)
        arguments = set(inputs[results:])
        # A variable that is an argument is read a second time.
        arguments.update([body.origin(tensor) for tensor in arguments])
        inside = body.before(inputs[:results], arguments)
        captured = NOWHERE
        if inside.intersection(name for (name, _), reach in known.items() if reach.bits):
            found = self.walk(body, known, list(arguments), inside)
            captured = union([found.get(tensor, NOWHERE) for tensor in inputs[:results]])
            self._add(self.gaps, captured.smooth, node, is_custom=True)
        return [union(reaches[results:]) | captured.by_gap()] * len(reaches)

    def _add(self, gaps: List[Gap], bits: int, node: NodeDef, is_custom: bool = False) -> None:
        if bits:
            gaps.append(Gap(bits, node.op, node.name, is_custom))


def _results_of(body: Body, name: str) -> int:
    """Return the number of results of a function under tf.custom_gradient: those that are used."""
    used = [0]
    for consumer in body.consumers.get(name, ()):
        if body.nodes[consumer].op not in _KEEPERS:
            used += [k for source, k in body.inputs[consumer] if source == name]
    return max(used) + 1


def _may_lack(node: NodeDef) -> bool:
    return node.op not in _CARRYING and not node.op.startswith(_CARRIERS)


def _signature(node: NodeDef) -> bytes:
    """Return everything, besides its inputs, that the gradient of an op depends on."""
    alone = tf.compat.v1.NodeDef(name="op", op=node.op)
    for name, attr in node.attr.items():
        if name == "_gradient_op_type" or not name.startswith("_"):
            alone.attr[name].CopyFrom(attr)
    return alone.SerializeToString(deterministic=True)


@functools.lru_cache(4096)
def _lacking(signature: bytes) -> FrozenSet[int]:
    """Return the inputs of an op for which its registered gradient returns None.

    It is called, because a table would lack custom ops and other versions of TensorFlow.
    """
    node = tf.compat.v1.NodeDef.FromString(signature)
    definition = op_definition(node.op)
    if definition is None:
        return frozenset()
    graph_def = tf.compat.v1.GraphDef()
    dtypes = [dtype for _, dtype in dtypes_of(node, definition.input_arg)]
    for i, dtype in enumerate(dtypes):
        placeholder = graph_def.node.add(name=f"x{i}", op="Placeholder")
        placeholder.attr["dtype"].type = dtype
        placeholder.attr["shape"].shape.unknown_rank = True
        node.input.append(placeholder.name)
    graph_def.node.append(node)
    every = frozenset(range(len(dtypes)))
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(graph_def, name="")
            op = graph.get_operation_by_name("op")
            gradient = gradient_function(op)
            if gradient is None:
                return every
            upstream = [
                tf.compat.v1.placeholder(y.dtype)
                if y.dtype.is_floating or y.dtype.is_complex
                else None
                for y in op.outputs
            ]
            found = gradient(op, *upstream)
        except LookupError:
            return every
        except Exception:  # from a gradient that needs the shapes or the values
            return frozenset()
    found = found if isinstance(found, (list, tuple)) else [found]
    return frozenset(i for i, g in enumerate(found) if g is None)
