"""Entries of ``params`` and ``feed_dict``: what users give for the inputs, checked."""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import theano.tensor as tt
from theano.graph.basic import Constant, Variable

from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.keys import label_of

# What users write for ``params`` and ``feed_dict``. Not every key has a hash.
Entries = Union[Mapping[Any, Any], Sequence[Tuple[Any, Any]]]


class Given(NamedTuple):
    """One entry of ``params`` or ``feed_dict``."""

    key: Any
    source: Any  # a Theano variable, or an array
    argument: str

    @property
    def label(self) -> str:
        """Name of the argument, or of the tensor or variable."""
        return label_of(self.key)


def pairs_of(entries: Optional[Entries], argument: str) -> List[Tuple[Any, Any]]:
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
    return [(key.deref() if hasattr(key, "deref") else key, value) for key, value in pairs]


def given_by(entries: Optional[Entries], argument: str, masked: bool = False) -> List[Given]:
    """Check ``params`` or ``feed_dict``, and turn each entry into a Theano variable or an array.

    Masked arrays stay what they are if they are allowed.
    """
    return [
        Given(
            key,
            value if masked and np.ma.is_masked(value) else _source(value, key, argument),
            argument,
        )
        for key, value in pairs_of(entries, argument)
    ]


def _source(value: Any, key: Any, argument: str) -> Any:
    if isinstance(value, Constant):
        value = value.data
    if isinstance(value, Variable):
        return value
    label = label_of(key)
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
            return array
    except (TypeError, ValueError, NotImplementedError):
        pass
    raise DeclarationTypeError(
        f"{argument}: {label!r} is {value!r} ({type(value).__name__}). Give a PyMC3 variable, a "
        "Theano expression, a number or a numeric array."
    )
