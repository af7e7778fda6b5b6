"""The trees of the No-U-Turn sampler: which states of a trajectory are compared, in any depth."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.nuts import randomness

# The instructions take 12 MB then, and a draw a million leapfrog steps.
DEEPEST = 20


@functools.lru_cache(maxsize=None)
def instructions(depth: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return where each step of a trajectory is written to memory, and what it is compared with.

    A trajectory of ``2 ** depth`` steps is the row of leaves of a binary tree. A leaf that ends
    subtrees is compared with the leaf on the left end of each. Those still wanted at step `i` are
    `i` with some of its last bits set to zero: they differ in the ones of `i`, and stand in memory
    in that order.

    Parameters
    ----------
    depth : int

    Returns
    -------
    array of int64, shape (2 ** depth,)
        The place in memory for each step; a place that is never read for those not needed again.
    array of int64, shape (2 ** depth, 2)
        From which place on, and up to which, memory is compared with each step.

    Notes
    -----
    TensorFlow Probability finds the same numbers by way of a matrix of ``4 ** depth`` entries:
    8 GB for a depth of 15.

    Examples
    --------
    >>> write, read = instructions(2)
    >>> write.tolist(), read.tolist()
    ([0, 2, 1, 2], [[0, 0], [0, 1], [0, 0], [0, 2]])
    """
    step = np.arange(2**depth)
    bits = (step[:, None] >> np.arange(depth)) & 1
    ones = bits.sum(axis=1)
    # Of so many subtrees the step is the right end: as many as it has ones at its end.
    ended = np.cumprod(bits, axis=1).sum(axis=1)
    write = np.where(step % 2, depth, ones)
    read = np.stack([ones - ended, ones], axis=1) * (step % 2)[:, None]
    return write, read


def _goes_on(momentum_sum: tf.Tensor, *velocities: tf.Tensor) -> tf.Tensor:
    """Whether a piece of a trajectory has not turned at either end."""
    ahead = [tf.reduce_sum(momentum_sum * velocity, -1) >= 0 for velocity in velocities]
    return functools.reduce(tf.logical_and, ahead)


def sampler_class(base: Any) -> Any:
    """Return a subclass of TensorFlow Probability's sampler with the trees of this module.

    Parameters
    ----------
    base : type
        ``PreconditionedNoUTurnSampler``, for a state of one part.

    Returns
    -------
    type
        Its ``depth``, which may be a tensor, limits a trajectory further than ``max_tree_depth``.

    Notes
    -----
    Where all directions have one frequency, a trajectory can come back to its start just when it
    is twice as long, and go round many times without a turn between its ends. So, as Stan does it,
    each half of a tree is compared with the leaf next to it in the other half, too.

    For each leaf that is still wanted, memory has its velocity and that of the leaf before it, and
    the sums of momenta before it, with it, and before the leaf before it.

    Long, because the class stands inside: its base comes with an extra, when it is first needed.
    """

    class NoUTurnSampler(randomness.used_by(base)):  # type: ignore[misc]
        def __init__(
            self,
            *args: Any,
            max_tree_depth: int,
            depth: Any,
            momentum_distribution: Any,
            **kwargs: Any,
        ) -> None:
            super().__init__(
                *args, max_tree_depth=1, momentum_distribution=momentum_distribution, **kwargs
            )
            # A kernel that wraps this one makes it again with these. The base forgets the momenta.
            self._parameters.update(
                max_tree_depth=max_tree_depth,
                depth=depth,
                momentum_distribution=momentum_distribution,
            )
            self._max_tree_depth = depth
            self._write_instruction, self._read_instruction = instructions(max_tree_depth)

        def init_velocity_state_memory(self, input_tensors: Any) -> Any:
            (memory,) = super().init_velocity_state_memory(input_tensors)
            return [memory] * 3  # of velocities the third stays empty

        def _loop_tree_doubling(
            self, step_size: Any, memory: Any, info: Any, i: Any, ends: Any, tree: Any, *rest: Any
        ) -> Any:
            self._old_tree = tree  # for the method below, in the same trace
            *others, ends, doubled = super()._loop_tree_doubling(
                step_size, memory, info, i, ends, tree, *rest
            )
            is_right, near, first, last = self._at_the_seam
            left, right = ends.velocity[0][0], ends.velocity[0][1]
            (old_sum,), (whole_sum,) = tree.momentum_sum, doubled.momentum_sum
            far = tf.where(is_right, left, right)
            goes_on = _goes_on(old_sum + first.momentum, far, first.velocity) & _goes_on(
                whole_sum - old_sum + near.momentum[0], near.velocity[0], last.velocity[0]
            )
            return (*others, ends, doubled._replace(continue_tree=doubled.continue_tree & goes_on))

        def _build_sub_tree(
            self,
            directions: Any,
            integrator: Any,
            info: Any,
            steps: Any,
            near: Any,
            going: Any,
            is_finite: Any,
            memory: Any,
            momentum_distribution: Any,
            seed: Any,
        ) -> Any:
            """Build what doubles the tree, as the base class does, and keep what is at its ends."""
            tree = self._old_tree
            nowhere = tree.candidate_state._replace(
                weight=tf.fill(tf.shape(info.init_energy), tf.constant(-np.inf, tf.float64))
            )
            _, _, energies, sums, taken, last, candidate, going, is_finite, memory = tf.while_loop(
                lambda i, *rest: (i < steps) & tf.reduce_any(rest[6]),
                lambda i, seed, *rest: self._loop_build_sub_tree(
                    directions, integrator, info, i, *rest, momentum_distribution, seed
                ),
                (
                    tf.zeros([], tf.int32),
                    seed,
                    tf.zeros_like(tree.energy_diff_sum),
                    [tf.zeros_like(tree.momentum_sum[0])],
                    tf.zeros_like(tree.leapfrog_count),
                    near,
                    nowhere,
                    going,
                    is_finite,
                    memory,
                ),
            )
            first = _Leaf(memory.state_swap[1][0], memory.velocity_swap[0][0])
            self._at_the_seam = directions[0], near, first, last
            return candidate, last, is_finite, going, energies, sums, taken

        def _loop_build_sub_tree(
            self,
            directions: Any,
            integrator: Any,
            info: Any,
            i: Any,
            energies: Any,
            before: Any,
            taken: Any,
            previous: Any,
            candidate: Any,
            going: Any,
            is_finite: Any,
            memory: Any,
            *rest: Any,
        ) -> Any:
            """Add a leaf, as the base class does, and compare the halves of trees that it ends."""
            velocities, sums = memory
            found = super()._loop_build_sub_tree(
                *(directions, integrator, info, i, energies, before, taken, previous, candidate),
                *(going, is_finite, type(memory)(velocities[:1], sums[:1]), *rest),
            )
            *found, going, is_finite, (velocity_memory, sum_memory) = found
            until, leaf = found[3][0], found[5]

            def compare(k: Any, goes_on: Any) -> Any:
                # Not by [k]: of that XLA sometimes makes a copy of twice the memory.
                begin, velocity_begin = (tf.gather(x[0], k) for x in (sums, velocities))
                velocity, velocity_before = (tf.gather(x, k + 1) for x in velocities[:2])
                with_it, without_both = (tf.gather(x, k + 1) for x in sums[1:])
                goes_on &= _goes_on(with_it - begin, velocity_begin, velocity)
                goes_on &= _goes_on(until - without_both, velocity_before, leaf.velocity[0])
                return k + 1, goes_on

            from_place, to_place = tf.unstack(info.read_instruction.gather([i])[0])
            _, goes_on = tf.while_loop(
                lambda k, goes_on: (k + 1 < to_place) & tf.reduce_any(goes_on),
                compare,
                (from_place, going),
            )
            place = info.write_instruction.gather([i])[None]
            kept = (
                (velocities[1], previous.velocity[0]),
                (sums[1], until),
                (sums[2], before[0] - previous.momentum[0]),
            )
            velocity, with_it, without_both = (
                tf.tensor_scatter_nd_update(old, place, new[None]) for old, new in kept
            )
            memory = type(memory)(
                [*velocity_memory, velocity, velocities[2]], [*sum_memory, with_it, without_both]
            )
            return (*found, goes_on, is_finite, memory)

    return NoUTurnSampler


class _Leaf(NamedTuple):
    momentum: tf.Tensor
    velocity: tf.Tensor
