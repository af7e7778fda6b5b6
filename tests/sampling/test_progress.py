"""The progress of sampling, in a terminal, in a file and in a notebook."""

import io
import time
import types

import numpy as np
import pytest
from support import run

from pymc3_tf.host import build
from pymc3_tf.sampling import progress
from pymc3_tf.sampling.chains import Progress

COLUMNS = 80


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """What is seen: a carriage return goes back, and what is written there replaces."""
        seen = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            seen.append(shown.rstrip())
        return seen


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.delenv("PYCHARM_HOSTED", raising=False)
    return clock


def replaced(monkeypatch, stdout):
    # Not the true one, which pytest replaces for each phase of a test.
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stdout=stdout))
    return stdout


@pytest.fixture
def terminal(monkeypatch, clock):
    return replaced(monkeypatch, Terminal())


@pytest.fixture
def file(monkeypatch, clock):
    return replaced(monkeypatch, io.StringIO())


def show(bar, made, divergences=0, total=1000):
    bar(Progress(np.array([made]), total, np.array([divergences])))


def test_a_terminal_has_one_line_that_ends(terminal, clock):
    bar = progress.ProgressBar(1000)
    with bar.step("compiling"):
        assert terminal.lines() == ["|" + "-" * 40 + "| compiling"]
    clock.now += 5
    show(bar, 0)
    clock.now += 2
    show(bar, 250, 3)
    text = "250 of 1,000 draws, 125 draws/s, 3 divergences, 0:06 left"
    (line,) = terminal.lines()
    assert line.startswith("|####------") and line.endswith(f"-| {text}") and len(line) < COLUMNS
    clock.now += 6
    show(bar, 1000, 1)
    bar.stop()
    bar.remove()
    line, after = terminal.lines()
    assert line.endswith("#| 1,000 of 1,000 draws, 125 draws/s, 1 divergence") and after == ""


def test_a_shorter_text_leaves_nothing_of_a_longer_one(terminal, clock):
    bar = progress.ProgressBar(10**6)
    for made in (0, 123456, 123457):
        clock.now += 0.3 if made < 123457 else 500
        show(bar, made, total=10**6)
    (line,) = terminal.lines()
    assert line.count("left") == 1 and line.endswith("s, 0 divergences, 59:12 left")
    assert len(line) < COLUMNS


def test_a_narrow_terminal_has_the_text_alone(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    bar = progress.ProgressBar(1000)
    clock.now += 1
    show(bar, 500)
    assert terminal.lines() == ["500 of 1,000 draws,"]


def test_the_line_of_an_interrupted_run_stays_and_that_of_an_error_goes(terminal, clock):
    bar = progress.ProgressBar(1000)
    show(bar, 10)
    bar.stop()
    assert terminal.lines()[0].endswith("left, interrupted") and terminal.lines()[1] == ""
    progress.ProgressBar(1000).remove()
    assert terminal.lines()[1] == ""


def test_a_file_gets_a_line_now_and_then(file, clock):
    bar = progress.ProgressBar(100_000)
    for made in range(0, 100_001, 10):
        clock.now += 0.1
        show(bar, made, made // 10_000, 100_000)
    lines = file.getvalue().splitlines()
    assert "\r" not in file.getvalue() and 5 < len(lines) < 12
    assert lines[0].startswith("Sampling: 1,020") and lines[0].endswith(" left")
    assert lines[-1] == "Sampling: 100,000 of 100,000 draws, 100 draws/s, 10 divergences"


def test_a_short_run_has_one_line_in_a_file(file, clock):
    bar = progress.ProgressBar(1000)
    for made in (0, 500, 1000):
        clock.now += 1
        show(bar, made)
    assert file.getvalue() == "Sampling: 1,000 of 1,000 draws, 500 draws/s, 0 divergences\n"
    progress.ProgressBar(1000).remove()
    assert file.getvalue().count("\n") == 1


def wait_for(text, stream):
    end = time.monotonic() + 20
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.01)


def test_what_takes_long_before_the_first_draw_is_said(clock, monkeypatch):
    monkeypatch.setattr(progress, "_TICK", 0.01)
    terminal = replaced(monkeypatch, Terminal())
    with progress.ProgressBar(1000).step("compiling the model"):
        clock.now += 65
        wait_for("1:05", terminal)
    assert terminal.lines() == ["|" + "-" * 40 + "| compiling the model, 1:05"]
    file = replaced(monkeypatch, io.StringIO())
    with progress.ProgressBar(1000).step("compiling the model"):
        clock.now += 9
        time.sleep(0.1)
        assert not file.getvalue()
        clock.now += 2
        wait_for("\n", file)
        monkeypatch.setattr(build, "_running", ["islands"])
        clock.now += 60
        wait_for("islands", file)
    first, second = file.getvalue().splitlines()
    assert first == "Sampling: compiling the model, 0:11"
    assert second == "Sampling: building the C++ routines (islands), 1:11"
    with progress.ProgressBar(1000, shown=False).step("compiling"):
        clock.now += 60
        time.sleep(0.1)
    assert len(file.getvalue().splitlines()) == 2


def test_time_is_told_as_clocks_do():
    assert [progress.duration(s) for s in (0.4, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]


NOTEBOOK = """
from jupyter_client.manager import start_new_kernel

CODE = '''
import time
import numpy as np
from pymc3_tf.sampling import progress
from pymc3_tf.sampling.chains import Progress
from pymc3_tf.sampling.progress import ProgressBar

class Clock:
    now = 0.0
    def perf_counter(self):
        return self.now

bars = [ProgressBar(100) for _ in range(3)]
for bar in bars:
    bar(Progress(np.array([20, 20]), 50, np.array([1, 0])))
bars[0](Progress(np.array([50, 50]), 50, np.array([1, 0])))
bars[1].stop()
bars[2].remove()
progress._TICK = 0.01
progress.time = Clock()
with ProgressBar(100).step("compiling the model"):
    progress.time.now += 65
    time.sleep(0.5)
'''
kernel, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
shown = {}

def note(message):
    content = message["content"]
    if message["msg_type"] == "stream" and content["name"] == "stdout":
        print("PRINTED", content["text"])
    name = content.get("transient", {}).get("display_id")
    if name:
        shown[name] = content["data"]["text/html"]

try:
    reply = client.execute_interactive(CODE, timeout=300, output_hook=note)
finally:
    client.stop_channels()
    kernel.shutdown_kernel(now=True)
assert reply["content"]["status"] == "ok", reply
done, stopped, removed, compiling = shown.values()
assert "compiling the model, 1:05" in compiling, compiling
assert "100 of 100 draws" in done and "1 divergence" in done and "interrupted'" not in done
assert "40 of 100 draws" in stopped and "interrupted" in stopped, stopped
assert removed == "", removed
"""


def test_a_notebook_has_a_bar():
    result = run(["-c", NOTEBOOK])
    assert not result.returncode and "PRINTED" not in result.stdout, result.stdout + result.stderr
