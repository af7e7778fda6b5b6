"""Arrays in another byte order, as FITS files have, and sparse matrices."""

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import scipy.sparse
import tensorflow as tf
import theano
import theano.sparse
import theano.tensor as tt

import pymc3_tf
from pymc3_tf import TensorFlowOp
from pymc3_tf.exceptions import DeclarationTypeError
from pymc3_tf.linker import link
from pymc3_tf.sampling import starts

X, Y = np.arange(4.0), np.array([0.1, 0.9, 2.2, 2.9])
SPARSE = scipy.sparse.csr_matrix(np.eye(3))
TABLE = np.rec.fromarrays([X, Y], dtype=[("x", ">f8"), ("y", ">f8")])


def line(y, b, x):
    return -0.5 * tf.square(y - b * tf.cast(x, tf.float64))


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", ">i2"])
def test_data_of_a_density(dtype):
    """The right value is NumPy's own."""
    x, y = X.astype(dtype), Y.astype(">f8")
    expected = -0.5 * np.sum((Y - 0.3 * X) ** 2) - 0.5 * 0.3**2 - 0.5 * np.log(2 * np.pi)
    for observed in (dict(feed_dict={"x": x, "y": y}), dict(feed_dict={"x": x}, observed=y)):
        with pm.Model() as model:
            pm.TFDensity("y", line, {"b": pm.Normal("b", 0.0, 1.0)}, **observed)
        np.testing.assert_allclose(model.logp({"b": 0.3}), expected)
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 1.0)
        pm.TFDensity("y", line, {"b": b, "x": x}, observed=y)
    np.testing.assert_allclose(model.logp({"b": 0.3}), expected)


def test_columns_of_a_table_masked_data_and_the_sampler():
    masked = np.ma.masked_array(TABLE["y"], Y > 2.5)
    for data in (dict(observed=masked), dict(feed_dict={"y": masked})):
        data.setdefault("feed_dict", {})["x"] = TABLE["x"]
        with pm.Model() as model:
            b = pm.Normal("b", 0.0, 1.0)
            pm.TFDensity("y", line, {"b": b}, **data)
        point = {"b": 0.3, "y_missing": Y[Y > 2.5]}
        expected = -0.5 * np.sum((Y - 0.3 * X) ** 2) - 0.5 * 0.3**2 - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(model.logp(point), expected)
    with pm.Model():
        pm.TFDensity(
            "y",
            line,
            {"b": 2.0},
            feed_dict={"x": TABLE["x"], "y": TABLE["y"]},
            random=lambda b, x, size: np.full(size, b * x),
        )
        drawn = pm.sample_prior_predictive(1)["y"]
    np.testing.assert_allclose(np.reshape(drawn, -1), 2.0 * X)


def test_ops_values_and_starts():
    big = X.astype(">f8")
    op = TensorFlowOp(
        lambda x, a: a * x, [tf.TensorSpec([4], tf.float64)], feed_dict={"a": Y.astype(">f8")}
    )
    np.testing.assert_allclose(op(big).eval(), X * Y)
    dist = pm.TFDensity.dist(lambda x: -(x**2), shape=4)
    np.testing.assert_allclose(dist.logp(big).eval(), -(X**2))
    with pm.Model() as model:
        pm.TFDensity("x", lambda x: -(x**2), shape=4, testval=big)
    np.testing.assert_allclose(model.logp(model.test_point), -np.sum(X**2))
    start = starts.completed(model, {"x": big}, model.test_point)["x"]
    assert start.dtype.isnative
    np.testing.assert_array_equal(start, X)


def test_draws_in_another_byte_order():
    values = np.arange(6.0).reshape(2, 3)
    trace = az.from_dict(posterior={"mu": values.astype(">f8")})
    with tf.Graph().as_default():
        mu = tf.compat.v1.placeholder(tf.float64, [])
        found = pymc3_tf.evaluate(2.0 * mu, trace, params={mu: "mu"}, model=pm.Model())
    np.testing.assert_allclose(found, 2.0 * values)


@pytest.mark.parametrize(
    "make", [lambda: SPARSE, lambda: theano.shared(SPARSE), lambda: theano.sparse.csr_matrix("m")]
)
def test_a_sparse_matrix_as_a_parameter_or_as_data(make):
    for argument in ("params", "feed_dict"):
        with pm.Model():
            text = f"{argument}: 's' is a sparse matrix.*toarray"
            with pytest.raises(DeclarationTypeError, match=text):
                pm.TFDensity("y", lambda y, s: y * s, observed=X, **{argument: {"s": make()}})


def test_a_shared_variable_that_holds_no_numeric_array():
    """What ``theano.shared`` makes of an array in another byte order."""
    with pytest.raises(DeclarationTypeError, match=r"'s'.*theano.shared\(np.asarray\(x, float\)\)"):
        with pm.Model():
            pm.TFDensity("y", lambda y, s: y * s, {"s": theano.shared(X.astype(">f8"))}, observed=X)


@pytest.mark.parametrize("wrap", [theano.shared, theano.sparse.as_sparse_variable])
def test_a_sparse_product_that_is_linked(wrap):
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        product = theano.sparse.structured_dot(wrap(SPARSE), x.dimshuffle(0, "x"))
    with pytest.raises(NotImplementedError, match="StructuredDot has no translation.*toarray"):
        link([product], [x])(tf.ones(3, tf.float64))


def test_a_constant_sparse_matrix_that_is_made_dense_is_linked():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        dense = theano.sparse.dense_from_sparse(theano.sparse.as_sparse_variable(SPARSE))
        product = tt.dot(dense, x)
    (found,) = link([product], [x])(tf.constant([1.0, 2.0, 3.0], tf.float64))
    np.testing.assert_allclose(found, [1.0, 2.0, 3.0])
