"""Plugin of pytest: Theano functions of all tests are computed in the mode "TF"."""

import pymc3_tf  # noqa: F401  # isort: skip  # before Theano, for Python 3.11

import theano

theano.config.mode = "TF"
