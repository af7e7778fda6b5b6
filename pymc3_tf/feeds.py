"""What users give for the inputs of a graph, and the feed that it makes for one draw."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import theano.tensor as tt
from theano.graph.basic import Constant, Variable

from pymc3_tf.draws import drawn, evaluate_draws
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.keys import label_of, variable_of

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


def feed_for(given: Sequence[Given], sample: Mapping[str, Any]) -> Dict[Any, np.ndarray]:
    """Return the feed of the user's graph, or the arguments of the function, for one draw."""
    values = values_at(given, sample)
    feed: Dict[Any, np.ndarray] = {}
    for entry, value in zip(given, values):
        for tensor in _fed_tensors(entry.key):
            feed[tensor] = value
    return feed


def _fed_tensors(key: Any) -> List[Any]:
    if isinstance(key, str):
        return [key]
    if variable_of(key) is not None:
        raise ValueError(
            f"the variable {label_of(key)!r} belongs to no graph that could be fed. Assign it the "
            "draw and call the function: variable.assign(trace[i]['name'])."
        )
    handle = getattr(key, "handle", None)
    if handle is None:
        # A variable of the old kind has no hash outside of its graph; its tensor has.
        return [key.graph.as_graph_element(key)]
    # Feeding a resource variable feeds one of its reads, and every use of it has a read of its own.
    consumers = handle.consumers()
    for op in consumers:
        if op.type not in _FEEDABLE and not op.type.startswith(("Assign", "VarIsInit")):
            raise ValueError(
                f"the variable {key.name!r} is used by {op.type}, which no feed can reach. Use "
                "pymc3_tf.evaluate instead, or a placeholder in place of the variable."
            )
    return [op.outputs[0] for op in consumers if op.type == "ReadVariableOp"]


_FEEDABLE = ("ReadVariableOp", "VarIsInitializedOp", "DestroyResourceOp", "VariableShape")


def values_at(given: Sequence[Given], sample: Mapping[str, Any]) -> List[np.ndarray]:
    """Return the value of each entry for one draw."""
    sources = [g.source for g in given if isinstance(g.source, Variable)]
    draws = {x: np.asarray(sample[x.name])[None] for x in drawn(sources, sample)}
    values = iter(evaluate_draws(sources, draws, 1) if sources else ())
    return [next(values)[0] if isinstance(g.source, Variable) else g.source for g in given]
