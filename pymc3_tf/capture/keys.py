"""Keys: what users name the inputs by, and which tensor, variable or argument that is."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow as tf

from pymc3_tf.capture.signatures import arguments_of
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, UnfedPlaceholderError
from pymc3_tf.programs.serialized import Shape, node_of, static_shape

Source = Union[tf.Tensor, Sequence[tf.Tensor], Callable[..., Any]]


class Input(NamedTuple):
    """What one input of a program is called, and what is known of the values it will take."""

    key: Any  # tensor, variable or argument name
    dtype: Optional[str]  # None if the graph alone knows
    shape: Shape
    argument: str = "params"  # the user's argument that it came from, for error messages


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
            raise DeclarationError(
                f"{label_of(key)!r} is both in params and in feed_dict. Leave it in one of them."
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
            f"logp needs {listed([node_of(t.name) for t in unfed])}, which have no value. One of "
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
    guessed = value is None
    # Variables have no plain equality.
    unfed = [name for name in required if not any(same_key(name, key) for key in given)]
    if value is None and first in required and not any(same_key(first, key) for key in params):
        value = first
    elif value is None and first is None and len(unfed) == 1:
        (value,) = unfed
    unfed = [name for name in unfed if not same_key(name, value)]
    if unfed:
        raise UnfedPlaceholderError(
            f"logp needs a value for the argument{'s' if len(unfed) > 1 else ''} "
            f"{', '.join(map(repr, unfed))}. Put each into params or feed_dict."
            f"{guess_text(value) if guessed else ''}"
        )
    return value


def guess_text(value: Any) -> str:
    """Return what to do if the value is not what it was taken to be."""
    if value is None:
        return ""
    return (
        f" The value, the random variable itself, is taken to be {label_of(value)!r}, since "
        "neither params nor feed_dict has it. If it is data, put it into feed_dict; if another is "
        "the value, name that with value=."
    )


def tensor_spec(source: Source, key: Any) -> Tuple[Optional[str], Shape]:
    """Return the dtype and static shape that the graph gives to an input, or None."""
    if key is None or callable(source):
        return None, None
    dtype, shape = type_of(graph_tensor(key, tensors_of(source, "logp")[0].graph, "value", "logp"))
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


def listed(names: Sequence[str]) -> str:
    """Return the names of placeholders as a part of a sentence."""
    kind = "the placeholder" if len(names) == 1 else "the placeholders"
    return f"{kind} " + ", ".join(map(repr, names))


def type_of(tensor: tf.Tensor) -> Tuple[tf.DType, tf.TensorShape]:
    """Return dtype and shape of a tensor, or of the variable if it is the handle of one."""
    if tensor.dtype == tf.resource:
        return tensor.op.get_attr("dtype"), tf.TensorShape(tensor.op.get_attr("shape"))
    return tensor.dtype.base_dtype, tensor.shape


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
