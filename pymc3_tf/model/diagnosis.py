"""Why the log density of a model, or its gradient, is not finite at a point: in words."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
import theano
import theano.tensor as tt
from pymc3.distributions.transforms import TransformedDistribution
from pymc3.util import get_untransformed_name, is_transformed_name
from theano.compile.mode import Mode
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Constant, Variable, ancestors

from pymc3_tf.bridge.op import TensorFlowOp, tensorflow_ops
from pymc3_tf.model.density import TFDensity
from pymc3_tf.runtime import failures

# Theano's interpreter: what it computes once is not worth compiling, and a forked chain can use it.
_MODE = Mode("py", "fast_run").excluding("fusion", "inplace")

_DOUBLE_WHERE = (
    "A tf.where is the usual reason: the branch that is not taken is differentiated too, and zero "
    "times NaN is NaN. Give both branches numbers that are safe: safe = tf.where(ok, x, 1.0), then "
    "tf.where(ok, f(safe), other)."
)


def uses_tensorflow(model: pm.Model) -> bool:
    """Whether the log density of a model has a TFDensity or a TensorFlowOp."""
    return any(tensorflow_ops(getattr(v, "logpt", v)) for v in terms(model))


def explain(
    model: pm.Model, point: Mapping[str, Any], names: Optional[Sequence[str]] = None
) -> str:
    """Say which variable's log density or gradient is not finite at a point, and why.

    Parameters
    ----------
    model : pymc3.Model
    point : dict of str to array
        Values of the free variables, on the unconstrained scale, by name.
    names : sequence of str, optional
        Which variables to look at. Default: all.

    Returns
    -------
    str
        Empty if all is finite.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc3_tf.model.diagnosis import explain
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.Normal("y", mu, -1.0 + 0.0 * mu, observed=np.zeros(2))
    >>> print(explain(model, model.test_point))
    The log density of 'y' is -inf, at mu = 0, sigma = -1.
    """
    every = [(v.name, v, getattr(v, "logpt", v)) for v in terms(model)]
    every = [term for term in every if names is None or term[0] in names]
    known = Point(model.vars, [point[v.name] for v in model.vars])
    texts = []
    for name, variable, logp in every:
        failures.take()
        try:
            value = float(np.sum(known.value(logp)))
        except Exception as error:  # whatever an op raises at this point
            texts.append(f"The log density of {name!r} failed: {str(error).splitlines()[0]}")
            continue
        if not np.isfinite(value):
            texts.append(_about_value(name, variable, logp, value, known))
    if texts:
        return " ".join(texts[:3])
    # The likely ones first. One culprit is enough.
    for name, variable, logp in sorted(every, key=lambda term: not tensorflow_ops(term[2])):
        text = _about_gradient(name, variable, logp, model, known)
        if text:
            return text
    return ""


def evaluator(
    inputs: Sequence[Variable], outputs: Sequence[Variable]
) -> Callable[..., List[np.ndarray]]:
    """Return a function of the values of some Theano variables that gives those of others."""
    with theano.config.change_flags(compute_test_value="off"):
        function = theano.function(
            list(inputs),
            list(outputs),
            mode=_MODE,
            on_unused_input="ignore",
            allow_input_downcast=True,
        )
    return lambda *values: [np.asarray(value) for value in function(*values)]


class Point:
    """Values of Theano variables, where those of some of them are known.

    Parameters
    ----------
    inputs : sequence of TensorVariable
        Such as the free variables of a model.
    values : sequence of array
        Theirs.
    """

    def __init__(self, inputs: Sequence[Any], values: Sequence[Any]) -> None:
        self._inputs = list(inputs)
        self._values = list(values)

    def values(self, variables: Sequence[Any]) -> List[np.ndarray]:
        """Return the values of several variables."""
        return evaluator(self._inputs, variables)(*self._values)

    def value(self, variable: Variable) -> np.ndarray:
        """Return the value of one variable."""
        return self.values([variable])[0]


def terms(model: pm.Model) -> List[Variable]:
    """Return the variables and potentials whose log densities make up that of a model."""
    return [*model.basic_RVs, *model.potentials]


def _about_value(name: str, variable: Variable, logp: Variable, value: float, known: Point) -> str:
    number = "NaN" if np.isnan(value) else f"{value:.0f}"
    text = f"The log density of {name!r} is {number}, at {_parameters(variable, known)}."
    failed = failures.take()
    holes = list(_holes(name, variable, logp))
    if holes:
        return f"{text} {' '.join(holes)} Remove such entries before the model is declared."
    return f"{text} {failed[0]}" if failed else text


def _about_gradient(
    name: str, variable: Variable, logp: Variable, model: pm.Model, known: Point
) -> str:
    """Name the free variables by which the gradient of one term is not finite."""
    with theano.config.change_flags(compute_test_value="off"):
        reached = set(ancestors([logp]))
        by = [v for v in model.vars if v in reached]
        gradients = [tt.grad(tt.sum(logp), v) for v in by]
    if not by:
        return ""
    found = []
    for v, gradient in zip(by, known.values(gradients)):
        bad = np.flatnonzero(~np.isfinite(gradient))
        if bad.size:
            plain = get_untransformed_name(v.name) if is_transformed_name(v.name) else v.name
            at = failures.describe([plain], [known.value(model[plain])])
            of = f" (elements {', '.join(map(str, bad[:5]))})" if gradient.ndim else ""
            number = "NaN" if np.isnan(gradient).any() else "infinite"
            found.append(f"by {plain!r}{of} is {number}, at {at}")
    if not found:
        return ""
    advice = f" {_DOUBLE_WHERE}" if tensorflow_ops(logp) else ""
    holes = "".join(f" {hole}" for hole in _holes(name, variable, logp))
    return (
        f"The log density of {name!r} is finite, but its gradient {', and '.join(found)}."
        f"{holes}{advice}"
    )


def _parameters(variable: Variable, known: Point) -> str:
    """Return the values of the parameters of a variable's distribution, in words."""
    labels, sources = [], []
    for label, source in _sources(variable):
        labels.append(label)
        sources.append(tt.as_tensor_variable(source))
    return failures.describe(labels, known.values(sources))


def _sources(variable: Variable) -> Iterator[Tuple[str, Variable]]:
    distribution = getattr(variable, "distribution", None)
    if isinstance(distribution, TransformedDistribution):
        distribution = distribution.dist
    if isinstance(distribution, TFDensity):
        for given in distribution.given:
            if given.argument == "params":
                yield given.label, given.source
    elif distribution is not None:
        for label in distribution._distr_parameters_for_repr():
            source = getattr(distribution, label, None)
            if isinstance(source, (tt.Variable, np.ndarray, float, int)):
                yield label, source


def _holes(name: str, variable: Variable, logp: Variable) -> Iterator[str]:
    """Say which arrays, from which a log density is computed, hold numbers that are none."""
    arrays: Dict[int, Tuple[str, np.ndarray]] = {}

    def add(label: str, array: Any) -> None:
        array = np.asarray(array)
        if array.dtype.kind == "f":
            arrays.setdefault(array.__array_interface__["data"][0], (label, array))

    data = getattr(variable, "observations", None)
    if data is not None and not isinstance(data, tt.Variable):
        add(f"The data of {name!r}", np.ma.getdata(data))
    for source in ancestors([logp]):
        if isinstance(source, SharedVariable):
            add(f"pm.Data {source.name!r}", source.get_value(borrow=True))
        elif isinstance(source, Constant) and isinstance(source.data, np.ndarray):
            if source.ndim:
                add(f"The constant {source.name!r}" if source.name else "A constant", source.data)
        elif source.owner and isinstance(source.owner.op, TensorFlowOp):
            for feed in source.owner.op.program.feeds:
                add(f"feed_dict: {feed.label!r}", feed.array)
    for label, array in arrays.values():
        missing, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        held = [f"{n} {what}" for n, what in ((missing, "NaN"), (infinite, "infinite")) if n]
        if held and not (label.startswith(("A constant", "The constant")) and not missing):
            yield f"{label} holds {' and '.join(held)} among its {array.size} numbers."
