"""check() and verify_grad(): what is wrong with a density, and where."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import pymc3 as pm
from theano.graph.basic import Variable

from pymc3_tf.checking import stages, uses
from pymc3_tf.checking.checked import Checked, Failed, Found, Skipped, first_line
from pymc3_tf.checking.report import Report, Stage, current_cell
from pymc3_tf.checking.subjects import Subject
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, GradientError
from pymc3_tf.runtime import failures, forks
from pymc3_tf.sampling.sample import outside_of_graphs

# Each stage, and those without which it means nothing.
_STAGES: List[Tuple[str, Callable[..., Found], Tuple[str, ...]]] = [
    ("captured", stages.captured, ()),
    ("shapes", stages.shapes, ("captured",)),
    ("value", stages.value, ("captured", "shapes")),
    ("gradient", stages.gradient, ("captured", "shapes", "value")),
    ("prior draws", stages.prior, ("captured", "shapes")),
    ("pointwise", uses.pointwise, ("captured", "shapes", "value")),
    ("log likelihood", uses.log_likelihood, ("captured", "shapes", "value")),
    ("XLA", uses.xla, ("captured", "shapes", "value")),
    ("time", uses.timed, ("captured", "shapes", "value")),
]


@outside_of_graphs
def check(model_or_density: Any, *, show: bool = True, seconds: float = 1.0) -> Report:
    """Check a density in stages, from its capture to its speed, and print what is found.

    Parameters
    ----------
    model_or_density : pymc3.Model, TensorVariable or callable
        A model; one of its variables; what a `TensorFlowOp` returned; or a function without
        arguments that declares one of these, so that an error of the declaration is in the report
        as well.
    show : bool
        Print each stage as it ends.
    seconds : float
        For how long to measure the time of a gradient.

    Returns
    -------
    Report
        ``report.passed`` says whether no stage failed, ``report.failure`` is the first that did,
        and ``report["gradient"].numbers`` has what a stage measured.

    Raises
    ------
    TypeError
        If it is nothing of that kind, or if TensorFlow computes nothing of a variable.
    RuntimeError
        In a forked process, or if TensorFlow's eager execution is disabled.

    Notes
    -----
    The stages are

    - captured: what has become a TensorFlow program, with its inputs and data;
    - shapes: shapes and dtypes of inputs and outputs;
    - value: whether the log density at the test point is finite;
    - gradient: the gradient by each input beside central differences, at the test point;
    - prior draws: whether value and gradient are finite at 100 draws from the prior;
    - pointwise: whether the log densities of the observations sum to the joint one;
    - log likelihood: its shape, beside dims and coords;
    - XLA: whether the model compiles, and gives the numbers that PyMC3 gives;
    - time: a gradient in TensorFlow alone, through the op, in Theano and in the samplers.

    A stage that fails names the node of the TensorFlow graph, and the line of your code that made
    it. Stages that mean nothing after that are skipped.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def logp(y, mu, sigma):
    ...     return -0.5 * ((y - mu) / sigma) ** 2 - tf.math.log(sigma)
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.TFDensity("y", logp, {"mu": mu, "sigma": -1.0}, feed_dict={"y": np.zeros(3)})
    >>> report = pymc3_tf.check(model, show=False)
    >>> report.failure.name
    'value'
    >>> "It comes from Log at the node 'Log', which gives NaN" in report.failure.text
    True
    """
    forks.refuse("pymc3_tf.check")
    found: List[Stage] = []

    def add(stage: Stage) -> None:
        found.append(stage)
        if show:
            print(stage, flush=True)

    with failures.apart(), np.errstate(all="ignore"):
        name, checked = _prepared(model_or_density, seconds, add)
        for stage, run, needed in _STAGES[len(found) :]:
            add(_run(stage, run, needed, checked, found))
    report = Report(name, found, current_cell() if show else None)
    if show:
        print(report.summary(), flush=True)
    return report


def _prepared(
    given: Any, seconds: float, add: Callable[[Stage], None]
) -> Tuple[str, Optional[Checked]]:
    """Return what is to be checked, and its name; None after an error that is a stage."""
    declared = given
    if callable(given) and not isinstance(given, (Variable, pm.Model)):
        try:
            declared = given()
        except (DeclarationError, DeclarationTypeError) as error:
            add(Stage("captured", "failed", f"{type(error).__name__}: {error}"))
            return "the declaration", None
    subject = Subject(declared)
    try:
        return subject.name, Checked(subject, seconds)
    except Exception as error:  # of Theano, which computes what the programs are applied to
        text = f"their inputs cannot be computed at the test point: {first_line(error)}"
        add(Stage("captured", "passed", ", ".join(part.name for part in subject.parts)))
        add(Stage("shapes", "failed", text))
        return subject.name, None


def _run(
    name: str,
    run: Callable[..., Found],
    needed: Tuple[str, ...],
    checked: Optional[Checked],
    before: List[Stage],
) -> Stage:
    failed = [s.name for s in before if s.outcome == "failed" and s.name in needed]
    if failed or checked is None:
        first = failed or [s.name for s in before if s.outcome == "failed"]
        return Stage(name, "skipped", f"because {first[0]!r} failed")
    try:
        text, numbers = run(checked)
    except Skipped as skip:
        return Stage(name, "skipped", str(skip))
    except Failed as fail:
        return Stage(name, "failed", str(fail))
    except Exception as error:  # a check says what is wrong, whatever that is
        return Stage(name, "failed", f"{type(error).__name__}: {first_line(error)}")
    return Stage(name, "passed", text, dict(numbers))


@outside_of_graphs
def verify_grad(density: Any, point: Optional[Mapping[str, Any]] = None) -> Dict[str, float]:
    """Compare the gradient of a density with central differences, at a point.

    Parameters
    ----------
    density : pymc3.Model or TensorVariable
        A model, one of its variables, or what a `TensorFlowOp` returned.
    point : dict of str to array, optional
        Values of free variables by name, such as ``{"sigma": 2.0}``, or, on the unconstrained
        scale, ``{"sigma_log__": 0.7}``. What it lacks is taken from the test point.

    Returns
    -------
    dict of str to float
        The relative error of the gradient by each input of the density, under
        ``"variable: input"``: of the element where it is largest. NaN where the density is too
        flat to compare.

    Raises
    ------
    pymc3_tf.exceptions.GradientError
        If a gradient is wrong, or not finite. The text has both numbers, the node of the TensorFlow
        graph that the error most likely comes from, and the line of your code that made it.
    pymc3_tf.exceptions.EvaluationError
        If TensorFlow fails at the point.
    TypeError
        If it is nothing of that kind, or if TensorFlow computes nothing of it.
    ValueError
        If the point has a name that is no free variable.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def logp(y, sigma):
    ...     return -0.5 * (y / sigma) ** 2 - tf.math.log(sigma)
    >>> with pm.Model() as model:
    ...     sigma = pm.HalfNormal("sigma", 1.0)
    ...     y = pm.TFDensity("y", logp, {"sigma": sigma}, feed_dict={"y": np.arange(3.0)})
    >>> errors = pymc3_tf.verify_grad(y, {"sigma": 0.3})
    >>> list(errors), errors["y: sigma"] < 1e-6
    (['y: sigma'], True)
    """
    forks.refuse("pymc3_tf.verify_grad")
    subject = Subject(density)
    if not subject.parts:
        raise TypeError(f"{subject.name} has nothing that TensorFlow computes.")
    with failures.apart():
        try:
            return {
                label: found.error
                for applied in subject.applied(subject.point(point))
                for label, found in stages.gradient_errors(applied)
            }
        except Failed as wrong:
            raise GradientError(f"{wrong}.") from None
