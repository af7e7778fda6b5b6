"""Random densities on random data: each is right, or refused in words of ours."""

import contextlib
import inspect
import warnings

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from theano.compile.mode import Mode

from pymc3_tf import exceptions

OURS = (
    exceptions.DeclarationError,
    exceptions.DeclarationTypeError,
    exceptions.EvaluationError,
)


def whole(x):
    """Return whole numbers. What infinity and NaN are as such is left to chance."""
    x = tf.cast(x, tf.float64)
    return tf.cast(tf.where(tf.abs(x) < 100, x, 0), tf.int32)


UNARY = {
    "neg": tf.negative,
    "exp": tf.exp,
    "log": tf.math.log,
    "sqrt": tf.sqrt,
    "square": tf.square,
    "abs": tf.abs,
    "tanh": tf.tanh,
    "lgamma": tf.math.lgamma,
    "softplus": tf.nn.softplus,
    "sum": tf.reduce_sum,
    "mean of rows": lambda x: tf.reduce_mean(x, -1),
    "cumsum": lambda x: tf.cumsum(x, -1) if x.shape.rank else x,
    "first": lambda x: x[0],
    "reversed": lambda x: tf.reverse(x, [0]),
    "flat": lambda x: tf.reshape(x, [-1]),
    "sorted": tf.sort,
    "stopped": tf.stop_gradient,
    "floor": tf.floor,
    "single": lambda x: tf.cast(x, tf.float32),
    "double": lambda x: tf.cast(x, tf.float64),
    "whole": whole,
    "map": lambda x: tf.map_fn(tf.sin, x),
    "scan": lambda x: tf.scan(lambda s, e: 0.5 * s + e, x),
    "softmax": tf.nn.log_softmax,
}
BINARY = {
    "add": tf.add,
    "subtract": tf.subtract,
    "multiply": tf.multiply,
    "divide": tf.divide,
    "power": tf.pow,
    "maximum": tf.maximum,
    "where": lambda x, y: tf.where(x > 0, x, y),
    "cond": lambda x, y: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: y),
    "outer": lambda x, y: x[..., None] * y,
    "concat": lambda x, y: tf.concat([x, y], 0),
    "gather": lambda x, y: tf.gather(x, whole(y)),
}
LEAVES = ["y", "a", "b", "x"]

expressions = st.recursive(
    st.sampled_from(LEAVES) | st.sampled_from([-1.5, 0.0, 0.5, 2.0]),
    lambda inner: (
        st.tuples(st.sampled_from(sorted(UNARY)), inner)
        | st.tuples(st.sampled_from(sorted(BINARY)), inner, inner)
    ),
    max_leaves=8,
)
# Half of the densities are joint.
trees = expressions | st.tuples(st.just("sum"), expressions)
shapes = st.sampled_from([(3,)] * 6 + [(), (), (1,), (2, 3), (0,)])
dtypes = st.sampled_from(["float64"] * 6 + ["float32", "int32", "int64", "bool", ">f8", "uint8"])
numbers = st.sampled_from([0.3, 1.2, -0.7, 0.0, 2.0, np.nan, np.inf, -np.inf, 1e308])


@st.composite
def arrays(draw, dtypes=dtypes, numbers=numbers):
    shape, dtype = draw(shapes), draw(dtypes)
    ordinary = [0.3, 1.2, -0.7]
    size = int(np.prod(shape))
    values = [ordinary[i % 3] for i in range(size)]
    if values and draw(st.integers(0, 9)) == 0:
        values[0] = draw(numbers)
    with np.errstate(all="ignore"):
        return np.array(values).reshape(shape).astype(dtype)


def value_of(tree, given):
    """Compute an expression of tensors."""
    if isinstance(tree, str):
        return given[tree]
    if isinstance(tree, float):
        return tf.constant(tree, tf.float64)
    name, *operands = tree
    operands = [value_of(operand, given) for operand in operands]
    return (UNARY if len(operands) == 1 else BINARY)[name](*operands)


def expected(tree, given):
    """Return the sum of an expression, and its slopes by a and b where TensorFlow has them."""

    def sum_and_slopes(tensors, names):
        with tf.GradientTape() as tape:
            tape.watch(list(tensors.values()))
            total = tf.reduce_sum(value_of(tree, tensors))
        by = [tensors[name] for name in names]
        slopes = tape.gradient(total, by, unconnected_gradients="zero") if names else []
        return total, [tf.convert_to_tensor(slope) for slope in slopes]

    for names in ("ab", "a", "b", ""):
        with contextlib.suppress(Exception):
            tensors = {name: tf.constant(array) for name, array in given.items()}
            # As a graph: eagerly, the branch that tf.cond does not take has no slopes at all.
            total, slopes = tf.function(sum_and_slopes, autograph=False)(tensors, names)
            return total, dict(zip(names, map(np.asarray, slopes)))
    return None, {}


class UsersOwnError(Exception):
    """A graph that TensorFlow refuses before there is a density."""


def in_graph(tree, given):
    """Return an expression as a tensor of the current graph, and its placeholders."""
    keys = {
        name: tf.compat.v1.placeholder(array.dtype.newbyteorder("="), array.shape, name)
        for name, array in given.items()
    }
    try:
        return tf.convert_to_tensor(value_of(tree, keys)), keys
    except Exception as error:
        raise UsersOwnError from error


def with_arguments(tree, names):
    """Return an expression as a function of the arguments that it uses."""

    def density(**arguments):
        return value_of(tree, arguments)

    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    density.__signature__ = inspect.Signature(parameters)
    return density


def declared(tree, given, as_graph):
    """Return the log density and its slopes by the parameters, of the density that is declared."""
    used = {name: given[name] for name in LEAVES if f"'{name}'" in repr([tree])}
    parameters = {name: theano.shared(used[name]) for name in "ab" if name in used}
    data = {name: used[name] for name in "yx" if name in used}
    with pm.Model():
        if as_graph:
            with tf.Graph().as_default():
                logp, keys = in_graph(tree, used)
                params = {keys[name]: x for name, x in parameters.items()}
                feeds = {keys[name]: x for name, x in data.items()}
                variable = pm.TFDensity("density", logp, params, feed_dict=feeds)
        else:
            function = with_arguments(tree, [*data, *parameters])
            variable = pm.TFDensity("density", function, parameters, feed_dict=data)
        logp = variable.logpt
        slopes = tt.grad(logp, list(parameters.values()), disconnected_inputs="ignore")
        found = theano.function([], [logp, *slopes], mode=Mode("py", None))()
    return float(found[0]), dict(zip(parameters, found[1:]))


def is_right_or_refused(tree, y, x, a, b, as_graph):
    arrays = {"y": y, "x": x, "a": a, "b": b}
    # The first argument of a function is the value, of which NaN is missing.
    value = next((name for name in "yx" if f"'{name}'" in repr([tree])), "y")
    if not as_graph and np.isnan(arrays[value]).any():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            total, slopes = declared(tree, arrays, as_graph)
        except (UsersOwnError, *OURS):
            return
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    if not as_graph:
        # The value has PyMC3's own dtype.
        native[value] = native[value].astype(float)
    wanted, by_tape = expected(tree, native)
    assert wanted is not None, "a density that TensorFlow cannot compute was declared"
    wanted = -np.inf if np.isnan(wanted) else float(wanted)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    for name in set(slopes) & set(by_tape):
        if np.isfinite(wanted) and np.isfinite(by_tape[name]).all():
            np.testing.assert_allclose(slopes[name], by_tape[name], rtol=1e-4, atol=1e-6)


def fuzzed(examples):
    """Try so many densities, the same in each run, and return how many it were."""
    tried = []

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        tree=trees.filter(lambda tree: any(f"'{leaf}'" in repr([tree]) for leaf in LEAVES)),
        # Missing values would be variables of the model.
        y=arrays(st.sampled_from(["float64", ">f8"]), numbers.filter(lambda x: x == x)),
        x=arrays(),
        a=arrays(st.just("float64")),
        b=arrays(st.just("float64")),
        as_graph=st.booleans(),
    )
    def each(**density):
        is_right_or_refused(**density)
        tried.append(True)

    each()
    return len(tried)


def test_densities_are_right_or_refused():
    assert fuzzed(500) >= 500


@pytest.mark.slow
def test_many_densities_are_right_or_refused(record_property):
    record_property("passed", fuzzed(20_000))
