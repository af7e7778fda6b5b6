"""Theano ops in Python, without a translation: the compiled program calls them."""

import logging
import re

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from scipy import stats
from theano.sandbox.rng_mrg import MRG_RandomStream

import pymc3_tf
from pymc3_tf.linker import link

DATA = np.random.RandomState(0).normal(1.0, 1.0, 25)


class NormalSlope(tt.Op):
    """The gradient of `NormalLogLike`."""

    __props__ = ()
    itypes = [tt.dvector]
    otypes = [tt.dvector]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.array([np.sum(DATA - inputs[0][0]), -inputs[0][1]])


class NormalLogLike(tt.Op):
    """Log likelihood of a mean, and the log density of another, standard normal, number."""

    __props__ = ()
    itypes = [tt.dvector]
    otypes = [tt.dscalar]
    running = 0
    together = False

    def perform(self, node, inputs, outputs):
        NormalLogLike.running += 1
        NormalLogLike.together |= NormalLogLike.running > 1
        (theta,) = inputs
        value = -0.5 * np.sum((DATA - theta[0]) ** 2) - 0.5 * theta[1] ** 2
        outputs[0][0] = np.array(value)
        NormalLogLike.running -= 1

    def grad(self, inputs, upstream):
        return [upstream[0] * NormalSlope()(inputs[0])]


def normal_model():
    with pm.Model() as model:
        mean, other = pm.Normal("mean", 0.0, 1.0), pm.Flat("other")
        pm.Potential("likelihood", NormalLogLike()(tt.stack([mean, other])))
        pm.Deterministic("twice", 2 * NormalLogLike()(tt.stack([mean, other])))
    return model


@pytest.mark.parametrize("how", [{"cores": 2}, {"chain_method": "vectorized"}])
def test_posterior_is_the_closed_form(how, caplog):
    caplog.set_level(logging.INFO, "pymc3")
    with normal_model():
        for seed in (1, 2):
            options = dict(chains=2, random_seed=seed, progressbar=False)
            idata = pymc3_tf.sample(1000, tune=500, **how, **options)
            draws = idata.posterior["mean"].values
            exact = stats.norm(DATA.sum() / 26, 26**-0.5)
            assert stats.kstest(draws[:, ::5].ravel(), exact.cdf).pvalue > 1e-3
            other = idata.posterior["other"].values
            assert stats.kstest(other[:, ::5].ravel(), "norm").pvalue > 1e-3
            squares = np.sum((DATA - draws[..., None]) ** 2, -1) + other**2
            np.testing.assert_allclose(idata.posterior["twice"], -squares, rtol=1e-12)
    assert not NormalLogLike.together
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("XLA")]
    assert re.match(r"XLA cannot compile NormalLogLike \(\d+ .*, NormalSlope \(\d+ micro", line)


def test_gradient_is_the_ops_own():
    model = normal_model()
    linked = link([model.logpt], model.vars, python=True)
    xs = [tf.constant(x, tf.float64) for x in (0.7, -0.3)]
    with tf.GradientTape() as tape:
        tape.watch(xs)
        (value,) = linked(*xs)
    found = tape.gradient(value, xs)
    np.testing.assert_allclose(value, model.logp({"mean": 0.7, "other": -0.3}), rtol=1e-12)
    np.testing.assert_allclose(found, [np.sum(DATA - 0.7) - 0.7, 0.3], rtol=1e-12)


def test_only_who_asks_for_it_gets_python():
    model = normal_model()
    with pytest.raises(NotImplementedError, match="NormalLogLike.*has no translation"):
        link([model.logpt], model.vars)(*[tf.constant(0.0, tf.float64)] * 2)


class Halves(tt.Op):
    """The square of a number as the sum of a vector, whose length changes beyond one."""

    __props__ = ()
    itypes = [tt.dscalar]
    otypes = [tt.dvector]

    def perform(self, node, inputs, outputs):
        n = 2 if inputs[0] < 1 else 3
        outputs[0][0] = np.full(n, inputs[0] ** 2 / n)

    def grad(self, inputs, upstream):
        return [upstream[0].sum() * inputs[0]]


def test_changing_shape_is_a_divergence_that_is_named(caplog):
    caplog.set_level(logging.WARNING, "pymc3")
    with pm.Model():
        x = pm.Flat("x", testval=0.0)
        pm.Potential("square", -0.5 * Halves()(x).sum())
        idata = pymc3_tf.sample(100, tune=100, chains=1, random_seed=1, progressbar=False)
    assert (idata.posterior.x.values < 1).all() and idata.sample_stats.diverging.values.any()
    (text,) = [r.getMessage() for r in caplog.records if "was taken for -inf" in r.getMessage()]
    assert "the Theano op Halves returned an array of shape (3,). It has to be (2,)" in text


class Simulator(NormalLogLike):
    """It works when the model is declared."""

    works = True

    def perform(self, node, inputs, outputs):
        if not self.works:
            raise RuntimeError("no licence for the simulator")
        outputs[0][0] = np.array(0.0)


def test_what_python_raises_where_a_chain_starts_names_the_variable():
    with pm.Model():
        op = Simulator()
        pm.Potential("simulated", op(pm.Normal("x", shape=2)))
        op.works = False
        text = "'simulated'.*the Theano op Simulator failed with RuntimeError: no licence"
        with pytest.raises(pymc3_tf.exceptions.EvaluationError, match=text):
            pymc3_tf.sample(10, chains=1, progressbar=False)


def test_random_ops_stay_refused():
    with pm.Model():
        x = pm.Normal("x")
        pm.Potential("noise", x * MRG_RandomStream(1).uniform((1,))[0])
        with pytest.raises(NotImplementedError, match="draws random numbers at each evaluation"):
            pymc3_tf.sample(10, chains=1, progressbar=False)


def test_op_inside_a_scan_is_called():
    with pm.Model():
        x = pm.Normal("x", shape=2)
        total, _ = theano.scan(
            lambda previous: previous + NormalLogLike()(x) / 2,
            outputs_info=[tt.constant(np.zeros(()))],
            n_steps=2,
        )
        pm.Potential("likelihood", total[-1])
        idata = pymc3_tf.sample(1000, tune=500, chains=2, random_seed=1, progressbar=False)
    exact = stats.norm(DATA.sum() / 26, 26**-0.5)
    assert stats.kstest(idata.posterior.x.values[:, ::5, 0].ravel(), exact.cdf).pvalue > 1e-3


class HiddenData(NormalLogLike):
    """An op whose gradient uses data that are no input of it."""

    data = theano.shared(DATA, "hidden data")

    def grad(self, inputs, upstream):
        slope = tt.sum(self.data - inputs[0][0])
        return [upstream[0] * tt.stack([slope, -inputs[0][1]])]


def test_data_that_the_gradient_hides_are_refused():
    with pm.Model():
        theta = pm.Normal("theta", 0.0, 1.0, shape=2)
        pm.Potential("likelihood", HiddenData()(theta))
        with pytest.raises(NotImplementedError, match="uses hidden data.*an input of the op"):
            pymc3_tf.sample(10, tune=10, chains=1, progressbar=False)


@pytest.fixture
def control_flow_of_version_1():
    enabled = tf.compat.v1.control_flow_v2_enabled()
    tf.compat.v1.disable_control_flow_v2()
    yield
    if enabled:
        tf.compat.v1.enable_control_flow_v2()


def test_loop_of_version_1_has_its_posterior(control_flow_of_version_1):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), pm.Model():
        x = v1.placeholder(tf.float64, [])
        # XLA knows no way from a number to a text and back.
        text = tf.strings.as_string(tf.stop_gradient(x), precision=17)
        same = tf.strings.to_number(text, tf.float64)
        _, z = v1.while_loop(
            lambda i, z: i < 5, lambda i, z: (i + 1, z / 2 + 0 * same), (tf.constant(0), x)
        )
        assert any(op.type == "LoopCond" for op in z.graph.get_operations())
        # A standard normal prior, and as much again.
        pm.TFDensity("y", -0.5 * (32 * z) ** 2, {x: pm.Normal("x", 0.0, 1.0)})
        idata = pymc3_tf.sample(1000, tune=500, chains=2, random_seed=1, progressbar=False)
    draws = idata.posterior["x"].values[:, ::5].ravel()
    assert stats.kstest(draws, stats.norm(0, 0.5**0.5).cdf).pvalue > 1e-3
