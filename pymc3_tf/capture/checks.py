"""Checks of a captured graph, which say what to write instead."""

from __future__ import annotations

import contextlib
import re
from typing import Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import Error as ProtobufError

from pymc3_tf.capture.keys import Input, listed, unfed_placeholders
from pymc3_tf.exceptions import (
    DeclarationError,
    DeclarationTypeError,
    GraphSizeError,
    UnfedPlaceholderError,
    UnsupportedOpError,
)
from pymc3_tf.private_tensorflow import op_definition, target_of
from pymc3_tf.programs.program import TensorSpec
from pymc3_tf.programs.serialized import GraphDef, every_node, node_of, static_shape
from pymc3_tf.programs.xla import unsupported_by_xla


def refuse_cluster(session: Optional[tf.compat.v1.Session], name: str) -> None:
    """Refuse a session on a cluster for what is not in its graph."""
    if target_of(session):
        raise DeclarationError(
            f"{name} is not in the graph of the session, which is connected to a cluster. Build it "
            "of tensors of that graph, inside of `with session.graph.as_default():`."
        )


def input_spec(given: Input, dtype: tf.DType, shape: tf.TensorShape, label: str) -> TensorSpec:
    """Reconcile what the graph says of an input with the value that it will get."""
    if given.dtype is not None and not np.can_cast(given.dtype, dtype.as_numpy_dtype, "same_kind"):
        raise DeclarationTypeError(
            f"{given.argument}: {label!r} is {dtype.name} in the graph, and its value is "
            f"{given.dtype}. Make the placeholder floating, or give a value of dtype {dtype.name}."
        )
    if not shape.is_compatible_with(given.shape):
        raise DeclarationError(
            f"{given.argument}: {label!r} has shape {shape} in the graph, and its value has shape "
            f"{tf.TensorShape(given.shape)}. Give a value of shape {shape}, or build the "
            "placeholder with None for the dimensions that may differ."
        )
    shape = shape.merge_with(given.shape) if _is_scalar_or_unknown(shape) else shape
    return TensorSpec("", label, dtype.name, static_shape(shape))


def _is_scalar_or_unknown(shape: tf.TensorShape) -> bool:
    # An unknown rank is settled by the value; unknown dimensions stay so, for pm.set_data.
    return shape.rank is None or shape.rank == 0


def check_unfed(outputs: Sequence[tf.Tensor], tensors: Sequence[tf.Tensor], name: str) -> None:
    """Refuse placeholders that get no value."""
    unfed = [node_of(t.name) for t in unfed_placeholders(outputs, tensors)]
    if unfed:
        raise UnfedPlaceholderError(
            f"{name} needs {listed(unfed)}, which {'has' if len(unfed) == 1 else 'have'} no "
            "value. Give each a parameter in params or data in feed_dict."
        )


_STATEFUL_ALLOWED = {
    "Assert", "CheckNumerics", "CheckNumericsV2", "Print", "PrintV2",
    "If", "While", "Case", "StatefulPartitionedCall",
    "VariableV2", "Variable", "VarHandleOp", "ReadVariableOp", "ResourceGather",
    "ResourceGatherNd", "VariableShape", "Placeholder",
}  # fmt: skip
# TensorArrays and stacks live and die within one evaluation.
_STATEFUL_PREFIXES = ("TensorArray", "Stack")
_RANDOM_OPS = ("Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal")
# What tf.random.Generator takes its seeds from.
_GENERATORS = ("Rng", "Stateful")
_ASSIGNMENTS = ("Assign", "ResourceScatter", "ScatterUpdate", "ScatterAdd", "ScatterSub")
_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def check_ops(graph_def: GraphDef, name: str) -> None:
    """Refuse ops that cannot be frozen, or that give another result each time."""
    functions = {f.signature.name for f in graph_def.library.function}
    for node in every_node(graph_def):
        where = f"{name} uses {node.op} at the node {node.name!r}"
        if node.op in _PYTHON_OPS:
            raise UnsupportedOpError(
                f"{where}: Python code (tf.py_function, tf.numpy_function) cannot be frozen with "
                "the graph or sent to other processes. Write it with TensorFlow ops, or make it a "
                "Theano op (theano.compile.ops.as_op) of the PyMC3 model."
            )
        if node.op.startswith(_ASSIGNMENTS):
            raise UnsupportedOpError(
                f"{where}: it changes a variable, and a log density must give the same number each "
                "time. Leave the assignment out; give what changes as a parameter, or by feed_dict."
            )
        if node.op in functions or node.op in _STATEFUL_ALLOWED:
            continue
        if node.op.startswith(_STATEFUL_PREFIXES):
            continue
        definition = op_definition(node.op)
        if definition is None or not definition.is_stateful:
            continue
        if "Random" in node.op or node.op in _RANDOM_OPS or node.op.startswith(_GENERATORS):
            if name == "random":
                raise UnsupportedOpError(
                    f"{where}: it cannot be given a seed there. Use the tf.random.stateless_... "
                    "ops in a function of seed and size; in a graph, tf.random.normal, uniform, "
                    "truncated_normal, gamma, poisson and categorical work too, outside of loops."
                )
            raise UnsupportedOpError(
                f"{where}: it draws random numbers, and a log density must give the same number "
                "each time. Use a tf.random.stateless_... op with a fixed seed (a random layer of "
                "Keras, such as Dropout, with training=False), or make the random quantity a "
                "variable of the PyMC3 model."
            )
        if "Table" in node.op:
            raise UnsupportedOpError(
                f"{where}: lookup tables live in one session and cannot be frozen. Look up with "
                "tf.gather in a constant tensor instead."
            )
        raise UnsupportedOpError(
            f"{where}: it has a state that cannot be frozen or sent to other processes. Compute "
            "its value beforehand and hand it over by feed_dict."
        )


def check_dependence(
    graph_def: GraphDef,
    arguments: Sequence[str],
    inputs: Sequence[Input],
    labels: Sequence[str],
    name: str,
) -> None:
    """Refuse inputs that the computation does not use."""
    present = {node.name for node in graph_def.node}
    for argument, given, label in zip(arguments, inputs, labels):
        if node_of(argument) not in present:
            raise DeclarationError(
                f"{name} does not depend on {label!r}, which {given.argument} gives. Leave it out, "
                "or use it in the computation."
            )


def check_compilation(graph_def: GraphDef, name: str) -> None:
    """Refuse ops that XLA cannot compile."""
    unsupported = unsupported_by_xla(graph_def)
    if unsupported:
        raise UnsupportedOpError(
            f"XLA cannot compile {', '.join(unsupported)}, which {name} or its gradient uses. "
            "Leave jit_compile out."
        )


def is_too_large(error: Exception) -> bool:
    """Whether an error of TensorFlow, or of its serialization, is about the size of a graph."""
    text = re.search(r"\b2 ?GB|maximum protobuf size|[Ff]ailed to serialize proto", str(error))
    return isinstance(error, ProtobufError) or text is not None


def size_error(what: str, error: Exception, where: str = "") -> GraphSizeError:
    """Return the error for constants that are too large."""
    return GraphSizeError(
        f"{what} is over 2 GB, more than TensorFlow can serialize ({error}){where}. Replace its "
        "large constants by arguments of the function, or placeholders of the graph, and hand the "
        "arrays over by feed_dict."
    )


@contextlib.contextmanager
def size_checked(name: str) -> Iterator[None]:
    """Say what to do where a graph is too large."""
    try:
        yield
    except (ValueError, ProtobufError) as error:
        if not is_too_large(error):
            raise
        raise size_error(f"the graph of {name}", error) from error
