"""PyMC3's own ops: scalars, matrices, and SciPy's splines."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from pymc3.distributions.dist_math import I0e, I1e, SplineWrapper
from pymc3.distributions.multivariate import PosDefMatrix
from pymc3.math import BatchedDiag, BlockDiagonalMatrix, LogDet
from pymc3.theanof import IdentityOp
from scipy.interpolate import PPoly
from theano.graph.basic import Apply
from theano.graph.op import Op

from pymc3_tf.linker.dispatch import Translation, Value, cast, shape_of, tf_funcify
from pymc3_tf.linker.linalg import cholesky_or_nan
from pymc3_tf.linker.scalar import register_scalar

register_scalar(IdentityOp, tf.identity)
register_scalar(I0e, tf.math.bessel_i0e, safe=False)
register_scalar(I1e, tf.math.bessel_i1e, safe=False)


@tf.custom_gradient
def _log_det(x: Value) -> Value:
    """Logarithm of the absolute determinant, by QR."""
    diagonal = tf.linalg.diag_part(tf.linalg.qr(x)[1])
    value = tf.reduce_sum(tf.math.log(tf.abs(diagonal)))
    return value, lambda upstream: upstream * tf.transpose(tf.linalg.inv(x))


@tf_funcify.register(LogDet)
def _log_det_op(op: Op, node: Apply) -> Translation:
    return _log_det


@tf_funcify.register(PosDefMatrix)
def _pos_def(op: Op, node: Apply) -> Translation:
    def pos_def(x: Value) -> Value:
        return tf.cast(tf.reduce_all(tf.math.is_finite(cholesky_or_nan(x))), tf.int8)

    return pos_def


@tf_funcify.register(BatchedDiag)
def _batched_diag(op: Op, node: Apply) -> Translation:
    return tf.linalg.diag


@tf_funcify.register(BlockDiagonalMatrix)
def _block_diagonal(op: Op, node: Apply) -> Translation:
    if op.sparse:
        raise NotImplementedError(f"{op} is translated to TensorFlow for sparse=False only")
    dtype = node.outputs[0].dtype

    def block_diagonal(*blocks: Value) -> Value:
        columns = [shape_of(block)[1] for block in blocks]
        starts = np.cumsum([0, *columns])
        padded = [
            tf.pad(cast(block, dtype), [[0, 0], [start, starts[-1] - start - n]])
            for block, start, n in zip(blocks, starts, columns)
        ]
        return tf.concat(padded, 0)

    return block_diagonal


@tf_funcify.register(SplineWrapper)
def _spline(op: Op, node: Apply) -> Translation:
    spline = op.spline
    knots, coefficients, order = spline._eval_args
    inner = knots[order : len(knots) - order]
    pieces = PPoly.from_spline((knots, coefficients, order))
    # Between distinct knots only: the others are there for the boundary conditions.
    starts = np.searchsorted(pieces.x, inner[:-1], side="right") - 1
    polynomials = pieces.c[:, starts]
    mode = {0: "extrapolate", 1: "zeros", 2: "raise", 3: "const"}.get(spline.ext, spline.ext)
    if mode == "raise":
        raise NotImplementedError(
            "a spline that raises outside of its interval cannot be translated to TensorFlow. Make "
            "it with ext='extrapolate', 'zeros' or 'const'."
        )

    def spline_of(x: Value) -> Value:
        x = tf.convert_to_tensor(x)
        at = tf.clip_by_value(x, inner[0], inner[-1]) if mode == "const" else x
        flat = tf.reshape(at, [-1])
        piece = tf.searchsorted(tf.constant(inner[1:-1], x.dtype), flat, side="right")
        offset = flat - tf.gather(tf.constant(inner[:-1], x.dtype), piece)
        value = tf.zeros_like(flat)
        for row in polynomials:
            value = value * offset + tf.gather(tf.constant(row, x.dtype), piece)
        value = tf.reshape(value, tf.shape(x))
        if mode == "zeros":
            inside = tf.logical_and(x >= inner[0], x <= inner[-1])
            value = tf.where(inside, value, tf.zeros([], x.dtype))
        return value

    return spline_of
