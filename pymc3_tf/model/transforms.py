"""Transforms of a density's value: the default bijectors of distributions, and checks of all.

Where Theano has the same function, that is the transform; otherwise TensorFlow computes it, in the
call that computes the log density.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import theano
import theano.tensor as tt
from pymc3.distributions import transforms
from pymc3.distributions.distribution import draw_values
from pymc3.theanof import floatX
from theano.graph.basic import Variable

from pymc3_tf.bridge.op import Check, TensorFlowOp, apply
from pymc3_tf.capture.distributions import DistributionLogProb, Elementwise
from pymc3_tf.capture.keys import Input
from pymc3_tf.exceptions import DeclarationError
from pymc3_tf.model.declaration import Declaration, input_of, test_value
from pymc3_tf.programs.program import Program
from pymc3_tf.programs.serialized import Shape
from pymc3_tf.runtime import functions

# None stands for no transform.
Transform = Optional[transforms.Transform]


class BijectorTransform(transforms.Transform):
    """A transform that TensorFlow computes together with the log density.

    Parameters
    ----------
    density : Program
        Of the unconstrained value and `variables`: the value, its log density and the log of the
        Jacobian determinant. As one operation they are one call of TensorFlow, gradients included.
    inverse : Program
        Of the value and `variables`: the unconstrained value.
    variables : sequence of Theano variable
        The parameters of the distribution.
    check : callable, optional
        What is done with the density, once it is applied for the first time.
    """

    # PyMC3 finds the name of the variable before the last underscore.
    name = "bijector"

    def __init__(
        self,
        density: Program,
        inverse: Program,
        variables: Sequence[Variable],
        check: Check = None,
    ) -> None:
        self._density = density
        self._inverse = inverse
        self._variables = list(variables)
        self._check = check
        self._last: Any = (None, [])

    @property
    def shape(self) -> Shape:
        """Shape of the unconstrained value."""
        return self._density.inputs[0].shape

    def backward(self, z: Variable) -> Variable:
        """Return the value of an unconstrained value."""
        return self._outputs(z)[0]

    def jacobian_det(self, z: Variable) -> Variable:
        """Return the log of the Jacobian determinant, in the shape of the log density."""
        return self._outputs(z)[2]

    def logp(self, value: Variable) -> Optional[Variable]:
        """Return the log density of a value that `backward` returned, None for any other."""
        node: Any = getattr(value, "owner", None)
        ours = node is not None and isinstance(node.op, TensorFlowOp)
        return node.outputs[1] if ours and node.op.program == self._density else None

    def forward(self, x: Variable) -> Variable:
        """Return the unconstrained value of a value."""
        return apply(self._inverse, [x, *self._variables])

    def forward_val(self, x: np.ndarray, point: Any = None) -> np.ndarray:
        """Return the unconstrained value of an array, or of many that are stacked."""
        x = np.asarray(x)
        given = draw_values(self._variables, point=point)
        spec = self._inverse.inputs[0]
        rank = len(spec.shape or ())
        if x.ndim == rank:
            return functions.evaluate(self._inverse, [x, *given])[0]
        own = x.shape[x.ndim - rank :]
        many = functions.evaluate(self._inverse.batched([spec.node]), [x.reshape(-1, *own), *given])
        return many[0].reshape(*x.shape[: x.ndim - rank], *many[0].shape[1:])

    def _outputs(self, z: Variable) -> List[Variable]:
        # PyMC3 asks for one value after the other. As outputs of one node they have one gradient,
        # where Theano would otherwise add those of several.
        if self._last[0] is not z:
            self._last = z, apply(self._density, [z, *self._variables], self._check)
            self._check = None
        return self._last[1]

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_last": (None, [])}


class Softplus(transforms.LogExpM1):
    """PyMC3's ``log_exp_m1``, under a name in which it finds that of the variable."""

    name = "softplus"


def default_transform(declaration: Declaration, shape: Sequence[int]) -> Transform:
    """Return the default bijector of a distribution as a transform; None if there is none."""
    logp, traits = declaration.source, declaration.traits
    if traits is None:
        return None
    assert isinstance(logp, DistributionLogProb)
    if traits.bijector:
        return _theano_transform(traits.bijector)
    x = Input(declaration.value, declaration.dtype, tuple(int(n) for n in shape), "value")
    known = [input_of(g, known=True) for g in declaration.given]
    z = x._replace(shape=logp.unconstrained_shape(x, known))
    inverse = declaration.capture(logp.inverse(z.shape), [x], random=True)
    density = declaration.capture(logp.unconstrained(x.shape), [z])
    fallback = (0.0, -np.inf, 0.0) if declaration.options.fails_softly else (np.nan,)
    density = density.with_fallback(*fallback)
    return BijectorTransform(density, inverse, declaration.variables, declaration.options.check)


def _theano_transform(bijector: Elementwise) -> Transform:
    """Return the transform of PyMC3 that is the same function; None for the identity."""
    if bijector.bounds:
        return transforms.Interval(*map(floatX, map(np.asarray, bijector.bounds)))
    return {
        "identity": None,
        "exp": transforms.log,
        "softplus": Softplus(),
        "sigmoid": transforms.logodds,
    }[bijector.name]


def start_of(shape: Tuple[int, ...], transform: Transform) -> np.ndarray:
    """Return zero, or where a transform sends zero: a point inside of the support."""
    if transform is None:
        return np.zeros(shape, theano.config.floatX)
    of_bijector = isinstance(transform, BijectorTransform)
    zeros = np.zeros(transform.shape if of_bijector else shape, theano.config.floatX)
    # Through test values, because the bounds may be variables of the model.
    with theano.config.change_flags(compute_test_value="raise"):
        start = test_value(transform.backward(tt.as_tensor_variable(zeros)))
    # A simplex has one coordinate less when it is transformed, and may have zero on its boundary.
    return start if start.shape == shape else zeros + floatX(1 / shape[-1])


def check_support(start: np.ndarray, transform: Transform) -> None:
    """Refuse a start value that a transform cannot take."""
    if transform is None:
        return
    with theano.config.change_flags(compute_test_value="raise"), np.errstate(all="ignore"):
        moved = test_value(transform.forward(tt.as_tensor_variable(start)))
    if not np.isfinite(moved).all():
        raise DeclarationError(
            f"the start value {start!r} is outside of the support: the transform "
            f"{transform.name!r} gives {moved!r} for it. Give one inside, or leave testval out."
        )


def check_jacobian(transform: Transform, ndim: int) -> None:
    """Refuse a Jacobian determinant that PyMC3 would add more than once."""
    if transform is None or isinstance(transform, BijectorTransform):
        return
    with theano.config.change_flags(compute_test_value="off"):
        jacobian = transform.jacobian_det(tt.TensorType(theano.config.floatX, [False] * ndim)())
    if jacobian.ndim < ndim - 1:
        raise DeclarationError(
            f"jacobian_det of the transform {transform.name!r} has {jacobian.ndim} dimensions, and "
            f"the value has {ndim}: PyMC3 would count it once for each row. Return one number for "
            "each element, or for each vector along the last axis."
        )
