"""Theano expressions evaluated for many draws of the variables on which they depend.

What Theano would compute draw by draw gets a leading dimension for the draws, op by op. An op that
has no form for many draws is computed in a loop, and only that.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import theano
import theano.tensor as tt
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Apply, Constant, Variable, ancestors, graph_inputs, io_toposort
from theano.graph.op import Op
from theano.link.basic import PerformLinker
from theano.tensor.basic import Dot
from theano.tensor.elemwise import DimShuffle, Elemwise
from theano.tensor.subtensor import AdvancedIncSubtensor, AdvancedIncSubtensor1, AdvancedSubtensor1

from pymc3_tf.bridge.op import TensorFlowOp
from pymc3_tf.exceptions import EvaluationError
from pymc3_tf.runtime.chunks import evaluate_in_chunks

# The outputs of an op for many draws; None if it has no form for them.
Stacked = Optional[List[Variable]]


def evaluate_draws(
    outputs: Sequence[Variable],
    draws: Mapping[Variable, np.ndarray],
    number: int,
    chains: Optional[int] = None,
) -> List[np.ndarray]:
    """Evaluate Theano expressions for many draws.

    Parameters
    ----------
    outputs : sequence of TensorVariable
        What to compute.
    draws : dict of TensorVariable to array
        The draws, along the first axis, of all variables on which the outputs depend. Any variable
        of the graph can be among them, not just its inputs.
    number : int
        How many draws there are, even if the outputs depend on none.
    chains : int, optional
        From how many chains they are, one after the other, for the text of an error.

    Returns
    -------
    list of array
        One for each output, with the draws along the first axis.

    Raises
    ------
    ValueError
        If draws have another number of dimensions than their variable.
    pymc3_tf.exceptions.EvaluationError
        If TensorFlow fails at a draw, and nothing is declared to stand for the results then. The
        text has the draw and its values.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc3_tf.bridge.stacks import evaluate_draws
    >>> import theano
    >>> import theano.tensor as tt
    >>> with theano.config.change_flags(compute_test_value="off"):
    ...     x = tt.dscalar("x")
    ...     line = x * np.array([1.0, 10.0])
    >>> (line,) = evaluate_draws([line], {x: np.array([2.0, 3.0])}, number=2)
    >>> line
    array([[ 2., 20.],
           [ 3., 30.]])
    """
    arrays = [np.asarray(array, x.dtype) for x, array in draws.items()]
    for x, array in zip(draws, arrays):
        if array.ndim != x.ndim + 1:
            raise ValueError(
                f"{x.name!r} has {x.ndim} dimensions in the model, and its draws have "
                f"{array.ndim - 1}. Take the draws of this model."
            )
    with theano.config.change_flags(compute_test_value="off"):
        function = _Function(outputs, list(draws))

    def evaluate(chunk: slice) -> List[np.ndarray]:
        rows = [array[chunk] for array in arrays]
        try:
            return function(rows, chunk.stop - chunk.start)
        except EvaluationError as error:
            i, reason = _first_failure(function, arrays, range(chunk.start, chunk.stop))
            if chains:
                chain, draw = divmod(i, number // chains)
                reason = f"draw {draw} of chain {chain}: {reason}"
            raise EvaluationError(reason) from error

    return evaluate_in_chunks(evaluate, number, lambda rows: function.memory)


def _first_failure(
    function: _Function, arrays: Sequence[np.ndarray], rows: range
) -> Tuple[int, str]:
    """Say at which of some draws TensorFlow fails first, and how."""
    for i in rows:
        try:
            function([array[i : i + 1] for array in arrays], 1)
        except EvaluationError as error:
            # Theano adds where in its graph that was.
            return i, str(error).splitlines()[0]
    raise AssertionError("together, the draws failed")


def drawn(outputs: Sequence[Variable], names: Iterable[str]) -> List[Variable]:
    """Return the variables with draws from which Theano expressions can be computed.

    Parameters
    ----------
    outputs : sequence of TensorVariable
        What to compute.
    names : iterable of str
        Names of the variables that have draws.

    Returns
    -------
    list of TensorVariable
        The nearest to the outputs. What depends on shared variables (``pm.Data``), which may have
        changed since it was drawn, is not among them if it can be computed again from the others.

    Raises
    ------
    ValueError
        If the outputs depend on another variable as well.
    """
    named = [x for x in ancestors(outputs) if x.name in names]
    known = [x for x in named if not any(isinstance(y, SharedVariable) for y in graph_inputs([x]))]

    def missing(variables: Sequence[Variable]) -> List[Variable]:
        inputs = graph_inputs(variables, blockers=known)
        return [x for x in inputs if x not in known and not isinstance(x, _WITHOUT_DRAWS)]

    for x in reversed(named):
        if missing([x]):
            known.append(x)
    for x in missing(outputs):
        raise ValueError(
            f"the draws have no variable {x.name!r}, which is needed. They have: "
            f"{', '.join(names)}."
        )
    nearest = set(ancestors(outputs, blockers=known))
    return [x for x in known if x in nearest]


_WITHOUT_DRAWS = (Constant, SharedVariable)


class _Function:
    """Expressions, compiled for stacks of draws."""

    def __init__(self, outputs: Sequence[Variable], inputs: Sequence[Variable]) -> None:
        graph = _StackedGraph(outputs, inputs)
        self._varies = [y in graph.stacked for y in outputs]
        results = [graph.stacked.get(y, y) for y in outputs]
        needed = set(graph_inputs(results))
        looped = [x for x, stacked in graph.looped.items() if stacked in needed]
        # Without C code, which takes seconds to compile and has little to win for stacks.
        self._function = theano.function(
            [graph.stacked[x] for x in [*inputs, *looped]],
            results,
            mode=theano.Mode(PerformLinker(allow_gc=False), "fast_compile"),
            on_unused_input="ignore",
        )
        self._function.trust_input = True
        self._loop = None
        if looped:
            fresh = [x.type() for x in inputs]
            self._loop = theano.function(
                fresh, looped, givens=list(zip(inputs, fresh)), on_unused_input="ignore"
            )
            self._loop.trust_input = True
        self.memory = 1

    def __call__(self, rows: List[np.ndarray], number: int) -> List[np.ndarray]:
        """Evaluate for some draws, and remember how many bytes that took."""
        if self._loop is not None:
            found = [self._loop(*[np.asarray(x[i]) for x in rows]) for i in range(number)]
            rows = rows + [np.stack(values) for values in zip(*found)]
        results = self._function(*rows)
        kept = [storage[0] for storage in self._function.fn.storage_map.values()]
        self.memory = sum(getattr(x, "nbytes", 0) for x in [*rows, *results, *kept])
        return [
            row if varies else np.broadcast_to(row, (number, *row.shape))
            for row, varies in zip(results, self._varies)
        ]


class _StackedGraph:
    """A copy of a graph in which what varies has a leading dimension for the draws.

    Attributes
    ----------
    stacked : dict
        The copy of each variable that varies; None where there can be none.
    looped : dict
        The part of it that is computed in a loop. In the copy these are inputs.
    """

    def __init__(self, outputs: Sequence[Variable], inputs: Sequence[Variable]) -> None:
        self.stacked: Dict[Variable, Optional[Variable]] = {x: _input(x) for x in inputs}
        self.looped: Dict[Variable, Variable] = {}
        for x in graph_inputs(outputs, blockers=list(inputs)):
            if getattr(x, "default_update", None) is not None:
                self.stacked[x] = None  # random numbers: other ones for each draw
        for node in io_toposort(list(self.stacked), outputs):
            varies = [x in self.stacked for x in node.inputs]
            if any(varies):
                self._add(node, varies)

    def _add(self, node: Apply, varies: List[bool]) -> None:
        inputs = [self.stacked.get(x, x) for x in node.inputs]
        results = None if None in inputs else _stack(node.op, node, inputs, varies)
        for i, y in enumerate(node.outputs):
            if y in self.stacked:
                continue
            if results is not None:
                self.stacked[y] = tt.patternbroadcast(results[i], (False, *y.broadcastable))
            elif isinstance(y.type, tt.TensorType):
                self.stacked[y] = self.looped[y] = _input(y)
            else:
                self.stacked[y] = None


def _input(x: Variable) -> Variable:
    return tt.TensorType(x.dtype, (False, *x.broadcastable))()


@singledispatch
def _stack(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    """Apply an op to inputs of which some are stacks; None if it has no form for them."""
    return None


@_stack.register(Elemwise)
def _stack_elemwise(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    # Inputs that do not vary get a leading dimension by broadcasting.
    return None if op.inplace_pattern else op.make_node(*inputs).outputs


@_stack.register(DimShuffle)
def _stack_dimshuffle(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    return [inputs[0].dimshuffle(0, *["x" if i == "x" else i + 1 for i in op.new_order])]


@_stack.register(AdvancedSubtensor1)
def _stack_indexed(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    return None if varies[1] else [inputs[0][:, inputs[1]]]


@_stack.register(Dot)
def _stack_dot(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    matrix, vector = node.inputs
    if varies[0] or matrix.ndim != 2 or vector.ndim != 1:
        return None
    return [tt.dot(inputs[1], matrix.T)]


@_stack.register(AdvancedIncSubtensor)
@_stack.register(AdvancedIncSubtensor1)
def _stack_imputed(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    # What PyMC3 makes of data with missing values: constants, among which variables are set.
    data, values, *index = node.inputs
    elements = len(index) == data.ndim and all(getattr(i, "ndim", 0) == 1 for i in index)
    alone = varies == [False, True] + [False] * len(index)
    if not (op.set_instead_of_inc and elements and alone and values.ndim == 1):
        return None
    stack = tt.alloc(data, inputs[1].shape[0], *[data.shape[i] for i in range(data.ndim)])
    return [tt.set_subtensor(stack[(slice(None), *index)], inputs[1])]


@_stack.register(TensorFlowOp)
def _stack_program(op: Op, node: Apply, inputs: List[Variable], varies: List[bool]) -> Stacked:
    nodes = [spec.node for spec, varying in zip(op.program.inputs, varies) if varying]
    return TensorFlowOp.of(op.program.batched(nodes)).make_node(*inputs).outputs
