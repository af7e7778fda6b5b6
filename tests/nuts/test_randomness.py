"""Random numbers of the trajectories."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pymc3_tf.nuts import randomness
from pymc3_tf.nuts.sampler import CompiledSampler

# The first numbers of SplitMix64 with the seed 1234567, as its authors' program in C prints them.
SEED = 1234567
KNOWN = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
MANY = 100_000


def seeds(number=MANY):
    """Return a row of seeds that follow each other: the worst that can be given."""
    return tf.range(number, dtype=tf.int64)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_seeds_are_the_numbers_of_splitmix64(jit_compile):
    split = tf.function(lambda s: tf.stack(randomness.split_seed(s, 4)), jit_compile=jit_compile)
    found = split(tf.constant(SEED, tf.int64)).numpy().view(np.uint64)
    assert found.tolist() == KNOWN


def test_words_are_the_two_halves_of_a_seed():
    words = np.array([-5, 7], np.int32)
    assert randomness.seed_of(tf.constant(words)).numpy() == words.view(np.int64)[0]


def test_no_seed_comes_twice():
    grandchildren = [
        s for child in randomness.split_seed(seeds()) for s in randomness.split_seed(child)
    ]
    assert len(np.unique([*grandchildren, seeds()])) == 5 * MANY


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_uniform_numbers_of_many_seeds_and_of_one(dtype):
    of_many = randomness.uniform([], seeds(), dtype=dtype).numpy()
    of_one = randomness.uniform([MANY // 2, 2], tf.constant(3, tf.int64), dtype=dtype).numpy()
    assert of_one.shape == (MANY // 2, 2)
    for found in (of_many, of_one.ravel()):
        assert found.dtype == dtype.as_numpy_dtype
        assert stats.kstest(found.astype(float), "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / np.sqrt(MANY)


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_one_is_never_reached(monkeypatch, dtype):
    monkeypatch.setattr(randomness, "fold_in", lambda *args: tf.constant(-1, tf.int64))
    found = randomness.uniform([], tf.constant(0, tf.int64), dtype=dtype).numpy()
    assert 1 - 1e-7 < found < 1


def test_coins_are_fair():
    found = randomness.uniform([], seeds(), 0, 2, tf.int32).numpy()
    assert set(found) == {0, 1}
    fewest, most = stats.binom(MANY, 0.5).interval(0.999)
    assert fewest <= found.sum() <= most


def test_normal_numbers_of_many_seeds_and_of_one():
    of_many = tf.map_fn(
        lambda s: randomness.normal([2], s), seeds(2000), fn_output_signature=tf.float64
    )
    of_one = randomness.normal([MANY], tf.constant(3, tf.int64))
    for found in (of_many.numpy().ravel(), of_one.numpy()):
        assert stats.kstest(found, "norm").pvalue > 1e-3


def test_one_number_of_a_seed_does_not_tell_another():
    used = [*randomness.split_seed(seeds()), seeds()]
    found = np.stack([randomness.uniform([], seed) for seed in used])
    correlations = np.corrcoef(found)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(MANY)


def test_a_program_has_one_generator_of_tensorflow():
    sampler = CompiledSampler(lambda x: -0.5 * tf.reduce_sum(x**2), 2, jit_compile=False)
    graph = sampler.draw_function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    # Others make programs that take twice as long to compile.
    found = {n.op for n in nodes if "Random" in n.op}
    assert found == {"StatelessRandomNormalV2"}
