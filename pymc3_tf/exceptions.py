"""The errors of this package.

Those of declarations are also a ``ValueError`` or a ``TypeError``, so that code which guards
PyMC3's own declarations guards these as well.
"""

from __future__ import annotations

import contextlib
import re
from typing import Iterator


class DeclarationError(ValueError):
    """A density or an op was declared with arguments that cannot work.

    The text names the argument and says what to write instead.
    """


class DeclarationTypeError(TypeError):
    """An argument of a declaration has the wrong type or dtype."""


class UnfedPlaceholderError(DeclarationError):
    """A placeholder that the outputs need has neither a parameter nor a feed."""


class UninitializedVariableError(DeclarationError):
    """A TensorFlow variable has no value in the session that was given."""


class MissingSessionError(DeclarationError):
    """The graph has variables, and there is no session to read their values from."""


class UnsupportedOpError(DeclarationError):
    """The graph has an op that cannot be carried to another process or repeated exactly."""


class GradientError(DeclarationError):
    """The gradient that TensorFlow computes is not that of the value.

    The text names the input and has both numbers.
    """


class MissingGradientWarning(UserWarning):
    """A gradient is zero, or lacks a part, because of an op that has none by its nature."""


class GraphSizeError(DeclarationError):
    """The graph is larger than the 2 GB that TensorFlow can serialize."""


class EvaluationError(ValueError):
    """TensorFlow failed at some values of the inputs. The text has them."""


class LibraryError(DeclarationError):
    """A library of custom ops is not there, or cannot be loaded in this process."""


class UnreachableClusterError(DeclarationError):
    """A server of the cluster of the session does not answer."""


class WorkerLostError(RuntimeError):
    """A server of the cluster on which a density lives does not answer any more.

    The text names its task. It ends ``pm.sample`` in the way in which Ctrl-C does: the error is
    logged, and the draws so far are returned.
    """


class StartError(ValueError):
    """A chain cannot start where it was told to."""


class DiscreteVariableError(ValueError):
    """A model with discrete free variables was given to a sampler that needs gradients."""


class CompilationError(DeclarationError):
    """XLA cannot compile a density, an op or another part of a model."""


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
