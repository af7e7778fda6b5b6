"""Linear algebra of XLA programs as calls of C++ on the host.

XLA's own loops over the rows of a matrix are slow on processors by a factor of up to a hundred.
Graphs get these calls after differentiation: they have no gradient of their own.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from pymc3_tf.host import build
from pymc3_tf.private_tensorflow import call_host

# Below, XLA's own code is as fast as a call.
_SMALLEST_MATRIX = 8
_SMALLEST_PRODUCT = 32

# Products, and their attributes that say which of two matrices is transposed.
PRODUCTS = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMul": ("adj_x", "adj_y"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}
OPS = {"Cholesky", "MatrixTriangularSolve", "SelfAdjointEigV2", *PRODUCTS}


def cholesky(a: tf.Tensor) -> tf.Tensor:
    """Return the lower Cholesky factor of matrices of float64, and NaN where there is none.

    Parameters
    ----------
    a : tf.Tensor, shape (..., n, n)
        Of static shape. Only the lower triangle is read.
    """
    batch, n = a.shape[:-2].num_elements(), a.shape[-1]
    return _call("cholesky", [a], [batch, n], [a.shape])[0]


def triangular_solve(
    matrix: tf.Tensor, rhs: tf.Tensor, lower: bool = True, adjoint: bool = False
) -> tf.Tensor:
    """Solve triangular systems of float64 and static shapes, as ``factorizations`` does."""
    leading = tf.broadcast_static_shape(matrix.shape[:-2], rhs.shape[:-2])
    matrix = tf.broadcast_to(matrix, leading + matrix.shape[-2:])
    rhs = tf.broadcast_to(rhs, leading + rhs.shape[-2:])
    numbers = [leading.num_elements(), *rhs.shape[-2:], int(lower), int(adjoint)]
    return _call("triangular_solve", [matrix, rhs], numbers, [rhs.shape])[0]


def eigenvalues(a: tf.Tensor) -> List[tf.Tensor]:
    """Return the eigenvalues and eigenvectors of symmetric matrices, as ``tf.linalg.eigh`` does.

    Parameters
    ----------
    a : tf.Tensor of float64, shape (..., n, n)
        Of static shape. Only the lower triangle is read.
    """
    batch, n = a.shape[:-2].num_elements(), a.shape[-1]
    return _call("eigenvalues", [a], [batch, n], [a.shape[:-1], a.shape])


def product(
    x: tf.Tensor, y: tf.Tensor, transpose_x: bool = False, transpose_y: bool = False
) -> tf.Tensor:
    """Return the product of matrices of float64, of static shapes with the same leading part."""
    n, inner = x.shape[-2:][::-1] if transpose_x else x.shape[-2:]
    m = y.shape[-2 if transpose_y else -1]
    leading = x.shape[:-2]
    numbers = [leading.num_elements(), n, inner, m, int(transpose_x), int(transpose_y)]
    return _call("product", [x, y], numbers, [leading + [n, m]])[0]


def _call(
    name: str, operands: Sequence[tf.Tensor], numbers: Sequence[Any], shapes: Sequence[Any]
) -> List[tf.Tensor]:
    outputs = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
    return call_host(f"pymc3_tf.{name}", operands, " ".join(map(str, numbers)), outputs)


def routine(op: tf.Operation) -> Optional[Callable[..., Any]]:
    """Return what computes an op on the host, of the same inputs.

    Parameters
    ----------
    op : tf.Operation

    Returns
    -------
    callable or None
        None if XLA does it as well, or if there is no library.
    """
    if not all(x.shape.is_fully_defined() for x in op.inputs):
        return None
    if op.inputs[0].dtype != tf.float64:
        return None
    found = _routine(op)
    source = "eigenvalues" if op.type == "SelfAdjointEigV2" else "routines"
    return found if found and build.library(source) else None


def _routine(op: tf.Operation) -> Optional[Callable[..., Any]]:
    shapes = [x.shape for x in op.inputs]
    if op.type in PRODUCTS:
        if (
            min(shapes[0][-2:] + shapes[1][-2:]) < _SMALLEST_PRODUCT
            or shapes[0][:-2] != shapes[1][:-2]
        ):
            return None
        transposed = [op.get_attr(name) for name in PRODUCTS[op.type]]
        return lambda x, y: product(x, y, *transposed)
    if shapes[0][-1] < _SMALLEST_MATRIX:
        return None
    if op.type == "MatrixTriangularSolve":
        lower, adjoint = op.get_attr("lower"), op.get_attr("adjoint")
        return lambda matrix, rhs: triangular_solve(matrix, rhs, lower, adjoint)
    if op.type == "SelfAdjointEigV2":
        return (
            eigenvalues
            if op.get_attr("compute_v")
            else lambda a: [eigenvalues(a)[0], tf.zeros([0], a.dtype)]
        )
    return cholesky if op.type == "Cholesky" else None
