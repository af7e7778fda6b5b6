"""TFDensity, as users declare it: its arguments and what they mean."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

import tensorflow as tf
from pymc3.distributions.distribution import _Unpickling
from theano.graph.basic import Constant

from pymc3_tf.bridge.arguments import (
    DEFAULT_TRANSFORM,
    Options,
    check_name,
    check_shape,
    check_total_size,
    start_value,
)
from pymc3_tf.bridge.entries import Entries, Key, known_arguments
from pymc3_tf.exceptions import about
from pymc3_tf.model.declaration import Declaration, declare
from pymc3_tf.model.declared import DeclaredDensity

TensorOrFunction = Union[tf.Tensor, Callable[..., Any]]


class TFDensity(DeclaredDensity):
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
    shape : int or tuple of int, optional
        Shape of the variable. Default: that of the value's tensor, as far as it is known, or the
        batch and event shape of `distribution`.
    dims : str or tuple of str, optional
        Names of the dimensions, as in ``pm.Model(coords=...)``, in place of `shape`.
    transform : pymc3.distributions.transforms.Transform, optional
        From the support to the real numbers, for a free variable. By default the default bijector
        of `distribution`, and none for `logp`. ``transform=None`` is none.
    observed : array, pandas.Series or DataFrame, or pm.Data, optional
        Data for the value. Masked entries and NaN of pandas are imputed.
    total_size : int or list of int, optional
        How many observations there are, where `observed` is a minibatch of them.
    testval, initval : array, optional
        The start value, by its two names in PyMC3. Without it, sampling starts at zero, at the
        transform's image of zero, or in the middle of a simplex.

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

    @known_arguments
    def __new__(
        cls,
        name: str,
        logp: Optional[TensorOrFunction] = None,
        params: Optional[Entries] = None,
        value: Optional[Key] = None,
        feed_dict: Optional[Entries] = None,
        *,
        distribution: Any = None,
        random: Optional[TensorOrFunction] = None,
        session: Optional[tf.compat.v1.Session] = None,
        jit_compile: bool = False,
        device: Optional[str] = None,
        errors: str = "divergence",
        check_gradient: bool = True,
        shape: Any = None,
        dims: Any = None,
        transform: Any = DEFAULT_TRANSFORM,
        observed: Any = None,
        total_size: Any = None,
        testval: Any = None,
        initval: Any = None,
    ) -> Any:
        """Add the variable to the model on the context stack."""
        if name is _Unpickling:
            return super().__new__(cls, name)
        with about(f"TFDensity {name!r}"):
            check_name(name)
            check_shape(shape, dims)
            check_total_size(total_size)
            declaration = declare(
                logp,
                params,
                value,
                feed_dict,
                distribution=distribution,
                random=random,
                observed=observed,
                transform=transform,
                start=start_value(testval, initval),
                named=True,
                options=Options(session, jit_compile, device, errors, check_gradient),
            )
            variable = super().__new__(
                cls,
                name,
                declaration,
                shape=shape,
                dims=dims,
                observed=declaration.data,
                total_size=total_size,
            )
            if isinstance(declaration.data, Constant):
                cls.data = None  # where PyMC3 keeps the data of the last variable
            variable.distribution.belongs_to(variable, name)
        return variable

    @classmethod
    @known_arguments
    def dist(
        cls,
        logp: Optional[TensorOrFunction] = None,
        params: Optional[Entries] = None,
        value: Optional[Key] = None,
        feed_dict: Optional[Entries] = None,
        *,
        distribution: Any = None,
        random: Optional[TensorOrFunction] = None,
        session: Optional[tf.compat.v1.Session] = None,
        jit_compile: bool = False,
        device: Optional[str] = None,
        errors: str = "divergence",
        check_gradient: bool = True,
        shape: Any = None,
        transform: Any = DEFAULT_TRANSFORM,
        testval: Any = None,
        initval: Any = None,
    ) -> TFDensity:
        """Return the distribution without a name, for ``pm.Mixture`` and the like.

        The arguments are those of `TFDensity` itself. It has no data: the variable that is made of
        it has.

        Returns
        -------
        TFDensity

        Raises
        ------
        pymc3_tf.exceptions.DeclarationError, DeclarationTypeError
            As for `TFDensity`.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc3_tf
        >>> import tensorflow as tf
        >>> exponential = pymc3_tf.TFDensity.dist(
        ...     lambda x, rate: tf.math.log(rate) - rate * x, {"rate": 2.0}
        ... )
        >>> print(exponential.logp(np.array([0.0, 1.0])).eval().round(4))
        [ 0.6931 -1.3069]
        """
        if isinstance(logp, Declaration):  # __new__ made it, and PyMC3 hands it on
            return super().dist(logp, shape)
        check_shape(shape)
        declaration = declare(
            logp,
            params,
            value,
            feed_dict,
            distribution=distribution,
            random=random,
            transform=transform,
            start=start_value(testval, initval),
            named=False,
            options=Options(session, jit_compile, device, errors, check_gradient),
        )
        return super().dist(declaration, shape)
