"""Run tests that are evidence of their own, and keep how many passed for docs/evidence.md.

    python tests/evidence.py [NAME ...]

writes ``docs/evidence/suites.json``. Selections that are not named stay as they were.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import evidence_file

ROOT = Path(__file__).resolve().parents[1]
PATH = evidence_file.FOLDER / "suites.json"
TITLE = "Suites"
TEXT = """\
Each line is a part of the tests. A test of *the same chain* compares the draws of a distribution of
PyMC3 with those of its twin in TensorFlow, number by number. A test of *wrong input* is a
declaration or data that cannot work: it has to end in an error of this package with a name and a
mend. A *random density* is a graph and feeds made up by hypothesis: it has to work or to be refused
so. *PyMC3's own tests* run with every Theano function computed by TensorFlow."""

# Name: what it is called, and what pytest is told.
SUITES = {
    "same_chain": ("the same chain, 22 distributions", ["tests/contract/test_same_chain.py"]),
    "contract": ("the contract of a distribution", ["tests/contract"]),
    "bad_inputs": ("wrong input", ["tests/contract/test_bad_inputs.py"]),
    "fuzz": ("20,000 random densities", ["tests/contract/test_fuzz.py", "-m", "slow"]),
    "closed_forms": ("closed forms", ["tests/statistics/test_closed_forms.py", "-m", ""]),
    "errors": ("texts of errors", ["tests/test_errors_page.py", "tests/advice"]),
    "pymc3": ("PyMC3's own tests", ["tests/statistics/test_pymc3_suite.py", "-m", "slow"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUITES))
    names = parser.parse_args().names or list(SUITES)
    kept = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
    suites = kept.get("suites", {})
    for name in names:
        suites[name] = counted(SUITES[name][1])
        print(name, suites[name], flush=True)
        evidence_file.keep(
            "suites",
            title=TITLE,
            text=TEXT,
            command="python tests/evidence.py",
            columns=["tests", "passed", "failed", "which, and why"],
            rows=[row(SUITES[name][0], suites[name]) for name in SUITES if name in suites],
            versions=evidence_file.versions("pymc3", "tensorflow", "hypothesis"),
            suites=suites,
        )


def counted(arguments):
    """Return how many tests passed, those within a test included, and which failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run([*command, f"--junitxml={report}", *arguments], cwd=ROOT)
        if not report.exists():
            raise SystemExit(f"pytest ended with code {done.returncode} and no report.")
        cases = ElementTree.parse(report).getroot().iter("testcase")
        found = {"passed": 0, "failed": {}}
        for case in cases:
            if case.find("skipped") is not None:
                continue
            if case.find("failure") is not None or case.find("error") is not None:
                found["failed"][case.get("name")] = "see the test"
            properties = {p.get("name"): p.get("value") for p in case.iter("property")}
            found["passed"] += int(properties.get("passed", case.find("failure") is None))
            found["failed"].update(json.loads(properties.get("failed", "{}")))
    return found


def row(label, found):
    """Return a row of the table."""
    failed = "; ".join(f"`{name}`: {why}" for name, why in found["failed"].items())
    return [label, f"{found['passed']:,}", len(found["failed"]), failed]


if __name__ == "__main__":
    main()
