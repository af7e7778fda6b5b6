"""Programs: capture from every kind of source, identity, pickling, derived programs."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
from support import REGIMES

from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input
from pymc3_tf.programs.building import elementwise_rank, footprint
from pymc3_tf.programs.differentiation import value_and_vjp, vjp
from pymc3_tf.programs.program import ALIGNMENT, Feed
from pymc3_tf.runtime import functions

v1 = tf.compat.v1
X = np.linspace(-1.0, 2.0, 7)


def pointwise(a, b, x):
    return tf.exp(a) * tf.square(x) + b * x


def value(a, b):
    return np.exp(a) * X**2 + b * X


def gradients(a, b):
    """By a and by b, of each element."""
    return np.exp(a) * X**2, X


def program(regime, function=pointwise, **kwargs):
    if regime in ("function", "tf_function", "xla"):
        keys = ["a", "b", "x"]
        source = tf.function(function) if regime == "tf_function" else function
        inputs = [Input(k, "float64", ()) for k in keys[:2]] + [Input("x", "float64", X.shape)]
        captured = capture(source, inputs, jit_compile=regime == "xla", **kwargs)
    else:
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            x = v1.placeholder(tf.float64, [None], name="x")
            if regime == "placeholder":
                keys = [v1.placeholder(tf.float64, [], name=name) for name in "ab"]
            else:
                resource = regime == "resource_variable"
                keys = [v1.get_variable(n, [], tf.float64, use_resource=resource) for n in "ab"]
            session.run(v1.global_variables_initializer())
            inputs = [Input(k, "float64", ()) for k in keys] + [Input(x, "float64", X.shape)]
            captured = capture(function(*keys, x), inputs, session=session, **kwargs)
    return captured.bind({captured.inputs[2].node: X})


@pytest.fixture(params=REGIMES)
def captured(request):
    return program(request.param)


def check(name, got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, err_msg=name)


def test_value_sum_and_products_in_closed_form(captured):
    a, b, g = 0.3, -0.7, np.arange(7.0)
    by_a, by_b = gradients(a, b)
    check("value", *functions.evaluate(captured, [a, b]), value(a, b))
    check("sum", *functions.evaluate(captured.sum(), [a, b]), value(a, b).sum())
    product = functions.evaluate(vjp(captured), [a, b, g])
    check("vjp by a", product[0], g @ by_a)
    check("vjp by b", product[1], g @ by_b)
    gradient = functions.evaluate(vjp(captured.sum()), [a, b])
    check("gradient", gradient, [by_a.sum(), by_b.sum()])
    both = functions.evaluate(value_and_vjp(captured.sum()), [a, b])
    check("both", both, [value(a, b).sum(), by_a.sum(), by_b.sum()])
    # d/da of (u, v) . gradient: only exp(a) x^2 is curved.
    hessian_vector = functions.evaluate(vjp(vjp(captured.sum())), [a, b, 2.0, 5.0])
    check("second derivatives", hessian_vector[0], 2.0 * by_a.sum())


def test_pickling_keeps_the_key_and_the_numbers(captured):
    copy = pickle.loads(pickle.dumps(captured))
    assert copy == captured and hash(copy) == hash(captured)
    for derive in (lambda p: p.sum(), vjp, lambda p: value_and_vjp(p.sum())):
        assert derive(copy) == derive(captured)
    feed = copy.feeds[0].array
    assert feed.ctypes.data % ALIGNMENT == 0 and not feed.flags.writeable
    np.testing.assert_array_equal(feed, X)


def test_key_tells_programs_apart():
    one = program("placeholder")
    assert one == program("placeholder")
    assert one != program("placeholder", lambda a, b, x: tf.exp(a) * tf.square(x) - b * x)
    assert one != one.sum() and one.sum() != vjp(one.sum())
    assert one != program("placeholder", jit_compile=True)
    unbound = [one.bind({one.inputs[0].node: np.array(v)}) for v in (1.0, 2.0, 1.0)]
    assert unbound[0] == unbound[2] != unbound[1]


@pytest.mark.parametrize("length", [1, 8, 9, 24])
def test_an_array_that_its_owner_can_change_is_copied(length):
    memory = np.zeros(length + ALIGNMENT // 8)
    start = -memory.ctypes.data % ALIGNMENT // 8
    mine = memory[start : start + length]
    mine[:] = range(length)
    feed = Feed.of("x", mine)
    mine[:] = -1.0
    assert feed.array.tolist() == list(range(length))
    assert feed.array.ctypes.data % ALIGNMENT == 0


def test_feed_is_a_copy_and_a_copy_of_a_feed_is_not():
    mine = np.arange(3.0)
    feed = Feed.of("x", mine)
    mine[:] = 0.0
    np.testing.assert_array_equal(feed.array, [0.0, 1.0, 2.0])
    assert Feed.of("y", feed.array).array is feed.array


def test_frozen_variables_do_not_follow_the_session():
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        a = v1.placeholder(tf.float64, [])
        scale = v1.get_variable("scale", initializer=np.float64(3.0))
        session.run(v1.global_variables_initializer())
        frozen = capture(a * scale, [Input(a, "float64", ())], session=session)
        session.run(scale.assign(5.0))
    check("frozen", *functions.evaluate(frozen, [2.0]), 6.0)


def test_function_captures_variables_and_tensors():
    scale, shift = tf.Variable(np.float64(3.0)), tf.constant(np.float64(1.0))
    inputs = [Input("a", "float64", ())]
    captured = capture(lambda a: a * a * scale + shift, inputs)
    scale.assign(100.0)
    check("both", functions.evaluate(value_and_vjp(captured), [2.0]), [13.0, 12.0])


def test_any_tensor_can_be_an_input():
    """Not just placeholders: whatever computes it is left behind."""
    with tf.Graph().as_default():
        a = v1.placeholder(tf.float64, [])
        middle = tf.sin(a)
        default = v1.placeholder_with_default(np.float64(4.0), [])
        out = tf.exp(middle) * default
        captured = capture(out, [Input(middle, "float64", ())])
        other = capture(out, [Input(a, "float64", ()), Input(default, "float64", ())])
    check("intermediate", functions.evaluate(value_and_vjp(captured), [0.5]), [4 * np.exp(0.5)] * 2)
    check("default", *functions.evaluate(other, [0.5, 2.0]), 2.0 * np.exp(np.sin(0.5)))


def test_input_that_is_an_output():
    with tf.Graph().as_default():
        a = v1.placeholder(tf.float64, [3])
        captured = capture([a, 2.0 * a], [Input(a, "float64", (3,))])
    x = np.arange(3.0)
    results = functions.evaluate(captured, [x])
    check("itself", results[0], x)
    results[0][:] = 7.0
    check("untouched", functions.evaluate(captured, [x])[0], np.arange(3.0))


@tf.function
def cholesky_in_a_function(x, s):
    covariance = s * tf.constant([[1.0, 0.3], [0.3, 1.0]], tf.float64) + tf.eye(2, dtype=tf.float64)
    z = tf.linalg.triangular_solve(tf.linalg.cholesky(covariance), x[:, None])
    return -0.5 * tf.reduce_sum(z * z)


@tf.function
def loop_in_a_function(x, s):
    total = tf.constant(0.0, tf.float64)
    for _ in tf.range(3):
        total += tf.exp(-s * tf.square(x[0])) + x[1]
    return total


def gather(x, s):
    return tf.reduce_sum(tf.square(tf.gather(x, [0, 1, 1]))) * s


def second_derivatives_by_differences(captured, x, s, u, h=1e-5):
    def gradient(s):
        return np.hstack([np.ravel(g) for g in functions.evaluate(vjp(captured), [x, s])])

    by_s = (gradient(s + h) - gradient(s - h)) / (2 * h)
    return by_s @ u


@pytest.mark.parametrize("function", [cholesky_in_a_function, loop_in_a_function, gather])
@pytest.mark.parametrize("source", ["graph", "function"])
def test_second_derivatives_through_functions_and_control_flow(function, source):
    """Imported graphs forget the Python gradients of functions: their calls are inlined before."""
    if source == "graph":
        with tf.Graph().as_default():
            x, s = v1.placeholder(tf.float64, [2]), v1.placeholder(tf.float64, [])
            inputs = [Input(x, "float64", (2,)), Input(s, "float64", ())]
            captured = capture(function(x, s), inputs)
    else:
        inputs = [Input("x", "float64", (2,)), Input("s", "float64", ())]
        captured = capture(function, inputs)
    captured = pickle.loads(pickle.dumps(captured))
    x, s, u = np.array([0.3, 0.2]), 0.1, np.array([1.0, -0.5, 0.7])
    got = functions.evaluate(vjp(vjp(captured)), [x, s, u[:2], u[2]])[1]
    expected = second_derivatives_by_differences(captured, x, s, u)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_own_gradient_is_used_and_second_derivatives_through_it_are_refused():
    @tf.custom_gradient
    def halved(x):
        return tf.square(x), lambda upstream: upstream * x

    captured = capture(lambda x: halved(x), [Input("x", "float64", ())])
    check("own", functions.evaluate(value_and_vjp(captured), [3.0]), [9.0, 3.0])
    captured = pickle.loads(pickle.dumps(captured))
    check("sent", functions.evaluate(value_and_vjp(captured), [4.0]), [16.0, 4.0])
    # The gradient x does not pass through the function whose gradient is given; 2 halved(x) x does.
    check("second", functions.evaluate(value_and_vjp(vjp(captured)), [4.0]), [4.0, 1.0])
    through = capture(lambda x: tf.square(halved(x)), [Input("x", "float64", ())])
    check("through", functions.evaluate(value_and_vjp(through), [3.0]), [81.0, 54.0])
    with pytest.raises(NotImplementedError, match="second derivatives through tf.custom_gradient"):
        vjp(vjp(through))


def test_second_derivative_of_version_1_loop_is_refused():
    enabled = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default():
            a = v1.placeholder(tf.float64, [])
            _, out = v1.while_loop(
                lambda i, total: i < 3, lambda i, total: (i + 1, total * a), [0, a]
            )
            captured = capture(out, [Input(a, "float64", ())])
    finally:
        if enabled:
            v1.enable_control_flow_v2()
    check("a^4", functions.evaluate(value_and_vjp(captured), [2.0]), [16.0, 32.0])
    with pytest.raises(NotImplementedError, match="while loop.*enable_control_flow_v2"):
        vjp(vjp(captured))


@pytest.mark.parametrize("use_resource", [True, False])
def test_variable_that_is_gathered_from(use_resource):
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        table = v1.get_variable("table", [3], tf.float64, use_resource=use_resource)
        out = tf.reduce_sum(tf.square(tf.gather(table, [0, 2, 2])))
        captured = capture(out, [Input(table, "float64", (3,))], session=session)
    x = np.array([1.0, 2.0, 3.0])
    result, gradient = functions.evaluate(value_and_vjp(captured), [x])
    check("value", result, 19.0)
    check("gradient", gradient, [2.0, 0.0, 12.0])


def test_constants_tied_to_other_nodes_make_no_cycle():
    """The gradient of a square ties its constant to a node that the optimizer moves below it."""
    x = np.linspace(0.0, 1.0, 20_000)

    def logp(m, x):
        return -0.5 * tf.square((1.0 - m * x) * tf.exp(-m)) - m

    captured = capture(logp, [Input("m", "float64", ()), Input("x", "float64", x.shape)])
    product = vjp(captured.bind({captured.inputs[1].node: x}))
    function = functions.function(product)
    residual = (1.0 - 0.3 * x) * np.exp(-0.3)
    expected = np.sum(residual * (x * np.exp(-0.3) + residual) - 1.0)
    check("gradient", function([np.array(0.3), np.ones(x.size)])[0], expected)
    assert len(function.graph.graph_def.node) < 50


def loop_of_version_2(x):
    return tf.while_loop(lambda a: tf.reduce_sum(a) < 10.0, lambda a: [a * 1.5 + 0.1], [x])[0]


STACKED = {
    "elementwise": lambda x: tf.math.lgamma(x) + x,
    "reduction": lambda x: tf.reduce_logsumexp(x),
    "integer": lambda x: tf.cast(10.0 * x, tf.int32),
    "boolean": lambda x: x > 0.5,
    "float32": lambda x: tf.exp(tf.cast(x, tf.float32)),
    "sorted": lambda x: tf.sort(x)[::2],
    "cholesky": lambda x: tf.linalg.cholesky(tf.linalg.diag(x) + x[0] * tf.eye(4, dtype=x.dtype)),
    "inverse": lambda x: tf.linalg.inv(tf.linalg.diag(x) + 0.1),
    "loop": loop_of_version_2,
    "condition": lambda x: tf.cond(x[0] > 0.5, lambda: tf.exp(x), lambda: x * x),
    "scan": lambda x: tf.scan(lambda a, b: 0.5 * a + b, x),
    "map": lambda x: tf.map_fn(lambda b: b * x[0], x),
    "unique": lambda x: tf.unique(x)[0],
}


@pytest.mark.parametrize("shape", [(4,), (None,)], ids=["known", "unknown"])
@pytest.mark.parametrize("name", STACKED)
def test_many_draws_at_once_equal_one_by_one(name, shape):
    single = capture(STACKED[name], [Input("x", "float64", shape)], differentiable=False)
    draws = np.random.RandomState(0).uniform(0.1, 1.0, (7, 4))
    got = functions.evaluate(single.batched([single.inputs[0].node]), [draws])[0]
    expected = np.stack([functions.evaluate(single, [x])[0] for x in draws])
    assert got.dtype == expected.dtype
    rtol = 1e-6 if got.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=rtol)


def test_batched_program_of_every_regime(captured):
    a, b = np.linspace(-1.0, 1.0, 5), 0.3
    batched = captured.batched([captured.inputs[0].node])
    got = functions.evaluate(batched, [a, b])[0]
    check("values", got, [value(x, b) for x in a])
    copy = pickle.loads(pickle.dumps(batched))
    assert copy == batched and copy.stacked == batched.stacked
    check("copy", functions.evaluate(copy, [a, b])[0], got)
    both = captured.batched([spec.node for spec in captured.inputs])
    assert both != batched != captured
    check("both", functions.evaluate(both, [a, a])[0], [value(x, x) for x in a])
    assert functions.evaluate(both, [a[:0], a[:0]])[0].shape == (0, *X.shape)


def test_several_outputs_of_which_one_is_the_same_for_all_draws():
    inputs = [Input("a", "float64", ()), Input("b", "float64", (2,))]
    single = capture(lambda a, b: [a * b, tf.reduce_sum(b)], inputs, differentiable=False)
    product, total = functions.evaluate(
        single.batched([single.inputs[0].node]), [np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0])]
    )
    np.testing.assert_array_equal(product, [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    np.testing.assert_array_equal(total, [3.0, 3.0, 3.0])


def test_batches_neither_recall_nor_remember_results(captured):
    batched = captured.batched([captured.inputs[0].node])
    function = functions.function(batched)
    values = [np.array([0.1, 0.2]), np.array(0.3)]
    before = function.calls, dict(function.home._results)
    for _ in range(2):
        function(values)
    assert function.calls == before[0] + 2
    assert dict(function.home._results) == before[1]


def test_memory_of_a_batch_stays_bounded(monkeypatch):
    def logp(x):
        return tf.reduce_sum(x * tf.ones([1000, 100], tf.float64))

    single = capture(logp, [Input("x", "float64", ())])
    batched = single.batched([single.inputs[0].node])
    assert footprint(batched, [()]) >= 8 * 100_000
    monkeypatch.setattr(functions, "_BATCH_BYTES", 5 * footprint(batched, [()]))
    function = functions.function(batched)
    before = function.calls
    draws = np.arange(12.0)
    np.testing.assert_allclose(function([draws])[0], 100_000 * draws)
    assert function.calls == before + 3


def test_loop_of_version_1_is_computed_draw_by_draw():
    with tf.Graph().as_default():
        v1.disable_control_flow_v2()
        x, limit = v1.placeholder(tf.float64, []), v1.placeholder(tf.float64, [])
        y = tf.while_loop(lambda a: a < limit, lambda a: [a * 1.5 + 1.0], [x])
        v1.enable_control_flow_v2()
        inputs = [Input(x, None, None), Input(limit, None, None)]
        single = capture(tf.nest.flatten(y)[0], inputs, differentiable=False)
    batched = single.batched([single.inputs[0].node])
    draws = np.array([-1.0, 0.0, 4.0, 20.0])
    got = functions.evaluate(batched, [draws, 10.0])
    np.testing.assert_array_equal(
        got, [[functions.evaluate(single, [draw, 10.0])[0] for draw in draws]]
    )
    assert batched.of_one_draw() == single


@pytest.mark.parametrize("varying", [[0], [1], [0, 1], [1, 2], [0, 1, 2]])
def test_elementwise_programs_of_mixed_ranks(varying):
    matrix = np.arange(6.0).reshape(2, 3)

    def function(a, b, c):
        product = tf.where(b > 0.4, a * b, tf.exp(b) - matrix)
        return [product + c, a + tf.square(b), tf.maximum(a, b)[None] + tf.zeros([2, 1], a.dtype)]

    shapes = [(), (3,), (2, 1)]
    single = capture(
        function, [Input(n, "float64", s) for n, s in zip("abc", shapes)], differentiable=False
    )
    for k in range(3):
        one = capture(
            lambda a, b, c, k=k: function(a, b, c)[k] + 0.0 * c[0, 0],
            [Input(n, "float64", s) for n, s in zip("abc", shapes)],
            differentiable=False,
        )
        for program in (single, one):
            random = np.random.RandomState(k)
            values = [random.uniform(size=(5, *s) if i in varying else s)
                      for i, s in enumerate(shapes)]  # fmt: skip
            got = functions.evaluate(
                program.batched([program.inputs[i].node for i in varying]), values
            )
            for row in range(5):
                point = [v[row] if i in varying else v for i, v in enumerate(values)]
                for result, expected in zip(got, functions.evaluate(program, point)):
                    np.testing.assert_allclose(result[row], expected, rtol=1e-14)


def test_scalar_arithmetic_beside_matrices_is_aligned():
    """Draws of a scalar come before all dimensions of what they are combined with."""
    matrix = np.arange(6.0).reshape(2, 3)
    inputs = [Input("a", "float64", ()), Input("b", "float64", (3,))]
    single = capture(lambda a, b: [a + 1.0, a * b, a * b * matrix], inputs, differentiable=False)
    a, b = np.arange(3.0), np.arange(9.0).reshape(3, 3)
    batched = single.batched([spec.node for spec in single.inputs])
    assert elementwise_rank(batched) == 2
    scalar, vector, product = functions.evaluate(batched, [a, b])
    np.testing.assert_array_equal(scalar, a + 1.0)
    np.testing.assert_array_equal(vector, a[:, None] * b)
    np.testing.assert_array_equal(product, (a[:, None] * b)[:, None] * matrix)
