"""Random ops of Theano, which draw new numbers at each evaluation: they are refused."""

from __future__ import annotations

from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.sandbox.rng_mrg import mrg_uniform_base
from theano.tensor.random.op import RandomVariable

from pymc3_tf.linker.dispatch import Translation, tf_funcify


@tf_funcify.register(mrg_uniform_base)
@tf_funcify.register(RandomVariable)
def _refuse(op: Op, node: Apply) -> Translation:
    raise NotImplementedError(
        "the graph draws random numbers at each evaluation, with which a log density would never "
        "be the same twice. pm.Minibatch is for ADVI (pm.fit): give the whole data, without "
        "total_size. Of another random stream, make a variable of the model, such as pm.Normal."
    )
