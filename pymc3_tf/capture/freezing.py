"""Freezing: variables become constants, and calls of functions the ops that they stand for."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.capture.keys import label_of, type_of
from pymc3_tf.exceptions import MissingSessionError, UninitializedVariableError, UnsupportedOpError
from pymc3_tf.private_tensorflow import op_definition, optimize, variables_to_constants
from pymc3_tf.programs.program import TensorSpec
from pymc3_tf.programs.serialized import (
    GraphDef,
    NodeDef,
    called_functions,
    clean,
    every_node,
    lower_control_flow,
    node_of,
)

SCOPE = "pymc3_tf"


def captured_values(
    graph_def: GraphDef, captures: Sequence[Tuple[Any, Any]], known: Sequence[tf.Variable]
) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Turn what a function captured into constants and variables.

    Returns the values of the variables, and their labels, by node.
    """
    variables = {id(v.handle): v for v in known}
    nodes = {node.name: node for node in graph_def.node}
    values, labels = {}, {}
    for outside, inside in captures:
        node = nodes.get(node_of(inside.name))
        if node is None:
            continue
        if id(outside) in variables:
            value = variables[id(outside)].numpy()
            dtype, shape = node.attr["dtype"], tf.TensorShape(value.shape).as_proto()
            dtype.type = tf.as_dtype(value.dtype).as_datatype_enum
            node.op = "VarHandleOp"
            node.attr["shape"].shape.CopyFrom(shape)
            values[node.name] = value
            labels[node.name] = label_of(variables[id(outside)])
        elif outside.dtype != tf.resource:
            _make_constant(node, outside.numpy())
    return values, labels


def _make_constant(node: NodeDef, value: np.ndarray) -> None:
    proto = tf.make_tensor_proto(value)
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")


def stand_ins(graph_def: GraphDef, parameters: Mapping[str, TensorSpec]) -> Dict[str, np.ndarray]:
    """Return something to freeze for each variable that is a parameter."""
    return {
        node.name: np.zeros(
            [n or 0 for n in parameters[node.name].shape or ()], parameters[node.name].dtype
        )
        for node in graph_def.node
        if node.op in VARIABLE_OPS and node.name in parameters
    }


def share_variables(graph_def: GraphDef, parameters: Mapping[str, Any]) -> List[str]:
    """Let variables be found under any other name of their node; return those that stay."""
    live = [n for n in graph_def.node if n.op in VARIABLE_OPS and n.name not in parameters]
    for node in live:
        if not node.attr["shared_name"].s:
            node.attr["shared_name"].s = node.name.encode()
    return [node.name for node in live]


def freeze_only(
    graph_def: GraphDef, values: Mapping[str, np.ndarray], roots: Sequence[str]
) -> GraphDef:
    """Turn some of the variables into constants, and leave all else as it is."""
    return _to_constants(graph_def, values, roots, set(values)) if values else graph_def


def _to_constants(
    graph_def: GraphDef,
    values: Mapping[str, np.ndarray],
    roots: Sequence[str],
    only: Optional[Set[str]] = None,
) -> GraphDef:
    nodes = sorted({node_of(root) for root in roots})
    return variables_to_constants(_Values(values), graph_def, nodes, only)


def variable_values(
    graph_def: GraphDef,
    parameters: Mapping[str, TensorSpec],
    graph: tf.Graph,
    session: Optional[tf.compat.v1.Session],
    name: str,
) -> Dict[str, np.ndarray]:
    """Read the variables of a graph, or stand-ins for those that are parameters."""
    values = stand_ins(graph_def, parameters)
    wanted = {
        node.name: _readable(graph.get_tensor_by_name(f"{node.name}:0"))
        for node in graph_def.node
        if node.op in VARIABLE_OPS and node.name not in parameters
    }
    if not wanted:
        return values
    session = session or tf.compat.v1.get_default_session()
    if session is None:
        raise MissingSessionError(
            f"{name} has variables ({', '.join(map(repr, wanted))}) and no session to read "
            "their values from. Pass session=, or declare inside `with session.as_default():`."
        )
    if session.graph is not graph:
        raise MissingSessionError(
            f"the session belongs to another graph than {name}. Pass the session that was made "
            "for the graph of the log density: session=tf.compat.v1.Session(graph=logp.graph)."
        )
    missing = []
    for variable, tensor in wanted.items():
        try:
            values[variable] = session.run(tensor)
        except tf.errors.FailedPreconditionError:
            missing.append(variable)
        except RuntimeError:  # TensorFlow's for a session that is closed
            raise MissingSessionError(
                f"the session that has the values of the variables of {name} "
                f"({', '.join(map(repr, wanted))}) is closed. Declare before you close it."
            ) from None
    if missing:
        raise UninitializedVariableError(
            f"{name} needs variables that have no value in the session: "
            f"{', '.join(map(repr, missing))}. Run "
            "session.run(tf.compat.v1.global_variables_initializer()) or restore a checkpoint "
            "first."
        )
    return values


def _readable(tensor: tf.Tensor) -> tf.Tensor:
    if tensor.dtype != tf.resource:
        return tensor
    with tensor.graph.as_default(), tf.name_scope(SCOPE):
        return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=type_of(tensor)[0])


def freeze_shapes(graph_def: GraphDef, graph: tf.Graph, shapes: Mapping[str, Any]) -> None:
    """Replace the shapes of variables by constants: the conversion leaves them behind."""
    for node in graph_def.node:
        if node.op == "VariableShape":
            handle = graph.get_operation_by_name(node.name).inputs[0]
            while handle.op.type in ("While", "StatelessWhile", "Identity"):
                # A loop hands on what it captured, and TensorFlow may not say what that is.
                handle = handle.op.inputs[handle.value_index]
            dtype = tf.as_dtype(node.attr["out_type"].type).as_numpy_dtype
            shape = shapes.get(handle.op.name)
            shape = type_of(handle)[1].as_list() if shape is None else shape
            _make_constant(node, np.array(shape, dtype))


class _Values:
    """Answers for a session: TensorFlow's conversion only asks it for the variables' values."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self._values = values

    def run(self, names: Sequence[str]) -> List[np.ndarray]:
        # A resource variable is asked for by the name of its first read.
        suffix = "/Read/ReadVariableOp"
        nodes = map(node_of, names)
        return [self._values[n if n in self._values else n[: -len(suffix)]] for n in nodes]


def freeze(
    graph_def: GraphDef, values: Mapping[str, np.ndarray], roots: Sequence[str], name: str
) -> GraphDef:
    """Turn variables into constants, and calls of functions into the ops that they stand for."""
    graph_def = _to_constants(graph_def, values, roots)
    _rename_returns(graph_def)
    for node in graph_def.node:
        if node.op == "VarHandleOp" or (
            node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum
        ):
            raise UnsupportedOpError(
                f"{name}: the resource {node.name!r} could not be frozen. Only variables can be; "
                "hand other state over by feed_dict."
            )
    return _inline_functions(graph_def, roots)


def _rename_returns(graph_def: GraphDef) -> None:
    """Let functions return what variables have become: the conversion forgets what they return."""
    for function in graph_def.library.function:
        ops = {node.name: node.op for node in function.node_def}
        for result, tensor in function.ret.items():
            node, *output = tensor.split(":")
            if ops.get(node) == "Identity" and output == ["value", "0"]:
                function.ret[result] = f"{node}:output:0"


def _inline_functions(graph_def: GraphDef, roots: Sequence[str]) -> GraphDef:
    """Inline function calls: only their Python objects, which a graph leaves, know gradients."""
    functions = {f.signature.name for f in graph_def.library.function}
    calls = {"PartitionedCall", "StatefulPartitionedCall"} | functions
    if not any(node.op in calls for node in every_node(graph_def)):
        return graph_def
    # Loops have to stay as they are: their gradient is known.
    lower_control_flow(graph_def, False)
    _declare_stateless(graph_def)
    keep = [node.name for node in graph_def.node if node.op == "Placeholder"]
    inlined = optimize(graph_def, [*roots, *keep], ["function"])
    clean(inlined)
    lower_control_flow(inlined, True)
    return inlined


def _declare_stateless(graph_def: GraphDef) -> None:
    """Say of functions whose variables are frozen that they have no state: those with may stay."""
    functions = {f.signature.name: f for f in graph_def.library.function}
    stateful: Set[str] = set()
    while True:
        found = {
            name
            for name, function in functions.items()
            if any(_is_stateful(node, functions, stateful) for node in function.node_def)
        }
        if found == stateful:
            break
        stateful = found
    for name, function in functions.items():
        function.signature.is_stateful = name in stateful
    for node in every_node(graph_def):
        if node.op == "StatefulPartitionedCall" and node.attr["f"].func.name not in stateful:
            node.op = "PartitionedCall"


def _is_stateful(node: NodeDef, functions: Mapping[str, Any], stateful: Set[str]) -> bool:
    called = [name for name in called_functions(node) if name in functions]
    definition = op_definition(node.op)
    if called:
        return any(name in stateful for name in called)
    return definition is None or definition.is_stateful
