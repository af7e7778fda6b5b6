"""What the user has -> Program, with every check that can be made up front.

A source is a tensor of a TensorFlow graph (or several), or a Python function of TensorFlow ops.
Nothing here knows of Theano or PyMC3.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from pymc3_tf.advice.faults import OWN_FAULTS, advice_on, place_of, result_text, said
from pymc3_tf.advice.origins import Origins
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
from pymc3_tf.capture.frozen_seeds import refuse_frozen_seeds
from pymc3_tf.capture.keys import (
    Source,
    graph_tensor,
    label_of,
    listed,
    tensors_of,
    type_of,
    unfed_placeholders,
    variable_of,
)
from pymc3_tf.capture.seeds import seed_random_ops
from pymc3_tf.capture.signatures import call_by_name
from pymc3_tf.capture.sizes import is_too_large, size_checked, size_error
from pymc3_tf.exceptions import (
    DeclarationError,
    DeclarationTypeError,
    UnfedPlaceholderError,
    UnsupportedOpError,
)
from pymc3_tf.programs.cluster import Cluster
from pymc3_tf.programs.program import Gradients, Program, TensorSpec, add_gradients, assemble
from pymc3_tf.programs.serialized import (
    Shape,
    clean,
    every_node,
    node_of,
    prune,
    rewire,
    static_shape,
)
from pymc3_tf.programs.xla import unsupported_by_xla


class Input(NamedTuple):
    """What one input of a program is called, and what is known of the values it will take."""

    key: Any  # tensor, variable or argument name
    dtype: Optional[str]  # None if the graph alone knows
    shape: Shape
    argument: str = "params"  # the user's argument that it came from, for error messages


def capture(
    source: Source,
    inputs: Sequence[Input],
    *,
    session: Optional[tf.compat.v1.Session] = None,
    jit_compile: bool = False,
    differentiable: bool = True,
    draws: bool = False,
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
    draws : bool
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
    how = _How(name, session, jit_compile, differentiable and not draws, draws)
    if not callable(source):
        return _capture_tensors(source, inputs, how, seeded=draws)
    if tf.executing_eagerly():
        _refuse_cluster(session, name)
        return _capture_function(source, inputs, how)
    # Outside eager mode the function may use the variables and tensors of the user's graph.
    with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(SCOPE):
        placeholders = [tf.compat.v1.placeholder(i.dtype, i.shape) for i in inputs]
        result = _call(source, inputs, placeholders, name)
    fixed = [i._replace(key=p) for i, p in zip(inputs, placeholders)]
    labels = [str(i.key) for i in inputs]
    return _capture_tensors(result, fixed, how, labels)


def trace(function: Callable[..., Any], inputs: Sequence[Input], name: str) -> Any:
    """Return what a function says of symbolic tensors, which need not be tensors."""
    if not tf.executing_eagerly():
        with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(SCOPE):
            placeholders = [tf.compat.v1.placeholder(i.dtype, i.shape) for i in inputs]
            return _returned(function, inputs, placeholders, name)
    found: List[Any] = []

    def build(*arguments: tf.Tensor) -> None:
        found.append(_returned(function, inputs, arguments, name))

    signature = [tf.TensorSpec(i.shape, i.dtype) for i in inputs]
    tf.function(build, autograph=False).get_concrete_function(*signature)
    return found[0]


class _How(NamedTuple):
    """The options of ``capture``."""

    name: str
    session: Optional[tf.compat.v1.Session]
    jit_compile: bool
    differentiable: bool
    draws: bool


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
    specs = [_input_spec(i, *type_of(t), label) for i, t, label in zip(inputs, tensors, labels)]
    _check_unfed(outputs, tensors, name)
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
    roots = gradients.names + (arguments if how.draws else [])
    prune(graph_def, roots)
    refuse_frozen_seeds(graph_def, arguments, name)
    _check_ops(graph_def, name)
    _check_dependence(graph_def, arguments, inputs, labels, name)
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
    _check_compilation(graph_def, how)
    program = assemble(
        graph_def,
        specs,
        arguments,
        outs,
        gradients,
        structure=structure,
        frozen=_frozen(values, arguments),
        jit_compile=how.jit_compile,
    )
    return dataclasses.replace(program, origins=Origins(weakref.ref(graph)))


def _cluster(graph: tf.Graph, how: _How) -> Optional[Cluster]:
    """Return the cluster on which a graph lives; None if it is to be frozen."""
    session = how.session or tf.compat.v1.get_default_session()
    if session is None or session.graph is not graph:
        _refuse_cluster(how.session, how.name)
        return None
    cluster = Cluster.of(session)
    if cluster and how.jit_compile:
        raise DeclarationError(
            f"jit_compile=True compiles {how.name} for this process, and it lives on the cluster "
            f"{cluster.target}. Leave jit_compile out."
        )
    return cluster


def _refuse_cluster(session: Optional[tf.compat.v1.Session], name: str) -> None:
    if getattr(session, "sess_str", None):
        raise DeclarationError(
            f"{name} is not in the graph of the session, which is connected to a cluster. Build it "
            "of tensors of that graph, inside of `with session.graph.as_default():`."
        )


def _input_spec(given: Input, dtype: tf.DType, shape: tf.TensorShape, label: str) -> TensorSpec:
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


def _check_unfed(outputs: Sequence[tf.Tensor], tensors: Sequence[tf.Tensor], name: str) -> None:
    unfed = [node_of(t.name) for t in unfed_placeholders(outputs, tensors)]
    if unfed:
        raise UnfedPlaceholderError(
            f"{name} needs {listed(unfed)}, which {'has' if len(unfed) == 1 else 'have'} no "
            "value. Give each a parameter in params or data in feed_dict."
        )


def _add_gradients(
    outputs: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor], name: str
) -> Gradients:
    try:
        return add_gradients(outputs, inputs)
    except LookupError as error:
        raise UnsupportedOpError(
            f"{name} has an op without a gradient: {error}. Give it one with tf.custom_gradient or "
            "tf.RegisterGradient, or stop the gradient before it with tf.stop_gradient."
        ) from error


def _detach(graph_def: Any, tensors: Sequence[tf.Tensor]) -> Dict[str, str]:
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


def _returned(
    function: Callable[..., Any], inputs: Sequence[Input], tensors: Sequence[tf.Tensor], name: str
) -> Any:
    try:
        given = {i.key: t for i, t in zip(inputs, tensors) if isinstance(i.key, str)}
        return call_by_name(function, given)
    except (DeclarationError, DeclarationTypeError, *OWN_FAULTS):
        raise
    except Exception as error:
        raise _untraceable(error, inputs, name) from error


def _untraceable(error: Exception, inputs: Sequence[Input], name: str) -> DeclarationError:
    labels = [label_of(i.key) for i in inputs]
    described = ", ".join(
        f"{label}: {i.dtype} {tf.TensorShape(i.shape)}" for label, i in zip(labels, inputs)
    )
    place = place_of(error)
    at = f" at {place}" if place else ""
    if is_too_large(error):
        return size_error(f"a constant of {name}", error, at)
    known = [(label, i.dtype) for label, i in zip(labels, inputs) if i.dtype is not None]
    advice = advice_on(error, place, known)
    return DeclarationError(
        f"{name} could not be traced with ({described}){at}. {advice}{' ' if advice else ''}"
        f"{said(error)}"
    )


def _call(
    function: Callable[..., Any], inputs: Sequence[Input], tensors: Sequence[tf.Tensor], name: str
) -> Any:
    """Return what the function returns, nested as it may be, after checking that it is tensors."""
    result = tf.nest.map_structure(_value_of, _returned(function, inputs, tensors, name))
    for output in tf.nest.flatten(result):
        if not isinstance(output, tf.Tensor):
            raise DeclarationTypeError(
                f"{name} returned {type(output).__name__}, not a tensor. {result_text(output)}"
            )
    return result


def _value_of(output: Any) -> Any:
    return tf.convert_to_tensor(output) if isinstance(output, tf.Variable) else output


def _capture_function(function: Callable[..., Any], inputs: Sequence[Input], how: _How) -> Program:
    name = how.name
    traced: Dict[str, Any] = {}
    variables = [variable_of(i.key) for i in inputs]
    specs = [
        TensorSpec("", str(i.key), str(i.dtype), i.shape)
        if v is None
        else _input_spec(i, v.dtype, v.shape, label_of(i.key))
        for i, v in zip(inputs, variables)
    ]

    def build(*arguments: tf.Tensor) -> List[tf.Tensor]:
        graph, remaining = tf.compat.v1.get_default_graph(), iter(arguments)
        # A variable that is an input is differentiated by its handle, as it is in a graph.
        tensors = [next(remaining) if v is None else graph.capture(v.handle) for v in variables]
        result = _call(function, inputs, tensors, name)
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
    roots = gradients.names + (arguments if how.draws else [])
    prune(graph_def, roots)
    refuse_frozen_seeds(graph_def, arguments, name)
    _check_ops(graph_def, name)
    _check_dependence(graph_def, arguments, inputs, [spec.label for spec in specs], name)
    known = [*concrete.graph.variables, *(v for v in variables if v is not None)]
    with size_checked(name):
        values, labels = captured_values(graph_def, concrete.graph.captures, known)
        freeze_shapes(graph_def, concrete.graph, {n: v.shape for n, v in values.items()})
        graph_def = freeze(graph_def, values, roots, name)
    _check_compilation(graph_def, how)
    program = assemble(
        graph_def,
        specs,
        arguments,
        traced["specs"],
        gradients,
        structure=traced["structure"],
        frozen=_frozen(values, arguments, labels),
        jit_compile=how.jit_compile,
    )
    return dataclasses.replace(program, origins=Origins(lambda: concrete_function().graph))


# -- checks -----------------------------------------------------------------------------------


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


def _check_ops(graph_def: Any, name: str) -> None:
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
        definition = op_def_registry.get(node.op)
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


def _check_dependence(
    graph_def: Any,
    arguments: Sequence[str],
    inputs: Sequence[Input],
    labels: Sequence[str],
    name: str,
) -> None:
    present = {node.name for node in graph_def.node}
    for argument, given, label in zip(arguments, inputs, labels):
        if node_of(argument) not in present:
            raise DeclarationError(
                f"{name} does not depend on {label!r}, which {given.argument} gives. Leave it out, "
                "or use it in the computation."
            )


def _check_compilation(graph_def: Any, how: _How) -> None:
    unsupported = unsupported_by_xla(graph_def) if how.jit_compile else []
    if unsupported:
        raise UnsupportedOpError(
            f"XLA cannot compile {', '.join(unsupported)}, which {how.name} or its gradient uses. "
            "Leave jit_compile out."
        )


def _as_graph_def(graph: tf.Graph, name: str) -> Any:
    with size_checked(name):
        return graph.as_graph_def()


def _frozen(
    values: Mapping[str, np.ndarray], arguments: Sequence[str], labels: Mapping[str, str] = {}
) -> List[TensorSpec]:
    """Return which of the variables are not inputs."""
    inputs = {node_of(argument) for argument in arguments}
    return [
        TensorSpec(node, labels.get(node, node), str(value.dtype), value.shape)
        for node, value in values.items()
        if node not in inputs
    ]
