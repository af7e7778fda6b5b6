"""What a check found, stage by stage, as an object and as text."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from typing import Any, Dict, List, Optional

_WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Stage:
    """One question of a check, and its answer.

    Attributes
    ----------
    name : str
    outcome : {"passed", "failed", "skipped"}
    text : str
        What was found, or why it was skipped.
    numbers : dict of str to object
        What was measured, such as the relative error of each gradient.
    """

    name: str
    outcome: str
    text: str
    numbers: Dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            line
            for part in self.text.splitlines()
            for line in textwrap.wrap(
                part, _WIDTH - 26, break_long_words=False, break_on_hyphens=False
            )
        ]
        heads = [f"{self.outcome:<8} {self.name:<16} "] + [" " * 26] * len(lines)
        return "\n".join(f"{head}{line}".rstrip() for head, line in zip(heads, lines or [""]))


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What `pymc3_tf.check` found.

    ``report["gradient"]`` is a stage by its name, ``print(report)`` prints all of them.

    Attributes
    ----------
    subject : str
        What was checked.
    stages : list of Stage
        In their order.
    cell : int, optional
        Number of the notebook's cell that has printed it.
    """

    subject: str
    stages: List[Stage]
    cell: Optional[int] = dataclasses.field(default=None, compare=False)

    @property
    def passed(self) -> bool:
        """Whether no stage failed. Stages that were skipped say nothing."""
        return self.failure is None

    @property
    def failure(self) -> Optional[Stage]:
        """The first stage that failed; None if none did."""
        return next((stage for stage in self.stages if stage.outcome == "failed"), None)

    def __getitem__(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(f"{name}: the stages are {', '.join(stage.name for stage in self.stages)}")

    def summary(self) -> str:
        """Return the result in one sentence."""
        number = sum(stage.outcome == "skipped" for stage in self.stages)
        skipped = f", {number} skipped" if number else ""
        if self.failure is None:
            return f"{self.subject}: no failure in {len(self.stages)} stages{skipped}."
        return f"{self.subject}: {self.failure.name!r} failed first{skipped}."

    def __str__(self) -> str:
        return "\n".join([*map(str, self.stages), self.summary()])

    def __repr__(self) -> str:
        return f"<Report of {self.summary()[:-1]}>"

    def _ipython_display_(self) -> None:
        # As the last expression of the cell that has printed it, it would be there twice.
        if self.cell is None or self.cell != current_cell():
            print(self)


def current_cell() -> Optional[int]:
    """Return the number of the notebook's cell that runs; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell.execution_count if shell else None
