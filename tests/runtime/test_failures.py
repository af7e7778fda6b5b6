"""Densities that fail in TensorFlow, or are NaN: divergences, which a warning counts."""

import logging

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt
from support import declare, logp_dlogp_function

from pymc3_tf import TensorFlowOp
from pymc3_tf.exceptions import DeclarationError, EvaluationError
from pymc3_tf.programs.differentiation import vjp
from pymc3_tf.runtime import failures, functions

DATA = np.array([0.5, -0.3, 1.2])


def asserted(y, s):
    """Normal with variance s, of which TensorFlow asserts that it is positive."""
    with tf.control_dependencies([tf.debugging.Assert(s > 0, ["s", s])]):
        s = tf.identity(s)
    return -0.5 * (tf.square(y) / s + tf.math.log(2 * np.pi * s))


def not_a_number(y, s):
    """The same, without the assertion."""
    return -0.5 * (tf.square(y) / s + tf.math.log(2 * np.pi * s))


def checked(y, s):
    """The same, with TensorFlow's own check for NaN."""
    return tf.debugging.check_numerics(not_a_number(y, s), "the density")


def joint(logp):
    return lambda y, s: tf.reduce_sum(logp(y, s))


SOURCES = [asserted, not_a_number, checked, joint(asserted), joint(not_a_number)]


@pytest.fixture(params=SOURCES, ids=["asserted", "nan", "checked", "asserted-joint", "nan-joint"])
def source(request):
    failures.take()
    return request.param


def guarded(y, s):
    """What is expected: minus infinity, with a gradient of zero."""
    positive = tf.where(s > 0, s, tf.ones_like(s))
    return tf.where(s > 0, not_a_number(y, positive), -np.inf * tf.ones_like(y))


def model_of(source, **kwargs):
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        pm.TFDensity("y", source, {"s": s}, feed_dict={"y": DATA}, **kwargs)
    return model


def test_log_density_is_minus_infinity_with_the_gradient_of_the_rest(source):
    evaluate = logp_dlogp_function(model_of(source))
    value, gradient = evaluate({"s": np.array(-2.0)})
    assert value == -np.inf
    np.testing.assert_allclose(gradient, [3.0])  # of the prior: that of the density is zero
    value, gradient = evaluate({"s": np.array(0.7)})
    expected, slope = logp_dlogp_function(model_of(guarded))({"s": np.array(0.7)})
    np.testing.assert_allclose([value, *gradient], [expected, *slope])


def test_failures_are_counted_and_the_first_has_its_values(source):
    model = model_of(source)
    evaluate = logp_dlogp_function(model)
    for s in (0.3, -2.5, -3.5, 0.4):
        evaluate({"s": np.array(s)})
    (text,) = failures.take()
    assert text.startswith(
        "A TFDensity failed in 2 evaluations, where its log density was taken for -inf. "
        "The first one: at s = -2.5: "
    )
    assert any(
        reason in text
        for reason in ("assertion failed", "the log density is not a number", "Tensor had NaN")
    )
    assert text.endswith("Declare it with errors='raise' to stop there.")
    assert failures.take() == []


def test_pointwise_log_density_keeps_the_elements_that_are_numbers():
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        y = pm.TFDensity("y", lambda y, s: tf.math.log(y * s), {"s": s}, observed=[1.0, -1.0, 2.0])
    found = model.fn(y.logp_elemwiset)({"s": 2.0})
    np.testing.assert_allclose(found, [np.log(2), -np.inf, np.log(4)])


def test_sum_of_plus_and_minus_infinity_is_a_failure_of_the_sum_alone():
    failures.take()
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        y = pm.TFDensity("y", lambda y, s: y / tf.abs(s), {"s": s}, observed=[1.0, -1.0])
    np.testing.assert_array_equal(model.fn(y.logp_elemwiset)({"s": 0.0}), [np.inf, -np.inf])
    assert failures.take() == []
    assert model.fn(y.logpt)({"s": 0.0}) == -np.inf


@pytest.mark.parametrize(
    "source", [checked, joint(not_a_number)], ids=["checked", "nan-joint"], indirect=True
)
def test_nuts_finds_the_posterior_beyond_failures_and_tells_of_them(source, caplog):
    def posterior_of(model, cores):
        with model, caplog.at_level(logging.WARNING, "pymc3"):
            return pm.sample(
                1000,
                tune=500,
                chains=2,
                cores=cores,
                random_seed=1,
                progressbar=False,
                return_inferencedata=False,
            )

    expected = posterior_of(model_of(guarded), 1)
    assert not any("A TFDensity failed" in text for text in caplog.messages)
    for cores in (1, 2):
        caplog.clear()
        trace = posterior_of(model_of(source), cores)
        assert trace["diverging"].sum() > 0
        np.testing.assert_array_equal(trace["diverging"], expected["diverging"])
        np.testing.assert_allclose(trace["s"], expected["s"], rtol=1e-6)
        told = [text for text in caplog.messages if text.startswith("A TFDensity failed in")]
        assert len(told) == 2  # once for each chain
        assert all("The first one: at s = -" in text for text in told)


def test_metropolis_rejects_failures_and_tells_of_them(source, caplog):
    with model_of(source), caplog.at_level(logging.WARNING, "pymc3"):
        trace = pm.sample(
            500,
            tune=100,
            step=pm.Metropolis(),
            chains=1,
            random_seed=3,
            progressbar=False,
            return_inferencedata=False,
        )
    assert trace["s"].min() > 0
    assert sum(text.startswith("A TFDensity failed in") for text in caplog.messages) == 1


def test_raise_stops_at_the_first_failure(source):
    model = model_of(source, errors="raise")
    evaluate = logp_dlogp_function(model)
    assert np.isfinite(evaluate({"s": np.array(0.7)})[0])
    with pytest.raises(EvaluationError, match="TensorFlow failed at s = -2: "):
        evaluate({"s": np.array(-2.0)})
    assert failures.take() == []
    with model, pytest.raises(EvaluationError, match="TensorFlow failed at s = -"):
        pm.sample(500, tune=500, chains=1, random_seed=1, progressbar=False)


def test_raise_is_not_told_what_another_declaration_made_of_the_failure():
    point = {"s": np.array(-2.0)}
    assert logp_dlogp_function(model_of(not_a_number))(point)[0] == -np.inf
    with pytest.raises(EvaluationError):
        logp_dlogp_function(model_of(not_a_number, errors="raise"))(point)


@pytest.mark.parametrize("source", [asserted, joint(asserted)])
def test_second_derivatives_where_tensorflow_fails(source):
    model = model_of(source)
    np.testing.assert_allclose(pm.find_hessian({"s": np.array(-2.0)}, model=model), [[1.0]])


def test_shapes_that_do_not_fit_are_an_error_and_no_divergence():
    with pm.Model() as model:
        x = pm.Data("x", np.ones(3))
        s = pm.Normal("s", 1.0, 1.0)
        y = pm.TFDensity(
            "y", lambda y, s, x: -tf.square(y - s * x), {"s": s}, feed_dict={"x": x, "y": DATA}
        )
    pm.set_data({"x": np.ones(4)}, model=model)
    with pytest.raises(EvaluationError, match=r"TensorFlow failed at s = 1.*Incompatible shapes"):
        model.fn(y.logpt)({"s": 1.0})


def test_op_raises_with_the_values_of_its_inputs():
    op = TensorFlowOp(
        lambda x: tf.ensure_shape(asserted(tf.zeros([2], tf.float64), tf.reduce_min(x)), [2]),
        [tf.TensorSpec([20], tf.float64)],
    )
    text = r"TensorFlow failed at x = array of shape \(20,\) from -1 to 1: assertion failed"
    with pytest.raises(EvaluationError, match=text):
        op(tt.constant(np.linspace(-1, 1, 20))).eval()


def test_text_of_a_failing_gradient_leaves_upstream_gradients_out():
    op = TensorFlowOp(
        lambda s: asserted(tf.zeros([2], tf.float64), s), [tf.TensorSpec([], tf.float64)]
    )
    program = vjp(op.program)
    assert len(program.inputs) == 2
    with pytest.raises(EvaluationError, match="TensorFlow failed at s = -1: assertion failed"):
        functions.evaluate(program, [-1.0, np.ones(2)])


def test_errors_is_one_of_two(regime):
    with pm.Model(), pytest.raises(
        DeclarationError, match="errors is 'ignore'. Give 'divergence' or 'raise'."
    ):
        declare(regime, "x", lambda x: -tf.square(x), errors="ignore")
