"""Checks that XLA leaves out, as numbers.

TensorFlow's own ops fail where an assertion does not hold, an index is out of bounds, or an integer
is divided by zero. XLA goes on with some number. Here each check becomes a scalar that says whether
it holds, and that functions, conditions and loops hand on. A loop ends where a check fails: it may
be what ends it.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.host.checked_ops import CHECKS, check_of, dtypes
from pymc3_tf.host.scopes import Scope
from pymc3_tf.programs.serialized import (
    CONTROL_FLOW,
    STATELESS,
    GraphDef,
    NodeDef,
    define_functions,
    every_node,
    name_functions,
    prune,
)

# Control flow of version 1 is in no function to which a result could be added.
_VERSION_1 = {"Enter", "Exit", "Merge", "NextIteration", "Switch"}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# What they return depends on shapes alone, which XLA knows.
_OF_SHAPES = {
    "BroadcastGradientArgs", "OnesLike", "Rank", "Shape", "ShapeN", "Size",
    "TensorListElementShape", "TensorListLength", "ZerosLike",
}  # fmt: skip
# What functions return, and what those of loops are given: whether the checks hold.
_HOLDS, _HELD = "checks_hold", "checks_held"
_BOOL = tf.bool.as_datatype_enum


# -- functions ---------------------------------------------------------------------------------


class _Checked(NamedTuple):
    """A function in which checks are scalars."""

    definition: Any
    holds: Optional[str]  # the tensor in it that says whether all do; None if there are no checks
    varies: List[bool]  # which outputs depend on arguments that vary
    variants: Dict[str, str]  # names of what was made of it


class _Functions:
    """The functions of a graph, each as it is called: with which arguments, in what kind of op."""

    def __init__(self, graph_def: GraphDef) -> None:
        self._library = {f.signature.name: f for f in graph_def.library.function}
        self._known: Dict[Any, _Checked] = {}
        self.made: List[Any] = []

    def rewrite(
        self, scope: Scope, roots: Sequence[str], given: Any, always: bool
    ) -> Tuple[List[str], Callable[[str], bool]]:
        """Make the checks of a graph or function scalars.

        Parameters
        ----------
        scope : Scope
        roots : sequence of str
            Tensors and nodes that are needed.
        given : set of str
            Placeholders or arguments that vary.
        always : bool
            Whether it varies if the ops run at all, so that all checks count.

        Returns
        -------
        list of str
            The scalars.
        callable
            Says whether a tensor varies.
        """
        varies: Dict[str, List[bool]] = {}

        def does_vary(tensor: str) -> bool:
            name, *place = tensor.split(":")
            flags = varies.get(name, [name in given])
            # All tensors of an op that calls no function vary, or none does.
            return flags[self._position(scope.nodes[name], place)] if len(flags) > 1 else flags[0]

        found: List[Optional[str]] = []
        for node in scope.live(roots):
            inputs = scope.inputs(node)
            flags = [does_vary(x) for x in inputs]
            if node.op in self._library or node.op in (*_CALLS, *CONTROL_FLOW):
                varies[node.name], holds = self._of_functions(scope, node, flags, always)
                found.append(holds)
                continue
            source = not inputs and node.op not in ("Const", "NoOp")
            varies[node.name] = [node.op not in _OF_SHAPES and (any(flags) or source)]
            if node.op.startswith("Placeholder"):
                varies[node.name] = [node.name in given]
            if node.op == "Assert" and (always or flags[0]):
                found.append(inputs[0])
            check = check_of(node)
            if check and any(flags[i] or self._may(scope, inputs[i], always) for i in check.inputs):
                found.append(scope.graft(check.holds, list(zip(inputs, dtypes(node)))))
        return [holds for holds in found if holds is not None], does_vary

    def _may(self, scope: Scope, tensor: str, always: bool) -> bool:
        """Whether a tensor that does not vary has to be checked all the same."""
        node = scope.nodes.get(scope.source(tensor).split(":")[0])
        return always and (node is None or node.op != "Const")

    def _position(self, node: NodeDef, place: List[str]) -> int:
        """Return the position of an output among all outputs of a node that calls functions."""
        if node.op in self._library and len(place) == 2:
            names = [arg.name for arg in self._library[node.op].signature.output_arg]
            return names.index(place[0])
        return int(place[-1]) if place else 0

    def _of_functions(
        self, scope: Scope, node: NodeDef, flags: List[bool], always: bool
    ) -> Tuple[List[bool], Optional[str]]:
        """Let a node that calls functions return whether their checks hold."""
        if node.op.endswith("While"):
            return self._loop(scope, node, flags, always)
        if node.op.endswith(("If", "Case")):
            return self._branches(scope, node, flags, always)
        by_name = node.op in self._library
        name = node.op if by_name else node.attr["f"].func.name
        found = self._checked(name, flags, always)
        if found.holds is None:
            return found.varies, None
        variant = self._variant(found, "call")
        if by_name:
            node.op = variant
            return found.varies, scope.output(node.name, _HOLDS, 0, len(found.varies))
        node.attr["f"].func.name = variant
        return found.varies, self._one_more_output(scope, node, "Tout")

    def _branches(
        self, scope: Scope, node: NodeDef, flags: List[bool], always: bool
    ) -> Tuple[List[bool], Optional[str]]:
        attr = node.attr
        branches = (
            attr["branches"].list.func
            if node.op.endswith("Case")
            else [attr["then_branch"].func, attr["else_branch"].func]
        )
        found = [self._checked(f.name, flags[1:], always or flags[0]) for f in branches]
        varies = [flags[0] or any(of_each) for of_each in zip(*[f.varies for f in found])]
        checked = [f for f in found if f.holds]
        if not checked:
            return varies, None
        for func, f in zip(branches, found):
            func.name = self._variant(f, "call")
        holds = self._one_more_output(scope, node, "Tout")
        if node.op.endswith("If") and found[0].holds is None:
            # An assertion that is run where its condition does not hold: this is the condition.
            inputs, (last,) = scope.inputs(node), checked
            arguments = [arg.name for arg in last.definition.signature.input_arg]
            source = Scope(last.definition.node_def, arguments).source(last.holds or "")
            if source in arguments and inputs[1 + arguments.index(source)] == inputs[0]:
                holds = inputs[0]
        return varies, holds

    def _loop(
        self, scope: Scope, node: NodeDef, flags: List[bool], always: bool
    ) -> Tuple[List[bool], Optional[str]]:
        """Let a loop end where a check fails, and say so."""
        condition, body = node.attr["cond"].func, node.attr["body"].func
        while True:
            after = self._checked(body.name, flags, always).varies
            more = [one or other for one, other in zip(flags, after)]
            if more == flags:
                break
            flags = more
        ends = self._checked(condition.name, flags, always)
        # Whether there is another iteration can depend on what varies.
        always = always or ends.varies[0]
        ends = self._checked(condition.name, flags, always)
        runs = self._checked(body.name, flags, always)
        varies = [True] * len(flags) if ends.varies[0] else flags
        if not (ends.holds or runs.holds):
            return varies, None
        number = len(flags)
        node.input.insert(number, scope.true())
        body.name = self._variant(runs, "body")
        condition.name = self._variant(ends, "condition")
        holds = self._one_more_output(scope, node, "T")
        if not ends.holds:
            return varies, holds
        # The loop has ended because of its condition's own check, or not: what says so?
        last = NodeDef(name=scope.unique(), op="PartitionedCall")
        last.input.extend(scope.output(node.name, "output", i, i) for i in range(number))
        last.attr["Tin"].list.type.extend(node.attr["T"].list.type[:number])
        last.attr["Tout"].list.type.append(ends.definition.signature.output_arg[0].type)
        last.attr["f"].func.name = self._variant(ends, "call")
        scope.add(last)
        of_condition = self._one_more_output(scope, scope.nodes[last.name], "Tout")
        return varies, scope.all_of([holds, of_condition])

    def _one_more_output(self, scope: Scope, node: NodeDef, types: str) -> str:
        """Add a scalar to the outputs of a node that calls functions, and return it."""
        number = len(node.attr[types].list.type)
        node.attr[types].list.type.append(_BOOL)
        if "output_shapes" in node.attr and node.attr["output_shapes"].list.shape:
            node.attr["output_shapes"].list.shape.add()
        node.attr.pop("_output_shapes", None)
        return scope.output(node.name, "output", number, number)

    def _checked(self, name: str, flags: Sequence[bool], always: bool) -> _Checked:
        """Return a function of arguments some of which vary."""
        key = name, tuple(flags), always
        if key not in self._known:
            definition = copy.deepcopy(self._library[name])
            arguments = [arg.name for arg in definition.signature.input_arg]
            scope = Scope(definition.node_def, arguments)
            roots = [*definition.ret.values(), *definition.control_ret.values()]
            effects = [n.name for n in definition.node_def if n.op in {"Assert", *STATELESS}]
            given = {name for name, varies in zip(arguments, flags) if varies}
            found, does_vary = self.rewrite(scope, [*roots, *effects], given, always)
            outputs = [arg.name for arg in definition.signature.output_arg]
            varies = [does_vary(definition.ret[name]) for name in outputs]
            holds = scope.all_of(found) if found else None
            if holds:
                _keep_what_returns(definition, scope, holds)
            self._known[key] = _Checked(definition, holds, varies, {})
        return self._known[key]

    def _variant(self, function: _Checked, kind: str) -> str:
        """Return the name of a function that returns whether checks hold, too.

        Parameters
        ----------
        function : _Checked
        kind : {"call", "body", "condition"}
            Conditions and bodies of loops get what the iteration before returned as one more
            argument. Conditions return one number as before.
        """
        if kind not in function.variants:
            definition = copy.deepcopy(function.definition)
            signature = definition.signature
            scope = Scope(definition.node_def, [arg.name for arg in signature.input_arg])
            if kind != "call":
                signature.input_arg.add(name=_HELD, type=_BOOL)
                if "_input_shapes" in definition.attr:
                    definition.attr["_input_shapes"].list.shape.add()
            if kind == "condition":
                (output,) = [arg.name for arg in signature.output_arg]
                own = [function.holds] if function.holds else []
                definition.ret[output] = scope.all_of([definition.ret[output], _HELD, *own])
            else:
                signature.output_arg.add(name=_HOLDS, type=_BOOL)
                definition.ret[_HOLDS] = function.holds or scope.true()
            signature.name = f"{signature.name.split('_of_')[0]}_checked_{len(self.made)}"
            function.variants[kind] = signature.name
            self._library[signature.name] = definition
            self.made.append(definition)
        return function.variants[kind]


def _keep_what_returns(definition: Any, scope: Scope, holds: str) -> None:
    """Delete the assertions of a function, and what only they need."""
    for name, node in list(definition.control_ret.items()):
        if scope.nodes[node].op in {"Assert", *STATELESS}:
            del definition.control_ret[name]
            definition.signature.control_output.remove(name)
    scope.wait_for_no(STATELESS)
    scope.drop("Assert")
    roots = [*definition.ret.values(), *definition.control_ret.values(), holds]
    scope.keep([node.name for node in scope.live(roots)])


# -- the whole graph ---------------------------------------------------------------------------


def add(
    graph_def: GraphDef, outputs: Sequence[str], varying: Optional[Sequence[str]] = None
) -> Optional[str]:
    """Add to a graph whether all of its checks hold.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place if there are checks. Assertions go.
    outputs : sequence of str
        Tensors that are fetched.
    varying : sequence of str, optional
        The placeholders for which values come that are not known to pass. What depends on the
        others only is not checked. Default: everything is.

    Returns
    -------
    str or None
        The scalar tensor that says so. None if nothing is to be checked, or if there is control
        flow of version 1: see `are_out_of_reach`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
    ... def square_root(x):
    ...     tf.debugging.assert_positive(x)
    ...     return tf.sqrt(x)
    >>> graph = square_root.get_concrete_function().graph
    >>> graph_def = graph.as_graph_def()
    >>> holds = add(graph_def, ["Identity:0"])
    >>> with tf.Graph().as_default() as checked, tf.compat.v1.Session() as session:
    ...     tf.import_graph_def(graph_def, name="")
    ...     print(session.run(["Identity:0", holds], {"x:0": -1.0}))
    [nan, False]
    """
    rewritten = _rewritten(graph_def, outputs, varying)
    if rewritten is None:
        return None
    graph, scope, found = rewritten
    holds = scope.all_of(found)
    scope.drop("Assert")
    inputs = [node.name for node in graph.node if node.op.startswith("Placeholder")]
    prune(graph, [*outputs, holds], inputs)
    name_functions(graph)
    define_functions(graph)
    graph_def.CopyFrom(graph)
    return holds if ":" in holds else f"{holds}:0"


def are_in(
    graph_def: GraphDef, outputs: Sequence[str], varying: Optional[Sequence[str]] = None
) -> bool:
    """Whether `add` would find checks."""
    return _rewritten(graph_def, outputs, varying) is not None


def are_out_of_reach(graph_def: GraphDef) -> bool:
    """Whether a graph has checks that stay what they are, for control flow of version 1."""
    ops = {node.op for node in every_node(graph_def)}
    return bool(ops & _VERSION_1 and ops & {"Assert", "CheckNumerics", "CheckNumericsV2"})


def _rewritten(graph_def: GraphDef, outputs: Sequence[str], varying: Any) -> Any:
    ops = {node.op for node in every_node(graph_def)}
    if ops & _VERSION_1 or not ops & {"Assert", "StridedSlice", *CHECKS}:
        return None
    graph = GraphDef.FromString(graph_def.SerializeToString())
    scope = Scope(graph.node)
    inputs = [node.name for node in graph.node if node.op.startswith("Placeholder")]
    given = {name for name in inputs if varying is None or name in varying}
    functions = _Functions(graph)
    found, _ = functions.rewrite(scope, outputs, given, always=varying is None)
    graph.library.function.extend(functions.made)
    scope.wait_for_no(STATELESS)
    for node in every_node(graph):
        # Without assertions they have no effect, and two that are the same can become one.
        node.op = STATELESS.get(node.op, node.op)
    return (graph, scope, found) if found else None


def guard(
    graph_def: GraphDef, outputs: Sequence[str], varying: Optional[Sequence[str]] = None
) -> List[str]:
    """Make the first output, a scalar of float64, NaN where a check fails.

    Parameters
    ----------
    graph_def, outputs, varying
        As `add` takes them.

    Returns
    -------
    list of str
        What is to be fetched now.
    """
    holds = add(graph_def, outputs, varying)
    if holds is None:
        return list(outputs)
    value = Scope(graph_def.node).graft(
        lambda holds, value: tf.where(holds, value, tf.constant(np.nan, value.dtype)),
        [(holds, tf.bool), (outputs[0], tf.float64)],
    )
    return [f"{value}:0", *outputs[1:]]
