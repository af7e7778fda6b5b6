"""Work in C++ that takes long and asks nobody whether to go on, such as a compilation by XLA."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import threading
from typing import Any, Callable, TypeVar

_Result = TypeVar("_Result")

# Between two looks whether there was an interruption.
_SECONDS = 0.1


def run(function: Callable[[], _Result]) -> _Result:
    """Return what a function returns. Ctrl-C ends the wait for it at once.

    Python would otherwise see the interruption when the function is back from C++. It goes on by
    itself then, in a thread, and what it returns is dropped.

    Parameters
    ----------
    function : callable

    Examples
    --------
    >>> run(lambda: 1 + 1)
    2
    """
    future: concurrent.futures.Future[_Result] = concurrent.futures.Future()
    # A thread that the end of the process does not wait for.
    threading.Thread(target=_work, args=(function, future), daemon=True).start()
    try:
        # Python looks after signals between two waits, whichever thread they came to.
        while not concurrent.futures.wait([future], _SECONDS).done:
            pass
        return future.result()
    except KeyboardInterrupt:
        if not future.done():
            _end_without_cleaning_up()
        raise


def _work(function: Callable[[], Any], future: Any) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)


@functools.lru_cache(None)
def _end_without_cleaning_up() -> None:
    """Let the process end, when Python is done, without the destructors of C++.

    They would take away what the thread is using.
    """
    c = ctypes.CDLL(None)
    if hasattr(c, "on_exit"):
        # It hands over the exit status first, which is what `_exit` takes.
        c.on_exit(ctypes.cast(c._exit, ctypes.c_void_p), None)
