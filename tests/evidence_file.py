"""Keeps the results of a script in ``docs/evidence``, in the form in which the page shows them."""

import datetime
import json
import re
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "evidence"


def as_json(results):
    """Return JSON with one line for each list of numbers and texts."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\s*\n\s*", " ", m.group()), text) + "\n"


def versions(*packages):
    """Return the installed versions of packages."""
    return {name: metadata.version(name) for name in packages}


def keep(name, *, title, text, command, columns, rows, **more):
    """Write ``NAME.json``; ``versions`` may say other ones than those of this process."""
    found = {
        "title": title,
        "text": text,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "versions": more.pop("versions", versions("pymc3", "tensorflow")),
        "columns": columns,
        "rows": rows,
        **more,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(as_json(found), encoding="utf-8")
