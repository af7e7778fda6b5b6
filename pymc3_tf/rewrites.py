"""Theano graph rewrites: a value and its gradient become one TensorFlow call.

Theano never merges two different ops. Wherever a function needs both a program's value and its
vector-Jacobian product at the same inputs, this puts the one op that computes both.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Dict, Iterator, List, Tuple

from theano.compile.mode import optdb
from theano.graph import opt
from theano.graph.basic import Apply, Variable, ancestors
from theano.graph.opt import GlobalOptimizer, LocalOptGroup, MergeOptimizer
from theano.graph.toolbox import ReplaceValidate

from pymc3_tf.op import TensorFlowOp, apply


class MergeValueAndGradient(GlobalOptimizer):
    """Merge the forward node and the VJP node of one program with the same inputs."""

    def add_requirements(self, fgraph: Any) -> None:
        """Let the graph check each replacement."""
        fgraph.attach_feature(ReplaceValidate())

    def apply(self, fgraph: Any) -> None:
        """Rewrite the graph in place."""
        MergeOptimizer().optimize(fgraph)
        nodes: Dict[Tuple[str, Tuple[Any, ...]], Apply] = {}
        for node in fgraph.toposort():
            if isinstance(node.op, TensorFlowOp):
                nodes[node.op.program.key, tuple(node.inputs)] = node
        for (_, inputs), forward in list(nodes.items()):
            program = forward.op.program
            if not any(spec.is_floating for spec in program.outputs) or program.pullback is None:
                continue
            vjp_key = program.vjp().key
            for (key, vjp_inputs), vjp in nodes.items():
                if key == vjp_key and vjp_inputs[: len(inputs)] == inputs:
                    # An upstream gradient that itself needs the value has to come after it.
                    upstream = vjp_inputs[len(inputs) :]
                    if not set(forward.outputs) & set(ancestors(upstream)):
                        _merge(fgraph, forward, vjp)
                        break


def _merge(fgraph: Any, forward: Apply, vjp: Apply) -> None:
    merged: List[Any] = apply(forward.op.program.value_and_vjp(), vjp.inputs)
    fgraph.replace_all_validate(
        list(zip(forward.outputs + vjp.outputs, merged)), reason="merge_value_and_gradient"
    )


# After specialization, which frees the upstream gradient of a sum from the value (it is filled with
# ones by shape), and before fusion and in-place operations.
optdb.register(
    "pymc3_tf_merge_value_and_gradient", MergeValueAndGradient(), 2.2, "fast_run", "fast_compile"
)


# -- what Theano would keep for good -----------------------------------------------------------


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


forget_ops()
forget_observers()
