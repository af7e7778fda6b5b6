"""Benchmark by counts: calls, gradients, compilations, traces and copies, instead of seconds.

    python tests/benchmarks/counts.py [--update]

prints the counts of a few models and compares them with ``counts.json`` beside this script. What is
another number than there, or too far from it, is named, and the exit status is 1. Counts are the
same on a busy machine, so this runs with the tests. ``--update`` keeps what was counted, there and
for docs/evidence.md: after a change that is meant to change them.
"""

import counted  # isort: skip  # sets what Theano and XLA read first

import argparse
import json
import sys
from pathlib import Path

import evidence_file
from compared_counts import WITHIN, differences

EXPECTED = Path(__file__).with_name("counts.json")
TEXT = """\
How much work the package has TensorFlow do, in numbers that do not depend on the speed of the
machine. The tests count again and compare. A count with a tolerance depends on the last bit of
rounding or on the version of TensorFlow; all others have to be equal. (Copies of the data in the
compiled program: up to 4 KB are constants, one for the value and one for the gradient; more data
is an argument.)"""


def table(found):
    """Return columns and rows: a row for each count, a column for each model."""
    names = list(next(iter(found.values())))
    rows = [
        [name, f"±{WITHIN[name]:.0%}" if name in WITHIN else "equal"]
        + [f"{counts[name]:,.4g}" if counts[name] < 1000 else f"{counts[name]:,}"
           for counts in found.values()]
        for name in names
    ]  # fmt: skip
    return ["count", "compared", *found], rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="keep what was counted")
    update = parser.parse_args().update
    found = {name: counted.measure(name) for name in counted.MODELS}
    columns, rows = table(found)
    for row in [columns, *rows]:
        print(row[0].ljust(60), *(cell.rjust(22) for cell in row[1:]))
    if update:
        EXPECTED.write_text(evidence_file.as_json(found), encoding="utf-8")
        evidence_file.keep(
            "counts",
            title="Counts of work",
            text=TEXT,
            command="python tests/benchmarks/counts.py",
            columns=columns,
            rows=rows,
        )
        return
    wrong = differences(found, json.loads(EXPECTED.read_text("utf-8")), WITHIN)
    if wrong:
        sys.exit("\n".join(["These counts have changed:", *wrong]))
    print("All counts are as expected.")


if __name__ == "__main__":
    main()
