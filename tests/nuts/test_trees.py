"""Instructions of deep trees are those of TensorFlow Probability."""

import numpy as np
import pytest
import tensorflow_probability as tfp

from pymc3_tf.nuts import trees


@pytest.mark.parametrize("depth", range(1, 11))
def test_steps_are_compared_as_by_tensorflow_probability(depth):
    theirs = tfp.experimental.mcmc.PreconditionedNoUTurnSampler(
        lambda x: -(x**2), 1.0, max_tree_depth=depth
    )
    write, read = trees.instructions(depth)
    np.testing.assert_array_equal(read, np.asarray(theirs._read_instruction))
    expected = np.asarray(theirs._write_instruction)
    used = np.arange(2**depth) % 2 == 0  # the others are written where nothing is read
    np.testing.assert_array_equal(write[used], expected[used])
    assert write.max() <= depth and expected.max() <= depth


def test_deepest_trees_take_little_memory():
    assert sum(array.nbytes for array in trees.instructions(trees.DEEPEST)) < 50e6
