"""How far sampling is, shown where it is read: a notebook, a terminal or a log file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from typing import Any, Iterator, Optional

from fastprogress import fastprogress

from pymc3_tf.host import build
from pymc3_tf.sampling.chains import Progress

# Seconds between two changes of what is shown in place, and between the first lines of a log file.
_IN_PLACE, _LINES = 0.2, 10.0
# Seconds between two changes while there are no draws yet.
_TICK = 1.0
# Lines of a log file become rarer, up to this many seconds.
_RAREST = 300.0
_LONGEST_BAR = 40


class ProgressBar:
    """Draws, speed, divergences and the time that is left, of all chains together.

    A notebook has a bar, a terminal has one line that changes, and anything else, such as a log
    file, gets a new line now and then.

    Parameters
    ----------
    total : int
        Draws of all chains that there will be, warmup included.
    shown : bool
        Whether there is anything to see.
    """

    def __init__(self, total: int, shown: bool = True) -> None:
        self._total = total
        self._view: Any = _view(total) if shown else _Hidden()
        self._begin: Optional[float] = None
        self._next = 0.0
        self._ended = False
        self._text = ""

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say what is going on inside, and for how long, until there are draws."""
        begin, over = time.perf_counter(), threading.Event()

        def tick() -> None:
            while not over.wait(_TICK):
                spent = duration(time.perf_counter() - begin)
                self._view.show(0, f"{build.under_way() or text}, {spent}")

        self._text = text
        self._view.show(0, text)
        # A thread, because what goes on inside may be Python or C++.
        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            yield
        finally:
            over.set()
            clock.join()

    def __call__(self, progress: Progress) -> None:
        """Show how far the chains are."""
        made, now = int(progress.draws.sum()), time.perf_counter()
        # Compilation is over when the first draws are there.
        self._begin = self._begin or now
        # A warmup that ends early makes it less.
        self._total = self._view.total = progress.total * len(progress.draws)
        if self._ended or (made < self._total and now < self._next):
            return
        self._next = now + _IN_PLACE
        divergences, spent = int(progress.divergences.sum()), now - self._begin
        pace = made / max(spent, 0.1)
        self._text = (
            f"{made:,} of {self._total:,} draws, {pace:,.0f} draws/s, {divergences:,} "
            f"divergence{'' if divergences == 1 else 's'}"
        )
        if 0 < made < self._total:
            self._text += f", {duration(spent * (self._total - made) / made)} left"
        self._view.show(made, self._text)
        if made >= self._total:
            self._end(made)

    def stop(self) -> None:
        """Leave what is shown as it is."""
        self._end(0, ", interrupted")

    def remove(self) -> None:
        """Take away what is shown, as far as that can be."""
        if not self._ended:
            self._ended = True
            self._view.remove()

    def _end(self, made: int, why: str = "") -> None:
        if not self._ended:
            self._ended = True
            self._view.end(made, self._text + why)


def _view(total: int) -> Any:
    if fastprogress.IN_NOTEBOOK:
        return _Notebook(total)
    in_place = sys.stdout.isatty() or "PYCHARM_HOSTED" in os.environ
    return _Terminal(total) if in_place else _Log()


class _Hidden:
    """Nothing."""

    total = 0

    def show(self, made: int, text: str) -> None:
        pass

    end = show

    def remove(self) -> None:
        pass


class _Notebook:
    """The bar of fastprogress, as ``pm.sample`` has it."""

    def __init__(self, total: int) -> None:
        self._bar = fastprogress.NBProgressBar(range(total), total=total)
        self._bar.on_iter_begin()

    @property
    def total(self) -> int:
        """All draws that there will be."""
        return int(self._bar.total)

    @total.setter
    def total(self, total: int) -> None:
        self._bar.total = total

    def show(self, made: int, text: str) -> None:
        self._bar.on_update(made, text)

    def end(self, made: int, text: str) -> None:
        self._bar.on_update(made, text, interrupted=made < self._bar.total)
        self._bar.on_iter_end()

    def remove(self) -> None:
        self._bar.leave = False
        self._bar.on_iter_end()


class _Terminal:
    """A line that is written over itself."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._made = self._width = 0

    def show(self, made: int, text: str) -> None:
        self._made = made
        columns = shutil.get_terminal_size().columns - 1
        line = text[:columns]
        length = min(columns - len(text) - 3, _LONGEST_BAR)
        if length > 0:
            filled = length * made // self.total
            line = f"|{'#' * filled}{'-' * (length - filled)}| {text}"
        # Over what was longer before.
        print(f"\r{line:<{min(self._width, columns)}}", end="", file=sys.stdout, flush=True)
        self._width = len(line)

    def end(self, made: int, text: str) -> None:
        self.show(max(made, self._made), text)
        print(file=sys.stdout, flush=True)

    def remove(self) -> None:
        print(f"\r{'':<{self._width}}\r", end="", file=sys.stdout, flush=True)


class _Log:
    """Lines, which become rarer the longer it takes."""

    total = 0

    def __init__(self) -> None:
        self._wait = _LINES
        self._next = time.perf_counter() + self._wait

    def show(self, made: int, text: str) -> None:
        if time.perf_counter() >= self._next:
            self._wait = min(1.5 * self._wait, _RAREST)
            self._next = time.perf_counter() + self._wait
            print(f"Sampling: {text}", file=sys.stdout, flush=True)

    def end(self, made: int, text: str) -> None:
        print(f"Sampling: {text}", file=sys.stdout, flush=True)

    def remove(self) -> None:
        pass


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, such as ``1:02:05`` or ``0:07``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
