"""The feed of a user's graph, or the arguments of a function, for one draw."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
from theano.graph.basic import Variable

from pymc3_tf.bridge.entries import Given, Key
from pymc3_tf.bridge.stacks import drawn, evaluate_draws
from pymc3_tf.capture.keys import label_of, variable_of


def feed_for(given: Sequence[Given], sample: Mapping[str, Any]) -> Dict[Key, np.ndarray]:
    """Return the feed of the user's graph, or the arguments of the function, for one draw."""
    values = values_at(given, sample)
    feed: Dict[Key, np.ndarray] = {}
    for entry, value in zip(given, values):
        for tensor in _fed_tensors(entry.key):
            feed[tensor] = value
    return feed


def _fed_tensors(key: Key) -> List[Key]:
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
