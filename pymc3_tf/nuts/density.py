"""A log density and its gradient as ops of the graph around them, as XLA compiles them best."""

from __future__ import annotations

import functools
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.host import assertions, factorizations, islands
from pymc3_tf.private_tensorflow import optimize
from pymc3_tf.programs.building import importer
from pymc3_tf.programs.serialized import define_functions, every_node, name_functions
from pymc3_tf.programs.vectorized import vectorized
from pymc3_tf.programs.xla import compiled_by_xla


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
    return vectorized(of_one, position, each)


def each(of_one: Callable[..., Any], positions: tf.Tensor, *data: tf.Tensor) -> Any:
    """Return the log density and its gradient at each position of a batch, one by one."""
    signature = tf.TensorSpec([], tf.float64), tf.TensorSpec(positions.shape[1:], tf.float64)
    return tf.map_fn(
        lambda position: tuple(of_one(position, *data)), positions, fn_output_signature=signature
    )


def inlined(function: Any) -> Any:
    """Return the graph of a concrete function without calls.

    Between the function that TensorFlow makes of the value and the one that it makes of the
    gradient pass not only numbers but also permutations and the like, which XLA wants to know. Not
    seeing where they come from, it takes all that goes into the call for constants, and compiles
    the program again whenever the metric or the data change.
    """
    graph_def = function.graph.as_graph_def(add_shapes=True)
    for marked in [*graph_def.library.function, *every_node(graph_def)]:
        # Of these marks the first two forbid inlining, and the last one breaks up loops.
        for mark in ("_XlaMustCompile", "_noinline", "_lower_using_switch_merge"):
            marked.attr.pop(mark, None)
    inputs = [tensor.op.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]
    graph_def = optimize(
        graph_def, [*inputs, *outputs], ["function", "common_subgraph_elimination"]
    )
    name_functions(graph_def)
    define_functions(graph_def)
    return graph_def


def builder(
    function: Any, inlined_def: Any, host: bool = False, whole: bool = False
) -> Tuple[Callable[..., Any], List[islands.Island]]:
    """Return a concrete function as one that adds its ops to the current graph, without calls.

    Parameters
    ----------
    function : tf.types.experimental.ConcreteFunction
    inlined_def : tf.compat.v1.GraphDef
        What `inlined` returned for it.
    host : bool
        Whether only XLA will run them, which can call routines of the host.
    whole : bool
        Let the host do everything, if it can.

    Returns
    -------
    callable
    list of Island
        What XLA cannot compile, for which the ops call the host.
    """
    graph_def = tf.compat.v1.GraphDef.FromString(inlined_def.SerializeToString())
    inputs = [tensor.op.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]
    formed: List[islands.Island] = []
    # One chain that fails would end the trajectories of all of a batch, in which each has had its
    # checks and its islands before.
    if host and function.outputs[0].shape.rank == 0:
        if not whole:
            outputs = _guarded(graph_def, inputs, outputs)
        formed, outputs = islands.form(
            graph_def, outputs, (lambda node: False) if whole else compiled_by_xla(graph_def)
        )
    factorizations.replace_ops(graph_def, host)
    return _importer(graph_def, function, outputs), formed


def _importer(graph_def: Any, function: Any, outputs: List[str]) -> Callable[..., Any]:
    add = importer(graph_def, [tensor.op.name for tensor in function.inputs], outputs)
    return lambda *tensors: add(*tensors, *function.captured_inputs)


def _guarded(graph_def: Any, inputs: List[str], outputs: List[str]) -> List[str]:
    """Make checks of a graph in place numbers, and return what is to be fetched now."""
    # The first input is the position. What depends on data alone was checked at the start.
    guarded = assertions.guard(graph_def, outputs, inputs[:1])
    if guarded != outputs:
        # What had assertions could not be merged before.
        graph_def.CopyFrom(
            optimize(graph_def, [*inputs, *guarded], ["common_subgraph_elimination"])
        )
    return guarded


def _with_checks(one: Any, batch: Any) -> Any:
    """Return a batch as `for_xla` takes it, in which a chain that fails a check has NaN.

    Parameters
    ----------
    one, batch : tuple
        The same of one chain, and of the batch without its checks.
    """
    function, inlined_def = one
    graph_def = tf.compat.v1.GraphDef.FromString(inlined_def.SerializeToString())
    inputs = [tensor.op.name for tensor in function.inputs]
    outputs = _guarded(graph_def, inputs, [y.name for y in function.outputs])
    build = _importer(graph_def, function, outputs)

    def at_each(positions: tf.Tensor, *data: tf.Tensor) -> Any:
        return vectorized(lambda position: build(position, *data), positions, each)

    arguments, _ = batch[0].structured_input_signature
    checked = tf.function(at_each, autograph=False).get_concrete_function(*arguments)
    return checked, inlined(checked)


def for_xla(
    traced: Any, one: Optional[Callable[[], Any]], whole: bool
) -> Tuple[Callable[..., Any], List[islands.Island], Any]:
    """Return a log density and its gradient as `builder` does, for a program that XLA compiles.

    Where a check fails, such as an assertion, the log density is NaN.

    Parameters
    ----------
    traced : tuple
        A concrete function and what `inlined` returned for it.
    one : callable, optional
        For a batch of chains: returns the same of one chain.
    whole : bool
        Let the host do everything, if it can.

    Returns
    -------
    callable
    list of Island
    tf.types.experimental.ConcreteFunction
        What the islands are parts of.
    """
    function, inlined_def = traced
    # TensorFlow has to run all of it then.
    whole = whole or assertions.are_out_of_reach(inlined_def)
    if one is None:
        build, formed = builder(function, inlined_def, host=True, whole=whole)
        return build, formed, function
    if whole or not all(map(compiled_by_xla(inlined_def), inlined_def.node)):
        # Chain by chain: where one fails, the others go on.
        of_one, one_def = one()
        build, formed = builder(of_one, one_def, host=True, whole=whole)
        if formed:
            return functools.partial(each, build), formed, of_one
    outputs = [tensor.name for tensor in function.outputs]
    if assertions.are_in(inlined_def, outputs, [function.inputs[0].op.name]):
        function, inlined_def = _with_checks(one(), traced)
    build, formed = builder(function, inlined_def, host=True)
    return build, formed, function


def report(formed: List[islands.Island], function: Any, arguments: Sequence[Any]) -> None:
    """Say in the log which islands a function has, and what they take on its arguments."""
    names = [tensor.op.name for tensor in function.inputs]
    values = [np.asarray(x) for x in [*arguments, *function.captured_inputs]]
    islands.report(formed, dict(zip(names, values)))
