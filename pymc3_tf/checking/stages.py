"""The stages of a check. Each looks at one thing, and says what it found or why it fails."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.distributions.transforms import TransformedDistribution
from pymc3.util import get_untransformed_name, is_transformed_name

from pymc3_tf.bridge.stacks import evaluate_draws
from pymc3_tf.checking import timing
from pymc3_tf.checking.subjects import Applied, Part, Subject
from pymc3_tf.exceptions import message
from pymc3_tf.gradients import comparison
from pymc3_tf.model.density import TFDensity
from pymc3_tf.model.diagnosis import Point, evaluator, explain
from pymc3_tf.runtime import failures, functions, suspects
from pymc3_tf.sampling.culprits import why_not_compiled
from pymc3_tf.sampling.unconstrained import require_continuous

DRAWS = 100
# Of the log density of XLA and that of PyMC3: float32, and sums in another order.
_SAME = 1e-4


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


def captured(checked: Checked) -> Found:
    """Say what of the subject is a TensorFlow program, and of which inputs."""
    checked.require_tensorflow()
    lines = []
    for name, program, _, free in checked.applied:
        inputs = [spec.label for spec in program.inputs]
        nodes = len(program.graph_without_gradients().node)
        text = f"{name}: {nodes} nodes, of {', '.join(inputs[i] for i in free) or 'no parameter'}"
        data = [inputs[i] for i in range(len(inputs)) if i not in free]
        data += [f"{feed.label} ({feed.array.nbytes:,} bytes)" for feed in program.feeds]
        text += f"; data {', '.join(data)}" if data else ""
        if program.frozen:
            text += f"; frozen {', '.join(spec.label for spec in program.frozen)}"
        lines.append(text)
    return Found("\n".join(lines))


def shapes(checked: Checked) -> Found:
    """Evaluate each program, and say of which shapes and dtypes it is."""
    checked.require_tensorflow()
    lines = []
    for name, program, values, free in checked.applied:
        try:
            results = functions.function(program)(values)
        except Exception as error:  # whatever TensorFlow, or the check of shapes, raises
            text = f"{name}: {first_line(error)}"
            raise Failed(_at(text, suspects.of_error(program, error))) from error
        made = [(s.label, y) for s, y in zip(program.outputs, results)]
        given = [(s.label, x) for s, x in zip(program.inputs, values)]
        density = _density_of(checked, name)
        if density is not None:
            # Not the sum, which samplers use.
            made = [("logp", checked.point.value(density.logp_elemwiset))]
        text = f"{name}: {_typed(made)} of {_typed([given[i] for i in free]) or 'data alone'}"
        data = [x for i, x in enumerate(given) if i not in free]
        data += [(feed.label, feed.array) for feed in program.feeds]
        lines.append(f"{text}; data {_typed(data)}" if data else text)
    return Found("\n".join(lines))


def _density_of(checked: Checked, name: str) -> Any:
    """Return the variable of a name if its log density is a TFDensity's; None otherwise."""
    for part in checked.subject.parts:
        if part.name == name and _is_density(part.variable):
            return part.variable
    return None


def _is_density(variable: Any) -> bool:
    distribution = getattr(variable, "distribution", None)
    if isinstance(distribution, TransformedDistribution):
        distribution = distribution.dist
    return isinstance(distribution, TFDensity)


def _typed(arrays: List[Tuple[str, np.ndarray]]) -> str:
    return ", ".join(f"{label} {x.dtype} {x.shape}" for label, x in arrays)


def value(checked: Checked) -> Found:
    """Evaluate all at the test point."""
    parts = checked.subject.parts
    numbers, bad = {}, []
    for part, found in zip(parts, _values(parts, checked.point)):
        numbers[part.name] = float(np.sum(found))
        if not np.isfinite(found).all():
            bad.append(part)
    model = checked.subject.model
    if checked.subject.is_model and model is not None:
        total = float(checked.point.value(model.logpt))
        numbers["together"] = total
        if not np.isfinite(total) and not bad:
            raise Failed(explain(model, model.test_point) or f"the log density is {total}")
    if bad:
        raise Failed(_not_finite(checked, bad[0], checked.applied, numbers[bad[0].name]))
    return Found(", ".join(f"{name} {number:.6g}" for name, number in numbers.items()), numbers)


def _values(parts: List[Part], point: Point) -> List[np.ndarray]:
    return point.values([part.output for part in parts]) if parts else []


def _not_finite(
    checked: Checked, part: Part, applied: List[Applied], number: float, at: Any = None
) -> str:
    """Say which node makes a number that is not finite."""
    model, text = checked.subject.model, ""
    if model is not None:
        text = explain(model, at or model.test_point, [part.variable.name])
    suspect = next(filter(None, (_suspect(a) for a in applied if a.name == part.name)), None)
    return _at(text or f"{part.name} is {number:.6g}", suspect)


def _suspect(applied: Applied, gradient: bool = False) -> Optional[suspects.Suspect]:
    _, program, values, _ = applied
    if gradient and program.pullback is not None:
        results = functions.function(program)(values)
        cotangents = [np.ones_like(y) for y in results if y.dtype.kind == "f"]
        values = [*values, *cotangents[: len(program.pullback.cotangents)]]
        program = program.value_and_vjp()
    try:
        return suspects.find(program, values)
    except (tf.errors.OpError, ValueError):
        return None  # what cannot be evaluated node by node, such as a loop of version 1


def gradient(checked: Checked) -> Found:
    """Compare the gradients of all programs with central differences."""
    checked.require_tensorflow()
    errors, flat = {}, []
    for applied in checked.applied:
        for label, found in gradient_errors(applied):
            if np.isnan(found.error):
                flat.append(label)
            else:
                errors[label] = found.error
    if not errors:
        return Found("no input on which it depends, near the test point")
    worst = max(errors, key=lambda label: errors[label])
    text = f"largest relative error {errors[worst]:.1e}, by {worst}, of {len(errors)}"
    if flat:
        text += f"; too flat to compare by {', '.join(flat)}"
    return Found(text, errors)


def gradient_errors(applied: Applied) -> List[Tuple[str, comparison.Comparison]]:
    """Compare the gradient of a program by each parameter with central differences.

    Raises
    ------
    Failed
        If one of them is wrong, or is not finite.
    """
    name, program, values, free = applied
    free = [i for i in free if program.inputs[i].is_floating]
    if program.pullback is None or not any(spec.is_floating for spec in program.outputs):
        return []
    results = functions.function(program)(values)
    compared = comparison.compare(program, values, [y.shape for y in results], free)
    for found in compared:
        label = program.inputs[found.i].label
        if np.isfinite(found.gradient) or np.isnan(found.error):
            continue
        text = f"the gradient of {name} by {label!r} is not finite, and central differences give "
        raise Failed(_at(f"{text}{found.difference:.6g}", _suspect(applied, gradient=True)))
    for found in compared:
        if found.is_wrong:
            raise Failed(_wrong_gradient(applied, found))
    return [(f"{name}: {program.inputs[found.i].label}", found) for found in compared]


def _wrong_gradient(applied: Applied, found: comparison.Comparison) -> str:
    name, program, values, _ = applied
    label = program.inputs[found.i].label
    at = failures.describe([label], [values[found.i]])
    element = "" if found.element is None else f" (element {list(found.element)})"
    text = (
        f"the gradient of {name} by {label!r}{element} is wrong: at {at} it is "
        f"{found.gradient:.6g}, and central differences give {found.difference:.6g}, a relative "
        f"error of {found.error:.1e}"
    )
    gap = comparison.suspect(program, found.i)
    return _at(text, gap and suspects.suspect(program, gap.op, gap.node))


def prior(checked: Checked) -> Found:
    """Evaluate value and gradient at draws from the prior."""
    model, parts = checked.model, checked.subject.parts
    checked.require_tensorflow()
    points = _prior_draws(model)
    with theano.config.change_flags(compute_test_value="off"):
        sums = [tt.sum(part.output) for part in parts]
        gradients = [tt.grad(total, model.vars, disconnected_inputs="ignore") for total in sums]
    infinite: List[str] = []
    evaluate = evaluator(model.vars, [*sums, *(g for group in gradients for g in group)])
    for number, at in enumerate(points):
        inputs = [at[v.name] for v in model.vars]
        point = Point(model.vars, inputs)
        failures.take()
        values = evaluate(*inputs)
        failed = failures.take()
        applied = checked.subject.applied(point) if failed or not _finite(values) else []
        for k, part in enumerate(parts):
            slopes = values[len(parts) + k * len(model.vars) :][: len(model.vars)]
            own = [a for a in applied if a.name == part.name]
            if np.isnan(values[k]) or (failed and np.isinf(values[k])):
                text = _not_finite(checked, part, own, float(values[k]), at)
                raise Failed(f"at draw {number + 1} of {len(points)} from the prior: {text}")
            if np.isinf(values[k]):
                infinite.append(part.name)
            elif not _finite(slopes):
                suspect = next(filter(None, (_suspect(a, gradient=True) for a in own)), None)
                text = explain(model, at, [part.variable.name]) or (
                    f"the gradient of {part.name!r} is not finite"
                )
                raise Failed(
                    _at(f"at draw {number + 1} of {len(points)} from the prior: {text}", suspect)
                )
    if infinite:
        names = ", ".join(sorted(set(infinite)))
        text = f"{len(infinite)} of {len(points)} draws have density zero ({names}): right where"
        return Found(f"{text} that is outside of its support", {"infinite": len(infinite)})
    return Found(f"finite at {len(points)} draws, and so are the gradients", {"infinite": 0})


def _finite(values: List[np.ndarray]) -> bool:
    return all(np.isfinite(x).all() for x in values)


def _prior_draws(model: pm.Model) -> List[Dict[str, np.ndarray]]:
    names = [v.name for v in model.vars]
    # Those on the unconstrained scale are computed from the others.
    names += [get_untransformed_name(name) for name in names if is_transformed_name(name)]
    if not names:
        raise Skipped("the model has no free variables")
    state = np.random.get_state()
    try:
        drawn = pm.sample_prior_predictive(DRAWS, model=model, var_names=names, random_seed=0)
    except Exception as error:  # of distributions without a sampler, such as pm.Flat
        raise Skipped(f"the priors have no draws: {first_line(error)}") from error
    finally:
        np.random.set_state(state)
    return [
        {v.name: np.asarray(drawn[v.name][i], v.dtype) for v in model.vars} for i in range(DRAWS)
    ]


def pointwise(checked: Checked) -> Found:
    """Compare the sum of the pointwise log density with the joint one."""
    lines, numbers = [], {}
    for part in checked.subject.parts:
        variable = part.variable
        if not _is_density(variable):
            continue
        each, joint = checked.point.values([variable.logp_elemwiset, variable.logp_sum_unscaledt])
        total = float(np.sum(each))
        numbers[part.name] = total - float(joint)
        if not np.isclose(total, joint, rtol=1e-6 if each.dtype == "float64" else 1e-3):
            raise Failed(
                f"{part.name}: the pointwise log density sums to {total:.8g}, and the joint one is "
                f"{float(joint):.8g}"
            )
        size = np.size(variable.tag.test_value)
        if each.size > 1 and _is_repeated(variable, checked, each):
            raise Failed(
                f"{part.name}: each of the {each.size} numbers of logp depends on all of the data "
                "in the same way. If it is the joint log density, it is counted once for each: "
                "return tf.reduce_sum(...) of one copy, a scalar"
            )
        lines.append(
            f"{part.name}: {each.size} numbers, which sum to the joint log density"
            if each.size > 1 or size == 1
            else f"{part.name}: joint, one number for {size} values"
        )
    if not lines:
        raise Skipped("there is no TFDensity")
    return Found("\n".join(lines), numbers)


def _is_repeated(variable: Any, checked: Checked, each: np.ndarray) -> bool:
    """Whether all numbers change alike where one value changes."""
    density = variable.distribution
    if not isinstance(density, TFDensity):
        return False
    data = np.asarray(variable.tag.test_value)
    if density.value is None or data.dtype.kind != "f" or data.size < 2 or np.ma.is_masked(data):
        return False
    with theano.config.change_flags(compute_test_value="off"):
        value = tt.TensorType(data.dtype, [False] * data.ndim)("value")
        logp = density.logp(value)
        other = data.copy()
        other.flat[0] += 1e-3 * (np.std(data) or 1.0)
        inputs = [value, *checked.subject.inputs]
        known = checked.point.values(checked.subject.inputs)
    found = Point(inputs, [other, *known]).value(logp)
    change = found - each
    return bool(np.all(change != 0) and np.allclose(change, change.flat[0], rtol=1e-3))


def log_likelihood(checked: Checked) -> Found:
    """Compute the log likelihood of a draw, and compare its shape with dims and coords."""
    model = checked.model
    observed = [p for p in checked.subject.parts if p.variable in model.observed_RVs]
    if not observed:
        raise Skipped("nothing that TensorFlow computes is observed")
    lines = []
    point = dict(zip(model.vars, checked.point.values(model.vars)))
    for part in observed:
        logp = part.variable.logp_elemwiset
        draws = {x: np.asarray(value)[None] for x, value in point.items()}
        (array,) = evaluate_draws([logp], draws, 1)
        shape, dims = array.shape[1:], model.RV_dims.get(part.name)
        data = np.shape(part.variable.tag.test_value)
        for name, length in zip(dims or (), data):
            coords = model.coords.get(name)
            if coords is not None and len(coords) != length:
                raise Failed(
                    f"{part.name} has {length} values along {name!r}, and coords has {len(coords)} "
                    f"for it: pm.Model(coords={{{name!r}: ...}}) needs one for each value"
                )
        if dims and len(dims) != len(data):
            raise Failed(f"{part.name} has dims {dims}, and the shape {data}: give a name for each")
        named = f", dims {', '.join(map(str, dims))}" if dims else ""
        kind = "" if shape else ": joint, so that LOO has one point only"
        lines.append(f"{part.name}: shape {shape}{named}{kind}")
    return Found("\n".join(lines))


def xla(checked: Checked) -> Found:
    """Compile, and compare with what PyMC3 computes."""
    for name, program, _, _ in checked.applied:
        if program.cluster:
            raise Skipped(f"{name!r} lives on a cluster, where XLA does not compile")
    subject = checked.subject
    if not subject.is_model:
        for name, program, _, _ in checked.applied:
            _require_compiled(name, program)
        return Found("compiles")
    model = checked.model
    if not model.vars:
        raise Skipped("the model has no free variables")
    try:
        require_continuous(model)
    except ValueError as error:
        raise Skipped(str(error)) from error
    try:
        compiled = timing.Compiled(model)
        found = compiled()
    except Exception as error:  # of TensorFlow, and of what has no translation to it
        for name, program, _, _ in checked.applied:
            _require_compiled(name, program)
        raise Failed(f"XLA cannot compile the model: {first_line(error)}") from error
    checked.compiled = compiled
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    expected, slopes = function(function.dict_to_array(model.test_point))
    for what, ours, theirs in (
        ("log density", found["value"], expected),
        ("gradient", found["gradient"], slopes),
    ):
        if not np.allclose(ours, theirs, rtol=_SAME, atol=_SAME * np.max(np.abs(theirs))):
            raise Failed(f"the {what} of XLA is {ours}, and that of PyMC3 is {theirs}")
    return Found("compiles, and gives the same log density and gradient", found)


def _require_compiled(name: str, program: Any) -> None:
    unsupported = program.unsupported_by_xla()
    reason = why_not_compiled(program)
    if not reason:
        return
    nodes = [node for node in program.graph_without_gradients().node if node.op in unsupported]
    suspect = suspects.suspect(program, nodes[0].op, nodes[0].name) if nodes else None
    text = f"XLA cannot compile {name}: {reason.rstrip('.')}. pm.sample() does not need it"
    raise Failed(_at(text, suspect))


def timed(checked: Checked) -> Found:
    """Measure a gradient: bare, through Theano, and in the samplers."""
    checked.require_tensorflow()
    share = checked.seconds / 4
    numbers = {
        "TensorFlow alone": timing.bare_seconds(checked.applied, share),
        "through the op": timing.bridge_seconds(checked.applied, share),
    }
    model = checked.subject.model
    if checked.subject.is_model and model is not None and model.vars:
        if len(model.cont_vars) == len(model.vars):
            numbers["model in Theano"] = timing.theano_seconds(model, share)
            numbers["step of pm.sample"] = timing.nuts_seconds(model, share)
        if checked.compiled is not None:
            numbers["gradient in pymc3_tf.sample"] = checked.compiled.seconds(share)
    text = ", ".join(f"{name} {timing.duration(t)}" for name, t in numbers.items())
    return Found(text, numbers)


def _at(text: str, suspect: Optional[suspects.Suspect]) -> str:
    return f"{text.rstrip('.')}. It comes from {suspect}" if suspect else text.rstrip(".")


def first_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    if isinstance(error, tf.errors.OpError):
        return message(error)  # type: ignore[arg-type]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
