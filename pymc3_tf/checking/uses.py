"""The last stages of a check: what ArviZ, XLA and the samplers make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import theano
import theano.tensor as tt
from theano.graph.basic import Variable

from pymc3_tf.bridge.stacks import evaluate_draws
from pymc3_tf.checking import timing
from pymc3_tf.checking.checked import (
    Checked,
    Failed,
    Found,
    Skipped,
    at_node,
    first_line,
    is_density,
)
from pymc3_tf.model.density import TFDensity
from pymc3_tf.model.diagnosis import Point
from pymc3_tf.runtime import suspects
from pymc3_tf.sampling.culprits import why_not_compiled
from pymc3_tf.sampling.unconstrained import require_continuous

# Of the log density of XLA and that of PyMC3: float32, and sums in another order.
_SAME = 1e-4


def pointwise(checked: Checked) -> Found:
    """Compare the sum of the pointwise log density with the joint one."""
    lines, numbers = [], {}
    for part in checked.subject.parts:
        variable = part.variable
        if not is_density(variable):
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


def _is_repeated(variable: Variable, checked: Checked, each: np.ndarray) -> bool:
    """Whether all numbers change alike where one value changes."""
    density = variable.distribution
    if not isinstance(density, TFDensity):
        return False
    data = np.asarray(variable.tag.test_value)
    if not density.has_value or data.dtype.kind != "f" or data.size < 2 or np.ma.is_masked(data):
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
    raise Failed(at_node(text, suspect))


def timed(checked: Checked) -> Found:
    """Measure a gradient: bare, through Theano, and in the samplers."""
    checked.require_tensorflow()
    timers = {
        "TensorFlow alone": timing.bare(checked.applied),
        "through the op": timing.bridged(checked.applied),
    }
    model = checked.subject.model
    if checked.subject.is_model and model is not None and model.vars:
        if len(model.cont_vars) == len(model.vars):
            timers["model in Theano"] = timing.theano(model)
            timers["step of pm.sample"] = timing.nuts(model)
        if checked.compiled is not None:
            timers["gradient in pymc3_tf.sample"] = checked.compiled.timer
    numbers = dict(zip(timers, timing.by_turns(list(timers.values()), checked.seconds)))
    text = ", ".join(f"{name} {timing.duration(t)}" for name, t in numbers.items())
    return Found(text, numbers)
