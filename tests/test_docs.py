"""What the README and the documentation show can be run as it stands."""

import json
import os
import re
import runpy
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from documentation import examples, first_library
from test_architecture import LAYERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if "\n```python\n" in path.read_text("utf-8")
}
# These start processes, load ops or are what a reader runs first: each has a process of its own.
ALONE = {"README.md"} | {
    f"docs/{name}.md" for name in ("cluster", "custom_ops", "index", "parallel", "sampling")
}
MODULES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "pymc3_tf").rglob("*.py") if any(examples(path))
)


NOTEBOOKS = sorted(
    str(path.relative_to(ROOT / "docs"))
    for path in (ROOT / "docs").rglob("*.md")
    if "\nfile_format: mystnb\n" in path.read_text("utf-8")
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


@pytest.mark.parametrize("page", sorted(ALONE))
def test_python_blocks_run(page):
    run_alone(page)


def test_python_blocks_of_all_other_pages_run():
    assert ALONE < PAGES
    run_alone(*sorted(PAGES - ALONE))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_pages_import_this_package_first(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    assert first_library("".join(blocks)) == "pymc3_tf"


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebooks_have_been_executed_as_they_are(page):
    text = (ROOT / "docs" / page).read_text("utf-8")
    blocks = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", text, re.M | re.S)
    # Without the options of a cell, which are lines such as ":tags: [hide-input]".
    code = [re.sub(r"\A(:[\w-]+:[^\n]*\n)+\n?", "", block).strip() for block in blocks]
    kept = json.loads((ROOT / "docs/executed" / page).with_suffix(".ipynb").read_text("utf-8"))
    executed = ["".join(cell["source"]).strip() for cell in kept["cells"]]
    assert code == executed, "build the docs (tox -e docs), and commit docs/executed"


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebooks_can_be_downloaded(page):
    text = (ROOT / "docs" / page).read_text("utf-8")
    folder = Path("docs", page).parent
    link = f"{{nb-download}}`This page as a notebook <{Path(page).stem}.ipynb>`"
    assert f"{link} runs in the folder `{folder}`." in text.split("```{code-cell}")[0]


def test_no_notebook_is_kept_without_its_page():
    kept = (ROOT / "docs/executed").rglob("*.ipynb")
    pages = {str(p.relative_to(ROOT / "docs/executed").with_suffix(".md")) for p in kept}
    assert pages == set(NOTEBOOKS)


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


def test_no_page_installs_from_an_index():
    """The package is on none yet."""
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*"),
        *(ROOT / "pymc3_tf").rglob("*.py"),
    ]:
        if path.suffix in {".md", ".rst", ".py"} and path.name != "CONTRIBUTING.md":
            assert not re.search(r"pip install .*pymc3-tf", path.read_text("utf-8")), path


def test_drawings_are_those_of_the_layers():
    script = runpy.run_path(str(ROOT / "docs/drawings/packages.py"))
    drawn = [set(row) for row in script["LAYERS"]]
    assert drawn == [layer - {"_version"} for layer in LAYERS[::-1]], (
        "run docs/drawings/packages.py after a change of its LAYERS"
    )
    for name in ("packages", "data"):
        saved = (ROOT / f"docs/images/{name}.svg").read_text("utf-8")
        assert saved == script[name](), "run docs/drawings/packages.py"


def test_inventories_are_those_of_their_script():
    script = runpy.run_path(str(ROOT / "docs/inventories/renew.py"))
    names = script["pages"]()
    assert set(names) == set(script["ADDRESSES"])
    for project in names:
        saved = (ROOT / f"docs/inventories/{project}.inv").read_bytes()
        written = script["inventory"](project, names[project])
        head = written.index(b"zlib.\n") + len(b"zlib.\n")
        assert saved[:head] == written[:head]
        # Compressed by another zlib, the bytes can differ.
        assert zlib.decompress(saved[head:]) == zlib.decompress(written[head:]), "run it"


def test_every_package_is_in_how_it_works():
    page = (ROOT / "docs/how_it_works.md").read_text("utf-8")
    flow = (ROOT / "docs/images/data.svg").read_text("utf-8")
    modules = {"exceptions", "private_tensorflow", "checking", "citations", "host"}
    for name in set.union(*LAYERS) - {"_version"}:
        assert re.search(rf"^\| .* \| `{name}` \|$", page, re.MULTILINE), name
        assert name in modules or re.search(rf"\b{name}\b", flow), name
