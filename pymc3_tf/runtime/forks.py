"""Forked processes: what becomes of TensorFlow in them, and how a hang is made an error.

Nothing of TensorFlow's threads survives a fork, and what waits for one of them waits forever.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import mmap
import multiprocessing
import os
import signal
import struct
import threading
from typing import Any, Callable, Iterator

import tensorflow as tf

# Seconds that building and the first call may take in a forked child, longer than any seen so far:
# a thread of the parent that was inside TensorFlow at the fork can otherwise hang it forever.
FORK_TIMEOUT = 300

# How many forks there are between this process and one that was not forked.
depth = 0

# How many children the parent has: in memory that it shares with them, since most of them are
# forked later than the first.
_siblings = mmap.mmap(-1, 4)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_session(run_options: tf.compat.v1.RunOptions) -> None:
    """Let a session of a forked child run, on its share of the cores.

    The threads of the parent's pool are not there in the child, and this pool starts its own. Its
    size is read from the environment when it is first needed. The chains are parallel already: more
    threads than cores would only wait for each other.

    Parameters
    ----------
    run_options : tf.compat.v1.RunOptions
        Of each run of the session. Changed in place.
    """
    if not depth:
        return
    (siblings,) = struct.unpack("i", _siblings[:])
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(available_cores() // siblings, 1)))
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    run_options.experimental.use_run_handler_pool = True


def refuse(what: str) -> None:
    """Raise an error in a forked process, for what has no thread pool of its own there.

    Parameters
    ----------
    what : str
        What cannot work.
    """
    if depth:
        raise RuntimeError(
            f"{what} cannot work in a forked process, because TensorFlow's threads do not survive "
            "a fork. Start the process by multiprocessing.get_context('spawn') or "
            "get_context('forkserver'), without a preload of pymc3_tf, or use pm.sample() in it."
        )


def guarded(call: Callable[..., Any], then: Callable[..., Any] = lambda call: None) -> Any:
    """Let a call end the process rather than hang; tell ``then`` that the bare call is safe."""

    def checked(*args: Any) -> Any:
        with _watchdog():
            result = call(*args)
        then(call)
        return result

    return checked


@contextlib.contextmanager
def _watchdog() -> Iterator[None]:
    """After FORK_TIMEOUT, write all tracebacks to standard error and let SIGALRM end the process.

    Not by faulthandler's own timer: where the parent's is running (pytest has one), the child would
    wait forever for its thread.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL) if main else None
    # Of the file descriptor, because in a notebook sys.stderr can be without one.
    faulthandler.register(signal.SIGALRM, file=2, chain=True)
    timer = signal.setitimer(signal.ITIMER_REAL, FORK_TIMEOUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        faulthandler.unregister(signal.SIGALRM)
        if handler is not None:
            signal.signal(signal.SIGALRM, handler)


@functools.lru_cache(1)
def _start_tensorflow() -> None:
    """Run a session once before the first fork.

    TensorFlow before 2.14 starts a thread when it is loaded, and waits for its end with the first
    session. In a forked child that thread's memory may be another thread's by then, whose end the
    child would wait for forever.
    """
    with tf.Graph().as_default() as graph:
        one = tf.constant(1.0)
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1, device_count={"GPU": 0})
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        session.run(one)


def _before() -> None:
    if depth:
        return  # it would be too late
    _start_tensorflow()
    _siblings[:] = struct.pack("i", 1 + len(multiprocessing.active_children()))


def _after_in_child() -> None:
    global depth
    depth += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_after_in_child)
