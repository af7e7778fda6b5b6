"""Failures of TensorFlow among what PyMC3 reports after sampling.

Its step methods hand over their warnings at the end of a chain, from whatever process that ran in.
"""

from __future__ import annotations

from typing import Any, Callable, List

from pymc3.backends.report import SamplerWarning, WarningType
from pymc3.step_methods.arraystep import BlockedStep
from pymc3.step_methods.hmc.base_hmc import BaseHMC

from pymc3_tf import failures


def install() -> None:
    """Add the failures to the warnings of PyMC3's step methods."""
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
