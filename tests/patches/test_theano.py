"""Theano's BLAS, its scan and its default mode, mended where the libraries below have moved on."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pymc3 as pm
import pytest
import theano
import theano.tensor as tt
from support import tf_normal

from pymc3_tf.linker import TFLinker
from pymc3_tf.patches import theano_import

PRODUCTS = """
import numpy as np, theano, theano.tensor as tt
random = np.random.RandomState(1)
a, b = tt.dmatrices("ab")
x, y = tt.dvectors("xy")
u, v = tt.dtensor3s("uv")
A, B, X, Y = random.randn(40, 40), random.randn(40, 40), random.randn(40), random.randn(40)
U, V = random.randn(3, 5, 4), random.randn(3, 4, 6)
found = theano.function([a, b, x, y, u, v], [
    tt.dot(a, b), 0.5 * tt.dot(a, b) + b, tt.dot(a, x), tt.dot(x, a), tt.dot(x, y),
    b + tt.outer(x, y), tt.batched_dot(u, v),
])(A, B, X, Y, U, V)
right = [A @ B, 0.5 * A @ B + B, A @ X, X @ A, X @ Y, B + np.outer(X, Y), U @ V]
for one, other in zip(found, right):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
"""
SCAN = """
import theano, theano.tensor as tt
p = tt.dscalar()
z, _ = theano.scan(lambda t, z, a: z * a + t, [tt.ones(20)], [tt.zeros(())], [p])
f = theano.function([p], [z.sum(), tt.grad(z.sum(), p)])
def check(f):
    value, slope = f(0.4)
    assert abs(value - 32.22222223443902) < 1e-10 and abs(slope - 49.07407476) < 1e-7
check(f)
"""
FIRST = """
import numpy.distutils.__config__ as build
build.blas_opt_info = {}
import theano, pymc3_tf
"""


def run(code, flags, **kwargs):
    """Run code in a new Python, and return what it writes."""
    environment = {**os.environ, "THEANO_FLAGS": flags, **kwargs}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert not done.returncode, done.stderr.decode()[-3000:]
    return done.stdout.decode() + done.stderr.decode()


@pytest.fixture(autouse=True)
def bare_theano():
    """Leave out the test values, which PyMC3's models ask for, even after they are built."""
    with theano.config.change_flags(compute_test_value="off"):
        yield


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Flags of a Theano with its compiler and a cache of these tests."""
    return f"base_compiledir={tmp_path_factory.mktemp('theano')}"


def test_products_and_scan_work_in_theanos_own_c(compiled):
    written = run("import pymc3_tf\n" + PRODUCTS + SCAN, compiled)
    assert "theano.tensor.blas" not in written  # its warnings


def test_a_theano_that_was_there_before_gets_the_blas_too(compiled):
    code = "import os\nassert 'openblas' in theano.config.blas__ldflags\n"
    code += "from theano.configparser import parse_config_string as flags\n"
    code += "found = flags(os.environ['THEANO_FLAGS'])['blas__ldflags']\n"
    code += "assert found == theano.config.blas__ldflags\n"
    run(FIRST + code + PRODUCTS, compiled)


def test_what_the_user_says_of_the_blas_stands(tmp_path):
    config = tmp_path / "theanorc"
    config.write_text("[blas]\nldflags = -lm\n")
    code = "import pymc3_tf, theano\nassert theano.config.blas__ldflags == '{}'"
    run(code.format("-lm"), "cxx=", THEANORC=str(config))
    run(code.format("-lz"), "cxx=,blas__ldflags=-lz", THEANORC=str(config))


@pytest.mark.parametrize("folder", ["with a space", "a,comma", "it's"])
def test_a_path_that_flags_cannot_hold_is_left_out(folder, monkeypatch, tmp_path):
    libraries = tmp_path / folder / "scipy.libs"
    libraries.mkdir(parents=True)
    (libraries / "libopenblas.so").touch()
    scipy = SimpleNamespace(origin=str(tmp_path / folder / "scipy" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: scipy)
    assert theano_import._blas_of_scipy() == {}


def test_there_is_nothing_to_link_on_macos_and_without_a_wheel(monkeypatch, tmp_path):
    scipy = SimpleNamespace(origin=str(tmp_path / "scipy" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: scipy)
    assert not theano_import._blas_of_scipy().get("libraries")
    monkeypatch.setattr("sys.platform", "darwin")
    assert theano_import._blas_of_scipy() == {}


def test_a_new_process_that_imports_theano_first_gets_the_scan(tmp_path):
    scope = {}
    exec(SCAN, scope)
    path = tmp_path / "function.pickle"
    path.write_bytes(pickle.dumps(scope["f"]))
    code = f"import theano, pickle, sys\nf = pickle.load(open({str(path)!r}, 'rb'))\n"
    code += "assert 'pymc3_tf' in sys.modules or sys.version_info < (3, 11)\n"
    run(code + SCAN[SCAN.index("def check") :], "cxx=,blas__ldflags=")


@pytest.mark.parametrize("first", ["", "import theano\n"], ids=["ours first", "theano first"])
def test_the_mode_is_taken_from_theano_flags_here_and_in_new_processes(first):
    code = "import pymc3_tf, theano, subprocess, sys\n"
    code += "assert theano.config.mode == 'TF'\n"
    code += "x = theano.tensor.dscalar()\nf = theano.function([x], 2 * x)\n"
    code += "assert f(3.0) == 6.0 and type(f.maker.linker).__name__ == 'TFLinker'\n"
    code += "if sys.argv[1:]: subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"
    inner = f"{first}import pymc3_tf, theano\nassert theano.config.mode == 'TF'"
    run(f"import sys\nsys.argv[1:] = [{inner!r}]\n" + code, "cxx=,mode=TF")


def test_a_later_mode_in_theano_flags_counts(monkeypatch):
    monkeypatch.setenv("THEANO_FLAGS", "mode=TF,mode=FAST_COMPILE")
    assert not theano_import._takes_mode_out_of_flags()
    assert os.environ["THEANO_FLAGS"] == "mode=TF,mode=FAST_COMPILE"


def test_the_default_mode_changes_there_and_back():
    x = tt.dvector()
    linkers = []
    for mode in ("Mode", "TF", "Mode"):
        with theano.config.change_flags(mode=mode):
            f = theano.function([x], tt.exp(x))
        np.testing.assert_allclose(f([0.0, 1.0]), [1.0, np.e], rtol=1e-12)
        linkers.append(isinstance(f.maker.linker, TFLinker))
    assert linkers == [False, True, False]
    with pytest.raises(ValueError, match="Expected one of"):
        theano.config.mode = "TFF"


def test_a_function_of_the_mode_is_pickled():
    x = tt.dvector()
    f = pickle.loads(pickle.dumps(theano.function([x], tt.exp(x).sum(), mode="TF")))
    assert isinstance(f.maker.linker, TFLinker)
    np.testing.assert_allclose(f([0.0, 1.0]), 1.0 + np.e, rtol=1e-12)


@pytest.mark.parametrize("ours", [False, True], ids=["built in", "TFDensity"])
def test_advi_with_minibatches_finds_the_posterior_mean(ours):
    data = np.random.RandomState(3).normal(1.5, 1.0, 200)
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 10.0)
        batch = pm.Minibatch(data, 50, random_seed=1)
        if ours:
            pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, observed=batch, total_size=200)
        else:
            pm.Normal("y", mu, 1.0, observed=batch, total_size=200)
        rate = pm.adagrad_window(learning_rate=0.02)
        fit = pm.fit(3000, obj_optimizer=rate, random_seed=1, progressbar=False)
    mean = float(fit.mean.eval()[0])
    assert abs(mean - data.sum() / (200 + 0.01)) < 0.1
