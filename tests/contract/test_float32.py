"""With theano.config.floatX = "float32", the whole path is the built-ins' too."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = """
import sys
import pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
import theano
assert theano.config.floatX == "float32"
raise SystemExit(code)
"""


def test_densities_and_declarations_are_right_in_float32():
    """Theano takes its floatX when it is imported: in a process of its own."""
    flags = os.environ["THEANO_FLAGS"]
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, HERE / "test_numbers.py", HERE / "test_declaration.py"],
        env={**os.environ, "THEANO_FLAGS": f"{flags},floatX=float32"},
        cwd=HERE.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout
