"""Loops, conditions and graphs within graphs."""

from __future__ import annotations

from typing import Any, Callable, List

import numpy as np
import tensorflow as tf
from theano.compile.builders import OpFromGraph
from theano.gradient import DisconnectedType
from theano.graph.null_type import NullType
from theano.ifelse import IfElse
from theano.scan.op import Scan

from pymc3_tf.linker.dispatch import as_sizes, is_known, static_shape, tf_funcify
from pymc3_tf.linker.graph import evaluate, rewritten


@tf_funcify.register(IfElse)
def _if_else(op: Any, node: Any) -> Callable[..., Any]:
    def if_else(condition: Any, *branches: Any) -> Any:
        then, otherwise = branches[: op.n_outs], branches[op.n_outs :]
        if is_known(condition):
            return list(then if condition else otherwise)
        return tf.cond(
            tf.cast(condition, tf.bool),
            lambda: [tf.convert_to_tensor(x) for x in then],
            lambda: [tf.convert_to_tensor(x) for x in otherwise],
        )

    return if_else


@tf_funcify.register(OpFromGraph)
def _op_from_graph(op: Any, node: Any) -> Callable[..., Any]:
    graph = rewritten(op.local_inputs, op.local_outputs)
    nodes = graph.toposort()

    def call(*xs: Any) -> List[Any]:
        arguments = [tf.convert_to_tensor(x) for x in xs]
        return [tf.convert_to_tensor(y) for y in evaluate(graph, nodes, arguments)]

    return call
