"""The nodes of a serialized graph or function, in which tensors have other names."""

from __future__ import annotations

from typing import Any, Callable, Collection, Dict, List, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow.compat.v1 import NodeDef

from pymc3_tf.private_tensorflow import op_definition
from pymc3_tf.programs.serialized import node_of


class Scope:
    """Nodes that can be added to.

    Parameters
    ----------
    nodes : repeated field of tf.compat.v1.NodeDef
        Of a graph, in which the second output of a node is ``name:1``, or of a function, in which
        it is ``name:argument:k``: the name of one of the arguments that its op returns, and the
        position there.
    arguments : sequence of str, optional
        Those of the function.
    """

    def __init__(self, nodes: Any, arguments: Optional[Sequence[str]] = None) -> None:
        self._container = nodes
        self._arguments = arguments
        self._number = 0
        self.nodes: Dict[str, NodeDef] = {node.name: node for node in nodes}

    def live(self, roots: Sequence[str]) -> List[NodeDef]:
        """Return the nodes on which tensors or nodes depend, each after its inputs."""
        found: Dict[str, NodeDef] = {}
        stack = [node_of(root) for root in roots]
        while stack:
            name = stack[-1]
            waiting = []
            if name in self.nodes and name not in found:
                inputs = map(node_of, self.nodes[name].input)
                waiting = [n for n in inputs if n in self.nodes and n not in found]
                if not waiting:
                    found[name] = self.nodes[name]
            if waiting:
                stack += waiting
            else:
                stack.pop()
        return list(found.values())

    def keep(self, names: Sequence[str]) -> None:
        """Delete all nodes but some, and what waits for one of them waits no longer."""
        kept = [NodeDef.FromString(self.nodes[n].SerializeToString()) for n in names]
        known = self._known(names)
        for node in kept:
            node.input[:] = [i for i in node.input if i[0] != "^" or i[1:] in known]
        del self._container[:]
        self._container.extend(kept)
        self.nodes = {node.name: node for node in self._container}

    def drop(self, op: str) -> None:
        """Delete the nodes of a kind, on which only other nodes wait."""
        self.keep([name for name, node in self.nodes.items() if node.op != op])

    def wait_for_no(self, ops: Collection[str]) -> None:
        """Let nodes wait for none of some kinds of nodes whose results they do not read."""
        names = {name for name, node in self.nodes.items() if node.op in ops}
        for node in self.nodes.values():
            node.input[:] = [i for i in node.input if i[0] != "^" or i[1:] not in names]

    def _known(self, names: Sequence[str]) -> Any:
        return {*names, *(self._arguments or ())}

    def inputs(self, node: NodeDef) -> List[str]:
        """Return the tensors that a node reads."""
        return [name for name in node.input if name[0] != "^"]

    def source(self, tensor: str) -> str:
        """Return the tensor that comes through identities as a tensor."""
        while node_of(tensor) in self.nodes and self.nodes[node_of(tensor)].op == "Identity":
            tensor = self.nodes[node_of(tensor)].input[0]
        return tensor

    def output(self, node: str, argument: str, position: int, flat: int) -> str:
        """Return the name of an output of a node.

        Parameters
        ----------
        node : str
        argument : str
            What its op calls it.
        position : int
            Its position among the tensors of this argument.
        flat : int
            Its position among all outputs.
        """
        if self._arguments is None:
            # Grappler takes two nodes for the same only if they spell their inputs in the same way.
            return f"{node}:{flat}" if flat else node
        return f"{node}:{argument}:{position}"

    def unique(self) -> str:
        """Return a name that no node and no argument has, nor the beginning of one."""
        taken = {name.split("/")[0] for name in self._known(list(self.nodes))}
        while f"check_{self._number}" in taken:
            self._number += 1
        return f"check_{self._number}"

    def add(self, node: NodeDef) -> str:
        """Add a node with one output, and return this output."""
        self._container.add().CopyFrom(node)
        self.nodes[node.name] = self._container[-1]
        return self.output(node.name, op_definition(node.op).output_arg[0].name, 0, 0)

    def graft(
        self, function: Callable[..., tf.Tensor], inputs: Sequence[Tuple[str, tf.DType]]
    ) -> str:
        """Add what a function computes of tensors, and return its result.

        Parameters
        ----------
        function : callable
            Of ops that have one output each.
        inputs : sequence of (str, tf.DType)
            The tensors.
        """
        with tf.Graph().as_default() as graph:
            given = [tf.compat.v1.placeholder(dtype) for _, dtype in inputs]
            result = function(*given)
        names = {x.op.name: name for x, (name, _) in zip(given, inputs)}
        prefix = self.unique()
        for node in graph.as_graph_def().node:
            if node.name in names:
                continue
            added = NodeDef.FromString(node.SerializeToString())
            added.name = f"{prefix}/{node.name}"
            added.input[:] = [names[name] for name in node.input]
            names[node.name] = self.add(added)
        return names[result.op.name]

    def true(self) -> str:
        """Add a constant."""
        return self.graft(lambda: tf.constant(True), [])

    def all_of(self, tensors: Sequence[str]) -> str:
        """Add the conjunction of scalars, and return it."""
        result, *more = dict.fromkeys(tensors)
        for tensor in more:
            result = self.graft(tf.logical_and, [(result, tf.bool), (tensor, tf.bool)])
        return result
