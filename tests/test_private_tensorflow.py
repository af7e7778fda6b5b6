"""What is used of TensorFlow's private parts is there, and does what it is used for."""

import ast
import contextlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.util import deprecation

import pymc3_tf
from pymc3_tf import private_tensorflow as private

v1 = tf.compat.v1
PRIVATE = ("tensorflow.python", "tensorflow.core", "tensorflow.compiler")
NAMES = {
    "_config", "_get_control_flow_context", "_get_function", "_get_graph",
    "_make_callable_from_options", "_target", "_update_input", "sess_str",
}  # fmt: skip


def private_names(tree):
    """The private names of TensorFlow that a module names, as attributes, imports or texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.attr
        elif isinstance(node, ast.Constant) and node.value in NAMES:
            yield node.value


def test_no_other_module_reaches_into_tensorflow():
    root = Path(pymc3_tf.__file__).parent
    found = {
        f"{file.relative_to(root)}: {name}"
        for file in root.rglob("*.py")
        for name in private_names(ast.parse(file.read_text("utf-8")))
        if name in NAMES
        or name.startswith(("tensorflow.python", "tensorflow.core", "tensorflow.compiler"))
    }
    assert {text.split(":")[0] for text in found} == {"private_tensorflow.py"}, found


@pytest.fixture()
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def value_of(tensor):
    with v1.Session(graph=tensor.graph) as session:
        return session.run(tensor)


def test_definition_of_an_op():
    assert [x.name for x in private.op_definition("MatMul").input_arg] == ["a", "b"]
    assert private.op_definition("MatMulOfNobody") is None


def test_gradient_of_an_op(graph):
    x = tf.constant(3.0)
    gradient = private.gradient_function(tf.square(x).op)
    assert value_of(gradient(tf.square(x).op, tf.constant(1.0))) == 6.0
    assert private.gradient_function(tf.raw_ops.Rank(input=x).op) is None
    with pytest.raises(LookupError):
        private.gradient_function(tf.raw_ops.Bucketize(input=x, boundaries=[0.0]).op)


def test_deprecations_come_back_after_an_error(caplog):
    @deprecation.deprecated(None, "Do not.")
    def old():
        return 1

    with pytest.raises(ZeroDivisionError), private.without_deprecations():
        1 / (old() - 1)
    assert "Do not." not in caplog.text
    old()
    assert "Do not." in caplog.text


def test_kernels_of_an_op():
    devices = {kernel.device_type for kernel in private.registered_kernels("MatMul")}
    assert "CPU" in devices
    assert private.registered_kernels("MatMulOfNobody") == []


def test_input_is_replaced(graph):
    total = tf.add(tf.constant(1.0), tf.constant(2.0))
    private.replace_input(total.op, 1, tf.constant(5.0))
    assert value_of(total) == 6.0


def test_function_is_defined_for_good():
    concrete = tf.function(lambda x: 2.0 * x).get_concrete_function(tf.TensorSpec([], tf.float32))
    definition = concrete.function_def
    definition.signature.name = "twice_for_good"
    private.define_function(definition)
    private.define_function(definition)
    graph_def = v1.GraphDef()
    graph_def.node.add(name="x", op="Placeholder").attr["dtype"].type = tf.float32.as_datatype_enum
    call = graph_def.node.add(name="y", op="PartitionedCall", input=["x"])
    call.attr["f"].func.name = "twice_for_good"
    call.attr["Tin"].list.type.append(tf.float32.as_datatype_enum)
    call.attr["Tout"].list.type.append(tf.float32.as_datatype_enum)

    @tf.function
    def outer(x):
        return tf.import_graph_def(graph_def, {"x": x}, ["y:0"])[0]

    assert outer(tf.constant(3.0)).numpy() == 6.0


def test_eager_mode_inside_of_a_graph(graph):
    assert private.is_eager_by_default() and not tf.executing_eagerly()
    with private.eager_mode():
        assert tf.executing_eagerly() and tf.constant(2.0).numpy() == 2.0


def test_graphs_of_loops_branches_and_calls(graph):
    x = tf.constant(1.0)

    @tf.function(autograph=False)
    def found(x):
        loop = tf.while_loop(lambda y: y < 10.0, lambda y: [tf.exp(y)], [x])[0]
        branch = tf.cond(x > 0.0, lambda: tf.sin(x), lambda: tf.cos(x))
        operations = tf.compat.v1.get_default_graph().get_operations()
        (loop_op,) = [op for op in operations if op.type in ("While", "StatelessWhile")]
        (branch_op,) = [op for op in operations if op.type in ("If", "StatelessIf")]
        condition, body = private.loop_graphs(loop_op)
        assert "Less" in ops(condition) and "Exp" in ops(body)
        yes, no = private.branch_graphs(branch_op)
        assert "Sin" in ops(yes) and "Cos" in ops(no)
        return loop + branch

    def ops(graph):
        return {op.type for op in graph.get_operations()}

    (call,) = [op for op in found(x).graph.get_operations() if "PartitionedCall" in op.type]
    assert ops(private.called_graph(call)) & {"While", "StatelessWhile"}


def test_function_of_a_library_has_a_graph_with_shapes(graph):
    call = tf.function(lambda x: tf.sin(x) + 1.0, autograph=False)
    call(tf.compat.v1.placeholder(tf.float64, [2, 3]))
    (definition,) = graph.as_graph_def(add_shapes=True).library.function
    (sine,) = [op for op in private.function_graph(definition).get_operations() if op.type == "Sin"]
    assert sine.outputs[0].shape == [2, 3]


def test_loop_of_version_1_is_seen(graph):
    v1.disable_control_flow_v2()
    try:
        inside = []
        tf.while_loop(
            lambda i: i < 3, lambda i: inside.append(tf.identity(i)) or [i + 1], [tf.constant(0)]
        )
    finally:
        v1.enable_control_flow_v2()
    assert private.is_in_version_1_loop(inside[0].op)
    assert not private.is_in_version_1_loop(tf.constant(0).op)


@pytest.mark.parametrize("context, optionals", [
    (contextlib.nullcontext, True), (private.control_flow_for_xla, False),
])  # fmt: skip
def test_gradients_of_conditions_keep_numbers_for_xla(graph, context, optionals):
    x = v1.placeholder(tf.float64, [])
    y = tf.cond(x > 0.0, lambda: tf.exp(tf.sin(x)), lambda: tf.cos(x * x))
    with context():
        tf.gradients(y, x)
    functions = graph.as_graph_def().library.function
    ops = {node.op for function in functions for node in function.node_def}
    assert "Exp" in ops and ("OptionalFromValue" in ops) == optionals


def test_variables_become_constants(graph):
    a = v1.get_variable("a", initializer=2.0, use_resource=False)
    b = v1.get_variable("b", initializer=3.0, use_resource=False)
    product = tf.multiply(a, b, name="product")
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        frozen = private.variables_to_constants(session, graph.as_graph_def(), ["product"], None)
        one = private.variables_to_constants(session, graph.as_graph_def(), ["product"], {"a"})
    kinds = [sorted(n.op for n in g.node if n.name in "ab") for g in (frozen, one)]
    assert kinds == [["Const", "Const"], ["Const", "VariableV2"]]
    assert product.shape == ()


def test_graph_is_optimized(graph):
    x = v1.placeholder(tf.float64, [], name="x")
    tf.multiply(x, tf.constant(2.0, tf.float64) * 3.0, name="y")
    before = graph.as_graph_def()
    after = private.optimize(before, ["x", "y"])
    assert len(after.node) < len(before.node)
    (y,) = tf.import_graph_def(after, {"x": tf.constant(0.5, tf.float64)}, ["y:0"], name="after")
    assert value_of(y) == 3.0


def test_target_and_config_of_a_session(graph):
    assert private.target_of(None) == private.target_of(v1.Session()) == ""
    server = tf.distribute.Server.create_local_server()
    config = v1.ConfigProto(operation_timeout_in_ms=5000)
    session = v1.Session(server.target, graph, config)
    assert private.target_of(session) == tf.compat.as_str(server.target)
    assert private.config_of(session).operation_timeout_in_ms == 5000
    assert private.config_of(v1.Session()).operation_timeout_in_ms == 0


def test_fast_callable_is_the_session(graph):
    x, y = v1.placeholder(tf.float64, [2]), v1.placeholder(tf.float64, [])
    with v1.Session() as session:
        call = private.fast_callable(session, [x, y], [x * y, x - y], v1.RunOptions())
        product, difference = call(np.array([1.0, 2.0]), np.array(3.0))
    np.testing.assert_array_equal(product, [3.0, 6.0])
    np.testing.assert_array_equal(difference, [-2.0, -1.0])
