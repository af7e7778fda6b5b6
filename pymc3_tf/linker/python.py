"""Theano ops without a translation, computed by their own Python code.

XLA cannot compile such a call: it is for functions of which TensorFlow may run a part. Gradients
are what the op's ``grad`` says, as a graph that is linked in turn.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import threading
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
import theano
import theano.tensor as tt
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Apply, Variable, graph_inputs
from theano.graph.op import Op

from pymc3_tf.linker.dispatch import MissingTranslationError, Translation, Value

# Ops may share what they compute with, such as a simulator: no two run at a time.
_lock = threading.RLock()

_allowed: contextvars.ContextVar[bool] = contextvars.ContextVar("allowed", default=False)


@contextlib.contextmanager
def python_ops(allowed: bool) -> Iterator[None]:
    """Say whether a trace may call Python."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def is_allowed() -> bool:
    """Whether this trace may call Python."""
    return _allowed.get()


def by_perform(
    node: Apply, missing: MissingTranslationError, link: Callable[..., Any]
) -> Translation:
    """Return what computes a node by its op's own ``perform``.

    Parameters
    ----------
    node : theano.graph.basic.Apply
    missing : MissingTranslationError
        What to raise if there is no way.
    link : callable
        Makes of a Theano graph, given by outputs and inputs, a function of tensors.

    Raises
    ------
    MissingTranslationError
        If Python is not to be called, if the op has no ``perform`` or takes something else than
        arrays; when it is differentiated, if it has no gradient.
    """
    plain = all(isinstance(x.type, tt.TensorType) for x in [*node.inputs, *node.outputs])
    if not (is_allowed() and plain and _has_perform(node.op)):
        raise missing
    shapes = [_shape(y) for y in node.outputs]
    evaluate = _evaluator(node, shapes)
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", _name(node.op)).strip("_.-")

    @tf.custom_gradient
    def call(*xs: Value) -> Any:
        outputs = tf.numpy_function(
            evaluate, xs, [y.dtype for y in node.outputs], stateful=False, name=name
        )
        outputs = [
            tf.ensure_shape(y, [None] * variable.ndim if shape is None else shape)
            for y, shape, variable in zip(tf.nest.flatten(outputs), shapes, node.outputs)
        ]

        def gradient(*upstream: Value) -> List[Optional[Value]]:
            return _gradient(node, missing, link, xs, outputs, upstream)

        return outputs, gradient

    return lambda *xs: call(*[tf.convert_to_tensor(x, v.dtype) for x, v in zip(xs, node.inputs)])


def _has_perform(op: Op) -> bool:
    return getattr(type(op), "perform", Op.perform) is not Op.perform


def _name(op: Op) -> str:
    text = str(op)
    return type(op).__name__ if " object at 0x" in text else text


def _shape(variable: Variable) -> Optional[Tuple[int, ...]]:
    """Return the shape of a variable, if it is known: models have test values."""
    if all(variable.broadcastable):
        return (1,) * variable.ndim
    value = getattr(variable.tag, "test_value", None)
    return None if value is None else np.shape(value)


def _evaluator(node: Apply, shapes: Sequence[Optional[Tuple[int, ...]]]) -> Callable[..., Any]:
    storage: Any = {x: [None] for x in [*node.inputs, *node.outputs]}
    computed = {x: [x in node.inputs] for x in storage}
    thunk = node.op.make_thunk(node, storage, computed, no_recycling=[], impl="py")

    def call(arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        for x, array in zip(node.inputs, arrays):
            # The array itself is TensorFlow's, and the op may keep it.
            storage[x][0] = np.array(array, x.dtype)
        for y in node.outputs:
            storage[y][0] = None
        thunk()
        return [np.array(storage[y][0], y.dtype) for y in node.outputs]

    def evaluate(*arrays: np.ndarray) -> List[np.ndarray]:
        name = _name(node.op)
        try:
            with _lock:
                found = call(arrays)
        except Exception as error:
            text = f"the Theano op {name} failed with {type(error).__name__}: {error}"
            raise tf.errors.UnknownError(None, None, text) from error
        for array, shape in zip(found, shapes):
            if shape is not None and array.shape != shape:
                text = (
                    f"the Theano op {name} returned an array of shape {array.shape}. It has to be "
                    f"{shape} always, as with the test values of the model."
                )
                raise tf.errors.InvalidArgumentError(None, None, text)
        return found

    return evaluate


def _gradient(
    node: Apply,
    missing: MissingTranslationError,
    link: Callable[..., Any],
    xs: Sequence[Value],
    outputs: Sequence[Value],
    upstream: Sequence[Value],
) -> List[Optional[Value]]:
    with theano.config.change_flags(compute_test_value="off"):
        inputs = [x.type() for x in node.inputs]
        results = node.clone_with_new_inputs(inputs).outputs
        ups = [y.type() for y in results]
        wanted = [x for x in inputs if x.dtype in tt.float_dtypes]
        try:
            found = theano.grad(
                None,
                wanted,
                known_grads=dict(zip(results, ups)),
                disconnected_inputs="ignore",
                return_disconnected="None",
            )
        except Exception as error:
            raise MissingTranslationError(
                f"{missing} Or give the op a method `grad`: then its own Python code is called. "
                f"Without it, Theano's gradient failed ({type(error).__name__}"
                f"{f': {error}' if str(error) else ''})."
            ) from error
    by_input = dict(zip(wanted, found))
    slopes = [slope for slope in found if slope is not None]
    hidden = [x for x in graph_inputs(slopes) if isinstance(x, SharedVariable)]
    if hidden:
        raise MissingTranslationError(
            f"{missing} Its own Python code would be called, but its gradient uses {hidden[0]}, "
            "of which later values would not be seen. Make it an input of the op."
        )
    # What the op returned is known, and not computed again.
    linked = link(slopes, [*inputs, *ups, *results])
    values = dict(zip(slopes, linked(*xs, *upstream, *outputs)))
    return [
        tf.ensure_shape(values[by_input[x]], tensor.shape) if by_input.get(x) is not None else None
        for x, tensor in zip(inputs, xs)
    ]
