"""Settings of Sphinx."""

import logging
import os
import re
import runpy
import sys
from pathlib import Path

# autodoc imports the package: keep what the libraries say on start-up out of the build.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("MPLBACKEND", None)  # notebooks show their figures
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").setLevel(logging.ERROR)

import pymc3_tf  # noqa: F401  # isort: skip  # before anything imports pymc3, for Python 3.11

from sphinx.util import inspect

# autodoc would write one signature for each of the hundred ops that are translated.
inspect.is_singledispatch_function = lambda _: False

here = Path(__file__).resolve().parent

project = "pymc3_tf"
author = "The pymc3_tf developers"
copyright = "2026, The pymc3_tf developers"
release = re.search(
    r'^__version__ = "([^"]+)"',
    (here.parent / "pymc3_tf" / "_version.py").read_text("utf-8"),
    re.MULTILINE,
).group(1)
version = release

sys.path.insert(0, str(here / "extensions"))
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "evidence",
    "executed",
    "mathml",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = [
    "_build",
    "evidence",
    "examples",
    "executed",
    "extensions",
    "drawings",
    "inventories",
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# A page that is a notebook shows what it computes. What has been computed is in docs/executed, and
# a build executes only what has changed since: see extensions/executed.py.
nb_execution_mode = "cache"
nb_execution_cache_path = str(here / "_build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 1800  # of a cell. A busy machine is no error
nb_merge_streams = True

bibtex_bibfiles = ["../pymc3_tf/citations.bib", "references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

# Small inventories, kept here: docs/inventories/renew.py writes them.
intersphinx_mapping = {
    project: (address, f"inventories/{project}.inv")
    for project, address in runpy.run_path(str(here / "inventories/renew.py"))["ADDRESSES"].items()
}

html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The NumPy docstrings say types, shapes and dtypes in words, better than annotations can.
napoleon_google_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "pymc3_tf " + release
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_theme_options = {
    "light_logo": "logo-light.svg",
    "dark_logo": "logo-dark.svg",
    "top_of_page_buttons": ["view"],
}
# The address of the repository, for links that edit a page.
if os.environ.get("DOCS_REPOSITORY"):
    html_theme_options.update(
        source_repository=os.environ["DOCS_REPOSITORY"],
        source_branch="main",
        source_directory="docs/",
        top_of_page_buttons=["view", "edit"],
    )
