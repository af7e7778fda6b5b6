"""A declared density as a distribution of PyMC3: shape, log density, draws, representation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import pymc3 as pm
import theano.tensor as tt
from pymc3.distributions.distribution import draw_values
from theano.graph.basic import Constant, Variable

from pymc3_tf.bridge.entries import Given, Quantity, native
from pymc3_tf.bridge.feeds import feed_for
from pymc3_tf.capture.distributions import DistributionLogProb
from pymc3_tf.exceptions import DeclarationError
from pymc3_tf.model.declaration import Declaration, is_default, known_shape, test_value
from pymc3_tf.model.log_density import LogDensity
from pymc3_tf.model.predictive import sampler_for
from pymc3_tf.model.transforms import (
    BijectorTransform,
    check_jacobian,
    default_transform,
    start_of,
)
from pymc3_tf.programs.program import Program
from pymc3_tf.programs.serialized import Shape


class DeclaredDensity(pm.Continuous):
    """What PyMC3 asks of a distribution, for a declared density.

    Parameters
    ----------
    declaration : Declaration
    shape : int or tuple of int, optional
        As the user gave it, or the model's coordinates.
    """

    def __init__(self, declaration: Declaration, shape: Any = None) -> None:
        self._declaration = declaration
        self._check = declaration.options.check
        self.is_of_distribution = isinstance(declaration.source, DistributionLogProb)
        # The value for `feed_dict`: the variable of the model, once there is one, or its data.
        self._variable: Optional[Quantity] = None
        super().__init__(declaration.shape(shape), dtype=declaration.dtype, defaults=())
        self.transform = declaration.transform
        if is_default(declaration.transform):
            self.transform = default_transform(declaration, self.shape)
        # An attribute on all versions of PyMC3, though the name of the argument changed.
        self.testval = declaration.start
        if self.testval is None:
            self.testval = start_of(tuple(self.shape), self.transform)
        check_jacobian(self.transform, len(self.shape))
        known: Shape
        if declaration.data is None:
            test, known = self.default() * np.ones(self.shape), tuple(self.shape)
        else:
            test, known = test_value(declaration.data), known_shape(declaration.data)
        self._log_density = LogDensity(declaration, known, test)
        drawn = self.shape if declaration.data is None else np.shape(test)
        self._sampler, self._undrawn = sampler_for(declaration, drawn)

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
        if self._declaration.value is None or missing <= 0:
            return logp
        if not self._declaration.named:
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
            reason = f" ({self._undrawn})" if self._undrawn else ""
            raise ValueError(
                f"this TFDensity has no sampler{reason}, so it has no prior or posterior "
                "predictive draws. Declare it with random=lambda mu, size: np.random.normal(mu, "
                "1.0, size) or with distribution=, or leave it out with var_names=[...]."
            )
        values = iter(draw_values(self._declaration.variables, point=point, size=size))
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
        if self._declaration.source is None:
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
        return [g.label for g in self._declaration.parameters]

    def _str_repr(self, name: Any = None, dist: Any = None, formatting: str = "plain") -> str:
        # PyMC3 looks the parameters up as attributes, where they could get in the way of others.
        parameters: Any = SimpleNamespace(_distr_name_for_repr=self._distr_name_for_repr)
        for g in self.given:
            setattr(parameters, g.label, tt.as_tensor_variable(g.source))
        return super()._str_repr(name, parameters, formatting)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_variable": None}

    @property
    def program(self) -> Program:
        """The program of the log density, for values of the variable's shape."""
        return self._log_density.program

    @property
    def has_value(self) -> bool:
        """Whether something stands for the variable itself, and not all inputs are given."""
        return self._declaration.value is not None

    @property
    def given(self) -> Sequence[Given]:
        """The entries of ``params`` and ``feed_dict``, without the value."""
        return self._declaration.given

    @property
    def fed(self) -> List[Given]:
        """What the user's graph is fed for a draw: the value too, if the model has a variable."""
        value = self._declaration.value
        if value is None or self._variable is None:
            return [*self.given]
        return [*self.given, Given(value, self._variable, "value")]

    @property
    def constants(self) -> List[Given]:
        """Arrays that were fed, other than what stands for the observed data."""
        feeds = self._declaration.feeds
        feeds = feeds[:-1] if self._declaration.value is None else feeds
        return [g for g in feeds if not isinstance(g.source, Variable)]

    def belongs_to(self, variable: Variable, name: str) -> None:
        """Learn of the model's variable, and declare the parts of a joint distribution."""
        data = self._declaration.data
        self._variable = variable
        if isinstance(data, Constant):
            # PyMC3 keeps copies of the data in all these places. One will do, however large.
            self._variable = variable.observations = variable.tag.test_value = data.data
        traits = self._declaration.traits
        for part in traits.parts if traits else ():
            # Names of tensors that users know.
            end = part.start + int(np.prod(part.shape))
            tensor = variable[part.start : end].reshape(part.shape, ndim=len(part.shape))
            pm.Deterministic(f"{name}_{part.name}", tensor)

    def _apply(self, value: Any, summed: bool) -> tt.TensorVariable:
        # The gradient is checked once, for the sum, or where PyMC3 does not use that.
        declaration = self._declaration
        plain = not declaration.named or self.transform is not None or declaration.value is None
        check = self._check if summed or plain else None
        result = self._log_density(value, summed, check)
        if check:
            self._check = None
        return result
