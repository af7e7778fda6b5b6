"""What the stages of a check have in common: their subject at its test point, and their results."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

import pymc3 as pm
import tensorflow as tf
from pymc3.distributions.transforms import TransformedDistribution
from theano.graph.basic import Variable

from pymc3_tf.checking import timing
from pymc3_tf.checking.subjects import Applied, Subject
from pymc3_tf.exceptions import message
from pymc3_tf.model.density import TFDensity
from pymc3_tf.model.diagnosis import Point
from pymc3_tf.runtime import suspects


class Found(NamedTuple):
    """What a stage that did not fail has to say."""

    text: str
    numbers: Dict[str, Any] = {}


class Failed(Exception):
    """A stage failed. The text says where and why."""


class Skipped(Exception):
    """A stage means nothing here. The text says why."""


class Checked:
    """What is checked, and what one stage leaves for those after it."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self.subject = subject
        self.seconds = seconds
        self.point: Point = subject.point()
        self.applied: List[Applied] = subject.applied(self.point)
        self.compiled: Optional[timing.Compiled] = None

    def require_tensorflow(self) -> None:
        """Skip a stage for a model without TensorFlow."""
        if not self.applied:
            raise Skipped("nothing here is computed by TensorFlow")

    @property
    def model(self) -> pm.Model:
        """The model, for stages that need one."""
        if self.subject.model is None:
            raise Skipped("it is not in a model")
        return self.subject.model


def is_density(variable: Variable) -> bool:
    """Whether the log density of a variable is that of a TFDensity."""
    if not hasattr(variable, "logp_elemwiset"):
        return False  # what a free variable is on its own scale
    distribution = getattr(variable, "distribution", None)
    if isinstance(distribution, TransformedDistribution):
        distribution = distribution.dist
    return isinstance(distribution, TFDensity)


def at_node(text: str, suspect: Optional[suspects.Suspect]) -> str:
    """Return a text that ends with the node that it is about, if that is known."""
    return f"{text.rstrip('.')}. It comes from {suspect}" if suspect else text.rstrip(".")


def first_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    if isinstance(error, tf.errors.OpError):
        return message(error)  # type: ignore[arg-type]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
