"""Measure which lines and branches of the package the tests run, forked processes included.

    python tests/covered.py [--report] [PART ...]

runs the tests in parts under coverage, one process at a time, and writes
docs/evidence/coverage.json. A part is what pytest takes, such as ``tests/linker``. What earlier
parts ran is kept in ``.coverage.*`` and counts too; ``--report`` runs nothing.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import evidence_file

ROOT = Path(__file__).resolve().parents[1]
PARTS = [
    *sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and path.name != "benchmarks" and any(path.glob("test_*.py"))
    ),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py")),
    "pymc3_tf",  # the examples of docstrings
]
TEXT = """\
Lines and branches of the package that its tests run: {parts}. Processes that tests start, forked
ones too, count. What TensorFlow's own threads call is not seen."""


def coverage(*arguments):
    """Run coverage, with the settings of pyproject.toml."""
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT).returncode


def run(part):
    """Run a part of the tests; return whether all of it passed."""
    return not coverage("run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *part.split())


def totals():
    """Return by package how many lines and branches there are, and how many were run."""
    with tempfile.TemporaryDirectory() as folder:
        combined, report = Path(folder) / "combined", Path(folder) / "report.json"
        data = f"--data-file={combined}"
        files = sorted(map(str, ROOT.glob(".coverage.*")))
        if coverage("combine", "--keep", "-q", data, *files) or coverage(
            "json", "-q", data, "-o", str(report)
        ):
            raise SystemExit("coverage has no results: run some tests first")
        found = json.loads(report.read_text("utf-8"))
    packages, missing = collections.defaultdict(collections.Counter), {}
    for name, module in sorted(found["files"].items()):
        package = name.split("/")[1].replace(".py", "")
        for key in (package, "all"):
            packages[key].update({k: v for k, v in module["summary"].items() if k in COUNTED})
        if module["missing_lines"] or module["missing_branches"]:
            missing[name] = {k: module[k] for k in ("missing_lines", "missing_branches")}
    return packages, missing


COUNTED = ["num_statements", "covered_lines", "num_branches", "covered_branches"]


def row(name, counts):
    """Return a row of the table."""
    lines, run_lines, branches, run_branches = (counts[key] for key in COUNTED)
    percent = 100 * (run_lines + run_branches) / max(lines + branches, 1)
    return [name, f"{run_lines} of {lines}", f"{run_branches} of {branches}", round(percent, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all tests")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    failed = [] if arguments.report else [part for part in parts if not run(part)]
    packages, missing = totals()
    rows = [row(name, packages[name]) for name in packages if name != "all"]
    rows.append(row("all", packages["all"]))
    for each in rows:
        print(each[0].ljust(20), *(str(cell).rjust(16) for cell in each[1:]))
    for name, lines in missing.items():
        print(name, lines)
    named = ", ".join(f"`{part}`" for part in parts) if arguments.parts else "the whole suite"
    evidence_file.keep(
        "coverage",
        title="Lines and branches that tests run",
        text=TEXT.format(parts=named),
        command="tox -e coverage",
        versions=evidence_file.versions("coverage", "tensorflow"),
        columns=["package", "lines", "branches", "percent"],
        rows=rows,
    )
    if failed:
        raise SystemExit(f"tests failed in {', '.join(failed)}")


if __name__ == "__main__":
    main()
