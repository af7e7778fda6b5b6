"""Random ops whose seed is state: frozen, they would draw the same numbers for ever."""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from pymc3_tf.capture.freezing import VARIABLE_OPS
from pymc3_tf.exceptions import UnsupportedOpError
from pymc3_tf.gradients.ways import Body, Reach, Ways, dtypes_of
from pymc3_tf.programs.serialized import every_node, node_of

_SEEDS = ("seed", "key", "counter")


def refuse_frozen_seeds(graph_def: Any, arguments: Sequence[str], name: str) -> None:
    """Refuse stateless random ops whose seed comes from a variable that is no input.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Before its variables are frozen.
    arguments : sequence of str
        The tensors, or variables, that are inputs.
    name : str
        What the source is called in error messages.

    Raises
    ------
    pymc3_tf.exceptions.UnsupportedOpError
    """
    if not any(any(_takes_seed(node)) for node in every_node(graph_def)):
        return
    inputs = set(map(node_of, arguments))
    variables = [n for n in graph_def.node if _is_variable(n) and n.name not in inputs]
    ways = _SeedWays(graph_def)
    ways.reach({node.name: 1 for node in variables}, [])
    for node in ways.found:
        raise UnsupportedOpError(
            f"{name} uses {node.op} at the node {node.name!r}: it draws random numbers with a seed "
            "that is the state of a generator, and a log density must give the same number each "
            "time. Call random layers of Keras (Dropout, GaussianNoise, ...), and models that have "
            "them, with training=False; otherwise give the tf.random.stateless_... op a fixed "
            "seed, or make the random quantity a variable of the PyMC3 model."
        )


class _SeedWays(Ways):
    """Finds the random ops that variables seed."""

    def __init__(self, graph_def: Any) -> None:
        super().__init__(graph_def)
        self.found: List[Any] = []

    def through(self, body: Body, node: Any, reaches: List[Reach], known: Any) -> List[Reach]:
        """Return what reaches the outputs of an op, of what reaches its inputs."""
        if any(seed and reach.bits for seed, reach in zip(_takes_seed(node), reaches)):
            self.found.append(node)
        return super().through(body, node, reaches, known)


def _takes_seed(node: Any) -> Iterator[bool]:
    """Say of each input of a node whether it is a seed."""
    definition = op_def_registry.get(node.op)
    if definition is not None and ("Random" in node.op or node.op.startswith("Stateless")):
        for argument, _ in dtypes_of(node, definition.input_arg):
            yield argument in _SEEDS


def _is_variable(node: Any) -> bool:
    # What a function captured is a placeholder yet.
    return node.op in VARIABLE_OPS or (
        node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum
    )
