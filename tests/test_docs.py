"""What the README and the documentation show can be run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import examples, first_library

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if "\n```python\n" in path.read_text("utf-8")
)
MODULES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "pymc3_tf").rglob("*.py") if any(examples(path))
)


def run_alone(*names):
    """Run a page or the docstrings of modules where Theano is not imported yet, nor mended."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "documentation.py"), *names],
        env={**os.environ, "THEANO_FLAGS": "cxx=", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not done.returncode, done.stdout.decode()[-5000:]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page):
    run_alone(page)


def test_docstrings_run_in_a_process_that_has_imported_nothing_before():
    run_alone(*MODULES)


# The first docstring that imports one of the libraries decides for the process.
@pytest.mark.parametrize("module", MODULES)
def test_docstrings_import_this_package_first(module):
    for name, text in examples(ROOT / module):
        assert first_library(text) == "pymc3_tf", name


def test_readme_has_the_two_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("demo", "tests"):
        block = re.search(rf"<!-- command: {name} -->\n```bash\n(.*?)\n```", text, re.S).group(1)
        assert "\n" not in block and block.startswith("python3 -m venv .venv && ")
    assert (ROOT / re.search(r"!\[.*?\]\((.*?)\)", text).group(1)).is_file()
