"""A log density and its gradient, as ops of the program that XLA compiles."""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf

from pymc3_tf.nuts import factorizations
from pymc3_tf.programs import grappler
from pymc3_tf.programs.serialized import define_functions, every_node, name_functions


def value_and_gradient(
    logp: Callable[..., tf.Tensor], batch: bool, position: tf.Tensor, *data: tf.Tensor
) -> Any:
    """Return the log density and its gradient at a position, or at each of a batch."""

    def of_one(position: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(position)
            value = tf.reshape(tf.cast(logp(position, *data), tf.float64), [])
        return value, tape.gradient(value, position, unconnected_gradients="zero")

    if not batch:
        return of_one(position)
    # The tape is inside: what is vectorized are plain ops, without the gradients of their own that
    # functions and ops of the density may have.
    try:
        return tf.vectorized_map(of_one, position)
    except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
        # Loops of programs, and some ops, have no form for many chains: one after the other.
        signature = tf.TensorSpec([], tf.float64), tf.TensorSpec(position.shape[1:], tf.float64)
        return tf.map_fn(of_one, position, fn_output_signature=signature)


def inline(function: Any) -> Callable[..., Any]:
    """Return a concrete function as one that adds its ops to the current graph, without calls.

    Between the function that TensorFlow makes of the value and the one that it makes of the
    gradient pass not only numbers but also permutations and the like, which XLA wants to know. Not
    seeing where they come from, it takes all that goes into the call for constants, and compiles
    the program anew whenever the metric or the data change.
    """
    graph_def = function.graph.as_graph_def()
    for marked in [*graph_def.library.function, *every_node(graph_def)]:
        # Of these marks the first two forbid inlining, and the last one breaks up loops.
        for mark in ("_XlaMustCompile", "_noinline", "_lower_using_switch_merge"):
            marked.attr.pop(mark, None)
    inputs = [tensor.op.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]
    graph_def = grappler.optimize(graph_def, [*inputs, *outputs], ["function"])
    name_functions(graph_def)
    define_functions(graph_def)
    functions = factorizations.substitute(graph_def)
    # Placeholders are left out, since XLA cannot compile them even where they stand unused.
    nodes = [node for node in graph_def.node if node.name not in inputs]
    for node in nodes:
        node.attr.pop("_class", None)  # may say to be placed beside a placeholder
        kept = [name for name in node.input if name.lstrip("^") not in inputs or name[0] != "^"]
        node.input[:] = kept
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    used = {name.split(":")[0] for node in nodes for name in node.input}

    def build(*tensors: tf.Tensor) -> Any:
        assert functions is not None  # and through this mention they live as long as `build`
        given = zip(inputs, [*tensors, *function.captured_inputs])
        return tf.import_graph_def(
            graph_def,
            # An identity brings the tensor into the current graph, from those around it.
            input_map={name: tf.identity(tensor) for name, tensor in given if name in used},
            return_elements=outputs,
            name="density",
        )

    return build
