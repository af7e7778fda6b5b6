"""From a Theano graph to a function of TensorFlow tensors.

The graph is rewritten by Theano first, for numerical stability, and then evaluated node by node on
tensors. Values that are known while tracing (shapes and what is computed from them) are computed by
the Theano ops themselves, so that XLA gets the static shapes it needs.
"""

from __future__ import annotations

import functools
from typing import Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf
import theano
import theano.tensor as tt
from theano.compile.builders import OpFromGraph
from theano.compile.mode import optdb
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Apply, Constant, Variable, graph_inputs
from theano.graph.fg import FunctionGraph
from theano.graph.optdb import Query
from theano.ifelse import IfElse
from theano.scan.op import Scan
from theano.tensor.subtensor import Subtensor, get_idx_list

from pymc3_tf.bridge.op import TensorFlowOp
from pymc3_tf.linker.dispatch import (
    CONSTANT_BYTES,
    MissingTranslationError,
    Value,
    is_known,
    resident,
    residents,
    tf_funcify,
)
from pymc3_tf.linker.python import by_perform, python_ops
from pymc3_tf.linker.scalars import alike, apply_alike, levels

# The rewrites that make a graph stable and small. Those for Theano's own back ends (BLAS, C,
# in-place operations, fused loops, buffers that scan reuses) would only hide what is computed.
QUERY = Query(
    include=["fast_run"],
    exclude=[
        *("cxx_only", "BlasOpt", "inplace", "fusion", "scanOp_save_mem", "specialize_device"),
        # It makes the last step of a loop an index that is computed from the length of the loop.
        "local_subtensor_merge",
        # They remove ops that say how to differentiate, which is done later here.
        *("local_view_op", "inline_ofg_expansion"),
    ],
)

# These are not evaluated by Theano while tracing, even if all of their inputs are known.
_ALWAYS_TRANSLATED = (TensorFlowOp, Scan, IfElse, OpFromGraph)


class Linked:
    """A Theano graph as a function of TensorFlow tensors. Made by `link`.

    Attributes
    ----------
    inputs : list of theano.graph.basic.Variable
        The Theano variables whose values the function takes.
    shared : list of SharedVariable
        The shared variables (``pm.Data``) on which the outputs depend.
    """

    def __init__(
        self,
        graph: FunctionGraph,
        inputs: Sequence[Variable],
        shared: Sequence[SharedVariable],
        python: bool = False,
    ) -> None:
        self.graph = graph
        self.inputs = list(inputs)
        self.shared = list(shared)
        self._python = python
        self._nodes = graph.toposort()
        self._large = _large_arrays(self._nodes, graph.outputs)

    @property
    def data(self) -> List[np.ndarray]:
        """What the function needs besides its inputs, with the current values.

        The values of the shared variables come first, then arrays that are too large for constants
        of a graph. Pass them to a compiled function as arguments: it then needs no recompilation
        when ``pm.set_data`` gives a shared variable a new value of the same shape.
        """
        current = [np.asarray(s.get_value(borrow=True), s.dtype) for s in self.shared]
        return current + self._large

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *tensors: Value, data: Optional[Sequence[Value]] = None) -> List[Value]:
        """Return the outputs.

        Parameters
        ----------
        *tensors : tf.Tensor
            One for each input. Static shapes are needed under XLA.
        data : sequence of tf.Tensor, optional
            One for each array of `data`. Default: the present ones, as constants.

        Returns
        -------
        list of tf.Tensor
            One for each output, of the dtype that it has in Theano.
        """
        if len(tensors) != len(self.inputs):
            names = ", ".join(str(x) for x in self.inputs)
            raise TypeError(
                f"the function takes {len(self.inputs)} tensors ({names}), not {len(tensors)}"
            )
        data = self.data if data is None else list(data)
        number = len(self.shared)
        arguments = [
            _dense(tf.convert_to_tensor(x, dtype=variable.dtype), variable.ndim)
            for x, variable in zip([*tensors, *data[:number]], self.graph.inputs)
        ]
        kept = [tf.convert_to_tensor(x) for x in data[number:]]
        large = {id(array): x for array, x in zip(self._large, kept)}
        with residents(large), python_ops(self._python):
            outputs = evaluate_graph(self.graph, self._nodes, arguments)
        return [
            tf.convert_to_tensor(y, dtype=variable.dtype)
            for y, variable in zip(outputs, self.graph.outputs)
        ]


def _dense(x: Value, ndim: int) -> Value:
    """Return the tensor; its gradient is a tensor even if it is only indexed."""

    @tf.custom_gradient
    def dense(x: Value) -> Value:
        return tf.identity(x), tf.convert_to_tensor

    # Nothing indexes a scalar.
    return dense(x) if ndim else x


def link(outputs: Sequence[Variable], inputs: Sequence[Variable], python: bool = False) -> Linked:
    """Turn a Theano graph into a function of TensorFlow tensors.

    Parameters
    ----------
    outputs : sequence of theano.graph.basic.Variable
        What to compute.
    inputs : sequence of theano.graph.basic.Variable
        What the function takes; for a PyMC3 model, ``model.vars``.
    python : bool, optional
        Compute an op without a translation by its own Python code, which XLA cannot compile.

    Returns
    -------
    Linked
        Differentiable by TensorFlow, and fit for ``tf.function(jit_compile=True)``.

    Raises
    ------
    NotImplementedError
        When the function is called, if an op of the graph has no translation (see `tf_funcify`).

    Notes
    -----
    Where the upstream gradient of an elementwise function is zero, so is its gradient, even if its
    derivative is infinite or no number there: the branch of a switch that is not taken contributes
    nothing, as it does in Theano after its rewrites.

    For many points at once, take the gradient inside of ``tf.vectorized_map``: outside of it, the
    gradients that programs and functions bring along are lost. Loops cannot be vectorized.

    An index that is out of bounds is an error in Theano. XLA takes the nearest element instead.
    A loop that ends by a condition compiles if only its last step is used.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc3_tf.linker import link
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0)
    >>> log_density = link([model.logpt], model.vars)
    >>> compiled = tf.function(lambda x: log_density(x)[0], jit_compile=True)
    >>> print(compiled(tf.constant(1.0, tf.float64)).numpy().round(4))
    -1.4189
    """
    outputs, inputs = list(outputs), list(inputs)
    shared = [x for x in graph_inputs(outputs) if isinstance(x, SharedVariable)]
    shared = [x for x in dict.fromkeys(shared) if x not in inputs]
    graph = rewritten(inputs + shared, outputs)
    for x in graph.inputs:
        if not isinstance(x.type, tt.TensorType):
            # No tensor stands for a sparse matrix: the op that uses it says that it cannot.
            for client, _ in graph.clients[x]:
                if client != "output":
                    tf_funcify.dispatch(object)(client.op, client)
    return Linked(graph, inputs, shared, python)


def rewritten(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> FunctionGraph:
    """Return a rewritten copy of a graph."""
    # Nobody needs the lines of code that rewrites come from, and they are slow to collect. What is
    # constant is computed once: building C++ for that would take longer than all of the rewrites.
    with theano.config.change_flags(compute_test_value="off", traceback__limit=0, cxx=""):
        # Each output is a variable of its own, so that replacing an input never changes an output.
        graph = FunctionGraph(list(inputs), list(outputs), clone=True)
        optdb.query(QUERY).optimize(graph)
    _mark_loops(graph)
    return graph


def _mark_loops(graph: FunctionGraph) -> None:
    """Mark the loops with a condition of which only the last step is used."""
    for node in graph.apply_nodes:
        if isinstance(node.op, Scan) and node.op.as_while:
            node.tag.last_only = all(_only_last_is_used(graph, y) for y in node.outputs)


def _only_last_is_used(graph: FunctionGraph, variable: Variable) -> bool:
    for client, _ in graph.clients[variable]:
        if client == "output" or not isinstance(client.op, Subtensor):
            return False
        index = get_idx_list(client.inputs, client.op.idx_list)[0]
        if isinstance(index, slice):
            if index.stop or index.step or not _only_last_is_used(graph, client.outputs[0]):
                return False
        elif not (isinstance(index, Constant) and index.data == -1):
            return False
    return True


def evaluate_graph(
    graph: FunctionGraph, nodes: Sequence[Apply], arguments: Sequence[Value]
) -> List[Value]:
    """Evaluate a graph on values of its inputs."""
    values: Dict[Variable, Value] = dict(zip(graph.inputs, arguments))
    for level in levels(nodes):
        inputs = {
            node: [values[x] if x in values else constant(x) for x in node.inputs] for node in level
        }
        for group in alike(level, inputs):
            if len(group) > 1:
                outputs = [node.outputs[0] for node in group]
                values.update(zip(outputs, apply_alike(group, inputs)))
            else:
                (node,) = group
                values.update(zip(node.outputs, apply(graph, node, inputs[node])))
    return [values[y] if y in values else constant(y) for y in graph.outputs]


def apply(graph: Optional[FunctionGraph], node: Apply, inputs: Sequence[Value]) -> List[Value]:
    """Evaluate one node."""
    if all(is_known(x) for x in inputs) and not isinstance(node.op, _ALWAYS_TRANSLATED):
        if node.op.do_constant_folding(graph, node):
            known = _fold(node, inputs)
            if all(getattr(y, "nbytes", 0) <= CONSTANT_BYTES for y in known):
                return known
    try:
        translation = tf_funcify(node.op, node)
    except MissingTranslationError as missing:
        translation = by_perform(node, missing, functools.partial(link, python=True))
    outputs = translation(*inputs)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _fold(node: Apply, inputs: Sequence[Value]) -> List[Value]:
    storage = {x: [value] for x, value in zip(node.inputs, inputs)}
    storage.update({y: [None] for y in node.outputs})
    computed = {x: [x in node.inputs] for x in storage}
    thunk = node.op.make_thunk(node, storage, computed, no_recycling=[], impl="py")
    thunk()
    return [_array(storage[y][0], y) for y in node.outputs]


def constant(variable: Variable) -> Value:
    """Return the value of a constant: a tensor if it is large."""
    assert isinstance(variable, Constant), variable
    if isinstance(variable.data, np.ndarray) and _is_large(variable):
        return resident(variable.data)
    return _array(variable.data, variable)


def _array(value: Value, variable: Variable) -> Value:
    """Return a known value as an array, unless it is something else, such as a sparse matrix."""
    if isinstance(variable.type, (tt.TensorType, theano.scalar.Scalar)):
        return np.asarray(value, variable.dtype)
    return value


def _is_large(variable: Variable) -> bool:
    # Masks have to be known: they decide about shapes.
    return variable.data.nbytes > CONSTANT_BYTES and variable.dtype != "bool"


def _large_arrays(nodes: Sequence[Apply], outputs: Sequence[Variable]) -> List[np.ndarray]:
    arrays: Dict[int, np.ndarray] = {}
    for x in [*outputs, *(x for node in nodes for x in node.inputs)]:
        if isinstance(x, tt.TensorConstant) and _is_large(x):
            arrays[id(x.data)] = x.data
    for node in nodes:
        if isinstance(node.op, TensorFlowOp):
            for feed in node.op.program.feeds:
                if feed.array.nbytes > CONSTANT_BYTES:
                    arrays[id(feed.array)] = feed.array
    return list(arrays.values())
