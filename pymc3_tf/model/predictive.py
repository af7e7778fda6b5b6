"""Draws from the distribution that a density belongs to, which PyMC3 needs for its predictions.

They are made by a NumPy function, or by a program that takes a seed. Seeds come from NumPy's global
generator, the one that PyMC3 seeds.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

import dill
import numpy as np
import tensorflow as tf

from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.distributions import DistributionSample
from pymc3_tf.capture.keys import Input, variable_of
from pymc3_tf.capture.signatures import arguments_of
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.model.declaration import Declaration, input_of, test_value
from pymc3_tf.programs.program import Program
from pymc3_tf.runtime import functions

# From so many draws on, building a program for all of them at once pays.
_BATCH = 500
T = TypeVar("T")


def sampler_for(
    declaration: Declaration, shape: Sequence[int]
) -> Tuple[Optional[Sampler], Optional[str]]:
    """Return the sampler of a declaration, tried once; or None, and why a distribution has none."""
    if declaration.random is None:
        return None, None
    given = declaration.given
    inputs = [input_of(g) for g in given]
    parameters = len(declaration.parameters)
    sampler = Sampler(declaration.random, inputs, parameters, declaration.options.session)
    tests = [test_value(g.source) for g in given]
    if all(test is not None for test in tests):
        try:
            sampler.check(tests, shape)
        except DeclarationError as error:
            if not isinstance(declaration.random, DistributionSample):
                raise
            # Its log density is of use without draws, which not all distributions have.
            return None, str(error)
    return sampler, None


class Sampler:
    """Draws a variable, for given values of what it depends on.

    Parameters
    ----------
    source : callable or tf.Tensor
        What the user gave as ``random``, or a `DistributionSample`.
    inputs : sequence of Input
        The density's parameters, then its data. The value is not among them.
    params : int
        How many of them are parameters.
    session : tf.compat.v1.Session, optional
        For the variables of a graph.
    """

    def __init__(
        self,
        source: Any,
        inputs: Sequence[Input],
        params: int,
        session: Optional[tf.compat.v1.Session] = None,
    ) -> None:
        self._ranks = [len(i.shape or ()) for i in inputs]
        self._draw: Any
        if isinstance(source, tf.Tensor):
            self._draw = _SeededDraws(source, inputs, session)
            return
        if not callable(source):
            raise DeclarationTypeError(
                f"random is {source!r} ({type(source).__name__}). Give a function that draws with "
                "NumPy, such as lambda mu, size: np.random.normal(mu, 1.0, size), or a tensor of "
                "the graph of logp."
            )
        arguments = _arguments(source, inputs, params)
        if "seed" in arguments_of(source, "random").names:
            self._draw = _SeededDraws(source, inputs, session, arguments)
        else:
            self._draw = _NumpyDraws(source, arguments)

    def __call__(self, values: Sequence[Any], shape: Sequence[int], size: Any = None) -> np.ndarray:
        """Draw the variable.

        Parameters
        ----------
        values : sequence of array
            One for each input. Those that were drawn themselves have the dimensions of `size`
            before their own.
        shape : sequence of int
            Shape of the variable; empty if it follows from the values.
        size : int or tuple of int, optional
            How many draws.

        Returns
        -------
        ndarray
            Of shape `size` + `shape`.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        size = () if size is None else tuple(int(n) for n in np.atleast_1d(size))
        shape = tuple(int(n) for n in shape)
        arrays, varies = [], []
        for value, rank in zip(map(np.asarray, values), self._ranks):
            batch, own = value.shape[: value.ndim - rank], value.shape[value.ndim - rank :]
            varies.append(bool(size) and batch == size)
            if not varies[-1] and np.prod(batch) != 1 or value.ndim < rank:
                raise ValueError(
                    f"random got a parameter of shape {value.shape} for {size} draws; one draw of "
                    f"it has {rank} dimensions."
                )
            arrays.append(value.reshape(-1, *own) if varies[-1] else value.reshape(own))
        number = int(np.prod(size))
        state = np.random.get_state()
        draws = self._draw(arrays, varies, shape, number)
        found = draws.shape[1:]
        if not shape and found:
            # PyMC3 does not know the shape after data got a new length, but now we do. What was
            # drawn may be a single number that was added to all of them.
            np.random.set_state(state)
            again = self._draw(arrays, varies, found, number)
            draws = again if again.shape == draws.shape else draws
        if shape and found != shape:
            raise ValueError(
                f"random drew the shape {found}, and the variable has shape {shape}. Draw with "
                "size=size, which is the shape of the variable."
            )
        return draws.reshape(size + found)

    def check(self, values: Sequence[Any], shape: Sequence[int]) -> None:
        """Draw once, and leave NumPy's generator as it was."""
        state = np.random.get_state()
        try:
            draw = self(values, shape)
        except (DeclarationError, DeclarationTypeError):
            raise
        except Exception as error:
            raise DeclarationError(
                f"random failed at the test point: {type(error).__name__}: {error}"
            ) from error
        finally:
            np.random.set_state(state)
        if draw.dtype.kind not in "biuf":
            raise DeclarationTypeError(
                f"random returned values of dtype {draw.dtype}. Return an array of numbers."
            )


def _arguments(
    function: Callable[..., Any], inputs: Sequence[Input], params: int
) -> List[Optional[str]]:
    """Return the name under which the function takes each input; None if it does not.

    Tensors have no names that a function could go by: they are passed in their order.
    """
    names, required, _, takes_any = arguments_of(function, "random")
    if not takes_any and "size" not in names:
        raise DeclarationError(
            "random has to take size, the shape to draw: lambda mu, size: "
            "np.random.normal(mu, 1.0, size)"
        )
    own = [name for name in names if name not in ("size", "seed")]
    if all(isinstance(i.key, str) or variable_of(i.key) is not None for i in inputs):
        known = [i.key for i in inputs if isinstance(i.key, str)]
        for name in own:
            if name in required and name not in known:
                raise DeclarationError(
                    f"random needs the argument {name!r}, which is neither in params nor in "
                    f"feed_dict. They have: {', '.join(known)}."
                )
        keys: List[Optional[str]] = [i.key if isinstance(i.key, str) else None for i in inputs]
        if takes_any:
            own += [key for key in known if key not in ("size", "seed")]
        return [key if key in own else None for key in keys]
    if len(own) not in (params, len(inputs)):
        raise DeclarationError(
            f"random takes {len(own)} arguments besides size ({', '.join(own)}). Where the keys "
            f"are tensors it gets the values of params in their order ({params}), and if it takes "
            f"more, those of feed_dict too ({len(inputs) - params})."
        )
    return [*own, *[None] * (len(inputs) - len(own))]


def _named(arguments: Sequence[Optional[str]], values: Sequence[Any]) -> Dict[str, Any]:
    return {name: value for name, value in zip(arguments, values) if name is not None}


class _NumpyDraws:
    """Draws by a function of NumPy."""

    def __init__(self, function: Callable[..., Any], arguments: List[Optional[str]]) -> None:
        self._function = function
        self._arguments = arguments

    def __call__(
        self, arrays: List[np.ndarray], varies: List[bool], shape: Tuple[int, ...], number: int
    ) -> np.ndarray:
        draws = []
        for i in range(number):
            row = [a[i] if v else a for a, v in zip(arrays, varies)]
            draws.append(self._function(**_named(self._arguments, row), size=shape or None))
        return np.array(draws)

    def __getstate__(self) -> Dict[str, Any]:
        # Functions that pickle cannot find by their name, such as lambdas, travel too.
        return {**self.__dict__, "_function": dill.dumps(self._function, recurse=True)}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state, _function=dill.loads(state["_function"]))


class _SeededDraws:
    """Draws by a program whose last input is a seed."""

    def __init__(
        self,
        source: Any,
        inputs: Sequence[Input],
        session: Optional[tf.compat.v1.Session],
        arguments: Optional[Sequence[Optional[str]]] = None,
    ) -> None:
        # What the function neither takes nor uses is left out.
        self._taken = [
            arguments is None or arguments[k] is not None or variable_of(i.key) is not None
            for k, i in enumerate(inputs)
        ]
        self._inputs = list(inputs)
        self._source = source
        self._session = session
        self._arguments = arguments
        # TensorFlow has to know the rank of a draw, and PyMC3 asks for others than the variable's.
        self._programs: Dict[Optional[int], Program] = {}

    def __call__(
        self, arrays: List[np.ndarray], varies: List[bool], shape: Tuple[int, ...], number: int
    ) -> np.ndarray:
        program = self._program(None if self._arguments is None else len(shape))
        fixed = [] if self._arguments is None else [np.array(shape, np.int32)]
        seeds = np.random.randint(0, 2**31 - 1, (number, 2), np.int32)
        every = [*self._only_taken(arrays), *fixed, seeds]
        stacked = [*self._only_taken(varies), *[False] * len(fixed), True]
        if number >= _BATCH:
            nodes = [spec.node for spec, s in zip(program.inputs, stacked) if s]
            return functions.evaluate(program.batched(nodes), every)[0]
        rows = ([a[i] if s else a for a, s in zip(every, stacked)] for i in range(number))
        return np.array([functions.evaluate(program, row)[0] for row in rows])

    def _program(self, rank: Optional[int]) -> Program:
        if rank not in self._programs:
            if self._source is None:
                raise ValueError(
                    "an unpickled density cannot be traced again for draws of another rank. Draw "
                    "in the process in which it was declared."
                )
            self._programs[rank] = self._capture(rank)
        return self._programs[rank]

    def _capture(self, rank: Optional[int]) -> Program:
        if self._arguments is None:
            return capture(
                self._source, self._inputs, session=self._session, random=True, name="random"
            )
        # Variables keep their keys: the function uses them, and takes them as no argument.
        inputs = [
            i if name is None else i._replace(key=name)
            for i, name in zip(self._only_taken(self._inputs), self._only_taken(self._arguments))
        ]
        inputs += [Input("size", "int32", (rank,)), Input("seed", "int32", (2,))]
        return capture(self._source, inputs, session=self._session, random=True, name="random")

    def _only_taken(self, entries: Sequence[T]) -> List[T]:
        return [entry for entry, taken in zip(entries, self._taken) if taken]

    def __getstate__(self) -> Dict[str, Any]:
        # The user's graph stays in its process; the programs are all that another one needs. Rank 0
        # is what PyMC3 asks for when the data have a new length.
        if self._source is not None and self._arguments is not None:
            self._program(0)
        inputs = [i._replace(key=None) for i in self._inputs]
        return {**self.__dict__, "_source": None, "_session": None, "_inputs": inputs}
