"""Libraries of custom ops: loaded in this process, and again in those that get a program.

TensorFlow does not say which library an op came from, so that is remembered here.
"""

from __future__ import annotations

import inspect
import os
from types import ModuleType
from typing import Any, Dict, NamedTuple, Tuple, Union

import tensorflow as tf

from pymc3_tf.exceptions import LibraryError
from pymc3_tf.private_tensorflow import op_definition
from pymc3_tf.programs.serialized import GraphDef, every_node

# Path of the library of each op.
_paths: Dict[str, str] = {}


def load_op_library(path: Union[str, os.PathLike]) -> ModuleType:
    """Load custom ops, here and in every process that a density with one of them is sent to.

    Use it in place of ``tf.load_op_library``, which loads them in this process only.

    Parameters
    ----------
    path : str or path
        The shared library. Other processes look for it at the same absolute path.

    Returns
    -------
    module
        With a function for each op, as ``tf.load_op_library`` returns it.

    Raises
    ------
    pymc3_tf.exceptions.LibraryError
        If there is no such file, if TensorFlow cannot load it, or if it has no ops that TensorFlow
        does not have already.

    Notes
    -----
    Gradients are registered in Python, by ``tf.RegisterGradient``, and only where the density is
    declared: its program has the gradient's ops. A process that is to compute second derivatives,
    and got the program from another, has to register them too.

    Examples
    --------
    >>> load_op_library("ops/kepler.so")
    Traceback (most recent call last):
        ...
    pymc3_tf.exceptions.LibraryError: there is no library '.../ops/kepler.so'. ...
    """
    path = os.path.abspath(os.fspath(path))
    if not os.path.isfile(path):
        raise LibraryError(
            f"there is no library {path!r}. Build it, or give the path at which it is."
        )
    try:
        module = tf.load_op_library(path)
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise LibraryError(
            f"TensorFlow {tf.__version__} cannot load the library {path!r} "
            f"({getattr(error, 'message', error)}). If it was built for another TensorFlow, build "
            "it again, with the flags of tf.sysconfig.get_compile_flags() and "
            "tf.sysconfig.get_link_flags()."
        ) from error
    names = [name for name, value in vars(module).items() if _is_op(name, value)]
    if not names:
        raise LibraryError(
            f"the library {path!r} has no ops that TensorFlow does not have already. If it is a "
            "copy of a library that was loaded before, or was built again since, restart Python:"
            " a process can load the same op once."
        )
    _paths.update(dict.fromkeys(names, path))
    return module


def _is_op(name: str, value: Any) -> bool:
    # Besides the ops, the module has what it imports: `typing.Any`, say, which is an op as well.
    return inspect.isfunction(value) and op_definition(name) is not None


class Library(NamedTuple):
    """A library, and what a program needs of it.

    Parameters
    ----------
    path : str
        Absolute.
    ops : tuple of str
        Names of the ops that the program uses.
    """

    path: str
    ops: Tuple[str, ...]

    def require(self) -> None:
        """Load the library, unless this process has its ops already, from wherever that may be.

        Raises
        ------
        pymc3_tf.exceptions.LibraryError
            If it cannot be loaded here, or has not got the ops.
        """
        if not self._missing():
            return
        ops = ", ".join(self.ops)
        try:
            load_op_library(self.path)
        except LibraryError as error:
            raise LibraryError(
                f"{error} A density that was unpickled uses its {ops}. Where the library is "
                "somewhere else, call pymc3_tf.load_op_library before unpickling."
            ) from error
        if self._missing():
            raise LibraryError(
                f"the library {self.path!r} has no op {self._missing()[0]}, and a density that was "
                "unpickled uses it. Build it of the source that it had where that was declared."
            )

    def _missing(self) -> Tuple[str, ...]:
        return tuple(op for op in self.ops if op_definition(op) is None)


def libraries_of(graph_def: GraphDef) -> Tuple[Library, ...]:
    """Return the libraries that a graph needs, of those that ``load_op_library`` loaded.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        With the library of the functions that it calls.
    """
    used: Dict[str, Dict[str, None]] = {}
    for node in every_node(graph_def):
        if node.op in _paths:
            used.setdefault(_paths[node.op], {})[node.op] = None
    return tuple(Library(path, tuple(sorted(used[path]))) for path in sorted(used))
