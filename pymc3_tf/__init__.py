"""Bayesian inference with PyMC3 for log densities written in TensorFlow.

Importing it makes ``pymc3.TFDensity`` exist.
"""

import pymc3_tf._theano  # noqa: F401  # isort: skip  # before anything imports theano

import pymc3

import pymc3_tf.linker  # noqa: F401  # registers the mode "TF" with Theano
import pymc3_tf.rewrites  # noqa: F401  # registers itself with Theano
from pymc3_tf import exceptions
from pymc3_tf._version import __version__
from pymc3_tf.density import TFDensity
from pymc3_tf.inference_data import install as _install_converter
from pymc3_tf.libraries import load_op_library
from pymc3_tf.minibatches import install as _install_minibatches
from pymc3_tf.op import TensorFlowOp
from pymc3_tf.posterior import evaluate
from pymc3_tf.reports import install as _install_reports
from pymc3_tf.sampling import sample
from pymc3_tf.saved_model import load

__all__ = [
    "TFDensity",
    "TensorFlowOp",
    "__version__",
    "evaluate",
    "exceptions",
    "load",
    "load_op_library",
    "sample",
]

if getattr(pymc3, "TFDensity", TFDensity).__module__ == TFDensity.__module__:
    pymc3.TFDensity = TFDensity

_install_converter()
_install_minibatches()
_install_reports()
