"""The pointwise log likelihood of ArviZ's InferenceData, for many draws in one call.

ArviZ's converter evaluates each observed variable draw by draw. Here it gets a subclass that
evaluates those whose density is a TFDensity for all draws together; the others are left to ArviZ.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
from arviz.data import io_pymc3_3x
from arviz.data.base import dict_to_dataset
from pymc3.distributions.transforms import TransformedDistribution

from pymc3_tf.density import TFDensity
from pymc3_tf.draws import drawn, evaluate_draws
from pymc3_tf.exceptions import WorkerLostError

_log = logging.getLogger(__name__)


def log_likelihood(
    model: pm.Model, draws: Mapping[str, Any], variables: Optional[Sequence[Any]] = None
) -> Dict[str, np.ndarray]:
    """Evaluate the log likelihood of observed variables for many draws.

    Parameters
    ----------
    model : pymc3.Model
        The model of the draws.
    draws : dict of str to array
        The draws of the model's free variables and, if there are any, of deterministic variables,
        with the dimensions (chain, draw) before their own.
    variables : sequence of observed variables, optional
        Default: all of the model.

    Returns
    -------
    dict of str to array
        By name of the variable, one number for each element, with the dimensions (chain, draw)
        before its own. As in ArviZ, a joint density has one element, and missing values have nan.

    Raises
    ------
    ValueError
        If a variable depends on a free variable of which there are no draws.
    pymc3_tf.exceptions.EvaluationError
        If a TFDensity with ``errors="raise"`` fails at a draw. Where another one fails or is not a
        number, it is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc3_tf.inference_data import log_likelihood
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.Normal("y", mu, 1.0, observed=np.array([1.0, 2.0, 3.0]))
    >>> log_likelihood(model, {"mu": np.zeros((4, 100))})["y"].shape
    (4, 100, 3)
    """
    if variables is None:
        variables = model.observed_RVs
    chains, number = np.shape(draws[next(iter(draws))])[:2]
    results = {}
    for variable in variables:
        logp = variable.logp_elemwiset
        rows = {}
        for x in drawn([logp], draws):
            array = np.asarray(draws[x.name])
            rows[x] = array.reshape(chains * number, *array.shape[2:])
        values = evaluate_draws([logp], rows, chains * number, chains)[0]
        values = values.reshape(chains, number, *(values.shape[1:] or (1,)))
        results[variable.name] = without_missing(variable, values)
    return results


def without_missing(variable: Any, values: np.ndarray) -> np.ndarray:
    """Return the log likelihood of a variable with nan for its missing values."""
    mask = getattr(getattr(variable, "observations", None), "mask", None)
    if mask is None or not variable.missing_values:
        return values
    if mask.ndim > values.ndim - 2:
        mask = np.any(mask, axis=-1)
    return np.where(mask, np.nan, values)


class _Draws(Mapping[str, np.ndarray]):
    """The draws of a trace by name, with the dimensions (chain, draw), read when asked for."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._trace.varnames:
            raise KeyError(name)
        return np.array(self._trace.get_values(name, combine=False, squeeze=False))

    def __contains__(self, name: object) -> bool:
        return name in self._trace.varnames

    def __iter__(self) -> Iterator[str]:
        return iter(self._trace.varnames)

    def __len__(self) -> int:
        return len(self._trace.varnames)


def _batched(converter: Any) -> Any:
    """Return a subclass of ArviZ's converter."""

    class PyMC3Converter(converter):
        in_batches = True
        log_likelihood: Any

        def _extract_log_likelihood(self, trace: Any) -> Optional[Dict[str, np.ndarray]]:
            wanted: Any = self.log_likelihood
            if self.trace is None or self.model is None:
                return super()._extract_log_likelihood(trace)
            names = [wanted] if isinstance(wanted, str) else wanted
            every = isinstance(names, (bool, np.bool_))
            variables = [x for x in self.model.observed_RVs if every or x.name in names]
            found: Dict[str, np.ndarray] = {}
            for variable in variables:
                if isinstance(variable.distribution, TFDensity):
                    try:
                        found.update(log_likelihood(self.model, _Draws(trace), [variable]))
                    except WorkerLostError as error:
                        # ArviZ then leaves it out, with a warning. Asking again would be in vain.
                        raise TypeError(str(error)) from error
                    except Exception:  # ArviZ's own way then works, or says best what is wrong
                        _log.debug("%s is computed draw by draw", variable.name, exc_info=True)
            self.log_likelihood = [x.name for x in variables if x.name not in found]
            try:
                found.update(super()._extract_log_likelihood(trace))
            finally:
                self.log_likelihood = wanted
            return {x.name: found[x.name] for x in variables}

        def constant_data_to_xarray(self) -> Any:
            found = super().constant_data_to_xarray()
            if self.model is None:
                return found
            coords, dims = {**self.model.coords, **self.coords}, self.dims
            arrays, like = fed_arrays(self.model)
            for name, variable in like.items():
                if name not in dims and variable in dims:
                    dims = {**dims, name: dims[variable]}
            fed = dict_to_dataset(arrays, library=pm, coords=coords, dims=dims, default_dims=[])
            if found is None:
                return fed if arrays else None
            return found.merge(fed)

    return PyMC3Converter


def fed_arrays(model: pm.Model) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Return the arrays that densities of a model were fed with besides their value.

    Parameters
    ----------
    model : pymc3.Model

    Returns
    -------
    dict of str to array
        By the name of the placeholder or argument, with the name of the variable in front if that
        is taken.
    dict of str to str
        Names of arrays that have the shape of the variable that they were fed for, and so its
        dimensions: the name of that variable.
    """
    arrays: Dict[str, np.ndarray] = {}
    like = {}
    for variable in [*model.observed_RVs, *model.free_RVs]:
        distribution = getattr(variable, "distribution", None)
        if isinstance(distribution, TransformedDistribution):
            distribution = distribution.dist
        if not isinstance(distribution, TFDensity):
            continue
        for entry in distribution.constants:
            taken = entry.label in model.named_vars or entry.label in arrays
            name = f"{variable.name}_{entry.label}" if taken else entry.label
            arrays[name] = entry.source
            if np.shape(entry.source) == np.shape(variable.tag.test_value):
                like[name] = variable.name
    return arrays, like


def install() -> None:
    """Let ArviZ use it. Installing it again changes nothing."""
    converter: Any = getattr(io_pymc3_3x, "PyMC3Converter", None)
    usable = hasattr(converter, "_extract_log_likelihood")
    if usable and not hasattr(converter, "in_batches"):
        io_pymc3_3x.PyMC3Converter = _batched(converter)
