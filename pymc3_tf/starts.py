"""Where chains start: what users give, the test point for the rest, and jitter."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np
import pymc3 as pm
import tensorflow as tf
from pymc3.util import (
    check_start_vals,
    get_untransformed_name,
    is_transformed_name,
    update_start_vals,
)

from pymc3_tf.entries import native
from pymc3_tf.nuts import Program
from pymc3_tf.unconstrained import UnconstrainedModel

_JITTER_RETRIES = 10


def chain_starts(
    model: pm.Model,
    unconstrained: UnconstrainedModel,
    program: Program,
    start: Any,
    seeds: np.ndarray,
    jitter: bool,
) -> np.ndarray:
    """Return a start for each chain, at which the log density is finite if it can be found.

    Parameters
    ----------
    model : pymc3.Model
    unconstrained : UnconstrainedModel
        Of the model.
    program : nuts.Program
        Its sampler.
    start : dict or sequence of dict, optional
        As users give it.
    seeds : array, shape (chains, ...)
    jitter : bool
        Add uniform noise between -1 and 1 to the unconstrained variables that are not given.

    Returns
    -------
    array, shape (chains, size)

    Raises
    ------
    TypeError, ValueError
        If `start` is nothing of that kind, or does not fit the model.
    pymc3.exceptions.SamplingError
        If the log density is not finite.
    """
    data = [tf.constant(array) for array in unconstrained.data]
    starts = []
    for given, seed in zip(_points(start, len(seeds)), seeds):
        middle = unconstrained.vector(_completed(model, given))
        noise = jitter * unconstrained.vector(_is_open(model, given))
        random = np.random.RandomState(seed.view(np.uint32))
        for _ in range(_JITTER_RETRIES):
            position = middle + random.uniform(-1, 1, middle.shape) * noise
            rows = np.broadcast_to(position, [*program.batch, len(position)])
            if np.isfinite(np.ravel(program.evaluate(rows, data)[0])[0]):
                break
        else:
            check_start_vals(unconstrained.point(position), model)  # names the variable
        starts.append(position)
    return np.array(starts)


def _points(start: Any, chains: int) -> List[Mapping[str, Any]]:
    """Return one point for each chain."""
    one = start is None or isinstance(start, Mapping)
    points = [start or {}] * chains if one else start
    if not isinstance(points, (list, tuple, np.ndarray)) or not all(
        isinstance(point, Mapping) for point in points
    ):
        raise TypeError(
            f"start is {start!r}. Give a dict of values by variable name, or a list of dicts, one "
            "for each chain."
        )
    if len(points) != chains:
        raise ValueError(
            f"start has {len(points)} points for {chains} chains. Give one for each, or a "
            "single dict for all."
        )
    return list(points)


def _completed(model: pm.Model, given: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """Return the point of a model's unconstrained variables that a user gave a part of."""
    for name in given:
        if name not in model.named_vars:
            raise ValueError(
                f"start has {name!r}, which is not a variable of the model. It has: "
                f"{', '.join(model.named_vars)}."
            )
    point = {name: native(np.asarray(value)) for name, value in given.items()}
    for name, value in point.items():
        expected = np.shape(_test_value(model, name))
        if value.dtype.kind not in "biuf" or value.shape != expected:
            raise ValueError(
                f"start has {given[name]!r} for {name!r}. Give numbers, in an array of shape "
                f"{expected}."
            )
    update_start_vals(point, model.test_point, model)
    return point


def _test_value(model: pm.Model, name: str) -> Any:
    return getattr(model[name].tag, "test_value", model.test_point.get(name))


def _is_open(model: pm.Model, given: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """Return one for each number of a point that the user leaves open, and zero for the others."""

    def is_open(name: str) -> bool:
        plain = get_untransformed_name(name) if is_transformed_name(name) else name
        return name not in given and plain not in given

    return {
        v.name: np.full(np.shape(model.test_point[v.name]), is_open(v.name)) for v in model.vars
    }
