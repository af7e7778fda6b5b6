"""Many draws in chunks."""

import threading

import numpy as np
import pytest

from pymc3_tf.runtime.chunks import evaluate_in_chunks

DRAWS = np.arange(10.0)


def evaluated(draws, **how):
    sizes = []

    def evaluate(chunk):
        rows = draws[chunk]
        sizes.append(len(rows))
        return [2.0 * rows, np.stack([rows, rows], axis=1).astype("float32")]

    return evaluate_in_chunks(evaluate, len(draws), **how), sizes


def test_chunks_are_as_large_as_the_limit_lets_them_be():
    for how, expected in [
        (dict(draw_bytes=8, limit=32), [4, 4, 2]),
        (dict(draw_bytes=100, limit=32), [1] * 10),
        (dict(draw_bytes=1), [10]),
        (dict(draw_bytes=lambda found: sum(y.nbytes for y in found), limit=64), [1, 4, 4, 1]),
    ]:
        (double, pairs), sizes = evaluated(DRAWS, **how)
        assert sizes == expected
        np.testing.assert_array_equal(double, 2.0 * DRAWS)
        np.testing.assert_array_equal(pairs, np.stack([DRAWS, DRAWS], axis=1))
        assert pairs.dtype == "float32"


def test_no_draws_have_the_shapes_of_draws():
    for draw_bytes in (8, lambda found: 8):
        (double, pairs), _ = evaluated(DRAWS[:0], draw_bytes=draw_bytes)
        assert double.shape == (0,) and pairs.shape == (0, 2)


def test_threads_share_the_draws():
    together = threading.Barrier(2)

    def evaluate(chunk):
        if chunk.start:
            together.wait(timeout=60)  # for the other thread
        return [2.0 * DRAWS[chunk]]

    (double,) = evaluate_in_chunks(evaluate, len(DRAWS), lambda found: 8, threads=2)
    np.testing.assert_array_equal(double, 2.0 * DRAWS)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_a_thread_ends_all(error):
    begun = []

    def evaluate(chunk):
        begun.append(chunk.start)
        if chunk.start:
            raise error("here")
        return [DRAWS[chunk]]

    with pytest.raises(error, match="here"):
        evaluate_in_chunks(evaluate, 1000, lambda found: 8, limit=8, threads=2)
    assert len(begun) < 1000
