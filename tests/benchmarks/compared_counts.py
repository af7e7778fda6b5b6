"""Counts compared with those that were kept: which may differ, and by how much."""

# By how much a count may differ, as a fraction; of all others, not at all. Seeded trajectories have
# other lengths where the last bit of a sum is another one, and TensorFlow's versions differ in how
# they serialize graphs and in how many functions their loops have.
WITHIN = {
    "pm.sample: TensorFlow calls per draw": 0.2,
    "pm.sample: TensorFlow calls per leapfrog step": 0.02,
    "sample: gradients of the warmup": 0.3,
    "sample: gradients of the draws": 0.3,
    "sample: calls of the compiled program": 0.3,
    "sample: functions traced, first time": 0.5,
    "bytes: frozen graph": 0.1,
    "bytes: density, as a spawned chain is sent it": 0.1,
    "bytes: graph of the compiled program": 0.25,
}


def differences(found, expected, within):
    """Return what is wrong with the counts of all models, as lines of text."""
    wrong = []
    for model in sorted({*found, *expected}):
        ours, theirs = found.get(model, {}), expected.get(model, {})
        for name in {**theirs, **ours}:
            number, wanted = ours.get(name), theirs.get(name)
            if number is None or wanted is None:
                wrong.append(f"{model}: {name} is {number}, and was {wanted}")
            elif abs(number - wanted) > within.get(name, 0) * abs(wanted):
                margin = f" (may differ by {within[name]:.0%})" if name in within else ""
                wrong.append(f"{model}: {name} is {number:g}, and was {wanted:g}{margin}")
    return wrong
