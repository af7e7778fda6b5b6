"""The errors and warnings of this package.

Those of declarations are also a ``ValueError`` or a ``TypeError``, so that code which guards
PyMC3's own declarations guards these as well. Each class has a section on the page docs/errors.md,
which is made of its docstring; ``help()`` of the class prints it.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import Iterator


class Explained:
    """What all errors and warnings of this package have in common: they can be explained."""

    @classmethod
    def help(cls) -> None:
        """Print what the error means, an example, and what to write instead.

        Examples
        --------
        >>> import pymc3_tf
        >>> pymc3_tf.exceptions.GraphSizeError.help()  # doctest: +ELLIPSIS
        GraphSizeError
        <BLANKLINE>
        The graph is larger than the 2 GB that TensorFlow can serialize...
        """
        print(f"{cls.__name__}\n\n{inspect.getdoc(cls)}")


class DeclarationError(Explained, ValueError):
    """A density or an op was declared with arguments that cannot work.

    The text names the argument and says what to write instead. Most errors on this page are also
    a DeclarationError: ``except pymc3_tf.exceptions.DeclarationError`` catches them all.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> with pm.Model():
    ...     pm.TFDensity("x", lambda x: -0.5 * x**2, shape=3, errors="ignore")
    Traceback (most recent call last):
    pymc3_tf.exceptions.DeclarationError: TFDensity 'x': errors is 'ignore'. Give 'divergence'...

    Write instead:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: -0.5 * x**2, shape=3, errors="raise")
    """


class DeclarationTypeError(Explained, TypeError):
    """An argument of a declaration has the wrong type or dtype.

    TensorFlow does not mix dtypes, and a log density has to be a floating tensor. Parameters and
    the value arrive in float64. Data keep their own dtype: feed ``np.asarray(x, float)``.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with pm.Model():
    ...     pm.TFDensity("x", lambda x: tf.cast(-(x**2), tf.int32))
    Traceback (most recent call last):
    pymc3_tf.exceptions.DeclarationTypeError: TFDensity 'x': logp is int32. A log density is...

    Write instead:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: -(x**2))
    """


class UnfedPlaceholderError(DeclarationError):
    """A placeholder that the outputs need has neither a parameter nor a feed.

    Give each placeholder of the graph a parameter in ``params``, or data in ``feed_dict``. One
    may stay open: it is the value, the random variable itself.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with tf.Graph().as_default():
    ...     y, mu, s = [tf.compat.v1.placeholder(tf.float64, (), name=n) for n in ("y", "mu", "s")]
    ...     logp = -0.5 * ((y - mu) / s) ** 2 - tf.math.log(s)
    >>> with pm.Model():
    ...     pm.TFDensity("y", logp, params={mu: 0.0}, value=y)
    Traceback (most recent call last):
    pymc3_tf.exceptions.UnfedPlaceholderError: TFDensity 'y': logp needs the placeholder 's'...

    Write instead:

    >>> with pm.Model():
    ...     sigma = pm.HalfNormal("sigma", 1.0)
    ...     variable = pm.TFDensity("y", logp, params={mu: 0.0, s: sigma}, value=y)
    """


class UninitializedVariableError(DeclarationError):
    """A TensorFlow variable has no value in the session that was given.

    Variables that are not parameters are read and frozen at declaration. Run their initializer,
    or restore a checkpoint, before that.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> v1 = tf.compat.v1
    >>> with tf.Graph().as_default() as graph:
    ...     x = v1.placeholder(tf.float64, ())
    ...     logp = -0.5 * (x - v1.get_variable("w", (), tf.float64, use_resource=False)) ** 2
    ...     session = v1.Session(graph=graph)
    ...     initializer = v1.global_variables_initializer()
    >>> with pm.Model():
    ...     pm.TFDensity("x", logp, session=session)
    Traceback (most recent call last):
    pymc3_tf.exceptions.UninitializedVariableError: TFDensity 'x': logp needs variables that have...

    Write instead:

    >>> session.run(initializer)
    >>> with pm.Model():
    ...     variable = pm.TFDensity("x", logp, session=session)
    """


class MissingSessionError(DeclarationError):
    """The graph has variables, and there is no session to read their values from.

    Give ``session=``, the session in which the variables have their values.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> v1 = tf.compat.v1
    >>> with tf.Graph().as_default() as graph:
    ...     x = v1.placeholder(tf.float64, ())
    ...     logp = -0.5 * (x - v1.get_variable("w", (), tf.float64, use_resource=False)) ** 2
    ...     session = v1.Session(graph=graph)
    ...     session.run(v1.global_variables_initializer())
    >>> with pm.Model():
    ...     pm.TFDensity("x", logp)
    Traceback (most recent call last):
    pymc3_tf.exceptions.MissingSessionError: TFDensity 'x': logp has variables ('w') and no...

    Write instead:

    >>> with pm.Model():
    ...     variable = pm.TFDensity("x", logp, session=session)
    """


class UnsupportedOpError(DeclarationError):
    """The graph has an op that a log density cannot have.

    It cannot be sent to another process (Python code, lookup tables), it does not give the same
    number each time (random ops, assignments), TensorFlow has no gradient of it, or XLA was asked
    to compile it and cannot. The text names the op, its node, and what to write instead.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def logp(x):
    ...     return -0.5 * tf.numpy_function(np.square, [x], tf.float64)
    >>> with pm.Model():
    ...     pm.TFDensity("x", logp)
    Traceback (most recent call last):
    pymc3_tf.exceptions.UnsupportedOpError: TFDensity 'x': logp uses PyFunc at the node...

    Write instead:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: -0.5 * tf.square(x))
    """


class GradientError(DeclarationError):
    """The gradient that TensorFlow computes is not that of the value.

    The text names the input and has both numbers. The usual reason is a function under
    ``tf.custom_gradient`` with a mistake in its gradient. `pymc3_tf.verify_grad` compares the two
    at any point. ``check_gradient=False`` turns the check off.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> @tf.custom_gradient
    ... def square(x):
    ...     return x**2, lambda upstream: upstream * 3.0 * x
    >>> with pm.Model():
    ...     pm.TFDensity("x", lambda x: -0.5 * square(x), testval=1.0)
    Traceback (most recent call last):
    pymc3_tf.exceptions.GradientError: TFDensity 'x': the gradient of logp with respect to 'x' is...

    Write instead the right gradient, ``upstream * 2.0 * x``, or a function that needs none:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: -0.5 * tf.square(x), testval=1.0)
    """


class MissingGradientWarning(Explained, UserWarning):
    """A gradient is zero, or lacks a part, because of an op that has none by its nature.

    Rounding has a gradient of zero, and ``tf.stop_gradient`` stops it. NUTS then learns nothing of
    the parameter from this density. If that is meant, say ``check_gradient=False``.

    Examples
    --------
    >>> import warnings
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with warnings.catch_warnings(record=True) as caught, pm.Model():
    ...     warnings.simplefilter("always")
    ...     x = pm.TFDensity("x", lambda x: -0.5 * tf.round(x) ** 2)
    >>> print(caught[0].message)
    logp depends on 'x' only through Round at the node...

    Write instead a smooth function of the parameter, or, if it is meant:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: -0.5 * tf.round(x) ** 2, check_gradient=False)
    """


class GraphSizeError(DeclarationError):
    """The graph is larger than the 2 GB that TensorFlow can serialize.

    Large arrays do not belong into the graph, where ``tf.constant``, or a NumPy array that a
    function uses, puts them. Make them arguments or placeholders, and give them in ``feed_dict``.

    Examples
    --------
    With ``x`` an array of 3 GB, this cannot work::

        pm.TFDensity("y", lambda y, m: -0.5 * (y - m * x) ** 2, {"m": m}, feed_dict={"y": y})

    Write instead::

        pm.TFDensity(
            "y", lambda y, m, x: -0.5 * (y - m * x) ** 2, {"m": m}, feed_dict={"y": y, "x": x}
        )
    """


class EvaluationError(Explained, ValueError):
    """TensorFlow failed at some values of the inputs. The text has them.

    By default a density is -inf where it fails, a divergence. It is an error with
    ``errors="raise"``, where shapes do not fit, and for a TensorFlowOp.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def logp(y, rho):
    ...     factor = tf.linalg.cholesky(tf.stack([[1.0, rho], [rho, 1.0]]))
    ...     return -0.5 * tf.reduce_sum((y / factor[1, 1]) ** 2)
    >>> def declare(errors):
    ...     with pm.Model() as model:
    ...         rho = pm.Uniform("rho", -2.0, 2.0, transform=None, testval=0.5)
    ...         pm.TFDensity("y", logp, {"rho": rho}, observed=1.0, errors=errors)
    ...     return model
    >>> declare("raise").logp({"rho": 1.5})
    Traceback (most recent call last):
    pymc3_tf.exceptions.EvaluationError: TensorFlow failed at rho = 1.5: ...

    Write instead a prior under which it cannot fail, here between -1 and 1, or let such points be
    rejected:

    >>> declare("divergence").logp({"rho": 1.5})
    array(-inf)
    """


class LibraryError(DeclarationError):
    """A library of custom ops is not there, or cannot be loaded in this process.

    Build it for the TensorFlow that is installed, and give its path.

    Examples
    --------
    >>> import pymc3_tf
    >>> pymc3_tf.load_op_library("no_such_op.so")
    Traceback (most recent call last):
    pymc3_tf.exceptions.LibraryError: ...no_such_op.so...

    Write instead the path of the library that you built::

        kepler = pymc3_tf.load_op_library("build/kepler_op.so")
    """


class UnreachableClusterError(DeclarationError):
    """A server of the cluster of the session does not answer.

    Start the servers before the density is declared, and give the address of one of them.

    Examples
    --------
    If no server listens at this address::

        session = tf.compat.v1.Session("grpc://10.0.0.1:2222")
        pm.TFDensity("y", logp, {m_t: m}, session=session)

    Write instead the ``server.target`` that a running server has.
    """


class WorkerLostError(Explained, RuntimeError):
    """A server of the cluster on which a density lives does not answer any more.

    The text names its task. It ends ``pm.sample`` in the way in which Ctrl-C does: the error is
    logged, and the draws so far are returned. Start the server again, declare the model again, and
    sample on from the last draw.

    Examples
    --------
    If a worker ends while this runs::

        trace = pm.sample()

    Then sample on from where it stopped::

        trace = pm.sample(start=trace[-1])
    """


class StartError(Explained, ValueError):
    """A chain cannot start where it was told to.

    The log density or its gradient is not finite there. The text says which variable it is. Give
    another ``start=``, or a ``testval=`` to the variable, or mend the density: see
    `pymc3_tf.check`.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with pm.Model() as model:
    ...     x = pm.TFDensity("x", lambda x: -tf.sqrt(tf.abs(x)), check_gradient=False)
    >>> pymc3_tf.sample(10, model=model, init="adapt_diag", progressbar=False)
    Traceback (most recent call last):
    pymc3_tf.exceptions.StartError: ...

    Write instead a function with a gradient at its start:

    >>> with pm.Model() as model:
    ...     x = pm.TFDensity("x", lambda x: -tf.sqrt(1.0 + x**2))
    """


class DiscreteVariableError(Explained, ValueError):
    """A model with discrete free variables was given to a sampler that needs gradients.

    Use ``pm.sample()``, which takes another step method for them, or sum them out of the model.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     k = pm.Bernoulli("k", 0.5)
    ...     x = pm.Normal("x", k, 1.0)
    >>> pymc3_tf.sample(model=model)
    Traceback (most recent call last):
    pymc3_tf.exceptions.DiscreteVariableError: the free variables 'k' are discrete, and NUTS...

    Write instead:

    >>> with pm.Model() as model:
    ...     parts = [pm.Normal.dist(0.0, 1.0), pm.Normal.dist(1.0, 1.0)]
    ...     x = pm.Mixture("x", [0.5, 0.5], parts)
    """


class CompilationError(DeclarationError):
    """XLA cannot compile a density, an op or another part of a model.

    `pymc3_tf.check` says what it is. Use another op, leave out ``jit_compile=True``, or sample by
    ``pm.sample()``, which compiles nothing.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> def logp(x, **bound):
    ...     (y,) = tf.while_loop(lambda y: y < 9.0, lambda y: (1.0 + y + x**2,), (x,), **bound)
    ...     return -y
    >>> with pm.Model():
    ...     pm.TFDensity("x", lambda x: logp(x), jit_compile=True)
    Traceback (most recent call last):
    pymc3_tf.exceptions.CompilationError: TFDensity 'x': ...

    Write instead:

    >>> with pm.Model():
    ...     x = pm.TFDensity("x", lambda x: logp(x, maximum_iterations=10), jit_compile=True)
    """


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Say in the errors of a declaration what was declared."""
    try:
        yield
    except (DeclarationError, DeclarationTypeError) as error:
        error.args = (f"{what}: {error}",)
        raise


def message(error: Exception) -> str:
    """Return what an error of TensorFlow says, without where in the graph it says it."""
    text = getattr(error, "message", None) or str(error)
    # Errors inside of a graph say where first, over several lines, and then what.
    lines = text.split("\n\t [[")[0].strip().splitlines()
    if not lines:
        return f"{type(error).__name__}."
    if "fixed tensor list size" in text:
        return (
            "it has a loop, and XLA cannot tell for how many iterations at most. Write "
            "tf.while_loop(..., maximum_iterations=1000), or `for i in tf.range(n)`, or a "
            "condition such as i < 1000."
        )
    line = lines[-1 if lines[0].startswith("Graph execution error") else 0]
    # Outside of graphs, the device and the op stand at its ends.
    text = re.sub(r"^\{\{.*?\}\}\s*|\s*\[Op:\w+\].*$", "", line).rstrip(".")
    return f"{text or type(error).__name__}."
