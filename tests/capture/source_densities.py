"""Three densities for tests of sources, and what TensorFlow computes of them eagerly."""

import pickle
from typing import Any, Callable, NamedTuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt

v1 = tf.compat.v1

POINTS = np.linspace(-1.0, 1.0, 6)
COVARIANCE = np.array([[1.0, 0.3, 0.1], [0.3, 2.0, 0.4], [0.1, 0.4, 1.5]])


def normal_log_density(residual, scale):
    return tf.reduce_sum(
        -0.5 * tf.square(residual / scale) - tf.math.log(scale) - 0.5 * np.log(2 * np.pi)
    )


def mv_normal_log_density(residual, covariance):
    factor = tf.linalg.cholesky(covariance)
    white = tf.linalg.triangular_solve(factor, residual[:, None])
    log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
    constant = 0.5 * np.log(2 * np.pi) * tf.cast(tf.size(residual), residual.dtype)
    return -0.5 * tf.reduce_sum(tf.square(white)) - log_determinant - constant


def line(y, p, q):
    """Offset p and scale q."""
    return normal_log_density(y - 0.7 * POINTS - p, q)


def mv_normal(y, p, q):
    """Mean p and a scale q of the covariance."""
    return mv_normal_log_density(y - p, q * COVARIANCE)


def gaussian_process(y, p, q):
    """Amplitude p and length scale q."""
    distance = tf.constant(POINTS[:, None] - POINTS[None, :])
    kernel = tf.square(p) * tf.exp(-0.5 * tf.square(distance / q))
    return mv_normal_log_density(y, kernel + 0.1 * tf.eye(len(POINTS), dtype=y.dtype))


class Density(NamedTuple):
    function: Callable[..., Any]
    y: np.ndarray
    p: np.ndarray
    q: np.ndarray

    @property
    def specs(self):
        return [tf.TensorSpec(x.shape, tf.float64, name=n) for n, x in zip("ypq", self[1:])]


DENSITIES = [
    Density(line, np.sin(np.arange(6.0)), np.array(0.4), np.array(0.8)),
    Density(mv_normal, np.array([0.3, -1.0, 0.5]), np.array([0.1, -0.4, 0.9]), np.array(1.3)),
    Density(gaussian_process, np.cos(np.arange(6.0)), np.array(0.9), np.array(0.6)),
]
DIRECTION = np.array([0.3, -0.7, 1.1, 0.5])


def expected(density):
    """Value, gradient and Hessian-vector product by TensorFlow's own tapes."""
    p, q, y = (tf.constant(x) for x in (density.p, density.q, density.y))
    with tf.GradientTape() as outer:
        outer.watch([p, q])
        with tf.GradientTape() as inner:
            inner.watch([p, q])
            value = density.function(y, p, q)
        gradient = tf.concat([tf.reshape(g, [-1]) for g in inner.gradient(value, [p, q])], 0)
        directional = tf.reduce_sum(gradient * DIRECTION[: gradient.shape[0]])
    product = tf.concat([tf.reshape(g, [-1]) for g in outer.gradient(directional, [p, q])], 0)
    return value.numpy(), gradient.numpy(), product.numpy()


def results(model, second=True):
    """Value, gradient and Hessian-vector product of a model of p and q."""
    variables = [model["p"], model["q"]]
    size = sum(v.tag.test_value.size for v in variables)

    def flat_gradient(of):
        return tt.concatenate([g.flatten() for g in theano.grad(of, variables)])

    with theano.config.change_flags(compute_test_value="off"):
        wanted = [model.logpt, flat_gradient(model.logpt)]
        if second:
            directional = (wanted[1] * DIRECTION[:size]).sum()
            wanted.append(flat_gradient(directional))
        return model.fastfn(wanted)(model.test_point)


def placeholders(d):
    return [v1.placeholder(tf.float64, x.shape, name=name) for name, x in zip("ypq", d[1:])]


def named(graph, *names):
    return [graph.get_tensor_by_name(f"{name}:0") for name in names]


def graph_with_a_variable(d):
    """A graph of placeholders p and q with the data in a variable; its session."""
    with tf.Graph().as_default() as graph:
        y_t = v1.get_variable("data", initializer=d.y)
        _, p_t, q_t = placeholders(d)
        tf.identity(d.function(y_t, p_t, q_t), name="logp")
        session = v1.Session(graph=graph)
        session.run(v1.global_variables_initializer())
    return graph, session


def save_module(d, tmp_path):
    module = tf.Module()
    module.data = tf.Variable(d.y)
    module.log_density = tf.function(d.function, input_signature=d.specs)
    module.of_data = tf.function(
        lambda p, q: d.function(module.data, p, q), input_signature=d.specs[1:]
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.log_density)
    return str(tmp_path)


def model_of(density, declare, of_row):
    """Return a model that has the density, declared by a row, and nothing else."""
    with pm.Model() as model:
        p = pm.Flat("p", shape=density.p.shape, testval=density.p)
        q = pm.Flat("q", testval=density.q)
        declare(density, p, q, of_row)
    return model


def assert_same_numbers(model, density, second=True):
    """A model has the value and the derivatives of eager TensorFlow, and so has a pickled copy.

    How a source is pickled does not depend on the density: one of them is.
    """
    value, gradient, product = expected(density)
    copies = [pickle.loads(pickle.dumps(model))] if density is DENSITIES[1] else []
    for each in (model, *copies):
        found = results(each, second)
        np.testing.assert_allclose(found[0], value, rtol=1e-10)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-9)
        if second:
            np.testing.assert_allclose(found[2], product, rtol=1e-8)
