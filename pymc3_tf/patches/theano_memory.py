"""Lets Theano forget what it would keep for good. Checked against Theano-PyMC 1.1.2.

Why: models with their data and TensorFlow sessions would stay in memory after they are dropped.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Iterator, List

from theano.graph import opt
from theano.graph.basic import Variable
from theano.graph.opt import LocalOptGroup

from pymc3_tf.bridge.op import TensorFlowOp


def install() -> None:
    """Put both mends in the place of Theano's own. Installing them again changes nothing."""
    forget_ops()
    forget_observers()


def forget_ops() -> None:
    """Let Theano's groups of rewrites forget the ops that they have seen.

    Groups that Theano has from its import on remember each op they were asked about, and with ours
    its program, session and data, long after the model is gone.
    """
    before = LocalOptGroup.transform
    if getattr(before, "_forgets", False):
        return

    @functools.wraps(before)
    def transform(self: Any, fgraph: Any, node: Any) -> Any:
        try:
            return before(self, fgraph, node)
        finally:
            if isinstance(node.op, TensorFlowOp) and not self.track_map.get(node.op):
                self.track_map.pop(node.op, None)

    transform._forgets = True  # type: ignore[attr-defined]
    LocalOptGroup.transform = transform


def forget_observers() -> None:
    """Let Theano stop observing the nodes of a rewrite when the rewrite fails.

    It would go on for good otherwise, and keep every variable that is made from then on.
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
