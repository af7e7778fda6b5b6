"""The links of README, changelog, contributing page and documentation.

Sphinx checks those between the pages of the documentation, with their anchors, when it builds them.
Here are those of the pages that are read in the repository, and the form of external ones.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_THE_REPOSITORY = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*IN_THE_REPOSITORY, *sorted((ROOT / "docs").rglob("*.md"))]


def links(path):
    """Return the targets of the links and pictures of a page, without those in its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def heading_anchors(path):
    """Return the anchors that the headings of a page have in a repository's view of it."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", word) for word in words}


@pytest.mark.parametrize("page", IN_THE_REPOSITORY, ids=lambda path: path.name)
def test_links_of_the_repository_lead_to_files_and_headings(page):
    for link in links(page):
        target, _, anchor = link.partition("#")
        if urlsplit(target).scheme:
            continue
        path = (page.parent / target).resolve() if target else page
        assert ROOT in path.parents and path.exists(), link
        assert not anchor or anchor in heading_anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_external_links_are_well_formed(page):
    text = page.read_text("utf-8")
    for link in (link for link in links(page) if ":" in link):
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), link
        assert not re.search(r"[\s<>\"]|[.,;:]$", link), link
    assert "http://" not in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def test_links_are_found():
    assert len(links(ROOT / "README.md")) > 15
    assert sum(len(links(page)) for page in PAGES) > 100
