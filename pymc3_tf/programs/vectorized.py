"""Functions of one row, for all rows at once."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Callable, Iterator, List

import tensorflow as tf

# What TensorFlow raises for ops that have no form for many rows.
_WITHOUT_FORM = (TypeError, ValueError, NotImplementedError, tf.errors.OpError)


def vectorized(
    function: Callable[[tf.Tensor], Any], rows: tf.Tensor, one_by_one: Callable[..., Any]
) -> Any:
    """Map a function over rows at once, or one by one if an op has no form for that.

    Parameters
    ----------
    function : callable
        Takes a row. What it raises itself goes through unchanged.
    rows : tf.Tensor
    one_by_one : callable
        Takes the function and the rows.

    Examples
    --------
    >>> import tensorflow as tf
    >>> print(vectorized(tf.reduce_sum, tf.ones([2, 3]), tf.map_fn).numpy())
    [3. 3.]
    """
    raised: List[Exception] = []

    def noted(row: tf.Tensor) -> Any:
        try:
            return function(row)
        except Exception as error:
            raised.append(error)
            raise

    # A function of its own: what was begun of it goes if an op turns out to have no form.
    at_once = tf.function(lambda x: tf.vectorized_map(noted, x), autograph=False)
    try:
        with _without_errors_logged():
            return at_once(rows)
    except _WITHOUT_FORM:
        if raised:
            raise
    return one_by_one(function, rows)


@contextlib.contextmanager
def _without_errors_logged() -> Iterator[None]:
    # TensorFlow logs pages about what it cannot vectorize.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
