"""TensorFlow's graph optimizer, called by hand.

A session would run it by itself, at a time when it can hang: it evaluates constants on threads that
a forked child does not have. Here it runs before the fork, and children get its result.
"""

from __future__ import annotations

from typing import Any, Sequence

import tensorflow as tf
from tensorflow.core.protobuf import device_properties_pb2
from tensorflow.python.grappler import cluster as grappler_cluster
from tensorflow.python.grappler import tf_optimizer

_CPU = device_properties_pb2.NamedDevice(
    name="/job:localhost/replica:0/task:0/device:CPU:0",
    properties=device_properties_pb2.DeviceProperties(type="CPU", num_cores=1, frequency=1000),
)


def optimize(graph_def: Any, keep: Sequence[str], optimizers: Sequence[str] = ()) -> Any:
    """Return an optimized graph.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Left unchanged.
    keep : sequence of str
        Nodes and tensors that are fed or fetched.
    optimizers : sequence of str
        Names of Grappler's optimizers. Default: all that a session would run.
    """
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    nodes = meta_graph.graph_def.node
    if not any(node.op == "Enter" for node in nodes):
        # Gradients tie constants to other nodes, which only loops of version 1 need. Pushing such a
        # constant down a product, the optimizer can make a cycle.
        for node in nodes:
            if node.op == "Const":
                del node.input[:]
    meta_graph.collection_def["train_op"].node_list.value.extend(keep)
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.extend(optimizers)
    # It chooses among implementations by device, and prints an error where there is none to choose.
    options.implementation_selector = options.OFF
    # Described rather than probed: probing starts a session, and logs what it finds.
    cluster = grappler_cluster.Cluster(devices=[_CPU])
    return tf_optimizer.OptimizeGraph(config, meta_graph, cluster=cluster)
