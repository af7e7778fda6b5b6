"""The compiled sampler and its chains, against exact distributions and definitions."""

import sys
import time

import arviz as az
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from pymc3_tf.exceptions import StartError
from pymc3_tf.nuts import runners
from pymc3_tf.nuts.sampler import CompiledSampler, Control, State, tensorflow_probability
from pymc3_tf.sampling import chains
from pymc3_tf.sampling.chains import run_chains

SIZE = 4
SCALES = np.array([0.1, 1.0, 3.0, 50.0])


def correlated(seed=0):
    """Mean and covariance of a normal distribution with scales that differ by factors of 500."""
    random = np.random.RandomState(seed)
    root = np.eye(SIZE) + 0.4 * random.randn(SIZE, SIZE)
    correlation = root @ root.T
    correlation /= np.sqrt(np.outer(np.diag(correlation), np.diag(correlation)))
    return SCALES * random.randn(SIZE), correlation * np.outer(SCALES, SCALES)


MEAN, COVARIANCE = correlated()
DATA = [MEAN, np.linalg.inv(COVARIANCE)]
SPECS = [tf.TensorSpec([SIZE], tf.float64), tf.TensorSpec([SIZE, SIZE], tf.float64)]


def normal(position, mean, precision):
    away = position - mean
    return -0.5 * tf.tensordot(away, tf.linalg.matvec(precision, away), 1)


@pytest.fixture(scope="module")
def program():
    return CompiledSampler(normal, SIZE, SPECS)


@pytest.fixture(scope="module")
def drawn(program):
    """10,000 draws of the correlated normal, and their warmup."""
    starts = np.random.RandomState(1).uniform(-1, 1, (2, SIZE))
    return run_chains(program, starts, 5000, 1000, data=DATA, random_seed=1, keep_warmup=True)


def assert_distribution(positions, mean, covariance):
    """Means and variances are within Monte Carlo error, marginals pass Kolmogorov and Smirnov."""
    for i, deviation in enumerate(np.sqrt(np.diag(covariance))):
        standard = (positions[..., i] - mean[i]) / deviation
        assert az.rhat(standard) < 1.01
        effective = float(az.ess(standard))
        assert effective > 500
        assert abs(standard.mean()) * np.sqrt(effective) < 3.5
        squares = standard**2
        assert abs(squares.mean() - 1) * np.sqrt(float(az.ess(squares)) / 2) < 3.5
        thin = standard[:, :: int(np.ceil(2 * standard.size / effective))].ravel()
        assert scipy.stats.kstest(thin, "norm").pvalue > 1e-3
    flat = positions.reshape(-1, positions.shape[-1])
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(flat.T) / scale, covariance / scale, atol=0.08)


# The exact distribution


def test_correlated_normal(drawn):
    assert drawn.draws.positions.shape == (2, 5000, SIZE)
    assert_distribution(drawn.draws.positions, MEAN, COVARIANCE)


def test_batch_of_chains():
    batch = CompiledSampler(normal, SIZE, SPECS, chains=4)
    starts = np.random.RandomState(2).uniform(-1, 1, (4, SIZE))
    result = run_chains(batch, starts, 2000, 1000, data=DATA, random_seed=2)
    assert result.factor.shape == (4, SIZE)
    assert_distribution(result.draws.positions, MEAN, COVARIANCE)


def test_dense_metric():
    dense = CompiledSampler(normal, SIZE, SPECS, metric="dense")
    starts = np.random.RandomState(3).uniform(-1, 1, (2, SIZE))
    result = run_chains(dense, starts, 2000, 1000, init="adapt_full", data=DATA, random_seed=3)
    assert_distribution(result.draws.positions, MEAN, COVARIANCE)
    learnt = result.factor @ np.swapaxes(result.factor, 1, 2)
    np.testing.assert_allclose(
        learnt / np.outer(SCALES, SCALES), [COVARIANCE / np.outer(SCALES, SCALES)] * 2, atol=0.3
    )
    # In this metric the distribution is round, so that trajectories are short.
    assert result.draws.stats["n_steps"].mean() < 5


def test_hierarchical_model():
    observed, noise = np.array([1.5, -0.3, 2.2, 0.4, 3.1]), 0.7

    def logp(position):
        mu, theta = position[0], position[1:]
        return -0.5 * (
            mu**2 / 4
            + tf.reduce_sum((theta - mu) ** 2)
            + tf.reduce_sum(((observed - theta) / noise) ** 2)
        )

    precision = np.diag([1 / 4 + 5] + [1 + noise**-2] * 5)
    precision[0, 1:] = precision[1:, 0] = -1
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.concatenate([[0], observed / noise**2])
    result = run_chains(CompiledSampler(logp, 6), np.zeros((2, 6)), 3000, 500, random_seed=6)
    assert_distribution(result.draws.positions, mean, covariance)


def test_new_data_moves_the_posterior(program):
    moved = [MEAN + 1000, DATA[1]]
    result = run_chains(program, np.zeros((2, SIZE)), 2000, 1000, data=moved, random_seed=5)
    assert_distribution(result.draws.positions, MEAN + 1000, COVARIANCE)


# Adaptation


def test_metric_learns_from_draws_and_gradients(drawn):
    # The variances: minus the covariance of an element with its gradient is one.
    expected = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose(drawn.factor, [expected] * 2, rtol=0.1)


@pytest.mark.parametrize("target", [0.7, 0.8, 0.95])
def test_step_size_reaches_the_target_acceptance(program, target):
    starts = np.tile(MEAN, (4, 1))
    result = run_chains(
        program,
        starts,
        1000,
        1000,
        data=DATA,
        target_accept=target,
        random_seed=6,
        keep_warmup=True,
    )
    last_window = result.warmup.stats["acceptance_rate"][:, 450:950].mean(axis=1)
    np.testing.assert_allclose(last_window, target, atol=0.03)
    # The step size that is settled for, an average of logarithms, is on the careful side.
    settled = result.draws.stats["acceptance_rate"].mean(axis=1)
    assert np.all(settled > target - 0.03)
    assert settled.mean() < target + 0.3 * (1 - target)


def test_step_size_is_adapted_in_the_warmup_only(drawn):
    assert np.all(np.ptp(drawn.draws.stats["step_size"], axis=1) == 0)
    # That of the draws is what the last stretch settles for, after the last block of the warmup.
    assert np.ptp(drawn.warmup.stats["step_size"]) > 0.1


@pytest.fixture(scope="module")
def windowed(program):
    """The warmup of Stan, and some draws."""
    starts = np.random.RandomState(1).uniform(-1, 1, (2, SIZE))
    return run_chains(
        program, starts, 2000, 1000, init="adapt_diag", data=DATA, random_seed=1, keep_warmup=True
    )


def test_windowed_adaptation(windowed):
    assert_distribution(windowed.draws.positions, MEAN, COVARIANCE)
    np.testing.assert_allclose(windowed.factor, [np.sqrt(np.diag(COVARIANCE))] * 2, rtol=0.25)
    assert np.all(np.ptp(windowed.draws.stats["step_size"], axis=1) == 0)
    # Dual averaging changes it with every draw.
    assert np.all(np.diff(windowed.warmup.stats["step_size"], axis=1)[:, :900] != 0)
    # Chains learn alone.
    assert np.all(windowed.factor[0] != windowed.factor[1])


def test_chains_learn_together(drawn):
    np.testing.assert_array_equal(drawn.factor[0], drawn.factor[1])
    step_size = drawn.draws.stats["step_size"]
    assert np.all(step_size == step_size[0, 0])


@pytest.mark.parametrize("tune", [0, 1, 7, 40])
def test_warmup_of_any_length(program, tune):
    result = run_chains(
        program, np.zeros((2, SIZE)), 5, tune, data=DATA, random_seed=1, keep_warmup=True
    )
    assert result.tune == tune
    assert result.warmup.positions.shape == (2, tune, SIZE)
    assert result.draws.positions.shape == (2, 5, SIZE)


def test_warmup_ends_when_it_has_settled(program):
    starts = np.random.RandomState(1).uniform(-1, 1, (4, SIZE))
    reports = []
    result = run_chains(
        program,
        starts,
        2500,
        "auto",
        data=DATA,
        random_seed=3,
        keep_warmup=True,
        callback=reports.append,
    )
    assert 50 < result.tune < 300
    assert result.warmup.positions.shape == (4, result.tune, SIZE)
    assert_distribution(result.draws.positions, MEAN, COVARIANCE)
    assert reports[-1].total == result.tune + 2500 == reports[-1].draws[0]


# Statistics


def test_lp_is_the_log_density(drawn):
    away = drawn.draws.positions - MEAN
    lp = -0.5 * np.einsum("cdi,ij,cdj->cd", away, DATA[1], away)
    np.testing.assert_allclose(drawn.draws.stats["lp"], lp, rtol=1e-9)


def test_energy_is_potential_plus_kinetic_energy(drawn):
    stats = drawn.draws.stats
    kinetic = stats["energy"] + stats["lp"]
    assert np.all(kinetic > 0)
    # Half a chi-squared variable with as many degrees of freedom as there are momenta.
    thin = kinetic[:, ::5].ravel()
    assert scipy.stats.kstest(thin, scipy.stats.gamma(SIZE / 2).cdf).pvalue > 1e-3


def test_depth_and_number_of_steps(drawn):
    for stats in (drawn.draws.stats, drawn.warmup.stats):
        assert np.all(stats["n_steps"] <= 2 ** stats["tree_depth"] - 1)
        assert np.all(stats["n_steps"] > 2 ** (stats["tree_depth"] - 1) - 1)
        assert stats["n_steps"].min() >= 1


def test_one_step_against_the_leapfrog_formula():
    # Of a trajectory of one step both ends are known, and so is everything about it.
    short = CompiledSampler(lambda x: -0.5 * tf.reduce_sum(x**2), 1, max_treedepth=1)
    result = run_chains(short, [[0.3]], 2000, 0, random_seed=7)
    stats = {name: values[0] for name, values in result.draws.stats.items()}
    after = result.draws.positions[0, :, 0]
    before = np.concatenate([[0.3], after[:-1]])
    step = stats["step_size"]
    np.testing.assert_array_equal(step, 0.25)
    assert np.all(stats["n_steps"] == 1) and np.all(stats["tree_depth"] == 1)
    moved = after != before
    assert 0.9 < moved.mean() <= 1
    momentum = (after - before) / step + step / 2 * before
    momentum_after = momentum - step / 2 * (before + after)
    energy = 0.5 * (after**2 + momentum_after**2)
    acceptance = np.minimum(1, np.exp(0.5 * (before**2 + momentum**2) - energy))
    np.testing.assert_allclose(stats["energy"][moved], energy[moved])
    np.testing.assert_allclose(stats["acceptance_rate"][moved], acceptance[moved])


def test_gradients_are_those_at_the_draws(program):
    state = State(MEAN, *program.evaluate(MEAN, DATA), np.array([1.0, 0, 0, 0]))
    seed = np.array([1, 2], np.int32)
    control = Control(first=0, number=30, leapfrogs=2**30, step=0, adaptation=0, depth=10)
    block = program.draw(state, SCALES, 0.8, seed, control, DATA)
    expected = -(block.draws[:, :SIZE] - MEAN) @ DATA[1]
    np.testing.assert_allclose(block.gradients * SCALES, expected * SCALES, atol=1e-9)
    np.testing.assert_array_equal(block.gradients[-1], block.state.gradient)


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_of_a_call(program, depth):
    state = State(MEAN, *program.evaluate(MEAN, DATA), np.array([1e-6, 0, 0, 0]))
    control = Control(first=0, number=3, leapfrogs=2**30, step=0, adaptation=0, depth=depth)
    draws, *_ = program.draw(state, np.ones(SIZE), 0.8, np.array([1, 2], np.int32), control, DATA)
    assert np.all(draws[:, SIZE + 4] == 2**depth - 1)


def test_divergence_ends_the_trajectory(program):
    narrow = [np.zeros(SIZE), 1e8 * np.eye(SIZE)]
    result = run_chains(program, np.full((1, SIZE), 1e-4), 50, 0, data=narrow, random_seed=8)
    stats = result.draws.stats
    assert stats["diverging"].all()
    assert np.all(stats["n_steps"] == 1) and np.all(stats["tree_depth"] == 1)
    assert np.all(stats["acceptance_rate"] == 0)
    assert np.all(result.draws.positions == 1e-4)


def test_no_divergence_in_a_normal(drawn):
    assert not drawn.draws.stats["diverging"].any()


def test_trajectory_stops_at_the_maximum_depth(program):
    state = State(MEAN, *program.evaluate(MEAN, DATA), np.array([1e-6, 0, 0, 0]))
    control = Control(first=0, number=3, leapfrogs=2**30, step=0, adaptation=0, depth=10)
    draws, *_ = program.draw(state, np.ones(SIZE), 0.8, np.array([1, 2], np.int32), control, DATA)
    assert np.all(draws[:, SIZE + 4] == 2**10 - 1)


# Reproducibility


@pytest.fixture
def short(program):
    """Function that draws a little, from always the same starts."""
    starts = np.random.RandomState(9).uniform(-1, 1, (3, SIZE))
    return lambda seed, **kwargs: run_chains(
        program, starts, 200, 200, data=DATA, random_seed=seed, **kwargs
    )


def assert_same(one, other):
    np.testing.assert_array_equal(one.draws.positions, other.draws.positions)
    for name, values in one.draws.stats.items():
        np.testing.assert_array_equal(values, other.draws.stats[name])


def test_same_seed_same_draws_in_any_number_of_threads(short):
    assert_same(short(1, cores=1), short(1, cores=3))


def test_same_draws_in_blocks_of_any_size(short, program, monkeypatch):
    whole = short(1)
    monkeypatch.setattr(program, "rows", 7)
    assert_same(whole, short(1))
    monkeypatch.setattr(runners, "TURN", 1e-5)
    assert_same(whole, short(1))


def test_seeds_of_chains(short):
    positions = short([3, 3, 4]).draws.positions
    assert not np.array_equal(positions[1], positions[2])
    np.testing.assert_array_equal(short([3, 3, 4]).draws.positions, positions)
    assert len({tuple(seed) for seed in chains.chain_seeds(1, 100)}) == 100
    assert not np.array_equal(short(1).draws.positions, short(2).draws.positions)
    assert not np.array_equal(short(None).draws.positions, short(None).draws.positions)


def test_as_many_seeds_as_chains(short):
    with pytest.raises(ValueError, match="random_seed: 2 seeds for 3 chains"):
        short([1, 2])


# One compilation


def squares_in_a_loop(position):
    _, squares = tf.while_loop(
        lambda i, _: i < 4,
        lambda i, total: (i + 1, total + position[i] ** 2),
        (0, tf.zeros([], tf.float64)),
        maximum_iterations=4,
    )
    return squares


@pytest.mark.parametrize("batch", [0, 2])
def test_metric_and_data_do_not_compile_again(batch):
    # Between a nested function and its gradient pass permutations, which XLA wants to know.
    @tf.function(autograph=False)
    def nested(position, data):
        square = tf.transpose(tf.reshape(position, [2, 2]))
        joined = tf.concat([square, square @ square], axis=0)
        squares = tf.reduce_sum(position**2) if batch else squares_in_a_loop(position)
        return -squares - tf.reduce_sum((joined - data) ** 2)

    program = CompiledSampler(nested, 4, [tf.TensorSpec([2], tf.float64)], chains=batch)
    ones = np.ones([*program.batch, 4])
    lp, gradient = program.evaluate(ones, [tf.zeros(2, tf.float64)])
    # The squares of ones, of the matrix of ones, and of its square, which is a matrix of twos.
    np.testing.assert_allclose(lp, np.full(program.batch, -(4 + 4 + 16)))
    np.testing.assert_allclose(gradient, -2 * ones - 2 * ones - 16 * ones)

    def seconds(random):
        position, factor = random.uniform(1, 2, (2, *program.batch, 4))
        data = [tf.constant(random.randn(2))]
        begin = time.perf_counter()
        lp, gradient = program.evaluate(position, data)
        averaging = np.broadcast_to([0.1, 0, 0, 0], ones.shape)
        state = State(position, lp, gradient, averaging)
        seed = random.randint(0, 99, 2).astype(np.int32)
        program.draw(state, factor, 0.8, seed, Control(*random.randint(1, 9, 6)), data)
        return time.perf_counter() - begin

    random = np.random.RandomState(0)
    first = seconds(random)
    # The fastest of several, as others use the machine too: to compile takes its time every time.
    assert min(seconds(random) for _ in range(5)) < first / 5


# Errors


def test_infinite_start():
    program = CompiledSampler(lambda x: tf.reduce_sum(tf.math.log(x)), 2)
    with pytest.raises(StartError, match="chain 1 cannot start: its log density is -inf"):
        run_chains(program, [[1, 1], [1, 0]], 1, 0)
    with pytest.raises(StartError, match="chain 0 cannot start: its log density is nan"):
        run_chains(program, [[1, -1], [1, 1]], 1, 0)


def test_infinite_gradient():
    program = CompiledSampler(lambda x: -tf.reduce_sum(tf.sqrt(x)), 3)
    with pytest.raises(StartError, match="gradient is not finite in element 0, 2 of the position"):
        run_chains(program, [[0, 1, 0]], 1, 0)


def test_init_that_does_not_fit(program):
    fitting = "init is 'adapt_full'. For this sampler, give 'adapt_diag_grad' or 'adapt_diag'."
    with pytest.raises(ValueError, match=fitting):
        run_chains(program, np.zeros((2, SIZE)), init="adapt_full")


def test_arguments_that_do_not_fit(program):
    with pytest.raises(ValueError, match=r"starts: shape \(2, 3\) does not fit.*4 elements"):
        run_chains(program, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="draws=0, tune=5: give at least one draw"):
        run_chains(program, np.zeros((2, SIZE)), 0, 5)


def test_missing_tensorflow_probability(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[tfp\]"'):
        tensorflow_probability()
