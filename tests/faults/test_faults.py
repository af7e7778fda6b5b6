"""Whatever happens to a session, the user has control again soon, and it goes on."""

import matrix
import pytest

# The others mount disks, start servers, or take long.
QUICK = ["chain killed", "Ctrl-C, pm.sample", "Ctrl-C, pymc3_tf.sample"]


@pytest.mark.parametrize("fault", QUICK)
def test_session_goes_on(fault):
    outcomes = matrix.run(fault, seed=100, trials=2)
    assert all(outcome.good for outcome in outcomes), outcomes


# Where no thread can start for lack of memory, TensorFlow ends the process.
SURE = [fault for fault in matrix.FAULTS if not fault.startswith("memory")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", SURE)
def test_session_goes_on_whenever_it_happens(fault):
    outcomes = list(matrix.happen(fault, seed=1000))
    assert all(outcome.good for outcome in outcomes), outcomes
