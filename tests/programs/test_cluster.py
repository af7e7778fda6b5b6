"""Densities that live on the servers of a cluster: real worker processes, on this machine.

Sessions have time limits, so that what should be an error cannot become a hang.
"""

import contextlib
import logging
import pickle
import re
import time

import pymc3_tf  # isort: skip  # before pymc3, for the sake of Python 3.11
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from support import assert_same_posterior, load_example

from pymc3_tf import TensorFlowOp
from pymc3_tf.exceptions import (
    CompilationError,
    DeclarationError,
    UninitializedVariableError,
    UnreachableClusterError,
    WorkerLostError,
)
from pymc3_tf.linker import link
from pymc3_tf.runtime import functions

v1 = tf.compat.v1
example = load_example("cluster")
ROWS = 40_000
TASKS = ["/job:worker/task:0", "/job:worker/task:1"]


def config(seconds=60, **kwargs):
    return v1.ConfigProto(operation_timeout_in_ms=1000 * seconds, **kwargs)


@pytest.fixture(scope="module")
def cluster():
    """The target of a session on two workers."""
    with example.workers(2) as (_, target):
        v1.Session(target, graph=tf.Graph(), config=config()).list_devices()
        yield target


@pytest.fixture(scope="module")
def regression(cluster):
    """Tensors of the regression and the session that filled its variables."""
    tensors = example.graph(ROWS, 2, seed=3)
    session = example.connect(tensors, cluster)
    yield tensors, session
    session.close()  # before the server that it would wait for ends


@pytest.fixture
def connect(cluster):
    """Open sessions, and close them before the servers that they would wait for end."""
    with contextlib.ExitStack() as stack:
        yield lambda graph=None, seconds=60: stack.enter_context(
            contextlib.closing(v1.Session(cluster, graph, config(seconds)))
        )


def logp_dlogp(model, points):
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    values = [function(np.asarray(point, float)) for point in points]
    return np.array([float(value) for value, _ in values]), np.array([g for _, g in values])


POINTS = [[0.0, 0.0, 0.0], [0.5, -0.3, 0.2], [-1.0, 2.0, 0.1]]


def test_density_and_gradient_are_those_of_the_frozen_graph_and_of_the_closed_form(regression):
    tensors, session = regression
    value, gradient = logp_dlogp(example.model(tensors, session), POINTS)
    # The same graph in this process, where its variables are frozen.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "device", lambda name: contextlib.nullcontext())
        here = example.graph(ROWS, 2, seed=3)
    model = example.model(here, example.connect(here, ""))
    expected, expected_gradient = logp_dlogp(model, POINTS)
    assert_allclose(value, expected, rtol=1e-10)
    assert_allclose(gradient, expected_gradient, rtol=1e-10)
    shards = session.run(tensors.shards)
    x, y = np.concatenate(shards[::2]), np.concatenate(shards[1::2])
    for point, found, slope in zip(np.array(POINTS), value, gradient):
        residual, noise = y - x @ point, example.NOISE
        likelihood = -0.5 * (residual**2 / noise**2 + np.log(2 * np.pi * noise**2)).sum()
        prior = -0.5 * (point**2 + np.log(2 * np.pi)).sum()
        assert_allclose(found, likelihood + prior, rtol=1e-10)
        assert_allclose(slope, x.T @ residual / noise**2 - point, rtol=1e-10)


def test_head_has_no_data_and_each_worker_its_shard_only(regression):
    tensors, session = regression
    program = example.model(tensors, session).y.distribution.program
    bytes_of_data = ROWS * 4 * 8
    assert len(pickle.dumps(program)) < 20_000 < bytes_of_data
    assert not program.feeds
    names = [shard.op.name for shard in tensors.shards]
    with tf.Graph().as_default() as graph:
        there = []
        for task in TASKS:
            for shard in tensors.shards:
                with tf.device(task):
                    handle = tf.raw_ops.VarHandleOp(
                        dtype=shard.dtype.base_dtype, shape=shard.shape, shared_name=shard.op.name
                    )
                    there.append(tf.raw_ops.VarIsInitializedOp(resource=handle))
    found = v1.Session(session.sess_str, graph=graph, config=config()).run(there)
    assert names == ["x_0", "y_0", "x_1", "y_1"]
    assert found == [True, True, False, False, False, False, True, True]


@pytest.mark.parametrize("use_resource", [False, True])
def test_variables_are_parameters_or_stay_where_they_are(connect, use_resource):
    with tf.Graph().as_default() as graph:
        with tf.device(TASKS[1]), v1.variable_scope(f"kind_{use_resource}"):
            data = v1.get_variable(
                "data", initializer=np.arange(5.0), use_resource=use_resource, dtype=tf.float64
            )
            scale = v1.get_variable("scale", [], tf.float64, use_resource=use_resource)
            logp = -0.5 * tf.reduce_sum((data * scale) ** 2)
        session = connect()
        with pm.Model():
            s = pm.Normal("s", 0.0, 1.0)
            with pytest.raises(UninitializedVariableError, match=r"no value on the cluster.*data'"):
                pm.TFDensity("y", logp, {scale: s}, session=session)
            session.run(data.initializer)  # scale needs no value: it is a parameter
            y = pm.TFDensity("z", logp, {scale: s}, session=session)
        assert_allclose(y.logp({"s": 2.0}), -60.0)
        session.run(v1.assign(data, np.ones(5)))
        assert_allclose(y.logp({"s": 2.0}), -10.0)  # live, and not remembered
    assert graph is session.graph


def test_device_is_said_in_the_graph(regression):
    tensors, session = regression
    with session.graph.as_default(), pytest.raises(
        DeclarationError,
        match=r"device is '/device:CPU:0', and .* lives on the cluster grpc:.*Leave",
    ):
        total = tf.reduce_sum(tensors.shards[0])
        TensorFlowOp(total, [], session=session, device="/CPU:0")


def test_op_has_several_outputs_large_feeds_and_second_derivatives(connect):
    x = np.random.RandomState(0).normal(size=20_000)
    with tf.Graph().as_default():
        with tf.device(TASKS[1]):
            x_t, a_t = v1.placeholder(tf.float64, [None]), v1.placeholder(tf.float64, [])
            outputs = [tf.reduce_sum(x_t * a_t**3), a_t * x_t[:3]]
        session = connect()
        op = TensorFlowOp(outputs, [a_t], {x_t: x}, session=session)
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 1.0)
        total, first = op(a)
        pm.Potential("total", total)
        pm.Deterministic("first", first)
    assert_allclose(model.first.eval({a: 2.0}), 2.0 * x[:3])
    _, gradient = logp_dlogp(model, [[2.0]])
    assert_allclose(gradient[0, 0], 12.0 * x.sum() - 2.0, rtol=1e-10)
    hessian = pm.find_hessian({"a": 2.0}, model=model)
    assert_allclose(hessian, [[1.0 - 12.0 * x.sum()]], rtol=1e-10)


def test_unpickled_program_connects_by_itself(regression):
    tensors, session = regression
    program = example.model(tensors, session).y.distribution.program
    copy = pickle.loads(pickle.dumps(program))
    assert copy == program and copy.cluster.target == session.sess_str.decode()
    expected = session.run(tensors.logp, {tensors.effects: POINTS[1]})
    assert_allclose(functions.evaluate(copy, [POINTS[1]])[0], expected, rtol=1e-12)


def test_chains_sample_in_processes_of_their_own(regression):
    tensors, session = regression
    mean, sd = example.closed_form(tensors, session)
    with example.model(tensors, session):
        trace = pm.sample(
            200, tune=200, chains=2, cores=2, mp_ctx="forkserver", random_seed=1,
            progressbar=False, return_inferencedata=False, compute_convergence_checks=False,
        )  # fmt: skip
    draws = np.stack(trace.get_values("effects", combine=False))
    assert draws.shape == (2, 200, 3)
    assert_same_posterior(draws, (mean, sd))


def test_forked_chains_are_refused_at_once(regression):
    tensors, session = regression
    with example.model(tensors, session), pytest.raises(RuntimeError) as error:
        pm.sample(5, tune=5, chains=2, cores=2, mp_ctx="fork", progressbar=False)
    assert 'pm.sample(mp_ctx="forkserver")' in str(error.value.__cause__)
    assert re.search("forked process cannot connect.*without a preload", str(error.value.__cause__))


def test_xla_and_other_graphs_are_refused(regression, cluster):
    tensors, session = regression
    with example.model(tensors, session) as model:
        with pytest.raises(CompilationError, match=r"'y' lives on the cluster.*Use pm.sample\(\)"):
            pymc3_tf.sample()
        with pytest.raises(DeclarationError, match="Leave jit_compile out"):
            pm.TFDensity(
                "z", tensors.logp, {tensors.effects.ref(): model.effects},
                session=session, jit_compile=True,
            )  # fmt: skip
        with pytest.raises(DeclarationError, match="not in the graph of the session"):
            pm.TFDensity("z", lambda a: -(a**2), {"a": model.effects}, session=session)
        own = v1.Session(cluster, tensors.logp.graph, config(isolate_session_state=True))
        with pytest.raises(DeclarationError, match="isolate_session_state"):
            pm.TFDensity("z", tensors.logp, {tensors.effects.ref(): model.effects}, session=own)


def test_linker_refuses_a_cluster(regression):
    tensors, session = regression
    model = example.model(tensors, session)
    with pytest.raises(NotImplementedError, match="logp lives on the cluster"):
        link([model.logpt], model.vars)(np.zeros(3))


def test_wrong_address_is_an_error_at_declaration():
    tensors = example.graph(10, 2, seed=3)
    session = v1.Session("grpc://127.0.0.1:1", graph=tensors.logp.graph)
    with pytest.raises(UnreachableClusterError, match=r"grpc://127.0.0.1:1 .*does not answer"):
        example.model(tensors, session)


def killer(process, draw_number):
    """A callback of pm.sample that kills a worker."""

    def kill(trace, draw):
        if draw.draw_idx == draw_number:
            process.kill()
            process.wait()

    return kill


@pytest.mark.parametrize("cores", [1, 2])
def test_dead_worker_ends_sampling_with_its_name_and_the_draws_are_kept(cores, caplog, monkeypatch):
    monkeypatch.setattr("pymc3_tf.programs.cluster.PROBE_TIMEOUT", 3)
    with example.workers(2) as (processes, target):
        tensors = example.graph(ROWS, 2, seed=3)
        graph = tensors.logp.graph
        example.connect(tensors, target).close()  # before the server that it would wait for ends
        model = example.model(tensors, v1.Session(target, graph, config(3)))
        begin = time.monotonic()
        with model, caplog.at_level(logging.ERROR, "pymc3"):
            trace = pm.sample(
                200, tune=50, chains=2, cores=cores, mp_ctx="forkserver", random_seed=1,
                callback=killer(processes[1], 120), progressbar=False,
                return_inferencedata=False, compute_convergence_checks=cores == 1,
            )  # fmt: skip
        assert time.monotonic() - begin < 300  # it did not hang
        assert "/job:worker/replica:0/task:1 of the cluster" in caplog.text
        assert 50 < len(trace) <= 80
        assert np.isfinite(trace["effects"]).all()
        if cores == 2:
            return
        with pytest.raises(WorkerLostError, match="/job:worker/replica:0/task:1 of the cluster"):
            model.logp(model.test_point)
        session = v1.Session(target, graph, config(3))
        with pytest.raises(
            UnreachableClusterError, match="/job:worker/replica:0/task:1 of the cluster"
        ):
            example.model(tensors, session)
        processes[0].kill()
        processes[0].wait()
        with pytest.raises(WorkerLostError, match="/job:worker/replica:0/task:0 of the cluster"):
            model.logp(model.test_point)


def test_slow_call_is_told_from_a_dead_worker(connect):
    with tf.Graph().as_default() as graph:
        n = v1.placeholder(tf.float64, [])
        steps = tf.while_loop(lambda i: i < n, lambda i: i + 1.0, [tf.zeros([], tf.float64)])
        op = TensorFlowOp(steps, [n], session=connect(graph, 2))
    with pytest.raises(WorkerLostError, match="longer than 2 seconds, and all of its tasks are"):
        functions.evaluate(op.program, [1e12])


@pytest.mark.parametrize("dtype, rtol", [(tf.float64, 1e-10), (tf.float32, 1e-5)])
def test_masked_data_and_either_dtype_are_those_of_the_builtin(connect, dtype, rtol):
    data = np.ma.masked_values([0.3, -1.0, 2.0, -1.0], -1.0)
    with tf.Graph().as_default():
        y_t, mu_t = v1.placeholder(dtype, [None]), v1.placeholder(dtype, [])
        with tf.device(TASKS[1]), v1.variable_scope(f"masked_{dtype.name}"):
            sigma = v1.get_variable("sigma", initializer=tf.constant(1.5, dtype))
            logp = -0.5 * (tf.square((y_t - mu_t) / sigma) + np.log(2 * np.pi * 1.5**2))
        session = connect()
        session.run(sigma.initializer)
        with pm.Model() as there:
            mu = pm.Normal("mu", 0.0, 1.0)
            pm.TFDensity("y", logp, {mu_t: mu}, value=y_t, observed=data, session=session)
    with pm.Model() as builtin:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.5, observed=data)
    points = [[0.1, 0.2, 0.3], [-1.0, 2.0, 0.5]]
    value, gradient = logp_dlogp(there, points)
    expected, expected_gradient = logp_dlogp(builtin, points)
    assert_allclose(value, expected, rtol=rtol)
    assert_allclose(gradient, expected_gradient, rtol=rtol)


def test_predictions_are_drawn_on_the_cluster(connect):
    with tf.Graph().as_default():
        y_t, mu_t = v1.placeholder(tf.float64, [None]), v1.placeholder(tf.float64, [])
        with tf.device(TASKS[1]), v1.variable_scope("predictions"):
            sigma = v1.get_variable("sigma", initializer=tf.constant(0.5, tf.float64))
            logp = -0.5 * tf.square((y_t - mu_t) / sigma) - tf.math.log(sigma)
            draw = mu_t + sigma * tf.random.normal([200], dtype=tf.float64)
        session = connect()
        session.run(sigma.initializer)
        with pm.Model():
            mu = pm.Normal("mu", 0.0, 1.0)
            pm.TFDensity(
                "y",
                logp,
                {mu_t: mu},
                value=y_t,
                observed=np.zeros(200),
                session=session,
                random=draw,
            )
            trace = [{"mu": np.array(m)} for m in (0.0, 5.0, -3.0)]
            found = pm.sample_posterior_predictive(trace, random_seed=1, progressbar=False)["y"]
            again = pm.sample_posterior_predictive(trace, random_seed=1, progressbar=False)["y"]
    assert_allclose(found, again)
    assert_allclose(found.mean(axis=1), [0.0, 5.0, -3.0], atol=4 * 0.5 / np.sqrt(200))
    assert_allclose(found.std(axis=1), 0.5, atol=4 * 0.5 / np.sqrt(400))
