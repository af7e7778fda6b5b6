"""Where a density runs: on one of two logical processors, as no GPU is at hand."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from support import QUIET, logp_dlogp

from pymc3_tf import TensorFlowOp
from pymc3_tf.exceptions import DeclarationError
from pymc3_tf.programs.differentiation import differentiated, value_and_vjp, vjp
from pymc3_tf.runtime import devices, forks, functions

# Large enough to be kept in a variable instead of the graph.
DATA = np.linspace(0.0, 1.0, 10_000)


def normal(y, mu):
    return -0.5 * tf.square(y - mu)


def model_on(device):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.TFDensity("y", normal, {"mu": mu}, feed_dict={"y": DATA}, device=device)
    return model


def placement(program, values):
    """Return the devices of the nodes that a call runs, by what the nodes compute."""
    function = functions.function(program)
    options = tf.compat.v1.RunOptions(output_partition_graphs=True)
    metadata = tf.compat.v1.RunMetadata()
    # Programs of one graph share a session, to which each comes under a name of its own.
    names = {op.name for op in function.home.graph.get_operations()}
    last = function.graph.outputs[0].split(":")[0]
    scope = max(name.split("/")[0] for name in names if name.split("/", 1)[1:] == [last])
    tensors = [f"{scope}/{name}" for name in function.graph.outputs]
    feed = {f"{scope}/{name}": x for name, x in zip(function.graph.inputs, values)}
    function.home.session.run(tensors, feed, options=options, run_metadata=metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    return {node.op: node.device.split("/")[-1] for node in nodes if node.op[0] != "_"}


def test_density_its_gradient_and_its_data_are_on_the_device():
    found = logp_dlogp(model_on("/CPU:1"), offset=0.3)
    expected = logp_dlogp(model_on(None), offset=0.3)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-14)
    density = model_on("/CPU:1").y.distribution
    program = value_and_vjp(density.program.bind({density.program.inputs[0].node: DATA}).sum())
    where = placement(program, [np.array(0.3)])
    assert {"ReadVariableOp", "VarHandleOp", "Sum"} <= set(where)
    assert set(where.values()) == {"device:CPU:1"}
    plain = program.on("")
    assert set(placement(plain, [np.array(0.3)]).values()) == {"device:CPU:0"}
    assert plain != program


def test_second_derivative_is_on_the_device():
    density = model_on("/CPU:1").y.distribution
    assert differentiated(vjp(density.program.sum())).device == density.program.device
    assert density.program.device == "/device:CPU:1"


@pytest.mark.parametrize("device", ["/CPU:1", "CPU:1", "/device:CPU:1", "/cpu:1"])
def test_spellings_of_a_device(device):
    op = TensorFlowOp(tf.square, [tf.TensorSpec([], tf.float64)], device=device)
    assert op.program.device == "/device:CPU:1"
    assert placement(op.program, [np.array(3.0)])["Square"] == "device:CPU:1"


def test_forked_chains_are_on_the_device():
    def sampled(device):
        with model_on(device):
            return pm.sample(
                20,
                tune=20,
                chains=2,
                cores=2,
                random_seed=1,
                **QUIET,
                return_inferencedata=False,
            )["mu"]

    np.testing.assert_array_equal(sampled("/CPU:1"), sampled(None))


@pytest.mark.parametrize("device", ["GPU", "gpu:0", "/GPU:7"])
def test_device_that_is_not_there(device):
    with pytest.raises(DeclarationError, match=r"TensorFlow sees no GPU here. Leave device out"):
        model_on(device)


@pytest.mark.parametrize("device", ["", "the fast one", "/job:worker/GPU:0"])
def test_what_is_no_device(device):
    with pytest.raises(DeclarationError, match="Give one such as '/GPU:0' or '/CPU:0'."):
        TensorFlowOp(tf.square, [tf.TensorSpec([], tf.float64)], device=device)


def test_gpus_are_shared_by_chains_and_do_not_survive_a_fork():
    config = tf.compat.v1.ConfigProto()
    devices.require("/device:GPU:0", config)
    assert config.gpu_options.allow_growth
    assert not config.device_count
    assert not devices.survives_fork("/device:GPU:0")
    assert devices.survives_fork("/device:CPU:1") and devices.survives_fork("")


def test_forked_process_refuses_a_gpu(monkeypatch):
    op = TensorFlowOp(tf.square, [tf.TensorSpec([], tf.float64)])
    monkeypatch.setattr(forks, "depth", 1)
    with pytest.raises(RuntimeError, match=r"cannot use /device:GPU:0. Give .*, without a preload"):
        functions.function(op.program.on("/device:GPU:0"))
