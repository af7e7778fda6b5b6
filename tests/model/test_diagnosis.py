"""Starts from which no chain can begin: the error says which variable, and why."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from pymc3.exceptions import SamplingError

import pymc3_tf
from pymc3_tf.model.diagnosis import explain, uses_tensorflow

Y = np.array([0.0, 1.0, 2.0])


def weibull(y, k):
    """Log density whose gradient by k is NaN at y = 0, in the branch that is not taken."""
    return tf.where(y > 0, -k * tf.pow(y, k) * tf.math.log(y), -k)


def line(y, x, b):
    return -0.5 * tf.square(y - b * x)


def sample(**kwargs):
    options = dict(chains=1, cores=1, progressbar=False, return_inferencedata=False)
    return pm.sample(5, tune=5, **{**options, **kwargs})


@pytest.mark.parametrize("cores", [1, 2])
def test_nan_gradient_names_the_density_and_the_parameter(cores):
    with pm.Model():
        k = pm.Normal("k", 1.0, 0.1)
        pm.TFDensity("y", weibull, {"k": k}, observed=Y)
        with pytest.raises(Exception) as error:
            sample(cores=cores, chains=cores)
    text = str(error.value)
    assert "'y' is finite, but its gradient by 'k' is NaN, at k = " in text
    assert "safe = tf.where(ok, x, 1.0)" in text


def test_nan_gradient_names_the_elements_and_the_variable_before_its_transform():
    with pm.Model() as model:
        k = pm.HalfNormal("k", 1.0, shape=3)
        pm.TFDensity("y", weibull, {"k": k}, observed=np.array([1.0, 0.0, 2.0]))
    text = explain(model, model.test_point)
    assert "by 'k' (elements 1) is NaN, at k = [" in text


def test_nan_gradient_of_an_op_in_the_mean_names_the_variable_that_has_the_mean():
    mean = pymc3_tf.TensorFlowOp(
        lambda k: tf.where(k > 5, (k - 5) ** 0.5, k), [tf.TensorSpec([], tf.float64)]
    )
    with pm.Model() as model:
        k = pm.Normal("k", 1.0, 0.1)
        pm.Normal("y", mean(k), 1.0, observed=Y)
    assert "'y' is finite, but its gradient by 'k' is NaN, at k = 1." in explain(
        model, model.test_point
    )


def test_infinite_gradient():
    with pm.Model():
        k = pm.Normal("k", 0.0, 1.0)
        pm.TFDensity("y", lambda k: -tf.sqrt(tf.abs(k)), {"k": k})
        with pytest.raises(SamplingError, match="gradient by 'k' is (NaN|infinite), at k = 0"):
            sample(init="adapt_diag")


def test_fed_array_with_nan():
    with pm.Model():
        b = pm.Normal("b", 0.5, 1.0)
        feed = {"y": Y, "x": np.array([1.0, np.nan, np.nan])}
        pm.TFDensity("y", line, {"b": b}, feed_dict=feed)
        with pytest.raises(SamplingError) as error:
            sample()
    text = str(error.value)
    assert "The log density of 'y' is -inf, at b = 0.5" in text
    assert "feed_dict: 'x' holds 2 NaN among its 3 numbers." in text


def test_fed_pm_data_with_infinite_numbers():
    with pm.Model() as model:
        x = pm.Data("covariate", np.array([1.0, np.inf, 1.0]))
        b = pm.Normal("b", 0.5, 1.0)
        pm.TFDensity("y", line, {"b": b}, feed_dict={"y": Y, "x": x})
    text = explain(model, model.test_point)
    assert "pm.Data 'covariate' holds 1 infinite among its 3 numbers." in text


def test_parameter_outside_of_its_range():
    with pm.Model():
        mu = pm.Normal("mu", 0.25, 1.0)
        sigma = pm.Normal("sigma", -1.0, 1.0)
        op = pymc3_tf.TensorFlowOp(lambda x: 2.0 * x, [tf.TensorSpec([], tf.float64)])
        pm.Normal("y", op(mu), sigma, observed=Y)
        with pytest.raises(SamplingError) as error:
            pm.find_MAP(progressbar=False)
    assert "The log density of 'y' is -inf, at mu = 0.5, sigma = -1." in str(error.value)


def test_op_that_fails_at_the_start():
    def logp(y, c):
        matrix = tf.stack([tf.stack([c, 1.0]), tf.stack([1.0, c])])
        return -y * tf.linalg.trace(tf.linalg.inv(matrix))

    with pm.Model() as model:
        c = pm.Normal("c", 1.0, 1.0)
        pm.TFDensity("y", logp, {"c": c}, observed=Y)
    assert "not invertible" in explain(model, model.test_point)


def test_models_without_tensorflow_keep_the_text_of_pymc3():
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), -1.0, observed=Y)
        assert not uses_tensorflow(model)
        with pytest.raises(SamplingError) as error:
            sample()
    assert "The log density of" not in str(error.value)


def test_nothing_is_said_where_all_is_finite():
    with pm.Model() as model:
        b = pm.Normal("b", 0.5, 1.0)
        pm.TFDensity("y", line, {"b": b}, feed_dict={"y": Y, "x": np.ones(3)})
    assert uses_tensorflow(model)
    assert explain(model, model.test_point) == ""
