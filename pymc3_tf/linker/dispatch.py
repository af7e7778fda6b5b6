"""The table of translations, from Theano ops to functions of TensorFlow tensors.

A translation gets *values*. A value that is known while the graph is traced (a constant, a shape,
or computed from them) is a NumPy array; any other is a tensor. TensorFlow takes both, so only
translations that decide about shapes have to check.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from typing import Any, Callable, Dict, Iterator, Tuple, Union

import numpy as np
import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.sparse.type import SparseType

# What a translation gets and returns: an array where it is known while the graph is traced, else a
# tensor.
Value = Union[np.ndarray, tf.Tensor]
# A length, in the same way.
Size = Union[int, tf.Tensor]
# Takes the values of a node's inputs, returns that of its output, or a list of those of several.
Translation = Callable[..., Any]

# Arrays of at most this size become constants of the TensorFlow graph.
CONSTANT_BYTES = 4096

_residents: contextvars.ContextVar[Dict[int, Value]] = contextvars.ContextVar("residents")


class MissingTranslationError(NotImplementedError):
    """A Theano op has no translation to TensorFlow."""


@functools.singledispatch
def tf_funcify(op: Op, node: Apply) -> Translation:
    """Translate a Theano op.

    Register translations of your own ops with it.

    Parameters
    ----------
    op : theano.graph.op.Op
        Decides, by its class, which translation is used.
    node : theano.graph.basic.Apply
        Where the op is used; it has the dtypes of inputs and outputs.

    Returns
    -------
    callable
        A function of the values of the node's inputs (tensors, or NumPy arrays where they are
        known) that returns the value of its output, or a list of values if there are several.

    Raises
    ------
    NotImplementedError
        If there is no translation.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from pymc3_tf.linker import tf_funcify
    >>> from theano.graph.op import Op
    >>> class Double(Op):
    ...     pass
    >>> @tf_funcify.register(Double)
    ... def _(op, node):
    ...     return lambda x: 2.0 * x
    """
    raise MissingTranslationError(
        f"the Theano op {op} has no translation to TensorFlow; it computes {_place(node)}. "
        f"Register one: @pymc3_tf.linker.tf_funcify.register({type(op).__name__}) on a function "
        f"(op, node) that returns a function of TensorFlow tensors.{_advice_on_sparse(node)}"
    )


def _advice_on_sparse(node: Apply) -> str:
    if not any(isinstance(x.type, SparseType) for x in [*node.inputs, *node.outputs]):
        return ""
    return (
        " Or make its sparse matrix a dense array: tt.dot(matrix.toarray(), x) for "
        "theano.sparse.dot(matrix, x)."
    )


def _place(node: Apply) -> str:
    """Describe a node by the nearest variable that has a name."""
    if node.outputs[0].name:
        return repr(node.outputs[0].name)
    named = [x.name for x in node.inputs if getattr(x, "name", None)]
    if named:
        return f"an expression of {', '.join(map(repr, named))}"
    return f"{node.outputs[0]} from {', '.join(map(str, node.inputs)) or 'nothing'}"


def is_known(x: Value) -> bool:
    """Whether a value is known while the graph is traced."""
    return not tf.is_tensor(x)


def cast(x: Value, dtype: Value) -> Value:
    """Return the value with another dtype, known or not."""
    if is_known(x):
        return np.asarray(x, tf.as_dtype(dtype).as_numpy_dtype)
    return tf.cast(x, dtype)


def shape_of(x: Value) -> Tuple[Size, ...]:
    """Return the shape as a tuple of int, or of scalar tensors where it is not known."""
    if is_known(x):
        return np.shape(x)
    tensor: tf.Tensor = x
    if tensor.shape.is_fully_defined():
        return tuple(tensor.shape.as_list())
    dynamic = tf.shape(tensor, out_type=tf.int64)
    return tuple(dynamic[i] if n is None else n for i, n in enumerate(tensor.shape.as_list()))


def as_sizes(shape: Value, length: int) -> Value:
    """Return a shape, given as one value or several, as what TensorFlow takes as a shape."""
    if isinstance(shape, (list, tuple)):
        if all(is_known(n) for n in shape):
            return [int(n) for n in shape]
        return tf.stack([tf.cast(n, tf.int64) for n in shape]) if length else []
    return [int(n) for n in np.atleast_1d(shape)] if is_known(shape) else shape


@contextlib.contextmanager
def residents(tensors: Dict[int, Value]) -> Iterator[None]:
    """Set the tensors that hold large arrays, by the ``id`` of the array, during a trace."""
    token = _residents.set(tensors)
    try:
        yield
    finally:
        _residents.reset(token)


def resident(array: np.ndarray) -> Value:
    """Return the tensor that holds a large array."""
    found = _residents.get({}).get(id(array))
    return tf.constant(array) if found is None else found
