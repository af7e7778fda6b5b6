"""Bayesian inference with PyMC3 for log densities written in TensorFlow.

Importing it makes ``pymc3.TFDensity`` exist.
"""

import pymc3_tf.patches.theano_import  # noqa: F401  # isort: skip  # before anything imports theano

import pymc3
import theano

import pymc3_tf.bridge.rewrites  # noqa: F401  # registers itself with Theano
import pymc3_tf.linker  # noqa: F401  # registers the mode "TF" with Theano
from pymc3_tf import exceptions, patches
from pymc3_tf._version import __version__
from pymc3_tf.bridge.op import TensorFlowOp
from pymc3_tf.capture.saved_model import load
from pymc3_tf.checking.check import check, verify_grad
from pymc3_tf.checking.timing import profile
from pymc3_tf.citations import citations
from pymc3_tf.model.density import TFDensity
from pymc3_tf.model.posterior import evaluate
from pymc3_tf.programs.libraries import load_op_library
from pymc3_tf.sampling.sample import sample

__all__ = [
    "TFDensity",
    "TensorFlowOp",
    "__version__",
    "check",
    "citations",
    "evaluate",
    "exceptions",
    "load",
    "load_op_library",
    "profile",
    "sample",
    "verify_grad",
]

if getattr(pymc3, "TFDensity", TFDensity).__module__ == TFDensity.__module__:
    pymc3.TFDensity = TFDensity

patches.install()
if patches.theano_import.mode_is_tf:
    theano.config.mode = "TF"
