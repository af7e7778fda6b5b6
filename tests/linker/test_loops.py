"""Loops and conditions: XLA compiles them with their gradient."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support import logp_dlogp_function

import pymc3_tf
from pymc3_tf.exceptions import CompilationError
from pymc3_tf.host import build
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.programs.loops import bound_loops
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

tfd = tfp.distributions
Y = np.linspace(1.0, 1.6, 20)
ONES, ZERO = np.ones(20), np.zeros(())


def normal(y, z):
    return -0.5 * tf.square((y - z) / 0.3)


def everywhere(y, z):
    return normal(y, z * tf.ones_like(y))


def scan(y, a):
    return normal(y, tf.scan(lambda z, t: z * a + t, tf.constant(ONES), tf.constant(ZERO)))


def scan_from_a_parameter(y, a):
    return normal(y, tf.scan(lambda z, t: 0.5 * z + t, tf.constant(ONES), a))


def scan_of_data(y, a):
    variance = tf.scan(lambda h, v: 0.1 + a * h + 0.1 * v * v, y, tf.ones([], tf.float64))
    return -0.5 * (tf.math.log(variance) + tf.square(y) / variance)


def scan_of_loops(y, a):
    def step(z, t):
        return tf.while_loop(lambda i, w: i < 5, lambda i, w: (i + 1, tf.sin(w) * a + z), (0, t))[1]

    return normal(y, tf.scan(step, tf.constant(ONES), tf.constant(ZERO)))


def scan_of_conditions(y, a):
    def step(z, t):
        return tf.cond(z > 1.0, lambda: z * a, lambda: tf.sin(z) + t * a)

    return normal(y, tf.scan(step, tf.constant(ONES), tf.constant(ZERO)))


def map_fn(y, a):
    return normal(y, tf.map_fn(lambda t: t * a, tf.constant(np.arange(20.0))))


def foldr(y, a):
    return everywhere(y, tf.foldr(lambda z, t: z * a + t, tf.constant(ONES), tf.constant(ZERO)))


def array_written_in_a_loop(y, a):
    def body(i, z, array):
        return i + 1, z * a + 1.0, array.write(i, z)

    start = 0, tf.constant(1.0, tf.float64), tf.TensorArray(tf.float64, 20)
    return normal(y, tf.while_loop(lambda i, *_: i < 20, body, start)[2].stack())


def newton(y, a):
    mean, e = tf.constant(np.linspace(0.0, 6.0, 20)), tf.sigmoid(a - 1.0)

    def body(i, E):
        return i + 1, E - (E - e * tf.sin(E) - mean) / (1 - e * tf.cos(E))

    return normal(y, tf.cos(tf.while_loop(lambda i, *_: i < 20, body, (0, mean))[1]))


def counting_down(y, a):
    _, z = tf.while_loop(
        lambda i, z: i > 0, lambda i, z: (i - 2, z * a + 1.0), (tf.constant(20), tf.constant(ZERO))
    )
    return everywhere(y, z)


def condition(y, a):
    return everywhere(y, tf.cond(a > 0.1, lambda: a * tf.sin(a), lambda: tf.exp(a)))


def switch(y, a):
    return everywhere(y, tf.switch_case(tf.cast(a > 0.3, tf.int32), [lambda: a, lambda: a * a]))


@tf.function
def autograph_if(y, a):
    if a > 0.3:
        z = a * tf.sin(3 * a)
    else:
        z = tf.exp(a) * a
    return everywhere(y, z)


@tf.function
def autograph_for(y, a):
    z, array = tf.zeros([], tf.float64), tf.TensorArray(tf.float64, 20)
    for i in tf.range(20):
        z = z * a + 1.0
        array = array.write(i, z)
    return normal(y, array.stack())


@tf.function
def autograph_until_converged(y, a):
    z, i, error = a * tf.ones_like(y), 0, tf.constant(1.0, tf.float64)
    while i < 50 and error > 1e-10:
        new = z - (z - a * tf.sin(z) - y) / (1 - a * tf.cos(z))
        error, z = tf.reduce_max(tf.abs(new - z)), new
        i += 1
    return normal(y, z)


def differential_equation(y, a):
    solver = tfp.math.ode.DormandPrince(rtol=1e-8, atol=1e-10)
    states = solver.solve(
        lambda t, z, a: -a * z,
        0.0,
        tf.ones(2, tf.float64),
        solution_times=tf.constant(np.arange(1, 21.0) / 10),
        constants={"a": a},
    ).states
    return normal(y, 1 + states[:, 0])


def hidden_markov(y, a):
    p = tf.sigmoid(a)
    model = tfd.HiddenMarkovModel(
        tfd.Categorical(probs=tf.constant([0.5, 0.5], tf.float64)),
        tfd.Categorical(probs=tf.stack([tf.stack([p, 1 - p]), tf.stack([1 - p, p])])),
        tfd.Normal(tf.constant([1.0, 1.5], tf.float64), tf.constant([0.2, 0.2], tf.float64)),
        num_steps=20,
    )
    return model.log_prob(y)


def kalman(y, a):
    one = tfd.MultivariateNormalDiag(scale_diag=tf.ones(1, tf.float64))
    unit = tf.ones([1, 1], tf.float64)
    return tfd.LinearGaussianStateSpaceModel(20, a * unit, one, unit, one, one).log_prob(y[:, None])


LOOPS = [
    scan,
    scan_from_a_parameter,
    scan_of_data,
    scan_of_loops,
    scan_of_conditions,
    map_fn,
    foldr,
    array_written_in_a_loop,
    newton,
    counting_down,
    condition,
    switch,
    autograph_if,
    autograph_for,
    autograph_until_converged,
    differential_equation,
    hidden_markov,
    kalman,
]


def name_of(logp):
    return getattr(logp, "__name__", None) or logp.python_function.__name__


def declared(logp, data=Y, **kwargs):
    with pm.Model() as model:
        pm.TFDensity("y", logp, {"a": pm.Normal("a", 0.4, 0.1)}, observed=data, **kwargs)
    return model


@pytest.mark.parametrize("logp", LOOPS, ids=name_of)
def test_gradients_with_and_without_xla(logp):
    position = np.array([0.45])
    f = logp_dlogp_function(declared(logp))
    value, gradient = f({"a": position[0]})
    # Central differences: of an adaptive solver, as good as its tolerance.
    h = 1e-5
    slope = (f({"a": position[0] + h})[0] - f({"a": position[0] - h})[0]) / (2 * h)
    np.testing.assert_allclose(
        gradient, slope, rtol=1e-5 if logp is differential_equation else 1e-6
    )
    compiled = logp_dlogp_function(declared(logp, jit_compile=True))({"a": position[0]})
    np.testing.assert_allclose(compiled[0], value, rtol=1e-12)
    np.testing.assert_allclose(compiled[1], gradient, rtol=1e-11)


@pytest.mark.parametrize(
    "logp", [scan_of_data, scan_of_loops, newton, autograph_until_converged, kalman], ids=name_of
)
@pytest.mark.parametrize("chains", [0, 2], ids=["one chain", "a batch of chains"])
def test_gradients_inside_of_the_sampler(logp, chains):
    model = declared(logp)
    right = logp_dlogp_function(model)({"a": np.array(0.45)})
    unconstrained = UnconstrainedModel(model)
    program = CompiledSampler(unconstrained.log_density, 1, chains=chains)
    position = np.full([*program.batch, 1], 0.45)
    compiled = tf.function(program.value_and_gradient, autograph=False, jit_compile=True)
    value, gradient = compiled(tf.constant(position))
    np.testing.assert_allclose(value, np.broadcast_to(right[0], program.batch), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.broadcast_to(right[1], position.shape), rtol=1e-11)


def test_a_loop_without_bound_is_refused_by_name_without_routines_of_the_host(monkeypatch):
    monkeypatch.setattr(build, "library", lambda name: None)

    def growing(y, a):
        (z,) = tf.while_loop(
            lambda z: z < 5.0, lambda z: (z * 1.5 + tf.abs(a),), (tf.constant(0.5, tf.float64),)
        )
        return everywhere(y, z)

    with declared(growing):
        with pytest.raises(CompilationError) as error:
            pymc3_tf.sample(10, tune=10, chains=1, progressbar=False)
    assert "'y'" in str(error.value)
    assert "tf.while_loop(..., maximum_iterations=1000)" in str(error.value)


@pytest.mark.parametrize(
    "condition, step, start, bound",
    [
        (lambda i: i < 20, 1, 0, 20),
        (lambda i: i <= 20, 3, 0, 8),  # ceil(20 / 3) and one for the equality
        (lambda i: 20 > i, 4, 5, 4),
        (lambda i: i >= 0, -5, 20, 5),
        (lambda i: tf.logical_and(i < 20, i > -1), 1, 2, 18),
        (lambda i: i < 20, -1, 0, -1),  # it goes the other way
        (lambda i: i * i < 20, 1, 0, -1),  # not a comparison of a loop variable
        (lambda i: tf.logical_or(i < 20, i > 90), 1, 0, -1),  # one of them is enough to go on
    ],
)
def test_bound_that_a_condition_implies(condition, step, start, bound):
    with tf.Graph().as_default():
        first = tf.constant(start)
        (i,) = tf.while_loop(condition, lambda i: (i + step,), (first,))
        loop = next(op for op in i.graph.get_operations() if op.type.endswith("While"))
        bound_loops([i])
        found = int(tf.get_static_value(loop.inputs[1]))
        assert found == bound
        if bound >= 0:
            with tf.compat.v1.Session() as session:
                iterations = (session.run(i) - start) / step
            assert iterations <= bound <= iterations + 1
