"""Theano graph rewrites: a value and its gradient become one TensorFlow call.

Theano never merges two different ops. Wherever a function needs both a program's value and its
vector-Jacobian product at the same inputs, this puts the one op that computes both.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from theano.compile.mode import optdb
from theano.graph.basic import Apply, Variable, ancestors
from theano.graph.fg import FunctionGraph
from theano.graph.opt import GlobalOptimizer, MergeOptimizer
from theano.graph.toolbox import ReplaceValidate

from pymc3_tf.bridge.op import TensorFlowOp, apply
from pymc3_tf.programs import differentiation


class MergeValueAndGradient(GlobalOptimizer):
    """Merge the forward node and the VJP node of one program with the same inputs."""

    def add_requirements(self, fgraph: FunctionGraph) -> None:
        """Let the graph check each replacement."""
        fgraph.attach_feature(ReplaceValidate())

    def apply(self, fgraph: FunctionGraph) -> None:
        """Rewrite the graph in place."""
        MergeOptimizer().optimize(fgraph)
        nodes: Dict[Tuple[str, Tuple[Variable, ...]], Apply] = {}
        for node in fgraph.toposort():
            if isinstance(node.op, TensorFlowOp):
                nodes[node.op.program.key, tuple(node.inputs)] = node
        for (_, inputs), forward in list(nodes.items()):
            program = forward.op.program
            if not any(spec.is_floating for spec in program.outputs) or program.pullback is None:
                continue
            vjp_key = differentiation.vjp(program).key
            for (key, vjp_inputs), vjp in nodes.items():
                if key == vjp_key and vjp_inputs[: len(inputs)] == inputs:
                    # An upstream gradient that itself needs the value has to come after it.
                    upstream = vjp_inputs[len(inputs) :]
                    if not set(forward.outputs) & set(ancestors(upstream)):
                        _merge(fgraph, forward, vjp)
                        break


def _merge(fgraph: FunctionGraph, forward: Apply, vjp: Apply) -> None:
    merged: List[Variable] = apply(differentiation.value_and_vjp(forward.op.program), vjp.inputs)
    fgraph.replace_all_validate(
        list(zip(forward.outputs + vjp.outputs, merged)), reason="merge_value_and_gradient"
    )


# After specialization, which frees the upstream gradient of a sum from the value (it is filled with
# ones by shape), and before fusion and in-place operations.
optdb.register(
    "pymc3_tf_merge_value_and_gradient", MergeValueAndGradient(), 2.2, "fast_run", "fast_compile"
)
