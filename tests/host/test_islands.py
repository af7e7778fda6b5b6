"""Parts that XLA cannot compile, in a TensorFlow session that the compiled program calls."""

import concurrent.futures
import gc
import logging
import re
import resource
import time
import weakref

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from scipy import stats

import pymc3_tf
from pymc3_tf.host import islands
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.programs.serialized import every_node
from pymc3_tf.programs.xla import compiled_by_xla
from pymc3_tf.sampling import chains
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

M = np.linspace(0, 6, 20)
X = np.cos(M + 0.3 * np.sin(M)) - 0.3 + np.random.RandomState(1).normal(0, 0.1, 20)


def text_of(x):
    return tf.strings.as_string(x, precision=17)


def through_text(x):
    """Return the number itself, in a way that XLA does not know and that has no gradient."""
    return tf.strings.to_number(text_of(tf.stop_gradient(x)), tf.float64)


def parts(build_graph):
    """Return the kinds of ops in each island."""
    with tf.Graph().as_default() as graph:
        build_graph(tf.compat.v1.placeholder(tf.float64, []))
    is_compiled = compiled_by_xla(graph.as_graph_def())
    found = islands.partition(graph, lambda op: is_compiled(op.node_def))
    return found and sorted(sorted(op.type for op in members) for members in found)


def test_what_xla_compiles_is_no_island():
    assert parts(lambda x: tf.linalg.cholesky(tf.exp(x) * tf.eye(3, dtype=tf.float64))) == []


def test_texts_stay_inside_and_numbers_are_handed_over():
    def one_after_the_other(x):
        return through_text(tf.sin(through_text(tf.cos(x))))

    assert parts(one_after_the_other) == [["AsString", "StringToNumber"]] * 2


def test_what_is_between_is_inside():
    def round_trip(x):
        text = text_of(x)
        number = tf.sin(tf.strings.to_number(text, tf.float64))
        return tf.strings.join([text, text_of(number)])

    (members,) = parts(round_trip)
    assert members == ["AsString", "AsString", "Sin", "StringJoin", "StringToNumber"]


def test_islands_that_would_wait_for_each_other_are_one():
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float64, [])
        a, b = text_of(tf.sin(x)), text_of(tf.cos(x))
        # Each has a result that the other one needs later.
        for text, other in ((a, b), (b, a)):
            number = tf.exp(tf.strings.to_number(other, tf.float64))
            tf.strings.join([text, text_of(number)])
    is_compiled = compiled_by_xla(graph.as_graph_def())
    (members,) = islands.partition(graph, lambda op: is_compiled(op.node_def))
    assert {"Exp", "StringJoin"} <= {op.type for op in members}
    assert not {"Sin", "Cos"} & {op.type for op in members}


def test_control_flow_calls_it_as_a_whole():
    def conditional(x):
        return tf.function(lambda x: tf.cond(x > 0, lambda: through_text(x), lambda: x))(x)

    ((call,),) = parts(conditional)
    assert "PartitionedCall" in call


def both(program, position):
    call = tf.function(program.in_draws, jit_compile=True, autograph=False)
    value, gradient = call(tf.constant(position, tf.float64))
    return value.numpy(), gradient.numpy()


@pytest.fixture(scope="module")
def orbit(op):
    """The program of an orbit's density, with an op in C++, and one that is a text in between."""

    def logp(position):
        E = op(tf.constant(M), position[0])
        distance = tf.cos(E) - position[0]
        return -0.5 * tf.reduce_sum(((X - distance) / 0.1) ** 2) + 0.0 * through_text(position[0])

    return CompiledSampler(logp, 1)


def test_value_and_gradient_are_those_of_tensorflow(orbit):
    assert [island.ops for island in orbit.islands] == [
        ["EccentricAnomaly"],
        ["AsString", "StringToNumber"],
    ]
    for e in (0.1, 0.3, 0.9):
        value, gradient = both(orbit, [e])
        expected, slopes = orbit.evaluate(np.array([e]), [])
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-12)
        difference = both(orbit, [e + 1e-6])[0] - both(orbit, [e - 1e-6])[0]
        np.testing.assert_allclose(gradient[0], difference / 2e-6, rtol=1e-6)


def test_what_fails_is_no_number_and_is_counted(orbit):
    orbit.islands[0].take_failures()
    assert np.isnan(both(orbit, [1.5])[0]) and np.isnan(both(orbit, [-1.0])[0])
    number, text = orbit.islands[0].take_failures()
    assert number == 2 and "the eccentricity is 1.5" in text and "\n" not in text
    assert orbit.islands[0].take_failures()[0] == orbit.islands[1].take_failures()[0] == 0
    assert np.isfinite(both(orbit, [0.5])[0])


def test_chains_in_threads_draw_what_they_draw_one_after_the_other(orbit):
    starts = np.full((2, 1), 0.3)
    one, two = (
        chains.run_chains(orbit, starts, 100, 100, random_seed=1, cores=cores) for cores in (1, 2)
    )
    np.testing.assert_array_equal(one.draws.positions, two.draws.positions)


def test_memory_stays_flat(orbit):
    @tf.function(jit_compile=True, autograph=False)
    def many(e):
        def body(i, total):
            return i + 1, total * 1e-9 + orbit.in_draws(e[None])[0]

        return tf.while_loop(lambda i, _: i < 20_000, body, (0, tf.zeros([], tf.float64)))[1]

    points = [tf.constant(x, tf.float64) for x in [0.3] * 9 + [1.5]]  # the last one fails
    many(points[0]), many(points[-1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(many, points))
    # In kB. A tensor that is lost on each call would take 300 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_program_that_goes_takes_its_session_along():
    program = CompiledSampler(lambda x: -tf.reduce_sum(x**2) + 0.0 * through_text(x[0]), 1)
    (island,) = program.islands
    finalizer = weakref.ref(island)
    del island, program
    gc.collect()
    assert finalizer() is None


# -- models -----------------------------------------------------------------------------------


def only_line(caplog):
    """Return what the log says of XLA."""
    (text,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("XLA")]
    return text


def orbit_model(op):
    def logp(x, M, e):
        return -0.5 * ((x - tf.cos(op(M, e)) + e) / 0.1) ** 2

    with pm.Model() as model:
        # Beyond one the op fails.
        e = pm.TruncatedNormal("e", 0.9, 0.2, lower=0.0)
        pm.TFDensity("x", logp, {"e": e}, feed_dict={"x": X, "M": M})
    return model


def test_model_calls_an_island_once_for_value_and_gradient(op):
    unconstrained = UnconstrainedModel(orbit_model(op))
    data = [tf.TensorSpec(array.shape, array.dtype) for array in unconstrained.data]
    program = CompiledSampler(unconstrained.log_density, unconstrained.size, data)
    assert [island.ops for island in program.islands] == [["EccentricAnomaly"]]


def test_posterior_is_that_of_pymc3s_log_density(op, caplog):
    caplog.set_level(logging.INFO, "pymc3")
    model = orbit_model(op)
    idata = pymc3_tf.sample(2000, model=model, chains=2, random_seed=1, progressbar=False)
    assert re.fullmatch(
        r"XLA cannot compile EccentricAnomaly \([1-9][\d,]* microseconds a call\): "
        "the compiled program calls TensorFlow for it.",
        only_line(caplog),
    )
    # What is compiled already is not reported again.
    pymc3_tf.sample(10, tune=10, model=model, chains=1, random_seed=1, progressbar=False)
    only_line(caplog)
    draws = np.log(idata.posterior.e.values.ravel()[::4])
    assert stats.kstest(draws, posterior_on_a_grid(model)).pvalue > 1e-3


def posterior_on_a_grid(model):
    """Return the distribution function of the logarithm of e: pm.sample has the same density."""
    grid = np.linspace(np.log(0.05), np.log(0.99), 2000)
    (name,) = [v.name for v in model.vars]
    density = model.logp  # a property that compiles it
    logp = np.array([density({name: z}) for z in grid])
    weights = np.exp(logp - logp.max())
    cdf = np.cumsum(weights) / weights.sum()
    return lambda z: np.interp(z, grid, cdf)


def test_failures_are_reported_as_under_pm_sample(op, caplog):
    caplog.set_level(logging.WARNING, "pymc3")

    def logp(e, M):
        # The op fails beyond one, where half of the mass would be.
        return tf.reduce_sum(1e-9 * op(M, e)) - 0.5 * (e - 1) ** 2

    with pm.Model():
        pm.TFDensity("e", logp, feed_dict={"M": M}, testval=0.5)
        idata = pymc3_tf.sample(200, tune=200, chains=1, random_seed=1, progressbar=False)
    assert idata.sample_stats.diverging.values.any()
    assert (idata.posterior.e.values < 1).all()
    (text,) = [r.getMessage() for r in caplog.records if "A TFDensity failed" in r.getMessage()]
    assert "log density was taken for -inf" in text and "in EccentricAnomaly" in text


def test_what_xla_has_no_form_for_runs_as_a_whole(caplog):
    caplog.set_level(logging.INFO, "pymc3")

    def logp(x):
        # A loop without a bound: four turns, or more.
        (z,) = tf.while_loop(
            lambda z: z < 5.0, lambda z: (z * 1.5 + 0.1 * tf.abs(x),), (tf.ones([], tf.float64),)
        )
        return -0.5 * x**2 - 0.0 * z

    with pm.Model():
        pm.TFDensity("x", logp)
        idata = pymc3_tf.sample(1000, chains=2, random_seed=1, progressbar=False)
    assert re.match(r"XLA cannot compile the density \([\d,]+ micro", only_line(caplog))
    assert stats.kstest(idata.posterior.x.values.ravel()[::5], "norm").pvalue > 1e-3


def test_line_says_what_a_call_takes(caplog):
    caplog.set_level(logging.INFO, "pymc3")

    def slow(x):
        time.sleep(0.02)
        return x

    def logp(x):
        (y,) = tf.nest.flatten(tf.numpy_function(slow, [tf.stop_gradient(x[0])], tf.float64))
        return -0.5 * tf.reduce_sum(x**2) + 0.0 * tf.ensure_shape(y, []) + 0.0 * through_text(x[1])

    program = CompiledSampler(logp, 2)
    assert not caplog.records  # only where a chain starts is it known on what it is called
    for _ in range(2):
        program.prepare(np.zeros(2), [])
    found = re.findall(r"([A-Z]\w+(?:, \w+)*) \(([\d,]+) microseconds", only_line(caplog))
    times = {ops: float(number.replace(",", "")) for ops, number in found}
    assert list(times) == ["PyFunc", "AsString, StringToNumber"]
    assert 20_000 <= times["PyFunc"] < 60_000 and times["AsString, StringToNumber"] < 2_000
    assert only_line(caplog).endswith("the compiled program calls TensorFlow for them.")


# -- batches of chains -------------------------------------------------------------------------


def test_chains_of_a_batch_are_computed_one_by_one(op, orbit):
    def logp(position):
        E = op(tf.constant(M), position[0])
        return -0.5 * tf.reduce_sum(((X - tf.cos(E) + position[0]) / 0.1) ** 2)

    program = CompiledSampler(logp, 1, chains=3)
    assert [island.ops for island in program.islands] == [["EccentricAnomaly"]]
    value, gradient = both(program, [[0.3], [1.5], [0.6]])
    # Where one fails, the others go on.
    np.testing.assert_array_equal(np.isfinite(value), [True, False, True])
    for row, e in ((0, 0.3), (2, 0.6)):
        expected, slopes = orbit.evaluate(np.array([e]), [])
        np.testing.assert_allclose(value[row], expected, rtol=1e-12)
        np.testing.assert_allclose(gradient[row], slopes, rtol=1e-12)


def test_batch_of_chains_has_the_posterior_of_a_grid(op):
    model = orbit_model(op)
    idata = pymc3_tf.sample(
        500,
        tune=500,
        model=model,
        chains=8,
        chain_method="vectorized",
        random_seed=1,
        progressbar=False,
    )
    draws = np.log(idata.posterior.e.values[:, ::4].ravel())
    assert stats.kstest(draws, posterior_on_a_grid(model)).pvalue > 1e-3


@pytest.mark.slow
def test_batch_runs_as_a_whole_where_xla_has_no_form_for_a_loop():
    def logp(x):
        (z,) = tf.while_loop(
            lambda z: z < 5.0, lambda z: (z * 1.5 + 0.1 * x[0] ** 2,), (tf.ones([], tf.float64),)
        )
        return -0.5 * tf.reduce_sum(x**2) - 0.1 * z

    program, one = (CompiledSampler(logp, 1, chains=n) for n in (2, 0))
    positions = np.array([[0.5], [2.0]])
    result = chains.run_chains(program, positions, 20, 20, random_seed=1)
    assert [island.label for island in program.islands] == ["the density"]
    assert np.isfinite(result.draws.positions).all()
    value, gradient = both(program, positions)
    for row, position in enumerate(positions):
        expected, slopes = one.evaluate(position, [])
        np.testing.assert_allclose(value[row], expected, rtol=1e-12)
        np.testing.assert_allclose(gradient[row], slopes, rtol=1e-12)


def test_program_says_what_it_calls(orbit):
    nodes = list(every_node(orbit.draw_function.graph.as_graph_def()))
    assert "EccentricAnomaly" not in {node.op for node in nodes}
    assert "XlaCustomCallV2" in {node.op for node in nodes}


# -- shapes that change ------------------------------------------------------------------------


def test_shape_that_changes_between_calls_is_a_failure_that_is_named(caplog):
    caplog.set_level(logging.WARNING, "pymc3")

    def logp(x):
        words = tf.strings.split(tf.where(x < 1.0, "1 2", "1 2 3"))
        numbers = tf.strings.to_number(words, tf.float64)
        return -0.5 * x**2 + 0.0 * tf.reduce_sum(tf.ensure_shape(numbers, [2]))

    with pm.Model():
        pm.TFDensity("x", logp, testval=0.0)
        idata = pymc3_tf.sample(200, tune=200, chains=1, random_seed=1, progressbar=False)
    assert (idata.posterior.x.values < 1).all() and idata.sample_stats.diverging.values.any()
    (text,) = [r.getMessage() for r in caplog.records if "was taken for -inf" in r.getMessage()]
    assert re.search(r"in .*StringSplitV2.*Shape of tensor .*\[3\] is not compatible", text), text
