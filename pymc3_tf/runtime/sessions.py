"""Sessions of TensorFlow: one in each process for a graph, with its data and its last results."""

from __future__ import annotations

import collections
import os
import threading
import weakref
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import tensorflow as tf

from pymc3_tf.host import assertions
from pymc3_tf.private_tensorflow import fast_callable, optimize
from pymc3_tf.programs.building import build, importer
from pymc3_tf.programs.program import Feed, Program
from pymc3_tf.programs.serialized import GraphDef, lower_control_flow
from pymc3_tf.runtime import devices, forks

# Bytes that the results which a session remembers may take together.
_REMEMBERED_BYTES = 1 << 23
_NOTHING: Tuple[Dict[str, Any], int] = ({}, 0)
# Data up to this size becomes a constant, around which TensorFlow can simplify the graph.
_SMALL_BYTES = 1 << 16


def _handle(feed: Feed) -> tf.Tensor:
    """Return the variable of data in the current graph; by its name it is the same in all."""
    return tf.raw_ops.VarHandleOp(
        dtype=feed.array.dtype, shape=feed.array.shape, shared_name=feed.digest.hex()
    )


def _resident(feed: Feed) -> tf.Tensor:
    if feed.array.nbytes <= _SMALL_BYTES:
        return tf.constant(feed.array)
    return tf.raw_ops.ReadVariableOp(resource=_handle(feed), dtype=feed.array.dtype)


class Graph(NamedTuple):
    """A program with its data and its optimizations, ready to be imported into a session."""

    graph_def: GraphDef
    inputs: List[str]
    outputs: List[str]
    unoptimized: GraphDef
    checked: bool = False
    """Whether there is one more output, which says whether checks hold that XLA leaves out."""


def prepare(program: Program, jit_compile: bool) -> Graph:
    """Return the graph of a program with its data, optimized where a session would do it."""
    with tf.Graph().as_default() as graph, tf.device(program.device):
        inputs = [tf.compat.v1.placeholder(s.dtype, s.shape) for s in program.inputs]
        # The optimizer takes the shape of what is fed as unknown, whatever the placeholder says.
        # Told for sure, it folds away all that gradients compute about shapes: half of the ops.
        ensured = [tf.ensure_shape(x, s.shape) for x, s in zip(inputs, program.inputs)]
        nodes = [s.node for s in program.inputs] + [feed.node for feed in program.feeds]

        def run(*tensors: tf.Tensor) -> List[tf.Tensor]:
            return build(program, dict(zip(nodes, tensors)))

        tensors = [*ensured, *[_resident(feed) for feed in program.feeds]]
        if jit_compile:
            run = tf.function(_with_checks(run, tensors), autograph=False, jit_compile=True)
        outputs = run(*tensors)
    names = [t.name for t in inputs], [t.name for t in outputs]
    graph_def = unoptimized = graph.as_graph_def()
    if jit_compile:
        # XLA compiles loops and conditions as they are, and not what they would be lowered to.
        lower_control_flow(graph_def, False)
    # In a forked child the optimizer could hang. A program for many draws is called a few times
    # only, and optimizing it would take longer than that. On a cluster, which knows its devices,
    # the session does it.
    if not forks.depth and not program.stacked and not program.cluster:
        try:
            graph_def = optimize(graph_def, [*names[0], *names[1]])
        except tf.errors.OpError:
            pass  # as a session does: the graph as it was gives the same numbers, slower
    return Graph(graph_def, *names, unoptimized, len(outputs) > len(program.outputs))


def _with_checks(
    run: Callable[..., List[tf.Tensor]], tensors: Sequence[tf.Tensor]
) -> Callable[..., List[tf.Tensor]]:
    """Let a function return whether its checks hold, too, if it has some."""
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in tensors]
    function = tf.function(run, autograph=False).get_concrete_function(*specs)
    graph_def = function.graph.as_graph_def()
    outputs = [y.name for y in function.outputs]
    holds = assertions.add(graph_def, outputs)
    if holds is None:
        return run
    return importer(graph_def, [x.op.name for x in function.inputs], [*outputs, holds])


class GraphSession:
    """One TensorFlow session with the data of one graph, shared by the programs on that graph."""

    def __init__(self, program: Program) -> None:
        self.depth = forks.depth
        # Shapes of inputs with which there were results.
        self.succeeded: Set[Any] = set()
        self.graph = tf.Graph()
        self.cluster = program.cluster
        self.device = program.device
        # Not one of cachetools' caches, which would make a call of a small graph a tenth slower.
        self._results: collections.OrderedDict[Any, Tuple[Dict[str, Any], int]]
        self._results = collections.OrderedDict()
        self._remembered = 0  # bytes
        self._lock = threading.Lock()
        self.run_options = tf.compat.v1.RunOptions()
        self.session = self._on_cluster() if self.cluster else self._here()
        for feed in program.feeds:
            if feed.array.nbytes > _SMALL_BYTES:
                self._keep(feed)

    def _on_cluster(self) -> tf.compat.v1.Session:
        assert self.cluster is not None
        return self.cluster.session(self.graph)

    def _here(self) -> tf.compat.v1.Session:
        # -1 runs every op on the calling thread: no hand-over to a pool, a fifth of the time.
        config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)
        # Graphs come optimized; in a forked child the session's own optimizer could hang.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        devices.require(self.device, config)
        forks.prepare_session(self.run_options)
        return tf.compat.v1.Session(graph=self.graph, config=config)

    def _keep(self, feed: Feed) -> None:
        """Put data into a variable, which shares the memory of the (aligned) array."""
        with self.graph.as_default(), tf.device(self.device):
            placeholder = tf.compat.v1.placeholder(feed.array.dtype, feed.array.shape)
            assign = tf.raw_ops.AssignVariableOp(resource=_handle(feed), value=placeholder)
        run = self._guard(self.session.run, tf.compat.v1.GraphDef())
        run(assign, {placeholder: feed.array}, self.run_options)

    def _guard(self, call: Callable[..., Any], graph_def: GraphDef) -> Callable[..., Any]:
        return self.cluster.guarded(call, graph_def) if self.cluster else call

    def recall(self, point: Any) -> Dict[str, Any]:
        """Return the results for a point by output node; empty if there are none.

        NUTS evaluates the start of every trajectory, which was a point of the trajectory before it,
        and a Deterministic is computed once more for each draw.
        """
        return self._results.get(point, _NOTHING)[0]

    def remember(self, point: Any, results: Dict[str, Any], size: int) -> None:
        """Remember results of about ``size`` bytes, and forget old ones if they are too many."""
        # What the variables of a cluster hold can change at any time.
        if self.cluster or size > _REMEMBERED_BYTES:
            return
        with self._lock:
            known, before = self._results.get(point, _NOTHING)
            self._results[point] = {**known, **results}, before + size
            self._remembered += size
            while self._remembered > _REMEMBERED_BYTES:
                self._remembered -= self._results.popitem(last=False)[1][1]

    def make_callable(self, graph: Graph) -> Callable[..., List[Any]]:
        """Import a graph, and return the fastest call of it."""
        names = graph.inputs + graph.outputs
        with self.graph.as_default():
            try:
                tensors = tf.import_graph_def(graph.graph_def, None, names, "function")
            except ValueError:
                # An op that TensorFlow cannot build without the shapes that the optimizer dropped.
                tensors = tf.import_graph_def(graph.unoptimized, None, names, "function")
        inputs, outputs = tensors[: len(graph.inputs)], tensors[len(graph.inputs) :]
        if self.cluster:
            # To a cluster the one is as fast as the other, and this one needs no release.
            return self._guard(self.session.make_callable(outputs, inputs), graph.graph_def)
        return fast_callable(self.session, inputs, outputs, self.run_options)


# -- one for each graph in a process ------------------------------------------------------------

_sessions: weakref.WeakValueDictionary[str, GraphSession] = weakref.WeakValueDictionary()
# Those of the parent: closing one in a child would wait for threads that are not there.
_inherited: List[GraphSession] = []


def graph_session(program: Program) -> GraphSession:
    """Return the session of a program's graph in this process; open it if there is none."""
    session = _sessions.get(program.graph_key)
    if session is None:
        session = GraphSession(program)
        _sessions[program.graph_key] = session
    return session


def _after_fork_in_child() -> None:
    global _sessions
    _inherited.extend(_sessions.values())
    _sessions = weakref.WeakValueDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
