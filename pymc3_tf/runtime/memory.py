"""A limit on the memory of this process, of which compiling takes much at once."""

from __future__ import annotations

import functools
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

# Addresses that the first program of a process takes, threads and libraries included, however
# small it is: 630 MB, measured with TensorFlow 2.17 on two cores.
FIRST_PROGRAM = 600 << 20

_USED = Path("/proc/self/statm")


def in_use() -> int:
    """Return how many bytes of addresses this process has."""
    return int(_USED.read_text().split()[0]) * resource.getpagesize()


@functools.lru_cache(maxsize=None)
def require_room() -> None:
    """Refuse to compile the first program of a process that has no room for it.

    XLA and the threads of TensorFlow do not say that memory is short: they end the process, and all
    that a session holds is lost.

    Raises
    ------
    MemoryError
        If the limit (``ulimit -v``) leaves less than `FIRST_PROGRAM`.
    """
    if resource is None or not _USED.exists():
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    room = limit - in_use()
    if room < FIRST_PROGRAM:
        raise MemoryError(
            f"the limit on the memory of this process (ulimit -v) leaves {room >> 20} MB, and "
            f"compiling a model with XLA takes at least {FIRST_PROGRAM >> 20} MB. Raise the limit, "
            "or sample with pm.sample()."
        )
