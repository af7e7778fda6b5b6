"""Seeded draws are those that were kept."""

import json
from pathlib import Path

import drift_draws as drift
import numpy as np
import pytest

KEPT = json.loads(Path(__file__).with_name("drift.json").read_text("utf-8"))


@pytest.mark.parametrize(("model", "sampler"), drift.CASES)
def test_first_draws_of_a_seed_are_those_that_were_kept(model, sampler):
    kept = np.array(KEPT[drift.label(model, sampler)])
    found = drift.draws(model, sampler)
    assert drift.difference(found, kept) < drift.BOUND, (
        "Draws of the same seed have changed. If that is meant: python tests/statistics/drift.py "
        "--update, and a line in CHANGELOG.md."
    )


def test_every_case_is_kept_and_one_other_number_would_be_seen():
    assert set(KEPT) == {drift.label(*case) for case in drift.CASES}
    for draws in KEPT.values():
        changed = np.array(draws)
        changed.flat[np.abs(changed).argmax()] *= 1 + 2e-6
        assert not drift.difference(changed, draws) < drift.BOUND
