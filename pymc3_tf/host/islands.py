"""Parts of a graph that XLA cannot compile, as calls of TensorFlow sessions on the host.

An island is made of ops that XLA has no kernel for, and of what has to be with them: what they
exchange tensors with that cannot be handed over, such as texts, and what stands between them. What
is around it stays with XLA.
"""

from __future__ import annotations

import ctypes
import logging
import re
import weakref
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.host import build
from pymc3_tf.private_tensorflow import call_host, optimize
from pymc3_tf.programs.serialized import rewire

# Bytes of what the library says of a failure.
_TEXT = 2000
# Control flow of version 1 cannot be cut in pieces.
_VERSION_1 = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}
_INPUTS = {"Placeholder", "PlaceholderWithDefault"}

_log = logging.getLogger("pymc3")


class Island:
    """A part of a graph, as a session that XLA calls.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
    members : set of tf.Operation
    fetched : list of str
        Tensors that are fetched from the whole graph.
    is_compiled : callable
        Whether XLA can compile a node.

    Attributes
    ----------
    ops : list of str
        The kinds of its ops that XLA has no kernel for; of Python functions, the names.
    label : str
        What to call it.
    inputs, outputs : list of tf.Tensor
        Of the whole graph.

    Raises
    ------
    ValueError
        If TensorFlow cannot make a session of it.
    """

    def __init__(
        self,
        graph_def: Any,
        members: Set[tf.Operation],
        fetched: List[str],
        is_compiled: Callable[[Any], bool],
    ) -> None:
        ordered = _in_order(members)
        self.ops = sorted({_kind(op) for op in ordered if not is_compiled(op.node_def)})
        # Constants are its own, instead of being handed over on each call.
        inputs = [x for op in ordered for x in op.inputs if x.op not in members]
        self.inputs = _unique(x for x in inputs if x.op.type != "Const")
        self.outputs = _unique(
            y
            for op in ordered
            for y in op.outputs
            if y.name in fetched or not members.issuperset(y.consumers())
        )
        self.label = ", ".join(self.ops)
        if not any(map(is_compiled, graph_def.node)):
            self.label = "the density"
        library = build.library("islands")
        assert library is not None, "whoever forms islands asks for it first"
        self._library = library
        names = {x.name: f"island_input_{i}" for i, x in enumerate(self.inputs)}
        part = _part(graph_def, members, self.inputs, names).SerializeToString()
        words = [len(self.inputs), len(self.outputs)]
        for x, name in zip(self.inputs, names.values()):
            words += _described(x, name)
        for y in self.outputs:
            words += _described(y, y.name)
        text = ctypes.create_string_buffer(_TEXT)
        self.number = library.pymc3_tf_open(
            part, len(part), " ".join(map(str, words)).encode(), text, _TEXT
        )
        if self.number < 0:
            raise ValueError(text.value.decode(errors="replace"))
        weakref.finalize(self, library.pymc3_tf_close, self.number).atexit = False

    def __call__(self, *inputs: tf.Tensor) -> List[tf.Tensor]:
        """Add the call to the current graph, which only XLA can run.

        Returns
        -------
        list of tf.Tensor
            The outputs, and a scalar that is zero, or NaN where an op failed.
        """
        outputs = [tf.TensorSpec(y.shape, y.dtype) for y in self.outputs]
        outputs.append(tf.TensorSpec([], tf.float64))
        return call_host("pymc3_tf.island", inputs, str(self.number), outputs)

    def seconds(self, arrays: Sequence[np.ndarray]) -> float:
        """Return what a call takes on arrays for its inputs."""
        kept = [np.ascontiguousarray(x) for x in arrays]
        pointers = (ctypes.c_void_p * len(kept))(*[x.ctypes.data for x in kept])
        self._library.pymc3_tf_time.restype = ctypes.c_double
        return float(self._library.pymc3_tf_time(self.number, pointers))

    def take_failures(self) -> Tuple[int, str]:
        """Return how often an op failed since the last time, and what the first one said."""
        text = ctypes.create_string_buffer(_TEXT)
        number = self._library.pymc3_tf_failures(self.number, text, _TEXT)
        return number, text.value.decode(errors="replace").split("\n")[0]


def _kind(op: tf.Operation) -> str:
    if not op.type.startswith("PyFunc"):
        return str(op.type)
    return re.sub(r"_\d+$", "", op.name.split("/")[-1])


def _described(tensor: tf.Tensor, name: str) -> List[Any]:
    return [name, tensor.dtype.as_datatype_enum, tensor.shape.rank, *tensor.shape]


def _unique(tensors: Any) -> List[tf.Tensor]:
    return list({x.name: x for x in tensors}.values())


def _in_order(members: Set[tf.Operation]) -> List[tf.Operation]:
    return sorted(members, key=lambda op: op.name)


def _part(graph_def: Any, members: Any, inputs: Any, names: Dict[str, str]) -> Any:
    """Return the graph of an island, in which placeholders stand for its inputs."""
    part = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for x in inputs:
        node = part.node.add(name=names[x.name], op="Placeholder")
        node.attr["dtype"].type = x.dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(x.shape.as_proto())
    constants = {x.op for op in members for x in op.inputs if x.op.type == "Const"}
    kept = {op.name for op in members | constants}
    for op in _in_order(members | constants):
        node = part.node.add()
        node.CopyFrom(op.node_def)
        del node.input[:]
        node.input.extend(names.get(x.name, x.name) for x in op.inputs)
        node.input.extend(f"^{c.name}" for c in op.control_inputs if c.name in kept)
        node.attr.pop("_class", None)
    return part


class _Graph(NamedTuple):
    """Which island an op belongs to, by the number of the island."""

    ops: List[tf.Operation]
    home: Dict[tf.Operation, int]

    def members(self, number: int) -> Set[tf.Operation]:
        return {op for op, home in self.home.items() if home == number}

    def join(self, one: tf.Operation, other: tf.Operation) -> bool:
        """Make two ops members of one island. Return whether they were not."""
        first, second = (self.home.setdefault(op, id(op)) for op in (one, other))
        if first == second:
            return False
        for op in self.members(second):
            self.home[op] = first
        return True


def partition(
    graph: tf.Graph, is_compiled: Callable[[tf.Operation], bool]
) -> Optional[List[Set[tf.Operation]]]:
    """Return the islands of a graph.

    Parameters
    ----------
    graph : tf.Graph
    is_compiled : callable
        Whether XLA can compile an op.

    Returns
    -------
    list of set of tf.Operation, or None
        None if a tensor that goes into the graph cannot be handed over.
    """
    ops = [op for op in graph.get_operations() if op.type not in _INPUTS]
    bad = [op for op in ops if not is_compiled(op)]
    if len(bad) == len(ops) or (bad and any(op.type in _VERSION_1 for op in ops)):
        members = set(ops)
        return [members] if _is_closed(members) else None
    parts = _Graph(ops, {op: id(op) for op in bad})
    grown = bool(bad)
    while grown:
        grown = _grow(parts) or _close(parts)
    islands = [parts.members(number) for number in dict.fromkeys(parts.home.values())]
    return islands if all(map(_is_closed, islands)) else None


def _is_closed(members: Set[tf.Operation]) -> bool:
    given = [x for op in members for x in op.inputs if x.op not in members]
    return all(x.op.type == "Const" or _can_be_handed_over(x) for x in given)


def _can_be_handed_over(tensor: tf.Tensor) -> bool:
    dtype = tensor.dtype
    plain = dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex
    return plain and tensor.shape.is_fully_defined()


def _grow(parts: _Graph) -> bool:
    """Join what exchanges tensors that cannot be handed over, and what is side by side."""
    grown = False
    for op in list(parts.home):
        for x in op.inputs:
            if x.op.type in _INPUTS:
                continue
            constant = x.op.type == "Const"
            if x.op in parts.home or not (constant or _can_be_handed_over(x)):
                grown |= parts.join(op, x.op)
        for y in op.outputs:
            if not _can_be_handed_over(y):
                for user in y.consumers():
                    grown |= parts.join(op, user)
    return grown


def _close(parts: _Graph) -> bool:
    """Join what lies on a way from an island back to it: they would wait for each other."""
    for number in dict.fromkeys(parts.home.values()):
        after = _reached(parts, number, lambda op: [u for y in op.outputs for u in y.consumers()])
        before = _reached(parts, number, lambda op: [x.op for x in op.inputs])
        between = after & before
        if between:
            member = next(iter(parts.members(number)))
            for op in between:
                parts.join(member, op)
            return True
    return False


def _reached(
    parts: _Graph, number: int, following: Callable[[tf.Operation], List[tf.Operation]]
) -> Set[tf.Operation]:
    """Return the ops to which a way leads from an island; a way into another leads to all of it."""
    start = parts.members(number)
    stack = [op for member in start for op in following(member) if op not in start]
    found: Set[tf.Operation] = set()
    while stack:
        op = stack.pop()
        if op in found:
            continue
        found.add(op)
        if op in start:
            continue
        if op in parts.home:
            stack += parts.members(parts.home[op])
        stack += following(op)
    return found - start


def form(
    graph_def: Any, outputs: List[str], is_compiled: Callable[[Any], bool]
) -> Tuple[List[Island], List[str]]:
    """Put calls of islands in place of what XLA cannot compile.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place. It has to say the shapes of its placeholders.
    outputs : list of str
        Tensors that are fetched. The first one is a scalar of float64.
    is_compiled : callable
        Whether XLA can compile a node.

    Returns
    -------
    islands : list of Island
        They have to be kept as long as the graph is used. Empty if XLA can compile all of it, or if
        there is no way round that.
    outputs : list of str
        What is to be fetched now. The first one is NaN where an island fails.
    """
    if all(map(is_compiled, graph_def.node)):
        return [], outputs
    # XLA computes once what value and gradient have in common; an island it would call twice.
    inputs = [node.name for node in graph_def.node if node.op in _INPUTS]
    graph_def.CopyFrom(optimize(graph_def, [*inputs, *outputs], ["common_subgraph_elimination"]))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        parts = partition(graph, lambda op: is_compiled(op.node_def))
        if not parts or build.library("islands") is None:
            return [], outputs
        try:
            islands = [Island(graph_def, part, outputs, is_compiled) for part in parts]
        except ValueError:
            return [], outputs
    # Another graph: the first one can still be run without XLA.
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        replaced, flags = {}, []
        for island in islands:
            *results, flag = island(*[graph.get_tensor_by_name(x.name) for x in island.inputs])
            replaced.update({y.name: r.name for y, r in zip(island.outputs, results)})
            flags.append(flag)
        value = tf.add_n([graph.get_tensor_by_name(outputs[0]), *flags])
        with_calls = graph.as_graph_def()
    members = {op.name for part in parts for op in part}
    kept = [node for node in with_calls.node if node.name not in members]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    rewire(graph_def, replaced)
    for node in graph_def.node:
        # What only waits for a member, such as an assertion, XLA leaves out anyway.
        node.input[:] = [name for name in node.input if name[0] != "^" or name[1:] not in members]
    return islands, [value.name, *(replaced.get(name, name) for name in outputs[1:])]


def report(islands: Sequence[Island], feeds: Mapping[str, Any]) -> None:
    """Say in the log what runs outside of XLA, and what a call of it takes.

    Parameters
    ----------
    islands : sequence of Island
        Of one graph.
    feeds : dict of str to array
        Values of its placeholders, by name of the node.
    """
    if not islands:
        return
    # Their inputs are tensors of the graph in which XLA has not yet been helped.
    tensors = [x for island in islands for x in island.inputs]
    arrays = iter(_evaluate(islands[0].outputs[0].graph, tensors, feeds))
    calls: Dict[str, str] = {}
    for island in islands:
        seconds = island.seconds([next(arrays) for _ in island.inputs])
        calls.setdefault(island.label, f"{island.label} ({1e6 * seconds:,.0f} microseconds a call)")
    _log.info(
        "XLA cannot compile %s: the compiled program calls TensorFlow for %s.",
        ", ".join(calls.values()),
        "it" if len(islands) == 1 else "them",
    )


def _evaluate(graph: tf.Graph, tensors: List[tf.Tensor], feeds: Mapping[str, Any]) -> List[Any]:
    with tf.compat.v1.Session(graph=graph) as session:
        found: List[Any] = session.run(tensors, {f"{name}:0": x for name, x in feeds.items()})
    return found
