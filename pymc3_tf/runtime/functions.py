"""Functions that run programs in this process: what they check, return, and do on failures.

Each process builds its own session for a program's graph when it first needs it; nothing of
TensorFlow is pickled or inherited. Calls run on the calling thread, and data is resident: only
parameters cross on each call.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import os
import threading
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.exceptions import CompilationError, EvaluationError, message
from pymc3_tf.host import assertions
from pymc3_tf.programs.building import footprint
from pymc3_tf.programs.program import Program, TensorSpec
from pymc3_tf.runtime import devices, failures, forks, sessions
from pymc3_tf.runtime.chunks import evaluate_in_chunks

# What reading files raises: no value of the parameters mends it.
_FAULTS_OF_FILES = (
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.DataLossError,
    tf.errors.OutOfRangeError,
)
# Results are remembered for points of at most so many bytes, and take so many besides their own.
_LARGEST_POINT = 1 << 16
_ENTRY_OVERHEAD = 1000
# Memory that a program for many draws may take at a time, besides its results. More is slower: it
# would have to come from the system each time, and it leaves the processor's cache.
_BATCH_BYTES = 1 << 20


class Function:
    """A program, ready to be called in this process.

    Attributes
    ----------
    calls : int
        How many times TensorFlow was called; results that were remembered do not count.
    """

    def __init__(self, program: Program) -> None:
        self.calls = 0
        self.home = sessions.graph_session(program)
        self.depth = self.home.depth
        inherited = _inherited_graphs.get(program.key)
        # Many draws of what cannot stand inside a loop are computed one by one.
        alone = program.has_version_1_loop or program.cluster is not None
        self._one_by_one = bool(program.stacked) and alone
        # Copies: the program holds this function, and a cycle would outlive it.
        copy = dataclasses.replace(program)
        self._one = program.of_one_draw() if program.stacked else copy
        one = self._one if self._one_by_one else copy
        # XLA hangs in a forked child; the plain graph gives the same numbers there.
        # For many draws it would compile once for each number of them.
        jit_compile = program.jit_compile and not self.depth and not program.stacked
        if jit_compile and assertions.are_out_of_reach(program.graph()):
            jit_compile = False
        self.graph = inherited or sessions.prepare(one, jit_compile)
        self.plain = self.graph
        if jit_compile:
            self.plain = sessions.prepare(one, False)
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
        self._footprint = functools.lru_cache(1)(functools.partial(footprint, copy))

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
        known = self.home.recall(key)
        if known:
            try:
                return [np.array(known[node]) for node in self.nodes]
            except KeyError:
                pass
        results = self._evaluate(values, shapes)
        self.calls += 1
        if len(point) <= _LARGEST_POINT and not failures.are_ignored():
            if self._shapes_vary or not self._entry_bytes:
                size = len(point) + sum(result.nbytes for result in results)
                self._entry_bytes = _ENTRY_OVERHEAD + size
            self.home.remember(key, dict(zip(self.nodes, results)), self._entry_bytes)
        # Copies, because a result can share the memory of a feed, a constant or an input.
        return [np.array(result) for result in results]

    def _evaluate(self, values: Sequence[np.ndarray], shapes: Any) -> List[Any]:
        compiled = self.plain is not self.graph
        try:
            results = self._call(*values)
            if self.graph.checked and not results.pop():
                # Where XLA goes on with some number, TensorFlow fails, and says why.
                compiled = False
                results = self._call_plain(*values)
        except tf.errors.OpError as error:
            if compiled:
                raise self._not_compiled(values, error) from error
            if isinstance(error, _FAULTS_OF_FILES):
                text = f"TensorFlow failed at {failures.describe(self._labels, values)}"
                raise EvaluationError(f"{text}: {message(error)}") from error
            if not isinstance(error, tf.errors.InvalidArgumentError):
                raise
            return self._fallback(values, shapes, error)
        if self._densities or not any(spec.falls_back for spec in self._outputs):
            # A gradient alone says nothing: that of an index out of bounds is zero.
            self.home.succeeded.add(shapes)
        for i in self._densities:
            total = results[i] if results[i].ndim == 0 else results[i].sum()
            if total != total:
                return self._without_nan(values, results)
        return results

    @functools.cached_property
    def _call_plain(self) -> Callable[..., List[Any]]:
        return self.home.make_callable(self.plain)

    def _not_compiled(self, values: Sequence[np.ndarray], error: Exception) -> Exception:
        """Return the error of a program under XLA, which does not fail at values.

        Without XLA it fails as well if the shapes do not fit.
        """
        at = f"at {failures.describe(self._labels, values)}"
        try:
            self._call_plain(*values)
        except tf.errors.OpError as plain:
            return EvaluationError(f"TensorFlow failed {at}: {message(plain)}")
        return CompilationError(
            f"jit_compile=True: XLA cannot compile {self._outputs[0].label} {at}: "
            f"{message(error)} Leave jit_compile out."
        )

    def _fallback(
        self, values: Sequence[np.ndarray], shapes: Any, error: tf.errors.OpError
    ) -> List[Any]:
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
        number = next(len(v) for v, stacked in self._marked(values) if stacked)
        shapes = tuple([v.shape[s:] for v, s in self._marked(values)])
        draw_bytes = _BATCH_BYTES if self._one_by_one else self._footprint(shapes)

        def evaluate(chunk: slice) -> List[Any]:
            found = self._evaluate_draws([v[chunk] if s else v for v, s in self._marked(values)])
            self.calls += 1
            return found

        return evaluate_in_chunks(evaluate, number, draw_bytes, _BATCH_BYTES)

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
        self._call = self._call_plain = _released


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
# Those of the parent, whose calls would wait for threads that are not there.
_inherited: List[Function] = []
_inherited_graphs: Dict[str, sessions.Graph] = {}


def function(program: Program) -> Function:
    """Return the program's function in this process; build it if this is the first call."""
    known: Optional[Function] = program.kept.function
    if known is not None and known.depth == forks.depth:
        return known
    with _lock:
        found = _functions.get(program.key)
        if found is None:
            _refuse_fork(program)
            found = forks.guarded(Function)(program) if forks.depth else Function(program)
            _functions[program.key] = found
        # The program keeps its function alive, and with the last such program it goes.
        program.kept.function = found
    return found


def evaluate(program: Program, values: Sequence[Any]) -> List[np.ndarray]:
    """Evaluate a program for values that are cast to its dtypes."""
    arrays = [np.asarray(v, spec.dtype) for v, spec in zip(values, program.inputs)]
    return function(program)(arrays)


def live_functions() -> List[Function]:
    """Return the functions that exist in this process."""
    return list(_functions.values())


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
    global _lock, _functions
    _lock = threading.RLock()
    _inherited_graphs.update({key: f.plain for key, f in _functions.items()})
    _inherited.extend(_functions.values())
    _functions = weakref.WeakValueDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@atexit.register
def _release() -> None:
    # Later, when TensorFlow's modules are gone, releasing them would print errors.
    for live in live_functions():
        live.release()
