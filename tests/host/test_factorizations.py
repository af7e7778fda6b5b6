"""Cholesky factors and triangular systems in panels, and how graphs get them."""

import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.host import factorizations
from pymc3_tf.nuts.sampler import CompiledSampler

SIZES = [1, 7, 8, 30]


def positive_definite(*shape):
    random = np.random.RandomState(shape[-1])
    factor = random.randn(*shape, shape[-1])
    return factor @ np.swapaxes(factor, -1, -2) + np.eye(shape[-1])


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("size", SIZES)
def test_cholesky_of_the_lower_triangle(size, batch, jit_compile):
    matrix = positive_definite(*batch, size)
    function = compiled(factorizations.cholesky) if jit_compile else factorizations.cholesky
    found = function(tf.constant(np.tril(matrix)))
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), rtol=1e-12, atol=1e-13)


def test_cholesky_in_single_precision():
    matrix = positive_definite(30)
    found = factorizations.cholesky(tf.constant(matrix, tf.float32))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
def test_cholesky_of_what_is_not_positive_definite_is_no_number(bad):
    matrices = np.stack([positive_definite(30)] * 2)
    matrices[1, 12, 12] = bad
    good, none = factorizations.cholesky(tf.constant(matrices)).numpy()
    np.testing.assert_allclose(good, np.linalg.cholesky(matrices[0]), rtol=1e-12, atol=1e-13)
    assert not np.isfinite(none[12:, 12:][np.tril_indices(18)]).any()


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("shape", [(n,) for n in SIZES] + [(2, 2, 30)])
def test_triangular_solve_of_the_triangle(shape, lower, adjoint, jit_compile):
    triangle = np.linalg.cholesky(positive_definite(*shape))
    ignored = np.triu(np.full(shape + shape[-1:], np.nan), 1)
    matrix = np.where(np.isnan(ignored), ignored, triangle)
    if not lower:
        triangle, matrix = (np.swapaxes(x, -1, -2) for x in (triangle, matrix))
    rhs = np.random.RandomState(0).randn(*shape, 3)

    def function(matrix, rhs):
        return factorizations.triangular_solve(matrix, rhs, lower, adjoint)

    found = (compiled(function) if jit_compile else function)(tf.constant(matrix), tf.constant(rhs))
    alone = function(tf.constant(matrix), tf.constant(rhs[(0,) * (len(shape) - 1)]))
    np.testing.assert_allclose(alone[(0,) * (len(shape) - 1)], found[(0,) * (len(shape) - 1)])
    system = np.swapaxes(triangle, -1, -2) if adjoint else triangle
    np.testing.assert_allclose(found, np.linalg.solve(system, rhs), rtol=1e-11, atol=1e-12)


def ops(graph_def):
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    return [node.op for node in nodes]


@pytest.mark.parametrize("batch", [0, 2])
def test_density_with_a_covariance_has_value_and_gradient_of_tensorflow(batch):
    points = np.linspace(0, 1, 40)
    distances = tf.constant(np.subtract.outer(points, points) ** 2)
    data = tf.constant(np.sin(5 * points))

    def logp(position):
        covariance = tf.exp(position[0] - distances * tf.exp(position[1])) + 0.1 * tf.eye(
            40, dtype=tf.float64
        )
        factor = tf.linalg.cholesky(covariance)
        white = tf.linalg.triangular_solve(factor, data[:, None])
        solved = tf.linalg.triangular_solve(factor, white, adjoint=True)[:, 0]
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
        return -0.5 * tf.tensordot(data, solved, 1) - log_det

    program = CompiledSampler(logp, 2, chains=batch)
    ours = ops(program.evaluate_function.graph.as_graph_def())
    assert not {"Cholesky", "MatrixTriangularSolve"} & set(ours)
    assert "StatelessWhile" in ours
    positions = tf.constant([[0.3, 1.0], [-0.4, 2.0]], tf.float64)
    expected, slopes = [], []
    for position in positions:
        with tf.GradientTape() as tape:
            tape.watch(position)
            expected.append(logp(position))
        slopes.append(tape.gradient(expected[-1], position))
    if batch:
        lp, gradient = program.evaluate(positions.numpy(), [])
    else:
        lp, gradient = zip(*[program.evaluate(x.numpy(), []) for x in positions])
    np.testing.assert_allclose(lp, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-10)


@pytest.mark.parametrize("size", [15, 16, 257])
def test_substitutes_only_where_they_pay(size):
    with tf.Graph().as_default() as graph:
        matrix = tf.compat.v1.placeholder(tf.float64, [size, size])
        tf.linalg.triangular_solve(tf.linalg.cholesky(matrix), matrix)
    graph_def = graph.as_graph_def()
    factorizations.replace_ops(graph_def)
    found = ops(graph_def)
    assert ("Cholesky" in found) == (size < 16)
    assert ("MatrixTriangularSolve" in found) == (size != 16)
    assert sum("Call" in node.op for node in graph_def.node) == {15: 0, 16: 2, 257: 1}[size]
