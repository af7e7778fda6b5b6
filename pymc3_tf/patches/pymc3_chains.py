"""Makes PyMC3 say which chain's process ended, and how. Checked: 3.11.4, 3.11.6.

Why: if the process of a chain is killed, as the system does where memory is short, PyMC3 raises an
``EOFError`` without a text, or the error of a broken pipe.
"""

from __future__ import annotations

import functools
import signal
from multiprocessing import connection
from typing import Any, Callable, Dict, Optional, Sequence

from pymc3.parallel_sampling import ProcessAdapter

# What a pipe says that nobody is at the other end of.
_BROKEN = (EOFError, BrokenPipeError, ConnectionResetError)
# Seconds until the end of a process is known, once its end of the pipe is closed.
_PATIENCE = 5


def install() -> None:
    """Let what PyMC3 sends to chains and receives from them fail with a text."""
    if getattr(ProcessAdapter._send, "_says_why", False):
        return
    receive = _explained(ProcessAdapter.recv_draw, lambda processes: processes)
    ProcessAdapter.recv_draw = staticmethod(receive)
    ProcessAdapter._send = _explained(ProcessAdapter._send, lambda process: [process])
    ProcessAdapter._send._says_why = True


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
