"""Repairs of other libraries, with a module for each.

`theano_import` is installed by being imported, before anything imports Theano. The others are in
the list here.
"""


def install() -> None:
    """Install all patches. Installing them again changes nothing."""
    # Not above: they import Theano.
    from pymc3_tf.patches import (
        arviz_converter,
        pymc3_chains,
        pymc3_minibatch,
        pymc3_reports,
        theano_memory,
    )

    for patch in (theano_memory, arviz_converter, pymc3_minibatch, pymc3_reports, pymc3_chains):
        patch.install()
