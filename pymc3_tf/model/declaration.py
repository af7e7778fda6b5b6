"""What users declare a density with, checked once."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.model import pandas_to_array
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Variable, graph_inputs

from pymc3_tf.bridge.arguments import (
    Options,
    check_observed,
    check_transform,
    is_default,
)
from pymc3_tf.bridge.entries import (
    Entries,
    Given,
    Key,
    Quantity,
    data_of,
    given_by,
    native,
    pairs_of,
    test_value,
)
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.distributions import (
    DistributionLogProb,
    DistributionSample,
    Traits,
    joint_data_text,
)
from pymc3_tf.capture.keys import (
    Input,
    Source,
    find_value,
    guess_text,
    label_of,
    same_key,
    tensor_spec,
)
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.programs.program import Feed, Program
from pymc3_tf.programs.serialized import Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Declaration:
    """What a density is declared with.

    Parameters
    ----------
    source : tf.Tensor or callable
        The log density. None once it is unpickled: the user's graph stays in its process.
    parameters, feeds : tuple of Given
        Entries of ``params`` and ``feed_dict``, without the value.
    value : tf.Tensor, str or None
        What stands for the random variable; None if all inputs are given.
    guess : str
        What to write if the value was not named, and is not what it was taken to be.
    data : array, Theano variable or None
        The observed data, or what stands for them; None for a free variable.
    random : callable, tf.Tensor or None
        The sampler.
    traits : Traits, optional
        Of the distribution of a free variable.
    transform : Transform, str or None
        As the user gave it.
    start : array, optional
        The start value.
    named : bool
        Whether it becomes a variable of a model, and not a part of another distribution.
    options : Options
    """

    source: Optional[Source]
    parameters: Tuple[Given, ...]
    feeds: Tuple[Given, ...]
    value: Optional[Key]
    guess: str
    data: Any
    random: Any
    traits: Optional[Traits]
    transform: Any
    start: Any
    named: bool
    options: Options

    @property
    def given(self) -> Tuple[Given, ...]:
        """All inputs but the value."""
        return self.parameters + self.feeds

    @property
    def variables(self) -> List[Variable]:
        """The inputs that are Theano variables."""
        return [g.source for g in self.given if isinstance(g.source, Variable)]

    @property
    def dtype(self) -> str:
        """The variable's dtype."""
        return _value_dtype(self.source, self.value)

    def shape(self, shape: Any) -> Any:
        """Return the variable's shape, if the user gave this one or none."""
        if self.traits is not None:
            return _distribution_shape(self.traits, shape)
        if shape is not None:
            return shape
        declared = tensor_spec(self.source, self.value)[1]
        return () if declared is None or None in declared else declared

    def capture(self, source: Source, value: List[Input], random: bool = False) -> Program:
        """Capture a function of the value, the parameters and the data, which is bound."""
        arrays = [g for g in self.given if not isinstance(g.source, Variable)]
        variables = [g for g in self.given if isinstance(g.source, Variable)]
        program = capture(
            source,
            value + [input_of(g) for g in variables + arrays],
            session=self.options.session,
            jit_compile=self.options.jit_compile,
            random=random,
        )
        bound = program.inputs[len(value) + len(variables) :]
        data = {spec.node: g.source for spec, g in zip(bound, arrays)}
        return program.bind(data).on(self.options.placement)

    def __getstate__(self) -> Dict[str, Any]:
        # The user's graph stays in its process; the programs are all that another one needs.
        changes = {
            "source": None,
            "parameters": tuple(g._replace(key=g.label) for g in self.parameters),
            "feeds": tuple(g._replace(key=g.label) for g in self.feeds),
            "value": None if self.value is None else "value",
            "data": None,
            "random": None,
            "options": self.options._replace(session=None),
        }
        return {**self.__dict__, **changes}


def declare(
    logp: Any,
    params: Optional[Entries],
    value: Any,
    feed_dict: Optional[Entries],
    *,
    distribution: Any,
    random: Any,
    observed: Any = None,
    transform: Any,
    start: Any,
    named: bool,
    options: Options,
) -> Declaration:
    """Check what users give, and return the declaration that it makes.

    Long, because each check needs what those before it found.
    """
    options.check_values()
    check_transform(transform)
    source, random = _sources(logp, distribution, random)
    fed = pairs_of(feed_dict, "feed_dict")
    if isinstance(source, DistributionLogProb) and named:
        _refuse_structures([*(array for _, array in fed), observed])
    parameters = given_by(params, "params")
    _refuse_source(source, [*(g.key for g in parameters), *(key for key, _ in fed), value])
    observed = check_observed(observed)
    guessed = value is None
    value = find_value(source, [g.key for g in parameters], [key for key, _ in fed], value)
    data = [data_of(array, key) for key, array in fed if same_key(key, value)]
    rest = [(key, array) for key, array in fed if not same_key(key, value)]
    # One private copy of the data serves TensorFlow, Theano and PyMC3.
    feeds = [g._replace(source=_private(g.source)) for g in given_by(rest, "feed_dict")]
    _check_value(value, parameters, data, observed, named)
    if named and data:
        observed = _private(data[0])
    elif named and value is None:
        # What stands for the data is the array that was fed last.
        observed = feeds[-1].source if feeds else np.zeros(0)
    _refuse_missing(observed)
    if observed is not None:
        # PyMC3 never transforms what is observed.
        transform, observed = None, _resident(observed, _value_dtype(source, value))
    traits = None
    if isinstance(source, DistributionLogProb):
        source.observed = observed is not None
        if observed is None:
            traits = source.traits([input_of(g, known=True) for g in parameters + feeds])
    if observed is None:
        _check_floating(source, value)
        if named:
            _check_continuous(traits, transform)
    return Declaration(
        source=source,
        parameters=tuple(parameters),
        feeds=tuple(feeds),
        value=value,
        guess=guess_text(value) if guessed and observed is None else "",
        data=observed,
        random=random,
        traits=traits,
        transform=transform,
        start=start,
        named=named,
        options=options,
    )


# -- what is known of an input --------------------------------------------------------------------


def input_of(given: Given, known: bool = False) -> Input:
    """Return an input as capturing takes it; where ``known``, with the shape of its test value."""
    test = test_value(given.source) if known else None
    shape = known_shape(given.source) if test is None else np.shape(test)
    return Input(given.key, str(given.source.dtype), shape, given.argument)


def known_shape(source: Quantity) -> Shape:
    """Return the shape of data or of a variable, with None where ``pm.set_data`` may change it."""
    if not isinstance(source, Variable):
        return np.shape(source)
    test = test_value(source)
    if test is None or any(isinstance(v, SharedVariable) for v in graph_inputs([source])):
        return broadcast_shape(source)
    return np.shape(test)


def broadcast_shape(variable: Variable) -> Tuple[Optional[int], ...]:
    """Return what the type of a Theano variable says of its shape."""
    return tuple(1 if b else None for b in variable.broadcastable)


# -- checks ---------------------------------------------------------------------------------------


def _sources(logp: Any, distribution: Any, random: Any) -> Tuple[Any, Any]:
    """Return the log density and the sampler, of a distribution if there is one."""
    if (logp is None) == (distribution is None):
        raise DeclarationError(
            "TFDensity has "
            + ("neither logp nor distribution" if logp is None else "both logp and distribution")
            + ". Give one of them: logp=lambda value, mu: ..., or distribution=lambda mu: "
            "tfd.Normal(mu, 1.0)."
        )
    if distribution is None:
        return logp, random
    logp = DistributionLogProb(distribution)
    return logp, DistributionSample(distribution) if random is None else random


def _refuse_source(source: Source, keys: List[Any]) -> None:
    """Refuse a log density that is one of its own inputs."""
    if isinstance(source, tf.Tensor) and any(same_key(key, source) for key in keys):
        raise DeclarationError(
            f"logp, {label_of(source)!r}, is among its own inputs. Leave it out of params and "
            "feed_dict, and name what stands for the variable with value=."
        )


def _refuse_missing(observed: Any) -> None:
    """Refuse a single number that is missing: PyMC3 imputes elements of arrays."""
    number = isinstance(observed, (float, np.ndarray, np.floating)) and np.ndim(observed) == 0
    if number and np.isnan(observed):
        raise DeclarationError(
            "the value is one number, and it is missing (NaN). Leave it out, and it is a free "
            "variable of the model."
        )


def _refuse_structures(data: List[Any]) -> None:
    """Refuse data for a joint distribution that come as its samples do."""
    for value in data:
        ragged = isinstance(value, (list, tuple)) and len(set(map(np.shape, value))) > 1
        if isinstance(value, dict) or hasattr(value, "_fields") or ragged:
            raise DeclarationError(joint_data_text("a joint distribution"))


def _check_value(
    value: Any, parameters: Sequence[Given], data: List[Any], observed: Any, named: bool
) -> None:
    """Refuse a value that is given in two ways, or where there is none."""
    if any(same_key(g.key, value) for g in parameters):
        raise DeclarationError(
            f"the value is {label_of(value)!r}, and params has it too. Leave it out of params: a "
            "variable of the model is a parameter, and the value is the variable that is declared."
        )
    if data and not named:
        raise DeclarationError(
            "TFDensity.dist has no data: leave the value out of feed_dict, and give the data to "
            "the variable that is made of it."
        )
    if observed is not None and data:
        raise DeclarationError(
            "the value has data both in feed_dict and in observed. Give it once."
        )
    if observed is not None and value is None:
        raise DeclarationError(
            "observed was given, and logp has no value left for it: all its inputs are in params "
            "or feed_dict. Name the value with value=, or leave observed out."
        )


def _check_continuous(traits: Optional[Traits], transform: Any) -> None:
    """Refuse a free variable that is discrete."""
    if traits is not None and (traits.integers or traits.discrete and is_default(transform)):
        raise DeclarationTypeError(
            f"{traits.label} is discrete, or has no default bijector, and TFDensity is continuous. "
            "Give it data, or sum it out of the model, as tfd.MixtureSameFamily does. If it is "
            "continuous on all real numbers, say transform=None."
        )


def _check_floating(source: Source, value: Any) -> None:
    dtype = tensor_spec(source, value)[0]
    if dtype is not None and not tf.as_dtype(dtype).is_floating:
        raise DeclarationTypeError(
            f"the value is {dtype}, and TFDensity is continuous: a free variable has to be "
            "floating. Give the value a floating dtype, or data in feed_dict."
        )


def _distribution_shape(traits: Traits, shape: Any) -> Any:
    """Return the shape of a free variable, which may repeat the distribution's own."""
    if shape is None:
        if traits.shape is None:
            raise DeclarationError(
                f"TensorFlow does not know the shape of {traits.label}. Give shape=, its batch "
                "shape and event shape."
            )
        return traits.shape
    given, own = tuple(np.atleast_1d(shape)) if np.ndim(shape) else (shape,), traits.shape
    if own is not None and (given[len(given) - len(own) :] != own or traits.parts and given != own):
        raise DeclarationError(
            f"shape is {given}, and {traits.label} has the batch and event shape {own}. Leave "
            "shape out, or give one that ends with it: the dimensions before are independent "
            "repetitions."
        )
    return shape


def _value_dtype(source: Any, value: Any) -> str:
    """Return the variable's dtype: PyMC3's own, unless the graph wants integers."""
    dtype = tensor_spec(source, value)[0]
    if dtype is None or tf.as_dtype(dtype).is_floating:
        return theano.config.floatX
    return dtype


# -- data -----------------------------------------------------------------------------------------


def _private(source: Any) -> Any:
    plain = isinstance(source, np.ndarray) and not np.ma.is_masked(source)
    return Feed.of("", source).array if plain else source


def _resident(observed: Any, dtype: str) -> Any:
    """Return plain observed data as a constant in the memory that TensorFlow will use."""
    if isinstance(observed, Variable):
        return observed
    try:
        array = pandas_to_array(observed)
    except AttributeError:
        raise DeclarationTypeError(
            "observed is a generator of other things than arrays. Yield NumPy arrays."
        ) from None
    if not isinstance(array, np.ndarray) or hasattr(array, "mask"):
        return native(observed)
    array = Feed.of("", np.asarray(array, dtype)).array
    return tt.TensorConstant(tt.TensorType(dtype, [n == 1 for n in array.shape]), array)
