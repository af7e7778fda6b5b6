"""What the user has -> Program, with every check that can be made up front.

A source is a tensor of a TensorFlow graph (or several), or a Python function of TensorFlow ops.
Nothing here knows of Theano or PyMC3.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants, op_def_registry
from tensorflow.python.util import deprecation

from pymc3_tf.arguments import arguments_of, call_by_name
from pymc3_tf.cluster import Cluster
from pymc3_tf.exceptions import (
    DeclarationError,
    DeclarationTypeError,
    GraphSizeError,
    MissingSessionError,
    UnfedPlaceholderError,
    UninitializedVariableError,
    UnsupportedOpError,
)
from pymc3_tf.grappler import optimize
from pymc3_tf.program import (
    Gradients,
    Program,
    Shape,
    TensorSpec,
    add_gradients,
    assemble,
    called_functions,
    clean,
    lower_control_flow,
    node_of,
    prune,
    rewire,
    static_shape,
)
from pymc3_tf.seeds import seed_random_ops
from pymc3_tf.xla import unsupported_by_xla

Source = Union[tf.Tensor, Sequence[tf.Tensor], Callable[..., Any]]


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
    with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(_SCOPE):
        placeholders = [tf.compat.v1.placeholder(i.dtype, i.shape) for i in inputs]
        result = _call(source, inputs, placeholders, name)
    fixed = [i._replace(key=p) for i, p in zip(inputs, placeholders)]
    labels = [str(i.key) for i in inputs]
    return _capture_tensors(result, fixed, how, labels)


def trace(function: Callable[..., Any], inputs: Sequence[Input], name: str) -> Any:
    """Return what a function says of symbolic tensors, which need not be tensors."""
    if not tf.executing_eagerly():
        with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(_SCOPE):
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


_SCOPE = "pymc3_tf"


# -- keys ---------------------------------------------------------------------------------------


def same_key(a: Any, b: Any) -> bool:
    """Whether two keys name the same input. Tensors have no plain equality."""
    return a is b or (isinstance(a, str) and isinstance(b, str) and a == b)


def find_value(source: Source, params: Sequence[Any], feeds: Sequence[Any], value: Any) -> Any:
    """Check the keys of a declaration, and find the one that stands for the random variable.

    Parameters
    ----------
    source : tf.Tensor or callable
        The log density.
    params, feeds : sequence
        Keys of ``params`` and ``feed_dict``.
    value : tf.Tensor, str or None
        What the user named as the value.

    Returns
    -------
    tf.Tensor, str or None
        None if all inputs are given.
    """
    given = [*params, *feeds]
    for i, key in enumerate(given):
        if any(same_key(key, other) for other in given[:i]):
            label = key if isinstance(key, str) else node_of(key.name)
            raise DeclarationError(
                f"{label!r} is both in params and in feed_dict. Leave it in one of them."
            )
    if callable(source):
        return _find_argument(source, params, given, value)
    (logp,) = tensors_of(source, "logp")[:1]
    tensors = [graph_tensor(key, logp.graph, "params or feed_dict", "logp") for key in given]
    if value is not None:
        graph_tensor(value, logp.graph, "value", "logp")
        return value
    unfed = unfed_placeholders([logp], tensors)
    if len(unfed) > 1:
        raise UnfedPlaceholderError(
            f"logp needs {_listed([node_of(t.name) for t in unfed])}, which have no value. One of "
            "them can be the random variable: name it with value=. The others have to be in params "
            "or in feed_dict."
        )
    return unfed[0] if unfed else None


def _find_argument(
    function: Callable[..., Any], params: Sequence[Any], given: Sequence[Any], value: Any
) -> Any:
    names, required, first, takes_any = arguments_of(function, "logp")
    for key in [*given, value]:
        if key is None or isinstance(key, str) and (key in names or takes_any):
            continue
        if variable_of(key) is not None and key is not value:
            continue
        if not isinstance(key, str):
            raise DeclarationTypeError(
                f"params, feed_dict or value has the key {key!r}, but logp is a function: its keys "
                "are the names of its arguments, or variables that it uses."
            )
        raise DeclarationError(
            f"{key!r} is not an argument of logp. Its arguments are: {', '.join(names)}."
        )
    # Variables have no plain equality.
    unfed = [name for name in required if not any(same_key(name, key) for key in given)]
    if value is None and first in required and not any(same_key(first, key) for key in params):
        value = first
    elif value is None and first is None and len(unfed) == 1:
        (value,) = unfed
    unfed = [name for name in unfed if not same_key(name, value)]
    if unfed:
        raise UnfedPlaceholderError(
            f"logp needs the argument{'s' if len(unfed) > 1 else ''} "
            f"{', '.join(map(repr, unfed))}, which no one gives. Put each into params or feed_dict."
        )
    return value


def tensor_spec(source: Source, key: Any) -> Tuple[Optional[str], Shape]:
    """Return the dtype and static shape that the graph gives to an input, or None."""
    if key is None or callable(source):
        return None, None
    dtype, shape = _type_of(graph_tensor(key, tensors_of(source, "logp")[0].graph, "value", "logp"))
    return dtype.name, static_shape(shape)


def variable_of(key: Any) -> Optional[tf.Variable]:
    """Return the eager variable that a key is, or that a Keras variable holds; else None."""
    held = getattr(key, "value", None)
    variable = held if isinstance(held, tf.Variable) else key
    handle = getattr(variable, "handle", None) if isinstance(variable, tf.Variable) else None
    return variable if hasattr(handle, "numpy") else None


def label_of(key: Any) -> str:
    """Return the name of a key, as the user wrote it."""
    if isinstance(key, str):
        return key
    name = getattr(key, "path", None) or getattr(key, "name", key)
    return str(name).split(":")[0]


# -- graphs -----------------------------------------------------------------------------------


def tensors_of(source: Any, name: str) -> List[tf.Tensor]:
    """Return the tensors of a source that is not a function, or say what is wrong with it."""
    tensors = tf.nest.flatten(source)
    for tensor in tensors:
        if isinstance(tensor, tf.Tensor) and hasattr(tensor, "numpy"):
            raise DeclarationTypeError(
                f"{name} is an eager tensor, that is a number: {tensor!r}. Write the function that "
                f"computes it instead: {name}=lambda value, ...: ..."
            )
        if not isinstance(tensor, tf.Tensor):
            raise DeclarationTypeError(
                f"{name} must be a tf.Tensor of a graph or a function of TensorFlow ops, "
                f"not {type(tensor).__name__}: {tensor!r}"
            )
    if len({id(tensor.graph) for tensor in tensors}) != 1:
        raise DeclarationError(
            f"{name} has tensors of different graphs. Give tensors of one graph."
        )
    return tensors


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
    specs = [_input_spec(i, *_type_of(t), label) for i, t, label in zip(inputs, tensors, labels)]
    _check_unfed(outputs, tensors, name)
    if graph.finalized:
        raise DeclarationError(
            f"the graph of {name} is finalized, and its gradient has to be added to it. Declare "
            "before graph.finalize() is called (a MonitoredSession calls it)."
        )
    with graph.as_default(), tf.name_scope(_SCOPE):
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
    _check_ops(graph_def, name)
    _check_dependence(graph_def, arguments, inputs, labels, name)
    parameters = {node_of(argument): spec for argument, spec in zip(arguments, specs)}
    outs = _output_specs(source, gradients, name)
    structure = structure_of(source)
    if cluster:
        values = _stand_ins(graph_def, parameters)
        live = _share_variables(graph_def, values)
        if live:
            cluster.check_variables(graph_def, live, name)
        graph_def = _freeze_only(graph_def, values, roots)
        return assemble(
            graph_def, specs, arguments, outs, gradients, structure=structure, cluster=cluster
        )
    values = _variable_values(graph_def, parameters, graph, how.session, name)
    _freeze_shapes(graph_def, graph, {})
    graph_def = freeze(graph_def, values, roots, name)
    _check_compilation(graph_def, how)
    return assemble(
        graph_def,
        specs,
        arguments,
        outs,
        gradients,
        structure=structure,
        frozen=_frozen(values, arguments),
        jit_compile=how.jit_compile,
    )


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


def graph_tensor(key: Any, graph: tf.Graph, argument: str, name: str) -> tf.Tensor:
    """Return the tensor of ``graph`` that a key of ``params`` or ``feed_dict`` stands for."""
    if isinstance(key, tf.Variable) or hasattr(key, "handle") and hasattr(key, "assign"):
        if hasattr(key, "numpy") and getattr(key.handle, "graph", None) is None:
            raise DeclarationTypeError(
                f"{argument} has an eager variable, {key.name!r}. "
                "Make it an argument of the function instead, and give its name as the key."
            )
        tensor = key.op.outputs[0]
    elif isinstance(key, tf.Tensor) and not hasattr(key, "numpy"):
        tensor = key
    elif isinstance(key, str):
        raise DeclarationTypeError(
            f"{argument} has the key {key!r}, but {name} is a tensor: its keys are the tensors "
            "themselves, not their names. Write "
            f"graph.get_tensor_by_name({key + ':0'!r}) instead."
        )
    else:
        raise DeclarationTypeError(
            f"{argument} has a key of type {type(key).__name__}: {key!r}. With a tensor as {name}, "
            "the keys are tensors or variables of its graph."
        )
    if tensor.graph is not graph:
        raise DeclarationError(
            f"{argument} has {node_of(tensor.name)!r}, which is not in the graph of {name}. "
            "Give the tensor of the graph in which the log density was built."
        )
    return tensor


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


def unfed_placeholders(outputs: Sequence[tf.Tensor], given: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """Return the placeholders that the outputs need beyond the given tensors."""
    known = {t.name for t in given}
    found, seen = [], set()
    stack = [t for t in outputs if t.name not in known]
    while stack:
        tensor = stack.pop()
        if tensor.op in seen:
            continue
        seen.add(tensor.op)
        if tensor.op.type in ("Placeholder", "PlaceholderV2"):
            found.append(tensor)
        stack += [t for t in tensor.op.inputs if t.name not in known]
        stack += [t for op in tensor.op.control_inputs for t in op.outputs[:1]]
    return sorted(found, key=lambda t: t.name)


def _check_unfed(outputs: Sequence[tf.Tensor], tensors: Sequence[tf.Tensor], name: str) -> None:
    unfed = [node_of(t.name) for t in unfed_placeholders(outputs, tensors)]
    if unfed:
        raise UnfedPlaceholderError(
            f"{name} needs {_listed(unfed)}, which {'has' if len(unfed) == 1 else 'have'} no "
            "value. Give each a parameter in params or data in feed_dict."
        )


def _listed(names: Sequence[str]) -> str:
    kind = "the placeholder" if len(names) == 1 else "the placeholders"
    return f"{kind} " + ", ".join(map(repr, names))


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
        if tensor.op.type not in _VARIABLE_OPS:
            node = graph_def.node.add(name=f"{_SCOPE}_input_{i}", op="Placeholder")
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
    except (DeclarationError, DeclarationTypeError):
        raise
    except (AssertionError, TypeError, ValueError, tf.errors.OpError) as error:
        described = ", ".join(
            f"{i.key if isinstance(i.key, str) else k}: {i.dtype} {tf.TensorShape(i.shape)}"
            for k, i in enumerate(inputs)
        )
        raise DeclarationError(
            f"{name} could not be traced with ({described}): {type(error).__name__}: {error}"
        ) from error


def _call(
    function: Callable[..., Any], inputs: Sequence[Input], tensors: Sequence[tf.Tensor], name: str
) -> Any:
    """Return what the function returns, nested as it may be, after checking that it is tensors."""
    result = tf.nest.map_structure(_value_of, _returned(function, inputs, tensors, name))
    for output in tf.nest.flatten(result):
        if not isinstance(output, tf.Tensor):
            raise DeclarationTypeError(
                f"{name} returned {type(output).__name__}, not a tensor. Compute with TensorFlow "
                "ops (tf.math, tf.linalg, ...) instead of NumPy or Python numbers."
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
    concrete = tf.function(build, autograph=False).get_concrete_function(*signature)
    # The names inside; what the trace returns are copies of them.
    arguments, gradients = traced["arguments"], traced["gradients"]
    graph_def = _as_graph_def(concrete.graph, name)
    clean(graph_def)
    roots = gradients.names + (arguments if how.draws else [])
    prune(graph_def, roots)
    _check_ops(graph_def, name)
    _check_dependence(graph_def, arguments, inputs, [spec.label for spec in specs], name)
    known = [*concrete.graph.variables, *(v for v in variables if v is not None)]
    values, labels = _captured_values(graph_def, concrete.graph.captures, known)
    _freeze_shapes(graph_def, concrete.graph, {n: v.shape for n, v in values.items()})
    graph_def = freeze(graph_def, values, roots, name)
    _check_compilation(graph_def, how)
    return assemble(
        graph_def,
        specs,
        arguments,
        traced["specs"],
        gradients,
        structure=traced["structure"],
        frozen=_frozen(values, arguments, labels),
        jit_compile=how.jit_compile,
    )


def _captured_values(
    graph_def: Any, captures: Sequence[Tuple[Any, Any]], known: Sequence[tf.Variable]
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


def _make_constant(node: Any, value: np.ndarray) -> None:
    proto = tf.make_tensor_proto(value)
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


# -- checks and freezing ----------------------------------------------------------------------


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
    "Assert", "Print", "PrintV2", "If", "While", "Case", "StatefulPartitionedCall",
    "VariableV2", "Variable", "VarHandleOp", "ReadVariableOp", "ResourceGather",
    "ResourceGatherNd", "VariableShape", "Placeholder",
}  # fmt: skip
# TensorArrays and stacks live and die within one evaluation.
_STATEFUL_PREFIXES = ("TensorArray", "Stack")
_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")
_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def _check_ops(graph_def: Any, name: str) -> None:
    bodies = [graph_def.node] + [f.node_def for f in graph_def.library.function]
    functions = {f.signature.name for f in graph_def.library.function}
    for node in (node for body in bodies for node in body):
        where = f"{name} uses {node.op} at the node {node.name!r}"
        if node.op in _PYTHON_OPS:
            raise UnsupportedOpError(
                f"{where}: Python code (tf.py_function, tf.numpy_function) cannot be frozen with "
                "the graph or sent to other processes. Write it with TensorFlow ops, or make it a "
                "Theano op (theano.compile.ops.as_op) of the PyMC3 model."
            )
        if node.op in functions or node.op in _STATEFUL_ALLOWED:
            continue
        if node.op.startswith(_STATEFUL_PREFIXES):
            continue
        definition = op_def_registry.get(node.op)
        if definition is None or not definition.is_stateful:
            continue
        if "Random" in node.op or node.op in ("Multinomial", "ParameterizedTruncatedNormal"):
            if name == "random":
                raise UnsupportedOpError(
                    f"{where}: it cannot be given a seed there. Use the tf.random.stateless_... "
                    "ops in a function of seed and size; in a graph, tf.random.normal, uniform, "
                    "truncated_normal, gamma, poisson and categorical work too, outside of loops."
                )
            raise UnsupportedOpError(
                f"{where}: it draws random numbers, and a log density must give the same number "
                "each time. Use a tf.random.stateless_... op with a fixed seed, or make the random "
                "quantity a variable of the PyMC3 model."
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
    try:
        return graph.as_graph_def()
    except ValueError as error:
        raise GraphSizeError(
            f"the graph of {name} is over 2 GB, more than TensorFlow can serialize ({error}). "
            "Replace its large constants by placeholders, and hand the arrays over by feed_dict."
        ) from error


def _stand_ins(graph_def: Any, parameters: Mapping[str, TensorSpec]) -> Dict[str, np.ndarray]:
    """Return something to freeze for each variable that is a parameter."""
    return {
        node.name: np.zeros(
            [n or 0 for n in parameters[node.name].shape or ()], parameters[node.name].dtype
        )
        for node in graph_def.node
        if node.op in _VARIABLE_OPS and node.name in parameters
    }


def _share_variables(graph_def: Any, parameters: Mapping[str, Any]) -> List[str]:
    """Let variables be found under any other name of their node; return those that stay."""
    live = [n for n in graph_def.node if n.op in _VARIABLE_OPS and n.name not in parameters]
    for node in live:
        if not node.attr["shared_name"].s:
            node.attr["shared_name"].s = node.name.encode()
    return [node.name for node in live]


def _freeze_only(graph_def: Any, values: Mapping[str, np.ndarray], roots: Sequence[str]) -> Any:
    """Turn some of the variables into constants, and leave all else as it is."""
    if not values:
        return graph_def
    with deprecation.silence():
        return convert_to_constants.convert_variables_to_constants_from_session_graph(
            _Values(values),
            graph_def,
            sorted({node_of(root) for root in roots}),
            variable_names_allowlist=set(values),
        )


def _variable_values(
    graph_def: Any,
    parameters: Mapping[str, TensorSpec],
    graph: tf.Graph,
    session: Optional[tf.compat.v1.Session],
    name: str,
) -> Dict[str, np.ndarray]:
    """Read the variables of a graph, or stand-ins for those that are parameters."""
    values = _stand_ins(graph_def, parameters)
    wanted = {
        node.name: _readable(graph.get_tensor_by_name(f"{node.name}:0"))
        for node in graph_def.node
        if node.op in _VARIABLE_OPS and node.name not in parameters
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
    if missing:
        raise UninitializedVariableError(
            f"{name} needs variables that have no value in the session: "
            f"{', '.join(map(repr, missing))}. Run "
            "session.run(tf.compat.v1.global_variables_initializer()) or restore a checkpoint "
            "first."
        )
    return values


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


def _readable(tensor: tf.Tensor) -> tf.Tensor:
    if tensor.dtype != tf.resource:
        return tensor
    with tensor.graph.as_default(), tf.name_scope(_SCOPE):
        return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=_type_of(tensor)[0])


def _type_of(tensor: tf.Tensor) -> Tuple[tf.DType, tf.TensorShape]:
    """Return dtype and shape of a tensor, or of the variable if it is the handle of one."""
    if tensor.dtype == tf.resource:
        return tensor.op.get_attr("dtype"), tf.TensorShape(tensor.op.get_attr("shape"))
    return tensor.dtype.base_dtype, tensor.shape


def _freeze_shapes(graph_def: Any, graph: tf.Graph, shapes: Mapping[str, Any]) -> None:
    """Replace the shapes of variables by constants: the conversion leaves them behind."""
    for node in graph_def.node:
        if node.op == "VariableShape":
            handle = graph.get_operation_by_name(node.name).inputs[0]
            while handle.op.type in ("While", "StatelessWhile", "Identity"):
                # A loop hands on what it captured, and TensorFlow may not say what that is.
                handle = handle.op.inputs[handle.value_index]
            dtype = tf.as_dtype(node.attr["out_type"].type).as_numpy_dtype
            shape = shapes.get(handle.op.name)
            shape = _type_of(handle)[1].as_list() if shape is None else shape
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
    graph_def: Any, values: Mapping[str, np.ndarray], roots: Sequence[str], name: str
) -> Any:
    """Turn variables into constants, and calls of functions into the ops that they stand for."""
    with deprecation.silence():
        graph_def = convert_to_constants.convert_variables_to_constants_from_session_graph(
            _Values(values), graph_def, sorted({node_of(root) for root in roots})
        )
    _rename_returns(graph_def)
    for node in graph_def.node:
        if node.op == "VarHandleOp" or (
            node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum
        ):
            raise UnsupportedOpError(
                f"{name}: the resource {node.name!r} could not be frozen. Only variables can be; "
                "hand other state over by feed_dict."
            )
    return _inline(graph_def, roots)


def _rename_returns(graph_def: Any) -> None:
    """Let functions return what variables have become: the conversion forgets what they return."""
    for function in graph_def.library.function:
        ops = {node.name: node.op for node in function.node_def}
        for result, tensor in function.ret.items():
            node, *output = tensor.split(":")
            if ops.get(node) == "Identity" and output == ["value", "0"]:
                function.ret[result] = f"{node}:output:0"


def _inline(graph_def: Any, roots: Sequence[str]) -> Any:
    """Inline function calls: only their Python objects, which a graph leaves, know gradients."""
    functions = {f.signature.name for f in graph_def.library.function}
    calls = {"PartitionedCall", "StatefulPartitionedCall"} | functions
    bodies = [graph_def.node] + [f.node_def for f in graph_def.library.function]
    if not any(node.op in calls for body in bodies for node in body):
        return graph_def
    # Loops have to stay as they are: their gradient is known.
    lower_control_flow(graph_def, False)
    _declare_stateless(graph_def)
    keep = [node.name for node in graph_def.node if node.op == "Placeholder"]
    inlined = optimize(graph_def, [*roots, *keep], ["function"])
    clean(inlined)
    lower_control_flow(inlined, True)
    return inlined


def _declare_stateless(graph_def: Any) -> None:
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
    for nodes in [graph_def.node] + [f.node_def for f in graph_def.library.function]:
        for node in nodes:
            if node.op == "StatefulPartitionedCall" and node.attr["f"].func.name not in stateful:
                node.op = "PartitionedCall"


def _is_stateful(node: Any, functions: Mapping[str, Any], stateful: Set[str]) -> bool:
    called = [name for name in called_functions(node) if name in functions]
    definition = op_def_registry.get(node.op)
    if called:
        return any(name in stateful for name in called)
    return definition is None or definition.is_stateful


def needed(outputs: Sequence[tf.Tensor], tensor: tf.Tensor, inputs: Sequence[tf.Tensor]) -> bool:
    """Whether the outputs depend on a tensor, other than through one of the other inputs."""
    blocked = {t.name for t in inputs if t is not tensor}
    seen, stack = set(), [t for t in outputs]
    while stack:
        current = stack.pop()
        if current.name == tensor.name:
            return True
        if current.name not in seen and current.name not in blocked:
            seen.add(current.name)
            stack += current.op.inputs
    return False
