"""Checks under XLA: they hold where TensorFlow's own ops compute, and do not where those fail."""

import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.host import assertions
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.programs.building import importer

TABLE = np.array([0.5, 1.0, 4.0, 2.0])
SQUARE = np.arange(12.0).reshape(3, 4)


def index(x):
    return tf.cast(tf.floor(x), tf.int32)


def positive(x):
    tf.debugging.assert_positive(x)
    return tf.identity(x)


def plain_assertion(x):
    with tf.control_dependencies([tf.raw_ops.Assert(condition=x > 0, data=["x", x])]):
        return 2 * x


def check_numerics(x):
    return tf.where(x > 5, x, tf.debugging.check_numerics(tf.math.log(x), "no logarithm"))


def gather(x):
    return tf.gather(TABLE, index(x))


def gather_columns(x):
    return tf.reduce_sum(tf.gather(SQUARE, index(x) + [0, 1], axis=-1))


def gather_pairs(x):
    return tf.gather_nd(SQUARE, tf.stack([1, index(x)]))


def search(x):
    """Of a number beyond the last one, the place is behind the table."""
    return tf.gather(TABLE, tf.searchsorted(np.sort(TABLE), x[None]))[0]


def item(x):
    return tf.constant(TABLE)[index(x)] + tf.constant(SQUARE)[1, None, index(x)][0]


def last_item(x):
    """Of the columns, which stand behind the ellipsis."""
    return tf.reduce_sum(tf.constant(SQUARE)[None, ..., None, index(x)])


def item_of_last_but_one(x):
    cube = tf.constant(SQUARE)[None] * tf.ones([4, 1, 1], tf.float64)
    return tf.reduce_sum(cube[2, ..., index(x), None, :])


def part(x):
    return tf.reduce_sum(tf.slice(TABLE, [index(x)], [2]))


def scatter(x):
    return tf.reduce_sum(tf.scatter_nd([[index(x)]], x[None], [4]) * TABLE)


def update(x):
    return tf.reduce_sum(tf.tensor_scatter_nd_update(TABLE, [[index(x)]], x[None]))


def segments(x):
    return tf.math.unsorted_segment_sum(TABLE, index(x) * [0, 1, 1, 1], 4)[0]


def array(x):
    return tf.TensorArray(tf.float64, 4).unstack(TABLE).read(index(x))


def quotient(x):
    return tf.cast(7 // index(x), tf.float64)


def remainder(x):
    return tf.cast(7 % index(x), tf.float64)


def power(x):
    return tf.cast(2 ** index(x), tf.float64)


def branch(x):
    return tf.cond(x < 5, lambda: positive(x), lambda: x)


def case(x):
    return tf.switch_case(index(x + 2), [lambda: x, lambda: positive(x), lambda: 2 * x])


def called(x):
    return 1 + tf.function(positive)(x)


def loop(x):
    def body(i, z):
        tf.debugging.assert_less(z, np.float64(5))
        return i + 1, z * x

    return tf.while_loop(lambda i, z: i < 10, body, (0, x), maximum_iterations=10)[1]


def endless(x):
    """Nothing but the assertion ends it."""

    def body(z):
        tf.debugging.assert_less(z, np.float64(1000))
        return (z + x,)

    return tf.while_loop(lambda z: z > 0, body, (tf.constant(10.0, tf.float64),))[0]


def condition(x):
    def more(z):
        tf.debugging.assert_less(z, np.float64(5))
        return z < 10 * x

    return tf.while_loop(more, lambda z: (z + 1,), (x,))[0]


def nested(x):
    def outer(i, z):
        _, z = tf.while_loop(lambda j, _: j < 3, lambda j, z: (j + 1, branch(z) - 1), (0, z))
        return i + 1, z

    return tf.while_loop(lambda i, _: i < 2, outer, (0, x))[1]


def scan(x):
    return tf.scan(lambda z, y: positive(z - y), tf.constant([0.5, 0.5, 0.25], tf.float64), x)[-1]


def rarely(x):
    """The assertion says nothing of the argument: whether it is run does."""

    def fail():
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=["never"])]):
            return tf.identity(x)

    return tf.cond(x < 0, fail, lambda: x)


CASES = {
    positive: (1.0, -1.0),
    plain_assertion: (1.0, -1.0),
    check_numerics: (1.5, -1.0),
    gather: (3.2, 4.0),
    gather_columns: (2.5, 3.0),
    gather_pairs: (3.5, -0.5),
    search: (1.5, 5.0),
    item: (-1.5, 4.5),
    last_item: (3.0, 4.0),
    item_of_last_but_one: (2.0, 3.0),
    part: (2.0, 3.0),
    scatter: (1.0, 4.0),
    update: (1.0, -1.0),
    segments: (3.0, 4.0),
    array: (3.0, 4.0),
    quotient: (1.0, 0.0),
    remainder: (2.0, 0.5),
    power: (2.0, -1.0),
    branch: (1.0, -1.0),
    case: (0.5, -0.5),
    called: (1.0, -1.0),
    loop: (1.1, 1.3),
    endless: (-2.0, 2.0),
    condition: (0.4, 0.6),
    nested: (9.0, 2.0),
    scan: (2.0, 1.0),
    rarely: (1.0, -1.0),
}


def compiled(function, concrete):
    """Return what XLA makes of a function that says whether its checks hold, too."""
    graph_def, outputs = concrete.graph.as_graph_def(), [y.name for y in concrete.outputs]
    placeholder = concrete.inputs[0].op.name
    holds = assertions.add(graph_def, outputs, [placeholder])
    assert holds is not None and "Assert" not in {n.op for n in assertions.every_node(graph_def)}
    build = importer(graph_def, [placeholder], [*outputs, holds])

    def in_a_loop(x):
        # What XLA takes for a constant, it checks while it compiles.
        start = 0, x, tf.zeros([], tf.float64), True
        return tf.while_loop(
            lambda i, *_: i < 1, lambda i, x, *_: (i + 1, x + 0.0 * x, *build(x)), start
        )[2:]

    return tf.function(in_a_loop, autograph=False, jit_compile=True)


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_checks_hold_where_tensorflow_computes(function):
    good, bad = (tf.constant(x, tf.float64) for x in CASES[function])
    concrete = tf.function(function, autograph=False).get_concrete_function(good)
    by_xla = compiled(function, concrete)
    value, holds = by_xla(good)
    assert holds.numpy()
    np.testing.assert_allclose(value, concrete(good), rtol=1e-12)
    with pytest.raises(tf.errors.InvalidArgumentError):
        print(function.__name__, concrete(bad))
    assert not by_xla(bad)[1].numpy()


def test_function_that_is_called_by_its_name_hands_on_its_checks():
    """As graphs from version 1 have them."""
    concrete = tf.function(called).get_concrete_function(tf.TensorSpec([], tf.float64))
    graph_def, (y,), (x,) = concrete.graph.as_graph_def(), concrete.outputs, concrete.inputs
    (node,) = [node for node in graph_def.node if node.op == "StatefulPartitionedCall"]
    node.op = node.attr["f"].func.name
    node.attr.clear()
    holds = assertions.add(graph_def, [y.name])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        for number in (1.0, -1.0):
            assert session.run([y.name, holds], {x.name: number}) == [number + 1, number > 0]


# -- what needs none ---------------------------------------------------------------------------


def counters(x):
    def body(i, z):
        return i + 1, z + tf.gather(TABLE, i) + tf.constant(TABLE)[i] + tf.cast(
            7 // (i + 1), z.dtype
        )

    return tf.while_loop(lambda i, _: i < 4, body, (0, x))[1]


def shapes(x):
    return x / tf.cast(7 // tf.size(tf.fill([3], x)), tf.float64)


def of_data(x, data):
    tf.debugging.assert_positive(data)
    return x + tf.gather(TABLE, index(data))


@pytest.mark.parametrize("function", [counters, shapes, of_data])
def test_what_depends_on_no_parameter_is_not_checked(function):
    number = 2 if function is of_data else 1
    specs = [tf.TensorSpec([], tf.float64)] * number
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    graph_def, outputs = concrete.graph.as_graph_def(), [y.name for y in concrete.outputs]
    before = graph_def.SerializeToString(deterministic=True)
    assert assertions.add(graph_def, outputs, [concrete.inputs[0].op.name]) is None
    assert graph_def.SerializeToString(deterministic=True) == before
    # Where nobody looks at the data before, all of it counts.
    assert (assertions.add(graph_def, outputs) is None) == (function is shapes)


# -- value and gradient of one chain, and of a batch -------------------------------------------


def densities():
    def with_loop(x):
        # Loops get lists for their gradients, which the check leaves as they are.
        return -loop(x[0]) - 0.5 * tf.reduce_sum(x**2)

    def with_scan(x):
        return -scan(tf.exp(x[0])) * x[1] - 0.5 * tf.reduce_sum(x**2)

    def with_branch(x):
        return branch(x[0]) * x[1] - 0.5 * tf.reduce_sum(x**2)

    def with_index(x):
        return gather(x[0]) * x[1] - quotient(x[0]) - 0.5 * tf.reduce_sum(x**2)

    def with_numbers(x):
        return check_numerics(x[0]) * x[1] - 0.5 * tf.reduce_sum(x**2)

    return {f.__name__: f for f in (with_loop, with_scan, with_branch, with_index, with_numbers)}


POSITIONS = np.array([[1.1, 0.2], [1.3, 0.4], [-0.5, 3.0], [5.0, 1.0]])


@pytest.mark.parametrize("name", densities())
def test_chain_of_a_batch_that_fails_leaves_the_others_alone(name):
    one, batch = (CompiledSampler(densities()[name], 2, chains=n) for n in (0, len(POSITIONS)))
    values, gradients = in_draws(batch, POSITIONS)
    failed = 0
    for position, value, gradient in zip(POSITIONS, values, gradients):
        found = in_draws(one, position)
        try:
            expected = one.evaluate(position, [])
        except tf.errors.InvalidArgumentError:
            failed += 1
            assert np.isnan(value) and np.isnan(found[0])
            continue
        for pair in ((value, gradient), found):
            for x, y in zip(pair, expected):
                np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)
    assert 0 < failed < len(POSITIONS)


def in_draws(program, positions):
    """Value and gradient as draws have them, of positions that are no constants."""

    @tf.function(autograph=False, jit_compile=True)
    def call(x):
        def body(i, x, *_):
            value, gradient = program.in_draws(x)
            return i + 1, x + 0.0 * x, tf.ensure_shape(value, x.shape[:-1]), gradient

        start = 0, x, tf.zeros(x.shape[:-1], tf.float64), x
        return tf.while_loop(lambda i, *_: i < 1, body, start)[2:]

    return [y.numpy() for y in call(tf.constant(positions))]
