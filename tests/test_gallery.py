"""The gallery's pages: each says where its data are from and how long it runs, and has a card.

The pages are executed when the documentation is built, not here.
"""

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "docs" / "gallery"
INDEX = (GALLERY / "index.md").read_text("utf-8")
PAGES = sorted(path for path in GALLERY.glob("*.md") if path.name != "index.md")
# What the extra "docs" installs, by the names under which it is imported. "page" is the gallery's.
INSTALLED = {
    *("arviz", "matplotlib", "numpy", "page", "pandas", "pymc3", "pymc3_tf", "scipy", "sklearn"),
    *("statsmodels", "tensorflow", "tensorflow_probability", "theano"),
}
STANDARD_LIBRARY = {"os", "socket", "subprocess", "sys", "tempfile", "time", "timeit"}


def cells(path):
    """Return the code of a page, cell by cell, without the options of the cells."""
    found = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    return [re.sub(r"^:\w.*\n", "", code, flags=re.M) for code in found]


def imported(code):
    """Yield the top-level packages that code imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def seconds_that_it_ran(path):
    """Return what the last cell of a page printed when it was executed."""
    kept = ROOT / "docs" / "executed" / "gallery" / f"{path.stem}.ipynb"
    (output,) = json.loads(kept.read_text("utf-8"))["cells"][-1]["outputs"]
    return re.search(r"This page ran in (\d+) seconds", "".join(output["text"])).group(1)


@pytest.fixture(params=PAGES, ids=[path.stem for path in PAGES])
def page(request):
    return request.param


def test_there_are_pages_and_each_is_found_to_have_code():
    assert len(PAGES) >= 2
    assert all(len(cells(path)) >= 5 for path in PAGES)


def test_a_page_is_a_notebook(page):
    header = page.read_text("utf-8").split("---\n")[1]
    assert "file_format: mystnb" in header
    assert re.search(r"^kernelspec:\n(  .*\n)*  name: python3$", header, re.M)


def test_a_page_says_where_its_data_are_from(page):
    (origin,) = re.findall(r"^\*\*Data:\*\* ((?:.+\n)+)", page.read_text("utf-8"), re.M)
    assert origin.startswith("simulated") or re.search(r"\b(1[89]|20)\d\d\b", origin)


def test_the_last_cell_of_a_page_prints_its_run_time(page):
    assert cells(page)[-1].strip() == "page.run_time()"


def test_the_code_of_a_page_parses_and_imports_only_what_is_installed(page):
    code = "\n".join(cells(page))
    packages = list(imported(code))
    assert set(packages) <= INSTALLED | STANDARD_LIBRARY
    # The first quiets the libraries. On Python 3.11, pymc3_tf has to come before pymc3.
    assert packages[0] == "page"
    assert packages.index("pymc3_tf") < packages.index("pymc3")


def test_the_data_files_that_a_page_reads_exist(page):
    names = re.findall(r'page\.DATA / "([^"]+)"', "\n".join(cells(page)))
    assert all((GALLERY / "data" / name).exists() for name in names)


def test_a_page_has_a_card_with_a_small_picture_a_sentence_and_a_run_time(page):
    cards = re.findall(r"^:{3,}\{grid-item-card\}.*?^:{3,}$", INDEX, re.M | re.S)
    (card,) = (card for card in cards if re.search(rf"^:link: {page.stem}$", card, re.M))
    assert f":img-top: thumbnails/{page.stem}.png" in card
    assert f"Runs in {seconds_that_it_ran(page)} seconds." in card
    assert page.stem in re.search(r"```\{toctree\}\n(.*?)```", INDEX, re.S).group(1).split()
    picture = GALLERY / "thumbnails" / f"{page.stem}.png"
    assert picture.stat().st_size < 25_000
    with Image.open(picture) as opened:
        assert opened.size == (320, 200)
