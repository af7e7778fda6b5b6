"""Serialized graphs: what is needed of them, what they are called, and what binds them."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow.compat.v1 import GraphDef, NodeDef

from pymc3_tf.private_tensorflow import define_function

Shape = Optional[Tuple[Optional[int], ...]]


def static_shape(shape: tf.TensorShape) -> Shape:
    """Return a ``TensorShape`` as a tuple with None for what is unknown."""
    return None if shape.rank is None else tuple(shape.as_list())


# What a function runs whether or not something depends on it, since there may be effects such as a
# failing assertion, and the ops that do the same without them.
STATELESS = {
    "Case": "StatelessCase",
    "If": "StatelessIf",
    "StatefulPartitionedCall": "PartitionedCall",
    "While": "StatelessWhile",
}
CONTROL_FLOW = ("If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase")


def node_of(tensor_name: str) -> str:
    """Name of the node that makes a tensor, from any spelling of the tensor's name."""
    return tensor_name.lstrip("^").split(":")[0]


def every_node(graph_def: GraphDef) -> Iterator[NodeDef]:
    """Yield the nodes of a graph, and those of its functions."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def rewire(graph_def: GraphDef, replaced: Mapping[str, str]) -> None:
    """Make every consumer of the tensors in ``replaced`` read another node instead."""
    short = {_short(name): node for name, node in replaced.items()}
    for node in graph_def.node:
        for i, name in enumerate(node.input):
            if name[0] == "^" and name[1:] in short:
                node.input[i] = "^" + short[name[1:]]
            elif _short(name) in short:
                node.input[i] = short[_short(name)]


def _short(tensor_name: str) -> str:
    return tensor_name[:-2] if tensor_name.endswith(":0") else tensor_name


def prune(graph_def: GraphDef, roots: Sequence[str], keep: Sequence[str] = ()) -> None:
    """Delete the nodes and functions that the roots do not need."""
    nodes = {node.name: node for node in graph_def.node}
    needed = set(keep)
    stack = [node_of(root) for root in roots]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += [node_of(i) for i in nodes[name].input]
    kept = [node for node in graph_def.node if node.name in needed]
    functions = {f.signature.name: f for f in graph_def.library.function}
    used: Dict[str, Any] = {}
    bodies = [kept]
    while bodies:
        for node in bodies.pop():
            for name in called_functions(node):
                if name in functions and name not in used:
                    used[name] = functions[name]
                    bodies.append(functions[name].node_def)
    library = [f for f in graph_def.library.function if f.signature.name in used]
    gradients = [g for g in graph_def.library.gradient if g.function_name in used]
    pruned = tf.compat.v1.GraphDef(versions=graph_def.versions)
    pruned.node.extend(kept)
    pruned.library.function.extend(library)
    pruned.library.gradient.extend(gradients)
    graph_def.CopyFrom(pruned)


def name_functions(graph_def: GraphDef) -> None:
    """Give functions names that no other program has: in a process, TensorFlow wants them unique.

    It makes further functions of them, named after them, when it differentiates loops.
    """
    digest = hashlib.sha256(graph_def.SerializeToString(deterministic=True)).hexdigest()[:16]
    names = {
        f.signature.name: f"{f.signature.name.split('_of_')[0]}_of_{digest}_{i}"
        for i, f in enumerate(graph_def.library.function)
    }
    for function in graph_def.library.function:
        function.signature.name = names[function.signature.name]
    for gradient in graph_def.library.gradient:
        gradient.function_name = names[gradient.function_name]
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    for node in every_node(graph_def):
        node.op = names.get(node.op, node.op)
        for attr in node.attr.values():
            called = [attr.func] if attr.HasField("func") else attr.list.func
            for func in called:
                func.name = names.get(func.name, func.name)


def define_functions(graph_def: GraphDef) -> None:
    """Define a graph's functions for good: those that an import defines can go while they are used.

    For graphs that become part of a function of eager mode. The names have to be unique.
    """
    for function in graph_def.library.function:
        define_function(function)


def ordered(graph_def: GraphDef) -> List[NodeDef]:
    """Return the nodes of a graph without version 1 loops, each after its inputs."""
    nodes = {node.name: node for node in graph_def.node}
    order: Dict[str, Any] = {}
    stack = list(nodes)
    while stack:
        name = stack[-1]
        waiting = [n for n in map(node_of, nodes[name].input) if n not in order]
        if not waiting or name in order:
            order[stack.pop()] = nodes[name]
        stack += waiting if name not in order else []
    return list(order.values())


def called_functions(node: NodeDef) -> List[str]:
    """Names of the functions that a node may call."""
    names = [node.op]
    for attr in node.attr.values():
        if attr.HasField("func"):
            names.append(attr.func.name)
        names += [func.name for func in attr.list.func]
    return names


# XLA inside a forked child hangs, devices and colocations name what only the user's graph has.
_DROPPED_ATTRIBUTES = ("_XlaMustCompile", "_noinline", "_class", "_output_shapes")


def clean(graph_def: GraphDef, keep_devices: bool = False) -> None:
    """Strip what binds a graph to one process, device or compiler."""
    if keep_devices:
        _resolve_colocation(graph_def)
    nodes = list(every_node(graph_def))
    if not keep_devices:
        for node in nodes:
            node.device = ""
    for holder in [*graph_def.library.function, *nodes]:
        for name in _DROPPED_ATTRIBUTES:
            holder.attr.pop(name, None)


def _resolve_colocation(graph_def: GraphDef) -> None:
    """Put nodes on the device of the node that they are to be with, which may be pruned."""
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        for entry in node.attr["_class"].list.s if "_class" in node.attr else ():
            other = nodes.get(entry.decode().split("@", 1)[-1])
            if not node.device and other is not None:
                node.device = other.device


def lower_control_flow(graph_def: GraphDef, lower: bool) -> None:
    """Say whether conditions and loops may be replaced by ops of version 1."""
    for node in every_node(graph_def):
        if node.op in CONTROL_FLOW:
            node.attr["_lower_using_switch_merge"].b = lower
