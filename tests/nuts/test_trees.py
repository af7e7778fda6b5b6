"""Trajectories end where they should; instructions are those of TensorFlow Probability."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from pymc3_tf.nuts import trees
from pymc3_tf.nuts.sampler import COLUMNS, CompiledSampler, Control, State

# Scales of a normal, and a step size. With the first, eight steps are once round.
NORMALS = {
    "round": (np.ones(50), 2 * np.pi / 8.05),
    "long": (np.array([1.0, 3.0, 10.0, 0.9]), 0.4),
    "wide": (np.linspace(1.0, 2.0, 20), 0.6),
}
DRAWS = 4000


def has_not_turned(momenta):
    """Whether neither a row of leaves has turned nor one of its halves with the leaf beside it."""
    half = len(momenta) // 2
    pieces = [momenta, momenta[: half + 1], momenta[half - 1 :]]
    return all(piece[i] @ piece.sum(0) >= 0 for piece in pieces for i in (0, -1))


def by_definition(scales, step_size):
    """Return how many leapfrog steps trajectories take that start anywhere in the normal."""
    random = np.random.RandomState(2)

    def steps():
        x, p = scales * random.normal(size=len(scales)), random.normal(size=len(scales))
        ends, momenta, number = [(x, p), (x, p)], [p], 0
        while True:
            forward = random.randint(2)
            x, p = ends[forward]
            step, new = (2 * forward - 1) * step_size, []
            for i in range(1, 1 + len(momenta)):
                p = p - 0.5 * step * x / scales**2
                x = x + step * p
                p = p - 0.5 * step * x / scales**2
                new.append(p)
                number += 1
                sizes = [2**j for j in range(1, 11) if i % 2**j == 0]
                if not all(has_not_turned(np.array(new[-size:])) for size in sizes):
                    return number
            ends[forward] = x, p
            momenta = momenta + new if forward else new[::-1] + momenta
            if not has_not_turned(np.array(momenta)):
                return number

    return np.array([steps() for _ in range(DRAWS)])


def by_program(scales, step_size, chains=0):
    """Return the same of a compiled program, or of all chains of a batch."""
    precision = tf.constant(1 / scales**2)

    def normal(x):
        return -0.5 * tf.tensordot(precision, x**2, 1)

    n = len(scales)
    program = CompiledSampler(normal, n, chains=chains)
    position = np.random.RandomState(0).normal(size=(*program.batch, n)) * scales
    averaging = np.broadcast_to([step_size, 0, np.log(step_size), 0], (*program.batch, 4))
    state = State(position, *program.evaluate(position, []), averaging)
    control = Control(first=0, number=50, leapfrogs=2**30, step=0, adaptation=0, depth=10)
    found = []
    for seed in range(DRAWS // (50 * max(chains, 1))):
        seeds = np.array([1, seed], np.int32)
        draws, _, state = program.draw(state, np.ones(position.shape), 0.8, seeds, control, [])
        found.append(draws[..., n + COLUMNS.index("n_steps")].ravel())
    return np.concatenate(found)


@pytest.mark.parametrize("chains", [0, 8])
@pytest.mark.parametrize("name", NORMALS)
def test_trajectories_end_where_their_definition_says(name, chains):
    """As often after each number of steps, by a test of chi-squared."""
    steps = by_definition(*NORMALS[name]), by_program(*NORMALS[name], chains)
    counts = [np.bincount(each.astype(int)) for each in steps]
    table = np.zeros((2, max(map(len, counts))))
    for row, found in zip(table, counts):
        row[: len(found)] = found
    assert table[1].argmax() == table[0].argmax()
    often = table.sum(0) >= 10
    table = np.column_stack([table[:, often], table[:, ~often].sum(1)])
    _, p_value, *_ = scipy.stats.chi2_contingency(table[:, table.sum(0) > 0])
    assert p_value > 1e-4


def test_no_trajectory_goes_round_again():
    """As it would where the ends of a tree are compared and its halves are not."""
    assert by_program(*NORMALS["round"]).max() <= 15


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


def test_slices_begin_at_constants():
    """Else XLA's program, and so the rounding, depends on the order of a hash table."""
    program = CompiledSampler(lambda x: -tf.reduce_sum(x**2), 3, chains=2)
    graph_def = program.draw_function.graph.as_graph_def()
    for nodes in (graph_def.node, *(f.node_def for f in graph_def.library.function)):
        constants = {node.name for node in nodes if node.op == "Const"}
        begins = [node.input[1] for node in nodes if node.op == "StridedSlice"]
        assert {begin.split(":")[0] for begin in begins} <= constants
