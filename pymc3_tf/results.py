"""Draws -> ArviZ's InferenceData, by way of PyMC3's trace, with PyMC3's convergence checks."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
from pymc3.backends.base import MultiTrace
from pymc3.backends.ndarray import NDArray
from pymc3.backends.report import SamplerWarning, WarningType
from pymc3.util import is_transformed_name

from pymc3_tf._version import __version__
from pymc3_tf.nuts import tensorflow_probability
from pymc3_tf.trees import DEEPEST

# The names by which PyMC3 knows what ArviZ calls otherwise.
_STATS = {
    "lp": "model_logp",
    "acceptance_rate": "mean_tree_accept",
    "tree_depth": "depth",
    "n_steps": "tree_size",
}


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
    known = {_STATS.get(name, name): array for name, array in stats.items()}
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


def to_inference_data(
    trace: MultiTrace,
    log_likelihood: Mapping[str, np.ndarray],
    *,
    keep_untransformed: bool = False,
    coords: Optional[Mapping[str, Any]] = None,
    dims: Optional[Mapping[str, Any]] = None,
) -> az.InferenceData:
    """Return ArviZ's form of a trace.

    Parameters
    ----------
    trace : pymc3.backends.base.MultiTrace
        Made by `multi_trace`.
    log_likelihood : dict of str to array, shape (chains, draws, ...)
        Of the draws after the warmup.
    keep_untransformed : bool
        Keep the variables on the unconstrained scale.
    coords, dims : dict, optional
        Besides those of the model.
    """
    model = next(iter(trace._straces.values())).model
    idata = az.from_pymc3(
        trace, model=model, coords=coords, dims=dims, log_likelihood=False, save_warmup=True
    )
    coords = {**model.coords, **(coords or {})}
    dims = {**{name: list(d) for name, d in model.RV_dims.items()}, **(dims or {})}
    attrs = idata.posterior.attrs
    attrs.update(
        pymc3_tf_version=__version__,
        tensorflow_version=tf.__version__,
        tensorflow_probability_version=tensorflow_probability().__version__,
    )
    if log_likelihood:
        # Of a multivariate variable there is one number for each vector, and of a joint density
        # one number, which has none of the variable's dimensions.
        pointwise = {n: a if a.ndim > 2 else a[..., None] for n, a in log_likelihood.items()}
        joint = {n for n, a in log_likelihood.items() if a.ndim == 2}
        dims_of = {n: d for n, d in dims.items() if n not in joint}
        dataset = az.dict_to_dataset(
            pointwise, attrs=attrs, coords=coords, dims=dims_of, skip_event_dims=True
        )
        idata.add_groups({"log_likelihood": dataset})
    if keep_untransformed:
        kept = [n for n in trace.varnames if is_transformed_name(n)]
        number = trace.report.n_draws
        extra = az.dict_to_dataset(
            {n: np.stack(trace.get_values(n, combine=False))[:, -number:] for n in kept},
            coords=coords,
            dims=dims,
        )
        idata.posterior = idata.posterior.merge(extra)
    return idata


def warn(
    trace: MultiTrace, idata: az.InferenceData, *, target_accept: float, max_treedepth: int
) -> None:
    """Check the convergence as PyMC3 does, and log what it would."""
    for i, chain in enumerate(trace.chains):
        stats = {name: array.values[i] for name, array in idata.sample_stats.items()}
        warnings = _warnings(stats, target_accept, max_treedepth)
        trace.report._add_warnings(warnings, chain)
    trace.report._run_convergence_checks(idata, next(iter(trace._straces.values())).model)
    trace.report._log_summary()


def _warnings(
    stats: Dict[str, np.ndarray], target_accept: float, max_treedepth: int
) -> List[SamplerWarning]:
    found = []
    number, diverging = len(stats["lp"]), int(stats["diverging"].sum())
    if diverging:
        found.append(
            SamplerWarning(
                WarningType.DIVERGENCES,
                f"{diverging} of {number} draws diverged: the posterior is not explored where it "
                f"bends most. Increase target_accept (now {target_accept}), or reparameterize.",
                "error",
            )
        )
    more = max_treedepth < DEEPEST
    if np.mean(stats["tree_depth"] >= max_treedepth) > 0.05:
        found.append(
            SamplerWarning(
                WarningType.TREEDEPTH,
                f"More than 5 % of the draws reached max_treedepth={max_treedepth}. "
                + ("Increase it, or reparameterize." if more else "Reparameterize."),
                "warn",
            )
        )
    accept = np.mean(stats["acceptance_rate"])
    # More than was asked for is usual in few dimensions, and costs no more than time.
    if number >= 100 and accept < target_accept - 0.1:
        found.append(
            SamplerWarning(
                WarningType.BAD_ACCEPTANCE,
                f"The mean acceptance rate is {accept:.2f}, where {target_accept} was asked for. "
                "Increase tune.",
                "warn",
            )
        )
    return found
