"""Products, factorizations and solutions of linear systems."""

from __future__ import annotations

from typing import List

import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.tensor import basic, blas, nlinalg, slinalg

from pymc3_tf.linker.dispatch import Translation, Value, cast, shape_of, tf_funcify


def _dot(x: Value, y: Value) -> Value:
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    if x.shape.rank == 0 or y.shape.rank == 0:
        return x * y
    return tf.tensordot(x, y, axes=1)


@tf_funcify.register(basic.Dot)
@tf_funcify.register(blas.Dot22)
def _(op: Op, node: Apply) -> Translation:
    dtype = node.outputs[0].dtype
    return lambda x, y: _dot(cast(x, dtype), cast(y, dtype))


@tf_funcify.register(blas.Dot22Scalar)
def _dot_scalar(op: Op, node: Apply) -> Translation:
    return lambda x, y, factor: factor * _dot(x, y)


@tf_funcify.register(blas.Gemm)
@tf_funcify.register(blas.Gemv)
def _gemm(op: Op, node: Apply) -> Translation:
    return lambda z, a, x, y, b: b * z + a * _dot(x, y)


@tf_funcify.register(blas.Ger)
def _ger(op: Op, node: Apply) -> Translation:
    return lambda z, a, x, y: z + a * x[:, None] * y[None, :]


@tf_funcify.register(blas.BatchedDot)
def _batched_dot(op: Op, node: Apply) -> Translation:
    left, right = (x.ndim for x in node.inputs)
    first, second = ("nij" if left == 3 else "nj"), ("njk" if right == 3 else "nj")
    equation = f"{first},{second}->n{first[1:-1]}{second[2:]}"
    return lambda x, y: tf.einsum(equation, x, y)


# Of a matrix that has none, XLA's factor or inverse is NaN; TensorFlow's own op is an error.
cholesky_or_nan = tf.function(tf.linalg.cholesky, jit_compile=True, autograph=False)


@tf_funcify.register(slinalg.Cholesky)
def _cholesky(op: Op, node: Apply) -> Translation:
    factor = cholesky_or_nan if op.on_error == "nan" else tf.linalg.cholesky
    if op.lower:
        return factor
    return lambda x: tf.transpose(factor(tf.transpose(x)))


@tf_funcify.register(slinalg.Solve)
def _solve(op: Op, node: Apply) -> Translation:
    dtype = node.outputs[0].dtype

    def system(a: Value, b: Value) -> Value:
        if op.A_structure == "lower_triangular":
            return tf.linalg.triangular_solve(a, b, lower=True)
        if op.A_structure == "upper_triangular":
            return tf.linalg.triangular_solve(a, b, lower=False)
        return tf.linalg.solve(a, b)

    def solve(a: Value, b: Value) -> Value:
        a, b = cast(a, dtype), cast(b, dtype)
        if node.inputs[1].ndim == 1:
            return system(a, b[:, None])[:, 0]
        return system(a, b)

    return solve


@tf_funcify.register(nlinalg.MatrixInverse)
def _inverse(op: Op, node: Apply) -> Translation:
    return tf.linalg.inv


@tf_funcify.register(nlinalg.MatrixPinv)
def _pinv(op: Op, node: Apply) -> Translation:
    return tf.linalg.pinv


@tf.custom_gradient
def _det(x: Value) -> Value:
    """Eliminate with pivoting: XLA has no determinant of its own."""
    x = tf.convert_to_tensor(x)
    n = shape_of(x)[0]
    rows = tf.range(n)

    def step(k: Value, m: Value, value: Value) -> List[Value]:
        column = tf.gather(m, k, axis=1)
        p = tf.argmax(tf.where(rows >= k, tf.abs(column), -1.0), output_type=tf.int32)
        swapped = tf.where(tf.equal(rows, k), p, tf.where(tf.equal(rows, p), k, rows))
        m = tf.gather(m, swapped)
        pivot_row = tf.gather(m, k)
        pivot = tf.gather(pivot_row, k)
        safe = tf.where(tf.equal(pivot, 0), tf.ones_like(pivot), pivot)
        factors = tf.where(rows > k, tf.gather(m, k, axis=1) / safe, tf.zeros([], x.dtype))
        sign = tf.where(tf.equal(p, k), tf.ones([], x.dtype), -tf.ones([], x.dtype))
        return [k + 1, m - factors[:, None] * pivot_row, sign * value * pivot]

    start = [tf.constant(0), x, tf.ones([], x.dtype)]
    value = tf.while_loop(lambda k, m, v: k < n, step, start, maximum_iterations=n)[2]
    return value, lambda upstream: upstream * value * tf.transpose(tf.linalg.inv(x))


@tf_funcify.register(nlinalg.Det)
def _det_op(op: Op, node: Apply) -> Translation:
    return _det


@tf_funcify.register(nlinalg.Eigh)
def _eigh(op: Op, node: Apply) -> Translation:
    def eigh(x: Value) -> Value:
        # TensorFlow reads the lower triangle.
        return list(tf.linalg.eigh(x if op.UPLO == "L" else tf.transpose(x)))

    return eigh


@tf_funcify.register(nlinalg.QRFull)
def _qr(op: Op, node: Apply) -> Translation:
    return lambda x: list(tf.linalg.qr(x, full_matrices=op.mode == "complete"))


@tf_funcify.register(nlinalg.QRIncomplete)
def _qr_incomplete(op: Op, node: Apply) -> Translation:
    return lambda x: tf.linalg.qr(x)[1]


@tf_funcify.register(nlinalg.SVD)
def _svd(op: Op, node: Apply) -> Translation:
    def svd(x: Value) -> Value:
        if not op.compute_uv:
            return tf.linalg.svd(x, compute_uv=False)
        s, u, v = tf.linalg.svd(x, full_matrices=bool(op.full_matrices))
        return [u, s, tf.transpose(v)]

    return svd


@tf_funcify.register(slinalg.Expm)
def _expm(op: Op, node: Apply) -> Translation:
    return tf.linalg.expm
