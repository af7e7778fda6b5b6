"""What the tests share: data, ways of declaring one density, and counting TensorFlow calls."""

import importlib.util
import logging
import os
import shutil
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Theano without its C compiler, which takes minutes for what these tests run once. The example that
# continuous integration runs after the tests has it.
THEANO_FLAGS = os.environ.get("THEANO_FLAGS", "")
os.environ["THEANO_FLAGS"] = f"{THEANO_FLAGS},cxx=".lstrip(",")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("theano.configdefaults").setLevel(logging.ERROR)
logging.getLogger("pymc3").setLevel(logging.ERROR)
# What a shell starts in the background ignores Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt

from pymc3_tf.runtime import functions

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
REGIMES = ["placeholder", "ref_variable", "resource_variable", "function", "tf_function", "xla"]


@pytest.fixture(params=REGIMES)
def regime(request):
    """One way in which a user can have written the density."""
    return request.param


def declare(regime, name, logp, params=None, observed=None, **kwargs):
    """Declare the density ``logp(value, *params)`` of TensorFlow ops in one of the regimes."""
    params = params or {}
    jit = {"jit_compile": True} if regime == "xla" else {}
    if regime in ("function", "tf_function", "xla"):
        source = tf.function(logp) if regime == "tf_function" else logp
        return pm.TFDensity(name, source, params, observed=observed, **jit, **kwargs)
    v1 = tf.compat.v1
    shape = np.shape(observed) if observed is not None else kwargs.get("shape", ())
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        value = v1.placeholder(tf.float64, shape, name="value")
        keys = []
        for label, param in params.items():
            shape = np.shape(param.tag.test_value if isinstance(param, tt.Variable) else param)
            if regime == "placeholder":
                keys.append(v1.placeholder(tf.float64, shape, name=label))
            else:
                use_resource = regime == "resource_variable"
                keys.append(v1.get_variable(label, shape, tf.float64, use_resource=use_resource))
        session.run(v1.global_variables_initializer())
        return pm.TFDensity(
            name,
            logp(value, *keys),
            dict(zip(keys, params.values())),
            observed=observed,
            session=session,
            **kwargs,
        )


def tf_normal(value, mu, sigma):
    """Log density of the normal distribution, pointwise."""
    return -0.5 * tf.square((value - mu) / sigma) - tf.math.log(sigma) - 0.5 * np.log(2 * np.pi)


class Calls:
    """Counts the calls of TensorFlow since it was made, and remembers by which programs."""

    def __init__(self):
        self._before = {f: f.calls for f in functions.live_functions()}

    @property
    def functions(self):
        """Functions that were called, and how many times."""
        now = {f: f.calls - self._before.get(f, 0) for f in functions.live_functions()}
        return {f: n for f, n in now.items() if n}

    @property
    def number(self):
        """Calls of all functions together."""
        return sum(self.functions.values())


@pytest.fixture
def calls():
    """Class that counts TensorFlow calls from its creation on."""
    return Calls


def logp_dlogp_function(model):
    """Compile a model's log density and gradient, as a function of a point and an offset."""
    function = model.logp_dlogp_function()
    function.set_extra_values({})

    def evaluate(point=None, offset=0.0):
        value, gradient = function(function.dict_to_array(point or model.test_point) + offset)
        return float(value), np.array(gradient)

    return evaluate


def logp_dlogp(model, point=None, offset=0.0):
    """Value and gradient of a model's log density at its (shifted) test point."""
    return logp_dlogp_function(model)(point, offset)


def assert_same_model(ours, theirs, offsets=(0.0, 0.1, -0.3), rtol=1e-10):
    """The log density and gradient of two models with the same variables are equal."""
    point = ours.test_point
    ours, theirs = logp_dlogp_function(ours), logp_dlogp_function(theirs)
    for offset in offsets:
        value, gradient = ours(point, offset)
        expected, expected_gradient = theirs(point, offset)
        np.testing.assert_allclose(value, expected, rtol=rtol)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=rtol, atol=1e-12)


@pytest.fixture(scope="session")
def line():
    """x and y of a line with unit noise: 50 points."""
    random = np.random.RandomState(42)
    x = random.uniform(0, 10, 50)
    return x, 0.5 * x - 2.3 + random.randn(50)


def load_example(name):
    """Import an example, which is no part of the package, by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Path of the op of the example in C++, compiled."""
    assert shutil.which("g++"), "these tests compile an op: install g++"
    return load_example("kepler").build(tmp_path_factory.mktemp("kepler"))


@pytest.fixture(scope="session")
def op(library):
    """The eccentric anomaly, as a function of M and e by that op."""
    eccentric_anomaly = load_example("kepler").load(library)
    return lambda M, e: eccentric_anomaly(M, e)
