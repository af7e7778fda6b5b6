"""SavedModels: the functions that they hold, as sources of densities and ops."""

from __future__ import annotations

import os
from typing import Any, Callable, List, Union

import tensorflow as tf

from pymc3_tf.capture.signatures import signature_of
from pymc3_tf.exceptions import DeclarationError


class SavedFunction:
    """A function of a SavedModel, which stays loaded for as long as the function is there."""

    def __init__(self, function: Callable[..., Any], name: str, owner: Any) -> None:
        self.__signature__ = signature_of(function)
        self._function = function
        self._name = name
        self._owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"SavedFunction({self._name}{self.__signature__})"


def load(path: Union[str, os.PathLike], signature: str = "serving_default") -> SavedFunction:
    """Load a function of a SavedModel, to be a log density or part of one.

    Parameters
    ----------
    path : str or path
        Directory of the SavedModel.
    signature : str, optional
        Name of one of its signatures, or of a ``tf.function`` that the saved object has as an
        attribute.

    Returns
    -------
    SavedFunction
        For `TFDensity` and `TensorFlowOp`. Its arguments have the names that they were saved with.
        Those of a signature have no order: where exactly one of them is neither in `params` nor in
        `feed_dict`, that is the value. A signature returns a dict of tensors; for a log density it
        has to be of one.

    Raises
    ------
    pymc3_tf.exceptions.DeclarationError
        If there is no SavedModel, or if it has no such function. The text lists those it has.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> module = tf.Module()
    >>> module.log_density = tf.function(
    ...     lambda y, mu: -0.5 * tf.square(y - mu),
    ...     input_signature=[
    ...         tf.TensorSpec([None], tf.float64, name="y"),
    ...         tf.TensorSpec([], tf.float64, name="mu"),
    ...     ],
    ... )
    >>> path = tempfile.mkdtemp()
    >>> tf.saved_model.save(module, path)
    >>> with pm.Model():
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.TFDensity(
    ...         "y", pymc3_tf.load(path, "log_density"), {"mu": mu}, observed=[1.0, 2.0]
    ...     )
    >>> print(y.logp({"mu": 0.0}))
    -2.5
    """
    if not tf.executing_eagerly():
        raise DeclarationError(
            "load needs eager execution. In a graph, load the SavedModel into a session, and give "
            "TFDensity the tensors and the session: "
            "tf.compat.v1.saved_model.load(session, ['serve'], path)"
        )
    path = os.fspath(path)
    if not tf.saved_model.contains_saved_model(path):
        raise DeclarationError(
            f"path is {path!r}, which has no SavedModel. Give the directory that "
            "tf.saved_model.save or model.export wrote: it has a file saved_model.pb."
        )
    owner = tf.saved_model.load(path)
    function = owner.signatures.get(signature, getattr(owner, signature, None))
    if not callable(function):
        raise DeclarationError(
            f"signature is {signature!r}, and the SavedModel has: "
            f"{', '.join(map(repr, _functions(owner))) or 'no function at all'}."
        )
    return SavedFunction(function, signature, owner)


def _functions(owner: Any) -> List[str]:
    """Return the names of the signatures, then those of functions that are attributes."""
    attributes = [
        name
        for name in dir(owner)
        if not name.startswith("_") and hasattr(getattr(owner, name, None), "concrete_functions")
    ]
    return [*owner.signatures, *(name for name in attributes if name not in owner.signatures)]
