"""What is kept for the next time is bounded: programs, sessions, traces."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from support import tf_normal

import pymc3_tf
from pymc3_tf.linker import mode
from pymc3_tf.nuts import sampler as nuts
from pymc3_tf.runtime import functions, sessions
from pymc3_tf.sampling import sample, unconstrained

DATA = np.array([0.3, -1.0, 2.0])


def live_sessions():
    gc.collect()
    return len(sessions._sessions)


def live_functions():
    gc.collect()
    return len(functions.live_functions())


def test_constants_leave_neither_programs_nor_sessions():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.TFDensity("y", tf_normal, {"mu": mu, "sigma": 1.0}, observed=DATA)
    density = model.y.distribution
    at = model.y.logp_elemwise
    own = len(density._log_density._bound)
    expected = at({"mu": 0.5})
    before, known = live_sessions(), live_functions()
    for i in range(100):
        logp = density.logp(DATA + i)
        value = logp.eval({mu: 0.5})
        np.testing.assert_allclose(value, tf_normal(DATA + i, 0.5, np.float64(1.0)))
        del logp
    assert live_sessions() <= before + 2 and live_functions() <= known + 2
    assert len(density._log_density._bound) <= own + 2
    np.testing.assert_array_equal(at({"mu": 0.5}), expected)


def test_the_program_of_the_observed_data_stays(monkeypatch):
    with pm.Model() as model:
        pm.TFDensity("y", tf_normal, {"mu": pm.Normal("mu"), "sigma": 1.0}, observed=DATA)
    made = []
    bind = pymc3_tf.model.log_density.bind_constants
    monkeypatch.setattr(
        pymc3_tf.model.log_density, "bind_constants", lambda *a: made.append(a) or bind(*a)
    )
    density = model.y.distribution
    for i in range(20):
        density.logp(DATA + i)
    assert len(made) == 20
    gc.collect()
    for constant in [x for x in density._log_density._bound if np.array_equal(x.data, DATA)]:
        density.logp(constant)
        density.logp_sum(constant)
    assert len(made) == 20


@pytest.mark.parametrize("copied", ["pickle", "deepcopy"])
def test_copies_have_the_programs_of_their_data(copied, monkeypatch):
    with pm.Model() as model:
        pm.TFDensity("y", tf_normal, {"mu": pm.Normal("mu"), "sigma": 1.0}, observed=DATA)
    made = pickle.loads(pickle.dumps(model)) if copied == "pickle" else copy.deepcopy(model)
    density = made.y.distribution
    observed = [x for x in density._log_density._bound if np.array_equal(x.data, DATA)][0]
    assert observed not in model.y.distribution._log_density._bound
    value = density.logp(observed).eval({made["mu"]: 0.5})
    np.testing.assert_allclose(value, tf_normal(DATA, 0.5, np.float64(1.0)))


def test_values_that_broadcast_leave_a_few_programs():
    density = pm.TFDensity.dist(tf_normal, {"mu": 0.5, "sigma": 1.0}, shape=3)
    for length in range(1, 31):
        density.logp(np.ones((length, 1)))
    assert len(density._log_density._programs) <= 8


def test_lengths_of_data_leave_a_few_compiled_programs(monkeypatch):
    made = []

    class Counted:
        def __init__(self, *args, **kwargs):
            made.append(weakref.ref(self))

    monkeypatch.setattr(nuts, "CompiledSampler", Counted)
    with pm.Model() as model:
        x = pm.Data("x", DATA)
        pm.Normal("y", pm.Normal("mu") * x, 1.0, observed=x)
    for length in range(2, 32):
        pm.set_data({"x": np.ones(length)}, model=model)
        known, program = sample.compiled_model(model, 0, 10, False, True)
        assert sample.compiled_model(model, 0, 10, False, True) == (known, program)
    gc.collect()
    assert len(made) == 30
    assert sum(ref() is not None for ref in made) == sample._PROGRAMS


def test_lengths_of_data_leave_a_few_traces(monkeypatch):
    with pm.Model() as model:
        x = pm.Data("x", DATA)
        mu = pm.Normal("mu")
        pm.Deterministic("line", mu * x)
    functions = unconstrained.UnconstrainedModel(model)
    kept = weakref.WeakSet()
    made = unconstrained._Batch.__init__

    def counted(self, *args):
        made(self, *args)
        kept.add(self)

    monkeypatch.setattr(unconstrained._Batch, "__init__", counted)
    for length in range(2, 32):
        pm.set_data({"x": np.full(length, 2.0)}, model=model)
        np.testing.assert_allclose(
            functions.values(np.full((1, 1), 3.0))["line"], np.full((1, length), 6.0)
        )
    gc.collect()
    assert len(kept) == len(functions._batches) == unconstrained._PROGRAMS
    assert len(functions._linked) == 1


def test_lengths_of_inputs_leave_a_few_traces_in_the_mode(monkeypatch):
    kept = []
    real = tf.function

    def function(*args, **kwargs):
        made = real(*args, **kwargs)
        kept.append(weakref.ref(made))
        return made

    monkeypatch.setattr(mode.tf, "function", function)
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        square = theano.function([x], x**2, mode="TF")
    for length in range(1, 41):
        np.testing.assert_allclose(square(np.full(length, 3.0)), np.full(length, 9.0))
    gc.collect()
    assert len(kept) == 40
    assert sum(ref() is not None for ref in kept) == mode._SHAPES
    # The last ones are there, and nothing is traced for them.
    square(np.ones(40))
    assert len(kept) == 40
