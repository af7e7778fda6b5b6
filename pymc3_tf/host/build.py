"""Libraries of C++ beside this file: built on first use, kept in a cache, loaded once a process.

What is built fits one installed TensorFlow, one compiler and one processor, which are in its name.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import List, Optional

import tensorflow as tf

_FOLDER = Path(__file__).parent
# A compiler that takes longer than that does not work.
_SECONDS = 600

_log = logging.getLogger("pymc3")
_lock = threading.Lock()
_running: List[str] = []


def library(name: str) -> Optional[ctypes.CDLL]:
    """Return a library, whose routines XLA can call from then on.

    Parameters
    ----------
    name : str
        That of its source, such as ``"routines"``.

    Returns
    -------
    ctypes.CDLL or None
        None on a machine with a GPU, where XLA does not call the host, and where it cannot be
        built. The log says why, once.
    """
    if tf.config.list_physical_devices("GPU"):
        return None
    with _lock:
        return loaded(name)


@functools.lru_cache(None)
def loaded(name: str) -> Optional[ctypes.CDLL]:
    """Return a library of this process, built if need be; None, said once, if that fails."""
    try:
        path = built(name)
        found = ctypes.CDLL(str(path))
        found.pymc3_tf_register()
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        reason = (lines or error.stderr.splitlines() or [str(error)])[0]
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        reason = str(error)
    else:
        return found
    _log.info(
        "The C++ routines of pymc3_tf cannot be used, and sampling goes on without them. Large "
        "matrices take longer so. The reason: %s",
        reason,
    )
    return None


def built(name: str) -> Path:
    """Return the path of a library. Build it if that was not done before."""
    source = _FOLDER / f"{name}.cc"
    command = [*_compiler(), *_flags()]
    digest = hashlib.sha256(" ".join(command).encode())
    digest.update(_target(command[: len(_compiler())]))
    for file in (source, _FOLDER / "call.h"):
        digest.update(file.read_bytes())
    path = cache() / f"{name}-tf{tf.__version__}-{digest.hexdigest()[:16]}.so"
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _log.info("Building the C++ routines of pymc3_tf (%s), which is done once.", name)
    # Under a name of its own until it is whole: another process may build it at the same time.
    handle, unfinished = tempfile.mkstemp(".so", f"{name}-", path.parent)
    os.close(handle)
    _running.append(name)
    try:
        _run([*command, str(source), "-o", unfinished, *_libraries()])
        os.replace(unfinished, path)
    finally:
        _running.remove(name)
        if os.path.exists(unfinished):
            os.unlink(unfinished)
    return path


def under_way() -> str:
    """Say what the compiler is building; empty if it is at rest."""
    return "".join(f"building the C++ routines ({name})" for name in _running[:1])


def cache() -> Path:
    """Return the folder of what was built: ``pymc3_tf`` below the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pymc3_tf"


def _compiler() -> List[str]:
    return shlex.split(os.environ.get("CXX") or "g++")


def _flags() -> List[str]:
    # Without AVX-512 Eigen compiles in a third of the time, and runs no slower.
    narrow = ["-mno-avx512f"] if platform.machine() == "x86_64" else []
    return [
        *("-O2", "-march=native", *narrow, "-DNDEBUG"),
        *("-shared", "-fPIC", "-fvisibility=hidden"),
        *tf.sysconfig.get_compile_flags(),
    ]


def _libraries() -> List[str]:
    folder = os.path.dirname(tf.__file__)
    links = [*tf.sysconfig.get_link_flags(), f"-L{folder}", "-l:libtensorflow_cc.so.2"]
    return [*links, f"-Wl,-rpath,{folder}"]


def _target(compiler: List[str]) -> bytes:
    """Return what the compiler says of itself and of this processor."""
    return _run([*compiler, "-march=native", "-E", "-v", "-x", "c++", os.devnull]).encode()


def _run(command: List[str]) -> str:
    done = subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=_SECONDS,
    )
    return done.stderr
