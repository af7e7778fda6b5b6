"""Running programs: memory, threads, forks, and the end of the process."""

import collections
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.runtime import functions, sessions

LARGE = 1_000_000


def program(function, *shapes, **kwargs):
    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [Input(name, "float64", shape) for name, shape in zip(names, shapes)]
    return capture(lambda *arguments: function(*arguments), inputs, **kwargs)


def test_known_points_are_not_evaluated_again():
    square = program(tf.square, ())
    function = functions.function(square)
    points = np.random.RandomState().uniform(size=20)
    for _ in range(2):
        for x in points:
            np.testing.assert_allclose(function([np.array(x)])[0], x**2)
    assert function.calls == 20


def test_memo_tells_shapes_and_signs_apart():
    total = program(lambda x: tf.reduce_sum(x, axis=0), (None, None))
    x = np.arange(6.0)
    np.testing.assert_array_equal(functions.evaluate(total, [x.reshape(2, 3)])[0], [3.0, 5.0, 7.0])
    np.testing.assert_array_equal(functions.evaluate(total, [x.reshape(3, 2)])[0], [6.0, 9.0])
    inverse = program(lambda x: 1.0 / x, ())
    assert functions.evaluate(inverse, [0.0])[0] == np.inf
    assert functions.evaluate(inverse, [-0.0])[0] == -np.inf


def test_results_that_are_remembered_are_bounded_and_the_oldest_are_forgotten():
    session = sessions.GraphSession(program(lambda x: 2.0 * x, ()))
    for i in range(100):
        session.remember(i, {"out": i}, size=sessions._REMEMBERED_BYTES // 10)
    assert [bool(session.recall(i)) for i in (0, 89, 90, 99)] == [False, False, True, True]
    session.remember(99, {"other": 1}, size=0)
    assert session.recall(99) == {"out": 99, "other": 1}
    session.remember("large", {"out": 1}, size=2 * sessions._REMEMBERED_BYTES)
    assert session.recall("large") == {} and session.recall(99)


def test_threads_do_not_lose_results_that_others_remember():
    session = sessions.GraphSession(program(lambda x: 2.0 * x, ()))

    class Slow(collections.UserDict):
        def keys(self):
            time.sleep(0.02)
            return super().keys()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: session.remember("point", Slow({i: i}), size=1), range(4)))
    assert session.recall("point") == {i: i for i in range(4)}


def test_results_belong_to_the_caller():
    double = program(lambda x: 2.0 * x, (3,))
    function = functions.function(double)
    x = np.arange(3.0)
    for _ in range(3):
        result = function([x])[0]
        np.testing.assert_array_equal(result, [0.0, 2.0, 4.0])
        result[:] = -1.0


def test_results_do_not_share_the_memory_of_large_data():
    data = np.arange(float(LARGE))
    same = program(lambda a, data: (a, data), (), (LARGE,))
    bound = same.bind({same.inputs[1].node: data})
    functions.evaluate(bound, [1.0])[1][:] = -1.0
    np.testing.assert_array_equal(functions.evaluate(bound, [2.0])[1], data)


def test_shape_is_checked_at_every_call():
    mean = program(tf.reduce_mean, (3,))
    with pytest.raises(ValueError, match="'x0' was declared with shape"):
        functions.evaluate(mean, [np.ones(4)])


def test_programs_of_one_graph_share_a_session_and_its_data():
    base = program(lambda a, data: a * data, (), (LARGE,))
    base = base.bind({base.inputs[1].node: np.ones(LARGE)})
    every = [functions.function(p) for p in (base, base.sum(), value_and_vjp(base.sum()))]
    assert len({id(f.home) for f in every}) == 1


def test_equal_programs_share_a_function_and_dropped_ones_leave_none():
    import gc

    def make():
        return program(lambda x: x * 1.2345, ())

    one, two = make(), make()
    assert functions.function(one) is functions.function(two)
    key = one.key
    gc.disable()  # no cycle is there to be collected
    try:
        del one, two
        assert key not in functions._functions
    finally:
        gc.enable()


def test_models_that_are_dropped_leave_no_function():
    # Theano's rewrites would remember the ops of every model for good.
    import gc

    import pymc3 as pm

    before = {f._graph_key for f in functions.live_functions()}
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        y = pm.TFDensity("y", lambda y, mu: -1.234 * tf.square(y - mu), {"mu": mu}, observed=[1.0])
    function = model.logp_dlogp_function()
    of_model = {f._graph_key for f in functions.live_functions()} - before
    assert of_model
    del function, model, mu, y
    gc.collect()
    assert not of_model & {f._graph_key for f in functions.live_functions()}


def test_rewrite_that_fails_leaves_no_observer_of_variables():
    # Theano would keep every variable that is made from then on, with its op and its data.
    import theano.tensor as tt
    from theano.graph import opt
    from theano.graph.basic import Variable

    with pytest.raises(ZeroDivisionError):
        with opt.nodes_constructed() as nodes:
            variable = tt.dscalar()
            assert nodes == [variable]
            raise ZeroDivisionError
    assert not Variable.construction_observers


def test_threads_get_their_own_results():
    slow = program(lambda x: tf.reduce_sum(tf.sin(x * tf.ones([200_000], tf.float64))), ())
    points = np.linspace(0.1, 1.0, 8)
    results = {}

    def work(x):
        results[x] = functions.evaluate(slow, [x])[0]

    threads = [threading.Thread(target=work, args=(x,)) for x in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x in points:
        np.testing.assert_allclose(results[x], 200_000 * np.sin(x))


def run(script, timeout=240, **environment):
    """Run a script in a fresh process; anything on its standard error is in the result too."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


FORK = """
import multiprocessing, sys
import pymc3_tf
import numpy as np, tensorflow as tf
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.runtime import functions
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input

size, parent = int(sys.argv[1]), sys.argv[2]
matrix = tf.constant(np.eye(size) * 2.0)

def logp(x, data):
    solved = tf.linalg.cholesky_solve(tf.linalg.cholesky(matrix * tf.exp(x)), data[:, None])
    return -tf.reduce_sum(tf.matmul(matrix, solved)) + tf.reduce_sum(tf.square(data))

program = capture(logp, [Input("x", "float64", ()), Input("data", "float64", (size,))])
program = program.bind({"input_1": np.ones(size)}).sum()
both = value_and_vjp(program)

def child(queue, x):
    queue.put([float(r) for r in functions.evaluate(both, [x])])

def grandchild(queue, x):
    process = multiprocessing.get_context("fork").Process(target=refused, args=(queue, x))
    process.start()
    process.join()

def refused(queue, x):
    try:
        child(queue, x)
    except RuntimeError as error:
        queue.put(str(error))

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    target = grandchild if parent == "nested" else child
    for i in range(4):
        process = context.Process(target=target, args=(queue, 0.1 * i), daemon=False)
        process.start()
        got = queue.get(timeout=150)
        process.join(150)
        if parent == "nested":
            assert "forked by a forked process" in got, got
            continue
        expected = [size * (1 - np.exp(-0.1 * i)), size * np.exp(-0.1 * i)]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    print("done")
"""


@pytest.mark.parametrize("parent, size", [("nothing", 3), ("nothing", 600), ("nested", 3)])
def test_forked_children_compute_and_their_children_are_refused(parent, size, tmp_path):
    script = tmp_path / "fork.py"
    script.write_text(textwrap.dedent(FORK))
    result = subprocess.run(
        [sys.executable, str(script), str(size), parent],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.getcwd()},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.stdout.strip() == "done", result.stdout + result.stderr


def test_hanging_child_ends_with_a_traceback_even_if_the_parents_timer_runs():
    result = run(
        """
        import faulthandler, os, time
        import pymc3_tf
        from pymc3_tf.runtime import forks
        forks.FORK_TIMEOUT = 2
        faulthandler.dump_traceback_later(1000)
        pid = os.fork()
        if pid == 0:
            forks.guarded(lambda: time.sleep(100))()
        print("signal", os.WTERMSIG(os.waitpid(pid, 0)[1]))
        """
    )
    assert "in checked" in result.stderr
    assert result.stdout == f"signal {int(signal.SIGALRM)}\n"


def test_guarded_call_leaves_the_alarm_of_the_user_alone():
    result = run(
        """
        import os, signal
        import pymc3_tf
        from pymc3_tf.runtime import forks
        handler = lambda *args: None
        signal.signal(signal.SIGALRM, handler)
        pid = os.fork()
        signal.setitimer(signal.ITIMER_REAL, 1000)
        if pid == 0:
            assert forks.guarded(lambda: signal.getitimer(signal.ITIMER_REAL)[0] < 500)()
            right = signal.getsignal(signal.SIGALRM) is handler
            os._exit(right and signal.getitimer(signal.ITIMER_REAL)[0] > 500)
        print("right", os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
        """
    )
    assert result.stdout == "right 1\n", result.stderr


def test_nothing_is_printed_at_the_end_of_the_process():
    result = run(
        """
        import logging
        logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
        import pymc3_tf
        import numpy as np, pymc3 as pm, tensorflow as tf
        with pm.Model() as model:
            mu = pm.Normal("mu", 0.0, 1.0)
            y = pm.TFDensity("y", lambda y, mu: -tf.square(y - mu), {"mu": mu}, observed=np.ones(3))
        function = model.logp_dlogp_function()
        print(float(y.logp({"mu": 0.0})))
        """
    )
    assert result.stdout.split()[-1] == "-3.0"
    assert "Exception ignored" not in result.stderr and "Error" not in result.stderr, result.stderr


def test_float32_models():
    result = run(
        """
        import logging
        logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
        import pymc3_tf
        import numpy as np, pymc3 as pm, tensorflow as tf
        data = np.array([0.3, -1.2, 2.5])
        def density(y, mu):
            return -0.5 * tf.square(y - mu) - np.float32(0.5 * np.log(2 * np.pi))
        values = []
        for ours in (True, False):
            with pm.Model() as model:
                mu = pm.Normal("mu", 0.0, 1.0)
                if ours:
                    x = pm.TFDensity("x", density, {"mu": mu})
                    pm.TFDensity("y", density, {"mu": mu}, observed=data)
                else:
                    x = pm.Normal("x", mu, 1.0)
                    pm.Normal("y", mu, 1.0, observed=data)
            assert x.dtype == "float32"
            function = model.logp_dlogp_function()
            function.set_extra_values({})
            logp, gradient = function(np.array([0.2, 0.4], "float32"))
            assert gradient.dtype == np.float32
            values.append(np.hstack([logp, gradient]))
        np.testing.assert_allclose(values[0], values[1], rtol=1e-5)
        with model:
            trace = pm.sample(20, tune=20, chains=2, cores=2, progressbar=False,
                              compute_convergence_checks=False, return_inferencedata=False)
        assert trace["x"].dtype == np.float32
        print("done")
        """,
        THEANO_FLAGS=os.environ.get("THEANO_FLAGS", "") + ",floatX=float32",
    )
    assert result.stdout.split()[-1:] == ["done"], result.stderr


def test_importing_leaves_the_settings_of_others_alone():
    result = run(
        """
        import logging, sys, tensorflow as tf
        before = (logging.getLogger().level, logging.getLogger("tensorflow").level,
                  logging.getLogger("pymc3").level, tf.executing_eagerly())
        import pymc3_tf, theano, pymc3
        assert "tensorflow_probability" not in sys.modules
        assert theano.config.floatX == "float64"
        assert theano.config.compute_test_value == "off"
        after = (logging.getLogger().level, logging.getLogger("tensorflow").level,
                 before[2], tf.executing_eagerly())
        assert before == after, (before, after)
        assert pymc3.TFDensity is pymc3_tf.TFDensity
        print("done")
        """
    )
    assert result.stdout.split()[-1:] == ["done"], result.stderr


def test_name_that_is_taken_on_pymc3_is_left_alone():
    result = run(
        """
        import os
        os.environ["THEANO_FLAGS"] = os.environ.get("THEANO_FLAGS", "") + ",blas__ldflags="
        import pymc3
        pymc3.TFDensity = int
        import pymc3_tf
        assert pymc3.TFDensity is int
        print("done")
        """
    )
    assert result.stdout.split()[-1:] == ["done"], result.stderr
