"""Writes the inventories of other projects' names to which the reference links.

    python docs/inventories/renew.py

The inventories that these projects publish have thousands of names, and a build would have to fetch
them. These have the names that the docstrings use, so that a build needs no network. Where a name
is missing, the reference has plain text in its place.
"""

import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent

ADDRESSES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/1.23/",
    "pandas": "https://pandas.pydata.org/docs/",
    "arviz": "https://python.arviz.org/en/v0.12.1/",
    "pymc3": "https://www.pymc.io/projects/docs/en/v3.11.4/",
    "tensorflow": "https://www.tensorflow.org/api_docs/python/",
}


def pages():
    """Return the page of each name, by project and name."""
    functions, types = "library/functions.html", "library/stdtypes.html"
    python = {name: f"{functions}#{name}" for name in ("bool", "float", "int")}
    python.update({name: f"{types}#{name}" for name in ("dict", "list", "str", "tuple")})
    errors = "ImportError KeyboardInterrupt NotImplementedError RuntimeError TypeError ValueError"
    python.update({name: f"library/exceptions.html#{name}" for name in errors.split()})
    tensorflow = "Tensor TensorSpec Variable DType function compat.v1.Session"
    return {
        "python": python,
        "numpy": {
            "numpy.ndarray": "reference/generated/numpy.ndarray.html",
            "np.ndarray": "reference/generated/numpy.ndarray.html",
        },
        "pandas": {
            f"pandas.{name}": f"reference/api/pandas.{name}.html"
            for name in ("DataFrame", "Series")
        },
        "arviz": {
            f"arviz.{name}": f"api/generated/arviz.{name}.html"
            for name in ("InferenceData", "compare", "loo", "summary", "waic")
        },
        "pymc3": {"pymc3.Model": "api/model.html", "pm.Model": "api/model.html"},
        "tensorflow": {f"tf.{name}": f"tf/{name.replace('.', '/')}" for name in tensorflow.split()},
    }


def inventory(project, names):
    """Return an inventory in the format of Sphinx, version 2."""
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = [f"{name} py:class 1 {page} -\n" for name, page in sorted(names.items())]
    return head.encode() + zlib.compress("".join(lines).encode(), 9)


if __name__ == "__main__":
    for project, names in pages().items():
        (HERE / f"{project}.inv").write_bytes(inventory(project, names))
