"""What can be given stands in the signatures, and anything else is an error that says so."""

import copy
import inspect
import pickle
import pydoc

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from support import assert_same_model, tf_normal

from pymc3_tf import TensorFlowOp, TFDensity
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError

UNNAMED = (
    "logp params value feed_dict distribution random session jit_compile device errors "
    "check_gradient shape transform testval initval"
).split()
NAMED = ["name", *UNNAMED, "dims", "observed", "total_size"]
OP = "outputs inputs feed_dict session jit_compile device check_gradient".split()
DATA = np.array([0.3, -1.2, 2.5])


def normal(value, mu):
    return tf_normal(value, mu, np.float64(2.0))


@pytest.mark.parametrize(
    "what, names", [(TFDensity, NAMED), (TFDensity.dist, UNNAMED), (TensorFlowOp, OP)]
)
def test_signature_has_every_argument_by_name(what, names):
    parameters = inspect.signature(what).parameters
    assert sorted(parameters) == sorted(names)
    kinds = {p.kind for p in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("what, names", [(TFDensity, NAMED), (TensorFlowOp, OP)])
def test_every_argument_is_documented(what, names):
    text = pydoc.render_doc(what)
    described = what.__doc__.split("    Raises")[0]
    for name in names:
        assert f"{name}:" in text.replace("\x08", "")
        assert any(
            line.startswith("    ") and name in line.split(":")[0].replace(",", " ").split()
            for line in described.splitlines()
        ), name


def test_close_name_of_an_argument_is_suggested():
    with pm.Model(), pytest.raises(DeclarationTypeError, match="'obsrved'.*mean 'observed'"):
        pm.TFDensity("y", normal, {"mu": 0.0}, obsrved=DATA)
    with pytest.raises(DeclarationTypeError, match="TFDensity.dist has no argument 'tranform'"):
        TFDensity.dist(normal, {"mu": 0.0}, tranform=None)
    with pytest.raises(DeclarationTypeError, match="TensorFlowOp has no argument 'device_name'"):
        TensorFlowOp(normal, [], device_name="/CPU:0")


def test_parameter_by_its_name_is_sent_to_params():
    with pm.Model(), pytest.raises(
        DeclarationTypeError, match="no argument 'mu'. A parameter.*params={'mu': ...}. It has: na"
    ):
        pm.TFDensity("y", normal, mu=0.0)


def test_data_for_an_unnamed_density_are_refused():
    with pytest.raises(DeclarationTypeError, match="TFDensity.dist has no argument 'observed'"):
        TFDensity.dist(normal, {"mu": 0.0}, observed=DATA)


def test_value_that_is_a_parameter_too():
    with pm.Model(), pytest.raises(DeclarationError, match="'mu', and params has it too. Leave it"):
        pm.TFDensity("y", normal, {"mu": 0.0}, value="mu", feed_dict={"value": DATA})


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy, copy.copy])
def test_copies_of_every_kind_of_declaration_are_the_builtin(copied):
    """A free variable, one that depends on it, a bound one, and data."""

    def build(ours):
        def declare(name, mu, **kwargs):
            if ours:
                return pm.TFDensity(name, normal, {"mu": mu}, **kwargs)
            return pm.Normal(name, mu, 2.0, **kwargs)

        with pm.Model() as model:
            mu = declare("mu", 0.0, shape=3, testval=np.full(3, 0.5))
            declare("x", mu, shape=3, testval=np.full(3, 0.5))
            if ours:
                pm.Bound(TFDensity, lower=0.0)("b", normal, {"mu": mu[0]}, testval=1.0)
            else:
                pm.Bound(pm.Normal, lower=0.0)("b", mu[0], 2.0, testval=1.0)
            declare("y", mu, observed=DATA)
        return model

    ours, theirs = build(True), build(False)
    assert_same_model(copied(ours), theirs, offsets=(0.0, 0.1))
    assert str(copied(ours.y.distribution)) == str(ours.y.distribution)


def test_densities_of_a_nested_model_are_the_builtin():
    def build(ours):
        with pm.Model() as model:
            mu = pm.Normal("mu", 0.0, 1.0)
            with pm.Model("inner"):
                if ours:
                    x = pm.TFDensity("x", normal, {"mu": mu})
                    pm.TFDensity("y", normal, {"mu": x}, observed=DATA)
                else:
                    pm.Normal("y", pm.Normal("x", mu, 2.0), 2.0, observed=DATA)
        return model

    ours, theirs = build(True), build(False)
    assert [v.name for v in ours.basic_RVs] == ["mu", "inner_x", "inner_y"]
    assert ours["inner_y"].distribution.feed_dict({"mu": 1.0, "inner_x": 2.0})["mu"] == 2.0
    assert_same_model(ours, theirs)


def by_hand(function):
    """Give a normal density the gradient that it has, by ``tf.custom_gradient``."""

    @tf.custom_gradient
    def logp(value, mu, scale=2.0):
        scale = tf.cast(scale, tf.float64)
        slope = (value - mu) / scale**2
        return tf_normal(value, mu, scale), lambda up: (
            -up * slope,
            tf.reduce_sum(up * slope),
        )

    return logp


@pytest.mark.parametrize("decorate", [by_hand, tf.recompute_grad], ids=["custom", "recomputed"])
@pytest.mark.parametrize("eager", [True, False])
def test_function_with_a_custom_gradient_is_called_by_position(decorate, eager):
    def build():
        mu = pm.Normal("mu", 0.0, 1.0)
        # In another order than that of the arguments.
        pm.TFDensity("y", decorate(normal), feed_dict={"value": DATA}, params={"mu": mu})

    with pm.Model() as ours:
        if eager:
            build()
        else:
            with tf.Graph().as_default():
                build()
    with pm.Model() as theirs:
        pm.Normal("y", pm.Normal("mu", 0.0, 1.0), 2.0, observed=DATA)
    assert_same_model(ours, theirs)


def test_errors_of_a_sampler_have_the_names_of_its_arguments():
    def random(mu, size, seed):
        return tf.matmul(mu, mu)

    with pm.Model(), pytest.raises(DeclarationError, match=r"traced with \(mu: float64 \(\), size"):
        pm.TFDensity("y", normal, {"mu": pm.Normal("mu")}, random=random)
    with tf.Graph().as_default():
        x, m = (tf.compat.v1.placeholder(tf.float64, [], name) for name in "xm")
        with pm.Model(), pytest.raises(DeclarationError, match=r"with \(mu: float64 \(\), size"):
            pm.TFDensity("y", normal(x, m), {m: pm.Normal("mu")}, random=random)


def test_sampler_gets_what_it_takes_and_the_shape_as_size():
    """Whatever else the density has, and by whatever names."""

    def logp(value, mu, size):
        return tf_normal(value, mu, size)

    def random(size, seed, mu):
        return mu + 1e-9 * tf.random.stateless_normal(size, seed, dtype=tf.float64)

    def random_of_any(size, seed, **given):
        assert sorted(given) == ["mu"]
        return random(size, seed, **given)

    for function in (random, random_of_any):
        with pm.Model() as model:
            pm.TFDensity("y", logp, {"size": 3.0, "mu": 7.0}, shape=4, random=function)
        draws = pickled(model).y.distribution.random(size=5)
        np.testing.assert_allclose(draws, np.full((5, 4), 7.0), rtol=1e-6)
