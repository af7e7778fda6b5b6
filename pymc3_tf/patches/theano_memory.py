"""Makes Theano forget what it would keep forever. Checked against Theano-PyMC 1.1.2.

Why: models with their data and TensorFlow sessions would stay in memory after they are dropped.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Iterator, List

from theano.graph import opt
from theano.graph.basic import Apply, Variable
from theano.graph.fg import FunctionGraph
from theano.graph.opt import LocalOptGroup

from pymc3_tf.bridge.op import TensorFlowOp


def install() -> None:
    """Install both. Installing them again changes nothing."""
    forget_ops()
    forget_observers()


def forget_ops() -> None:
    """Let Theano's groups of rewrites forget the ops that they have seen.

    Theano's groups exist as long as the process, and remember each op they were asked about. With
    an op of ours they keep its program, session and data after the model is deleted.
    """
    before = LocalOptGroup.transform
    if getattr(before, "_forgets", False):
        return

    @functools.wraps(before)
    def transform(self: Any, fgraph: FunctionGraph, node: Apply) -> Any:
        try:
            return before(self, fgraph, node)
        finally:
            if isinstance(node.op, TensorFlowOp) and not self.track_map.get(node.op):
                self.track_map.pop(node.op, None)

    transform._forgets = True  # type: ignore[attr-defined]
    LocalOptGroup.transform = transform


def forget_observers() -> None:
    """Let Theano stop observing the nodes of a rewrite when the rewrite fails.

    Otherwise it would never stop, and would keep every variable that is made from then on.
    """
    before = opt.nodes_constructed
    if getattr(before, "_forgets", False):
        return

    @contextlib.contextmanager
    def nodes_constructed() -> Iterator[List[Any]]:
        observers = list(Variable.construction_observers)
        try:
            with before() as nodes:
                yield nodes
        finally:
            Variable.construction_observers[:] = observers

    nodes_constructed._forgets = True  # type: ignore[attr-defined]
    opt.nodes_constructed = nodes_constructed
