"""One rule for a density that fails or is no number: the same at one draw and at many."""

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from support import tf_normal

import pymc3_tf
from pymc3_tf.exceptions import EvaluationError
from pymc3_tf.model.inference_data import log_likelihood
from pymc3_tf.runtime import failures
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

v1 = tf.compat.v1
DATA = np.array([0.3, -1.0])
DRAWS = np.array([[0.5, -2.0, 0.1], [-0.3, 3.0, 0.2]])


def not_a_number(y, s):
    return tf_normal(y, tf.math.log(s), np.float64(1.0))


def one_element(y, s):
    return tf.concat([not_a_number(y[:1], s), tf_normal(y[1:], s, np.float64(1.0))], axis=0)


def asserted(y, s):
    with tf.control_dependencies([tf.debugging.assert_positive(s)]):
        return not_a_number(y, tf.identity(s))


def checked(y, s):
    return tf.debugging.check_numerics(not_a_number(y, s), "logp")


def cholesky(y, s):
    root = tf.linalg.cholesky(tf.reshape(tf.stack([s, 0 * s, 0 * s, s]), [2, 2]))
    return tf_normal(y, 0.0, tf.linalg.diag_part(root))


def in_a_loop(y, s):
    total = tf.while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, x + tf.math.log(s)), (0, 0.0 * s)
    )
    return tf_normal(y, total[1], np.float64(1.0))


def joint(y, s):
    return tf.reduce_sum(not_a_number(y, s))


def rows(y, s):
    return tf.reduce_sum(not_a_number(tf.reshape(y, [-1, 1]), s), axis=-1)


SOURCES = [not_a_number, one_element, asserted, checked, cholesky, in_a_loop, joint, rows]


@pytest.fixture(params=SOURCES, ids=[source.__name__ for source in SOURCES])
def source(request):
    failures.take()
    return request.param


def model_of(source, data=DATA, **kwargs):
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        pm.TFDensity("y", source, {"s": s}, feed_dict={"y": data}, **kwargs)
    return model


def of_single_draws(model):
    logp = model.y.logp_elemwise
    return np.array([[np.atleast_1d(logp({"s": s})) for s in chain] for chain in DRAWS])


@pytest.mark.parametrize("kind", ["array", "pm.Data"])
def test_many_draws_have_the_numbers_of_single_ones(source, kind):
    with pm.Model():
        data = DATA if kind == "array" else pm.Data("data", DATA)
        s = pm.Normal("s", 1.0, 1.0)
        pm.TFDensity("y", source, {"s": s}, feed_dict={"y": data})
        model = pm.modelcontext(None)
    expected = of_single_draws(model)
    assert not np.isnan(expected).any()
    assert (expected[DRAWS < 0].min(axis=-1) == -np.inf).all()
    failures.take()
    np.testing.assert_allclose(log_likelihood(model, {"s": DRAWS})["y"], expected)
    (text,) = failures.take()
    assert text.startswith("A TFDensity failed in 2 evaluations") and "s = -2: " in text
    linked = UnconstrainedModel(model).log_likelihood(DRAWS[..., None], ["y"])["y"]
    np.testing.assert_allclose(linked.reshape(expected.shape), expected)
    assert len(failures.take()) == 1


def test_errors_raise_names_the_draw_and_its_values(source):
    model = model_of(source, errors="raise")
    with pytest.raises(EvaluationError, match="^draw 1 of chain 0: TensorFlow failed at s = -2: "):
        log_likelihood(model, {"s": DRAWS})
    with pytest.raises(EvaluationError, match="^TensorFlow failed at s = -"):
        UnconstrainedModel(model).log_likelihood(DRAWS[..., None], ["y"])
    assert failures.take() == []


def test_inference_data_of_pymc3_and_ours_has_minus_infinity():
    with model_of(one_element) as model:
        s = model["s"]
        pm.Normal("z", s, 1.0, observed=DATA)
        pm.TFDensity("w", asserted, {"s": s}, feed_dict={"y": DATA})
        trace = [{"s": s} for s in DRAWS[0]]
        strace = pm.backends.NDArray(vars=model.unobserved_RVs)
        strace.setup(len(trace), 0)
        for point in trace:
            strace.record(point)
        strace.close()
        multi = pm.backends.base.MultiTrace([strace])
        theirs = az.from_pymc3(multi, model=model).log_likelihood
    ours = UnconstrainedModel(model).log_likelihood(DRAWS[:1, :, None], ["y", "z", "w"])
    failures.take()
    assert theirs["y"][0, 1, 0] == -np.inf and np.isfinite(theirs["y"][0, 1, 1])
    assert (theirs["w"][0, 1] == -np.inf).all()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name])


def test_mixture_of_densities_goes_on_with_the_component_that_is_a_number():
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        parts = [
            pm.TFDensity.dist(not_a_number, {"s": s}, value="y"),
            pm.Normal.dist(0.0, 1.0),
        ]
        pm.Mixture("y", np.array([0.5, 0.5]), parts, observed=DATA)
    expected = of_single_draws(model)
    assert np.isfinite(expected).all()
    got = UnconstrainedModel(model).log_likelihood(DRAWS[..., None], ["y"])["y"]
    np.testing.assert_allclose(got, expected)
    failures.take()


def test_not_a_number_of_a_builtin_stays():
    with pm.Model() as model:
        s = pm.Normal("s", 1.0, 1.0)
        pm.DensityDist("y", lambda value: value - pm.math.log(s), observed=DATA)
    got = UnconstrainedModel(model).log_likelihood(DRAWS[..., None], ["y"])["y"]
    np.testing.assert_array_equal(np.isnan(got), np.stack([DRAWS < 0] * 2, axis=-1))


def test_evaluate_keeps_nan_and_names_the_draw_that_fails():
    with tf.Graph().as_default():
        s = v1.placeholder(tf.float64, [], name="s")
        logarithm = tf.math.log(s)
        failing = tf.debugging.check_numerics(tf.math.log(s), "the logarithm")
    draws = az.from_dict(posterior={"s": DRAWS})
    np.testing.assert_allclose(
        pymc3_tf.evaluate(logarithm, draws, {s: "s"}), np.log(np.where(DRAWS > 0, DRAWS, np.nan))
    )
    with pytest.raises(EvaluationError, match="^draw 1 of chain 0: .*at s = -2: .*the logarithm"):
        pymc3_tf.evaluate(failing, draws, {s: "s"})
    good = az.from_dict(posterior={"s": abs(DRAWS)})
    np.testing.assert_allclose(pymc3_tf.evaluate(failing, good, {s: "s"}), np.log(abs(DRAWS)))


def test_many_draws_take_few_calls_but_for_those_that_fail(calls):
    model = model_of(asserted)
    draws = np.tile(np.abs(DRAWS), (1, 500))
    before = calls()
    log_likelihood(model, {"s": draws})
    assert before.number <= 5
    draws[1, 700] = -1.0
    assert (log_likelihood(model, {"s": draws})["y"][1, 700] == -np.inf).all()
    failures.take()
