"""Cholesky factors and triangular systems in a form that XLA does well on processors.

Its own loops go over single rows of the whole matrix. Here a loop goes over panels of rows, so that
most of the work is products of matrices. Graphs get them after differentiation, in place of
TensorFlow's ops: loops would otherwise be differentiated, which XLA cannot do in a batch.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from pymc3_tf.host import routines
from pymc3_tf.private_tensorflow import function_graph, op_definition
from pymc3_tf.programs.serialized import define_functions, name_functions, prune

# Rows of a panel. Wider ones take longer to compile and run no faster.
_PANEL = 8
# Smaller matrices gain less than it takes to compile. For larger systems XLA's own code is as fast.
_SMALLEST, _LARGEST_SYSTEM = 16, 256


def cholesky(a: tf.Tensor) -> tf.Tensor:
    """Return the lower Cholesky factor of matrices.

    Parameters
    ----------
    a : tf.Tensor, shape (..., n, n)
        Of static shape. Only the lower triangle is read.

    Returns
    -------
    tf.Tensor, shape (..., n, n)
        Where a matrix is not positive definite there are NaN.

    Examples
    --------
    >>> import tensorflow as tf
    >>> print(cholesky(tf.constant([[4.0, 0.0], [2.0, 5.0]])).numpy())
    [[2. 0.]
     [1. 2.]]
    """
    upper = tf.linalg.matrix_transpose(_in_panels(a))
    size = upper.shape[-1]
    rows, panel = tf.range(size), tf.range(_PANEL)
    zero = tf.zeros([], a.dtype)

    def factorize(first: Any, factor: Any) -> Any:
        """Add a panel of rows of the transposed factor, whose panel axis comes first."""
        here = first + panel
        done = tf.transpose(factor, [1, 0, 2])
        left = tf.gather(upper, here, axis=1) - tf.matmul(
            tf.gather(done, here, axis=2), done, transpose_a=True
        )
        for i in range(_PANEL):
            pivot = tf.gather(left[:, i], first + i, axis=1)
            row = tf.where(rows >= first + i, left[:, i] / tf.sqrt(pivot)[:, None], zero)
            weights = tf.where(panel > i, tf.gather(row, here, axis=1), zero)
            eliminated = left - weights[:, :, None] * row[:, None]
            left = tf.where(tf.equal(panel, i)[:, None], row[:, None], eliminated)
        factor = tf.tensor_scatter_nd_update(factor, here[:, None], tf.transpose(left, [1, 0, 2]))
        return first + _PANEL, factor

    empty = tf.zeros([size, upper.shape[0], size], a.dtype)
    _, factor = tf.while_loop(lambda first, _: first < size, factorize, (0, empty))
    n = a.shape[-1]
    return tf.reshape(tf.transpose(factor, [1, 2, 0])[:, :n, :n], a.shape)


def triangular_solve(
    matrix: tf.Tensor, rhs: tf.Tensor, lower: bool = True, adjoint: bool = False
) -> tf.Tensor:
    """Solve triangular systems of real matrices, as ``tf.linalg.triangular_solve`` does.

    Parameters
    ----------
    matrix : tf.Tensor, shape (..., n, n)
        Of static shape. Only the lower (or upper) triangle is read.
    rhs : tf.Tensor, shape (..., n, k)
        Leading dimensions broadcast.
    lower, adjoint : bool

    Returns
    -------
    tf.Tensor, shape (..., n, k)

    Examples
    --------
    >>> import tensorflow as tf
    >>> matrix = tf.constant([[2.0, 0.0], [1.0, 2.0]])
    >>> print(triangular_solve(matrix, tf.constant([[2.0], [3.0]])).numpy())
    [[1.]
     [1.]]
    """
    leading = tf.broadcast_static_shape(matrix.shape[:-2], rhs.shape[:-2])
    matrix = tf.broadcast_to(matrix, leading + matrix.shape[-2:])
    shape, count = leading + rhs.shape[-2:], rhs.shape[-1]
    rhs = tf.broadcast_to(rhs, shape)
    if adjoint:
        matrix = tf.linalg.matrix_transpose(matrix)
    if lower == adjoint:
        # From the last unknown to the first: turned round, it is a lower triangle.
        turned = triangular_solve(tf.reverse(matrix, [-2, -1]), tf.reverse(rhs, [-2]))
        return tf.reverse(turned, [-2])
    matrix = _in_panels(tf.linalg.band_part(matrix, -1, 0))
    batch, size = matrix.shape[:2]
    number = size // _PANEL
    rhs = tf.pad(tf.reshape(rhs, [batch, -1, count]), [[0, 0], [0, size - shape[-2]], [0, 0]])
    rhs = tf.reshape(rhs, [batch, number, _PANEL, count])
    panels = tf.reshape(matrix, [batch, number, _PANEL, size])
    blocks = tf.stack(
        [panels[:, i, :, i * _PANEL : (i + 1) * _PANEL] for i in range(number)], axis=1
    )
    inverses = _inverse_of_small(blocks)

    def substitute(i: Any, solution: Any) -> Any:
        done = tf.reshape(tf.transpose(solution, [1, 0, 2, 3]), [batch, size, count])
        left = tf.gather(rhs, i, axis=1) - tf.matmul(tf.gather(panels, i, axis=1), done)
        found = tf.matmul(tf.gather(inverses, i, axis=1), left)
        return i + 1, tf.tensor_scatter_nd_update(solution, [[i]], found[None])

    empty = tf.zeros([number, batch, _PANEL, count], rhs.dtype)
    _, solution = tf.while_loop(lambda i, _: i < number, substitute, (0, empty))
    solution = tf.reshape(tf.transpose(solution, [1, 0, 2, 3]), [batch, size, count])
    return tf.reshape(solution[:, : shape[-2]], shape)


def _in_panels(matrix: tf.Tensor) -> tf.Tensor:
    """Return matrices with one leading axis, and of a size that panels fill."""
    n = matrix.shape[-1]
    matrix = tf.reshape(matrix, [-1, n, n])
    more = -n % _PANEL
    ones = np.concatenate([np.zeros(n), np.ones(more)])
    return tf.pad(matrix, [[0, 0], [0, more], [0, more]]) + tf.constant(np.diag(ones), matrix.dtype)


def _inverse_of_small(blocks: tf.Tensor) -> tf.Tensor:
    """Invert lower triangles of the size of a panel, row by row."""
    diagonal = tf.linalg.diag_part(blocks)
    inverse = tf.linalg.diag(1 / diagonal)
    for i in range(1, _PANEL):
        row = tf.matmul(blocks[..., i : i + 1, :i], inverse[..., :i, :])
        row = -row / diagonal[..., i, None, None]
        inverse += tf.one_hot(i, _PANEL, dtype=blocks.dtype)[:, None] * row
    return inverse


def replace_ops(graph_def: Any, host: bool = False) -> None:
    """Put these in place of TensorFlow's ops in a graph that XLA is going to compile.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place. It has to say the shapes of its placeholders.
    host : bool
        Take routines of the host where there are some, which only XLA can call; inside of loops
        and other functions, too.
    """
    wanted = routines.OPS if host else _FUNCTIONS
    bodies = graph_def.library.function if host else []
    library: Dict[str, Any] = {}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        if any(node.op in wanted for node in graph_def.node):
            _call_instead(graph, graph_def.node, host, library)
        for body in bodies:
            if not any(node.op in wanted for node in body.node_def):
                continue
            try:
                inside = function_graph(body)
            except ValueError:
                continue  # its shapes are known where it is called, and not by itself
            renamed = _call_instead(inside, body.node_def, host, library)
            for node in body.node_def:
                node.input[:] = [renamed.get(name, name) for name in node.input]
            for name, value in body.ret.items():
                body.ret[name] = renamed.get(value, value)
    if library:
        graph_def.library.function.extend(library.values())
        # What a name stands for in this process cannot change.
        name_functions(graph_def)
        define_functions(graph_def)


def _call_instead(
    graph: tf.Graph, nodes: Sequence[Any], host: bool, library: Dict[str, Any]
) -> Dict[str, str]:
    """Make nodes calls of functions, which are added to a library.

    Returns
    -------
    dict of str to str
        What the outputs of these nodes are called now among those of a function.
    """
    calls: Dict[str, str] = {}
    # They live until their definitions are taken from the graph.
    functions: List[Any] = []
    renamed: Dict[str, str] = {}
    with graph.as_default():
        for node in nodes:
            if node.op not in {*routines.OPS, *_FUNCTIONS}:
                continue
            op = graph.get_operation_by_name(node.name)
            found = (routines.routine(op) if host else None) or _panels(op)
            if found is not None:
                functions.append(tf.function(found, autograph=False))
                calls[node.name] = tf.nest.flatten(functions[-1](*op.inputs))[0].op.name
    with_calls = graph.as_graph_def()
    by_name = {node.name: node for node in with_calls.node}
    for node in nodes:
        if node.name in calls:
            for i, output in enumerate(op_definition(node.op).output_arg):
                renamed[f"{node.name}:{output.name}:0"] = f"{node.name}:output:{i}"
            call = by_name[calls[node.name]]
            node.op = call.op
            node.attr.clear()
            node.attr.MergeFrom(call.attr)
    prune(with_calls, list(calls.values()))
    library.update({f.signature.name: f for f in with_calls.library.function})
    return renamed


def _panels(op: tf.Operation) -> Optional[Callable[..., tf.Tensor]]:
    """Return what computes an op in panels; None if it would be no faster."""
    if op.type not in _FUNCTIONS:
        return None
    if not all(x.shape.is_fully_defined() and x.dtype.is_floating for x in op.inputs):
        return None
    size = op.inputs[0].shape[-1]
    if not _SMALLEST <= size <= (size if op.type == "Cholesky" else _LARGEST_SYSTEM):
        return None
    return _FUNCTIONS[op.type](op)


_FUNCTIONS: Dict[str, Callable[[tf.Operation], Callable[..., tf.Tensor]]] = {
    "Cholesky": lambda op: cholesky,
    "MatrixTriangularSolve": lambda op: functools.partial(
        triangular_solve, lower=op.get_attr("lower"), adjoint=op.get_attr("adjoint")
    ),
}
