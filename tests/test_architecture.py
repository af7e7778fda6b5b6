"""The packages import one way only, and those of TensorFlow alone know nothing of Theano."""

import ast
from pathlib import Path

import pytest

import pymc3_tf

ROOT = Path(pymc3_tf.__file__).parent
# From the lowest layer up. A package imports itself and those of layers below its own.
LAYERS = [
    {"exceptions", "private_tensorflow", "_version"},
    {"programs", "advice"},
    {"host"},
    {"runtime", "nuts"},
    {"gradients"},
    {"capture"},
    {"bridge"},
    {"linker", "model"},
    {"sampling", "citations"},
    {"checking"},
    {"patches"},
]
TENSORFLOW_ONLY = [
    "exceptions",
    "private_tensorflow",
    "programs",
    "advice",
    "host",
    "runtime",
    "nuts",
    "gradients",
    "capture",
]


def modules(package):
    folder = ROOT / package
    return sorted(folder.glob("*.py")) if folder.is_dir() else [ROOT / f"{package}.py"]


def imports(file):
    """The names of all modules that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_package_is_in_a_layer():
    found = {file.stem for file in ROOT.iterdir() if file.suffix == ".py" or file.is_dir()}
    assert found - {"__init__", "__pycache__", "py"} == set.union(*LAYERS)


@pytest.mark.parametrize("package", sorted(set.union(*LAYERS)))
def test_packages_import_what_is_below_them(package):
    (layer,) = [i for i, names in enumerate(LAYERS) if package in names]
    allowed = set.union({package}, *LAYERS[:layer])
    for file in modules(package):
        ours = {name.split(".")[1] for name in imports(file) if name.startswith("pymc3_tf.")}
        assert ours <= allowed, f"{file.name} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("package", TENSORFLOW_ONLY)
def test_packages_of_tensorflow_alone_import_no_theano(package):
    for file in modules(package):
        others = {name.split(".")[0] for name in imports(file)} & {"theano", "pymc3", "arviz"}
        assert not others, f"{file.name} imports {sorted(others)}"


def test_no_package_but_the_linker_has_more_than_nine_modules():
    sizes = {p.name: len(list(p.glob("*.py"))) - 1 for p in ROOT.iterdir() if p.is_dir()}
    assert all(size <= 9 for name, size in sizes.items() if name != "linker"), sizes
