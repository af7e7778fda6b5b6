"""Theano graphs as TensorFlow functions.

`link` turns a graph (a whole PyMC3 model, its TFDensity programs included) into a function that
TensorFlow differentiates and XLA compiles. ``theano.function(..., mode="TF")`` evaluates a graph on
TensorFlow. `tf_funcify` is where translations of further ops are registered.
"""

from pymc3_tf.linker import (  # noqa: F401  # translations register themselves
    basic,
    control,
    elemwise,
    linalg,
    nnet,
    programs,
    pymc3_ops,
    random,
    scalar,
    subtensor,
)
from pymc3_tf.linker.dispatch import tf_funcify
from pymc3_tf.linker.graph import Linked, link
from pymc3_tf.linker.mode import TFLinker
from pymc3_tf.linker.programs import compile_alone

__all__ = ["Linked", "TFLinker", "compile_alone", "link", "tf_funcify"]
