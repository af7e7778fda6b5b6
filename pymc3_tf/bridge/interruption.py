"""The end of sampling where a server of a cluster does not answer any more: as Ctrl-C ends it."""

from __future__ import annotations

import logging
import multiprocessing
from typing import Any, NoReturn

from pymc3_tf.exceptions import WorkerLostError

# PyMC3's own logger: what is logged there is shown beside its messages about sampling.
_log = logging.getLogger("pymc3")


class WorkerLostInterrupt(WorkerLostError, KeyboardInterrupt):
    """Ends sampling as Ctrl-C does: it is how PyMC3 is told to stop and to keep the draws."""


class _ChainLost(WorkerLostError):
    """Goes from the process of a chain to PyMC3's main process, and interrupts it."""

    def __reduce__(self) -> Any:
        return _interrupt, (str(self),)


def stop_sampling(error: WorkerLostError) -> NoReturn:
    """Let PyMC3 end sampling and keep the draws so far.

    PyMC3 starts the process of a chain under a name of its own. There an interrupt would end the
    process without a word; in the main process any other error would lose the draws.
    """
    if multiprocessing.current_process().name.startswith("worker_chain_"):
        raise _ChainLost(str(error)) from error
    _interrupt(str(error))


def _interrupt(text: str) -> NoReturn:
    text = text.split("\nApply node")[0]  # Theano adds the graph of the chain
    _log.error(text)
    raise WorkerLostInterrupt(text)
