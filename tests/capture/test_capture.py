"""What is kept of a captured source, and which sources are refused."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from source_densities import DENSITIES, expected, save_module

import pymc3_tf

v1 = tf.compat.v1


def test_priors_of_keras_weights_reach_predictive_draws():
    layer = tf.keras.layers.Dense(1, use_bias=False, dtype="float64")
    layer.build([None, 1])
    x = np.array([[1.0], [-2.0], [3.0]])

    def mean(x):
        return layer(x)[:, 0]

    with pm.Model() as model:
        w = pm.Normal("w", 5.0, 2.0, shape=(1, 1))
        pm.TFDensity(
            "y",
            lambda y, x: -0.5 * tf.square(y - mean(x)),
            [(layer.kernel, w)],
            feed_dict={"x": x, "y": np.zeros(3)},
            random=lambda x, size, seed: (
                mean(x) + 0.01 * tf.random.stateless_normal(size, seed, dtype=tf.float64)
            ),
        )
        draws = pm.sample_prior_predictive(200, random_seed=1)
    np.testing.assert_allclose(draws["y"], draws["w"][:, 0] * x[:, 0], atol=0.06)
    assert model["y"].distribution.program.frozen == ()


def test_summary_lists_what_was_captured():
    offset = tf.Variable(np.ones((2, 3), np.float32), name="offset")
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        x = pm.Data("x", np.zeros(5))
        density = pm.TFDensity(
            "y",
            lambda y, mu, x: -tf.square(y - mu - x) - tf.cast(offset[0, 0], tf.float64),
            {"mu": mu},
            feed_dict={"x": x, "y": np.arange(5.0)},
        ).distribution
    op = pymc3_tf.TensorFlowOp(
        lambda a, t: a * t, [tf.TensorSpec([], tf.float64)], {"t": np.ones(7)}
    )
    lines = [line.split() for line in density.program.summary().splitlines()]
    assert ["inputs", "y:", "float64", "(5,)"] in lines
    assert ["mu:", "float64", "()"] in lines
    assert ["x:", "float64", "(?,)"] in lines
    assert ["outputs", "logp:", "float64", "(?,)"] in lines or [
        "outputs", "logp:", "float64", "(5,)",
    ] in lines  # fmt: skip
    assert ["frozen", "offset:", "float32", "(2,", "3),", "24", "bytes"] in lines
    assert ["feeds", "t:", "float64", "(7,),", "56", "bytes"] in [
        line.split() for line in op.program.summary().splitlines()
    ]
    for text in ("mu: float64 ()", "offset: float32 (2, 3), 24 bytes", "with the gradient"):
        assert text in repr(density.program)


def test_saved_function_shows_its_arguments(tmp_path):
    path = save_module(DENSITIES[0], tmp_path)
    assert repr(pymc3_tf.load(path, "log_density")) == "SavedFunction(log_density(y, p, q))"


# -- errors -------------------------------------------------------------------------------------


def declare(*args, **kwargs):
    with pm.Model():
        return pm.TFDensity("y", *args, **kwargs)


def test_saved_model_that_is_not_there(tmp_path):
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="has no SavedModel.*directory"):
        pymc3_tf.load(tmp_path)


def test_signature_that_the_saved_model_has_not(tmp_path):
    path = save_module(DENSITIES[0], tmp_path)
    with pytest.raises(
        pymc3_tf.exceptions.DeclarationError,
        match="signature is 'logp'.*'serving_default', 'log_density', 'of_data'",
    ):
        pymc3_tf.load(path, "logp")


def test_saved_model_in_graph_mode(tmp_path):
    path = save_module(DENSITIES[0], tmp_path)
    with tf.Graph().as_default():
        with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="needs eager execution"):
            pymc3_tf.load(path)


def test_function_whose_variables_are_gone(tmp_path):
    path = save_module(DENSITIES[0], tmp_path)
    function = tf.saved_model.load(path).of_data
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="variables which have been del"):
        declare(function, {"p": 0.1, "q": 1.0})


def test_arguments_without_an_order_that_leave_the_value_open(tmp_path):
    path = save_module(DENSITIES[0], tmp_path)
    with pytest.raises(pymc3_tf.exceptions.UnfedPlaceholderError, match="'y'.*'p'|'p'.*'y'"):
        declare(pymc3_tf.load(path), {"q": 1.0})
    # One that is left open is the value.
    variable = declare(pymc3_tf.load(path), {"p": 0.4, "q": 0.8}, shape=6)
    point = {"y": DENSITIES[0].y}
    np.testing.assert_allclose(variable.logp(point), expected(DENSITIES[0])[0], rtol=1e-12)


def test_several_outputs_are_no_log_density():
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match=r"logp\['a'\], logp\['b'\]"):
        declare(lambda y: {"b": -y, "a": y}, observed=[1.0])


def test_dictionary_of_one_output_is_a_log_density():
    with pm.Model():
        variable = pm.TFDensity("y", lambda y: {"log_density": -2.0 * y}, observed=[1.0])
    assert variable.logp({}) == -2.0


@pytest.mark.parametrize("params", [5, "ab", [1, 2], np.zeros((2, 2))])
def test_params_that_are_no_dict(params):
    with pytest.raises(pymc3_tf.exceptions.DeclarationTypeError, match="params is a .* list of pa"):
        declare(lambda y, m: -y, params)


def test_variable_that_the_function_does_not_use():
    unused = tf.Variable(1.0, name="unused")
    with pytest.raises(pymc3_tf.exceptions.DeclarationError, match="does not depend on 'unused'"):
        declare(lambda y: -y, [(unused, 1.0)], observed=[1.0])


def test_prior_that_does_not_fit_the_weights():
    layer = tf.keras.layers.Dense(2, dtype="float64")
    layer.build([None, 3])
    one = tf.ones([1, 3], tf.float64)
    with pm.Model():
        w = pm.Normal("w", 0.0, 1.0, shape=(2, 3))
        with pytest.raises(
            pymc3_tf.exceptions.DeclarationError, match=r"kernel' has shape \(3, 2\)"
        ):
            pm.TFDensity("y", lambda y: y - layer(one), [(layer.kernel, w)], observed=[1.0])


def test_feed_of_a_function_has_its_arguments():
    weight = tf.Variable(1.0, dtype=tf.float64, name="weight")
    with pm.Model():
        m = pm.Normal("m", 0.0, 1.0)
        plain = pm.TFDensity("y", lambda y, m: -y * m, {"m": m}, feed_dict={"y": [1.0]})
        bound = pm.TFDensity("z", lambda z: -z * weight, [(weight, m)], observed=[1.0])
    assert plain.distribution.feed_dict({"m": 3.0}) == {"m": 3.0, "y": [1.0]}
    with pytest.raises(ValueError, match="'weight' belongs to no graph.*variable.assign"):
        bound.distribution.feed_dict({"m": 3.0})
