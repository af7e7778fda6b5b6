"""A declared log density as Theano expressions of its value, and the programs behind them."""

from __future__ import annotations

import dataclasses
import re
import weakref
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import theano.tensor as tt
from cachetools import LRUCache
from theano.graph.basic import Constant, Variable

from pymc3_tf.bridge.entries import native
from pymc3_tf.bridge.op import Check, apply, bind_constants
from pymc3_tf.capture.keys import Input
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.model.declaration import Declaration, broadcast_shape, test_value
from pymc3_tf.programs.program import Program
from pymc3_tf.programs.serialized import Shape
from pymc3_tf.runtime import functions

# Of so many shapes, values that broadcast have a program that is kept.
_PROGRAMS = 8


class LogDensity:
    """The log density of a value, in a declaration's parameters and data.

    Parameters
    ----------
    declaration : Declaration
    shape : tuple of int or None
        Of the value: None for a dimension that may change.
    test : array or None
        The value for which it is tried.

    Attributes
    ----------
    program : Program
        For values of this shape.
    """

    def __init__(self, declaration: Declaration, shape: Shape, test: Any) -> None:
        self._declaration = declaration
        self._dtype = declaration.dtype
        self._programs: LRUCache[Any, Program] = LRUCache(_PROGRAMS)
        # A program with data in it goes with the constant that holds the data.
        self._bound: weakref.WeakKeyDictionary[Constant, Program] = weakref.WeakKeyDictionary()
        self.program = self._capture(shape, test)

    def __call__(self, value: Any, summed: bool, check: Check = None) -> tt.TensorVariable:
        """Return the log density of a value, or its sum; ``check`` gets the program."""
        program, inputs = self.program, self._declaration.variables
        if self._declaration.value is not None:
            value = tt.as_tensor_variable(native(value))
            program = self._program_for(value)
            inputs = inputs if isinstance(value, Constant) else [value, *inputs]
        return apply(program.sum() if summed else program, inputs, check)

    def _program_for(self, value: Variable) -> Program:
        """Return the program for a value, which is made resident if it is constant."""
        program, spec = self.program, self.program.inputs[0]
        shape = value.data.shape if isinstance(value, Constant) else broadcast_shape(value)
        if spec.shape is not None and _broadcasts(shape, spec.shape):
            program = self._programs.get(shape) or self._capture(shape, None)
            self._programs[shape] = program
        if isinstance(value, Constant):
            # PyMC3 asks three times for the same data: bind it once.
            if value not in self._bound:
                inputs = [value, *self._declaration.variables]
                self._bound[value] = bind_constants(program, inputs)
            program = self._bound[value]
        return program

    def _capture(self, shape: Shape, test: Any) -> Program:
        declared = self._declaration
        if declared.source is None:
            raise ValueError(
                "an unpickled density cannot be traced again for a value of another rank. Use it "
                "in the process in which it was declared."
            )
        has_value = declared.value is not None
        value = [Input(declared.value, self._dtype, shape, "value")] if has_value else []
        try:
            program = declared.capture(declared.source, value)
        except DeclarationError as error:
            if declared.guess and re.search("shape|rank|[Dd]imension|indices", str(error)):
                error.args = (f"{error}{declared.guess}",)
            raise
        program = program.with_fallback(-np.inf if declared.options.fails_softly else np.nan)
        tests = ([test] if has_value else []) + [test_value(x) for x in declared.variables]
        # Without a test value, it is a component of a mixture: its value may broadcast.
        shape = (None,) * len(shape or ()) if test is None else np.shape(test)
        return _checked(program, shape if has_value else None, tests, declared.guess)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_bound": list(self._bound.items())}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state, _bound=weakref.WeakKeyDictionary(state["_bound"]))


def _checked(program: Program, value_shape: Shape, tests: List[Any], guess: str) -> Program:
    """Check that the output can be a log density, and settle its rank."""
    if len(program.outputs) != 1:
        labels = ", ".join(spec.label for spec in program.outputs)
        raise DeclarationError(
            f"logp has {len(program.outputs)} tensors ({labels}). Give one, such as their sum."
        )
    output = program.outputs[0]
    if not output.is_floating:
        raise DeclarationTypeError(
            f"logp is {output.dtype}. A log density is floating: use tf.cast(logp, tf.float64)."
        )
    shape = output.shape
    if (shape is None or None in shape) and all(test is not None for test in tests):
        shape = functions.evaluate(program, tests)[0].shape
    if shape is None:
        raise DeclarationError(
            "TensorFlow does not know the rank of logp. Say it with tf.ensure_shape(logp, []), or "
            "with None for each unknown dimension."
        )
    known = value_shape is not None and None not in (*value_shape, *shape)
    if known and shape != value_shape[: len(shape)]:  # type: ignore[index]
        raise DeclarationError(
            f"logp has shape {shape}, and the value has shape {value_shape}. It has to be a "
            "scalar, or have one number for each element of the value: sum it with "
            f"tf.reduce_sum, or declare the variable with shape=.{guess}"
        )
    if output.shape is None:
        output = dataclasses.replace(output, shape=(None,) * len(shape))
    if value_shape is not None and len(shape) == len(value_shape) > 0:
        value = program.inputs[0]
        if value.shape is None or not _broadcasts(value.shape, shape):
            output = dataclasses.replace(output, like=value.node)
    return program.with_output(output)


def _broadcasts(shape: Sequence[Optional[int]], other: Sequence[Optional[int]]) -> bool:
    """Whether arrays of a shape have to be broadcast to become the other."""
    return len(shape) != len(other) or any(n == 1 and m != 1 for n, m in zip(shape, other))
