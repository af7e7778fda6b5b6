"""Arguments of a declaration: known ones only, and the entries of ``params`` and ``feed_dict``."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from typing import (
    Any,
    Callable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import numpy as np
import scipy.sparse
import tensorflow as tf
import theano
import theano.tensor as tt
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Constant, Variable
from theano.sparse.type import SparseType

from pymc3_tf.capture.keys import label_of, same_key
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError

# What names an input: the name of an argument, a tensor, or a variable.
Key = Union[str, tf.Tensor, tf.Variable]
# What an input is given, once it is checked.
Quantity = Union[np.ndarray, Variable]
# What users write for ``params`` and ``feed_dict``. Not every key has a hash.
Entries = Union[Mapping[Key, Any], Sequence[Tuple[Key, Any]]]

F = TypeVar("F", bound=Callable[..., Any])


class Given(NamedTuple):
    """One entry of ``params`` or ``feed_dict``."""

    key: Key
    source: Quantity
    argument: str

    @property
    def label(self) -> str:
        """Name of the argument, or of the tensor or variable."""
        return label_of(self.key)


def known_arguments(function: F) -> F:
    """Let a function name the nearest argument in its error for one that it does not have."""
    names = [n for n in inspect.signature(function).parameters if n not in ("self", "cls")]
    label = re.sub(r"\.__\w+__$", "", function.__qualname__)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1, cutoff=0.8)
                text = f"{label} has no argument {name!r}. "
                if near:
                    raise DeclarationTypeError(f"{text}Did you mean {near[0]!r}?")
                if "params" in names:
                    text += f"A parameter of the density goes into params={{{name!r}: ...}}. "
                raise DeclarationTypeError(f"{text}It has: {', '.join(names)}.")
        return function(*args, **kwargs)

    return cast(F, checked)


def pairs_of(entries: Optional[Entries], argument: str) -> List[Tuple[Key, Any]]:
    """Return ``params`` or ``feed_dict`` as pairs, after checking that it is made of them."""
    if entries is None:
        return []
    pairs: Any = list(entries.items()) if isinstance(entries, Mapping) else entries
    of_pairs = isinstance(pairs, (list, tuple))
    if not of_pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise DeclarationTypeError(
            f"{argument} is a {type(entries).__name__}. Write a dict: "
            f"{argument}={{tensor_or_argument_name: value}}, or a list of pairs of them."
        )
    # tensor.ref() is how TensorFlow 2 makes a key of a tensor.
    pairs = [(key.deref() if hasattr(key, "deref") else key, value) for key, value in pairs]
    for i, (key, _) in enumerate(pairs):
        if any(same_key(key, other) for other, _ in pairs[:i]):
            raise DeclarationError(f"{argument} has {label_of(key)!r} twice. Give it once.")
    return pairs


def given_by(entries: Optional[Entries], argument: str) -> List[Given]:
    """Check ``params`` or ``feed_dict``, and turn each entry into a Theano variable or an array."""
    pairs = pairs_of(entries, argument)
    return [Given(key, _source(value, key, argument), argument) for key, value in pairs]


def data_of(value: Any, key: Key) -> Any:
    """Check what ``feed_dict`` has for the value, which may be a masked array too."""
    return native(value) if np.ma.is_masked(value) else _source(value, key, "feed_dict")


def native(value: Any) -> Any:
    """Return an array in the machine's byte order, which is all that TensorFlow and Theano know.

    A long double becomes a double.
    FITS and netCDF files are in another one. What is no such array is returned as it is.
    """
    dtype = getattr(value, "dtype", None)
    if dtype == np.longdouble:
        return value.astype(float)
    if isinstance(value, (np.ndarray, np.generic)) and dtype is not None and not dtype.isnative:
        return value.astype(dtype.newbyteorder("="))
    return value


def test_value(source: Quantity) -> Any:
    """Return the value for which a model is tried; None for a variable that has none."""
    if isinstance(source, SharedVariable):
        return source.get_value(borrow=True)
    if isinstance(source, Constant):
        return source.data
    if isinstance(source, Variable):
        return getattr(source.tag, "test_value", None)
    return source


def _source(value: Any, key: Key, argument: str) -> Quantity:
    if isinstance(value, Constant):
        value = value.data
    label = label_of(key)
    if isinstance(value, Variable) and isinstance(
        value.type, (tt.TensorType, theano.scalar.Scalar)
    ):
        return value
    if isinstance(value, Variable) or scipy.sparse.issparse(value):
        raise DeclarationTypeError(_refusal(value, label, argument))
    if np.ma.is_masked(value):
        raise DeclarationError(
            f"{argument}: {label!r} has masked entries, which only the observed value can have. "
            "Fill them in, or make them variables of the model."
        )
    try:
        array = np.asarray(value)
        if array.dtype == object:  # a list of PyMC3 variables
            return tt.as_tensor_variable(value)
        if array.dtype.kind in "biuf":
            return native(array)
    except (TypeError, ValueError, NotImplementedError, OverflowError):
        pass
    raise DeclarationTypeError(
        f"{argument}: {label!r} is {value!r} ({type(value).__name__}). Give a PyMC3 variable, a "
        "Theano expression, a number or a numeric array."
    )


def _refusal(value: Any, label: str, argument: str) -> str:
    if scipy.sparse.issparse(value) or isinstance(value.type, SparseType):
        return (
            f"{argument}: {label!r} is a sparse matrix ({type(value).__name__}), which a density "
            "cannot be given. Give it as a dense array: x.toarray(), or theano.sparse."
            "dense_from_sparse(x) of a Theano variable. Or feed the rows, columns and values of "
            "its entries, and build a tf.sparse.SparseTensor of them."
        )
    return (
        f"{argument}: {label!r} is a Theano variable that holds no array of numbers "
        f"({value.type}). Give one of an array in the machine's byte order: "
        "theano.shared(np.asarray(x, float))."
    )
