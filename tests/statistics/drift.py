"""Compare seeded draws with those that were kept: does a change of code change numbers?

    python tests/statistics/drift.py [--update]

compares the first draws of both samplers on five models with ``drift.json`` beside this script, and
writes the differences in this environment to docs/evidence/drift.json. ``--update`` keeps the draws
of today, after a change that is meant to change them: say so in CHANGELOG.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what tests share
import conftest  # noqa: F401  # isort: skip  # settings of Theano and TensorFlow

import argparse
import json
import platform

import drift_draws as drift
import evidence_file
import tensorflow as tf

EXPECTED = Path(__file__).with_name("drift.json")
EVIDENCE = evidence_file.FOLDER / "drift.json"
TEXT = """\
The first draws of seeded chains, warmup from its start, are those that were kept: a change of the
code that changes numbers is seen. The tests compare. Rounding differs between processors and
versions of TensorFlow, and each step of a trajectory magnifies the difference. The first 20 draws
(12 by `pymc3_tf.sample`) are compared; the bound is 1e-6. A difference is
relative to the largest number of its variable."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="keep the draws of today")
    update = parser.parse_args().update
    made = {}
    for model, sampler in drift.CASES:
        made[drift.label(model, sampler)] = drift.draws(model, sampler)
        print(drift.label(model, sampler), made[drift.label(model, sampler)].shape, flush=True)
    if update:
        kept = {name: array.tolist() for name, array in made.items()}
        EXPECTED.write_text(json.dumps(kept).replace("]], ", "]],\n") + "\n", encoding="utf-8")
    kept = json.loads(EXPECTED.read_text("utf-8"))
    found = {name: drift.difference(made[name], kept[name]) for name in made}
    report(found, afresh=update)
    wrong = [f"{name}: {value:.1e}" for name, value in found.items() if not value < drift.BOUND]
    if wrong:
        sys.exit("\n".join(["These draws have changed:", *wrong]))


def report(found, afresh):
    """Write the differences in this environment beside those in others."""
    known = json.loads(EVIDENCE.read_text("utf-8")) if EVIDENCE.exists() and not afresh else {}
    environments = known.get("environments", {})
    environments[f"Python {platform.python_version()}, TensorFlow {tf.__version__}"] = found
    rows = [
        [model, f"`{sampler}`", drift.NUMBERS[sampler]]
        + [shown(found.get(drift.label(model, sampler))) for found in environments.values()]
        for model, sampler in drift.CASES
    ]
    evidence_file.keep(
        "drift",
        title="Draws that stay the same",
        text=TEXT,
        command="python tests/statistics/drift.py",
        versions={},
        columns=["model", "sampler", "draws", *environments],
        rows=rows,
        environments=environments,
    )


def shown(value):
    """Return a difference as text; an environment may lack a case."""
    return "not run" if value is None else f"{value:.0e}"


if __name__ == "__main__":
    main()
