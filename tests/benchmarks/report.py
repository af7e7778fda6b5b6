"""What benchmarks have in common: the order of rounds, summaries, tables and what is saved."""

import json
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano

from pymc3_tf import __version__

START = time.perf_counter()


def progress(text):
    """Tell on stderr what is being done, and since when the benchmark runs."""
    print(f"{time.perf_counter() - START:4.0f} s: {text}", file=sys.stderr, flush=True)


def rotated(names, turn):
    """Return names in another order for each turn: another one goes first."""
    start = turn % len(names)
    return names[start:] + names[:start]


def summarize(result, key):
    """Add minimum, maximum and median of a list of numbers."""
    result["minimum"], result["maximum"] = min(result[key]), max(result[key])
    result["median"] = statistics.median(result[key])


def target(text, value, by_rounds=None, *, at_least=None, at_most=None):
    """Return a bound, what was measured, and whether the bound was reached."""
    reached = value >= at_least if at_most is None else value <= at_most
    entry = {"text": text, "value": round(value, 4)}
    if by_rounds is not None:
        entry["by_rounds"] = round(by_rounds, 4)
    entry["target"] = f">= {at_least}" if at_most is None else f"<= {at_most}"
    return {**entry, "reached": bool(reached)}


def print_table(rows):
    """Print rows of text as columns, the first of which is for labels."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  " + "   ".join(cells))


def as_json(results):
    """Return JSON with one line for each list of numbers."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\s+", " ", m.group()), text)


def versions():
    """Return the versions of what is measured."""
    return {
        "python": platform.python_version(),
        "pymc3_tf": __version__,
        "pymc3": pm.__version__,
        "theano": theano.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def machine():
    """Return what timings depend on, and nothing by which the machine could be known."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = found.group(1) if found else model
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "theano_compiles_c": bool(theano.config.cxx),
        "load_before": os.getloadavg()[0],
    }
