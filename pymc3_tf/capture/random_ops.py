"""Random ops of a graph: made functions of a seed, or refused where their seed would be frozen.

TensorFlow's own seeds belong to a session, which makes its draws depend on all draws before. Those
of a generator are variables; frozen, they would give the same numbers for ever.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from pymc3_tf.capture.freezing import VARIABLE_OPS
from pymc3_tf.exceptions import UnsupportedOpError
from pymc3_tf.gradients.ways import Body, Reach, Ways, dtypes_of
from pymc3_tf.private_tensorflow import is_in_version_1_loop, op_definition
from pymc3_tf.programs.serialized import GraphDef, NodeDef, every_node, node_of, prune


class _Stateless(NamedTuple):
    """The op that draws the same from a seed."""

    op: str
    attributes: Dict[str, str]  # its name of each attribute, by the name that the other op has
    appends: bool = False  # the shape of the draw is followed by that of the parameter
    seed_at: int = 1


_STATELESS = {
    "RandomStandardNormal": _Stateless("StatelessRandomNormal", {"dtype": "dtype", "T": "T"}),
    "RandomUniform": _Stateless("StatelessRandomUniform", {"dtype": "dtype", "T": "T"}),
    "TruncatedNormal": _Stateless("StatelessTruncatedNormal", {"dtype": "dtype", "T": "T"}),
    "RandomUniformInt": _Stateless("StatelessRandomUniformInt", {"Tout": "dtype", "T": "T"}),
    "RandomGamma": _Stateless("StatelessRandomGammaV2", {"T": "dtype", "S": "T"}, True),
    "RandomPoissonV2": _Stateless(
        "StatelessRandomPoisson", {"R": "Rtype", "dtype": "dtype", "S": "T"}, True
    ),
    "Multinomial": _Stateless(
        "StatelessMultinomial", {"T": "T", "output_dtype": "output_dtype"}, False, 2
    ),
}


def seed_random_ops(
    graph_def: GraphDef, graph: tf.Graph, roots: Sequence[str], inputs: Sequence[str]
) -> str:
    """Give each random op a seed of its own, all of them made of one new input.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place.
    graph : tf.Graph
        The graph that it came from, where loops can still be told apart.
    roots, inputs : sequence of str
        Tensors to compute, and tensors to keep whether they are needed or not.

    Returns
    -------
    str
        The tensor of the seed: two numbers of int32.
    """
    prune(graph_def, [*roots, *inputs])
    random = [n for n in graph_def.node if n.op in _STATELESS and not _in_loop(graph, n.name)]
    if not random:
        raise UnsupportedOpError(
            "random has no random op outside of loops and functions, so that all draws would be "
            "the same. Build it from tf.random.normal, uniform, truncated_normal, gamma, poisson "
            "or categorical, or give a function of NumPy instead."
        )
    seed = graph_def.node.add(name="pymc3_tf_seed", op="Placeholder")
    seed.attr["dtype"].type = tf.int32.as_datatype_enum
    seed.attr["shape"].shape.CopyFrom(tf.TensorShape([2]).as_proto())
    for i, node in enumerate(random):
        own = _add(
            graph_def, f"{node.name}/seed", "AddV2", [seed.name, _offset(graph_def, node, i)]
        )
        own.attr["T"].type = tf.int32.as_datatype_enum
        _replace(graph_def, node, own.name)
    return f"{seed.name}:0"


def _in_loop(graph: tf.Graph, name: str) -> bool:
    return is_in_version_1_loop(graph.get_operation_by_name(name))


def _replace(graph_def: GraphDef, node: NodeDef, seed: str) -> None:
    stateless = _STATELESS[node.op]
    if stateless.appends:
        node.input[0] = _whole_shape(graph_def, node)
    data = [i for i in node.input if not i.startswith("^")]
    control = node.input[len(data) :]
    data.insert(stateless.seed_at, seed)
    del node.input[:]
    node.input.extend([*data, *control])
    old = dict(node.attr.items())
    for name in list(node.attr):
        del node.attr[name]
    for name, new in stateless.attributes.items():
        node.attr[new].CopyFrom(old[name])
    node.attr["Tseed"].type = tf.int32.as_datatype_enum
    node.op = stateless.op


def _offset(graph_def: GraphDef, node: NodeDef, i: int) -> str:
    return _constant(graph_def, f"{node.name}/offset", np.array([i, 0], np.int32))


def _whole_shape(graph_def: GraphDef, node: NodeDef) -> str:
    dtype = node.attr["S"].type
    parameter = [a for a in ("T", "R") if a in node.attr][-1]
    shape = _add(graph_def, f"{node.name}/shape", "Shape", [node.input[1]])
    shape.attr["T"].type = node.attr[parameter].type
    shape.attr["out_type"].type = dtype
    axis = _constant(graph_def, f"{node.name}/axis", np.int32(0))
    inputs = [node.input[0], shape.name, axis]
    whole = _add(graph_def, f"{node.name}/whole", "ConcatV2", inputs)
    whole.attr["N"].i = 2
    whole.attr["T"].type = dtype
    whole.attr["Tidx"].type = tf.int32.as_datatype_enum
    return whole.name


def _constant(graph_def: GraphDef, name: str, value: Any) -> str:
    node = _add(graph_def, name, "Const", [])
    proto = tf.make_tensor_proto(value)
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)
    return node.name


def _add(graph_def: GraphDef, name: str, op: str, inputs: Sequence[str]) -> NodeDef:
    return graph_def.node.add(name=f"{name}_of_pymc3_tf", op=op, input=inputs)


# -- seeds that would be frozen ----------------------------------------------------------------

_SEEDS = ("seed", "key", "counter")


def refuse_frozen_seeds(graph_def: GraphDef, arguments: Sequence[str], name: str) -> None:
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

    def __init__(self, graph_def: GraphDef) -> None:
        super().__init__(graph_def)
        self.found: List[NodeDef] = []

    def through(self, body: Body, node: NodeDef, reaches: List[Reach], known: Any) -> List[Reach]:
        """Return what reaches the outputs of an op, of what reaches its inputs."""
        if any(seed and reach.bits for seed, reach in zip(_takes_seed(node), reaches)):
            self.found.append(node)
        return super().through(body, node, reaches, known)


def _takes_seed(node: NodeDef) -> Iterator[bool]:
    """Say of each input of a node whether it is a seed."""
    definition = op_definition(node.op)
    if definition is not None and ("Random" in node.op or node.op.startswith("Stateless")):
        for argument, _ in dtypes_of(node, definition.input_arg):
            yield argument in _SEEDS


def _is_variable(node: NodeDef) -> bool:
    # What a function captured is a placeholder yet.
    return node.op in VARIABLE_OPS or (
        node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum
    )
