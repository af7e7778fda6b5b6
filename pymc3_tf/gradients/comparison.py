"""Gradients beside central differences, at any point: numbers, where a declaration only refuses."""

from __future__ import annotations

from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pymc3_tf.gradients.missing import Gap, GradientWays
from pymc3_tf.gradients.numerical import CLOSE, DISTANCES, Line, Slope, direction_of
from pymc3_tf.programs.program import Program

# Of arrays up to this size, each element is compared.
_ELEMENTS = 20


class Comparison(NamedTuple):
    """A gradient by one input of a program, beside central differences.

    Parameters
    ----------
    i : int
        Number of the input.
    gradient, difference : float
        Of the element where they differ most, or along a random direction.
    error : float
        Their relative difference. NaN if the function is too flat, or not finite, to tell, such as
        where differences are all rounding.
    element : tuple of int, optional
        Which element that is; None for a scalar, and for a direction.
    """

    i: int
    gradient: float
    difference: float
    error: float
    element: Optional[Tuple[int, ...]] = None

    @property
    def is_wrong(self) -> bool:
        """Whether they differ by more than differences are wrong by."""
        return self.error > CLOSE


@np.errstate(all="ignore")
def compare(
    program: Program, point: Sequence[np.ndarray], shapes: Sequence[Any], free: Sequence[int]
) -> List[Comparison]:
    """Compare the gradient with central differences of several steps, the best of which counts.

    Parameters
    ----------
    program : Program
        With its pullback. It is applied to a weighted sum of the outputs.
    point : sequence of array
        One for each input.
    shapes : sequence of tuple of int
        Of the outputs.
    free : sequence of int
        The inputs by which to compare.

    Returns
    -------
    list of Comparison
        One for each of them: of a small array, for its worst element; of a large one, along a
        random direction.
    """
    rng = np.random.RandomState(0)
    line = Line(program, shapes, rng)
    _, _, gradient = line.at(point)
    return [
        max(
            (
                compared(line, point, gradient, i, direction, element)
                for direction, element in _directions(point[i], rng)
            ),
            key=lambda found: -1.0 if np.isnan(found.error) else found.error,
        )
        for i in free
    ]


def _directions(x: np.ndarray, rng: np.random.RandomState) -> Iterator[Tuple[np.ndarray, Any]]:
    along = direction_of(x, rng)
    symmetric = (
        x.ndim > 1
        and along.shape[-1] == along.shape[-2]
        and bool(np.allclose(along, np.swapaxes(along, -1, -2)))
    )
    # A part of a symmetric matrix cannot be moved alone.
    if x.ndim == 0 or x.size > _ELEMENTS or symmetric:
        yield along, None
        return
    for element in np.ndindex(*x.shape):
        alone = np.zeros_like(along)
        alone[element] = along[element]
        yield alone, element


def compared(
    line: Line, point: Sequence[np.ndarray], gradient: Any, i: int, direction: Any, element: Any
) -> Comparison:
    """Compare along one direction, with differences of several steps."""
    directions: List[Any] = [None] * len(point)
    directions[i] = direction
    # Of an element, the derivative itself.
    unit = float(direction.sum()) if element is not None or np.ndim(direction) == 0 else 1.0
    found = [line.slope(point, gradient, directions, d) for d in DISTANCES if gradient]
    slopes = [slope for slope in found if slope is not None]
    clear = [slope for slope in slopes if slope.is_clear]
    best = min(clear, key=_error, default=None)
    if best is None or (_error(best) > CLOSE and not _is_certain(slopes)):
        return Comparison(i, np.nan, np.nan, np.nan, element)
    return Comparison(i, best.gradient / unit, best.difference / unit, _error(best), element)


def _error(slope: Slope) -> float:
    larger = max(abs(slope.gradient), abs(slope.difference))
    error = abs(slope.gradient - slope.difference) / larger
    # Where the gradient is NaN, that is all there is to say.
    return np.inf if np.isnan(error) else error


def _is_certain(slopes: Sequence[Slope]) -> bool:
    """Return whether the gradient is wrong by more than some difference is.

    Differences of small steps drown in the rounding of the value, eps * |value| / step, and of
    large ones the error goes with the square of the step. The next smaller step shows how large
    that error is. Where no step is right, nothing can be told.
    """
    return any(
        (_error(slope) - CLOSE) * max(abs(slope.gradient), abs(slope.difference))
        > 2 * abs(slope.difference - smaller.difference)
        if np.isfinite(slope.gradient)
        else True
        for slope, smaller in zip(slopes, slopes[1:])
        if slope.is_clear
    )


def suspect(program: Program, i: int) -> Optional[Gap]:
    """Return the node at which the gradient by an input is most likely lost or wrong."""
    ways = GradientWays(program.graph_without_gradients())
    outputs = [spec.node for spec in program.outputs if spec.is_floating]
    ways.reach({program.inputs[i].node: 1 << i}, outputs)
    for gap in [*ways.gaps, *ways.steps]:
        if gap.bits >> i & 1 and not gap.is_harmless:
            return gap
    for node in program.graph_without_gradients().node:
        if b"CustomGradient" in node.attr["_gradient_op_type"].s:
            return Gap(1 << i, node.op, node.name, is_custom=True)
    return None
