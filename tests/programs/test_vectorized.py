"""Many rows at once, and what happens where that cannot be."""

import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.programs.vectorized import vectorized

ROWS = np.arange(6.0).reshape(3, 2)


def test_rows_are_computed_at_once():
    calls = []

    def function(row):
        calls.append(row)
        return tf.reduce_sum(row**2)

    found = vectorized(function, tf.constant(ROWS), None)
    np.testing.assert_array_equal(found, np.sum(ROWS**2, axis=1))
    assert len(calls) == 1


def test_without_a_form_they_are_computed_one_by_one(monkeypatch):
    def no_form(function, rows):
        function(rows[0])
        raise ValueError("No pfor vectorization defined for LoopCond")

    monkeypatch.setattr(tf, "vectorized_map", no_form)
    found = vectorized(tf.reduce_sum, tf.constant(ROWS), tf.map_fn)
    np.testing.assert_array_equal(found, np.sum(ROWS, axis=1))


@pytest.mark.parametrize("kind", [TypeError, ValueError, NotImplementedError])
def test_error_of_the_density_itself_goes_through_and_it_is_not_run_again(kind):
    calls = []

    def logp(position):
        calls.append(position)
        raise kind("a mistake in the density")

    with pytest.raises(kind, match="^a mistake in the density$"):
        CompiledSampler(logp, 2, chains=3)
    assert len(calls) == 1
