"""Plugin of pytest: Theano functions of all tests are computed in the mode "TF"."""

import pymc3_tf  # noqa: F401  # isort: skip  # before Theano, for Python 3.11

import theano


def pytest_configure():
    """Set the mode where pytest takes this for a plugin, and not where it only imports it."""
    theano.config.mode = "TF"
