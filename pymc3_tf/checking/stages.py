"""The first stages of a check: what TensorFlow computes, and whether its numbers are right.

Each looks at one thing, and says what it found or why it fails.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.util import get_untransformed_name, is_transformed_name

from pymc3_tf.checking.checked import (
    Checked,
    Failed,
    Found,
    Skipped,
    at_node,
    first_line,
    is_density,
)
from pymc3_tf.checking.subjects import Applied, Part
from pymc3_tf.exceptions import EvaluationError
from pymc3_tf.gradients import comparison
from pymc3_tf.model.diagnosis import Point, evaluator, explain
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.runtime import failures, functions, suspects

DRAWS = 100


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
            if isinstance(error, EvaluationError) and _is_of_values(str(error)):
                lines.append(f"{name}: not known, because it fails at the test point")
                continue
            text = f"{name}: {first_line(error)}"
            raise Failed(at_node(text, suspects.of_error(program, error))) from error
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


def _is_of_values(text: str) -> bool:
    return "not a number" in text or failures.is_of_values(text)


def _density_of(checked: Checked, name: str) -> Any:
    """Return the variable of a name if its log density is a TFDensity's; None otherwise."""
    for part in checked.subject.parts:
        if part.name == name and is_density(part.variable):
            return part.variable
    return None


def _typed(arrays: List[Tuple[str, np.ndarray]]) -> str:
    return ", ".join(f"{label} {x.dtype} {x.shape}" for label, x in arrays)


def value(checked: Checked) -> Found:
    """Evaluate all at the test point."""
    parts = checked.subject.parts
    numbers, bad = {}, []
    for applied in checked.applied:
        _require_evaluation(applied)
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
        raise Failed(_not_finite(checked, bad[0], checked.applied))
    return Found(", ".join(f"{name} {number:.6g}" for name, number in numbers.items()), numbers)


def _require_evaluation(applied: Applied) -> None:
    """Evaluate a program, which may be declared to raise an error where it fails."""
    name, program, values, _ = applied
    try:
        functions.function(program)(values)
    except EvaluationError as error:
        suspect = suspects.of_error(program, error) or _suspect(applied)
        raise Failed(at_node(f"{name}: {first_line(error)}", suspect)) from error


def _values(parts: List[Part], point: Point) -> List[np.ndarray]:
    return point.values([part.output for part in parts]) if parts else []


def _not_finite(
    checked: Checked, part: Part, applied: List[Applied], at: Any = None, gradient: bool = False
) -> str:
    """Say which node makes a number, or a gradient, that is not finite."""
    model, text = checked.subject.model, ""
    if model is not None:
        text = explain(model, at or model.test_point, [part.variable.name])
    own = (_suspect(a, gradient) for a in applied if a.name == part.name)
    what = "the gradient of " if gradient else ""
    return at_node(text or f"{what}{part.name} is not finite", next(filter(None, own), None))


def _suspect(applied: Applied, gradient: bool = False) -> Optional[suspects.Suspect]:
    _, program, values, _ = applied
    if gradient and program.pullback is not None:
        results = functions.function(program)(values)
        cotangents = [np.ones_like(y) for y in results if y.dtype.kind == "f"]
        values = [*values, *cotangents[: len(program.pullback.cotangents)]]
        program = value_and_vjp(program)
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
        raise Failed(at_node(f"{text}{found.difference:.6g}", _suspect(applied, gradient=True)))
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
    return at_node(text, gap and suspects.suspect(program, gap.op, gap.node))


def prior(checked: Checked) -> Found:
    """Evaluate value and gradient at draws from the prior."""
    model, parts = checked.model, checked.subject.parts
    checked.require_tensorflow()
    points = _prior_draws(model)
    with theano.config.change_flags(compute_test_value="off"):
        sums = [tt.sum(part.output) for part in parts]
        gradients = [tt.grad(total, model.vars, disconnected_inputs="ignore") for total in sums]
    zeros = dict.fromkeys((part.name for part in parts), 0)
    evaluate = evaluator(model.vars, [*sums, *(g for group in gradients for g in group)])
    for number, at in enumerate(points):
        inputs = [at[v.name] for v in model.vars]
        where = f"at draw {number + 1} of {len(points)} from the prior: "
        failures.take()
        try:
            values = evaluate(*inputs)
        except EvaluationError as error:
            for applied in checked.subject.applied(Point(model.vars, inputs)):
                _require_evaluation(applied)
            raise Failed(where + first_line(error)) from error
        failed = failures.take()
        for k, part in enumerate(parts):
            slopes = values[len(parts) + k * len(model.vars) :][: len(model.vars)]
            bad = np.isnan(values[k]) or values[k] == np.inf or (failed and np.isinf(values[k]))
            if np.isinf(values[k]) and not bad:
                zeros[part.name] += 1
            elif bad or not _finite(slopes):
                there = checked.subject.applied(Point(model.vars, inputs))
                text = _not_finite(checked, part, there, at, gradient=not bad)
                raise Failed(where + text)
    for name, number in zeros.items():
        if number == len(points):
            raise Failed(_never_positive(checked, name, Point(model.vars, inputs)))
    infinite = max(zeros.values())
    if infinite:
        names = ", ".join(sorted(name for name in zeros if zeros[name]))
        text = f"{infinite} of {len(points)} draws have density zero ({names}): right where"
        return Found(f"{text} that is outside of its support", {"infinite": infinite})
    return Found(f"finite at {len(points)} draws, and so are the gradients", {"infinite": 0})


def _never_positive(checked: Checked, name: str, point: Point) -> str:
    text = (
        f"{name} has density zero at all {DRAWS} draws from the prior: either the priors give "
        "nothing that is in its support, or its formula is wrong"
    )
    own = (_suspect(applied) for applied in checked.subject.applied(point) if applied.name == name)
    return at_node(text, next(filter(None, own), None))


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
    for v in model.vars:
        shape = (DRAWS, *np.shape(model.test_point[v.name]))
        if np.size(drawn[v.name]) != np.prod(shape):
            raise Skipped(f"PyMC3 draws {v.name!r} with another shape than it has")
        drawn[v.name] = np.reshape(drawn[v.name], shape)
    return [
        {v.name: np.asarray(drawn[v.name][i], v.dtype) for v in model.vars} for i in range(DRAWS)
    ]
