"""Checks name the first thing that fails, and where it comes from."""

import importlib

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from checked_models import Y, check, failing, model_of, outcomes, unit

from pymc3_tf.checking import stages, timing, uses
from pymc3_tf.checking.checked import Checked, Failed, Skipped
from pymc3_tf.checking.subjects import Subject
from pymc3_tf.gradients import comparison
from pymc3_tf.gradients.numerical import Line, Slope

checking = importlib.import_module("pymc3_tf.checking.check")  # the module, not the function


def run(stage, subject):
    """Run one stage, without those before it."""
    return stage(Checked(Subject(subject), 0.1))


# -- a model that fails, for each stage --------------------------------------------------------


def failing_alone(stage, subject, *said):
    with pytest.raises(Failed) as info:
        run(stage, subject)
    for words in said:
        assert words in str(info.value), str(info.value)


def test_captured_fails_where_a_declaration_does():
    report = failing(
        lambda: model_of(lambda y, mu: tf.numpy_function(np.add, [y, mu], tf.float64)),
        "captured", "UnsupportedOpError: TFDensity 'y': logp uses PyFunc at the node 'PyFunc'",
    )  # fmt: skip
    assert outcomes(report)[1:] == ["skipped"] * 8
    assert report["time"].text == "because 'captured' failed"


def test_captured_is_skipped_without_tensorflow():
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0)
    report = check(model)
    assert report.passed and report["captured"].text == "nothing here is computed by TensorFlow"
    assert report["XLA"].outcome == "passed" and report["gradient"].outcome == "skipped"


def test_shapes_fail_with_the_line():
    def logp(y, mu, x):
        residual = y - mu * x
        return -0.5 * residual**2

    with pm.Model() as model:
        x, y = pm.Data("x", np.ones(3)), pm.Data("data", Y)
        mu = pm.Normal("mu", 0.0, 1.0, testval=0.4)
        pm.TFDensity("y", logp, {"mu": mu}, feed_dict={"y": y, "x": x})
        pm.set_data({"x": np.ones(4)})
    report = failing(
        model, "shapes", "y: TensorFlow failed at", "[3] vs. [4]. It comes from Sub at the node",
        "test_failures_of_checks.py:", "in logp: `residual = y - mu * x`",
    )  # fmt: skip
    assert report["value"].text == report["prior draws"].text == "because 'shapes' failed"


def test_value_fails_with_the_node_and_the_line():
    def logp(y, mu):
        width = tf.math.log(mu - 1.0)
        return unit(y, mu) - width

    report = failing(
        model_of(logp), "value", "The log density of 'y' is -inf, at mu = 0.4.",
        "It comes from Log at the node 'Log', which gives NaN (",
        "in logp: `width = tf.math.log(mu - 1.0)`",
    )  # fmt: skip
    assert report["gradient"].outcome == "skipped"


def test_value_names_the_op_that_raises():
    def logp(y, mu):
        factor = tf.linalg.cholesky(tf.reshape(tf.stack([1.0, 3.0 + mu, 3.0 + mu, 1.0]), (2, 2)))
        return tf.reduce_sum(unit(y, mu)) + tf.reduce_sum(factor)

    failing(model_of(logp), "value", "Cholesky at the node 'Cholesky'", "in logp: `factor = ")


def test_value_and_prior_draws_fail_where_errors_are_raised():
    def logp(y, mu):
        shift = tf.sqrt(mu - 0.5)
        return unit(y, shift)

    model = model_of(logp, errors="raise")
    said = ["y: TensorFlow failed at mu = ", "which gives NaN (", "in logp: `shift = tf.sqrt("]
    failing(model, "value", *said)
    failing_alone(stages.prior, model, *said)


def test_value_names_what_is_not_tensorflow():
    with pm.Model() as model:
        pm.TFDensity("y", unit, {"mu": pm.Normal("mu", 0.0, 1.0)}, observed=Y)
        pm.Normal("z", 0.0, -1.0, observed=1.0)
    failing(model, "value", "The log density of 'z' is -inf, at mu = 0, sigma = -1")


def test_gradient_fails_with_both_numbers():
    @tf.custom_gradient
    def square(x):
        return x**2, lambda upstream: upstream * 3.0 * x

    def logp(y, mu):
        distance = square(y - mu)
        return -0.5 * distance

    slope = 1.5 * float(np.sum(Y - 0.4))
    failing(
        model_of(logp, check_gradient=False), "gradient", "the gradient of y by 'mu' is wrong",
        f"at mu = 0.4 it is {slope:.6g}, and central differences give {slope / 1.5:.6g}",
        "a relative error of 3.3e-01. It comes from IdentityN", "in logp: `distance = square",
    )  # fmt: skip


def test_gradient_fails_with_the_element():
    @tf.custom_gradient
    def odd(x):
        return 2.0 * x, lambda upstream: upstream * [2.0, 3.0, 2.0]

    model = model_of(
        lambda y, mu: -0.5 * (y - odd(mu)) ** 2,
        prior=lambda: pm.Normal("mu", 0.0, 1.0, shape=3, testval=[1.0, 2.0, 3.0]),
        check_gradient=False,
    )
    failing_alone(stages.gradient, model, "the gradient of y by 'mu' (element [1]) is wrong")


@pytest.mark.parametrize("wrong", [0.0, 1e-3])
def test_gradient_passes_where_differences_are_rounding(wrong):
    """Nearly all of the mixture's weight is elsewhere: the first difference is 6 % off."""

    # Of two points of Hogg et al. (2010), Table 1. The third makes the rounding larger.
    y, sigma = np.array([[479.0, 504.0, 2000.0], [27.0, 14.0, 15.0]])

    @tf.custom_gradient
    def line(x):
        return tf.identity(x), lambda upstream: upstream + [0.0, wrong, 0.0]

    def log_normal(y, mean, variance):
        return -0.5 * ((y - mean) ** 2 / variance + tf.math.log(2 * np.pi * variance))

    def logp(y, mu):
        on = np.log(0.75) + log_normal(y, line(mu), sigma**2)
        off = np.log(0.25) + log_normal(y, 400.0, np.exp(9.0) + sigma**2)
        return tf.reduce_logsumexp(tf.stack([on, off]), axis=0)

    model = model_of(
        logp,
        observed=y,
        prior=lambda: pm.Normal("mu", 400.0, 1.0, shape=3, testval=[400.0] * 3),
        check_gradient=False,
    )
    if wrong:
        said = "(element [1]) is wrong", "It comes from IdentityN", "in logp: `on = "
        failing_alone(stages.gradient, model, *said)
    else:
        found = run(stages.gradient, model)
        assert found.numbers["y: mu"] < 1e-4, found


def test_gradient_is_compared_at_steps_between_truncation_and_rounding():
    """A tail of 1e-13 of the density: no difference is both large enough and small enough."""
    line = Line.__new__(Line)

    def slopes(gradient, steps):
        return [
            Slope(gradient, np.sinh(30 * h) / (30 * h) * 1e-11 + noise, is_clear)
            for h, noise, is_clear in steps
        ]

    steps = [(3e-2, 0.0, True), (1e-2, 1e-14, False), (3e-3, 1e-12, False)]
    line.slope = lambda *args: next(left)
    for gradient, wrong in [(1e-11, False), (1e-11 + 1e-3, True), (2e-11, True), (np.nan, True)]:
        left = iter(slopes(gradient, steps) + [None] * 3)
        found = comparison.compared(line, [np.ones(())], [1.0], 0, np.ones(()), None)
        assert found.is_wrong == wrong, found


def test_gradient_fails_where_tensorflow_has_none():
    def logp(y, mu):
        cdf = tf.math.betainc(tf.exp(mu) + 0.0 * y, tf.ones_like(y), 0.4 * tf.ones_like(y))
        return tf.math.log(cdf)

    failing_alone(
        stages.gradient, model_of(logp, check_gradient=False),
        "it is 0, and central differences give", "It comes from Betainc at the node 'Betainc'",
        "in logp: `cdf = tf.math.betainc(",
    )  # fmt: skip


def test_gradient_fails_where_it_is_nan():
    def logp(y, mu):
        root = tf.where(mu > 1.0, tf.math.pow(mu - 0.4, 0.5), mu)
        return unit(y, root)

    failing_alone(
        stages.gradient, model_of(logp, check_gradient=False),
        "the gradient of y by 'mu' is not finite", "in logp: `root = ",
        "It comes from the gradient of Pow at the node 'Pow'",
    )  # fmt: skip


def test_prior_draws_fail_where_a_density_is_nan():
    def logp(y, mu):
        shift = tf.sqrt(mu)
        return unit(y, shift)

    failing_alone(
        stages.prior, model_of(logp), "of 100 from the prior: The log density of 'y' is -inf",
        "It comes from Sqrt at the node 'Sqrt', which gives NaN (",
        "in logp: `shift = tf.sqrt(mu)`",
    )  # fmt: skip


def test_prior_draws_outside_of_the_support_are_counted():
    def logp(y, mu):
        return tf.where(mu > 0.0, unit(y, mu), -np.inf)

    found = run(stages.prior, model_of(logp))
    with pm.Model():
        np.random.seed(0)
    assert 30 < found.numbers["infinite"] < 70
    assert found.text.startswith(f"{found.numbers['infinite']} of 100 draws have density zero (y)")


@pytest.mark.parametrize("number", [-np.inf, np.inf])
def test_prior_draws_fail_where_no_density_is_finite(number):
    def logp(y, mu):
        inside = tf.where(mu > 9.0, unit(y, mu), number)
        return inside

    model = model_of(logp, prior=lambda: pm.Normal("mu", 0.0, 1.0, testval=10.0))
    said = {
        -np.inf: "y has density zero at all 100 draws from the prior: either the priors give",
        np.inf: "at draw 1 of 100 from the prior: ",
    }
    failing(model, "prior draws", said[number], "in logp: `inside = tf.where(")


def test_priors_without_draws_are_skipped():
    model = model_of(unit, prior=lambda: pm.Flat("mu", testval=0.4))
    with pytest.raises(Skipped, match="the priors have no draws: "):
        run(stages.prior, model)


def test_pointwise_fails_for_a_joint_density_that_is_repeated():
    def logp(y, mu):
        return tf.reduce_sum(unit(y, mu)) + tf.zeros_like(y)

    with pytest.raises(Failed, match="y: each of the 3 numbers of logp depends on all"):
        run(uses.pointwise, model_of(logp))
    # All numbers are the same here too, and right.
    flat = model_of(lambda y, mu: -tf.math.log(mu) + 0.0 * y)
    assert run(uses.pointwise, flat).text.startswith("y: 3 numbers")


def test_pointwise_fails_where_the_sum_is_another():
    model = model_of(unit)
    model["y"].logp_sum_unscaledt = model["y"].logp_sum_unscaledt + 1.0
    with pytest.raises(Failed, match="sums to -3.5.*, and the joint one is -2.5"):
        run(uses.pointwise, model)


def test_joint_densities_are_called_so():
    model = model_of(lambda y, mu: tf.reduce_sum(unit(y, mu)))
    assert run(uses.pointwise, model).text == "y: joint, one number for 3 values"
    assert run(uses.log_likelihood, model).text.endswith(": joint, so that LOO has one point only")


def test_log_likelihood_fails_where_coords_do_not_fit():
    with pm.Model(coords={"point": list("ab")}) as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", unit, {"mu": mu}, observed=Y, dims="point")
    with pytest.raises(Failed, match="y has 3 values along 'point', and coords has 2"):
        run(uses.log_likelihood, model)


def segments(y, mu):
    sums = tf.math.segment_sum(y * mu, [0, 0, 1])
    return -0.5 * tf.reduce_sum(sums**2)


@pytest.mark.parametrize("of", ["model", "variable"])
def test_xla_fails_with_the_node_and_the_line(of):
    model = model_of(segments)
    report = failing(
        model if of == "model" else model["y"], "XLA",
        "XLA cannot compile y: it knows no SegmentSum. pm.sample() does not need it",
        "It comes from SegmentSum at the node 'SegmentSum'", "in segments: `sums = tf.math.seg",
    )  # fmt: skip
    assert report["time"].outcome == "passed"
    assert "gradient in pymc3_tf.sample" not in report["time"].numbers


def test_xla_is_skipped_for_discrete_variables():
    with pm.Model() as model:
        n = pm.Poisson("n", 2.0)
        pm.TFDensity("y", lambda y, n: unit(y, tf.cast(n, y.dtype)), {"n": n}, observed=Y)
    report = check(model)
    assert report.passed and report["XLA"].text.startswith("the free variables 'n' are discrete")
    assert "step of pm.sample" not in report["time"].numbers


def test_stages_that_raise_are_reported(monkeypatch):
    monkeypatch.setattr(timing, "bare", lambda *rest: 1 / 0)
    assert (
        failing(model_of(unit)["y"], "time").failure.text == "ZeroDivisionError: division by zero"
    )
