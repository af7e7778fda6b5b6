"""TFDensity: PyMC3's side of the bridge (names, shapes, observed data), and only that."""

from __future__ import annotations

import dataclasses
import re
import weakref
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt
from cachetools import LRUCache
from pymc3.distributions.distribution import _Unpickling, draw_values
from pymc3.model import pandas_to_array
from pymc3.theanof import floatX
from theano.compile.sharedvalue import SharedVariable
from theano.graph.basic import Constant, Variable, graph_inputs

from pymc3_tf.bridge.entries import Entries, Given, given_by, native, pairs_of
from pymc3_tf.bridge.op import Check, apply, bind_constants
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.distributions import (
    DistributionLogProb,
    DistributionSample,
    Part,
    Traits,
    joint_data_text,
)
from pymc3_tf.capture.keys import Input, Source, find_value, guess_text, same_key, tensor_spec
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, about
from pymc3_tf.gradients import numerical
from pymc3_tf.model.feeds import feed_for
from pymc3_tf.model.predictive import Sampler
from pymc3_tf.model.transforms import BijectorTransform, transform_of
from pymc3_tf.programs.program import Feed, Program
from pymc3_tf.programs.serialized import Shape
from pymc3_tf.runtime import functions
from pymc3_tf.runtime.devices import checked_device

# Of so many shapes, values that broadcast have a program that is kept.
_PROGRAMS = 8


class TFDensity(pm.Continuous):
    r"""A random variable whose log density is written in TensorFlow.

    Declare it in a model like any distribution of PyMC3. ``import pymc3_tf`` makes it
    ``pm.TFDensity``.

    Parameters
    ----------
    name : str
        Name of the variable in the model.
    logp : tf.Tensor or callable
        The log density: a floating tensor of a TensorFlow graph, or a Python function of TensorFlow
        ops that returns one. Either a scalar (the joint log density) or one number for each element
        of the value or of its leading (batch) dimensions (the pointwise log density).
    params : dict or list of pairs, optional
        The parameters: PyMC3 variables, Theano expressions, numbers or arrays, by tensor or
        variable of the graph, or by argument name of the function or variable that it uses (such as
        ``layer.kernel`` of Keras). They are cast to the dtype of the tensor, and shapes have to
        agree. Where TensorFlow calls a key unhashable, write ``tensor.ref()``, or a list of pairs.
    value : tf.Tensor or str, optional
        The tensor, or the name of the argument, that stands for the random variable itself.
        Default: the one placeholder that `params` and `feed_dict` leave open; for a function, its
        first argument unless it is in `params`. Otherwise there is no value, and the density is
        the likelihood of all that is fed.
    feed_dict : dict or list of pairs, optional
        Data: arrays or ``pm.Data``, by tensor or argument name. Arrays stay in TensorFlow's memory.
        If the value is among them, the variable is observed.
    distribution : callable, optional
        In place of `logp`: a function of the parameters and data that returns a distribution of
        TensorFlow Probability, or such a distribution itself. It has a sampler, a shape and a
        transform too. The value goes by the name ``"value"``. A joint distribution is a vector of
        its flattened parts, which the model gets as deterministic variables, ``name_part``.
    random : callable or tf.Tensor, optional
        The sampler, for predictions. A function of parameters, data and ``size`` (the shape to
        draw) that draws with ``numpy.random``; it gets parameters and data by name as it asks for
        them, or by position where the keys of `params` are tensors. A function that also takes
        ``seed`` (two int32) draws with TensorFlow's stateless ops instead. Or a tensor of the graph
        of `logp`, built of ``tf.random.normal`` and its like. All follow ``random_seed``.
    session : tf.compat.v1.Session, optional
        Holds the values of the graph's variables, which are frozen at declaration. Default:
        TensorFlow's default session. If it is connected to a cluster
        (``Session("grpc://host:port")``), the graph stays there, live: variables that are not
        parameters, and the data in them, never leave their servers.
    jit_compile : bool, optional
        Compile with XLA. Worth it for large elementwise computations.
    device : str, optional
        Where `pm.sample` and its like run the density, such as ``"/GPU:0"``. Without it, TensorFlow
        chooses.
    errors : {"divergence", "raise"}, optional
        What to do where TensorFlow fails (the Cholesky factorization of a matrix that is not
        positive definite, an assertion) or the log density is not a number. By default it is -inf
        there, with a gradient of zero: a divergence for NUTS, a rejection for other samplers. How
        often, and where first, is told after sampling. `pymc3_tf.sample` makes a divergence of it
        in either case.
    check_gradient : bool, optional
        At declaration, look for parameters by which TensorFlow has no gradient although the log
        density depends on them, and compare the gradient with central differences near the test
        point (three evaluations). Turn it off if no gradient is needed, or for one that is meant
        to be another than that of the value.
    **kwargs
        What every distribution of PyMC3 takes: ``shape``, ``dims``, ``testval`` (or ``initval``),
        ``transform``, ``observed`` and ``total_size``. The default shape is that of the value's
        tensor, as far as it is known, or the batch and event shape of `distribution`, whose default
        bijector is the default transform. ``transform=None`` is none. Without a start value,
        sampling starts at zero, at the transform's image of zero, or in the middle of a simplex.

    Raises
    ------
    pymc3_tf.exceptions.DeclarationError
        If a placeholder is left open, a key is not in the graph, a shape or dtype does not fit, or
        the graph cannot be frozen. The text names the culprit and says what to write instead.
    pymc3_tf.exceptions.DeclarationTypeError
        If an argument, or what a function returns, is of a wrong type or dtype. A TypeError.
    pymc3_tf.exceptions.UnsupportedOpError
        Among others, if TensorFlow knows no gradient of something between a parameter and `logp`.
    pymc3_tf.exceptions.GradientError
        If the gradient is not that of the value. Both are a DeclarationError.
    pymc3_tf.exceptions.CompilationError
        With `jit_compile`, if XLA cannot compile the density or its gradient. While sampling, if
        data has got a shape with which it cannot. A DeclarationError too.
    pymc3_tf.exceptions.EvaluationError
        While sampling, with ``errors="raise"``, and whatever `errors` says if the graph cannot be
        evaluated at all.
    pymc3_tf.exceptions.WorkerLostError
        While sampling, if a task of the cluster does not answer any more.

    Notes
    -----
    Parameters and a value arrive in ``theano.config.floatX`` (float64 by default), and discrete
    variables as they are; arrays of `feed_dict` and plain numbers keep their dtype. TensorFlow
    does not mix dtypes, so feed ``np.asarray(x, float)`` and write ``1.0``.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def log_normal_density(y, mu):
    ...     return -0.5 * tf.square(y - mu) - 0.5 * np.log(2 * np.pi)
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.TFDensity(
    ...         "y", log_normal_density, params={"mu": mu}, feed_dict={"y": np.array([1.0, 2.0])}
    ...     )
    >>> print(y.logp({"mu": 0.0}).round(4))
    -4.3379
    """

    def __new__(
        cls,
        name: Any,
        logp: Any = None,
        params: Optional[Entries] = None,
        value: Any = None,
        feed_dict: Optional[Entries] = None,
        **kwargs: Any,
    ) -> Any:
        """Add the variable to the model on the context stack."""
        if name is _Unpickling:
            return super().__new__(cls, name)
        with about(f"TFDensity {name!r}"):
            return cls._declare(name, logp, params, value, feed_dict, **kwargs)

    @classmethod
    def _declare(
        cls, name: Any, logp: Any, params: Any, value: Any, feed_dict: Any, **kwargs: Any
    ) -> Any:
        logp, kwargs["random"] = _sources(
            logp, kwargs.pop("distribution", None), kwargs.get("random")
        )
        if isinstance(logp, DistributionLogProb):
            data = [value for _, value in pairs_of(feed_dict, "feed_dict")]
            _refuse_structures([*data, kwargs.get("observed")])
        # One private copy of the data serves TensorFlow, Theano and PyMC3.
        feeds = given_by(feed_dict, "feed_dict", masked=True)
        feeds = [g._replace(source=_private(g.source)) for g in feeds]
        kwargs["_guessed"] = value is None
        value = _find_value(logp, given_by(params, "params"), feeds, value)
        observed = kwargs.pop("observed", None)
        data = [g for g in feeds if value is not None and same_key(g.key, value)]
        if observed is not None and (data or value is None):
            raise DeclarationError(
                "the value has data both in feed_dict and in observed. Give it once."
                if data
                else "observed was given, and logp has no value left for it: all its inputs are in "
                "params or feed_dict. Name the value with value=, or leave observed out."
            )
        if data:
            observed = data[0].source
            feeds.remove(data[0])
        elif value is None:
            observed = _likelihood_data(feeds)
        if observed is not None:
            # PyMC3 never transforms what is observed.
            kwargs.update(transform=None, _data=observed)
            kwargs["observed"] = _resident(observed, logp, value)
        kwargs["_named"] = True
        variable = super().__new__(
            cls, name, logp, params, value, [(g.key, g.source) for g in feeds], **kwargs
        )
        source: Any = variable
        if isinstance(kwargs.get("observed"), Constant):
            # PyMC3 keeps copies of the data in all these places. One will do, however large it is.
            cls.data = None
            variable.observations = variable.tag.test_value = source = kwargs["observed"].data
        if value is not None:
            variable.distribution.fed.append(Given(value, source, "value"))
        for part in variable.distribution.parts:
            # Names of tensors that users know: of the parts of a joint distribution.
            end = part.start + int(np.prod(part.shape))
            tensor = variable[part.start : end].reshape(part.shape, ndim=len(part.shape))
            pm.Deterministic(f"{name}_{part.name}", tensor)
        return variable

    def __init__(
        self,
        logp: Optional[Source] = None,
        params: Optional[Entries] = None,
        value: Any = None,
        feed_dict: Optional[Entries] = None,
        *,
        distribution: Any = None,
        random: Any = None,
        session: Optional[tf.compat.v1.Session] = None,
        jit_compile: bool = False,
        device: Optional[str] = None,
        errors: str = "divergence",
        check_gradient: bool = True,
        shape: Any = None,
        transform: Any = "auto",
        testval: Any = None,
        initval: Any = None,
        _data: Any = None,
        _named: bool = False,
        _guessed: bool = False,
        **kwargs: Any,
    ) -> None:
        if errors not in ("divergence", "raise"):
            raise DeclarationError(f"errors is {errors!r}. Give 'divergence' or 'raise'.")
        self._named = _named
        self._errors = errors
        self._check: Check = numerical.check if check_gradient else numerical.compile
        self._device = checked_device(device)
        logp, random = _sources(logp, distribution, random)
        parameters, feeds = given_by(params, "params"), given_by(feed_dict, "feed_dict")
        self.given = parameters + feeds
        # What the user's graph is fed for a draw: the value too, once there is a variable for it.
        self.fed = list(self.given)
        self.value = _find_value(logp, parameters, feeds, value)
        self._guess = ""
        if _data is None and (_guessed or value is None):
            self._guess = guess_text(self.value)
        if any(same_key(g.key, self.value) for g in self.given):
            raise DeclarationError(
                "TFDensity.dist has no data: leave the value out of feed_dict, and give the data "
                "to the variable that is made of it."
            )
        self._source: Optional[Dict[str, Any]] = dict(
            source=logp, session=session, jit_compile=jit_compile
        )
        dtype, declared = tensor_spec(logp, self.value)
        self.parts: Sequence[Part] = ()
        is_default, traits = isinstance(transform, str) and transform == "auto", None
        transform = None if is_default else transform
        if isinstance(logp, DistributionLogProb):
            logp.observed = _data is not None
            if _data is None:
                traits = logp.traits([_input(g, known=True) for g in self.given])
                self.parts = traits.parts
                shape = _distribution_shape(traits, shape)
                if _named:
                    _check_continuous(traits, is_default)
        if shape is None:
            shape = () if declared is None or None in declared else declared
        if _data is None and dtype is not None and not tf.as_dtype(dtype).is_floating:
            raise DeclarationTypeError(
                f"the value is {dtype}, and TFDensity is continuous: a free variable has to be "
                "floating. Give the value a floating dtype, or data in feed_dict."
            )
        super().__init__(
            shape, dtype=_value_dtype(dtype), defaults=(), transform=transform, **kwargs
        )
        if traits is not None and is_default:
            bijector = traits.bijector
            transform = transform_of(bijector) if bijector else self._bijector_transform()
            self.transform = transform
        # An attribute on all versions of PyMC3, though the name of the argument changed.
        self.testval = initval if initval is not None else testval
        if self.testval is None:
            self.testval = _start(tuple(self.shape), transform)
        if transform is not None and not isinstance(transform, BijectorTransform):
            _check_jacobian(transform, len(self.shape))
        self._programs: LRUCache[Any, Program] = LRUCache(_PROGRAMS)
        # A program with data in it goes with the constant that holds the data.
        self._bound: weakref.WeakKeyDictionary[Constant, Program] = weakref.WeakKeyDictionary()
        if _data is None:
            test_value = self.default() * np.ones(self.shape)
            self.program = self._capture(tuple(self.shape), test_value)
        else:
            self.program = self._capture(_static_shape(_data), _test_value(_data))
        self._sampler: Optional[Sampler] = None
        self._undrawn = ""
        if random is not None:
            inputs = [_input(g) for g in self.given]
            self._sampler = Sampler(random, inputs, len(parameters), session)
            tests = [_test_value(g.source) for g in self.given]
            if all(test is not None for test in tests):
                drawn = self.shape if _data is None else np.shape(_test_value(_data))
                try:
                    self._sampler.check(tests, drawn)
                except DeclarationError as error:
                    if not isinstance(random, DistributionSample):
                        raise
                    # Its log density is of use without draws, which not all distributions have.
                    self._sampler, self._undrawn = None, f" ({error})"

    def logp(self, value: Any) -> tt.TensorVariable:
        """Calculate the log density.

        Parameters
        ----------
        value : numeric or Theano variable
            Of the variable's shape.

        Returns
        -------
        TensorVariable
            A scalar for a joint density, otherwise one number for each element of the value (or of
            its batch dimensions). Under a transform always of the value's shape: PyMC3 adds the
            Jacobian determinant by element, and a joint density would be counted once for each.

        Raises
        ------
        pymc3_tf.exceptions.DeclarationError
            For a joint density of several elements inside of another distribution: ``pm.Bound`` and
            ``pm.Mixture`` would count it once for each element.
        """
        value = tt.as_tensor_variable(native(value))
        if isinstance(self.transform, BijectorTransform):
            # PyMC3 adds the Jacobian determinant, which has the shape of the log density.
            known = self.transform.logp(value)
            return self._apply(value, summed=False) if known is None else known
        logp = self._apply(value, summed=False)
        missing = value.ndim - logp.ndim
        if self.value is None or missing <= 0:
            return logp
        if not self._named:
            raise DeclarationError(
                "logp is joint over several elements of the value, and PyMC3 would count it once "
                "for each in pm.Bound and pm.Mixture. Return one number for each element, or "
                "declare the variable by its name: pm.TFDensity(name, ...)."
            )
        if self.transform is None:
            return logp
        share = logp / tt.prod(value.shape[logp.ndim :])
        return share.dimshuffle(*range(logp.ndim), *["x"] * missing) + tt.zeros_like(value)

    def logp_sum(self, value: Any) -> tt.TensorVariable:
        """Calculate the sum of the log density, in TensorFlow."""
        return self._apply(value, summed=True)

    def random(self, point: Any = None, size: Any = None) -> np.ndarray:
        """Draw from the distribution with the sampler that was declared.

        Parameters
        ----------
        point : dict of str to array, optional
            Values of the model's variables. What it lacks is drawn.
        size : int or tuple of int, optional
            How many draws.

        Returns
        -------
        ndarray
            Of shape `size` + the variable's shape.

        Raises
        ------
        ValueError
            Without a sampler. PyMC3 would return the observed data as draws.
        """
        if self._sampler is None:
            raise ValueError(
                f"this TFDensity has no sampler{self._undrawn}, so it has no prior or posterior "
                "predictive draws. Declare it with random=lambda mu, size: np.random.normal(mu, "
                "1.0, size) or with distribution=, or leave it out with var_names=[...]."
            )
        values = iter(draw_values(self._variables, point=point, size=size))
        every = [next(values) if isinstance(g.source, Variable) else g.source for g in self.given]
        return self._sampler(every, self.shape, size)

    def feed_dict(self, sample: Mapping[str, Any]) -> Dict[Any, np.ndarray]:
        """Return the feed of the user's own graph, or the arguments of the function, for one draw.

        Parameters
        ----------
        sample : dict of str to array
            A draw, by variable name: ``trace[i]`` (draw ``i`` of the last chain), or a point of
            the model.

        Returns
        -------
        dict of tf.Tensor to array
            For ``session.run(tensors, feed_dict=...)`` and ``tensor.eval(feed_dict=...)``. It has
            the parameters and the data. Where the density is a function, they are by argument name,
            for ``function(**...)``.

        Raises
        ------
        ValueError
            If `sample` lacks a variable, or if the density was unpickled: its graph stayed in the
            process where it was declared.
        """
        if self._source is None:
            raise ValueError(
                "an unpickled density has no graph to feed. Call feed_dict in the process in which "
                "it was declared."
            )
        return feed_for(self.fed, sample)

    def __iter__(self) -> Any:
        # Where a component has no mean, pm.Mixture takes it for a list of components that have, and
        # does without means only for an AttributeError.
        raise AttributeError("a TFDensity has no mean, and is no list of distributions")

    def _distr_parameters_for_repr(self) -> List[str]:
        return [g.label for g in self.given if g.argument == "params"]

    def _str_repr(self, name: Any = None, dist: Any = None, formatting: str = "plain") -> str:
        # PyMC3 looks the parameters up as attributes, where they could get in the way of others.
        parameters: Any = SimpleNamespace(_distr_name_for_repr=self._distr_name_for_repr)
        for g in self.given:
            setattr(parameters, g.label, tt.as_tensor_variable(g.source))
        return super()._str_repr(name, parameters, formatting)

    def __getstate__(self) -> Dict[str, Any]:
        # The user's graph stays in its process; the programs are all that another one needs.
        given = [g._replace(key=g.label) for g in self.given]
        value = None if self.value is None else "value"
        changes = {"_source": None, "given": given, "fed": [], "value": value}
        return {**self.__dict__, **changes, "_bound": list(self._bound.items())}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state, _bound=weakref.WeakKeyDictionary(state["_bound"]))

    @property
    def constants(self) -> List[Given]:
        """Arrays that were fed, other than what stands for the observed data."""
        arrays = [
            g
            for g in self.given
            if g.argument == "feed_dict" and not isinstance(g.source, Variable)
        ]
        last = self.given[-1:] if self.value is None else []
        return [g for g in arrays if not any(g is other for other in last)]

    @property
    def _variables(self) -> List[Any]:
        return [g.source for g in self.given if isinstance(g.source, Variable)]

    def _apply(self, value: Any, summed: bool) -> tt.TensorVariable:
        program, inputs = self.program, self._variables
        if self.value is not None:
            value = tt.as_tensor_variable(native(value))
            program = self._program_for(value)
            inputs = inputs if isinstance(value, Constant) else [value, *inputs]
        # Once, for that of the two which samplers use.
        first = summed or not self._named or self.transform is not None or self.value is None
        check = self._check if first else None
        result = apply(program.sum() if summed else program, inputs, check)
        if first:
            self._check = None
        return result

    def _program_for(self, value: Any) -> Program:
        """Return the program for a value, which is made resident if it is constant."""
        program, spec = self.program, self.program.inputs[0]
        shape = value.data.shape if isinstance(value, Constant) else _broadcast_shape(value)
        if spec.shape is not None and _broadcasts(shape, spec.shape):
            program = self._programs.get(shape) or self._capture(shape, None)
            self._programs[shape] = program
        if isinstance(value, Constant):
            # PyMC3 asks three times for the same data: bind it once.
            if value not in self._bound:
                self._bound[value] = bind_constants(program, [value, *self._variables])
            program = self._bound[value]
        return program

    def _capture(self, shape: Shape, test_value: Any) -> Program:
        if self._source is None:
            raise ValueError(
                "an unpickled density cannot be traced again for a value of another rank. Use it "
                "in the process in which it was declared."
            )
        value = [] if self.value is None else [Input(self.value, self.dtype, shape, "value")]
        try:
            program = self._captured(self._source["source"], value).on(self._device)
        except DeclarationError as error:
            if self._guess and re.search("shape|rank|[Dd]imension|indices", str(error)):
                error.args = (f"{error}{self._guess}",)
            raise
        program = program.with_fallback(-np.inf if self._errors == "divergence" else np.nan)
        variables = [g for g in self.given if isinstance(g.source, Variable)]
        tests = ([test_value] if value else []) + [_test_value(g.source) for g in variables]
        # Without a test value, it is a component of a mixture: its value may broadcast.
        shape = (None,) * len(shape or ()) if test_value is None else np.shape(test_value)
        return _checked(program, shape if value else None, tests, self._guess)

    def _captured(self, source: Any, value: List[Input], **options: Any) -> Program:
        """Capture a function of the value, the parameters and the data, which is bound."""
        assert self._source is not None
        variables = [g for g in self.given if isinstance(g.source, Variable)]
        arrays = [g for g in self.given if not isinstance(g.source, Variable)]
        inputs = value + [_input(g) for g in variables + arrays]
        program = capture(inputs=inputs, **{**self._source, "source": source, **options})
        free = len(value) + len(variables)
        return program.bind({s.node: g.source for s, g in zip(program.inputs[free:], arrays)})

    def _bijector_transform(self) -> BijectorTransform:
        """Return the default bijector of a distribution as a transform."""
        assert self._source is not None
        logp = self._source["source"]
        x = Input(self.value, self.dtype, tuple(int(n) for n in self.shape), "value")
        known = [_input(g, known=True) for g in self.given]
        z = x._replace(shape=logp.unconstrained_shape(x, known))
        inverse = self._captured(logp.inverse(z.shape), [x], draws=True).on(self._device)
        density = self._captured(logp.unconstrained(x.shape), [z]).on(self._device)
        fails = (0.0, -np.inf, 0.0) if self._errors == "divergence" else (np.nan,) * 3
        return BijectorTransform(
            density.with_fallback(*fails), inverse, self._variables, self._check
        )


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


def _input(given: Given, known: bool = False) -> Input:
    test_value = _test_value(given.source) if known else None
    shape = _static_shape(given.source) if test_value is None else np.shape(test_value)
    return Input(given.key, str(given.source.dtype), shape, given.argument)


def _refuse_structures(data: List[Any]) -> None:
    """Refuse data for a joint distribution that come as its samples do."""
    for value in data:
        ragged = isinstance(value, (list, tuple)) and len(set(map(np.shape, value))) > 1
        if isinstance(value, dict) or hasattr(value, "_fields") or ragged:
            raise DeclarationError(joint_data_text("a joint distribution"))


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


def _check_continuous(traits: Traits, is_default: bool) -> None:
    """Refuse a free variable that is discrete."""
    if traits.integers or traits.discrete and is_default:
        raise DeclarationTypeError(
            f"{traits.label} is discrete, or has no default bijector, and TFDensity is continuous. "
            "Give it data, or sum it out of the model, as tfd.MixtureSameFamily does. If it is "
            "continuous on all real numbers, say transform=None."
        )


def _find_value(
    logp: Source, parameters: Sequence[Given], feeds: Sequence[Given], value: Any
) -> Any:
    return find_value(logp, [g.key for g in parameters], [g.key for g in feeds], value)


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


def _static_shape(source: Any) -> Shape:
    """Return the static shape of data or of a variable, None where ``pm.set_data`` may act."""
    if not isinstance(source, Variable):
        return np.shape(source)
    test_value = _test_value(source)
    if test_value is None or any(isinstance(v, SharedVariable) for v in graph_inputs([source])):
        return _broadcast_shape(source)
    return np.shape(test_value)


def _broadcast_shape(variable: Any) -> Tuple[Optional[int], ...]:
    return tuple(1 if b else None for b in variable.broadcastable)


def _broadcasts(shape: Sequence[Optional[int]], other: Sequence[Optional[int]]) -> bool:
    """Whether arrays of a shape have to be broadcast to become the other."""
    return len(shape) != len(other) or any(n == 1 and m != 1 for n, m in zip(shape, other))


def _test_value(source: Any) -> Any:
    if isinstance(source, SharedVariable):
        return source.get_value(borrow=True)
    if isinstance(source, Variable):
        return getattr(source.tag, "test_value", None)
    return source


def _value_dtype(dtype: Optional[str]) -> str:
    """Return the variable's dtype: PyMC3's own, unless the graph wants integers."""
    if dtype is None or tf.as_dtype(dtype).is_floating:
        return theano.config.floatX
    return dtype


def _start(shape: Tuple[int, ...], transform: Any) -> np.ndarray:
    """Return zero, or where a transform sends zero: a point inside of the support."""
    of_bijector = isinstance(transform, BijectorTransform)
    zeros = np.zeros(transform.shape if of_bijector else shape, theano.config.floatX)
    if transform is None:
        return zeros
    # Through test values, because the bounds may be variables of the model.
    with theano.config.change_flags(compute_test_value="raise"):
        start = _test_value(transform.backward(tt.as_tensor_variable(zeros)))
    # A simplex has one coordinate less when it is transformed, and may have zero on its boundary.
    return start if start.shape == shape else zeros + floatX(1 / shape[-1])


def _check_jacobian(transform: Any, ndim: int) -> None:
    """Refuse a Jacobian determinant that PyMC3 would add more than once."""
    with theano.config.change_flags(compute_test_value="off"):
        jacobian = transform.jacobian_det(tt.TensorType(theano.config.floatX, [False] * ndim)())
    if jacobian.ndim < ndim - 1:
        raise DeclarationError(
            f"jacobian_det of the transform {transform.name!r} has {jacobian.ndim} dimensions, and "
            f"the value has {ndim}: PyMC3 would count it once for each row. Return one number for "
            "each element, or for each vector along the last axis."
        )


def _likelihood_data(feeds: Sequence[Given]) -> Any:
    """Return what stands for the data of a density without a value: the array that was fed last."""
    return feeds[-1].source if feeds else np.zeros(0)


def _private(source: Any) -> Any:
    plain = isinstance(source, np.ndarray) and not np.ma.is_masked(source)
    return Feed.of("", source).array if plain else source


def _resident(observed: Any, logp: Any, value: Any) -> Any:
    """Return plain observed data as a constant in the memory that TensorFlow will use."""
    if isinstance(observed, Variable):
        return observed
    array = pandas_to_array(observed)
    if not isinstance(array, np.ndarray) or hasattr(array, "mask"):
        return native(observed)
    dtype = _value_dtype(tensor_spec(logp, value)[0])
    array = Feed.of("", np.asarray(array, dtype)).array
    return tt.TensorConstant(tt.TensorType(dtype, [n == 1 for n in array.shape]), array)
