"""What tests share: declaring one density, counting calls, comparing posteriors, processes."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano.tensor as tt

import pymc3_tf
from pymc3_tf.runtime import functions

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
# Options of pm.sample and pymc3_tf.sample for chains that are only compared.
QUIET = dict(progressbar=False, compute_convergence_checks=False)
REGIMES = ["placeholder", "ref_variable", "resource_variable", "function", "tf_function", "xla"]


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


def moments(draws):
    """Mean and standard deviation of each number, and the Monte Carlo standard errors of the two.

    ``draws`` has the shape (chain, draw, ...). ArviZ's own error of a standard deviation assumes
    normal draws. This one is ArviZ's error of the mean of the squares, which assumes nothing.
    """
    draws = np.asarray(draws, float)
    mean = draws.mean((0, 1))
    squares = (draws - mean) ** 2
    sd = np.sqrt(squares.mean((0, 1)))
    dataset = az.convert_to_dataset({"draws": draws, "squares": squares})
    effective, error = az.ess(dataset), az.mcse(dataset, method="mean")
    # The error of fewer draws is an estimate that means little.
    assert min(float(effective[name].min()) for name in effective) > 100, effective
    return mean, sd, error["draws"].values, error["squares"].values / (2 * sd)


def standard_errors_away(draws, expected):
    """How many Monte Carlo standard errors means and standard deviations differ by.

    ``draws`` has the shape (chain, draw, ...). ``expected`` is an array of this kind too, or a
    tuple of the mean, the standard deviation, and the errors of the two unless they are exact.
    """
    if not isinstance(expected, tuple):
        expected = moments(expected)
    mean, sd, *errors = moments(draws)
    expected_mean, expected_sd, *others = (*expected, 0.0, 0.0)[:4]
    error_of_mean, error_of_sd = (np.hypot(*pair) for pair in zip(errors, others))
    return np.abs(mean - expected_mean) / error_of_mean, np.abs(sd - expected_sd) / error_of_sd


def assert_same_posterior(draws, expected, errors=4.0, name=""):
    """Means and standard deviations differ by no more than four Monte Carlo standard errors."""
    for what, away in zip(("mean", "standard deviation"), standard_errors_away(draws, expected)):
        assert np.all(away < errors), f"{name} {what}: {away} standard errors away"


def load_example(name):
    """Import an example, which is no part of the package, by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(arguments, timeout=300, **environment):
    """Run Python in a process group of its own, which ends with it."""
    with python(arguments, **environment) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_group(process, signal.SIGKILL)
            stdout, stderr = process.communicate()
            stderr += f"\nno end within {timeout} seconds"
        kill_group(process, signal.SIGKILL)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def python(arguments, before=(), stderr=subprocess.PIPE, **environment):
    """Start Python with this package and the modules that tests share, in a process group."""
    flags = re.sub(r",?blas__ldflags=[^,]*", "", os.environ.get("THEANO_FLAGS", ""))
    package = str(Path(pymc3_tf.__file__).parent.parent)
    tests = str(Path(__file__).parent)
    return subprocess.Popen(
        [*before, sys.executable, *arguments],
        env={
            **os.environ,
            "THEANO_FLAGS": flags,
            "PYTHONPATH": os.pathsep.join([package, tests]),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def kill_group(process, number):
    """Send a signal to all of a process group, if it is still there."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def run_text(text, **kwargs):
    """Run code in a process of its own."""
    return run(["-c", textwrap.dedent(text)], **kwargs)
