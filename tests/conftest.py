"""Settings of Theano and TensorFlow for the tests, and their fixtures."""

import logging
import os
import shutil
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Theano without its C compiler, which takes minutes for what these tests run once. The example that
# continuous integration runs after the tests has it.
os.environ["THEANO_FLAGS"] = f"{os.environ.get('THEANO_FLAGS', '')},cxx=".lstrip(",")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("theano.configdefaults").setLevel(logging.ERROR)
logging.getLogger("pymc3").setLevel(logging.ERROR)
# What a shell starts in the background ignores Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pymc3_tf  # noqa: F401  # isort: skip  # before PyMC3, for Python 3.11

import numpy as np
import pytest
from support import REGIMES, Calls, load_example


@pytest.fixture(params=REGIMES)
def regime(request):
    """One way in which a user can have written the density."""
    return request.param


@pytest.fixture
def calls():
    """Class that counts TensorFlow calls from its creation on."""
    return Calls


@pytest.fixture(scope="session")
def line():
    """x and y of a line with unit noise: 50 points."""
    random = np.random.RandomState(42)
    x = random.uniform(0, 10, 50)
    return x, 0.5 * x - 2.3 + random.randn(50)


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
