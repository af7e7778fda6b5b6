"""The trees of the No-U-Turn sampler: which states of a trajectory are compared, in any depth."""

from __future__ import annotations

import functools
from typing import Any, Tuple

import numpy as np

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


def deep(sampler: Any) -> Any:
    """Return a subclass of TensorFlow Probability's sampler that has its instructions from here.

    Parameters
    ----------
    sampler : type
        ``PreconditionedNoUTurnSampler``.

    Returns
    -------
    type
        Its ``depth``, which may be a tensor, limits a trajectory further than ``max_tree_depth``.
    """

    class NoUTurnSampler(sampler):
        def __init__(
            self, *args: Any, max_tree_depth: int, depth: Any = None, **kwargs: Any
        ) -> None:
            super().__init__(*args, max_tree_depth=1, **kwargs)
            self._parameters.update(max_tree_depth=max_tree_depth, depth=depth)
            self._max_tree_depth = max_tree_depth if depth is None else depth
            self._write_instruction, self._read_instruction = instructions(max_tree_depth)

    return NoUTurnSampler
