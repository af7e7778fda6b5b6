"""Puts a program into TensorFlow's current graph: as it is, or for many draws at once."""

from __future__ import annotations

import re
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import tensorflow as tf

from pymc3_tf.exceptions import LibraryError
from pymc3_tf.programs.program import Program
from pymc3_tf.programs.serialized import CONTROL_FLOW, GraphDef, node_of, prune

# Ops that do with each element of their inputs what they do with any other, and broadcast.
_ELEMENTWISE = frozenset(
    "Abs Add AddV2 Acos Acosh Asin Asinh Atan Atan2 Atanh Cast Ceil Cos Cosh Digamma Div DivNoNan "
    "Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Igamma "
    "Igammac Inv IsFinite IsInf IsNan Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot "
    "LogicalOr Maximum Minimum Mul MulNoNan Ndtri Neg NotEqual OnesLike Polygamma Pow RealDiv "
    "Reciprocal Relu Rint Round Rsqrt SelectV2 Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Square "
    "SquaredDifference StopGradient Sub Tan Tanh Xdivy Xlog1py Xlogy ZerosLike Zeta".split()
)


def build(program: Program, tensors: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
    """Add the computation to TensorFlow's current graph.

    Parameters
    ----------
    program : Program
        With one draw of its inputs, or `batched`.
    tensors : dict of str to tf.Tensor
        By node name, for every input and every feed.

    Returns
    -------
    list of tf.Tensor
        The outputs.
    """
    if not program.stacked:
        return _import(program, tensors)
    same = {node: x for node, x in tensors.items() if node not in program.stacked}
    rows = {node: tensors[node] for node in program.stacked}
    rank = elementwise_rank(program)
    if rank is not None:
        return _build_elementwise(program, same, rows, rank)

    def build_draw(row: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        return _import(program, {**same, **row})

    def build_row(row: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        # Tensors from outside come into a function by way of an op only.
        return _import(program, {**{node: tf.identity(x) for node, x in same.items()}, **row})

    def build_loop(rows: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        signature = [
            tf.TensorSpec(None if spec.shape is None else spec.shape[1:], spec.dtype)
            for spec in program.outputs
        ]
        return tf.map_fn(build_row, rows, fn_output_signature=signature)

    if not _has_control_flow(program):
        try:
            return tf.vectorized_map(build_draw, rows, warn=False)
        except (TypeError, ValueError, NotImplementedError):
            pass  # one of its ops has no form for many draws
    # As a function, because there loops are of version 2, whatever the rest of the process has.
    return tf.function(build_loop, autograph=False)(rows)


def importer(
    graph_def: GraphDef, inputs: Sequence[str], outputs: Sequence[str]
) -> Callable[..., List[tf.Tensor]]:
    """Return a function that adds a graph without control flow of version 1 to the current one.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place. Functions have to be defined.
    inputs : sequence of str
        Placeholders, one for each argument.
    outputs : sequence of str
        Tensors that are returned.
    """
    # Placeholders are left out, since XLA cannot compile them even where they stand unused.
    nodes = [node for node in graph_def.node if node.name not in inputs]
    for node in nodes:
        node.attr.pop("_class", None)  # may say to be placed beside a placeholder
        kept = [name for name in node.input if name.lstrip("^") not in inputs or name[0] != "^"]
        node.input[:] = kept
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    used = {name.split(":")[0] for node in nodes for name in node.input}

    def add(*tensors: tf.Tensor) -> Any:
        return tf.import_graph_def(
            graph_def,
            # An identity brings the tensor into the current graph, from those around it.
            input_map={name: tf.identity(x) for name, x in zip(inputs, tensors) if name in used},
            return_elements=list(outputs),
            name="density",
        )

    return add


def _build_elementwise(
    program: Program, same: Mapping[str, tf.Tensor], rows: Mapping[str, tf.Tensor], rank: int
) -> List[tf.Tensor]:
    """Build by broadcasting: the draws come before as many dimensions as any tensor has."""
    aligned = {
        # A stack of scalars is [draw], and becomes [draw, 1, ...].
        node: x[(slice(None), *(None,) * (rank + 1 - x.shape.rank))]
        for node, x in rows.items()
    }
    outputs = _import(program, {**same, **aligned})
    added = [rank + 1 - len(spec.shape or ()) for spec in program.outputs]
    return [tf.squeeze(y, axis=list(range(1, n + 1))) if n else y for y, n in zip(outputs, added)]


def elementwise_rank(program: Program) -> Optional[int]:
    """Return the largest rank of what broadcasts with the stacks; None if other ops use them.

    What is as simple as that is built in a fraction of the time of the general way.
    """
    graph_def = program.graph_without_gradients()
    shapes = [spec.shape for spec in program.inputs + program.outputs]
    if None in shapes:
        return None
    ranks = {s.node: len(s.shape or ()) - (s.node in program.stacked) for s in program.inputs}
    ranks.update({feed.node: feed.array.ndim for feed in program.feeds})
    for node in graph_def.node:
        if node.op == "Const":
            ranks[node.name] = len(node.attr["value"].tensor.tensor_shape.dim)
    inputs = {node.name: [node_of(i) for i in node.input] for node in graph_def.node}
    varying = set(program.stacked)
    ordered = False
    while not ordered:
        found = {name for name, sources in inputs.items() if varying.intersection(sources)}
        ordered = found <= varying
        varying |= found
    ops = {node.name: node.op for node in graph_def.node}
    if any(spec.node not in varying for spec in program.outputs):
        return None
    largest = 0
    for name in varying - set(program.stacked):
        if ops[name] not in _ELEMENTWISE:
            return None
        for source in inputs[name]:
            if source not in varying:
                if source not in ranks:
                    return None
                largest = max(largest, ranks[source])
    return max([largest, *(ranks[node] for node in program.stacked)])


def _has_control_flow(program: Program) -> bool:
    graph_def = program.graph_without_gradients()
    return bool(graph_def.library.function) or any(n.op == "Switch" for n in graph_def.node)


def footprint(program: Program, shapes: Sequence[Tuple[int, ...]]) -> int:
    """Return the bytes of all tensors of one evaluation, as far as their shapes are known.

    Parameters
    ----------
    program : Program
    shapes : sequence of tuple of int
        Shapes of the inputs, for one draw.
    """
    placeholder = tf.compat.v1.placeholder
    with tf.Graph().as_default() as graph:
        tensors = {s.node: placeholder(s.dtype, n) for s, n in zip(program.inputs, shapes)}
        tensors.update({f.node: placeholder(f.array.dtype, f.array.shape) for f in program.feeds})
        _import(program, tensors)
    results = [tensor for op in graph.get_operations() for tensor in op.outputs]
    return sum(t.dtype.size * (t.shape.num_elements() or 1) for t in results)


def _import(program: Program, tensors: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
    graph_def = program.graph_without_gradients() if program.stacked else program.graph()
    outputs = [f"{spec.node}:0" for spec in program.outputs]
    ops = {node.name: node.op for node in graph_def.node}
    for node in graph_def.node:
        source = node_of(node.input[0]) if f"{node.name}:0" in outputs else ""
        if source and source not in tensors and ops[source] not in CONTROL_FLOW:
            # What an output names, rather than one more op to run on each call. Not for
            # control flow, which the optimizer replaces by other ops.
            source = node.input[0] if ":" in node.input[0] else f"{node.input[0]}:0"
            outputs[outputs.index(f"{node.name}:0")] = source
        if node.op == "PlaceholderWithDefault" and node.name not in tensors:
            # As an Identity it can be folded away with what depends on it.
            node.op = "Identity"
            node.attr["T"].CopyFrom(node.attr["dtype"])
            del node.attr["dtype"], node.attr["shape"]
    prune(graph_def, outputs)
    present = {node.name for node in graph_def.node}
    kept = [node for node in graph_def.node if node.name not in tensors]
    del graph_def.node[:]
    # Without the placeholders that are replaced: XLA cannot compile one, used or not.
    graph_def.node.extend(kept)
    try:
        # A prefix of its own: under the names of another import, feeds would get mixed up.
        return tf.import_graph_def(
            graph_def,
            input_map={f"{node}:0": x for node, x in tensors.items() if node in present},
            return_elements=outputs,
            name="program",
        )
    except tf.errors.NotFoundError as error:
        missing = re.search(r"Op type not registered '(\w+)'", error.message)
        if missing is None:
            raise
        raise LibraryError(
            f"{program.outputs[0].label} uses the op {missing[1]}, which this process does not "
            "have. Where the density is declared, load it with pymc3_tf.load_op_library(path) "
            "instead of tf.load_op_library, so that other processes can load it too; or import "
            "the package of the op before unpickling."
        ) from error
