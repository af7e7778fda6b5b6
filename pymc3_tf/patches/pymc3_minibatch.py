"""Makes ``pm.Minibatch`` work with NumPy 1.23. Checked against PyMC3 3.11.4 and 3.11.6.

Why: this NumPy takes no list of slices as an index. PyMC3 uses such a list, also as its default,
where it needs a tuple.
"""

from __future__ import annotations

from typing import Any

from pymc3 import Minibatch

_before = getattr(Minibatch.make_static_slices, "_before", Minibatch.make_static_slices)


def _make_static_slices(user_size: Any) -> Any:
    """Return the part of the data that is held in memory, as an index of NumPy."""
    index = _before(user_size)
    # Numbers alone are rows, for every NumPy.
    numbers = isinstance(index, list) and all(isinstance(i, int) for i in index)
    return tuple(index) if isinstance(index, list) and not numbers else index


def install() -> None:
    """Replace PyMC3's own."""
    _make_static_slices._before = _before  # type: ignore[attr-defined]
    Minibatch.make_static_slices = staticmethod(_make_static_slices)
