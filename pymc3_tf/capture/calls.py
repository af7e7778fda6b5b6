"""Calls of Python functions with symbolic tensors, and what is said where one fails."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

import tensorflow as tf

from pymc3_tf.advice.faults import OWN_FAULTS, advice_on, result_text, said
from pymc3_tf.advice.places import TENSORFLOW, place_of
from pymc3_tf.capture.checks import is_too_large, size_error
from pymc3_tf.capture.freezing import SCOPE
from pymc3_tf.capture.keys import Input, label_of
from pymc3_tf.capture.signatures import call_by_name
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.programs.serialized import STATELESS, every_node


def call_symbolically(function: Callable[..., Any], inputs: Sequence[Input], name: str) -> Any:
    """Return what a function says of symbolic tensors, which need not be tensors."""
    if not tf.executing_eagerly():
        with tf.compat.v1.get_default_graph().as_default(), tf.name_scope(SCOPE):
            placeholders = [tf.compat.v1.placeholder(i.dtype, i.shape) for i in inputs]
            return _result(function, inputs, placeholders, name)
    found: List[Any] = []

    def build(*arguments: tf.Tensor) -> None:
        found.append(_result(function, inputs, arguments, name))

    signature = [tf.TensorSpec(i.shape, i.dtype) for i in inputs]
    tf.function(build, autograph=False).get_concrete_function(*signature)
    return found[0]


def _result(
    function: Callable[..., Any], inputs: Sequence[Input], tensors: Sequence[tf.Tensor], name: str
) -> Any:
    try:
        given = {i.key: t for i, t in zip(inputs, tensors) if isinstance(i.key, str)}
        return call_by_name(function, given)
    except (DeclarationError, DeclarationTypeError):
        raise
    except Exception as error:
        place = place_of(error)
        if isinstance(error, OWN_FAULTS) and not (place and place.called in TENSORFLOW):
            raise  # it says best itself what is wrong in the user's code
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


def call(
    function: Callable[..., Any], inputs: Sequence[Input], tensors: Sequence[tf.Tensor], name: str
) -> Any:
    """Return what the function returns, nested as it may be, after checking that it is tensors."""
    result = tf.nest.map_structure(_value_of, _result(function, inputs, tensors, name))
    for output in tf.nest.flatten(result):
        if not isinstance(output, tf.Tensor):
            raise DeclarationTypeError(
                f"{name} returned {type(output).__name__}, not a tensor. {result_text(output)}"
            )
    return result


def after_assertions(result: Any) -> Any:
    """Let tensors wait for the assertions of their graph, as the results of a tf.function do.

    Otherwise those would go with all else that the tensors do not need.
    """
    graph = tf.compat.v1.get_default_graph()
    waited_for = [op for op in graph.get_operations() if op.type in {"Assert", *STATELESS}]
    if not waited_for or all(n.op != "Assert" for n in every_node(graph.as_graph_def())):
        return result
    with tf.control_dependencies(waited_for):
        return tf.nest.map_structure(tf.identity, result)


def _value_of(output: Any) -> Any:
    """Return a variable, or a tensor from outside of the function, as a tensor of its graph."""
    outside = isinstance(output, tf.Variable) or tf.is_tensor(output) and hasattr(output, "numpy")
    return tf.identity(output) if outside else output
