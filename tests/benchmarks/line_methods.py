"""The 2018 line model, and the ways of computing its log density and gradient that are compared.

The model: y = m x + b with Gaussian noise of standard deviation exp(logs); m, b and logs are
uniform on (-5, 5).
"""

import quiet  # noqa: F401  # isort: skip
import pymc3_tf  # noqa: F401  # isort: skip  # on Python 3.11 it has to come before PyMC3

import functools
import time

import numpy as np
import pymc3 as pm
import tensorflow as tf
from model_data import TRUTH
from tensorflow.core.protobuf import config_pb2
from two_op_bridge import TwoOpBridge

from pymc3_tf.runtime import functions

v1 = tf.compat.v1

NAMES = ("m", "b", "logs")


def new_points(rng, count):
    """Return parameters near the truth, of shape (count, 3); no two are the same."""
    return TRUTH + rng.normal(scale=0.05, size=(count, 3))


def unconstrained(points):
    """Return points on the scale on which PyMC3 samples: its interval transform."""
    return np.log(points + 5) - np.log(5 - points)


def expected(x, y, point, transformed):
    """Return log density and gradient by NumPy; without constants that sampling does not see.

    Parameters
    ----------
    x, y, point : array
    transformed : bool
        Whether by the unconstrained parameters, with the Jacobian term of the transform.
    """
    m, b, logs = point
    residual, precision = y - m * x - b, np.exp(-2 * logs)
    chi2 = precision * np.sum(residual**2)
    logp = -0.5 * chi2 - len(x) * logs
    gradient = np.array([np.sum(residual * x), np.sum(residual), 0]) * precision
    gradient[2] = chi2 - len(x)
    if transformed:
        unit = (point + 5) / 10
        logp += np.sum(np.log(unit * (1 - unit)))
        gradient = gradient * 10 * unit * (1 - unit) + 1 - 2 * unit
    return logp, gradient


class Method:
    """One way of computing log density and gradient, for the data that it is made with."""

    calls_per_evaluation = 1  # of TensorFlow
    transformed = True  # points are on the scale on which PyMC3 samples

    def __init__(self, x, y):
        with tf.Graph().as_default(), pm.Model() as self.model:
            parameters = [pm.Uniform(name, -5, 5) for name in NAMES]
            self.declare(parameters, x, y)

    def declare(self, parameters, x, y):
        """Add the likelihood to the model."""
        raise NotImplementedError

    @functools.cached_property
    def evaluate(self):
        """The function that samplers call, with one element of what ``arguments`` returns."""
        function = self.model.logp_dlogp_function()
        function.set_extra_values({})
        return function

    def arguments(self, points):
        """Return points as this method wants them."""
        return list(unconstrained(points))

    def tensorflow_calls(self):
        """Return how many times TensorFlow has been called up to now."""
        return sum(function.calls for function in functions.live_functions())

    def logp_and_gradient(self, point):
        """Return the value and the gradient as an array."""
        logp, gradient = self.evaluate(self.arguments(point[np.newaxis])[0])
        return float(logp), np.asarray(gradient)


def joint_logp(m, b, logs, x, y):
    """Return the log likelihood of all points, a scalar."""
    squares = tf.reduce_sum(tf.square(y - (m * x + b)))
    return -0.5 * squares * tf.exp(-2 * logs) - int(x.shape[0]) * logs


def pointwise_logp(m, b, logs, x, y):
    """Return the log likelihood of each point."""
    return -0.5 * tf.square((y - (m * x + b)) * tf.exp(-logs)) - logs


def placeholders(names=NAMES, shape=()):
    """Return one placeholder for each name."""
    return [v1.placeholder(tf.float64, shape, name) for name in names]


class TwoOp(Method):
    """Two ops that each run a session."""

    label = "two session.run (2018)"
    calls_per_evaluation = 2

    def declare(self, parameters, x, y):
        inputs = placeholders()
        logp = joint_logp(*inputs, tf.constant(x), tf.constant(y))
        self.op = TwoOpBridge(v1.Session(), inputs, logp)
        pm.Potential("loglike", self.op(*parameters))

    def tensorflow_calls(self):
        return self.op.all_runs


class PlainPyMC3(Method):
    """No TensorFlow."""

    label = "plain PyMC3"
    calls_per_evaluation = 0

    def declare(self, parameters, x, y):
        m, b, logs = parameters
        pm.Normal("y", mu=m * x + b, sigma=pm.math.exp(logs), observed=y)

    def tensorflow_calls(self):
        return 0


class BareCallable(Method):
    """No PyMC3: TensorFlow's own fastest call of the likelihood, on the calling thread."""

    label = "bare TensorFlow callable"
    transformed = False

    def __init__(self, x, y):
        self.calls = 0
        with tf.Graph().as_default():
            inputs, data = placeholders(), placeholders(("x", "y"), x.shape)
            resident = [v1.Variable(p, use_resource=True) for p in data]
            logp = joint_logp(*inputs, *resident)
            self.session = v1.Session(config=v1.ConfigProto(inter_op_parallelism_threads=-1))
            self.session.run(v1.global_variables_initializer(), dict(zip(data, (x, y))))
            options = config_pb2.CallableOptions()
            options.feed.extend(p.name for p in inputs)
            options.fetch.extend(t.name for t in [logp, *tf.gradients(logp, inputs)])
            self.call = self.session._make_callable_from_options(options)

    def arguments(self, points):
        return [tuple(np.array(value) for value in point) for point in points]

    def evaluate(self, point):
        self.calls += 1
        return self.call(*point)

    def tensorflow_calls(self):
        return self.calls

    def logp_and_gradient(self, point):
        logp, *gradient = self.evaluate(self.arguments(point[np.newaxis])[0])
        return float(logp), np.array(gradient)


class Density(Method):
    """A scalar joint density; its data in feed_dict."""

    label = "TFDensity"
    logp = staticmethod(joint_logp)
    options = {}
    y_is_value = False

    def declare(self, parameters, x, y):
        inputs, (x_tensor, y_tensor) = placeholders(), placeholders(("x", "y"), x.shape)
        logp = self.logp(*inputs, x_tensor, y_tensor)
        start = time.perf_counter()
        pm.TFDensity(
            "y",
            logp,
            value=y_tensor if self.y_is_value else None,
            params=dict(zip(inputs, parameters)),
            feed_dict={x_tensor: x, y_tensor: y},
            **self.options,
        )
        self.declaration_seconds = time.perf_counter() - start


class CompiledDensity(Density):
    """The same, compiled by XLA."""

    label = "TFDensity, jit_compile"
    options = {"jit_compile": True}


class PointwiseDensity(Density):
    """One number for each point, and y is the value."""

    label = "TFDensity, pointwise"
    logp = staticmethod(pointwise_logp)
    y_is_value = True


# In the order of tables and charts.
METHODS = {
    "two_op": TwoOp,
    "pymc3": PlainPyMC3,
    "bare": BareCallable,
    "density": Density,
    "density_pointwise": PointwiseDensity,
    "density_jit": CompiledDensity,
}
OURS = ("density", "density_pointwise", "density_jit")
