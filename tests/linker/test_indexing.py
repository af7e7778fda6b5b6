"""The linker: reading and writing parts of tensors is Theano's."""

import numpy as np
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import SMALL, SQUARE, assert_same_expression, with_gradient

from pymc3_tf.linker import link

CUBE = np.random.RandomState(21).randn(3, 4, 2)
MASK = np.array([True, False, True, True])
READS = {
    "scalar": lambda x, i: x[1],
    "negative": lambda x, i: x[-1, :, -2],
    "slices": lambda x, i: x[1:, ::2, ::-1],
    "negative_step": lambda x, i: x[:, 3:0:-2],
    "empty": lambda x, i: x[:, 4:],
    "rows": lambda x, i: x[np.array([0, 2, 2, -1])],
    "advanced": lambda x, i: x[np.array([0, 2]), np.array([1, 3])],
    "advanced_middle": lambda x, i: x[:, np.array([[0, 3], [1, 1]])],
    "advanced_apart": lambda x, i: x[np.array([0, 2]), :, np.array([1, 0])],
    "advanced_and_slice": lambda x, i: x[np.array([0, 2]), 1:3],
    "mask": lambda x, i: x[:, MASK],
    "new_axis": lambda x, i: x[:, None, 1, :],
    "computed_scalar": lambda x, i: x[i[1]],
    "computed_scalars": lambda x, i: x[i[1], :, i[0] - 1],
    "computed_rows": lambda x, i: x[i],
    "computed_middle": lambda x, i: x[:, i],
    "computed_apart": lambda x, i: x[i, :, i - 1],
    "computed_and_slice": lambda x, i: x[i, 1:],
    "computed_negative": lambda x, i: x[i - 2],
    "shape": lambda x, i: x[: x.shape[2], : x.shape[0] - 1] * x.shape[1],
    "take": lambda x, i: tt.take(x, i, axis=1),
    "arange": lambda x, i: x[tt.arange(x.shape[0]), i],
}


@pytest.mark.parametrize("name", READS)
def test_indexing_is_that_of_theano(name):
    assert_same_expression(READS[name], CUBE, np.array([0, 1, 1]))


WRITES = {
    "scalar": lambda x, i: x[1],
    "slices": lambda x, i: x[1:, ::2],
    "rows": lambda x, i: x[np.array([0, 2])],
    "advanced": lambda x, i: x[np.array([0, 2]), np.array([1, 3])],
    "advanced_apart": lambda x, i: x[np.array([0, 2]), :, np.array([1, 0])],
    "mask": lambda x, i: x[:, MASK],
    "computed_scalar": lambda x, i: x[i[1]],
    "computed_rows": lambda x, i: x[i],
    "computed_apart": lambda x, i: x[i, :, i],
}


@pytest.mark.parametrize("change", [tt.set_subtensor, tt.inc_subtensor])
@pytest.mark.parametrize("name", WRITES)
def test_setting_and_incrementing_are_those_of_theano(name, change):
    read = WRITES[name]
    assert_same_expression(
        lambda x, i, y: change(read(x**2, i), tt.exp(y)), CUBE, np.array([0, 1]), np.array(0.3)
    )
    assert_same_expression(
        lambda x, i: change(read(x, i), 2 * read(tt.sin(x[::-1]), i)), CUBE, np.array([1, 0])
    )


def test_repeated_rows_are_incremented_each_time():
    rows = np.array([0, 2, 0])
    assert_same_expression(lambda x: tt.inc_subtensor(x[rows], tt.sin(x)), SQUARE)


def test_last_of_several_values_for_one_place_counts():
    places, values = np.array([1, 0, 1]), np.array([1.0, 2.0, 3.0])
    # Theano's gradient has the value that was overwritten as well.
    assert_same_expression(
        lambda x, y: tt.set_subtensor(x[places], y), SMALL, values, gradient=False
    )
    with theano.config.change_flags(compute_test_value="off"):
        y = tt.dvector()
        linked = link([(tt.set_subtensor(tt.zeros(3)[places], y) * [1.0, 10.0, 100.0]).sum()], [y])
    np.testing.assert_array_equal(with_gradient(linked)(tf.constant(values))[1][0], [0, 1, 10])


@pytest.mark.parametrize("bad", [3, -4, 100])
def test_index_out_of_bounds_of_its_dimension_is_an_error(bad):
    # The flattened matrix has an element there.
    x, i = tt.dmatrix("x"), tt.lvector("i")
    with theano.config.change_flags(compute_test_value="off"):
        linked = link([x[np.array([0, 0]), i]], [x, i])
    matrix = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], tf.float64)
    (found,) = linked(matrix, tf.constant([2, -3], tf.int64))
    assert found.numpy().tolist() == [3.0, 1.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
        linked(matrix, tf.constant([0, bad], tf.int64))


def test_constant_index_out_of_bounds_is_an_error():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        linked = link([x[np.array([0, 9])]], [x])
    with pytest.raises(IndexError, match="out of bounds for an axis of length 6"):
        linked(SMALL)


def test_computed_mask_is_refused():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        linked = link([tt.set_subtensor(x[x > 0], 1.0)], [x])
    with pytest.raises(NotImplementedError, match="Use a constant mask, or theano.tensor.switch"):
        linked(SMALL)
