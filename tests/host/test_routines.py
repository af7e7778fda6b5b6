"""Linear algebra on the host: against NumPy and TensorFlow, inside of programs of XLA."""

import concurrent.futures
import resource

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from pymc3_tf.host import build, factorizations, routines
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.programs.serialized import every_node
from pymc3_tf.sampling import chains

SHAPES = [(1,), (7,), (30,), (2, 3, 20)]


def positive_definite(*shape):
    random = np.random.RandomState(shape[-1])
    factor = random.randn(*shape, shape[-1])
    return factor @ np.swapaxes(factor, -1, -2) + np.eye(shape[-1])


@pytest.fixture(autouse=True, scope="module")
def libraries():
    """Without the routines, programs that call them cannot be compiled."""
    assert build.library("routines") and build.library("eigenvalues")


def compiled(function, *arrays):
    call = tf.function(function, jit_compile=True, autograph=False)
    return tf.nest.map_structure(lambda y: y.numpy(), call(*map(tf.constant, arrays)))


def turned(x):
    return np.swapaxes(x, -1, -2)


@pytest.mark.parametrize("shape", SHAPES)
def test_cholesky_of_the_lower_triangle(shape):
    matrix = positive_definite(*shape)
    expected = np.linalg.cholesky(matrix)
    found = compiled(routines.cholesky, np.tril(matrix))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    # XLA would rather hand over a transposed matrix as it lies in memory.
    found = compiled(lambda a: routines.cholesky(tf.linalg.matrix_transpose(a)), np.triu(matrix))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
def test_what_is_not_positive_definite_is_no_number(bad):
    matrices = np.stack([positive_definite(30)] * 2)
    matrices[1, 12, 12] = bad
    good, none = compiled(routines.cholesky, matrices)
    np.testing.assert_allclose(good, np.linalg.cholesky(matrices[0]), rtol=1e-12, atol=1e-13)
    assert np.isnan(none[12:, 12:][np.tril_indices(18)]).all()


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_triangular_solve_of_the_triangle(shape, lower, adjoint):
    triangle = np.linalg.cholesky(positive_definite(*shape))
    ignored = np.triu(np.full(shape + shape[-1:], np.nan), 1)
    matrix = np.where(np.isnan(ignored), ignored, triangle)
    if not lower:
        triangle, matrix = turned(triangle), turned(matrix)
    system = turned(triangle) if adjoint else triangle
    for columns in (1, 3):
        rhs = np.random.RandomState(0).randn(*shape, columns)
        found = compiled(lambda a, b: routines.triangular_solve(a, b, lower, adjoint), matrix, rhs)
        np.testing.assert_allclose(found, np.linalg.solve(system, rhs), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_eigenvalues_of_the_lower_triangle(shape):
    matrix = positive_definite(*shape)
    values, vectors = compiled(routines.eigenvalues, np.tril(matrix))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-10)
    again = (vectors * values[..., None, :]) @ turned(vectors)
    np.testing.assert_allclose(again, matrix, rtol=1e-10, atol=1e-11)
    matrix[..., 0, 0] = np.nan
    assert np.isnan(compiled(routines.eigenvalues, matrix)[0]).all()


@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_products(batch, transposed):
    random = np.random.RandomState(0)
    left, right = random.randn(*batch, 5, 6), random.randn(*batch, 6, 7)
    given = [turned(x).copy() if t else x for x, t in zip((left, right), transposed)]
    found = compiled(lambda x, y: routines.product(x, y, *transposed), *given)
    np.testing.assert_allclose(found, left @ right, rtol=1e-12, atol=1e-14)


def ops(graph_def):
    return {node.op for node in every_node(graph_def)}


@pytest.mark.parametrize("size", [7, 8, 40])
def test_graphs_get_them_where_they_pay(size):
    with tf.Graph().as_default() as graph:
        matrix = tf.compat.v1.placeholder(tf.float64, [size, size])
        factor = tf.linalg.cholesky(matrix)
        tf.matmul(tf.linalg.triangular_solve(factor, matrix), tf.linalg.eigh(matrix)[1])
        tf.linalg.cholesky(tf.cast(matrix, tf.float32))
    graph_def = graph.as_graph_def()
    factorizations.replace_ops(graph_def, host=True)
    names = {"Cholesky", "MatrixTriangularSolve", "SelfAdjointEigV2", "MatMul"}
    # Of float32, matrices are factorized in panels or by XLA.
    left = {7: names, 8: {"Cholesky", "MatMul"}, 40: set()}[size]
    assert names & {node.op for node in graph_def.node} == left
    assert ("XlaCustomCallV2" in ops(graph_def)) == (size > 7)
    assert sum("Call" in node.op for node in graph_def.node) == {7: 0, 8: 3, 40: 5}[size]


N = 40
POINTS = np.linspace(0, 1, N)
DATA = np.sin(5 * POINTS)


def process(position):
    """Return the log density of a latent Gaussian process, with a prior of its eigenvalues."""
    distances = tf.constant(np.subtract.outer(POINTS, POINTS) ** 2)
    unit = tf.eye(N, dtype=tf.float64)
    covariance = tf.exp(position[0] - distances * tf.exp(position[1])) + 0.1 * unit
    factor = tf.linalg.cholesky(covariance)
    white = tf.linalg.triangular_solve(factor, tf.constant(DATA)[:, None])
    log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
    largest = tf.linalg.eigvalsh(tf.matmul(covariance, covariance))[-1]
    prior = -0.5 * tf.reduce_sum(position**2) - 0.001 * largest
    return prior - 0.5 * tf.reduce_sum(white**2) - log_det


@pytest.fixture(scope="module")
def program():
    return CompiledSampler(process, 2)


def in_draws(program, position):
    call = tf.function(program.in_draws, jit_compile=True, autograph=False)
    value, gradient = call(tf.constant(position, tf.float64))
    return value.numpy(), gradient.numpy()


def test_density_has_the_value_and_gradient_of_tensorflow_and_of_differences(program):
    for position in ([0.3, 1.0], [-0.4, 2.0]):
        value, gradient = in_draws(program, position)
        x = tf.constant(position, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(x)
            expected = process(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, tape.gradient(expected, x), rtol=1e-11)
        for i, step in enumerate(1e-5 * np.eye(2)):
            slope = (in_draws(program, x + step)[0] - in_draws(program, x - step)[0]) / 2e-5
            np.testing.assert_allclose(gradient[i], slope, rtol=1e-6)


SYMMETRIC = positive_definite(40) / 100


def scan(position):
    """Return the log density of a model with factorizations in a loop, a branch and a function."""
    unit = tf.eye(40, dtype=tf.float64)

    @tf.function(autograph=False)
    def largest(matrix):
        # Both of the outputs are needed.
        values, vectors = tf.linalg.eigh(matrix)
        return values[-1] + 0.01 * tf.reduce_sum(vectors[:, -1] ** 4)

    def step(state, t):
        matrix, total = state
        covariance = tf.matmul(matrix, SYMMETRIC) * tf.exp(position[0]) + unit * t
        factor = tf.linalg.cholesky(covariance)
        white = tf.linalg.triangular_solve(factor, position[1] * unit[:, :1])
        total += tf.cond(
            t < 2.0, lambda: tf.linalg.cholesky(unit * tf.exp(position[1]))[3, 3], lambda: t
        )
        return (
            tf.linalg.matmul(factor, factor, transpose_b=True) * 0.1 + SYMMETRIC,
            total - tf.reduce_sum(white**2) - 0.1 * largest(covariance),
        )

    start = tf.constant(SYMMETRIC), tf.zeros([], tf.float64)
    total = tf.scan(step, tf.constant([1.0, 1.5, 2.0, 2.5], tf.float64), start)[1][-1]
    return total - 0.5 * tf.reduce_sum(position**2)


def kalman(position):
    """Return the log density of a linear system with a state of 25 numbers."""
    random = np.random.RandomState(1)
    transition = np.linalg.qr(random.randn(25, 25))[0] * 0.9
    observation, data = random.randn(10, 25) / 5, random.randn(8, 10)
    scales = [tf.exp(position[i]) * tf.ones(n, tf.float64) for i, n in ((0, 25), (1, 10), (0, 25))]
    noise = [tfp.distributions.MultivariateNormalDiag(scale_diag=scale) for scale in scales]
    model = tfp.distributions.LinearGaussianStateSpaceModel(
        num_timesteps=len(data),
        transition_matrix=tf.linalg.LinearOperatorFullMatrix(transition),
        transition_noise=noise[0],
        observation_matrix=tf.linalg.LinearOperatorFullMatrix(observation),
        observation_noise=noise[1],
        initial_state_prior=noise[2],
    )
    return model.log_prob(tf.constant(data)) - 0.5 * tf.reduce_sum(position**2)


@pytest.mark.parametrize("logp", [scan, kalman])
def test_loops_call_the_host_and_have_the_gradient_of_tensorflow(logp):
    program = CompiledSampler(logp, 2)
    assert not {"Cholesky", "MatrixTriangularSolve", "SelfAdjointEigV2"} & ops(
        program.draw_function.graph.as_graph_def()
    )
    for position in ([0.1, 0.3], [-0.2, -0.4]):
        value, gradient = in_draws(program, position)
        x = tf.constant(position, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(x)
            expected = logp(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, tape.gradient(expected, x), rtol=1e-12)
        # The program that checks where chains start is TensorFlow's own.
        np.testing.assert_allclose(program.evaluate(x, [])[1], gradient, rtol=1e-12)


def test_sampler_calls_the_host_and_the_check_of_starts_does_not(program):
    assert "XlaCustomCallV2" in ops(program.draw_function.graph.as_graph_def())
    assert "XlaCustomCallV2" not in ops(program.evaluate_function.graph.as_graph_def())


def test_without_xla_the_host_is_not_called():
    plain = CompiledSampler(process, 2, jit_compile=False)
    assert "XlaCustomCallV2" not in ops(plain.draw_function.graph.as_graph_def())
    assert np.isfinite(chains.run_chains(plain, np.zeros((1, 2)), 2, 0).draws.positions).all()


def test_chains_in_threads_draw_what_they_draw_one_after_the_other(program):
    starts = np.zeros((2, 2))
    one, two = (
        chains.run_chains(program, starts, 50, 50, random_seed=1, cores=cores) for cores in (1, 2)
    )
    np.testing.assert_array_equal(one.draws.positions, two.draws.positions)


def test_batch_of_chains_calls_the_host():
    batch = CompiledSampler(process, 2, chains=3)
    assert "XlaCustomCallV2" in ops(batch.draw_function.graph.as_graph_def())
    positions = [[0.3, 1.0], [-0.4, 2.0], [0.0, 0.0]]
    values, gradients = in_draws(batch, positions)
    expected = [batch.evaluate_each(np.array([x]), []) for x in positions]
    np.testing.assert_allclose(values, [e[0][0] for e in expected], rtol=1e-12)
    np.testing.assert_allclose(gradients, [e[1][0] for e in expected], rtol=1e-10)


def test_what_is_not_positive_definite_is_a_divergence():
    def logp(position):
        # Beyond one there is no factor.
        factor = tf.linalg.cholesky(tf.eye(20, dtype=tf.float64) * (1 - position[0]))
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
        return 0.001 * log_det - 0.5 * position[0] ** 2

    program = CompiledSampler(logp, 1)
    assert np.isnan(in_draws(program, [2.0])[0])
    result = chains.run_chains(program, np.array([[0.9]]), 200, 0, random_seed=1)
    assert result.draws.stats["diverging"].any()
    assert (result.draws.positions < 1).all()


def test_memory_stays_flat():
    matrix = positive_definite(30)

    @tf.function(jit_compile=True, autograph=False)
    def many(a):
        def body(i, total):
            factor = routines.cholesky(a + total * 1e-9)
            return i + 1, routines.eigenvalues(factor)[0][0]

        return tf.while_loop(lambda i, _: i < 10_000, body, (0, tf.zeros([], tf.float64)))[1]

    many(tf.constant(matrix))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: many(tf.constant(matrix)), range(10)))
    # In kB: a matrix that is lost on each call would take 700 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
