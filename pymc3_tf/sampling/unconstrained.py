"""A PyMC3 model as TensorFlow functions of one unconstrained vector.

The log density is what a sampler needs; the values of the model's variables and the log likelihood
are what its draws are turned into.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt
from cachetools import LRUCache
from pymc3.util import get_untransformed_name, is_transformed_name
from theano.graph.basic import Variable, graph_inputs

from pymc3_tf.bridge.op import tensorflow_ops
from pymc3_tf.bridge.stacks import evaluate_draws
from pymc3_tf.exceptions import DiscreteVariableError, EvaluationError, message
from pymc3_tf.host import assertions
from pymc3_tf.linker import Linked, link
from pymc3_tf.model.inference_data import without_missing
from pymc3_tf.programs.building import importer
from pymc3_tf.programs.vectorized import vectorized
from pymc3_tf.runtime.chunks import evaluate_in_chunks
from pymc3_tf.runtime.forks import available_cores

# For so many choices of what to compute, and of shapes of data, what was traced is kept.
_PROGRAMS = 8


class UnconstrainedModel:
    """The free variables of a model, transformed, flattened and joined to a vector.

    Parameters
    ----------
    model : pymc3.Model
        All of its free variables have to be continuous.

    Attributes
    ----------
    size : int
        Length of the vector.
    variables : list of str
        Names of the variables that have values.
    """

    def __init__(self, model: pm.Model) -> None:
        require_continuous(model)
        self._names = [v.name for v in model.vars]
        test_point = model.test_point  # a property that computes it
        self._shapes = [test_point[name].shape for name in self._names]
        self._dtypes = [v.dtype for v in model.vars]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self.size = sum(self._sizes)
        self._variables = list(model.unobserved_RVs)
        self.variables = [v.name for v in self._variables]
        self._observed = list(model.observed_RVs)
        self._inputs = list(model.vars)
        self._potentials = list(model.potentials)
        self._deterministics = list(model.deterministics)
        # As model.logpt, which asks for test values: Theano would compile C for many terms.
        with theano.config.change_flags(compute_test_value="off"):
            factors = [v.logpt for v in model.basic_RVs] + self._potentials
            logpt = tt.sum([tt.sum(factor) for factor in factors])
        self._log_density = link([logpt], self._inputs, python=True)
        self._linked: LRUCache[Any, Linked] = LRUCache(_PROGRAMS)
        self._batches: LRUCache[Any, _Batch] = LRUCache(_PROGRAMS)

    @property
    def data(self) -> List[np.ndarray]:
        """What `log_density` takes besides the position, as ``pm.set_data`` left it."""
        return self._log_density.data

    def log_density(self, position: tf.Tensor, *data: tf.Tensor) -> tf.Tensor:
        """Return the log density of the model, Jacobian determinants included.

        Parameters
        ----------
        position : tf.Tensor of float64, shape (size,)
        *data : tf.Tensor
            One for each array of `data`.
        """
        return self._log_density(*self._split(position), data=data)[0]

    def vector(self, point: Dict[str, Any]) -> np.ndarray:
        """Return the position of a point of the model."""
        return np.concatenate([np.ravel(point[name]) for name in self._names]).astype(float)

    def point(self, position: np.ndarray) -> Dict[str, np.ndarray]:
        """Return the point of the model at a position."""
        parts = np.split(position, np.cumsum(self._sizes)[:-1])
        return {
            name: part.reshape(shape).astype(dtype)
            for name, part, shape, dtype in zip(self._names, parts, self._shapes, self._dtypes)
        }

    def values(
        self, positions: np.ndarray, names: Optional[Sequence[str]] = None
    ) -> Dict[str, np.ndarray]:
        """Return the values of the model's variables, on the unconstrained scale too.

        Parameters
        ----------
        positions : array, shape (..., size)
        names : sequence of str, optional
            Default: all variables.

        Returns
        -------
        dict of str to array
            By name, with the leading dimensions of `positions`.

        Raises
        ------
        pymc3_tf.exceptions.EvaluationError
            If TensorFlow fails at one of the positions.
        """
        inputs = set(self._inputs)
        wanted = [v for v in self._variables if names is None or v.name in names]
        found = self._over(positions, {v.name: v for v in wanted if v not in inputs})
        found.update(self._free(positions))
        return {v.name: found[v.name] for v in wanted}

    def _free(self, positions: np.ndarray) -> Iterator[Tuple[str, np.ndarray]]:
        """Yield the values of the free variables, which are parts of the positions."""
        parts = np.split(positions, np.cumsum(self._sizes)[:-1], axis=-1)
        for name, part, shape, dtype in zip(self._names, parts, self._shapes, self._dtypes):
            yield name, part.reshape(positions.shape[:-1] + shape).astype(dtype)

    def log_likelihood(self, positions: np.ndarray, names: Sequence[str]) -> Dict[str, np.ndarray]:
        """Return the pointwise log likelihood of observed variables, as `values` does.

        Where a TFDensity fails or is not a number, it is what ``logp_elemwise`` gives: -inf, or
        with ``errors="raise"`` an error.
        """
        observed = {v.name: v for v in self._observed if v.name in names}
        graphs = {name: v.logp_elemwiset for name, v in observed.items()}
        try:
            found = self._over(positions, graphs)
        except EvaluationError:
            if len(graphs) > 1:
                each = [self.log_likelihood(positions, [name]) for name in graphs]
                return {name: array for one in each for name, array in one.items()}
            ((name, logp),) = graphs.items()
            if not _is_guarded(logp):
                raise
            found = {name: self._by_pymc3(positions, logp)}
        for name, array in found.items():
            bad = _has_nan(array, positions.ndim - 1)
            if bad.any() and _is_guarded(graphs[name]):
                array[bad] = self._by_pymc3(positions[bad], graphs[name])
        return {name: without_missing(observed[name], array) for name, array in found.items()}

    def _by_pymc3(self, positions: np.ndarray, output: Variable) -> np.ndarray:
        """Evaluate by Theano and PyMC3's own programs, which know what stands for a failure."""
        rows = positions.reshape(-1, self.size)
        parts = np.split(rows, np.cumsum(self._sizes)[:-1], axis=1)
        draws = {
            x: part.reshape(len(rows), *shape)
            for x, part, shape in zip(self._inputs, parts, self._shapes)
        }
        needed = set(graph_inputs([output]))
        draws = {x: array for x, array in draws.items() if x in needed}
        (array,) = evaluate_draws([output], draws, len(rows))
        return array.reshape(positions.shape[:-1] + array.shape[1:])

    def terms(self) -> Iterator[Tuple[str, Any]]:
        """Yield what is computed for each variable of the model, by name: its log density, too."""
        observed = {v.name for v in self._observed}
        for variable in [*self._inputs, *self._observed]:
            name = variable.name
            plain = get_untransformed_name(name) if is_transformed_name(name) else name
            yield (name if name in observed else plain), variable.logpt
        for variable in [*self._potentials, *self._deterministics]:
            yield variable.name, variable

    def evaluate(self, output: Variable, position: np.ndarray) -> None:
        """Evaluate a Theano variable and its gradient, op by op.

        Raises
        ------
        tf.errors.OpError
            If an op fails.
        """
        linked = link([output], self._inputs, python=True)
        data = [tf.constant(array) for array in linked.data]
        vector = tf.constant(position)
        with tf.GradientTape() as tape:
            tape.watch(vector)
            (value,) = linked(*self._split(vector), data=data)
        if value.dtype.is_floating:
            tape.gradient(value, vector)

    def _over(self, positions: np.ndarray, graphs: Dict[str, Any]) -> Dict[str, np.ndarray]:
        if not graphs:
            return {}
        outputs = tuple(graphs.values())
        if outputs not in self._linked:
            self._linked[outputs] = link(list(outputs), self._inputs, python=True)
        linked = self._linked[outputs]
        # Shapes that are known while tracing become constants of what is traced.
        key = outputs, tuple(array.shape for array in linked.data)
        if key not in self._batches:
            self._batches[key] = _Batch(linked, self._split, self.size)
        rows = positions.reshape(-1, self.size)
        leading = positions.shape[:-1]
        try:
            arrays = self._batches[key](rows)
        except tf.errors.OpError as error:
            raise EvaluationError(
                f"TensorFlow failed where it computes {', '.join(map(repr, graphs))} from the "
                f"draws: {message(error)} Leave out what fails, or use pm.sample()."
            ) from error
        return {n: array.reshape(leading + array.shape[1:]) for n, array in zip(graphs, arrays)}

    def _split(self, position: tf.Tensor) -> List[tf.Tensor]:
        # Neighbouring scalars are one part: a model can have hundreds of them.
        runs = [
            (scalar, list(run))
            for scalar, run in itertools.groupby(self._shapes, lambda shape: shape == ())
        ]
        sizes: List[int] = []
        for scalar, run in runs:
            sizes += [len(run)] if scalar else [int(np.prod(shape)) for shape in run]
        parts = iter(tf.split(position, sizes) if len(sizes) > 1 else [position])
        tensors: List[tf.Tensor] = []
        for scalar, run in runs:
            if scalar:
                tensors += tf.unstack(next(parts), len(run))
            else:
                tensors += [tf.reshape(next(parts), shape) for shape in run]
        return [tf.cast(tensor, dtype) for tensor, dtype in zip(tensors, self._dtypes)]


def require_continuous(model: pm.Model) -> None:
    """Refuse a model with discrete free variables.

    Raises
    ------
    DiscreteVariableError
        If it has some. The text has their names.
    """
    discrete = [v.name for v in model.vars if v.dtype not in ("float32", "float64")]
    if discrete:
        raise DiscreteVariableError(
            f"the free variables {', '.join(map(repr, discrete))} are discrete, and NUTS moves "
            "along gradients. Use pm.sample(), which takes another step method for them, or "
            "sum them out of the model."
        )


def _array(tensor: tf.Tensor) -> np.ndarray:
    """Return the numbers of a tensor where they are. ``numpy()`` would copy them."""
    return np.asarray(memoryview(tensor))


def _has_nan(array: np.ndarray, leading: int) -> np.ndarray:
    """Say by the leading dimensions where an array has NaN, or infinities of both signs."""
    with np.errstate(invalid="ignore"):
        return np.isnan(array.sum(axis=tuple(range(leading, array.ndim))))


def _is_guarded(output: Variable) -> bool:
    """Whether there is a density that says what stands for it where it fails."""
    outputs = [spec for op in tensorflow_ops(output) for spec in op.program.outputs]
    return any(spec.fallback is not None for spec in outputs)


class _Batch:
    """A linked graph, evaluated at many positions in one call.

    TensorFlow has no form for many positions of some ops, loops above all. One position after the
    other, XLA runs those some ten times faster than TensorFlow itself. It says whether all checks
    hold; where one does not, TensorFlow fails.
    """

    # So many positions XLA gets at a time: it compiles for each number of them.
    _ROWS = 64

    def __init__(self, linked: Linked, split: Any, size: int) -> None:
        self._linked = linked
        self._size = size
        self._one: Any = lambda x, *data: tuple(linked(*split(x), data=data))
        self._dtypes = tuple(output.dtype for output in linked.graph.outputs)
        self._for_xla = False

        def many(positions: tf.Tensor, *data: tf.Tensor) -> Any:
            return vectorized(lambda x: self._one(x, *data), positions, self._one_by_one)

        # Traced once, for any number of positions.
        self._many = self._traced(many, [None, size])
        self._for_xla &= not assertions.are_out_of_reach(self._many.graph.as_graph_def())

    def __call__(self, positions: np.ndarray) -> List[np.ndarray]:
        """Return the values of each output, of all positions."""
        data = [tf.constant(array) for array in self._linked.data]

        def values(chunk: slice) -> List[np.ndarray]:
            if self._for_xla and len(positions) >= self._ROWS:
                try:
                    *found, holds = self._by_xla(positions[chunk], data)
                    if holds.all():
                        return found
                except (tf.errors.OpError, ValueError):
                    self._for_xla = False  # XLA cannot compile it, and is not asked again
            return [_array(y) for y in self._many(tf.constant(positions[chunk]), *data)]

        def draw_bytes(found: Sequence[np.ndarray]) -> int:
            return positions[0].nbytes + sum(y.nbytes for y in found)

        threads = available_cores()
        return evaluate_in_chunks(values, len(positions), draw_bytes, threads=threads)

    def _one_by_one(self, of_one: Any, positions: tf.Tensor) -> Any:
        self._for_xla = True
        return tf.map_fn(of_one, positions, fn_output_signature=self._dtypes)

    @functools.cached_property
    def _compiled(self) -> Any:
        of_one = self._with_checks()

        def some(positions: tf.Tensor, *data: tf.Tensor) -> Any:
            signature = *self._dtypes, tf.bool
            return tf.map_fn(lambda x: of_one(x, *data), positions, fn_output_signature=signature)

        return self._traced(some, [self._ROWS, self._size], jit_compile=True)

    def _with_checks(self) -> Any:
        """Return a function of one position that says whether its checks hold, too."""
        function = self._traced(self._one, [self._size])
        graph_def = function.graph.as_graph_def()
        inputs, outputs = ([x.op.name for x in function.inputs], [y.name for y in function.outputs])
        # What depends on data alone was checked where chains start.
        holds = assertions.add(graph_def, outputs, inputs[:1])
        if holds is None:
            return lambda x, *data: (*self._one(x, *data), True)
        build = importer(graph_def, inputs, [*outputs, holds])
        return lambda *xs: tuple(build(*xs, *function.captured_inputs))

    def _by_xla(self, positions: np.ndarray, data: List[tf.Tensor]) -> List[np.ndarray]:
        n = len(positions)
        filled = np.resize(positions, (-(-n // self._ROWS) * self._ROWS, self._size))
        parts = [
            self._compiled(tf.constant(part), *data)
            for part in np.split(filled, len(filled) // self._ROWS)
        ]
        return [np.concatenate([_array(y) for y in found])[:n] for found in zip(*parts)]

    def _traced(
        self, function: Any, shape: List[Optional[int]], jit_compile: Optional[bool] = None
    ) -> Any:
        return tf.function(
            function, autograph=False, jit_compile=jit_compile
        ).get_concrete_function(
            tf.TensorSpec(shape, tf.float64),
            *[tf.TensorSpec(array.shape, array.dtype) for array in self._linked.data],
        )
