"""Transforms of PyMC3 that are the default bijectors of distributions.

Where Theano has the same function, that is the transform; otherwise TensorFlow computes it, in the
call that computes the log density.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from pymc3.distributions import transforms
from pymc3.distributions.distribution import draw_values
from pymc3.theanof import floatX

from pymc3_tf.bridge.op import Check, TensorFlowOp, apply
from pymc3_tf.capture.distributions import Elementwise
from pymc3_tf.programs.program import Program
from pymc3_tf.runtime import functions


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
        variables: Sequence[Any],
        check: Check = None,
    ) -> None:
        self._density = density
        self._inverse = inverse
        self._variables = list(variables)
        self._check = check
        self._last: Any = (None, [])

    @property
    def shape(self) -> Any:
        """Shape of the unconstrained value."""
        return self._density.inputs[0].shape

    def backward(self, z: Any) -> Any:
        """Return the value of an unconstrained value."""
        return self._outputs(z)[0]

    def jacobian_det(self, z: Any) -> Any:
        """Return the log of the Jacobian determinant, in the shape of the log density."""
        return self._outputs(z)[2]

    def logp(self, value: Any) -> Optional[Any]:
        """Return the log density of a value that `backward` returned, None for any other."""
        node: Any = getattr(value, "owner", None)
        ours = node is not None and isinstance(node.op, TensorFlowOp)
        return node.outputs[1] if ours and node.op.program == self._density else None

    def forward(self, x: Any) -> Any:
        """Return the unconstrained value of a value."""
        return apply(self._inverse, [x, *self._variables])

    def forward_val(self, x: Any, point: Any = None) -> np.ndarray:
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

    def _outputs(self, z: Any) -> List[Any]:
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


def transform_of(bijector: Elementwise) -> Any:
    """Return the transform of PyMC3 that is the same function; None for the identity."""
    if bijector.bounds:
        return transforms.Interval(*map(floatX, map(np.asarray, bijector.bounds)))
    return {
        "identity": None,
        "exp": transforms.log,
        "softplus": Softplus(),
        "sigmoid": transforms.logodds,
    }[bijector.name]
