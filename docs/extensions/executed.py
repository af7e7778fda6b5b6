"""What the notebooks among the pages have computed is kept in ``docs/executed``, in text.

A build takes it from there, if the code of the page is still the same, and executes what is new or
has changed. It then keeps the new results in ``docs/executed``, to be committed with the page. With
``DOCS_FRESH=1`` in the environment, everything is executed again.

The cache of jupyter-cache finds results by the hash of the code. It has a database that changes
with each build, so the cache itself is a part of the build, and is filled from these files.
"""

import json
import os
import shutil
from pathlib import Path

from jupyter_cache import get_cache
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent.parent
KEPT = DOCS / "executed"


def fill(app, config):
    """Start from what was kept."""
    if config.nb_execution_mode != "cache":
        return
    shutil.rmtree(config.nb_execution_cache_path, ignore_errors=True)
    cache = get_cache(config.nb_execution_cache_path)
    if os.environ.get("DOCS_FRESH") != "1":
        for path in sorted(KEPT.rglob("*.ipynb")):
            page = DOCS / path.relative_to(KEPT).with_suffix(".md")
            cache.cache_notebook_file(
                str(path), uri=str(page), check_validity=False, overwrite=True
            )


def keep(app, error):
    """Write what was computed, and say so; remove what has no page any more.

    After an error too: the pages before it need not be executed again.
    """
    if app.config.nb_execution_mode != "cache":
        return
    for path in KEPT.rglob("*.ipynb"):
        if not (DOCS / path.relative_to(KEPT).with_suffix(".md")).exists():
            path.unlink()
    cache = get_cache(app.config.nb_execution_cache_path)
    # Of two with the same page, the newer one.
    records = sorted(cache.list_cache_records(), key=lambda record: record.created)
    for page, record in {Path(record.uri): record for record in records}.items():
        path = (KEPT / page.relative_to(DOCS)).with_suffix(".ipynb")
        notebook = cache.get_cache_bundle(record.pk).nb
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # when it ran
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if path.exists() and path.read_text("utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        logging.getLogger(__name__).info("%s was executed: commit %s", page.name, path)


def setup(app):
    # After MyST-NB has made a path of the setting.
    app.connect("config-inited", fill, priority=900)
    app.connect("build-finished", keep)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
