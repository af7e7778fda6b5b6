"""What to cite for an analysis. The entries are in ``citations.bib``, which the docs show too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional

import pymc3 as pm

from pymc3_tf._version import __version__
from pymc3_tf.model.density import TFDensity

_PROBABILITY = "dillon2017"


def citations(model: Optional[pm.Model] = None) -> str:
    """Return what to cite for an analysis, as BibTeX.

    These are this package, PyMC3, TensorFlow, the No-U-Turn sampler and ArviZ; and TensorFlow
    Probability, if `model` has a distribution of it or has been sampled by `pymc3_tf.sample`. Cite
    it also if a function of yours uses it.

    Parameters
    ----------
    model : pymc3.Model, optional
        Default: that of the context, if there is one.

    Returns
    -------
    str
        Entries of BibTeX.

    Raises
    ------
    TypeError
        If `model` is something else.

    Examples
    --------
    >>> import pymc3_tf
    >>> print(pymc3_tf.citations())
    @misc{pymc3tf,
      author = {{The pymc3...
    """
    if model is None:
        model = pm.Model.get_context(error_if_none=False)
    elif not isinstance(model, pm.Model):
        raise TypeError(
            f"model is {type(model).__name__}. Give a pm.Model, or nothing inside of 'with model:'."
        )
    text = Path(__file__).with_name("citations.bib").read_text("utf-8")
    # The first one is this package.
    entries = text.replace("\n}", f"\n  note   = {{Version {__version__}}},\n}}", 1).split("\n\n")
    if model is None or not _uses_probability(model):
        entries = [entry for entry in entries if _PROBABILITY not in entry]
    return "\n\n".join(entry.strip() for entry in entries) + "\n"


def _uses_probability(model: pm.Model) -> bool:
    if model.__dict__.get("_pymc3_tf_compiled"):  # by pymc3_tf.sample
        return True
    distributions = [getattr(v, "distribution", None) for v in model.basic_RVs]
    return any(density.is_of_distribution for d in distributions for density in _densities(d))


def _densities(distribution: Any) -> Iterator[TFDensity]:
    """Yield a density, or those that a transform, a mixture or a bound is made of."""
    if isinstance(distribution, TFDensity):
        yield distribution
    elif isinstance(distribution, pm.Distribution):
        for part in vars(distribution).values():
            for inner in part if isinstance(part, (list, tuple)) else [part]:
                yield from _densities(inner)
