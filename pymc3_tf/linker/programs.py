"""TensorFlow programs, as parts of another TensorFlow function."""

from __future__ import annotations

from typing import List, Mapping, Sequence

import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op

from pymc3_tf.bridge.op import TensorFlowOp
from pymc3_tf.linker import python
from pymc3_tf.linker.dispatch import (
    CONSTANT_BYTES,
    MissingTranslationError,
    Translation,
    Value,
    resident,
    tf_funcify,
)
from pymc3_tf.programs.building import build
from pymc3_tf.programs.differentiation import pull_back, value_and_vjp
from pymc3_tf.programs.program import Program, TensorSpec
from pymc3_tf.programs.serialized import define_functions


@tf_funcify.register(TensorFlowOp)
def _program(op: Op, node: Apply) -> Translation:
    program = op.program
    if program.cluster:
        raise NotImplementedError(
            f"{program.outputs[0].label} lives on the cluster {program.cluster.target}, and cannot "
            "become a part of another TensorFlow program. Use pm.sample(), or PyMC3's own modes."
        )

    if program.has_version_1_loop and python.is_allowed():
        # Inside of another function, TensorFlow would order its stacks across loops.
        raise MissingTranslationError(
            f"{program.outputs[0].label} has a while loop of version 1. Build its graph after "
            "tf.compat.v1.enable_control_flow_v2()."
        )

    @tf.custom_gradient
    def inlined(*xs: Value) -> Value:
        # Taken now: when TensorFlow asks for the gradient, this trace is over.
        data = {
            id(feed.array): resident(feed.array)
            for feed in program.feeds
            if feed.array.nbytes > CONSTANT_BYTES
        }
        outputs = _build(program, xs, data)

        def gradient(*upstream: Value) -> List[Value]:
            # The program's own pullback: it was made where all of TensorFlow's gradients exist,
            # which a frozen graph no longer has.
            return pull_back(program, xs, upstream, lambda part, ys: _build(part, ys, data))

        return outputs, gradient

    def call(*xs: Value) -> Value:
        specs = zip(xs, program.inputs)
        return inlined(*[_ensured(tf.convert_to_tensor(x, spec.dtype), spec) for x, spec in specs])

    return call


def _ensured(x: Value, spec: TensorSpec) -> Value:
    return x if spec.shape is None else tf.ensure_shape(x, spec.shape)


def _build(program: Program, xs: Sequence[Value], data: Mapping[int, Value]) -> List[Value]:
    define_functions(program.graph())
    nodes = [spec.node for spec in program.inputs] + [feed.node for feed in program.feeds]
    feeds = [data.get(id(feed.array), feed.array) for feed in program.feeds]

    def add(*tensors: Value) -> List[Value]:
        return build(program, dict(zip(nodes, tensors)))

    # Programs are graphs: outside of a function, they get one of their own.
    place = tf.function(add, autograph=False) if tf.executing_eagerly() else add
    # An identity brings a tensor into the current graph, from those around it.
    return place(*xs, *map(tf.identity, feeds))


def compile_alone(program: Program) -> None:
    """Compile a program by XLA, to see whether it can.

    Raises
    ------
    tf.errors.OpError
        If it cannot.
    """
    both = value_and_vjp(program) if program.pullback else program
    shapes = [[n or 1 for n in spec.shape or ()] for spec in both.inputs]
    xs = [tf.ones(shape, spec.dtype) for shape, spec in zip(shapes, both.inputs)]
    tf.function(lambda *x: _build(both, x, {}), autograph=False, jit_compile=True)(*xs)
