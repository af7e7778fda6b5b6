"""On what paths inputs reach the tensors of a serialized graph, through loops and functions too.

Inputs are bits of a number, so that one walk is enough for all of them.
"""

from __future__ import annotations

import heapq
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from pymc3_tf.private_tensorflow import op_definition
from pymc3_tf.programs.serialized import GraphDef, NodeDef

Tensor = Tuple[str, int]  # a node, and which of its outputs


class Reach(NamedTuple):
    """The inputs that reach a tensor, as bits, by the kinds of their paths."""

    smooth: int = 0  # all ops have a gradient
    stepwise: int = 0  # through an op that has no gradient by its nature, such as a rounding
    broken: int = 0  # through an op whose gradient exists, but TensorFlow does not know it

    def __or__(self, other: Any) -> Reach:
        return Reach(*(a | b for a, b in zip(self, other)))

    @property
    def bits(self) -> int:
        """All inputs that reach it."""
        return self.smooth | self.stepwise | self.broken

    def by_steps(self) -> Reach:
        """Return what is left after an op that has no gradient by its nature."""
        return Reach(stepwise=self.bits)

    def by_gap(self) -> Reach:
        """Return what is left after an op whose gradient TensorFlow does not know."""
        return Reach(stepwise=self.stepwise, broken=self.smooth | self.broken)


NOWHERE = Reach()


def union(reaches: Sequence[Reach]) -> Reach:
    """Return all that reach any of the tensors."""
    every = NOWHERE
    for reach in reaches:
        every = every | reach
    return every


def dtypes_of(node: NodeDef, arguments: Any) -> List[Tuple[str, int]]:
    """Return name and dtype of each tensor that a node has for ``op_def.input_arg`` or the like."""
    found: List[Tuple[str, int]] = []
    for argument in arguments:
        if argument.type_list_attr:
            dtypes = list(node.attr[argument.type_list_attr].list.type)
        else:
            dtype = argument.type or node.attr[argument.type_attr].type
            dtypes = [dtype] * (node.attr[argument.number_attr].i if argument.number_attr else 1)
        found += [(argument.name, dtype) for dtype in dtypes]
    return found


class Body:
    """The nodes of a graph or of one of its functions, and the edges between them."""

    def __init__(
        self,
        nodes: Sequence[Any],
        functions: Mapping[str, Any],
        arguments: Sequence[str] = (),
        results: Sequence[str] = (),
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.order = {node.name: i for i, node in enumerate(nodes)}
        self.arguments = [(name, 0) for name in arguments]
        self.outputs: Dict[str, List[int]] = {}
        self._offsets: Dict[str, Dict[str, int]] = {}
        for node in nodes:
            called = functions.get(node.op)
            definition = called.signature if called else op_definition(node.op)
            found = dtypes_of(node, definition.output_arg) if definition else [("", 0)]
            self.outputs[node.name] = [dtype for _, dtype in found]
            offsets = self._offsets[node.name] = {}
            for i, (name, _) in enumerate(found):
                offsets.setdefault(name, i)
        self.inputs = {
            node.name: [self.tensor(i) for i in node.input if not i.startswith("^")]
            for node in nodes
        }
        self.results = [self.tensor(name) for name in results]
        self.consumers: Dict[str, List[str]] = {}
        for name, tensors in self.inputs.items():
            for source, _ in tensors:
                self.consumers.setdefault(source, []).append(name)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of a name, in the notation of graphs or of functions."""
        node, *output = name.split(":")
        if len(output) == 2:
            return node, self._offsets[node].get(output[0], 0) + int(output[1])
        return node, int(output[0]) if output else 0

    def origin(self, tensor: Tensor) -> Tensor:
        """Return the tensor that another one is a copy of."""
        while tensor[0] in self.nodes and self.nodes[tensor[0]].op == "Identity":
            (tensor,) = self.inputs[tensor[0]]
        return tensor

    def before(self, tensors: Sequence[Tensor], cut: Set[Tensor]) -> Set[str]:
        """Return the nodes that compute some tensors, without those before a cut."""
        found: Set[str] = set()
        stack = [t for t in tensors if t not in cut]
        while stack:
            name = stack.pop()[0]
            if name not in found:
                found.add(name)
                stack += [t for t in self.inputs.get(name, ()) if t not in cut]
        return found


class Ways:
    """Walks a graph from its inputs. Subclasses say what an op does with them.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        With the library of the functions that it calls.
    """

    def __init__(self, graph_def: GraphDef) -> None:
        self.functions = {f.signature.name: f for f in graph_def.library.function}
        self.body = Body(graph_def.node, self.functions)
        self._bodies: Dict[str, Body] = {}
        self._called: Dict[Any, List[Reach]] = {}

    def reach(self, inputs: Mapping[str, int], outputs: Sequence[str]) -> List[Reach]:
        """Return what reaches some tensors of the graph.

        Parameters
        ----------
        inputs : dict of str to int
            A bit for each node that is an input.
        outputs : sequence of str
            Names of tensors.
        """
        given = {(node, 0): Reach(smooth=bit) for node, bit in inputs.items()}
        found = self.walk(self.body, given)
        return [found.get(self.body.tensor(name), NOWHERE) for name in outputs]

    def through(self, body: Body, node: NodeDef, reaches: List[Reach], known: Any) -> List[Reach]:
        """Return what reaches the outputs of an op, given what reaches its inputs."""
        return [union(reaches)] * len(body.outputs[node.name])

    def walk(
        self,
        body: Body,
        given: Mapping[Tensor, Reach],
        cut: Sequence[Tensor] = (),
        only: Optional[Set[str]] = None,
    ) -> Dict[Tensor, Reach]:
        """Return what reaches the tensors of a body, through some of its nodes and not a cut."""
        found = {tensor: reach for tensor, reach in given.items() if reach.bits}
        waiting: List[Tuple[int, str]] = []

        def push(name: str) -> None:
            for consumer in body.consumers.get(name, ()):
                if only is None or consumer in only:
                    heapq.heappush(waiting, (body.order[consumer], consumer))

        for name, _ in list(found):
            push(name)
        for tensor in cut:
            found.pop(tensor, None)
        while waiting:
            entry = heapq.heappop(waiting)
            while waiting and waiting[0] == entry:
                heapq.heappop(waiting)
            name = entry[1]
            reaches = [found.get(tensor, NOWHERE) for tensor in body.inputs[name]]
            for k, reach in enumerate(self._through(body, body.nodes[name], reaches, given)):
                before = found.get((name, k), NOWHERE)
                if before | reach != before and (name, k) not in cut and (name, k) not in given:
                    found[name, k] = before | reach
                    push(name)
        return found

    def _through(self, body: Body, node: NodeDef, reaches: List[Reach], given: Any) -> List[Reach]:
        if node.op in ("While", "StatelessWhile"):
            return self._loop(node, reaches)
        if node.op in ("If", "StatelessIf", "Case", "StatelessCase"):
            attr = node.attr
            branches = attr["branches"].list.func or [
                attr["then_branch"].func,
                attr["else_branch"].func,
            ]
            results = [self.call(branch.name, reaches[1:]) for branch in branches]
            chosen = reaches[0].by_steps()
            return [union(every) | chosen for every in zip(*results)]
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            return self.call(node.attr["f"].func.name, reaches)
        if node.op in self.functions:
            return self.call(node.op, reaches)
        return self.through(body, node, reaches, given)

    def _loop(self, node: NodeDef, reaches: List[Reach]) -> List[Reach]:
        while True:
            again = self.call(node.attr["cond"].func.name, reaches)[0].by_steps()
            results = self.call(node.attr["body"].func.name, reaches)
            merged = [a | b | again for a, b in zip(reaches, results)]
            if merged == reaches:
                return merged
            reaches = merged

    def call(self, name: str, reaches: Sequence[Reach]) -> List[Reach]:
        """Return what reaches the results of a function, given what reaches its arguments."""
        key = name, tuple(reaches)
        if key not in self._called:
            if name not in self._bodies:
                function = self.functions[name]
                self._bodies[name] = Body(
                    function.node_def,
                    self.functions,
                    [argument.name for argument in function.signature.input_arg],
                    [function.ret[result.name] for result in function.signature.output_arg],
                )
            body = self._bodies[name]
            found = self.walk(body, dict(zip(body.arguments, reaches)))
            self._called[key] = [found.get(tensor, NOWHERE) for tensor in body.results]
        return self._called[key]
