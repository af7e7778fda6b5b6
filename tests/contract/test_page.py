"""docs/contract.md names the tests of every feature, and leaves none out."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def names_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if getattr(node, "name", "").startswith("test_")}


def test_page_and_tests_agree():
    named = set(
        re.findall(r"tests/(\S+\.py)::(\w+)", (ROOT / "docs/contract.md").read_text("utf-8"))
    )
    for path, test in named:
        assert test in names_of(ROOT / "tests" / path), f"tests/{path} has no {test}"
    for path in sorted((ROOT / "tests/contract").glob("test_*.py")):
        for test in sorted(names_of(path)):
            assert (f"contract/{path.name}", test) in named, f"the page lacks {path.name}::{test}"
