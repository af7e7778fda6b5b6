"""Evaluations at which TensorFlow failed or found no number: counted until somebody tells of them.

Chains run in processes of their own, each of which has its own count.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import dataclasses
import logging
import multiprocessing
import os
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np

# Larger arrays are named, not printed.
_PRINTED = 10

# What TensorFlow says of numbers. Of shapes that do not fit it says other things.
_OF_VALUES = ("was not successful", "not invertible", "Tensor had", "assertion failed")

_log = logging.getLogger("pymc3_tf")


@dataclasses.dataclass
class _Failures:
    first: str
    number: int = 0


_failures: Dict[str, _Failures] = {}
_ignored = contextvars.ContextVar("ignored", default=False)


def is_of_values(text: str) -> bool:
    """Whether TensorFlow's message is about numbers, which may be others the next time."""
    return any(words in text for words in _OF_VALUES)


def describe(labels: Sequence[Optional[str]], values: Sequence[np.ndarray]) -> str:
    """Return the values of inputs in words, except for those without a label."""
    texts = []
    for label, value in zip(labels, values):
        if label is None:
            continue
        if value.ndim == 0:
            text = f"{value:.6g}"
        elif value.size > _PRINTED:
            text = f"array of shape {value.shape} from {value.min():.6g} to {value.max():.6g}"
        else:
            text = np.array2string(value, precision=6, separator=", ", max_line_width=10**4)
        texts.append(f"{label} = {text}")
    return ", ".join(texts) or "no inputs"


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Neither count failures nor raise errors for them, while Theano computes test values.

    PyMC3 has some of zeros, wherever the support of the model is.
    """
    token = _ignored.set(True)
    try:
        yield
    finally:
        _ignored.reset(token)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Count failures apart from those before, which are what is counted again afterwards."""
    before = dict(_failures)
    _failures.clear()
    try:
        yield
    finally:
        _failures.clear()
        _failures.update(before)


def are_ignored() -> bool:
    """Whether failures do not matter at present."""
    return _ignored.get()


def record(key: str, text: str, number: int = 1) -> None:
    """Count failures of the graph with a key; the text of the first one is kept."""
    if are_ignored():
        return
    _failures.setdefault(key, _Failures(text)).number += number


def take() -> List[str]:
    """Return a text for each graph that failed since the last time."""
    texts = [
        f"A TFDensity failed in {f.number} evaluation{'s' if f.number > 1 else ''}, where its log "
        f"density was taken for -inf. The first one: {f.first} "
        "Declare it with errors='raise' to stop there."
        for f in _failures.values()
    ]
    _failures.clear()
    return texts


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_failures.clear)


@atexit.register
def _tell() -> None:
    # What no step method reported: failures of find_MAP, of fit, of sample_smc.
    if multiprocessing.current_process().name == "MainProcess":
        for text in take():
            _log.warning(text)
