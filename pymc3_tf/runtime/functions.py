"""Runs programs in this process: sessions, threads, forks and XLA.

Each process builds its own session for a program's graph when it first needs it; nothing of
TensorFlow is pickled or inherited. Calls run on the calling thread, and data is resident: only
parameters cross on each call.
"""

from __future__ import annotations

import atexit
import collections
import dataclasses
import functools
import os
import threading
import weakref
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from pymc3_tf.exceptions import CompilationError, EvaluationError, message
from pymc3_tf.programs.grappler import optimize
from pymc3_tf.programs.program import Feed, Program, TensorSpec
from pymc3_tf.programs.serialized import lower_control_flow
from pymc3_tf.runtime import devices, failures, forks

_MEMO_BYTES = 1 << 23
_MEMO_LARGEST_POINT = 1 << 16
_MEMO_ENTRY_OVERHEAD = 1000
_NOTHING: Tuple[Dict[str, Any], int] = ({}, 0)
# Memory that a program for many draws may take at a time, besides its results. More is slower: it
# would have to come from the system each time, and it leaves the processor's cache.
_BATCH_BYTES = 1 << 20
# Data up to this size becomes a constant, around which TensorFlow can simplify the graph.
_CONSTANT_BYTES = 1 << 16


class Memo:
    """The last results for small inputs, because samplers ask for the same point again.

    NUTS evaluates the start of every trajectory, which was a point of the trajectory before it, and
    a Deterministic is computed once more for each draw. Results are shared between the programs of
    one graph.

    Parameters
    ----------
    limit : int
        Bytes that they may take together.
    """

    def __init__(self, limit: int = _MEMO_BYTES) -> None:
        self._limit = limit
        self._entries: collections.OrderedDict[Any, Tuple[Dict[str, Any], int]]
        self._entries = collections.OrderedDict()
        self._bytes = 0

    def get(self, key: Any) -> Dict[str, Any]:
        """Return the results for a point by output node; empty if there are none."""
        return self._entries.get(key, _NOTHING)[0]

    def add(self, key: Any, results: Dict[str, Any], size: int) -> None:
        """Remember results of about ``size`` bytes, and forget the oldest if they are too many."""
        known, before = self._entries.get(key, _NOTHING)
        self._entries[key] = {**known, **results}, before + size
        self._bytes += size
        while self._bytes > self._limit:
            self._bytes -= self._entries.popitem(last=False)[1][1]


def _handle(feed: Feed) -> tf.Tensor:
    """Return the variable of data in the current graph; by its name it is the same in all."""
    return tf.raw_ops.VarHandleOp(
        dtype=feed.array.dtype, shape=feed.array.shape, shared_name=feed.digest.hex()
    )


def _resident(feed: Feed) -> tf.Tensor:
    if feed.array.nbytes <= _CONSTANT_BYTES:
        return tf.constant(feed.array)
    return tf.raw_ops.ReadVariableOp(resource=_handle(feed), dtype=feed.array.dtype)


class _Graph(NamedTuple):
    """A program with its data and its optimizations, ready to be imported into a session."""

    graph_def: Any
    inputs: List[str]
    outputs: List[str]
    unoptimized: Any


def _prepare(program: Program, jit_compile: bool) -> _Graph:
    with tf.Graph().as_default() as graph, tf.device(program.device):
        inputs = [tf.compat.v1.placeholder(s.dtype, s.shape) for s in program.inputs]
        # The optimizer takes the shape of what is fed as unknown, whatever the placeholder says.
        # Told for sure, it folds away all that gradients compute about shapes: half of the ops.
        ensured = [tf.ensure_shape(x, s.shape) for x, s in zip(inputs, program.inputs)]
        nodes = [s.node for s in program.inputs] + [feed.node for feed in program.feeds]

        def run(*tensors: tf.Tensor) -> List[tf.Tensor]:
            return program.build(dict(zip(nodes, tensors)))

        if jit_compile:
            run = tf.function(run, autograph=False, jit_compile=True)
        outputs = run(*ensured, *[_resident(feed) for feed in program.feeds])
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
            pass  # as a session does: the graph as it was is slower, and as right
    return _Graph(graph_def, *names, unoptimized)


class _GraphSession:
    """One TensorFlow session with the data of one graph, shared by the programs on that graph."""

    def __init__(self, program: Program) -> None:
        self.depth = forks.depth
        # Shapes of inputs with which there were results.
        self.succeeded: Set[Any] = set()
        self.graph = tf.Graph()
        self.cluster = program.cluster
        self.device = program.device
        # What the variables of a cluster hold can change at any time.
        self.memo = Memo(0) if self.cluster else Memo()
        self.run_options = tf.compat.v1.RunOptions()
        self.session = self._on_cluster() if self.cluster else self._here()
        for feed in program.feeds:
            if feed.array.nbytes > _CONSTANT_BYTES:
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

    def _guard(self, call: Callable[..., Any], graph_def: Any) -> Callable[..., Any]:
        return self.cluster.guarded(call, graph_def) if self.cluster else call

    def make_callable(self, graph: _Graph) -> Callable[..., List[Any]]:
        """Import a graph, and return the fastest call of it that the installed TensorFlow has."""
        names = graph.inputs + graph.outputs
        with self.graph.as_default():
            try:
                tensors = tf.import_graph_def(graph.graph_def, None, names, "function")
            except ValueError:
                # An op that TensorFlow cannot build without the shapes that the optimizer dropped.
                tensors = tf.import_graph_def(graph.unoptimized, None, names, "function")
        inputs, outputs = tensors[: len(graph.inputs)], tensors[len(graph.inputs) :]
        make = getattr(self.session, "_make_callable_from_options", None)
        if make is None or self.cluster:
            # To a cluster the one is as fast as the other, and this one needs no release.
            return self._guard(self.session.make_callable(outputs, inputs), graph.graph_def)
        options = config_pb2.CallableOptions(run_options=self.run_options)
        options.feed.extend(t.name for t in inputs)
        options.fetch.extend(t.name for t in outputs)
        return make(options)


class Function:
    """A program, ready to be called in this process.

    Attributes
    ----------
    calls : int
        How many times TensorFlow was called; results from the memo do not count.
    """

    def __init__(self, program: Program) -> None:
        self.calls = 0
        self.home = _graph_session(program)
        self.depth = self.home.depth
        inherited = _inherited_graphs.get(program.key)
        # Many draws of what cannot stand inside a loop are computed one by one.
        alone = program.has_version_1_loop or program.cluster is not None
        self._one_by_one = bool(program.stacked) and alone
        self._one = program.of_one_draw() if program.stacked else program
        one = self._one if self._one_by_one else program
        # XLA hangs in a forked child; the plain graph gives the same numbers there.
        # For many draws it would compile once for each number of them.
        jit_compile = program.jit_compile and not self.depth and not program.stacked
        self.graph = inherited or _prepare(one, jit_compile)
        self.plain = self.graph
        if jit_compile:
            self.plain = _prepare(one, False)
        self.nodes = [spec.node for spec in program.outputs]
        # Results and failures are those of one draw, however many are computed at a time.
        self._inputs, self._outputs = self._one.inputs, self._one.outputs
        # For texts, in which upstream gradients would tell nobody anything.
        self._labels = [
            None if spec.node.startswith("cotangent_") else spec.label for spec in program.inputs
        ]
        self._shapes_of_feeds = {feed.node: feed.array.shape for feed in program.feeds}
        self._graph_key = program.graph_key
        # Log densities have to be numbers. Gradients fall back to zero, only where those do not.
        self._densities = [
            i for i, spec in enumerate(program.outputs) if spec.fallback not in (None, 0.0)
        ]
        self._fixed = [
            (i, spec) for i, spec in enumerate(program.inputs) if spec.shape not in ((), None)
        ]
        static = all(s.shape is not None and None not in s.shape for s in self._inputs)
        self._shapes_vary = not static
        self._call: Callable[..., List[Any]] = self.home.make_callable(self.graph)
        if self.depth:
            self._call = forks.guarded(self._call, then=functools.partial(setattr, self, "_call"))
        self._entry_bytes = 0
        # Programs of one graph share results, unless one of them falls back and another does not.
        falls_back = any(spec.falls_back for spec in program.outputs)
        self._arguments = (falls_back, *(spec.node for spec in program.inputs))
        self._stacked = [spec.node in program.stacked for spec in program.inputs]
        # Of a copy: the program holds this function, and a cycle would outlive it.
        self._footprint = functools.lru_cache(1)(dataclasses.replace(program).footprint)

    def __call__(self, values: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Evaluate the program.

        Parameters
        ----------
        values : sequence of ndarray
            One for each input of the program, of its dtype.

        Returns
        -------
        list of ndarray
            One for each output. They are the caller's own, to change or to keep.

        Raises
        ------
        ValueError
            If a value does not have the shape that the graph was built for.
        EvaluationError
            If TensorFlow fails, and nothing is declared to stand for the results then.
        """
        for i, spec in self._fixed:
            _check_shape(values[i], spec)
        if any(self._stacked):
            return self._call_in_chunks(values)
        point = b"".join([v.tobytes() for v in values])
        shapes = self._shapes_of(values)
        key = self._arguments, shapes, point
        memo = self.home.memo
        known = memo.get(key)
        if known:
            try:
                return [np.array(known[node]) for node in self.nodes]
            except KeyError:
                pass
        results = self._evaluate(values, shapes)
        self.calls += 1
        if len(point) <= _MEMO_LARGEST_POINT and not failures.are_ignored():
            if self._shapes_vary or not self._entry_bytes:
                size = len(point) + sum(result.nbytes for result in results)
                self._entry_bytes = _MEMO_ENTRY_OVERHEAD + size
            memo.add(key, dict(zip(self.nodes, results)), self._entry_bytes)
        # Copies, because a result can share the memory of a feed, a constant or an input.
        return [np.array(result) for result in results]

    def _evaluate(self, values: Sequence[np.ndarray], shapes: Any) -> List[Any]:
        try:
            results = self._call(*values)
        except tf.errors.OpError as error:
            if self.plain is not self.graph:
                raise self._not_compiled(values, error) from error
            if not isinstance(error, tf.errors.InvalidArgumentError):
                raise
            return self._fallback(values, shapes, error)
        self.home.succeeded.add(shapes)
        for i in self._densities:
            total = results[i] if results[i].ndim == 0 else results[i].sum()
            if total != total:
                return self._without_nan(values, results)
        return results

    def _not_compiled(self, values: Sequence[np.ndarray], error: Any) -> Exception:
        """Return the error of a program under XLA, which does not fail at values.

        Without XLA it fails as well if the shapes do not fit.
        """
        at = f"at {failures.describe(self._labels, values)}"
        try:
            self.home.make_callable(self.plain)(*values)
        except tf.errors.OpError as plain:
            return EvaluationError(f"TensorFlow failed {at}: {message(plain)}")
        return CompilationError(
            f"jit_compile=True: XLA cannot compile {self._outputs[0].label} {at}: "
            f"{message(error)} Leave jit_compile out."
        )

    def _fallback(self, values: Sequence[np.ndarray], shapes: Any, error: Any) -> List[Any]:
        """Return what stands for the outputs where TensorFlow fails."""
        said = str(error.message).strip().splitlines()[0]
        text = f"at {failures.describe(self._labels, values)}: {said}"
        # An error from the very first call on may come from shapes that do not fit.
        of_values = shapes in self.home.succeeded or failures.is_of_values(said)
        shape_of: Dict[Any, Any] = {spec.node: v.shape for spec, v in zip(self._inputs, values)}
        shape_of.update(self._shapes_of_feeds)
        found = []
        for spec in self._outputs:
            shape = shape_of.get(spec.like, spec.shape)
            declared = of_values and spec.falls_back
            if not (declared or failures.are_ignored()) or shape is None or None in shape:
                raise EvaluationError(f"TensorFlow failed {text}") from error
            value = np.nan if spec.fallback is None and spec.is_floating else spec.fallback or 0
            found.append(np.full(shape, value, spec.dtype))
        failures.record(self._graph_key, text)
        return found

    def _without_nan(self, values: Sequence[np.ndarray], results: Sequence[Any]) -> List[Any]:
        """Return results with what stands for a log density that is no number."""
        bad = [np.isnan(results[i]) for i in self._densities]
        if not any(b.any() for b in bad):
            return list(results)  # there was +inf beside -inf
        text = f"at {failures.describe(self._labels, values)}: the log density is not a number."
        declared = all(self._outputs[i].falls_back for i in self._densities)
        if not declared and not failures.are_ignored():
            raise EvaluationError(f"TensorFlow failed {text}")
        failures.record(self._graph_key, text)
        found = [
            r if spec.fallback is None else np.full_like(r, spec.fallback)
            for r, spec in zip(results, self._outputs)
        ]
        for i, b in zip(self._densities, bad):
            found[i] = np.where(b, found[i], results[i])
        return found

    def _call_in_chunks(self, values: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Evaluate a program for many draws, as many at a time as there is memory for."""
        number = next(len(v) for v, stacked in zip(values, self._stacked) if stacked)
        shapes = tuple([v.shape[s:] for v, s in zip(values, self._stacked)])
        size = 1 if self._one_by_one else max(1, _BATCH_BYTES // self._footprint(shapes))
        results: List[np.ndarray] = []
        for start in range(0, max(1, number), size):
            chunk = slice(start, start + size)
            found = self._evaluate_draws([v[chunk] if s else v for v, s in self._marked(values)])
            self.calls += 1
            results = results or [np.empty((number, *r.shape[1:]), r.dtype) for r in found]
            for result, rows in zip(results, found):
                result[chunk] = rows
        return results

    def _evaluate_draws(self, values: Sequence[np.ndarray]) -> List[Any]:
        """Evaluate some draws, each of which gives what it would give alone."""
        if self._one_by_one:
            draw = self._draw(values, 0)
            return [np.asarray(y)[None] for y in self._evaluate(draw, self._shapes_of(draw))]
        try:
            results = self._call(*values)
        except tf.errors.InvalidArgumentError:
            # One draw is enough to make the call fail: that one falls back, and not the others.
            number = next(len(v) for v, stacked in self._marked(values) if stacked)
            alone = function(self._one)
            draws = (self._draw(values, i) for i in range(number))
            return [
                np.stack(rows)
                for rows in zip(*[alone._evaluate(d, alone._shapes_of(d)) for d in draws])
            ]
        bad = {row for i in self._densities for row in _rows_with_nan(results[i])}
        if bad:
            results = [np.array(result) for result in results]
        for row in sorted(bad):
            draw = self._without_nan(self._draw(values, row), [r[row] for r in results])
            for result, value in zip(results, draw):
                result[row] = value
        return results

    def _marked(self, values: Sequence[np.ndarray]) -> Iterator[Tuple[np.ndarray, bool]]:
        return zip(values, self._stacked)

    def _draw(self, values: Sequence[np.ndarray], row: int) -> List[np.ndarray]:
        """Return the inputs of one draw."""
        return [np.asarray(v[row]) if stacked else v for v, stacked in self._marked(values)]

    def _shapes_of(self, values: Sequence[np.ndarray]) -> Any:
        return tuple([v.shape for v in values]) if self._shapes_vary else None

    def bare(self, values: Sequence[np.ndarray]) -> List[Any]:
        """Call TensorFlow and do nothing else, such as look into the memo: to measure it."""
        return self._call(*values)

    def release(self) -> None:
        """Give up the call."""
        self._call = _released


def _released(*values: Any) -> List[Any]:
    raise RuntimeError("the interpreter is shutting down: TensorFlow cannot be called any more")


def _rows_with_nan(array: np.ndarray) -> List[int]:
    with np.errstate(invalid="ignore"):
        # A sum is NaN if an element is, and can be had in a fraction of the time.
        total = array.sum(axis=tuple(range(1, array.ndim)))
    return list(np.flatnonzero(np.isnan(total)))


def _check_shape(value: np.ndarray, spec: TensorSpec) -> None:
    # TensorFlow does not look at the shapes that it is fed through a callable.
    shape = value.shape
    assert spec.shape is not None
    if len(shape) != len(spec.shape) or any(
        n is not None and n != m for n, m in zip(spec.shape, shape)
    ):
        raise ValueError(
            f"{spec.label!r} was declared with shape {spec.shape} and now has shape {shape}. "
            "Declare it with pm.Data, or build the placeholder with None for what may change."
        )


# -- one of each per process ------------------------------------------------------------------

_lock = threading.RLock()
_functions: weakref.WeakValueDictionary[str, Function] = weakref.WeakValueDictionary()
_sessions: weakref.WeakValueDictionary[str, _GraphSession] = weakref.WeakValueDictionary()
# Sessions of the parent: closing one in a child would wait for threads that are not there.
_inherited: List[Any] = []
_inherited_graphs: Dict[str, _Graph] = {}


def function(program: Program) -> Function:
    """Return the program's function in this process; build it if this is the first call."""
    known: Optional[Function] = program.__dict__.get("_function")
    if known is not None and known.depth == forks.depth:
        return known
    with _lock:
        found = _functions.get(program.key)
        if found is None:
            _refuse_fork(program)
            found = forks.guarded(Function)(program) if forks.depth else Function(program)
            _functions[program.key] = found
        # The program keeps its function alive, and with the last such program it goes.
        program.__dict__["_function"] = found
    return found


def evaluate(program: Program, values: Sequence[Any]) -> List[np.ndarray]:
    """Evaluate a program for values that are cast to its dtypes."""
    arrays = [np.asarray(v, spec.dtype) for v, spec in zip(values, program.inputs)]
    return function(program)(arrays)


def live_functions() -> List[Function]:
    """Return the functions that exist in this process."""
    return list(_functions.values())


def _graph_session(program: Program) -> _GraphSession:
    session = _sessions.get(program.graph_key)
    if session is None:
        session = _GraphSession(program)
        _sessions[program.graph_key] = session
    return session


def _refuse_fork(program: Program) -> None:
    if forks.depth and program.cluster:
        raise RuntimeError(
            f"{program.outputs[0].label} lives on the cluster {program.cluster.target}, to which a "
            "forked process cannot connect. Start the chains in another way: "
            'pm.sample(mp_ctx="forkserver"), without a preload of pymc3_tf, or '
            'pm.sample(mp_ctx="spawn"), or with cores=1.'
        )
    if forks.depth and not devices.survives_fork(program.device):
        raise RuntimeError(
            f"a forked process cannot use {program.device}. Give pm.sample mp_ctx='forkserver', "
            "without a preload of pymc3_tf, or mp_ctx='spawn'."
        )
    if forks.depth > 1:
        raise RuntimeError(
            "a process forked by a forked process cannot use TensorFlow. Start the chains from the "
            "main process, or use multiprocessing's 'forkserver' or 'spawn' start method."
        )


def _after_fork_in_child() -> None:
    global _lock, _functions, _sessions
    _lock = threading.RLock()
    _inherited_graphs.update({key: f.plain for key, f in _functions.items()})
    _inherited.extend(_functions.values())
    _inherited.extend(_sessions.values())
    _functions, _sessions = weakref.WeakValueDictionary(), weakref.WeakValueDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@atexit.register
def _release() -> None:
    # Later, when TensorFlow's modules are gone, releasing them would print errors.
    for live in live_functions():
        live.release()
