"""Checks at declaration that a gradient is there, and that it is the gradient of the value."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from pymc3_tf.exceptions import (
    EvaluationError,
    GradientError,
    MissingGradientWarning,
    UnsupportedOpError,
)
from pymc3_tf.gradients.missing import Gap, GradientWays
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.programs.program import Program
from pymc3_tf.runtime import failures, functions

# Distance from the test point. Test points are often zero or one, where a function can have a kink,
# or a slope of zero by symmetry.
_OFFSET = 1e-2
# Steps of central differences, if one is not enough.
DISTANCES = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# Relative differences: below the first, all inputs together agree; above the second, one is wrong.
CLOSE, _WRONG = 1e-2, 0.2
# The differences of several steps have to agree so well to count as a derivative.
_CONSISTENT = 0.03
# A difference has to be so many times its rounding error.
_SIGNAL = 1e3
_SINGLE = float(np.finfo("float32").eps)

_OFF = "If no gradient is needed there, say check_gradient=False."

# A step of each input; None for inputs that stay.
Direction = Sequence[Optional[np.ndarray]]


class At(NamedTuple):
    """What a program is applied to, where it is declared."""

    free: List[int]  # the inputs that are not data
    known: Any  # the test values of the inputs, and the shapes of the outputs; or None


def check(program: Program, at: At) -> None:
    """Refuse a program whose gradient is missing or wrong. Each input is checked once.

    Parameters
    ----------
    program : Program
        With its pullback.
    at : At
        Its test values are where the gradient is checked.

    Raises
    ------
    pymc3_tf.exceptions.UnsupportedOpError
        If TensorFlow has no gradient of an op on a path from an input to an output.
    pymc3_tf.exceptions.GradientError
        If central differences disagree with the gradient.
    """
    free = [i for i in at.free if program.inputs[i].is_floating]
    if program.pullback is None or program.kept.checked.issuperset(free):
        return
    if not any(spec.is_floating for spec in program.outputs):
        return
    ways = GradientWays(program.graph_without_gradients())
    reached = ways.reach(
        {program.inputs[i].node: 1 << i for i in free},
        [spec.node for spec in program.outputs if spec.is_floating],
    )
    flat = 0
    for i in free:
        if any(reach.broken >> i & 1 for reach in reached):
            raise UnsupportedOpError(_gap_text(program, i, ways.gaps))
        if any(reach.stepwise >> i & 1 for reach in reached):
            if not any(reach.smooth >> i & 1 for reach in reached):
                flat |= 1 << i
                _warn(_step_text(program, i, ways.steps))
    steep = [i for i in free if not flat >> i & 1]
    if steep and at.known is not None:
        point, shapes = at.known
        for wrong in _wrong_slopes(program, point, shapes, steep):
            steps = [g for g in ways.steps if g.bits >> wrong.i & 1 and not g.is_harmless]
            stops = [g for g in steps if g.op == "StopGradient"]
            if not stops:
                raise GradientError(_wrong_text(program, point, wrong))
            _warn(_stop_text(program, wrong, stops[0]))
    program.kept.checked.update(free)


def compile(program: Program, at: At) -> None:
    """Evaluate a gradient under XLA at the test point, to see whether XLA can compile it.

    Raises
    ------
    pymc3_tf.exceptions.CompilationError
        If XLA cannot compile it.
    """
    if at.known is None or program.pullback is None or not program.jit_compile:
        return
    point, shapes = at.known
    Line(program, shapes, np.random.RandomState(0)).at(point)


# -- the numbers ------------------------------------------------------------------------------


class _Wrong(NamedTuple):
    i: int
    gradient: float
    difference: float


class Slope(NamedTuple):
    """A slope along a direction, by the gradient and by differences."""

    gradient: float
    difference: float
    is_clear: bool  # whether the difference is more than rounding

    def is_off(self, tolerance: float) -> bool:
        """Whether the two differ by more than a part of the larger one."""
        larger = max(abs(self.gradient), abs(self.difference))
        return abs(self.gradient - self.difference) > tolerance * larger


class Line:
    """The weighted sum of a program's outputs, near a point."""

    def __init__(self, program: Program, shapes: Sequence[Any], rng: np.random.RandomState) -> None:
        self._both = value_and_vjp(program)
        floating = [spec for spec in program.outputs if spec.is_floating]
        self._number = len(program.outputs)
        self._floating = [k for k, spec in enumerate(program.outputs) if spec.is_floating]
        assert program.pullback is not None
        cotangents = program.pullback.cotangents
        weights = [rng.uniform(0.5, 1.0, shapes[k]) for k in self._floating]
        self._weights = weights if cotangents else [np.ones(())]
        self._cotangents = [np.asarray(w, c.dtype) for w, c in zip(self._weights, cotangents)]
        self._gradients = [k for k, g in enumerate(program.pullback.gradients) if g is not None]
        dtypes = [spec.dtype for spec in [*floating, *program.inputs] if spec.is_floating]
        self.eps = max(float(np.finfo(dtype).eps) for dtype in dtypes)

    def at(self, point: Sequence[np.ndarray]) -> Any:
        """Return the sum, how large its terms are, and the gradient by each input."""
        with failures.ignored():
            try:
                results = functions.function(self._both)([*point, *self._cotangents])
            except EvaluationError:
                return np.nan, np.nan, []
        terms = [w * results[k] for w, k in zip(self._weights, self._floating)]
        gradient: List[Any] = [np.zeros_like(x, float) for x in point]
        for k, found in zip(self._gradients, results[self._number :]):
            gradient[k] = found
        return sum(t.sum() for t in terms), sum(np.abs(t).sum() for t in terms), gradient

    def slope(
        self,
        point: Sequence[np.ndarray],
        gradient: Sequence[np.ndarray],
        direction: Direction,
        step: float,
    ) -> Optional[Slope]:
        """Return both slopes; None if the values next to the point are not finite."""
        ahead, behind = moved(point, direction, step), moved(point, direction, -step)
        (up, size, _), (down, *_) = self.at(ahead), self.at(behind)
        if not np.isfinite(up - down):
            return None
        # With the distance between the points after rounding.
        along = sum(
            float(np.sum(g * (a - b.astype(float))))
            for g, a, b, d in zip(gradient, ahead, behind, direction)
            if d is not None
        )
        # If the value stays the same although the gradient is steep, that is not rounding, even if
        # the program computes in single precision.
        clear = abs(up - down) > _SIGNAL * self.eps * size or abs(along) > _SIGNAL * _SINGLE * size
        return Slope(along / (2 * step), (up - down) / (2 * step), bool(clear))


def moved(point: Sequence[np.ndarray], direction: Direction, step: float) -> List[np.ndarray]:
    """Return the point at a step along a direction, which is None for inputs that stay."""
    return [x if d is None else np.asarray(x + step * d, x.dtype) for x, d in zip(point, direction)]


@np.errstate(all="ignore")
def _wrong_slopes(
    program: Program, point: List[np.ndarray], shapes: Any, free: Sequence[int]
) -> List[_Wrong]:
    """Return the inputs for which the gradient is certainly wrong.

    If none is, three evaluations are enough.
    """
    rng = np.random.RandomState(0)
    line = Line(program, shapes, rng)
    directions = {i: direction_of(point[i], rng) for i in free}
    every = [directions.get(i) for i in range(len(point))]
    for offset in (_OFFSET, -_OFFSET, 0.0):
        near = moved(point, every, offset)
        value, _, gradient = line.at(near)
        if np.isfinite(value) and all(np.isfinite(gradient[i]).all() for i in free):
            break
    else:
        return []
    slopes = {i: float(np.sum(gradient[i] * directions[i])) for i in free}
    steep = [i for i in free if slopes[i]]
    suspects = [i for i in free if not slopes[i]]
    if steep:
        # Scaled to be equally steep along all inputs, so that none hides the others.
        least = min(abs(slopes[i]) for i in steep)
        joint: List[Any] = [None] * len(point)
        for i in steep:
            joint[i] = directions[i] * max(least / abs(slopes[i]), 1e-6) * np.sign(slopes[i])
        slope = line.slope(near, gradient, joint, 1e-4 if line.eps < 1e-10 else 1e-3)
        if slope is None or slope.is_off(CLOSE):
            suspects = list(free)
    wrong = []
    for i in suspects:
        alone: List[Any] = [None] * len(point)
        alone[i] = directions[i]
        found = _verdict(line, near, gradient, alone)
        if found:
            # For a scalar, the derivative itself.
            unit = float(directions[i]) if directions[i].ndim == 0 else 1.0
            wrong.append(_Wrong(i, found.gradient / unit, found.difference / unit))
    return wrong


def _verdict(
    line: Line, point: Any, gradient: Sequence[np.ndarray], direction: Direction
) -> Optional[Slope]:
    """Return both slopes if the gradient is wrong for all steps."""
    slopes: List[Slope] = []
    for step in DISTANCES:
        slope = line.slope(point, gradient, direction, step)
        if slope is None:
            continue
        if not slope.is_off(_WRONG) and (slope.is_clear or not slopes):
            return None
        slopes.append(slope)
    for three in zip(slopes, slopes[1:], slopes[2:]):
        differences = [slope.difference for slope in three]
        spread = max(differences) - min(differences)
        if spread <= _CONSISTENT * max(map(abs, differences)):
            if all(slope.is_clear and slope.is_off(_WRONG) for slope in three):
                return three[1]
    return None


def direction_of(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return a random direction of the size of the elements, symmetric for a symmetric matrix."""
    size = np.abs(x)
    size = np.where(size > 0, size, size.max() if size.any() else 1.0)
    direction = rng.uniform(0.5, 1.0, x.shape) * rng.choice([-1.0, 1.0], x.shape) * size
    if x.ndim > 1 and x.shape[-1] == x.shape[-2]:
        transposed = np.swapaxes(x, -1, -2)
        if np.allclose(x, transposed):
            # A decomposition may read one half only; its gradient assumes a symmetric matrix.
            direction = direction + np.swapaxes(direction, -1, -2)
    return np.asarray(direction)


# -- texts ------------------------------------------------------------------------------------


def _names(program: Program, i: int) -> Any:
    return program.outputs[0].label.replace("sum of ", ""), program.inputs[i].label


def _first(gaps: Sequence[Gap], i: int) -> Gap:
    return next(gap for gap in gaps if gap.bits >> i & 1)


def _gap_text(program: Program, i: int, gaps: Sequence[Gap]) -> str:
    (name, label), gap = _names(program, i), _first(gaps, i)
    if gap.is_custom:
        return (
            f"{name} depends on {label!r} through a function under tf.custom_gradient (at the node "
            f"{gap.node!r}) that uses it, or what is computed from it, without having it as an "
            "argument. TensorFlow then has no gradient with respect to it. Give it to the function "
            "as an argument; for a solver of tfp.math.ode, by "
            f"constants={{{label!r}: ...}}, which ode_fn gets as arguments. {_OFF}"
        )
    return (
        f"{name} depends on {label!r} through {gap.op} at the node {gap.node!r}, and TensorFlow "
        f"has no gradient of {gap.op} with respect to that input. Use another formula"
        f"{_OTHER.get(gap.op, '')}, or a function under tf.custom_gradient that has the gradient. "
        f"{_OFF}"
    )


_OTHER = {
    "Betainc": " (tfp.math.betainc has all gradients)",
    "Range": " (start + step * tf.range(n))",
}


def _step_text(program: Program, i: int, steps: Sequence[Gap]) -> str:
    (name, label), step = _names(program, i), _first(steps, i)
    return (
        f"{name} depends on {label!r} only through {step.op} at the node {step.node!r}, so that "
        f"its gradient with respect to {label!r} is zero everywhere: NUTS learns nothing about it "
        f"from {name}. If this is intended, say check_gradient=False."
    )


def _stop_text(program: Program, wrong: _Wrong, stop: Gap) -> str:
    name, label = _names(program, wrong.i)
    return (
        f"the gradient of {name} with respect to {label!r} leaves out what tf.stop_gradient stops "
        f"at the node {stop.node!r}: near the test point it is {wrong.gradient:.6g}, and central "
        f"differences give {wrong.difference:.6g}. If this is intended, say check_gradient=False."
    )


def _wrong_text(program: Program, point: Any, wrong: _Wrong) -> str:
    name, label = _names(program, wrong.i)
    at = failures.describe([label], [point[wrong.i]])
    along = "" if np.ndim(point[wrong.i]) == 0 else " along a random direction"
    return (
        f"the gradient of {name} with respect to {label!r} is wrong: near {at} it is "
        f"{wrong.gradient:.6g}{along}, and central differences give {wrong.difference:.6g}. Look "
        "for a function under tf.custom_gradient or tf.RegisterGradient whose gradient is not that "
        f"of its value, and for an op without a gradient with respect to {label!r}. {_OFF}"
    )


def _warn(text: str) -> None:
    """Warn at the line outside of this package, PyMC3 and Theano that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, MissingGradientWarning, stacklevel=level)


def _is_ours(path: str) -> bool:
    return any(f"{os.sep}{name}{os.sep}" in path for name in ("pymc3_tf", "pymc3", "theano"))
