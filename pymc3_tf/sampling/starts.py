"""Where chains start: what users give, the test point for the rest, and jitter."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np
import pymc3 as pm
import tensorflow as tf
from pymc3.exceptions import SamplingError
from pymc3.util import (
    check_start_vals,
    get_untransformed_name,
    is_transformed_name,
    update_start_vals,
)

from pymc3_tf.bridge.entries import native
from pymc3_tf.exceptions import EvaluationError, StartError
from pymc3_tf.model.diagnosis import explain
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.runtime import failures
from pymc3_tf.sampling import culprits
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

_JITTER_RETRIES = 10


def chain_starts(
    model: pm.Model,
    unconstrained: UnconstrainedModel,
    program: CompiledSampler,
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
    program : nuts.CompiledSampler
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
        If the log density of a variable is not finite.
    StartError
        If that of a potential, or a gradient, is not finite.
    EvaluationError
        If an op of TensorFlow fails, such as for an index out of bounds. The text names the
        variable.

    Notes
    -----
    Where a chain has jitter, the log density may fail or be infinite: the next jitter is tried.
    """
    data = [tf.constant(array) for array in unconstrained.data]
    points = _points(start, len(seeds))
    test_point = model.test_point  # a property that computes it
    middles = np.array(
        [unconstrained.vector(completed(model, given, test_point)) for given in points]
    )
    noise = np.array(
        [jitter * unconstrained.vector(_is_open(model, given, test_point)) for given in points]
    )
    randoms = [np.random.RandomState(seed.view(np.uint32)) for seed in seeds]
    positions = middles.copy()
    waiting = np.arange(len(seeds))
    for _ in range(_JITTER_RETRIES):
        for i in waiting:
            positions[i] = middles[i] + randoms[i].uniform(-1, 1, noise[i].shape) * noise[i]
        values, gradients, errors = program.evaluate_each(positions[waiting], data)
        for i, value, gradient in zip(waiting, values, gradients):
            if np.isfinite(value) and not np.isfinite(gradient).all():
                _refuse(model, unconstrained.point(positions[i]), i, value)
        failed = np.flatnonzero(~np.isfinite(values))
        waiting = waiting[failed]
        # Without jitter, the next try would be the same.
        if not noise[waiting].any():
            break
    for i, k in zip(waiting, failed):
        error = errors[k]
        if error is not None:
            raise culprits.of_evaluation(unconstrained, positions[i], error)
        _refuse(model, unconstrained.point(positions[i]), i, values[k])
    return positions


def check_values(unconstrained: UnconstrainedModel, starts: np.ndarray) -> None:
    """Try what is computed from draws, deterministic variables above all, at the starts.

    Raises
    ------
    EvaluationError
        If an op of TensorFlow fails. The text names the variable.
    """
    try:
        unconstrained.values(starts)
    except EvaluationError as error:
        if failures.is_of_values(str(error)):
            return  # what fails at some draws only is left out there
        for start in starts:
            culprits.require_computable(unconstrained, start)
        raise error


def _refuse(model: pm.Model, point: Mapping[str, np.ndarray], chain: int, value: float) -> None:
    """Raise the error for a start at which the log density or its gradient is not finite."""
    reason = explain(model, point)
    try:
        check_start_vals(point, model)  # names the variable, as pm.sample does
    except SamplingError as error:
        raise SamplingError(f"{error}\n\n{reason}".strip()) from None
    what = f"its log density is {value}"
    if np.isfinite(value):
        what += ", but the gradient is not finite"
    advice = reason or "Give a start where the log density and its gradient are finite."
    raise StartError(f"chain {chain} cannot start: {what}. {advice}")


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


def completed(
    model: pm.Model, given: Mapping[str, Any], test_point: Mapping[str, Any]
) -> Dict[str, np.ndarray]:
    """Return the point of a model's unconstrained variables that a user gave a part of."""
    for name in given:
        if name not in model.named_vars:
            raise ValueError(
                f"start has {name!r}, which is not a variable of the model. It has: "
                f"{', '.join(model.named_vars)}."
            )
    point = {name: native(np.asarray(value)) for name, value in given.items()}
    for name, value in point.items():
        test_value: Any = getattr(model[name].tag, "test_value", test_point.get(name))
        expected = np.shape(test_value)
        if value.dtype.kind not in "biuf":
            raise ValueError(
                f"start has values of dtype {value.dtype} for {name!r}. Give numbers, in an array "
                f"of shape {expected}."
            )
        if value.shape != expected:
            raise ValueError(
                f"start has an array of shape {value.shape} for {name!r}, which has shape "
                f"{expected}. Give one number for each of the variable's."
            )
    update_start_vals(point, test_point, model)
    return point


def _is_open(
    model: pm.Model, given: Mapping[str, Any], test_point: Mapping[str, Any]
) -> Dict[str, np.ndarray]:
    """Return one for each number of a point that the user leaves open, and zero for the others."""

    def is_open(name: str) -> bool:
        plain = get_untransformed_name(name) if is_transformed_name(name) else name
        return name not in given and plain not in given

    return {v.name: np.full(np.shape(test_point[v.name]), is_open(v.name)) for v in model.vars}
