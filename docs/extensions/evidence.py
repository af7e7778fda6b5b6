"""The directive ``{evidence} NAME`` shows the results that a script left in docs/evidence."""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).resolve().parent.parent / "evidence"


def page(found):
    """Return results as Markdown: what was done, the picture, the table, how to get them."""
    lines = [found["text"], ""]
    if found.get("picture"):
        lines += [f"![{found['title']}](evidence/{found['picture']})", ""]
    if found["rows"]:
        lines += [_row(found["columns"]), "|" + "---|" * len(found["columns"])]
        lines += [*map(_row, found["rows"]), ""]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines += ["```bash", found["command"], "```", ""]
    return [*lines, f"Run on {found['date']}" + (f" with {versions}." if versions else ".")]


def _row(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


class Evidence(SphinxDirective):
    """Results of one script. Its argument is the name of the file, without ``.json``."""

    required_arguments = 1

    def run(self):
        """Parse the results as a part of the page."""
        path = FOLDER / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        lines = page(json.loads(path.read_text("utf-8")))
        container = nodes.container(classes=["evidence"])
        self.state.nested_parse(StringList(lines, str(path)), self.content_offset, container)
        return container.children


def setup(app):
    """Tell Sphinx."""
    app.add_directive("evidence", Evidence)
    return {"parallel_read_safe": True}
