"""Keeps the results of a script in ``docs/evidence``, in the form in which the page shows them."""

import datetime
import json
import platform
import re
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "evidence"


def as_json(results):
    """Return JSON with one line for each list of numbers and texts."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\s*\n\s*", " ", m.group()), text) + "\n"


def versions(*packages):
    """Return the versions of Python and of installed packages."""
    found = {name: metadata.version(name) for name in packages}
    return {"Python": platform.python_version(), **found}


def rows(name):
    """Return the rows that were kept before."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []


def keep(name, *, title, text, command, columns, rows, folder=FOLDER, **more):
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
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(as_json(found), encoding="utf-8")
