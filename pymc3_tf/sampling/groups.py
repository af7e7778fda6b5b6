"""PyMC3's trace -> ArviZ's InferenceData, group by group.

Sampling takes minutes, and what names its results may not fit them. So what cannot be converted is
left out, with a warning that says which and why, and the draws are there in any case.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional, Tuple

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
from arviz.data.base import dict_to_dataset
from pymc3.backends.base import MultiTrace
from pymc3.util import get_untransformed_name, is_transformed_name

from pymc3_tf._version import __version__
from pymc3_tf.model.inference_data import fed_arrays
from pymc3_tf.nuts.sampler import tensorflow_probability

# The names by which PyMC3 knows what ArviZ calls otherwise.
STATS = {
    "lp": "model_logp",
    "acceptance_rate": "mean_tree_accept",
    "tree_depth": "depth",
    "n_steps": "tree_size",
}

Shape = Tuple[int, ...]
Dims = Dict[str, List[Any]]

_log = logging.getLogger("pymc3")


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
        Made by `traces.multi_trace`.
    log_likelihood : dict of str to array, shape (chains, draws, ...)
        Of the draws after the warmup.
    keep_untransformed : bool
        Keep the variables on the unconstrained scale. They have the dimensions of their variable,
        unless the transform changes the shape.
    coords, dims : dict, optional
        Besides those of the model. What does not fit is left out, with a warning.
    """
    model = next(iter(trace._straces.values())).model
    coords = {**model.coords, **(coords or {})}
    given = {name: _listed(d) for name, d in {**model.RV_dims, **(dims or {})}.items()}
    shapes = {n: s for n, s in next(iter(trace._straces.values())).var_shapes.items()}
    fitting = {}
    for group in (_plain(shapes), _observed_shapes(model), _constant_shapes(model)):
        fitting.update(_fitting(group, coords, given))
    try:
        idata = az.from_pymc3(
            trace,
            model=model,
            coords=coords,
            dims={**given, **fitting},
            log_likelihood=False,
            save_warmup=True,
        )
    except Exception as error:
        _log.warning(
            "The draws are returned without data, coords and dims, because ArviZ cannot convert "
            "them: %s",
            reason(error),
        )
        idata = _draws_alone(trace)
    idata.posterior.attrs.update(
        sampling_time=trace.report.t_sampling,
        tuning_steps=trace.report.n_tune,
        pymc3_tf_version=__version__,
        tensorflow_version=tf.__version__,
        tensorflow_probability_version=tensorflow_probability().__version__,
    )
    if log_likelihood:
        # A joint density has one number, for which ArviZ has a dimension of its own.
        arrays = {n: a if a.ndim > 2 else a[..., None] for n, a in log_likelihood.items()}
        fitting = _fitting({n: a.shape[2:] for n, a in arrays.items()}, coords, given, cut=True)
        attrs = idata.posterior.attrs
        dataset = dict_to_dataset(arrays, attrs=attrs, coords=coords, dims=fitting)
        idata.add_groups({"log_likelihood": dataset})
    if keep_untransformed:
        _add_untransformed(idata, trace, shapes, coords, given)
    return idata


def reason(error: BaseException) -> str:
    """Return the first line of an error, or its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _listed(dims: Any) -> List[Any]:
    return [dims] if isinstance(dims, str) else list(dims)


def _plain(shapes: Mapping[str, Shape]) -> Dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if not is_transformed_name(name)}


def _observed_shapes(model: pm.Model) -> Dict[str, Shape]:
    found = {}
    for variable in model.observed_RVs:
        found[variable.name] = _shape(getattr(variable, "observations", None))
    return {name: shape or (1,) for name, shape in found.items() if shape is not None}


def _constant_shapes(model: pm.Model) -> Dict[str, Shape]:
    arrays, like = fed_arrays(model)
    found = {name: _shape(x) for name, x in {**model.named_vars, **arrays}.items()}
    fed = {name for name in like if name not in model.RV_dims}
    return {n: s or (1,) for n, s in found.items() if s is not None and n not in fed}


def _shape(data: Any) -> Optional[Shape]:
    """Return the shape of an array or of what ``pm.Data`` holds; None of anything else."""
    if hasattr(data, "get_value"):
        data = data.get_value(borrow=True)
    return data.shape if isinstance(data, np.ndarray) else None


def _fitting(
    shapes: Mapping[str, Shape],
    coords: Mapping[str, Any],
    dims: Mapping[str, List[Any]],
    cut: bool = False,
) -> Dims:
    """Return the dimensions of variables of one group that fit their shapes.

    ArviZ names the others. With ``cut``, the last dimensions of a variable may be missing.
    """
    sizes = {name: _length(values) for name, values in coords.items()}
    found: Dims = {}
    for name, shape in shapes.items():
        names = dims.get(name, [])
        if cut:
            # As ArviZ does, which does not know which dimensions a density sums over.
            names = names[: len(shape)]
            wrong = [i for i, (d, n) in enumerate(zip(names, shape)) if sizes.get(d, n) != n]
            names = names[: wrong[0]] if wrong and names[wrong[0]] in coords else names
        pairs = [(d, n) for d, n in zip(names, shape) if d is not None]
        fits = len(names) <= len(shape) and all(sizes.get(d, n) == n for d, n in pairs)
        if fits and len({d for d, _ in pairs}) == len(pairs):
            sizes.update(pairs)
            found[name] = names
        else:
            _log.warning(
                "%r has no named dims, because %s do not fit its shape %s and the coords.",
                name,
                tuple(names),
                shape,
            )
            found[name] = []
    return found


def _length(values: Any) -> Optional[int]:
    return np.shape(values)[0] if np.ndim(values) == 1 else None


def _draws_alone(trace: MultiTrace) -> az.InferenceData:
    """Return the draws and their statistics without anything that could be wrong."""
    warmup = len(trace) - trace.report.n_draws
    names = [name for name in trace.varnames if not is_transformed_name(name)]
    posterior = {n: _values(trace, n) for n in names}
    stats = {
        name: np.array(trace.get_sampler_stats(STATS.get(name, name), combine=False))
        for name in (*STATS, *trace.stat_names)
        if name not in STATS.values() and name != "tune"
    }
    groups: Dict[str, Any] = {
        "posterior": {n: a[:, warmup:] for n, a in posterior.items()},
        "sample_stats": {n: a[:, warmup:] for n, a in stats.items()},
    }
    if warmup:
        groups["warmup_posterior"] = {n: a[:, :warmup] for n, a in posterior.items()}
        groups["warmup_sample_stats"] = {n: a[:, :warmup] for n, a in stats.items()}
    return az.from_dict(**groups, save_warmup=True)


def _values(trace: MultiTrace, name: str) -> np.ndarray:
    return np.array(trace.get_values(name, combine=False, squeeze=False))


def _add_untransformed(
    idata: az.InferenceData,
    trace: MultiTrace,
    shapes: Mapping[str, Shape],
    coords: Mapping[str, Any],
    dims: Mapping[str, List[Any]],
) -> None:
    names = [name for name in trace.varnames if is_transformed_name(name)]
    known = dict(dims)
    for name in names:
        plain = get_untransformed_name(name)
        if shapes[name] == shapes.get(plain) and plain in dims:
            known.setdefault(name, dims[plain])
    # Together with the others, because they share the dimensions.
    fitting = _fitting({**_plain(shapes), **{n: shapes[n] for n in names}}, coords, known)
    warmup = len(trace) - trace.report.n_draws
    for group, rows in (
        ("posterior", slice(warmup, None)),
        ("warmup_posterior", slice(None, warmup)),
    ):
        if group in idata.groups():
            arrays = {name: _values(trace, name)[:, rows] for name in names}
            extra = dict_to_dataset(arrays, coords=coords, dims={n: fitting[n] for n in names})
            setattr(idata, group, idata[group].merge(extra))
