"""What XLA can compile."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List

import tensorflow as tf

from pymc3_tf.private_tensorflow import registered_kernels
from pymc3_tf.programs.serialized import GraphDef, NodeDef, called_functions, every_node

# A forked process cannot start XLA.
_STARTED_IN = os.getpid()

# What XLA is not asked to compile: inputs, and the control flow of version 1, which it rewrites.
_WITHOUT_KERNEL = {
    "Placeholder", "PlaceholderWithDefault",
    "Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch",
}  # fmt: skip

# XLA's kernels of the ops that were looked up.
_found: Dict[str, List[Any]] = {}


def unsupported_by_xla(graph_def: GraphDef) -> List[str]:
    """Return the ops of a graph that XLA cannot compile on a processor.

    It is what TensorFlow knows before it compiles: that it has no kernel for an op and its dtypes.
    There are other reasons to fail, such as loops without a known bound.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        With the library of the functions that it calls.

    Returns
    -------
    list of str
        Names of the ops, such as ``"SegmentSum"``, in alphabetic order. Empty in a forked process
        whose parent had not used XLA, where it cannot be asked.

    Examples
    --------
    >>> with tf.Graph().as_default() as graph:
    ...     digits = tf.strings.as_string(tf.sin(tf.constant(1.0)))
    >>> unsupported_by_xla(graph.as_graph_def())
    ['AsString']
    """
    if not _is_ready():
        return []
    known = {f.signature.name for f in graph_def.library.function} | _WITHOUT_KERNEL
    nodes = [node for node in every_node(graph_def) if node.op not in known]
    return sorted(
        {node.op for node in nodes if not any(_fits(kernel, node) for kernel in _kernels(node.op))}
    )


def compiled_by_xla(graph_def: GraphDef) -> Callable[[NodeDef], bool]:
    """Return a function that says of a node whether XLA has kernels for it and what it calls.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        With the library of the functions that its nodes call.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    known: Dict[str, bool] = {}
    if not _is_ready():
        return lambda node: True

    def body(name: str) -> bool:
        if name not in known:
            known[name] = True  # a function that calls itself
            known[name] = all(map(is_compiled, functions[name].node_def))
        return known[name]

    def is_compiled(node: NodeDef) -> bool:
        called = [name for name in called_functions(node) if name in functions]
        plain = node.op in functions or node.op in _WITHOUT_KERNEL
        return all(map(body, called)) and (
            plain or any(_fits(kernel, node) for kernel in _kernels(node.op))
        )

    return is_compiled


def _is_ready() -> bool:
    """Have XLA register its kernels, which it does when it first compiles."""
    if not _kernels("Identity") and os.getpid() == _STARTED_IN:
        tf.function(tf.identity, jit_compile=True)(tf.constant(0.0))
    return bool(_kernels("Identity"))


def _kernels(op: str) -> List[Any]:
    # Looking them up takes a good part of a millisecond. Those of XLA come all at once and stay.
    if not _found.get(op):
        every = registered_kernels(op)
        _found[op] = [kernel for kernel in every if kernel.device_type == "XLA_CPU_JIT"]
    return _found[op]


def _fits(kernel: Any, node: NodeDef) -> bool:
    """Whether a kernel takes the dtypes of a node. Lists of dtypes XLA takes as they come."""
    return all(
        node.attr[constraint.name].type in (0, *constraint.allowed_values.list.type)
        for constraint in kernel.constraint
    )
