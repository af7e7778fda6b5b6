"""What TensorFlow keeps private and is used all the same, in one place, a function for each.

Every function was seen to work in TensorFlow 2.12 to 2.17, and has a test of its own. With another
version, run those tests first.
"""

from __future__ import annotations

import contextlib
import threading
import types
from typing import Any, Callable, ContextManager, Iterator, List, Optional, Sequence, Set, Tuple

import tensorflow as tf
from tensorflow.compat.v1 import GraphDef
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.core.protobuf import config_pb2, device_properties_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import (
    convert_to_constants,
    function_def_to_graph,
    kernels,
    op_def_registry,
    ops,
)
from tensorflow.python.grappler import cluster as grappler_cluster
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.ops import cond_v2, control_flow_util, while_v2
from tensorflow.python.util import deprecation

# -- ops ---------------------------------------------------------------------------------------


def op_definition(name: str) -> Any:
    """Return the ``OpDef`` of an op; None if this process has no such op (2.12 to 2.17)."""
    return op_def_registry.get(name)


def gradient_function(op: tf.Operation) -> Optional[Callable[..., Any]]:
    """Return the registered gradient of an op; None if it has none by its nature (2.12 to 2.17).

    Raises
    ------
    LookupError
        If none is registered.
    """
    return ops.get_gradient_function(op)


def registered_kernels(name: str) -> List[Any]:
    """Return the ``KernelDef`` of each kernel of an op (2.12 to 2.17)."""
    return list(kernels.get_registered_kernels_for_op(name).kernel)


def replace_input(op: tf.Operation, i: int, tensor: tf.Tensor) -> None:
    """Let an op of a live graph read another tensor (2.12 to 2.17)."""
    op._update_input(i, tensor)


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Print no deprecations (2.12 to 2.17). TensorFlow's own does not come back after an error."""
    before = deprecation._PRINT_DEPRECATION_WARNINGS
    deprecation._PRINT_DEPRECATION_WARNINGS = False
    try:
        yield
    finally:
        deprecation._PRINT_DEPRECATION_WARNINGS = before


# -- functions, loops and conditions -----------------------------------------------------------


def define_function(definition: Any) -> None:
    """Define a function for as long as the process lives, if it is not there (2.12 to 2.17)."""
    if not context.context().has_function(definition.signature.name):
        context.context().add_function_def(definition)


def function_graph(definition: Any) -> tf.Graph:
    """Return a graph with the nodes of a function, in the default graph (2.12 to 2.17)."""
    return function_def_to_graph.function_def_to_graph(definition)


def is_eager_by_default() -> bool:
    """Whether the process has eager execution outside of graphs (2.12 to 2.17)."""
    return context.default_execution_mode == context.EAGER_MODE


def eager_mode() -> ContextManager[None]:
    """Run eagerly inside, whatever graph is the default one (2.12 to 2.17)."""
    return context.eager_mode()


def loop_graphs(op: tf.Operation) -> Tuple[tf.Graph, tf.Graph]:
    """Return the live graphs of a loop's condition and body (2.12 to 2.17)."""
    condition = while_v2._get_graph(op, "cond", "_cond_graph")
    return condition, while_v2._get_graph(op, "body", "_body_graph")


def branch_graphs(op: tf.Operation) -> List[tf.Graph]:
    """Return the live graphs of the branches of a condition (2.12 to 2.17)."""
    return list(cond_v2.get_func_graphs(op))


def called_graph(op: tf.Operation) -> tf.Graph:
    """Return the live graph of the function that an op calls, if there is one (2.12 to 2.17)."""
    return getattr(op.graph._get_function(op.get_attr("f").name), "graph", None)


def is_in_version_1_loop(op: tf.Operation) -> bool:
    """Whether an op stands in a while loop of version 1 (2.12 to 2.17)."""
    around = op._get_control_flow_context()
    while around is not None and not around.IsWhileContext():
        around = around.outer_context
    return around is not None


_lock = threading.RLock()


class _AsForXLA(types.ModuleType):
    """TensorFlow's module, which says of any graph that it is for XLA."""

    def __getattr__(self, name: str) -> Any:
        return getattr(control_flow_util, name)

    @staticmethod
    def GraphOrParentsInXlaContext(graph: Any) -> bool:  # noqa: N802
        return True


@contextlib.contextmanager
def control_flow_for_xla() -> Iterator[None]:
    """Give loops and conditions the gradients that they have under XLA (2.12 to 2.17).

    Loops then keep no shapes in lists, where they are no longer constants, and conditions keep
    numbers instead of optionals. A context of XLA would do the same, and more: slices would get a
    gradient that only XLA knows.
    """
    module = _AsForXLA(control_flow_util.__name__)
    with _lock:
        kept = while_v2.util_v1, cond_v2.control_flow_util
        while_v2.util_v1 = cond_v2.control_flow_util = module
        try:
            yield
        finally:
            while_v2.util_v1, cond_v2.control_flow_util = kept


# -- whole graphs ------------------------------------------------------------------------------


def variables_to_constants(
    session: tf.compat.v1.Session,
    graph_def: GraphDef,
    roots: Sequence[str],
    only: Optional[Set[str]],
) -> Any:
    """Return a graph in which variables are constants (2.12 to 2.17).

    Parameters
    ----------
    session : object
        Its method ``run`` is asked for the variables' values, and nothing else is.
    graph_def : tf.compat.v1.GraphDef
    roots : sequence of str
        The nodes that are needed.
    only : set of str, optional
        Nodes of the variables. Default: all of them.
    """
    with without_deprecations():
        return convert_to_constants.convert_variables_to_constants_from_session_graph(
            session, graph_def, roots, variable_names_allowlist=only
        )


def call_host(
    routine: str, inputs: Sequence[tf.Tensor], config: str, outputs: Sequence[tf.TensorSpec]
) -> List[tf.Tensor]:
    """Add a call of a routine that is registered with XLA, which alone runs it (2.12, 2.13, 2.17).

    Parameters
    ----------
    routine : str
        Its registered name.
    inputs : sequence of tf.Tensor
    config : str
        Handed to the routine; ASCII.
    outputs : sequence of tf.TensorSpec
    """
    return gen_xla_ops.xla_custom_call_v2(
        operands=inputs,
        call_target_name=routine,
        backend_config=config,
        has_side_effect=False,
        result_dtypes=[spec.dtype for spec in outputs],
        result_shapes=[spec.shape for spec in outputs],
    )


def optimize(graph_def: GraphDef, keep: Sequence[str], optimizers: Sequence[str] = ()) -> GraphDef:
    """Return a graph as Grappler optimizes it for one processor (2.12 to 2.17).

    A session would do it by itself, at a time when it can hang: it evaluates constants on threads
    that a forked child does not have. Called by hand, it is done before the fork.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Left unchanged.
    keep : sequence of str
        Nodes and tensors that are fed or fetched.
    optimizers : sequence of str
        Names of Grappler's optimizers. Default: all that a session would run.
    """
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    nodes = meta_graph.graph_def.node
    if not any(node.op == "Enter" for node in nodes):
        # Gradients tie constants to other nodes, which only loops of version 1 need. Pushing such a
        # constant down a product, the optimizer can make a cycle.
        for node in nodes:
            if node.op == "Const":
                del node.input[:]
    meta_graph.collection_def["train_op"].node_list.value.extend(keep)
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.extend(optimizers)
    # It chooses among implementations by device, and prints an error where there is none to choose.
    options.implementation_selector = options.OFF
    # Described rather than probed: probing starts a session, and logs what it finds.
    device = device_properties_pb2.NamedDevice(
        name="/job:localhost/replica:0/task:0/device:CPU:0",
        properties=device_properties_pb2.DeviceProperties(type="CPU", num_cores=1, frequency=1000),
    )
    cluster = grappler_cluster.Cluster(devices=[device])
    return tf_optimizer.OptimizeGraph(config, meta_graph, cluster=cluster)


# -- sessions ----------------------------------------------------------------------------------


def target_of(session: tf.compat.v1.Session) -> str:
    """Return what a session is connected to; empty for this process (2.12 to 2.17)."""
    return str(tf.compat.as_str(getattr(session, "sess_str", None) or b""))


def config_of(session: tf.compat.v1.Session) -> Any:
    """Return the ``ConfigProto`` with which a session was made (2.12 to 2.17)."""
    return session._config or tf.compat.v1.ConfigProto()


def fast_callable(
    session: tf.compat.v1.Session,
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tf.Tensor],
    run_options: tf.compat.v1.RunOptions,
) -> Callable[..., List[Any]]:
    """Return a call that takes half the time of ``session.make_callable`` (2.12 to 2.17)."""
    options = config_pb2.CallableOptions(run_options=run_options)
    options.feed.extend(t.name for t in inputs)
    options.fetch.extend(t.name for t in outputs)
    return session._make_callable_from_options(options)  # type: ignore[no-any-return]
