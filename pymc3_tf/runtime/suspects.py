"""Which node of a program it is that fails, or makes something that is no number."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from pymc3_tf.advice.origins import plain
from pymc3_tf.programs.building import build
from pymc3_tf.programs.program import Program


class Suspect(NamedTuple):
    """A node, by the name that it has in the user's graph, and what is known of it."""

    op: str
    node: str
    line: str  # of the user's code; empty if it is not known
    gives: str = ""  # NaN or inf

    def __str__(self) -> str:
        gives = f", which gives {self.gives}" if self.gives else ""
        line = f" ({self.line})" if self.line else ""
        return f"{self.op} at the node {self.node!r}{gives}{line}"


def suspect(program: Program, op: str, node: str) -> Suspect:
    """Return a node of a program, with the line of the user's code that made it."""
    name = plain(node)
    if not node.endswith(name):
        ops = {node.name: node.op for node in program.graph_without_gradients().node}
        op = f"the gradient of {ops.get(name, 'an op')}"
    return Suspect(op, name, program.origins.of(name) if program.origins else "")


def of_error(program: Program, error: BaseException) -> Optional[Suspect]:
    """Return the node that an error of TensorFlow comes from; None if it does not say."""
    current: Optional[BaseException] = error
    while current is not None:
        found = re.search(r"\{\{node ([^}]+)\}\}", str(current))
        if found and isinstance(current, tf.errors.OpError):
            name = found.group(1)
            ops = {node.name: node.op for node in program.graph_without_gradients().node}
            return suspect(program, ops.get(plain(name), "an op"), name)
        current = current.__cause__
    return None


def find(program: Program, values: Sequence[np.ndarray]) -> Optional[Suspect]:
    """Return the node that makes a program fail at a point, or give what is not finite.

    Parameters
    ----------
    program : Program
        Without XLA: it is evaluated node by node.
    values : sequence of array
        One for each input.

    Returns
    -------
    Suspect or None
        The first node on the way to an output that is not finite although its inputs are; of NaN,
        the first one that is NaN. None if all outputs are finite.
    """
    if program.cluster:
        return None
    with tf.Graph().as_default() as graph:
        inputs = [tf.compat.v1.placeholder(s.dtype, s.shape) for s in program.inputs]
        feeds = [tf.compat.v1.placeholder(f.array.dtype, f.array.shape) for f in program.feeds]
        nodes = [s.node for s in program.inputs] + [f.node for f in program.feeds]
        outputs = build(program, dict(zip(nodes, [*inputs, *feeds])))
    feed_dict = dict(zip([*inputs, *feeds], [*values, *[f.array for f in program.feeds]]))
    with tf.compat.v1.Session(graph=graph) as session:

        def value(tensor: tf.Tensor) -> np.ndarray:
            return np.asarray(session.run(tensor, feed_dict))

        try:
            for output in outputs:
                found = value(output) if output.dtype.is_floating else np.zeros(())
                if not np.isfinite(found).all():
                    bad = np.isnan if np.isnan(found).any() else np.isinf
                    op = _source(output.op, lambda x, bad=bad: bool(bad(value(x)).any()))
                    gives = "NaN" if bad is np.isnan else "inf"
                    return suspect(program, op.type, op.name)._replace(gives=gives)
        except tf.errors.OpError as error:
            return of_error(program, error)
    return None


def _source(op: tf.Operation, is_bad: Any) -> Any:
    """Return the op at the end of a way of bad tensors, back from an op."""
    while True:
        # Placeholders are what the user gave: the op that uses them is the one to name.
        tensors = [x for x in op.inputs if x.dtype.is_floating and x.op.type != "Placeholder"]
        found = next((x for x in tensors if is_bad(x)), None)
        if found is None:
            return op
        op = found.op
