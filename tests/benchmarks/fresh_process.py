"""What can only be measured in a process of its own: memory, and the time of an import.

``memory`` and ``imports`` start the processes; run as a script, this is what they start.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import time

EVALUATIONS = 10
FEW_POINTS = 50
# Memory that has been freed goes back to the system at once: what remains is in use. By default
# both the C library and TensorFlow's oneDNN keep it for the next evaluation.
FREE_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "100000", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}


def memory(method, points):
    """Return by how many bytes a fresh process grows for a method.

    Parameters
    ----------
    method : str
        Key of ``line_methods.METHODS``.
    points : int
        Points of the line.

    Returns
    -------
    dict
        ``data``: bytes of x and y. ``growth``: memory after some evaluations, less what it was when
        x and y were there; ``peak``: the same of the highest memory in between.
        ``growth_of_50_points`` and ``peak_of_50_points``: the same without data to speak of.
    """
    environment = {**os.environ, **FREE_AT_ONCE}
    return json.loads(_run([__file__, "memory", method, str(points)], environment))


def imports():
    """Return seconds for importing the libraries without and with ``pymc3_tf``.

    Returns
    -------
    dict
        ``libraries``: tensorflow and pymc3 in one process. ``all``: ``pymc3_tf``, then both, in
        another. ``added``: ``pymc3_tf`` after both, in the first.
    """
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have bytecode after the first time
    flags = environment.get("THEANO_FLAGS", "")
    if "blas__ldflags" not in flags:
        # Without it, PyMC3 3.11.4 can only be imported after pymc3_tf.
        environment["THEANO_FLAGS"] = f"{flags},blas__ldflags=".lstrip(",")
    seconds = json.loads(_run([__file__, "libraries"], environment))
    return {**seconds, **json.loads(_run([__file__, "all"], environment))}


def _run(arguments, environment):
    # The libraries' notices of a successful run would come once for each process.
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise RuntimeError(f"{' '.join(arguments[1:])} failed in a process of its own")
    return done.stdout.splitlines()[-1]


# -- in the fresh process ---------------------------------------------------------------------


def _measure_memory(name, points):
    import numpy as np
    from line_methods import METHODS, new_points
    from model_data import line_data

    alive = []

    def growth(x, y):
        before, all_before = _settled_memory()
        _reset_peak()
        method = METHODS[name](x, y)
        rng = np.random.default_rng(len(alive))
        for argument in method.arguments(new_points(rng, EVALUATIONS)):
            method.evaluate(argument)
        peak = _status("VmHWM") - all_before
        alive.append(method)
        return _settled_memory()[0] - before, peak

    x, y = line_data(points)
    small_x, small_y = line_data(FEW_POINTS)
    # Thread pools, lazy imports and compilers come with the first use, whatever the data.
    growth(small_x, small_y)
    few, few_peak = growth(small_x, small_y + 1)
    many, peak = growth(x, y)
    return {
        "data": x.nbytes + y.nbytes,
        "growth": many,
        "peak": peak,
        f"growth_of_{FEW_POINTS}_points": few,
        f"peak_of_{FEW_POINTS}_points": few_peak,
    }


def _settled_memory():
    """Return bytes without and with those of files (libraries), when garbage has been returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("RssAnon"), _status("VmRSS")


def _status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _measure_libraries():
    start = time.perf_counter()
    import tensorflow  # noqa: F401  # isort: skip
    import pymc3  # noqa: F401

    middle = time.perf_counter()
    import pymc3_tf  # noqa: F401

    return {"libraries": middle - start, "added": time.perf_counter() - middle}


def _measure_all():
    start = time.perf_counter()
    import pymc3_tf  # noqa: F401  # isort: skip
    import pymc3  # noqa: F401
    import tensorflow  # noqa: F401

    return {"all": time.perf_counter() - start}


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "memory":
        print(json.dumps(_measure_memory(rest[0], int(rest[1]))))
    else:
        print(json.dumps({"libraries": _measure_libraries, "all": _measure_all}[task]()))
