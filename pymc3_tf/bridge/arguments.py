"""The arguments of a declaration that are no inputs: what each may be."""

from __future__ import annotations

import inspect
import numbers
import warnings
from decimal import Decimal
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd
import scipy.sparse
import tensorflow as tf
from theano.graph.basic import Variable
from theano.tensor.type import TensorType

from pymc3_tf.bridge.entries import test_value
from pymc3_tf.bridge.op import Check
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.gradients import numerical
from pymc3_tf.runtime.devices import checked_device

DEFAULT_TRANSFORM = "auto"
_NUMBERS = "Give a number or an array of numbers"
# What to write, by the kind of dtype that is given.
_HELD = {
    "U": "Give numbers for text, such as pandas.factorize(x)[0]",
    "S": "Give numbers for text, such as pandas.factorize(x)[0]",
    "M": "Give numbers for dates, such as days since the first",
    "m": "Give numbers for times, such as x / np.timedelta64(1, 's')",
    "V": "Give one of its columns",
    "c": "Give its real or its imaginary part",
}


class Options(NamedTuple):
    """How the log density is computed. `TFDensity` documents each."""

    session: Optional[tf.compat.v1.Session] = None
    jit_compile: bool = False
    device: Optional[str] = None
    errors: str = "divergence"
    check_gradient: bool = True

    @property
    def check(self) -> Check:
        """What is done with a program once it is applied."""
        return numerical.check if self.check_gradient else numerical.compile

    @property
    def fails_softly(self) -> bool:
        """Whether the log density is -inf where TensorFlow fails."""
        return self.errors == "divergence"

    @property
    def placement(self) -> str:
        """The device in TensorFlow's own spelling; empty if TensorFlow chooses."""
        return checked_device(self.device)

    def check_values(self) -> None:
        """Refuse what is no such option, and a device that is not there."""
        if not isinstance(self.errors, str) or self.errors not in ("divergence", "raise"):
            raise DeclarationError(f"errors is {self.errors!r}. Give 'divergence' or 'raise'.")
        for name in ("jit_compile", "check_gradient"):
            flag = getattr(self, name)
            if not isinstance(flag, (bool, np.bool_)):
                raise _wrong_type(name, flag, "Give True or False")
        if self.session is not None and not hasattr(self.session, "graph"):
            raise _wrong_type("session", self.session, "Give a tf.compat.v1.Session")
        checked_device(self.device)


def is_default(transform: Any) -> bool:
    """Whether a transform was left to the distribution."""
    return isinstance(transform, str) and transform == DEFAULT_TRANSFORM


def check_transform(transform: Any) -> None:
    """Refuse what is no transform of PyMC3."""
    if transform is None or is_default(transform):
        return
    if inspect.isclass(transform):
        raise _wrong_type("transform", transform, f"Make one: {transform.__name__}(...)")
    if not hasattr(transform, "backward"):
        known = "a transform of PyMC3, such as pm.distributions.transforms.log, or None"
        if hasattr(transform, "forward_event_ndims"):
            known = (
                "the distribution of the value with distribution=, which brings its bijector, or "
                + known
            )
        raise _wrong_type("transform", transform, f"Give {known}")


def check_name(name: Any) -> None:
    """Refuse what is no name of a variable."""
    if not isinstance(name, str):
        raise _wrong_type("name", name, "Give a string: pm.TFDensity('y', ...)")


def check_shape(shape: Any, dims: Any = None) -> None:
    """Refuse what is no shape, and what are no names of dimensions."""
    if dims is not None:
        names = [dims] if isinstance(dims, str) else dims
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise _wrong_type("dims", dims, "Give names of the model's coords, such as ('year',)")
    if shape is None:
        return
    several = isinstance(shape, (list, tuple, np.ndarray)) and np.ndim(shape)
    lengths = list(shape) if several else [shape]
    whole = all(np.asarray(n).dtype.kind in "iu" for n in lengths)
    if not whole or any(not 0 < n < 2**31 for n in lengths):
        raise DeclarationError(
            f"shape is {shape!r}. Give a length or a tuple of lengths, such as shape=3 or "
            "shape=(2, 3)."
        )


def start_value(testval: Any, initval: Any) -> Any:
    """Return the start value, by whichever of its two names it was given."""
    if testval is not None and initval is not None:
        raise DeclarationError(
            "testval and initval are two names of the start value. Give one of them."
        )
    start, name = (testval, "testval") if initval is None else (initval, "initval")
    if start is None:
        return None
    if isinstance(start, Variable):
        if test_value(start) is None:
            raise _wrong_type(name, start, "Give a number or an array, or a variable with a value")
        return start
    array = numeric(start, name)
    if np.ma.is_masked(array) or not np.isfinite(array).all():
        raise DeclarationError(f"{name} is {start!r}. Give finite numbers.")
    return array


def check_start(start: Any, shape: Any) -> np.ndarray:
    """Return a start value in the variable's shape."""
    start = np.asarray(start)
    try:
        return np.broadcast_to(start, shape).astype(float)
    except ValueError:
        raise DeclarationError(
            f"the start value has the shape {start.shape}, and the variable has {shape}. Give a "
            "number, or an array of that shape."
        ) from None


def check_total_size(total_size: Any) -> None:
    """Refuse what is no number of observations: one below zero would turn the density round."""
    sizes = total_size if isinstance(total_size, (list, tuple)) else [total_size]
    counts = [n for n in sizes if isinstance(n, (int, float, np.integer, np.floating))]
    if any(isinstance(n, np.timedelta64) or not 0 <= n < 2**63 for n in counts):
        raise DeclarationError(
            f"total_size is {total_size!r}. Give how many observations there are in all, of which "
            "observed is a minibatch."
        )


def check_observed(observed: Any) -> Any:
    """Return observed data as numbers; generators and Theano variables as they are."""
    if observed is None or inspect.isgenerator(observed):
        return observed
    if isinstance(observed, Variable):
        if not isinstance(observed.type, TensorType) or observed.dtype.startswith("complex"):
            raise _wrong_type("observed", observed, "Give an array of real numbers")
        return observed
    return numeric(observed, "observed")


def numeric(value: Any, argument: str) -> Any:
    """Return a value of real numbers as it is, or as an array of them if they are objects.

    Raises
    ------
    DeclarationTypeError
        If it holds anything else.
    """
    if scipy.sparse.issparse(value):
        raise _wrong_type(argument, value, "Give it as a dense array: x.toarray()")
    try:
        with warnings.catch_warnings():  # rows of different lengths
            warnings.simplefilter("ignore", np.VisibleDeprecationWarning)
            array = value.to_numpy() if hasattr(value, "to_numpy") else np.ma.asanyarray(value)
    except (TypeError, ValueError, NotImplementedError):
        raise _wrong_type(argument, value, _NUMBERS) from None
    if array.dtype.kind in "biuf":
        return value
    if array.dtype.kind != "O":
        held = _HELD.get(array.dtype.kind, _NUMBERS)
        raise _wrong_type(argument, value, held)
    missing = pd.isnull(array) if array.ndim else np.zeros((), bool)
    others = [x for x in array[~missing].flat if not isinstance(x, (numbers.Real, Decimal))]
    if others and array.ndim and isinstance(others[0], (list, tuple)):
        raise _wrong_type(argument, value, "Give rows of one length")
    if others or not array.size:
        raise _wrong_type(argument, others[0] if array.ndim and others else value, _NUMBERS)
    # Numbers as databases give them, None where there is none.
    try:
        return np.where(missing, np.nan, array).astype(float)
    except OverflowError:
        raise _wrong_type(argument, value, "It is too large for a float") from None


def _wrong_type(argument: str, value: Any, mend: str) -> DeclarationTypeError:
    shown = repr(value)
    shown = shown if len(shown) < 80 and "\n" not in shown else "an object"
    return DeclarationTypeError(f"{argument} is {shown} ({type(value).__name__}). {mend}.")
