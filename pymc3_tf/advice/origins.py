"""Where in the user's code the nodes of a graph come from."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from pathlib import Path
from typing import Any, Callable, Optional

import tensorflow as tf

from pymc3_tf.advice.places import LIBRARIES, TENSORFLOW
from pymc3_tf.private_tensorflow import called_graph

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


class Origins:
    """The lines of code in which the nodes of a captured graph were made.

    TensorFlow remembers them as long as a graph is alive. So the graph is looked at again, or made
    again, when somebody asks. What is unpickled has no origins.

    Parameters
    ----------
    graph : callable
        Returns the graph as it was before it was frozen; None if it is gone.
    """

    def __init__(self, graph: Callable[[], Optional[tf.Graph]]) -> None:
        self._graph = graph

    def of(self, node: str) -> str:
        """Return the line in which a node was made; empty if it is not known.

        Parameters
        ----------
        node : str
            Its name in the frozen graph, as `plain` returns it. A node of a function that was
            inlined, or of a loop, has the line of the call.
        """
        graph, name, inside = self._graph(), node, ""
        while name and graph is not None:
            try:
                op = graph.get_operation_by_name(name)
            except KeyError:
                name, _, last = name.rpartition("/")
                inside = f"{last}/{inside}".rstrip("/")
                continue
            # Not kept: to TensorFlow, a traceback is a pointer into the graph.
            return _of_called(op, inside) or _line(op.traceback)
        return ""


def plain(node: str) -> str:
    """Return the name that a node has in the user's graph, for one that runs here.

    A node of a gradient has the name of the node whose gradient it is.

    Examples
    --------
    >>> plain("program/pymc3_tf/gradients/scale/Log_grad/mul"), plain("program/Cholesky")
    ('scale/Log', 'Cholesky')
    """
    name = re.sub(r"^((function|program)(_\d+)?/)*", "", node)
    found = re.match(r"(?:.*/)?gradients(?:_\d+)?/(.+?)_grad(?:/|$)", name)
    return found.group(1) if found else name


def _of_called(op: tf.Operation, inside: str) -> str:
    """Return the line of a node of the function that an op calls; empty if it is not known."""
    if not inside or "PartitionedCall" not in op.type:
        return ""
    try:
        # Its Python object, which TensorFlow keeps with the graph.
        called = called_graph(op)
    except AttributeError:
        called = None
    if called is None:
        return ""
    return Origins(lambda: called).of(inside)


def _line(trace: Any) -> str:
    frames = [(frame.filename, frame.lineno, frame.name) for frame in trace]
    # Of a function, what is inside of it: not who asked for it to be traced.
    ours = [i for i, (file, *_) in enumerate(frames) if file.startswith(_PACKAGE)]
    frames = frames[ours[-1] + 1 :] if ours else frames
    users = [frame for frame in frames if _is_users(frame[0])]
    # Installed packages are the user's own code only if nothing else is.
    scripts = [frame for frame in users if "site-packages" not in frame[0]]
    for file, line, function in reversed(scripts or users):
        source = linecache.getline(file, line).strip()
        return f"{file}:{line}, in {function}" + (f": `{source}`" if source else "")
    return ""


def _is_users(file: str) -> bool:
    if file.startswith((_PACKAGE, "<frozen")):
        return False
    _, inside, path = file.partition(f"site-packages{os.sep}")
    if inside:
        root = path.split(os.sep)[0]
        return root not in TENSORFLOW and root not in LIBRARIES
    return not file.startswith(sysconfig.get_path("stdlib"))
