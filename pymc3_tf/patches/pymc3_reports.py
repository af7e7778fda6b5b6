"""Makes PyMC3 report failures of densities, and why it cannot start. Checked: 3.11.4, 3.11.6.

Why: step methods return their warnings at the end of a chain, from the process of the chain, and do
not know of failures. Errors about the starting point name a variable at most; for models with a
TFDensity or a TensorFlowOp they now say why.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, List, Mapping

import numpy as np
import pymc3 as pm
from pymc3.backends.report import SamplerWarning, WarningType
from pymc3.exceptions import SamplingError
from pymc3.step_methods.arraystep import BlockedStep
from pymc3.step_methods.hmc.base_hmc import BaseHMC

from pymc3_tf.model.diagnosis import explain, uses_tensorflow
from pymc3_tf.runtime import failures


def install() -> None:
    """Add the failures to the warnings of PyMC3's step methods, and the reasons to its errors."""
    if getattr(BaseHMC.warnings, "_counts_failures", False):
        return

    def adding(before: Callable[[Any], List[Any]]) -> Callable[[Any], List[Any]]:
        def warnings(self: Any) -> List[Any]:
            """Return the warnings of the step method."""
            found = [
                SamplerWarning(WarningType.BAD_PARAMS, text, "warn") for text in failures.take()
            ]
            return [*before(self), *found]

        warnings._counts_failures = True  # type: ignore[attr-defined]
        return warnings

    BaseHMC.warnings = adding(BaseHMC.warnings)
    # Other step methods have no warnings.
    BlockedStep.warnings = adding(getattr(BlockedStep, "warnings", lambda self: []))
    BaseHMC.astep = _explained_step(BaseHMC.astep)
    for module in (pm.sampling, pm.tuning.starting):
        module.check_start_vals = _explained_check(module.check_start_vals)


def _explained_check(before: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(before)
    def check_start_vals(start: Any, model: pm.Model) -> None:
        try:
            before(start, model)
        except SamplingError as error:
            points = [start] if isinstance(start, Mapping) else start
            raise SamplingError(_with_reason(error, model, points)) from None

    return check_start_vals


def _explained_step(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def astep(self: Any, q0: np.ndarray) -> Any:
        """Perform a single HMC iteration."""
        if self.iter_count == 0:
            value, gradient = self._logp_dlogp_func(q0)
            # PyMC3 would continue, and report a gradient of zero in the end.
            if np.isfinite(value) and not np.isfinite(gradient).all():
                text = _with_reason("", self._model, [_point(self, q0)])
                if text:
                    raise SamplingError(text)
        try:
            return before(self, q0)
        except (SamplingError, ValueError) as error:
            text = _with_reason(error, self._model, [_point(self, q0)])
            raise type(error)(text) from None

    return astep


def _point(step: Any, position: np.ndarray) -> Mapping[str, Any]:
    """Return the point at which a step method is, with what it leaves to other step methods."""
    function = step._logp_dlogp_func
    return {**function.get_extra_values(), **function.array_to_dict(position)}


def _with_reason(error: Any, model: pm.Model, points: Any) -> str:
    if not uses_tensorflow(model):
        return str(error)
    reasons = [explain(model, {**model.test_point, **point}) for point in points]
    return "\n\n".join(text for text in dict.fromkeys([str(error), *reasons]) if text)
