"""A table of wrong declarations: each name says what is wrong.

Each is a function that declares a density in the model on the context stack. A graph is built where
it is declared, so that none is shared.
"""

import datetime
import decimal
import fractions

import numpy as np
import pandas as pd
import pymc3 as pm
import scipy.sparse
import tensorflow as tf
import tensorflow_probability as tfp
import theano
import theano.tensor as tt

tfd = tfp.distributions
v1 = tf.compat.v1

DATA = np.array([0.3, -1.2, 2.5, 0.7])


def normal(y, mu):
    """Pointwise normal log density."""
    return -0.5 * tf.square(y - mu) - 0.5 * np.log(2 * np.pi)


def standard(x):
    """Standard normal log density of one argument."""
    return -0.5 * tf.square(x)


def declare(logp=normal, params=None, name="y", **kwargs):
    """Declare a density of `DATA` with a mean, but for what is given."""
    if params is None and "distribution" not in kwargs:
        params = {"mu": 0.0}
    if not {"observed", "feed_dict", "shape"} & set(kwargs):
        kwargs["observed"] = DATA
    return pm.TFDensity(name, logp, params, **kwargs)


def raising(error):
    """Return a density whose function raises."""

    def density(y, mu):
        raise error

    return density


def returning(result):
    """Return a density whose function returns what it is given, or computes it."""
    return lambda y, mu: result(y, mu) if callable(result) else result


def in_graph(build, **kwargs):
    """Declare a density of a graph that `build` makes: it returns logp, params and feeds."""

    def case():
        with tf.Graph().as_default() as graph:
            logp, params, feeds, *more = build(graph)
            return pm.TFDensity("y", logp, params, feed_dict=feeds, **dict(kwargs, **dict(*more)))

    return case


def _placeholders(shape=(None,), dtype="float64"):
    mu = v1.placeholder(dtype, [], "mu")
    y = v1.placeholder(dtype, shape, "y")
    return mu, y


def graph_case(change, **kwargs):
    """Declare `normal` as a graph, with params and feeds as `change` makes them of (mu, y)."""

    def build(graph):
        mu, y = _placeholders()
        return (normal(y, mu), *change(mu, y))

    return in_graph(build, **kwargs)


class Unhashable:
    """A key that no dictionary takes."""

    __hash__ = None


class Weird:
    """An object that NumPy makes an object array of."""


_NESTED = [[1.0, 2.0], [3.0]]

VALUES = {
    "None": None,
    "a string": "one",
    "bytes": b"one",
    "a complex number": 1 + 2j,
    "an object": Weird(),
    "a set": {1.0},
    "a dict": {"a": 1.0},
    "a function": len,
    "a type": float,
    "a generator": (i for i in range(3)),
    "a ragged list": _NESTED,
    "an object array": np.array([1.0, None], object),
    "an array of strings": np.array(["a", "b", "c", "d"]),
    "an array of dates": np.array(["2020-01-01"] * 4, "datetime64[D]"),
    "a date": datetime.date(2020, 1, 1),
    "a record array": np.zeros(4, [("a", float), ("b", float)]),
    "a sparse matrix": scipy.sparse.eye(4).tocsr(),
    "a complex array": np.ones(4, complex),
    "an eager tensor": tf.constant(1.0, tf.float64),
    "a ragged tensor": tf.ragged.constant(_NESTED),
    "a sparse tensor": tf.sparse.eye(3),
    "a Dataset": tf.data.Dataset.range(3),
    "a tf.Variable": tf.Variable(1.0, dtype=tf.float64),
    "a distribution": tfd.Normal(0.0, 1.0),
    "an Exception": ValueError("x"),
    "a Decimal": decimal.Decimal("1.5"),
    "a Fraction": fractions.Fraction(1, 3),
    "a timedelta": np.timedelta64(3, "s"),
    "a column of strings": pd.Series(["a", "b", "c", "d"]),
    "a categorical column": pd.Series(["a", "b", "c", "d"], dtype="category"),
    "a frame of mixed columns": pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
    "a masked array": np.ma.masked_invalid([1.0, np.nan, 2.0, 3.0]),
    "a Theano function": theano.function([], tt.constant(1.0)),
    "a Theano vector of strings": tt.TensorType("complex128", [False])("z"),
    "a pm.Model": pm.Model(),
    "a module": np,
    "Ellipsis": ...,
    "a slice": slice(3),
    "a huge integer": 10**400,
    "five dimensions": np.ones((2,) * 5),
    "an empty list": [],
    "an empty array of two dimensions": np.ones((0, 3)),
    "a big-endian array of one": np.ones(1, ">f8"),
    "infinity": np.inf,
    "NaN": np.nan,
    "a boolean": True,
    "an array of booleans": np.array([True, False, True, False]),
    "an unsigned array": np.arange(4, dtype="uint64"),
    "a half precision array": np.ones(4, "float16"),
    "a long double array": np.ones(4, np.longdouble),
}

CASES = {}
for _what, _value in VALUES.items():
    CASES[f"a parameter that is {_what}"] = lambda v=_value: declare(params={"mu": v})
    CASES[f"observed that is {_what}"] = lambda v=_value: declare(observed=v)
    CASES[f"a feed that is {_what}"] = lambda v=_value: declare(
        lambda y, mu, x: normal(y, mu + x), feed_dict={"x": v, "y": DATA}
    )
    CASES[f"logp that is {_what}"] = lambda v=_value: declare(v)
    CASES[f"logp that returns {_what}"] = lambda v=_value: declare(lambda y, mu: v)
    CASES[f"distribution that is {_what}"] = lambda v=_value: declare(None, distribution=v)
    CASES[f"distribution that returns {_what}"] = lambda v=_value: declare(
        None, {"mu": 0.0}, distribution=lambda mu: v
    )
    CASES[f"random that is {_what}"] = lambda v=_value: declare(random=v)
    CASES[f"a key that is {_what}"] = lambda v=_value: declare(params=[("mu", 0.0), (v, 1.0)])
    CASES[f"a value= that is {_what}"] = lambda v=_value: declare(value=v)
    CASES[f"params that are {_what}"] = lambda v=_value: declare(params=v)
    CASES[f"feed_dict that is {_what}"] = lambda v=_value: declare(feed_dict=v)
    CASES[f"a name that is {_what}"] = lambda v=_value: declare(name=v)
    for _argument in (
        "session",
        "jit_compile",
        "device",
        "errors",
        "check_gradient",
        "shape",
        "dims",
        "transform",
        "total_size",
        "testval",
    ):
        CASES[f"{_argument} that is {_what}"] = lambda v=_value, a=_argument: (
            declare(standard, {}, shape=3, **{a: v})
            if a in ("transform", "testval", "dims")
            else declare(standard, {}, **{a: v})
            if a == "shape"
            else declare(**{a: v})
        )

CASES.update(
    {
        "no arguments": lambda: pm.TFDensity(),
        "no name": lambda: pm.TFDensity(normal, {"mu": 0.0}, observed=DATA),
        "no source": lambda: pm.TFDensity("y", observed=DATA),
        "logp and distribution": lambda: declare(distribution=lambda mu: tfd.Normal(mu, 1.0)),
        "a missing argument": lambda: pm.TFDensity("y", normal, observed=DATA),
        "an argument that it has not": lambda: declare(params={"mu": 0.0, "sd": 1.0}),
        "a misspelled argument": lambda: declare(params={"mean": 0.0}),
        "an unknown keyword": lambda: declare(obs=DATA),
        "PyMC3's keyword mu": lambda: pm.TFDensity("y", normal, mu=0.0, observed=DATA),
        "the value as a parameter and observed": lambda: declare(params={"y": 0.0, "mu": 0.0}),
        "two variables of one name": lambda: (declare(), declare()),
        "an empty name": lambda: declare(name=""),
        "float32 data with float64 parameters": lambda: declare(
            lambda y, mu: tf.cast(y, tf.float32) - mu
        ),
        "integers with floats": lambda: declare(observed=np.arange(4)),
        "shapes that do not broadcast": lambda: declare(params={"mu": np.zeros(3)}),
        "a parameter of two dimensions": lambda: declare(params={"mu": np.zeros((4, 4))}),
        "logp of too many dimensions": lambda: declare(returning(lambda y, mu: y[:, None] - y)),
        "logp of another length": lambda: declare(returning(lambda y, mu: (y - mu)[:2])),
        "logp that is an integer": lambda: declare(returning(lambda y, mu: tf.constant(1))),
        "logp that is a boolean": lambda: declare(returning(lambda y, mu: y > mu)),
        "logp that is complex": lambda: declare(
            returning(lambda y, mu: tf.complex(y, y) - tf.complex(mu, mu))
        ),
        "logp that is text": lambda: declare(returning(lambda y, mu: tf.strings.as_string(y))),
        "logp of two tensors": lambda: declare(returning(lambda y, mu: (y - mu, y))),
        "logp of a dict": lambda: declare(returning(lambda y, mu: {"y": y - mu})),
        "logp by NumPy": lambda: declare(returning(lambda y, mu: np.exp(y - mu))),
        "logp by SciPy": lambda: declare(
            returning(lambda y, mu: __import__("scipy.stats").stats.norm.logpdf(y, mu))
        ),
        "logp by math": lambda: declare(returning(lambda y, mu: __import__("math").exp(mu))),
        "logp by Theano": lambda: declare(returning(lambda y, mu: tt.exp(y))),
        "logp by pandas": lambda: declare(returning(lambda y, mu: pd.Series(y))),
        "logp with an if on a tensor": lambda: declare(
            returning(lambda y, mu: y if mu > 0 else -y)
        ),
        "logp with a loop on a tensor": lambda: declare(
            returning(lambda y, mu: sum(float(x) for x in y))
        ),
        "logp that asks for len": lambda: declare(returning(lambda y, mu: y / len(mu))),
        "logp that assigns": lambda: declare(returning(lambda y, mu: y.__setitem__(0, 1.0))),
        "logp that calls .numpy()": lambda: declare(returning(lambda y, mu: y.numpy())),
        "logp that uses a PyMC3 variable": lambda: (
            lambda m: declare(returning(lambda y, mu: normal(y, m)))
        )(pm.Normal("m", 0.0, 1.0)),
        "logp that raises ValueError": lambda: declare(raising(ValueError("mine"))),
        "logp that raises KeyError": lambda: declare(raising(KeyError("mine"))),
        "logp that raises StopIteration": lambda: declare(raising(StopIteration("mine"))),
        "logp that raises RuntimeError": lambda: declare(raising(RuntimeError("mine"))),
        "logp that recurses": lambda: declare(_recursion),
        "logp that is a class": lambda: declare(Weird),
        "logp that is a bound method": lambda: declare("text".join),
        "logp that is a lambda of nothing": lambda: declare(lambda: 1.0),
        "logp that is a lambda of *args": lambda: declare(lambda *args: args[0]),
        "logp with keyword-only arguments left open": lambda: declare(lambda y, mu, *, sd: y - mu),
        "logp that draws": lambda: declare(
            returning(lambda y, mu: y - mu + tf.random.normal((), dtype=tf.float64))
        ),
        "logp that makes a variable": lambda: declare(
            returning(lambda y, mu: y - mu * tf.Variable(1.0, dtype=tf.float64))
        ),
        "logp with py_function": lambda: declare(
            returning(lambda y, mu: tf.py_function(lambda a: a, [y - mu], tf.float64))
        ),
        "logp with numpy_function": lambda: declare(
            returning(lambda y, mu: tf.numpy_function(lambda a: a, [y - mu], tf.float64))
        ),
        "logp that reads a file": lambda: declare(
            returning(
                lambda y, mu: y - mu + tf.strings.to_number(tf.io.read_file("none"), tf.float64)
            )
        ),
        "logp that does not depend on a parameter": lambda: declare(returning(lambda y, mu: -y)),
        "logp that is a constant": lambda: declare(
            returning(lambda y, mu: tf.constant(1.0, tf.float64))
        ),
        "logp that is NaN": lambda: declare(returning(lambda y, mu: y - mu + np.nan)),
        "logp that is -inf": lambda: declare(returning(lambda y, mu: y - mu - np.inf)),
        "logp that is +inf": lambda: declare(returning(lambda y, mu: y - mu + np.inf)),
        "logp with a false assertion": lambda: declare(
            returning(lambda y, mu: tf.debugging.assert_positive(mu - 1.0) or y - mu)
        ),
        "logp with a division by an integer zero": lambda: declare(
            returning(lambda y, mu: y - mu + tf.cast(1 // tf.cast(mu, tf.int32), tf.float64))
        ),
        "logp with an index that is not there": lambda: declare(
            returning(lambda y, mu: tf.gather(y, [9]) - mu)
        ),
        "logp with an unknown rank": in_graph(
            lambda graph: (lambda x: (standard(x), {}, {}, {"shape": 2}))(
                v1.placeholder(tf.float64, None)
            )
        ),
        "distribution of one argument too few": lambda: declare(
            None, {"mu": 0.0, "sd": 1.0}, distribution=lambda mu: tfd.Normal(mu, 1.0)
        ),
        "distribution with wrong dtypes": lambda: declare(
            None, {"mu": 0.0}, distribution=lambda mu: tfd.Normal(tf.cast(mu, tf.float32), mu)
        ),
        "a discrete distribution that is free": lambda: declare(
            None, {"rate": 1.0}, distribution=lambda rate: tfd.Poisson(rate), shape=2
        ),
        "a distribution with a sd below zero": lambda: declare(
            None,
            {"sd": -1.0},
            distribution=lambda sd: tfd.Normal(tf.zeros((), tf.float64), sd, validate_args=True),
        ),
        "params as a list of names": lambda: declare(params=["mu"]),
        "params as a list of triples": lambda: declare(params=[("mu", 0.0, 1.0)]),
        "a key twice": lambda: declare(params=[("mu", 0.0), ("mu", 1.0)]),
        "an unhashable key": lambda: declare(params=[("mu", 0.0), (Unhashable(), 1.0)]),
        "a key in params and feed_dict": lambda: declare(feed_dict={"mu": 0.0, "y": DATA}),
        "observed and feed_dict": lambda: declare(feed_dict={"y": DATA}, observed=DATA),
        "an unknown device": lambda: declare(device="/XPU:0"),
        "a device that is not there": lambda: declare(device="/GPU:7"),
        "errors of an unknown name": lambda: declare(errors="ignore"),
        "errors in capitals": lambda: declare(errors="RAISE"),
        "a negative shape": lambda: declare(standard, {}, shape=-3),
        "a shape of text": lambda: declare(standard, {}, shape="3"),
        "a shape of a fraction": lambda: declare(standard, {}, shape=2.5),
        "a shape that the tensor has not": lambda: in_graph(
            lambda graph: (lambda x: (standard(x), {}, {}, {"shape": 3}))(
                v1.placeholder(tf.float64, [2])
            )
        )(),
        "a shape with None": lambda: declare(standard, {}, shape=(None, 2)),
        "dims without coords": lambda: declare(standard, {}, dims="group", shape=2),
        "dims alone": lambda: declare(standard, {}, dims="group"),
        "too many dims": lambda: declare(dims=("a", "b")),
        "a transform by name": lambda: declare(standard, {}, shape=2, transform="log"),
        "a transform that is a class": lambda: declare(
            standard, {}, shape=2, transform=pm.distributions.transforms.Interval
        ),
        "a bijector as a transform": lambda: declare(
            standard, {}, shape=2, transform=tfp.bijectors.Exp()
        ),
        "a testval of another shape": lambda: declare(standard, {}, shape=2, testval=np.ones(3)),
        "a testval outside of the support": lambda: declare(
            standard, {}, shape=2, transform=pm.distributions.transforms.log, testval=-np.ones(2)
        ),
        "testval and initval": lambda: declare(standard, {}, shape=2, testval=1.0, initval=2.0),
        "total_size below the data": lambda: declare(total_size=2),
        "total_size below zero": lambda: declare(total_size=-4),
        "random of wrong arguments": lambda: declare(random=lambda sd, size: 1.0),
        "random without size": lambda: declare(random=lambda mu: 1.0),
        "a tensor key for a function": lambda: declare(params={tf.constant(1.0).ref(): 0.0}),
        "an eager variable that is not used": lambda: declare(
            lambda y: standard(y), params={tf.Variable(1.0, dtype=tf.float64).ref(): 0.0}
        ),
        "a closed session": lambda: _with_session(close=True),
        "a session of another graph": lambda: _with_session(other=True),
        "a variable without a value": lambda: _with_session(initialize=False),
        "a graph with an open placeholder": graph_case(lambda mu, y: ({}, {y: DATA})),
        "a feed that does not fit": graph_case(lambda mu, y: ({mu: 0.0}, {y: np.ones((2, 2))})),
        "a feed of text": graph_case(lambda mu, y: ({mu: 0.0}, {y: ["a", "b"]})),
        "a feed of integers": graph_case(lambda mu, y: ({mu: 0}, {y: [1, 2]})),
        "names as keys of a graph": graph_case(lambda mu, y: ({"mu": 0.0}, {"y": DATA})),
        "names with :0 as keys of a graph": graph_case(
            lambda mu, y: ({"mu:0": 0.0}, {"y:0": DATA})
        ),
        "an op as a key": graph_case(lambda mu, y: ({mu.op.name: 0.0}, {y.ref(): DATA})),
        "a key of another graph": graph_case(lambda mu, y: ({_foreign(): 0.0, mu: 0.0}, {y: DATA})),
        "logp in feed_dict": in_graph(
            lambda graph: (lambda mu, y: (lambda lp: (lp, {mu: 0.0}, {lp: DATA}))(normal(y, mu)))(
                *_placeholders()
            )
        ),
        "a graph with an op without gradient": in_graph(
            lambda graph: (
                lambda mu, y: (
                    y
                    - tf.cast(tf.math.bincount(tf.cast(y, tf.int32))[0], tf.float64)
                    - tf.raw_ops.NextAfter(x1=mu, x2=mu),
                    {mu: pm.Normal("mu", 0.0, 1.0)},
                    {y: DATA},
                )
            )(*_placeholders())
        ),
        "a graph of integers": in_graph(
            lambda graph: (lambda mu, y: (y - mu, {mu: 1}, {y: [1, 2]}))(
                *_placeholders(dtype="int64")
            )
        ),
        "a list of tensors as logp": in_graph(
            lambda graph: (lambda mu, y: ([normal(y, mu), y], {mu: 0.0}, {y: DATA}))(
                *_placeholders()
            )
        ),
        "an op as logp": in_graph(
            lambda graph: (lambda mu, y: (normal(y, mu).op, {mu: 0.0}, {y: DATA}))(*_placeholders())
        ),
        "the name of a tensor as logp": in_graph(
            lambda graph: (lambda mu, y: (normal(y, mu).name, {mu: 0.0}, {y: DATA}))(
                *_placeholders()
            )
        ),
        "a placeholder as logp": in_graph(
            lambda graph: (lambda mu, y: (y, {mu: 0.0}, {y: DATA}))(*_placeholders())
        ),
        "no model": lambda: pm.TFDensity.dist(normal, {"mu": 0.0}, observed=DATA),
        "dist with a name": lambda: pm.TFDensity.dist("y", normal, {"mu": 0.0}),
        "pm.Data of text": lambda: declare(observed=pm.Data("d", np.array(["a", "b"]))),
        "a NaN among the data": lambda: declare(observed=np.array([1.0, np.nan])),
        "all of the data missing": lambda: declare(observed=pd.Series([np.nan, np.nan])),
        "masked covariates": lambda: declare(
            lambda y, mu, x: normal(y, mu + x),
            feed_dict={"x": np.ma.masked_less(DATA, 0.0), "y": DATA},
        ),
    }
)


def _recursion(y, mu):
    return _recursion(y, mu)


def _foreign():
    with tf.Graph().as_default():
        return v1.placeholder(tf.float64, [], "foreign")


def _with_session(close=False, other=False, initialize=True):
    with tf.Graph().as_default() as graph:
        mu, y = _placeholders()
        sd = v1.get_variable("sd", (), tf.float64)
        logp = normal(y / sd, mu)
        session = v1.Session(graph=tf.Graph() if other else graph)
        if initialize and not other:
            session.run(v1.global_variables_initializer())
        if close:
            session.close()
        return pm.TFDensity("y", logp, {mu: 0.0}, feed_dict={y: DATA}, session=session)
