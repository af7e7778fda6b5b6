"""The profile of a model."""

import importlib

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from checked_models import model_of, right_model, unit

import pymc3_tf
from pymc3_tf.checking import timing
from pymc3_tf.exceptions import DiscreteVariableError

checking = importlib.import_module("pymc3_tf.checking.check")  # the module, not the function


# -- profile ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def right():
    return right_model()


def test_profile_says_where_time_goes(right):
    profile = pymc3_tf.profile(right, seconds=0.8)
    assert [part.name for part in profile.parts] == list(timing._NAMES)
    # The two between them are small differences of times, and may be zero.
    assert profile.parts[0].seconds > 0 and profile.parts[3].seconds > 0
    *rows, total = str(profile).splitlines()
    assert len(rows) == 4 and total.split()[0] == "together"
    assert sum(float(row.split("%")[0].split()[-1]) for row in rows) == pytest.approx(100, abs=2)
    assert repr(profile).startswith("<Profile: ") and profile.total < 1.0
    bars = profile.plot().patches
    widths = [bar.get_width() for bar in bars][::-1]
    np.testing.assert_allclose(widths, [1e6 * part.seconds for part in profile.parts])


def test_profile_sees_what_is_slow(right):
    large = np.linspace(0.0, 1.0, 300_000)
    slow = model_of(lambda y, mu: tf.reduce_sum(unit(y, mu)), observed=large)
    quick, slow = (pymc3_tf.profile(model, seconds=0.4).parts for model in (right, slow))
    assert slow[0].name == "TensorFlow" and slow[0].seconds > 10 * quick[0].seconds


def test_profile_refuses_what_it_cannot_measure():
    with pm.Model():
        pm.Normal("x", 0.0, 1.0)
        with pytest.raises(ValueError, match="nothing in the model is computed by TensorFlow"):
            pymc3_tf.profile()
        pm.Poisson("n", 1.0)
        with pytest.raises(DiscreteVariableError, match="'n' are discrete"):
            pymc3_tf.profile()
