"""Softmax and its relatives, into which Theano rewrites some expressions."""

from __future__ import annotations

import tensorflow as tf
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.tensor.nnet import nnet

from pymc3_tf.linker.dispatch import Translation, Value, tf_funcify


@tf_funcify.register(nnet.Softmax)
def _softmax(op: Op, node: Apply) -> Translation:
    return tf.nn.softmax


@tf_funcify.register(nnet.SoftmaxWithBias)
def _softmax_with_bias(op: Op, node: Apply) -> Translation:
    return lambda x, b: tf.nn.softmax(x + b)


@tf_funcify.register(nnet.LogSoftmax)
def _log_softmax(op: Op, node: Apply) -> Translation:
    return tf.nn.log_softmax


@tf_funcify.register(nnet.SoftmaxGrad)
def _softmax_grad(op: Op, node: Apply) -> Translation:
    return lambda g, s: (g - tf.reduce_sum(g * s, 1, keepdims=True)) * s


@tf_funcify.register(nnet.CrossentropyCategorical1Hot)
def _crossentropy(op: Op, node: Apply) -> Translation:
    return lambda p, which: -tf.math.log(tf.gather(p, which, axis=1, batch_dims=1))


@tf_funcify.register(nnet.CrossentropySoftmaxArgmax1HotWithBias)
def _crossentropy_softmax(op: Op, node: Apply) -> Translation:
    def crossentropy_softmax(x: Value, b: Value, which: Value) -> Value:
        logits = x + b
        chosen = tf.gather(tf.nn.log_softmax(logits), which, axis=1, batch_dims=1)
        best = tf.argmax(logits, 1, output_type=node.outputs[2].dtype)
        return [-chosen, tf.nn.softmax(logits), best]

    return crossentropy_softmax
