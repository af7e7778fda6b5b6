"""Each error has its section on the page, and says the same where there is no network."""

import os
import re
import socket
import subprocess
import sys

import pytest
from errors_page import MARK, PAGE, errors, sections
from support import EXAMPLES

from pymc3_tf import exceptions


def test_the_page_is_what_the_docstrings_say():
    _, made = PAGE.read_text("utf-8").split(MARK)
    assert made == sections(), "Write it anew: python tests/errors_page.py"


def test_each_error_has_an_anchor_and_each_anchor_an_error():
    _, made = PAGE.read_text("utf-8").split(MARK)
    anchors = re.findall(r"^#+ (.*)$", made, re.M)
    raised = {name for name in vars(exceptions) if name.endswith(("Error", "Warning"))}
    assert len(anchors) == len(set(anchors)) and set(anchors) == raised
    assert set(anchors) == {error.__name__ for error in errors()}


@pytest.mark.parametrize("error", errors(), ids=lambda error: error.__name__)
def test_errors_explain_themselves(error, capsys):
    error.help()
    name, empty, first, *rest = capsys.readouterr().out.splitlines()
    assert name == error.__name__ and not empty and first.endswith(".")
    assert "Examples" in rest and any(re.search("[Ii]nstead|Then|mean", line) for line in rest)


def test_a_section_has_what_help_prints(capsys):
    exceptions.GraphSizeError.help()
    text, page = capsys.readouterr().out, PAGE.read_text("utf-8")
    section = page.split("## GraphSizeError\n")[1].split("\n## ")[0]
    words = re.findall(r"\w+", text.replace("Examples", ""))[1:]
    assert words == [w for w in re.findall(r"\w+", section) if w != "text"]


# -- what TensorFlow prints when it starts -----------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_keep_start_up_lines_out(path):
    text = path.read_text("utf-8")
    setting = text.index('os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")')
    assert setting < min(text.find(f"import {name}") % len(text) for name in LIBRARIES)


LIBRARIES = ("pymc3_tf", "pymc3", "tensorflow")


def test_an_example_starts_in_silence():
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "cluster_worker.py"), "0", address],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.stdout.startswith("grpc://") and not re.search(r": [IWE] ", done.stderr), (
        done.stderr
    )
