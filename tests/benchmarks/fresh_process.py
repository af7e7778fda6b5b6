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
WARM_UP_POINTS = 50
# Memory that has been freed goes back to the system at once: what remains is in use. By default
# both the C library and TensorFlow's oneDNN keep it for the next evaluation.
FREE_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "100000", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}


def memory(method, points):
    """Return by how many bytes a fresh process grows for the data of a method.

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
        x and y were there. ``peak``: the same of the highest memory in between.
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
    flags = environment.get("THEANO_FLAGS", "")
    if "blas__ldflags" not in flags:
        # PyMC3 3.11.4 cannot be imported without it beside a recent NumPy, unless pymc3_tf is first.
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
    from line_methods import METHODS, line_data, new_points

    def evaluate(x, y, seed):
        method = METHODS[name](x, y)
        for argument in method.arguments(new_points(np.random.default_rng(seed), EVALUATIONS)):
            method.evaluate(argument)
        return method

    x, y = line_data(points)
    # Thread pools, lazy imports and compilers come with the first use, whatever the data.
    first = evaluate(*line_data(WARM_UP_POINTS), seed=1)
    before, all_before = _settled_memory()
    _reset_peak()
    second = evaluate(x, y, seed=2)
    peak = _status("VmHWM")
    after, _ = _settled_memory()
    del first, second
    return {"data": x.nbytes + y.nbytes, "growth": after - before, "peak": peak - all_before}


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
