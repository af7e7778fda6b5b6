"""Distributions of TensorFlow Probability as functions of tensors.

Log density, draws, shape and default bijector, for events that are one tensor or a structure of
several. TensorFlow Probability is not imported: whoever gives a distribution has it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.capture.calls import call_symbolically
from pymc3_tf.capture.keys import Input
from pymc3_tf.capture.signatures import arguments_of, call_by_name, signature_of
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.private_tensorflow import without_deprecations
from pymc3_tf.programs.serialized import Shape, static_shape

if TYPE_CHECKING:
    from tensorflow_probability.python.bijectors import Bijector
    from tensorflow_probability.python.distributions import Distribution


class Part(NamedTuple):
    """One tensor of the event of a joint distribution, which is a vector of all of them."""

    name: str
    start: int
    shape: Tuple[int, ...]


class Elementwise(NamedTuple):
    """A bijector that does with each element what it does with any other.

    Its name is ``"identity"``, ``"exp"``, ``"softplus"`` or ``"sigmoid"``.
    """

    name: str
    bounds: Tuple[Any, ...] = ()  # where a sigmoid ends, if not at 0 and 1


class Traits(NamedTuple):
    """What a declaration has to know of a distribution.

    Parameters
    ----------
    label : str
        What it is called in error messages.
    shape : tuple of int or None
        Batch and event shape; None if TensorFlow does not know them.
    parts : tuple of Part
        Of a joint distribution.
    bijector : Elementwise or None
        None for a bijector that only TensorFlow Probability has.
    integers, discrete : bool
        Whether its values are integers; whether it says that it has no bijector.
    """

    label: str
    shape: Optional[Tuple[int, ...]]
    parts: Tuple[Part, ...]
    bijector: Optional[Elementwise]
    integers: bool
    discrete: bool


class _OfDistribution:
    """A function of the arguments of ``distribution`` and of some before them."""

    arguments: Tuple[str, ...] = ()

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        parameters = []
        if not _is_distribution(distribution):
            for name in arguments_of(distribution, "distribution").names:
                if name in ("value", "size", "seed"):
                    raise DeclarationError(
                        f"distribution has an argument named {name!r}, a name that is taken. "
                        "Rename it, in params too."
                    )
            parameters = list(signature_of(distribution).parameters.values())
        # This one takes them all by name, whatever kind they are there.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [
            p.replace(kind=kind) if p.kind == p.POSITIONAL_ONLY else p for p in parameters
        ]
        own = [inspect.Parameter(name, kind) for name in self.arguments]
        self.__signature__ = inspect.Signature(own + parameters)

    def of(self, **given: Any) -> Distribution:
        """Return the distribution, as a `_Single` or a `_Joint`."""
        found = self._distribution
        if not _is_distribution(found):
            # TensorFlow Probability calls its constructors with every argument, given or not, and
            # prints that some of them, such as jitter of a Gaussian process, are deprecated.
            with without_deprecations():
                found = call_by_name(found, given)
        if not _is_distribution(found):
            raise DeclarationTypeError(
                f"distribution returned {type(found).__name__}. Return a distribution of "
                "TensorFlow Probability, such as tfd.Normal(mu, sigma)."
            )
        return _Single(found) if isinstance(found.dtype, tf.DType) else _Joint(found)


def _is_distribution(source: Any) -> bool:
    return all(hasattr(source, name) for name in ("log_prob", "sample", "dtype"))


class DistributionLogProb(_OfDistribution):
    """The log density of a distribution of TensorFlow Probability, as a function."""

    arguments = ("value",)
    observed = False

    def __call__(self, value: tf.Tensor, **given: tf.Tensor) -> tf.Tensor:
        """Return the log density of the value."""
        distribution = self.of(**given)
        if self.observed and isinstance(distribution, _Joint):
            raise DeclarationError(joint_data_text(distribution.label))
        return distribution.log_prob(value)

    def traits(self, inputs: Sequence[Input]) -> Traits:
        """Return what a declaration has to know, for parameters and data of these shapes."""
        return call_symbolically(lambda **given: self.of(**given).traits(), inputs, "distribution")

    def unconstrained_shape(self, value: Input, inputs: Sequence[Input]) -> Shape:
        """Return the shape of the unconstrained value."""

        def shape_of(value: tf.Tensor, **given: tf.Tensor) -> tf.TensorShape:
            return self.of(**given).inverse(value).shape

        renamed = value._replace(key="value")
        shape = call_symbolically(shape_of, [renamed, *inputs], "distribution")
        if not shape.is_fully_defined():
            raise DeclarationError(
                f"TensorFlow does not know the shape of the unconstrained value: {shape}. Give "
                "transform=, such as one of pm.distributions.transforms, or None."
            )
        return static_shape(shape)

    def unconstrained(self, shape: Shape) -> UnconstrainedLogProb:
        """Return the log density under the default bijector."""
        return UnconstrainedLogProb(self._distribution, shape)

    def inverse(self, shape: Shape) -> UnconstrainedValue:
        """Return the inverse of the default bijector."""
        return UnconstrainedValue(self._distribution, shape)


class _Shaped(_OfDistribution):
    arguments = ("value",)

    def __init__(self, distribution: Distribution, shape: Shape) -> None:
        super().__init__(distribution)
        self._shape = shape


class UnconstrainedLogProb(_Shaped):
    """The value, its log density and the Jacobian determinant, of an unconstrained value."""

    def __call__(self, value: tf.Tensor, **given: tf.Tensor) -> List[tf.Tensor]:
        """Return them in this order; the last two have the batch shape."""
        distribution = self.of(**given)
        x, jacobian = distribution.forward(value)
        logp = distribution.log_prob(x)
        jacobian = tf.broadcast_to(jacobian, tf.shape(logp))
        assert self._shape is not None
        batch = self._shape[: logp.shape.rank]
        outputs = [(x, self._shape), (logp, batch), (jacobian, batch)]
        return [tf.ensure_shape(tf.cast(y, value.dtype), shape) for y, shape in outputs]


class UnconstrainedValue(_Shaped):
    """The unconstrained value of a value."""

    def __call__(self, value: tf.Tensor, **given: tf.Tensor) -> tf.Tensor:
        """Return where the default bijector has the value from."""
        z = tf.cast(self.of(**given).inverse(value), value.dtype)
        return tf.ensure_shape(z, self._shape)


class DistributionSample(_OfDistribution):
    """The draws of a distribution of TensorFlow Probability, as a function."""

    arguments = ("size", "seed")

    def __call__(self, size: tf.Tensor, seed: tf.Tensor, **given: tf.Tensor) -> tf.Tensor:
        """Return a draw of shape ``size``."""
        return self.of(**given).sample(size, seed)


def joint_data_text(label: str) -> str:
    """Return what to do about data for a joint distribution."""
    return (
        f"the value of {label} is a structure of several tensors, for which TFDensity takes no "
        "data. Declare the parts that are data by themselves, or give "
        "logp=joint.experimental_pin(part=data).unnormalized_log_prob of the parts that are not."
    )


# -- one tensor ---------------------------------------------------------------------------------


class _Single:
    """A distribution whose event is one tensor."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self.label = type(distribution).__name__.lstrip("_")

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        return self._distribution.log_prob(tf.cast(value, self._distribution.dtype))

    def sample(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        distribution = self._distribution
        own = tf.concat([distribution.batch_shape_tensor(), distribution.event_shape_tensor()], 0)
        repeated = size.shape[0] - own.shape[0]
        # Not all distributions take a tensor for the shape of the sample.
        return distribution.sample(size[:repeated] if repeated > 0 else (), seed=seed)

    def forward(self, z: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
        """Return the value and the log of the Jacobian determinant."""
        bijector = self._bijector()
        z = tf.cast(z, self._distribution.dtype)
        rank = self._distribution.event_shape.rank
        if rank is None:
            rank = self._distribution.event_shape_tensor().shape[0]
        rank = bijector.inverse_event_ndims(rank)
        return bijector.forward(z), bijector.forward_log_det_jacobian(z, event_ndims=rank)

    def inverse(self, x: tf.Tensor) -> tf.Tensor:
        return self._bijector().inverse(tf.cast(x, self._distribution.dtype))

    def traits(self) -> Traits:
        distribution = self._distribution
        integers = not distribution.dtype.is_floating
        bijector = self._bijector()
        discrete = integers or isinstance(bijector, NoBijector)
        return Traits(self.label, self._shape(), (), _elementwise(bijector), integers, discrete)

    def _shape(self) -> Optional[Tuple[int, ...]]:
        shape = self._distribution.batch_shape.concatenate(self._distribution.event_shape)
        if not shape.is_fully_defined():
            shape = self._distribution.sample(seed=_SEED).shape
        return static_shape(shape) if shape.is_fully_defined() else None  # type: ignore[return-value]

    def _bijector(self) -> Bijector:
        return default_bijector(self._distribution)


_SEED = np.zeros(2, np.int32)


class NoBijector:
    """Stands for the bijector of a distribution that says that it has none: it is discrete."""


def default_bijector(distribution: Distribution) -> Bijector:
    """Return the bijector from unconstrained values to those of a distribution.

    Returns
    -------
    bijector, `NoBijector` or None
        None where the distribution does not say.
    """
    try:
        bijector = distribution.experimental_default_event_space_bijector()
    except (AttributeError, NotImplementedError):
        return None
    if bijector is not None:
        return _simplified(bijector)
    # Mixtures have none, but where all components have the same one it is that of the mixture.
    components = getattr(distribution, "components_distribution", None)
    found = getattr(distribution, "components", [components] if components is not None else [])
    bijectors = [default_bijector(component) for component in found]
    if not bijectors or any(isinstance(b, NoBijector) for b in bijectors):
        return NoBijector()
    same = len({type(b) for b in bijectors}) == 1
    return bijectors[0] if same and all(map(_has_no_parameters, bijectors)) else None


def _has_no_parameters(bijector: Bijector) -> bool:
    if type(bijector).__name__ == "SoftmaxCentered":
        return True
    elementwise = _elementwise(bijector)
    return bijector is not None and elementwise is not None and not elementwise.bounds


def _simplified(bijector: Bijector) -> Bijector:
    """Return a bijector without what changes nothing: identities, and samples of elements."""
    kind = type(bijector).__name__
    if kind == "Chain":
        parts = [_simplified(part) for part in bijector.bijectors]
        kept = [p for p in parts if type(p).__name__ != "Identity"]
        if len(kept) < 2:
            return (kept or parts)[0]
        return type(bijector)(kept) if len(kept) < len(bijector.bijectors) else bijector
    if kind.endswith("DefaultSampleBijector"):
        inner = _simplified(bijector.bijector)
        elementwise = _elementwise(inner)
        if elementwise and all(np.ndim(bound) == 0 for bound in elementwise.bounds):
            return inner
    return bijector


def _elementwise(bijector: Bijector) -> Optional[Elementwise]:
    """Recognize a bijector that Theano can compute by itself."""
    kind = type(bijector).__name__
    if kind in ("NoneType", "Identity", "NoBijector"):
        return Elementwise("identity")
    if kind == "Exp":
        return Elementwise("exp")
    if kind == "Softplus" and bijector.hinge_softness is None and bijector.low is None:
        return Elementwise("softplus")
    if kind == "Sigmoid":
        if bijector.low is None:
            return Elementwise("sigmoid")
        bounds = tuple(tf.get_static_value(bound) for bound in (bijector.low, bijector.high))
        if not any(bound is None for bound in bounds):
            return Elementwise("sigmoid", bounds)
    return None


# -- several tensors ----------------------------------------------------------------------------


class _Joint:
    """A joint distribution, as one of vectors: its parts flattened, one after the other."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self.label = type(distribution).__name__.lstrip("_")
        names = _paths(distribution.event_shape)
        if all(name.isdigit() for name in names):
            names = _names(distribution, names)
        for name, batch in zip(names, tf.nest.flatten(distribution.batch_shape)):
            if batch.rank != 0:
                raise DeclarationError(
                    f"the part {name!r} of {self.label} has the batch shape {batch}, so the joint "
                    "has not one log density. Put tfd.Independent or tfd.Sample around it, or use "
                    f"{self.label}AutoBatched."
                )
        shapes = tf.nest.flatten(distribution.event_shape)
        if not all(shape.is_fully_defined() for shape in shapes):
            raise DeclarationError(
                f"TensorFlow does not know the shapes of the parts of {self.label}: "
                f"{distribution.event_shape}. Build them of shapes that are known."
            )
        self._shapes = [tuple(shape.as_list()) for shape in shapes]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        starts = np.cumsum([0, *self._sizes])
        self._parts = tuple(Part(n, int(i), s) for n, i, s in zip(names, starts, self._shapes))

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        return self._distribution.log_prob(self._packed(value, self._shapes))

    def sample(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return _flat(self._distribution.sample(seed=seed))

    def forward(self, z: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
        """Return the value and the log of the Jacobian determinant."""
        bijector = self._bijector()
        # The values do not matter: TensorFlow leaves out what only the shapes are asked of.
        sample = self._distribution.sample(seed=_SEED)
        shapes = [static_shape(part.shape) for part in tf.nest.flatten(bijector.inverse(sample))]
        parts = self._packed(z, shapes)
        ranks = tf.nest.map_structure(lambda shape: shape.rank, self._distribution.event_shape)
        ranks = bijector.inverse_event_ndims(ranks)
        return _flat(bijector.forward(parts)), bijector.forward_log_det_jacobian(parts, ranks)

    def inverse(self, x: tf.Tensor) -> tf.Tensor:
        return _flat(self._bijector().inverse(self._packed(x, self._shapes)))

    def traits(self) -> Traits:
        traits = [_Single(d).traits() for d in _leaves(self._distribution)]
        for part, trait in zip(self._parts, traits):
            if trait.discrete:
                raise DeclarationTypeError(
                    f"the part {part.name!r} of {self.label} is a {trait.label}, which is "
                    "discrete, and TFDensity is continuous. Leave the part out, or sum it out of "
                    "the others, as tfd.MixtureSameFamily and tfd.HiddenMarkovModel do."
                )
        same = all(trait.bijector == Elementwise("identity") for trait in traits)
        bijector = Elementwise("identity") if same else None
        return Traits(self.label, (sum(self._sizes),), self._parts, bijector, False, False)

    def _bijector(self) -> Bijector:
        return self._distribution.experimental_default_event_space_bijector()

    def _packed(self, vector: tf.Tensor, shapes: Sequence[Any]) -> Any:
        sizes = [int(np.prod(shape)) for shape in shapes]
        structure = self._distribution.dtype
        dtypes = tf.nest.flatten(structure)
        parts = [
            tf.cast(tf.reshape(part, shape), dtype)
            for part, shape, dtype in zip(tf.split(vector, sizes), shapes, dtypes)
        ]
        return tf.nest.pack_sequence_as(structure, parts)


def _leaves(distribution: Distribution) -> List[Distribution]:
    """Return the distributions of the parts, those of joint distributions among them too."""
    if isinstance(distribution.dtype, tf.DType):
        return [distribution]
    parts, _ = distribution.sample_distributions(seed=_SEED)
    return [leaf for part in tf.nest.flatten(parts) for leaf in _leaves(part)]


def _flat(structure: Any) -> tf.Tensor:
    parts = tf.nest.flatten(structure)
    dtype = max((part.dtype for part in parts), key=lambda dtype: dtype.size)
    return tf.concat([tf.cast(tf.reshape(part, [-1]), dtype) for part in parts], 0)


def _paths(structure: Any) -> List[str]:
    """Return the names of the leaves of a structure of shapes, in TensorFlow's order."""
    if isinstance(structure, tf.TensorShape):
        return [""]
    if hasattr(structure, "_fields"):
        entries = list(zip(structure._fields, structure))
    elif hasattr(structure, "keys"):
        entries = [(key, structure[key]) for key in sorted(structure)]
    else:
        entries = list(enumerate(structure))
    return [f"{key}_{path}" if path else str(key) for key, of in entries for path in _paths(of)]


def _names(distribution: Distribution, indices: List[str]) -> List[str]:
    """Return the names by which a sequence of distributions is resolved, or their indices."""
    graph: Callable[[], Any] = getattr(distribution, "resolve_graph", tuple)
    names = [name for name, _ in graph()]
    return names if len(names) == len(indices) else indices
