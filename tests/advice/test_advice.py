"""An error in a user's function of tensors names its line, and says what to write instead."""

import math
import re

import numpy as np
import pandas as pd
import pymc3 as pm
import pytest
import scipy.interpolate
import scipy.linalg
import scipy.special
import scipy.stats
import tensorflow as tf
import theano
import theano.tensor as tt

from pymc3_tf import TensorFlowOp
from pymc3_tf.advice import counterparts
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, GraphSizeError

Y = np.array([0.3, 0.5])
SINGLE = np.ones(2, np.float32)
SERIES = pd.Series(Y)
SPLINE = scipy.interpolate.interp1d([-9.0, 9.0], [0.0, 1.0])


def assign(y, mu):
    z = tf.zeros(2, tf.float64)
    z[0] = mu
    return z * y


def assign_to_array(y, mu):
    z = np.zeros(2)
    z[0] = mu
    return z * y


def branch(y, mu):
    if mu > 0:
        return y * mu
    return y


def of_series(y, mu):
    return SERIES * y * mu


def over_lines(y, mu):
    constant = 0.5 * np.log(2 * np.pi)
    return (
        -0.5 * tf.square(y - mu)
        - np.sqrt(
            mu  # the call is on another line
        )
        - constant
    )


@tf.function
def converted(y, mu):
    if mu > 0:
        z = y * np.exp(mu)
    else:
        z = y
    return z


@tf.function
def converted_dtypes(y, mu):
    if mu > 0:
        z = y * mu * tf.constant(1.0)
    else:
        z = y
    return z


def declared(function, **options):
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", function, {"mu": mu}, observed=Y, **options)


CASES = [
    (lambda y, mu: (y - np.exp(mu)) ** 2, "np.exp is of NumPy.*Write tf.exp instead"),
    (lambda y, mu: np.log(2.0) + np.sum(y * mu), "Write tf.reduce_sum instead"),
    (lambda y, mu: np.where(y > 0, y, mu), "Write tf.where"),
    (lambda y, mu: y * np.linalg.det(tf.eye(2) * mu), "Write tf.linalg.det"),
    (lambda y, mu: y * np.array([mu, mu]), "Write tf.stack"),
    (lambda y, mu: y * Y.dot(y) * mu, "Y.dot is of NumPy.*tf.tensordot"),
    (lambda y, mu: y * np.random.normal(mu), "make them a variable of the model"),
    (lambda y, mu: scipy.special.gammaln(y * mu), "is of SciPy.*Write tf.math.lgamma"),
    (lambda y, mu: scipy.special.expit(mu) * y, "is of SciPy.*tf.sigmoid"),
    (lambda y, mu: scipy.stats.norm.logpdf(y, mu, 1.0), "SciPy.*tfp.distributions"),
    (lambda y, mu: scipy.linalg.cholesky(y * mu), "Write tf.linalg.cholesky"),
    (lambda y, mu: y * SPLINE(mu), "SPLINE is of SciPy.*tfp.math.interp"),
    (lambda y, mu: y - math.exp(mu), "math.exp is of Python's math.*Write tf.exp"),
    (lambda y, mu: y - tt.exp(mu), "tt.exp is of Theano.*Write tf.exp"),
    (lambda y, mu: y - tt.dot(y, mu), "is of Theano.*Write tf.tensordot"),
    (lambda y, mu: y - pm.math.invlogit(mu), "pm.math.invlogit.*Write tf.sigmoid"),
    (lambda y, mu: pm.Normal.dist(mu, 1.0).logp(y), "is of PyMC3.*tfp.distributions"),
    (of_series, r"'SERIES' is an object of pandas.*np.asarray\(SERIES, float"),
    (lambda y, mu: y - mu.numpy(), "has no .numpy.*tf.exp"),
    (lambda y, mu: y - mu.item(), "has no .item.*tf.exp"),
    (lambda y, mu: y - mu.eval(), "has no value here.*tf.exp"),
    (lambda y, mu: y.mean() * mu, "has no .mean.*Write tf.reduce_mean"),
    (lambda y, mu: y.astype(float) * mu, r"has no .astype.*Write tf.cast\(x, dtype\)"),
    (lambda y, mu: y.T * mu, r"has no .T.*Write tf.transpose\(x\)"),
    (lambda y, mu: y.sideways * mu, "has no .sideways.*tf.math"),
    (lambda y, mu: y - float(mu), "tf.cast.x, tf.float64."),
    (lambda y, mu: y - int(mu), "tf.cast.x, tf.int32."),
    (lambda y, mu: y * complex(mu), "tf.c(ast|omplex)"),
    (lambda y, mu: y * round(mu), "tf.round"),
    (lambda y, mu: y * mu * len(y), r"x.shape\[0\]"),
    (lambda y, mu: y * (mu if 0 < mu < 1 else 0.0), "tf.where.*tf.logical_and"),
    (lambda y, mu: y * max(mu, 0.0), "tf.minimum for min"),
    (lambda y, mu: y * sum(mu), "tf.reduce_sum"),
    (lambda y, mu: y * mu * sum(y[i] for i in range(mu)), r"tf.range\(n\)"),
    (lambda y, mu: (y * mu)[np.array([0, 1])], "tf.gather"),
    (lambda y, mu: y * Y[tf.cast(mu, tf.int32)], r"tf.gather"),
    (lambda y, mu: y * mu * len(f"{mu:.2f}"), "tf.print"),
    (lambda y, mu: y @ y * mu, "tf.linalg.matvec"),
    (lambda y, mu: tf.constant(y) * mu * tf.constant(mu), "tf.identity|takes no tensor"),
    (assign, "tf.tensor_scatter_nd_update"),
    (assign_to_array, "tf.tensor_scatter_nd_update"),
    (branch, "tf.cond"),
    (over_lines, "np.sqrt is of NumPy"),
    (converted, "np.exp is of NumPy"),
]


@pytest.mark.parametrize("graph", [False, True])
def test_advice_and_the_line_of_the_function(graph):
    for function, text in CASES:
        with pytest.raises(DeclarationError) as caught:
            if graph:
                with tf.Graph().as_default():
                    declared(function)
            else:
                declared(function)
        said = str(caught.value)
        assert re.search(text, said), said
        assert re.search(r"TFDensity 'y': logp could not be traced with .*test_advice.py:\d+", said)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "function, source",
    [
        (assign, "z[0] = mu"),
        (branch, "if mu > 0:"),
        (over_lines, "- np.sqrt("),
        (converted, "z = y * np.exp(mu)"),
        (converted_dtypes, "z = y * mu * tf.constant(1.0)"),
    ],
)
def test_the_line_is_the_one_that_failed(function, source):
    with pytest.raises(DeclarationError, match=re.escape(f"`{source}`")):
        declared(function)


def test_a_harmless_call_on_the_same_line_is_not_blamed():
    with pytest.raises(DeclarationError) as caught:
        declared(lambda y, mu: y * np.exp(mu) - 0.5 * np.log(2 * np.pi))
    assert "np.exp is" in str(caught.value) and "np.log is" not in str(caught.value)


def test_a_function_without_a_source():
    names = {"np": np}
    exec("def logp(y, mu):\n    return y * np.exp(mu)", names)
    with pytest.raises(DeclarationError, match="<string>:2, in logp. np.exp.*Write tf.exp instead"):
        declared(names["logp"])


class Holder:
    def __init__(self, variable):
        self.variable, self.several = variable, [variable]

    def __call__(self, y, mu):
        return y * mu * self.variable

    def of_list(self, y, mu):
        return y * mu * tf.reduce_sum(self.several)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: lambda y, mu: y * mu * tf.exp(model["s"]),
        lambda model: lambda y, mu: model.s * mu * y,
        lambda model: lambda y, mu: y - mu * model["s"].eval(),
        lambda model: tf.function(lambda y, mu: y * mu * tf.exp(model["s"])),
        lambda model: Holder(model["s"]),
        lambda model: Holder(model["s"]).of_list,
    ],
)
def test_a_variable_of_the_model_that_is_closed_over(make):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Gamma("s", 1.0, 1.0)
        with pytest.raises(DeclarationError, match=r"'s' is a variable of PyMC3.*params=\{'s': "):
            pm.TFDensity("y", make(model), {"mu": mu}, observed=Y)


def test_all_kinds_of_variables_that_are_closed_over():
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        variables = {
            "data": pm.Data("data", Y),
            "twice": pm.Deterministic("twice", 2 * mu),
            "seen": pm.Normal("seen", mu, 1.0, observed=Y),
            "x": mu + 1.0,
        }
        for name, variable in variables.items():
            for function in uses_of(variable):
                with pytest.raises(DeclarationError, match=f"'{name}' is a var.*into params"):
                    pm.TFDensity("y", function, {"mu": mu}, observed=Y)
            with pytest.raises(DeclarationTypeError, match="not a tensor. .*into params"):
                pm.TFDensity("y", returning(variable), {"mu": mu}, observed=Y)


def uses_of(x):
    return [lambda y, mu: y * mu + x, lambda y, mu: y * mu - tf.exp(x)]


def returning(x):
    return lambda y, mu: x


def test_ops_and_samplers_have_the_same_advice():
    with pytest.raises(DeclarationError, match="outputs could not be traced.*Write tf.exp"):
        TensorFlowOp(lambda x: {"a": np.exp(x)}, [tf.TensorSpec([], tf.float64)])

    def draw(mu, size, seed):
        return np.exp(mu) + tf.random.stateless_normal(size, seed, dtype=tf.float64)

    with pytest.raises(DeclarationError, match="random could not be traced.*Write tf.exp"):
        declared(lambda y, mu: y * mu, random=draw)


def test_faults_that_have_nothing_to_do_with_tensors_are_raised_as_they_are():
    with pytest.raises(KeyError, match="nothing"):
        declared(lambda y, mu: y * mu * {}["nothing"])
    with pytest.raises(ZeroDivisionError):
        declared(lambda y, mu: y * mu * (1 / 0))
    with pytest.raises(NameError):
        declared(lambda y, mu: y * mu * nowhere)  # noqa: F821


def test_other_faults_name_the_line():
    with pytest.raises(DeclarationError, match="test_advice.py.*AttributeError: 'NoneType'"):
        declared(lambda y, mu: y * mu * None.nothing)


def test_what_is_to_be_written_is_there():
    """The names of the table are TensorFlow's own."""
    texts = [*counterparts._FUNCTIONS.values(), *counterparts._METHODS.values()]
    for name in re.findall(r"\btf(?:\.[A-Za-z_]\w*)+", " ".join(texts)):
        found = tf
        for part in name.split(".")[1:]:
            found = getattr(found, part, None)
        assert found is not None, name


# -- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, culprit",
    [
        (lambda y, mu: y * mu * tf.constant(1.0), ""),
        (lambda y, mu: y * mu * tf.constant(SINGLE), "'SINGLE' is float32"),
        (converted_dtypes, ""),
    ],
)
def test_mixed_dtypes(function, culprit):
    text = f'test_advice.py.*{culprit}.*tf.constant\\(1.0, tf.float64\\).*x.astype\\("float64"\\)'
    with pytest.raises(DeclarationError, match=text):
        declared(function)


def test_a_float32_tensor_from_outside():
    one = tf.constant(1.0)
    with pytest.raises(DeclarationError, match="'one' is float32.*tf.cast"):
        declared(lambda y, mu: y * mu * one)


def test_the_default_network_of_keras():
    network = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    network(np.ones((2, 1), np.float32))

    def logp(y, mu):
        found = network(y[:, None])
        return y * mu - found[:, 0]

    text = r"'found' is float32.*dtype=\"float64\" to each layer.*set_floatx\(\"float64\"\)"
    with pytest.raises(DeclarationError, match=text):
        declared(logp)


@pytest.mark.parametrize(
    "function",
    [lambda y, k: y * k, lambda y, k: tf.exp(k) * y, lambda y, k: 0.3 * k * y],
)
def test_a_discrete_parameter(function):
    with pm.Model():
        k = pm.Poisson("k", 3.0)
        with pytest.raises(DeclarationError, match=r"Integers: k\..*tf.cast\(k, tf.float64\)"):
            pm.TFDensity("y", function, {"k": k}, observed=Y)


def test_float64_data_where_theano_has_float32():
    with theano.config.change_flags(floatX="float32"), pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        with pytest.raises(DeclarationError, match=r"'x' is float64.*x.astype\(\"float32\"\)"):
            pm.TFDensity(
                "y", lambda y, mu, x: y * mu * x, {"mu": mu}, feed_dict={"x": Y}, observed=Y
            )


# -- arguments ------------------------------------------------------------------------------------


def test_a_forgotten_argument_that_is_taken_for_the_value():
    def logp(x, mu, y):
        return -tf.square(y - mu * x)

    def by_column(x, mu, y):
        return logp(x[:, 0], mu, y)

    hint = "is taken to be 'x'.*put it into feed_dict"
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        for function in (logp, by_column):
            with pytest.raises(DeclarationError, match=hint):
                pm.TFDensity("y", function, {"mu": mu}, feed_dict={"y": Y})
        with pytest.raises(DeclarationError, match="argument 'y'.*" + hint):
            pm.TFDensity("y", logp, {"mu": mu}, observed=Y)
        with pytest.raises(DeclarationError) as caught:
            pm.TFDensity("y", logp, {"mu": mu}, value="x", feed_dict={"y": Y})
    assert "is taken to be" not in str(caught.value)


@pytest.mark.parametrize("shape", [[], [None]])
def test_a_forgotten_placeholder_that_is_taken_for_the_value(shape):
    with tf.Graph().as_default(), pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        m, y = tf.compat.v1.placeholder(tf.float64, []), tf.compat.v1.placeholder(tf.float64, [2])
        x = tf.compat.v1.placeholder(tf.float64, shape, name="x")
        with pytest.raises(DeclarationError, match="taken to be 'x'.*put it into feed_dict"):
            pm.TFDensity("y", -tf.square(y - m * x), {m: mu}, feed_dict={y: Y})


def test_a_key_that_is_given_twice():
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        with pytest.raises(DeclarationError, match="params has 'mu' twice. Give it once"):
            pm.TFDensity("y", lambda y, mu: y * mu, [("mu", mu), ("mu", mu)], observed=Y)
        with pytest.raises(DeclarationError, match="feed_dict has 'y' twice"):
            pm.TFDensity("y", lambda y, mu: y * mu, {"mu": mu}, feed_dict=[("y", Y), ("y", Y)])


# -- sizes ----------------------------------------------------------------------------------------


def test_constants_over_two_gigabytes():
    huge = np.broadcast_to(1.0, 2**28)  # takes no memory; TensorFlow looks at its size first
    with pytest.raises(GraphSizeError, match="over 2 GB.*test_advice.py.*by feed_dict"):
        with tf.Graph().as_default():  # outside of a graph TensorFlow would copy it
            declared(lambda y, mu: y * mu * tf.reduce_sum(tf.constant(huge)))


def test_a_tensor_over_two_gigabytes_from_outside(monkeypatch):
    def too_large(value):
        raise ValueError("Cannot create a tensor proto whose content is larger than 2GB.")

    outside = tf.constant(Y)
    monkeypatch.setattr(tf, "make_tensor_proto", too_large)
    with pytest.raises(GraphSizeError, match="logp is over 2 GB.*by feed_dict"):
        declared(lambda y, mu: y * mu * outside)
