"""Each error has its section on the page, and says the same where there is no network."""

import re

import pytest
from errors_page import MARK, PAGE, errors, sections

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
