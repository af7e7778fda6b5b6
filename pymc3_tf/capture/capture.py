"""What the user has -> Program, with every check that can be made up front.

A source is a tensor of a TensorFlow graph (or several), or a Python function of TensorFlow ops.
Nothing here knows of Theano or PyMC3.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.advice.origins import Origins
from pymc3_tf.capture.calls import after_assertions, call
from pymc3_tf.capture.checks import (
    check_compilation,
    check_dependence,
    check_ops,
    check_unfed,
    input_spec,
    refuse_cluster,
    size_checked,
)
from pymc3_tf.capture.freezing import (
    SCOPE,
    VARIABLE_OPS,
    captured_values,
    freeze,
    freeze_only,
    freeze_shapes,
    share_variables,
    stand_ins,
    variable_values,
)
from pymc3_tf.capture.keys import (
    Input,
    Source,
    graph_tensor,
    label_of,
    tensors_of,
    type_of,
    variable_of,
)
from pymc3_tf.capture.random_ops import refuse_frozen_seeds, seed_random_ops
from pymc3_tf.exceptions import (
    DeclarationError,
    DeclarationTypeError,
    UnsupportedOpError,
    message,
)
from pymc3_tf.programs.cluster import Cluster
from pymc3_tf.programs.differentiation import Gradients, add_gradients, assemble
from pymc3_tf.programs.program import Program, TensorSpec
from pymc3_tf.programs.serialized import GraphDef, clean, node_of, prune, rewire


def capture(
    source: Source,
    inputs: Sequence[Input],
    *,
    session: Optional[tf.compat.v1.Session] = None,
    jit_compile: bool = False,
    differentiable: bool = True,
    random: bool = False,
    name: str = "logp",
) -> Program:
    """Freeze a computation, or leave it on the cluster of its session.

    Parameters
    ----------
    source : tf.Tensor, sequence of tf.Tensor, or callable
        Tensors of one graph, or a function that returns one tensor or a sequence of them.
    inputs : sequence of Input
        All tensors (or arguments) that get a value from outside, data included.
    session : tf.compat.v1.Session, optional
        Holds the values of the graph's variables. Default: TensorFlow's default session. If it is
        connected to a cluster, variables that are no inputs stay there, live.
    jit_compile : bool
        Compile with XLA.
    differentiable : bool
        Build the gradient too. Without it, ops that have none are accepted.
    random : bool
        It draws random numbers, has no gradient, and need not depend on all inputs. Random ops of a
        graph become functions of one more input, the last one: a seed of two int32. A function
        takes its seed as an argument instead.
    name : str
        What the source is called in error messages.

    Returns
    -------
    Program

    Raises
    ------
    pymc3_tf.exceptions.DeclarationError
        Or one of its subclasses, if the computation cannot be frozen or an input does not fit.
    """
    how = _How(name, session, jit_compile, differentiable and not random, random)
    if not callable(source):
        return _capture_tensors(source, inputs, how, seeded=random)
    if tf.executing_eagerly():
        refuse_cluster(session, name)
        return _capture_function(source, inputs, how)
    # Outside eager mode the function may use the variables and tensors of the user's graph.
    with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(SCOPE):
        placeholders = [tf.compat.v1.placeholder(i.dtype, i.shape) for i in inputs]
        result = call(source, inputs, placeholders, name)
    fixed = [i._replace(key=p) for i, p in zip(inputs, placeholders)]
    labels = [str(i.key) for i in inputs]
    return _capture_tensors(result, fixed, how, labels)


class _How(NamedTuple):
    """The options of ``capture``."""

    name: str
    session: Optional[tf.compat.v1.Session]
    jit_compile: bool
    differentiable: bool
    random: bool


# -- graphs -----------------------------------------------------------------------------------


def _capture_tensors(
    source: Any,
    inputs: Sequence[Input],
    how: _How,
    labels: Optional[Sequence[str]] = None,
    seeded: bool = False,
) -> Program:
    name, outputs = how.name, tensors_of(source, how.name)
    graph = outputs[0].graph
    cluster = _cluster(graph, how)
    tensors = [graph_tensor(i.key, graph, i.argument, name) for i in inputs]
    labels = labels or [node_of(t.name) for t in tensors]
    specs = [input_spec(i, *type_of(t), label) for i, t, label in zip(inputs, tensors, labels)]
    check_unfed(outputs, tensors, name)
    if graph.finalized:
        raise DeclarationError(
            f"the graph of {name} is finalized, and its gradient has to be added to it. Declare "
            "before graph.finalize() is called (a MonitoredSession calls it)."
        )
    with graph.as_default(), tf.name_scope(SCOPE):
        gradients = _add_gradients(outputs, tensors if how.differentiable else (), name)
    graph_def = _as_graph_def(graph, name)
    clean(graph_def, keep_devices=cluster is not None)
    detached = _detach(graph_def, tensors)
    gradients = gradients.renamed(detached)
    arguments = [detached.get(t.name, t.name) for t in tensors]
    if seeded:
        arguments.append(seed_random_ops(graph_def, graph, gradients.names, arguments))
        specs.append(TensorSpec("", "seed", "int32", (2,)))
    roots = _prune_and_check(graph_def, gradients, arguments, inputs, labels, how)
    parameters = {node_of(argument): spec for argument, spec in zip(arguments, specs)}
    outs = _output_specs(source, gradients, name)
    structure = structure_of(source)
    if cluster:
        values = stand_ins(graph_def, parameters)
        live = share_variables(graph_def, values)
        if live:
            cluster.check_variables(graph_def, live, name)
        graph_def = freeze_only(graph_def, values, roots)
        return assemble(
            graph_def, specs, arguments, outs, gradients, structure=structure, cluster=cluster
        )
    values = variable_values(graph_def, parameters, graph, how.session, name)
    freeze_shapes(graph_def, graph, {})
    with size_checked(name):
        graph_def = freeze(graph_def, values, roots, name)
    parts = graph_def, specs, arguments, outs, gradients
    read = _frozen(values, arguments)
    program = _assembled(how, *parts, structure=structure, frozen=read)
    return dataclasses.replace(program, origins=Origins(weakref.ref(graph)))


def _assembled(how: _How, graph_def: GraphDef, *parts: Any, **fields: Any) -> Program:
    """Return what ``assemble`` does of a frozen graph, if XLA can compile what it has to."""
    if how.jit_compile:
        check_compilation(graph_def, how.name)
    return assemble(graph_def, *parts, jit_compile=how.jit_compile, **fields)


def _prune_and_check(
    graph_def: GraphDef,
    gradients: Gradients,
    arguments: List[str],
    inputs: Sequence[Input],
    labels: Sequence[str],
    how: _How,
) -> List[str]:
    """Leave only what is needed in a graph, and check that; return the tensors to compute."""
    roots = gradients.names + (arguments if how.random else [])
    prune(graph_def, roots)
    refuse_frozen_seeds(graph_def, arguments, how.name)
    check_ops(graph_def, how.name)
    check_dependence(graph_def, arguments, inputs, labels, how.name)
    return roots


def _cluster(graph: tf.Graph, how: _How) -> Optional[Cluster]:
    """Return the cluster on which a graph lives; None if it is to be frozen."""
    session = how.session or tf.compat.v1.get_default_session()
    if session is None or session.graph is not graph:
        refuse_cluster(how.session, how.name)
        return None
    cluster = Cluster.of(session)
    if cluster and how.jit_compile:
        raise DeclarationError(
            f"jit_compile=True compiles {how.name} for this process, and it lives on the cluster "
            f"{cluster.target}. Leave jit_compile out."
        )
    return cluster


def _add_gradients(
    outputs: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor], name: str
) -> Gradients:
    try:
        return add_gradients(outputs, inputs)
    except (DeclarationError, DeclarationTypeError):
        raise
    except Exception as error:
        if type(error) is LookupError:  # TensorFlow's register of gradients
            raise UnsupportedOpError(
                f"{name} has an op without a gradient: {error}. Give it one with "
                "tf.custom_gradient or tf.RegisterGradient, or stop the gradient before it with "
                "tf.stop_gradient."
            ) from error
        raise DeclarationError(
            f"TensorFlow fails where it builds the gradient of {name}: {message(error)} If that is "
            "about a tf.cond, give all of its branches the same shape. If it is in a gradient of "
            "your own, mend that one. Otherwise put tf.stop_gradient before the op."
        ) from error


def _detach(graph_def: GraphDef, tensors: Sequence[tf.Tensor]) -> Dict[str, str]:
    """Replace tensors by placeholders, so that what computes them can be pruned.

    Variables stay: until they are frozen their tensor is a handle, not a value.
    """
    detached = {}
    for i, tensor in enumerate(tensors):
        if tensor.op.type not in VARIABLE_OPS:
            node = graph_def.node.add(name=f"{SCOPE}_input_{i}", op="Placeholder")
            node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
            detached[tensor.name] = f"{node.name}:0"
    rewire(graph_def, {name: node_of(new) for name, new in detached.items()})
    return detached


# -- functions --------------------------------------------------------------------------------


def _capture_function(function: Callable[..., Any], inputs: Sequence[Input], how: _How) -> Program:
    name = how.name
    traced: Dict[str, Any] = {}
    variables = [variable_of(i.key) for i in inputs]
    specs = [
        TensorSpec("", str(i.key), str(i.dtype), i.shape)
        if v is None
        else input_spec(i, v.dtype, v.shape, label_of(i.key))
        for i, v in zip(inputs, variables)
    ]

    def build(*arguments: tf.Tensor) -> List[tf.Tensor]:
        graph, remaining = tf.compat.v1.get_default_graph(), iter(arguments)
        # A variable that is an input is differentiated by its handle, as it is in a graph.
        tensors = [next(remaining) if v is None else graph.capture(v.handle) for v in variables]
        result = after_assertions(call(function, inputs, tensors, name))
        outputs = tf.nest.flatten(result)
        gradients = _add_gradients(outputs, tensors if how.differentiable else (), name)
        traced.update(
            arguments=[t.name for t in tensors],
            gradients=gradients,
            specs=_output_specs(result, gradients, name),
            structure=structure_of(result),
        )
        return outputs

    signature = [tf.TensorSpec(i.shape, i.dtype) for i, v in zip(inputs, variables) if v is None]

    def concrete_function() -> Any:
        return tf.function(build, autograph=False).get_concrete_function(*signature)

    concrete = concrete_function()
    # The names inside; what the trace returns are copies of them.
    arguments, gradients = traced["arguments"], traced["gradients"]
    graph_def = _as_graph_def(concrete.graph, name)
    clean(graph_def)
    shown = [spec.label for spec in specs]
    roots = _prune_and_check(graph_def, gradients, arguments, inputs, shown, how)
    known = [*concrete.graph.variables, *(v for v in variables if v is not None)]
    with size_checked(name):
        values, frozen = captured_values(graph_def, concrete.graph.captures, known)
        freeze_shapes(graph_def, concrete.graph, {n: v.shape for n, v in values.items()})
        graph_def = freeze(graph_def, values, roots, name)
    parts = graph_def, specs, arguments, traced["specs"], gradients
    read = _frozen(values, arguments, frozen)
    program = _assembled(how, *parts, structure=traced["structure"], frozen=read)
    return dataclasses.replace(program, origins=Origins(lambda: concrete_function().graph))


def _output_specs(result: Any, gradients: Gradients, name: str) -> List[TensorSpec]:
    return [
        TensorSpec("", label, y.dtype.base_dtype.name, shape)
        for label, y, shape in zip(_labels(result, name), tf.nest.flatten(result), gradients.shapes)
    ]


def _labels(result: Any, name: str) -> List[str]:
    """Return a label for each tensor, in the order of ``tf.nest.flatten``."""
    if isinstance(result, Mapping):
        return [x for key in sorted(result) for x in _labels(result[key], f"{name}[{key!r}]")]
    if isinstance(result, (list, tuple)):
        if len(result) == 1:
            return _labels(result[0], name)
        return [x for k, part in enumerate(result) for x in _labels(part, f"{name}[{k}]")]
    return [name]


def structure_of(result: Any) -> Any:
    """Return how tensors are nested, with the position of each in its place."""
    return tf.nest.pack_sequence_as(result, range(len(tf.nest.flatten(result))))


def _as_graph_def(graph: tf.Graph, name: str) -> GraphDef:
    with size_checked(name):
        return graph.as_graph_def()


def _frozen(
    values: Mapping[str, np.ndarray], arguments: Sequence[str], labels: Mapping[str, str] = {}
) -> Tuple[TensorSpec, ...]:
    """Return which of the variables are not inputs."""
    inputs = {node_of(argument) for argument in arguments}
    return tuple(
        TensorSpec(node, labels.get(node, node), str(value.dtype), value.shape)
        for node, value in values.items()
        if node not in inputs
    )
