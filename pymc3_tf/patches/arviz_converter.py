"""Lets ArviZ evaluate log likelihoods in batches, and store fed arrays. Checked against 0.12, 0.14.

Why: its converter evaluates each observed variable draw by draw. A subclass evaluates those whose
density is a TFDensity for all draws together, and leaves the others to ArviZ.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, Iterator, Mapping, Optional

import numpy as np
import pymc3 as pm
from arviz.data import io_pymc3_3x
from arviz.data.base import dict_to_dataset

from pymc3_tf.exceptions import WorkerLostError
from pymc3_tf.model.density import TFDensity
from pymc3_tf.model.inference_data import fed_arrays, log_likelihood

_log = logging.getLogger("pymc3_tf")


def install() -> None:
    """Let ArviZ use it. Installing it again changes nothing."""
    converter: Any = getattr(io_pymc3_3x, "PyMC3Converter", None)
    usable = hasattr(converter, "_extract_log_likelihood")
    if usable and not hasattr(converter, "in_batches"):
        io_pymc3_3x.PyMC3Converter = _batched(converter)


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
                        # ArviZ then leaves it out, with a warning. Another attempt would fail too.
                        raise TypeError(str(error)) from error
                    except Exception:  # ArviZ's own code then works, or has the better error
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
