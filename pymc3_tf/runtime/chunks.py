"""Many draws, evaluated as many at a time as there is memory for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, Sequence, Union

import numpy as np

# Memory that the draws which are computed at a time may take: more would leave the cache.
CHUNK_BYTES = 1 << 23


def evaluate_in_chunks(
    evaluate: Callable[[slice], Sequence[np.ndarray]],
    number: int,
    draw_bytes: Union[int, Callable[[Sequence[np.ndarray]], int]],
    limit: int = CHUNK_BYTES,
    threads: int = 1,
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
    threads : int
        How many chunks to evaluate at a time. Of large results, each thread puts its own into
        place, which takes as long as computing them.

    Returns
    -------
    list of ndarray
        With all draws along the first axis.
    """
    size = 1 if callable(draw_bytes) else max(1, limit // draw_bytes)
    first = slice(0, min(size, number))
    found = evaluate(first)
    results = [np.empty((number, *y.shape[1:]), y.dtype) for y in found]

    def put(chunk: slice, found: Sequence[np.ndarray]) -> None:
        # Into place at once: large memory takes long to get a second time.
        for result, rows in zip(results, found):
            result[chunk] = rows

    put(first, found)
    if callable(draw_bytes):
        size = max(1, limit // draw_bytes(found))
    if threads > 1:
        size = min(size, -(-number // threads) or 1)
    starts = range(first.stop, number, size)
    chunks = [slice(start, min(start + size, number)) for start in starts]
    if threads == 1 or len(chunks) < 2:
        for chunk in chunks:
            put(chunk, evaluate(chunk))
        return results
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(lambda chunk: put(chunk, evaluate(chunk)), chunk) for chunk in chunks]
        try:
            for part in parts:
                part.result()
        finally:  # an error, or Ctrl-C, does not wait for all of them
            for part in parts:
                part.cancel()
    return results
