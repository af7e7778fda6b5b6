"""The package has TensorFlow do as much work as it did: calls, compilations, copies."""

import json
import sys
from pathlib import Path

from support import run

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"


def test_counts_are_those_that_were_kept():
    result = run([str(BENCHMARKS / "counts.py")], timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "All counts are as expected." in result.stdout


def test_another_count_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    from compared_counts import WITHIN, differences

    kept = json.loads((BENCHMARKS / "counts.json").read_text("utf-8"))
    assert differences(kept, kept, WITHIN) == []
    model, again = "eight schools", "sample: compilations, again"
    for name, factor, seen in [
        ("pm.sample: TensorFlow calls per value and gradient", 2, True),
        ("sample: gradients of the draws", 1.2, False),
        ("sample: gradients of the draws", 1.5, True),
        ("bytes: frozen graph", 1.2, True),
    ]:
        changed = {**kept, model: {**kept[model], name: kept[model][name] * factor}}
        assert bool(differences(changed, kept, WITHIN)) == seen, (name, factor)
    changed = {**kept, model: {**kept[model], again: 1}}
    assert differences(changed, kept, WITHIN) == [f"{model}: {again} is 1, and was 0"]
    del changed[model][again]
    assert differences(changed, kept, WITHIN) == [f"{model}: {again} is None, and was 0"]
