"""What to cite follows from what a model uses."""

import re

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import pymc3_tf

ALWAYS = ["pymc3tf", "salvatier2016", "abadi2016", "hoffman2014", "kumar2019"]


def keys(text):
    return re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)


def test_package_and_libraries_are_cited_always():
    text = pymc3_tf.citations()
    assert keys(text) == ALWAYS
    assert f"{{Version {pymc3_tf.__version__}}}" in text
    with pm.Model() as model:
        pm.TFDensity("x", lambda x: -0.5 * tf.square(x))
    assert keys(pymc3_tf.citations(model)) == ALWAYS


def unit_normal():
    return tfp.distributions.Normal(np.float64(0), np.float64(1))


def mixture():
    parts = [pm.TFDensity.dist(distribution=unit_normal(), transform=None) for _ in range(2)]
    pm.Mixture("y", w=[0.3, 0.7], comp_dists=parts, observed=[1.0])


@pytest.mark.parametrize(
    "declare",
    [
        lambda: pm.TFDensity("x", distribution=unit_normal()),
        lambda: pm.TFDensity("x", distribution=unit_normal, observed=[1.0]),
        mixture,
    ],
    ids=["free", "observed", "parts of a mixture"],
)
def test_probability_is_cited_where_a_distribution_is_of_it(declare):
    with pm.Model() as model:
        declare()
        assert keys(pymc3_tf.citations()) == [*ALWAYS, "dillon2017"]
    assert keys(pymc3_tf.citations(model)) == [*ALWAYS, "dillon2017"]


def test_probability_is_cited_for_a_free_variable_that_is_transformed():
    with pm.Model() as model:
        pm.TFDensity("x", distribution=tfp.distributions.Exponential(np.float64(1)))
    assert "x_log__" in model.named_vars or "x_softplus__" in model.named_vars
    assert "dillon2017" in keys(pymc3_tf.citations(model))


def test_probability_is_cited_once_its_sampler_has_run():
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0)
        assert keys(pymc3_tf.citations()) == ALWAYS
        pymc3_tf.sample(5, tune=5, chains=1, progressbar=False, compute_convergence_checks=False)
    assert keys(pymc3_tf.citations(model)) == [*ALWAYS, "dillon2017"]


def test_anything_but_a_model_is_refused():
    with pytest.raises(TypeError, match="model is str. Give a pm.Model, or nothing inside of"):
        pymc3_tf.citations("model")
