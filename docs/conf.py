"""Settings of Sphinx."""

import logging
import os
import re
from pathlib import Path

# autodoc imports the package: keep what the libraries say on start-up out of the build.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").setLevel(logging.ERROR)

import pymc3_tf  # noqa: F401  # before anything imports pymc3, for the sake of Python 3.11

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

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "examples/output"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# The NumPy docstrings say types, shapes and dtypes in words, better than annotations can.
napoleon_google_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "pymc3_tf " + release
html_copy_source = False
