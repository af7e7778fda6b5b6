"""Writes the sections of docs/errors.md, one for each error, from the docstrings of the errors.

``python tests/errors_page.py`` does so after a docstring was changed.
"""

import inspect
import re
from pathlib import Path

from pymc3_tf import exceptions

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
MARK = "<!-- From here on the page is made of docstrings, by tests/errors_page.py. -->\n"


def errors():
    """Return the classes of errors and warnings, in the order of their module."""
    return [x for x in vars(exceptions).values() if inspect.isclass(x) and is_error(x)]


def is_error(x):
    return issubclass(x, BaseException) and x.__module__ == exceptions.__name__


def section(error):
    """Return the section of the page about an error."""
    text, examples = inspect.getdoc(error).split("\nExamples\n--------\n")
    return f"## {error.__name__}\n\n{markdown(text).strip()}\n\n" + "".join(
        f"{block(part)}\n\n" for part in re.split(r"\n\n(?=\S)", examples.strip())
    )


def block(part):
    """Return a paragraph of the examples: code as a block, and what is said about it as text."""
    if part.startswith(">>>"):
        return f"```pycon\n{part}\n```"
    said, _, code = part.partition("::\n\n")
    if not code:
        return markdown(said)
    return f"{markdown(said)}:\n\n```text\n{inspect.cleandoc(code)}\n```"


def markdown(text):
    """Return text with the code in it as Markdown has it."""
    return text.replace("``", "`")


def sections():
    return "\n" + "".join(map(section, errors())).rstrip() + "\n"


if __name__ == "__main__":
    head = PAGE.read_text("utf-8").split(MARK)[0]
    PAGE.write_text(head + MARK + sections(), "utf-8")
