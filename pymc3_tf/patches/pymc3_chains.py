"""Makes PyMC3 say which chain's process ended, and hear Ctrl-C. Checked: 3.11.4, 3.11.6.

Why: if the process of a chain is killed, as the system does where memory is short, PyMC3 raises an
``EOFError`` without a text, or the error of a broken pipe. And Python drops a Ctrl-C that comes
while a process forks, in the callbacks that modules have registered for it; PyMC3 then either
samples on, or fails because the new process has ended. And if Ctrl-C leaves out the first chain,
because another one has many more draws, PyMC3 asks for its statistics all the same, and all draws
are lost to a ``KeyError``.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from multiprocessing import connection
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from pymc3 import parallel_sampling
from pymc3.backends.base import MultiTrace
from pymc3.parallel_sampling import ProcessAdapter

# What a pipe says that nobody is at the other end of.
_BROKEN = (EOFError, BrokenPipeError, ConnectionResetError)
# Seconds until the end of a process is known, once its end of the pipe is closed.
_PATIENCE = 5

# What Ctrl-C does while it is not held back.
_handler: Any = None


def install() -> None:
    """Patch what starts chains, and what sends to them and receives from them."""
    if getattr(ProcessAdapter._send, "_says_why", False):
        return
    receive = _explained(ProcessAdapter.recv_draw, lambda processes: processes)
    ProcessAdapter.recv_draw = staticmethod(receive)
    ProcessAdapter._send = _explained(ProcessAdapter._send, lambda process: [process])
    ProcessAdapter._send._says_why = True
    ProcessAdapter.__init__ = _holding_interrupts(ProcessAdapter.__init__)
    parallel_sampling._run_process = _hearing_interrupts(parallel_sampling._run_process)
    MultiTrace.get_sampler_stats = _of_a_chain_that_is_there(MultiTrace.get_sampler_stats)


def _of_a_chain_that_is_there(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def get_sampler_stats(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("chains") == 0 and 0 not in self.chains:
            kwargs["chains"] = min(self.chains)
        return before(self, *args, **kwargs)

    return get_sampler_stats


def _holding_interrupts(before: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(before)
    def start(*args: Any, **kwargs: Any) -> None:
        with _interrupts_held():
            before(*args, **kwargs)

    return start


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the end."""
    global _handler
    _handler = signal.getsignal(signal.SIGINT)
    if _handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: List[Any] = []
    signal.signal(signal.SIGINT, lambda *signal_and_frame: held.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _hearing_interrupts(before: Callable[..., None]) -> Callable[..., None]:
    """Let a forked chain, which inherits that they are held, hear them again."""

    @functools.wraps(before)
    def run(*args: Any) -> None:
        if _handler is not None:
            signal.signal(signal.SIGINT, _handler)
        before(*args)

    return run


def _explained(
    before: Callable[..., Any], chains_of: Callable[[Any], Sequence[Any]]
) -> Callable[..., Any]:
    @functools.wraps(before)
    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return before(first, *args, **kwargs)
        except _BROKEN as error:
            codes = _exit_codes(chains_of(first))
            if not codes:
                raise
            raise RuntimeError("\n".join(_how(*item) for item in codes.items())) from error

    return call


def _exit_codes(chains: Sequence[Any]) -> Dict[int, Optional[int]]:
    """Return the exit codes of chains that have ended; of those that failed, if any did."""
    ready = connection.wait([chain._process.sentinel for chain in chains], _PATIENCE)
    ended = [chain for chain in chains if chain._process.sentinel in ready]
    for chain in ended:
        chain.join(_PATIENCE)  # its code comes some time after its end
    codes = {chain.chain: chain._process.exitcode for chain in ended}
    return {chain: code for chain, code in codes.items() if code} or codes


def _how(chain: int, code: Optional[int]) -> str:
    if code is None or code >= 0:
        return f"Chain {chain} failed: its process ended (exit code {code})."
    name = signal.Signals(-code).name
    text = f"Chain {chain} failed: its process was ended by the signal {name}."
    if name == "SIGKILL":
        text += " The system does that where memory is short: try fewer chains at a time (cores=)."
    return text
