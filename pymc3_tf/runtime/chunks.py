"""Many draws, evaluated as many at a time as there is memory for."""

from __future__ import annotations

from typing import Callable, List, Sequence, Union

import numpy as np

# Memory that the draws which are computed at a time may take: more would leave the cache.
CHUNK_BYTES = 1 << 23


def evaluate_in_chunks(
    evaluate: Callable[[slice], Sequence[np.ndarray]],
    number: int,
    draw_bytes: Union[int, Callable[[Sequence[np.ndarray]], int]],
    limit: int = CHUNK_BYTES,
) -> List[np.ndarray]:
    """Evaluate many draws in chunks, which take a bounded amount of memory.

    Parameters
    ----------
    evaluate : callable
        Takes which of the draws to compute, and returns arrays with these draws along the first
        axis.
    number : int
        How many draws there are. For none, `evaluate` is asked once for the shapes.
    draw_bytes : int or callable
        How many bytes a draw takes. A callable is told the results of the first draw, which is then
        computed alone.
    limit : int
        How many bytes a chunk may take.

    Returns
    -------
    list of ndarray
        With all draws along the first axis.
    """
    size = 1 if callable(draw_bytes) else max(1, limit // draw_bytes)
    results: List[np.ndarray] = []
    start = 0
    while start < max(1, number):
        chunk = slice(start, min(start + size, number))
        found = evaluate(chunk)
        start += size
        if not results:
            # Into place at once: large memory takes long to get a second time.
            results = [np.empty((number, *y.shape[1:]), y.dtype) for y in found]
            if callable(draw_bytes):
                size = max(1, limit // draw_bytes(found))
        for result, rows in zip(results, found):
            result[chunk] = rows
    return results
