"""Draws -> ArviZ's InferenceData, by way of PyMC3's trace, with PyMC3's convergence checks."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional, Sequence

import arviz as az
import numpy as np
import pymc3 as pm
from pymc3.backends.base import MultiTrace
from pymc3.backends.ndarray import NDArray
from pymc3.backends.report import SamplerWarning, WarningType

from pymc3_tf.exceptions import EvaluationError
from pymc3_tf.nuts.trees import DEEPEST
from pymc3_tf.runtime import failures
from pymc3_tf.sampling.chains import ChainsResult
from pymc3_tf.sampling.groups import STATS, reason, to_inference_data
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

_log = logging.getLogger("pymc3")

# A part of the result that fails, or that takes so long that the user ends it, is left out.
_ANYTHING = (Exception, KeyboardInterrupt)

# A warning names so many chains at most.
_NAMED = 8


def finish(
    model: pm.Model,
    unconstrained: UnconstrainedModel,
    result: ChainsResult,
    observed: Sequence[str],
    *,
    tune: int,
    seconds: float,
    checks: Optional[Mapping[str, Any]] = None,
    **options: Any,
) -> az.InferenceData:
    """Turn draws into all that is computed from them.

    What fails is left out, with a warning that says which and why: the draws took longer.

    Parameters
    ----------
    model : pymc3.Model
    unconstrained : UnconstrainedModel
        Of the model.
    result : chains.ChainsResult
    observed : sequence of str
        Observed variables of which to compute the log likelihood.
    tune : int
        How many draws the warmup had.
    seconds : float
        How long sampling took.
    checks : dict, optional
        Arguments of `warn`. Default: no check of the convergence.
    **options
        Those of `to_inference_data`.
    """
    parts = [result.warmup, result.draws] if result.warmup else [result.draws]
    trace = multi_trace(
        model,
        _values(unconstrained, np.concatenate([part.positions for part in parts], axis=1)),
        {name: np.concatenate([p.stats[name] for p in parts], axis=1) for name in parts[0].stats},
        warmup=result.warmup.positions.shape[1] if result.warmup else 0,
        tune=tune,
        seconds=seconds,
        chains=[int(chain) for chain in result.chains],
    )
    likelihood = _log_likelihood(unconstrained, result.draws.positions, observed)
    idata = to_inference_data(trace, likelihood, **options)
    for text in failures.take():
        _log.warning(text)
    if checks is not None:
        try:
            warn(trace, idata, **checks)
        except _ANYTHING as error:
            _log.warning("The convergence could not be checked: %s", reason(error))
    return idata


def _values(unconstrained: UnconstrainedModel, positions: np.ndarray) -> Dict[str, np.ndarray]:
    """Return the values of the model's variables, or of those that can be had."""
    try:
        return unconstrained.values(positions)
    except _ANYTHING:
        pass  # of one of them; the warning below names it
    found = {}
    for name in unconstrained.variables:
        try:
            found.update(unconstrained.values(positions, [name]))
        except EvaluationError as error:
            array = _values_or_nan(unconstrained, positions, name)
            if array is not None:
                found[name] = array
            told = "is left out" if array is None else "is NaN where it cannot be computed"
            _log.warning("%r %s: %s", name, told, reason(error))
        except _ANYTHING as error:
            _log.warning("%r is left out: %s", name, reason(error))
    return found


def _values_or_nan(
    unconstrained: UnconstrainedModel, positions: np.ndarray, name: str
) -> Optional[np.ndarray]:
    """Return the values of a variable, NaN where it fails; None if that is everywhere."""
    array = None
    failed = np.zeros(positions.shape[:-1], bool)
    for at in np.ndindex(failed.shape):
        try:
            value = unconstrained.values(positions[at], [name])[name]
        except EvaluationError:
            failed[at] = True
            continue
        if array is None:
            array = np.empty((*failed.shape, *value.shape), value.dtype)
        array[at] = value
    if array is None or failed.any() and array.dtype.kind != "f":
        return None
    array[failed] = np.nan
    return array


def _log_likelihood(
    unconstrained: UnconstrainedModel, positions: np.ndarray, names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """Return the log likelihood of observed variables, or of those that can be had."""
    try:
        return unconstrained.log_likelihood(positions, names)
    except _ANYTHING as error:
        if len(names) > 1 and not isinstance(error, KeyboardInterrupt):
            each = [_log_likelihood(unconstrained, positions, [name]) for name in names]
            return {name: array for one in each for name, array in one.items()}
        _log.warning(
            "The log likelihood of %s is left out: %s", ", ".join(map(repr, names)), reason(error)
        )
        return {}


class _Chain(NDArray):
    """A chain whose draws are all there: unlike its base it need not compile anything."""

    def __init__(
        self,
        model: pm.Model,
        chain: int,
        samples: Mapping[str, np.ndarray],
        stats: Mapping[str, np.ndarray],
    ) -> None:
        self.name, self.model, self.chain = None, model, chain
        self.vars = [v for v in model.unobserved_RVs if v.name in samples]
        self.varnames = list(samples)
        self.var_shapes = {name: array.shape[1:] for name, array in samples.items()}
        self.var_dtypes = {name: array.dtype for name, array in samples.items()}
        self.samples = dict(samples)
        self._stats = [dict(stats)]
        self.sampler_vars = [{name: array.dtype for name, array in stats.items()}]
        self.draws = self.draw_idx = len(next(iter(stats.values())))
        self._warnings: List[Any] = []
        self._is_base_setup = True

    def _slice(self, idx: slice) -> _Chain:
        samples = {name: array[idx] for name, array in self.samples.items()}
        stats = {name: array[idx] for name, array in self._stats[0].items()}
        return _Chain(self.model, self.chain, samples, stats)


def multi_trace(
    model: pm.Model,
    samples: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    *,
    warmup: int,
    tune: int,
    seconds: float,
    chains: Optional[Sequence[int]] = None,
) -> MultiTrace:
    """Return PyMC3's trace of draws.

    Parameters
    ----------
    model : pymc3.Model
    samples, stats : dict of str to array, shape (chains, draws, ...)
        Values of the variables, and statistics of the sampler under ArviZ's names. The draws of
        the warmup, if there are any, come first.
    warmup : int
        How many draws of the warmup there are.
    tune : int
        How many draws the warmup had.
    seconds : float
        How long sampling took.
    chains : sequence of int, optional
        Their numbers.
    """
    known = {STATS.get(name, name): array for name, array in stats.items()}
    number, draws = stats["lp"].shape
    known["tune"] = np.broadcast_to(np.arange(draws) < warmup, (number, draws))
    trace = MultiTrace(
        [
            _Chain(
                model,
                chain,
                {name: array[i] for name, array in samples.items()},
                {name: array[i] for name, array in known.items()},
            )
            for i, chain in enumerate(range(number) if chains is None else chains)
        ]
    )
    trace.report._n_tune, trace.report._n_draws = tune, draws - warmup
    trace.report._t_sampling = seconds
    return trace


def warn(
    trace: MultiTrace,
    idata: az.InferenceData,
    *,
    target_accept: float,
    max_treedepth: int,
    automatic: bool,
) -> None:
    """Check the convergence as PyMC3 does, and log what it would, in one line for all chains."""
    stats = {name: array.values for name, array in idata.sample_stats.items()}
    numbers = list(trace.chains)
    trace.report._add_warnings(warnings_of(stats, numbers, target_accept, max_treedepth, automatic))
    trace.report._run_convergence_checks(idata, next(iter(trace._straces.values())).model)
    trace.report._log_summary()


def warnings_of(
    stats: Mapping[str, np.ndarray],
    numbers: Sequence[int],
    target_accept: float,
    max_treedepth: int,
    automatic: bool,
) -> List[SamplerWarning]:
    """Return what to say of statistics of shape (chains, draws), and of which chains."""
    found = []
    diverging = int(stats["diverging"].sum())
    if diverging:
        found.append(
            SamplerWarning(
                WarningType.DIVERGENCES,
                f"{diverging} of {stats['lp'].size} draws diverged: the posterior is not explored "
                f"where it bends most. Increase target_accept (now {target_accept}), or "
                "reparameterize.",
                "error",
            )
        )
    deep = np.mean(stats["tree_depth"] >= max_treedepth, axis=1) > 0.05
    if deep.any():
        advice = "Increase it, or reparameterize" if max_treedepth < DEEPEST else "Reparameterize"
        found.append(
            SamplerWarning(
                WarningType.TREEDEPTH,
                f"More than 5 % of the draws{_of(deep, numbers)} reached "
                f"max_treedepth={max_treedepth}. {advice}.",
                "warn",
            )
        )
    accept = np.mean(stats["acceptance_rate"], axis=1)
    # More than was asked for is usual in few dimensions, and costs no more than time.
    low = accept < target_accept - 0.1
    if stats["lp"].shape[1] >= 100 and low.any():
        longer = "Give tune=1000 instead of 'auto', or a larger target_accept"
        found.append(
            SamplerWarning(
                WarningType.BAD_ACCEPTANCE,
                f"The mean acceptance rate{_of(low, numbers)} is as low as {accept.min():.2f}, "
                f"where {target_accept} was asked for. {longer if automatic else 'Increase tune'}.",
                "warn",
            )
        )
    return found


def _of(some: np.ndarray, numbers: Sequence[int]) -> str:
    """Name chains, unless it is all of them."""
    if some.all():
        return ""
    named = [str(numbers[i]) for i in np.flatnonzero(some)]
    if len(named) > _NAMED:
        return f" of {len(named)} chains"
    return f" of chain{'s' * (len(named) > 1)} {', '.join(named)}"
