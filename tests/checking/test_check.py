"""Checks of models that are right, and what can be checked."""

import importlib
import pickle
import sys
import types

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from checked_models import Y, check, model_of, outcomes, right_model

import pymc3_tf
from pymc3_tf.checking.report import Report, Stage, current_cell
from pymc3_tf.exceptions import GradientError
from pymc3_tf.programs.program import Program
from pymc3_tf.runtime import failures

checking = importlib.import_module("pymc3_tf.checking.check")  # the module, not the function


@pytest.fixture(scope="module")
def right():
    return right_model()


@pytest.fixture(scope="module")
def report(right):
    return pymc3_tf.check(right, show=False, seconds=1.0)


def test_a_right_model_passes_every_stage(report):
    assert report.passed and report.failure is None, str(report)
    assert outcomes(report) == ["passed"] * 9
    assert report["captured"].text.endswith("nodes, of mu, sigma; data value (24 bytes)")
    assert "y: logp float64 (3,) of mu float64 (), sigma float64 ()" in report["shapes"].text
    assert report["pointwise"].text == "y: 3 numbers, which sum to the joint log density"
    assert report["log likelihood"].text == "y: shape (3,), dims point"
    assert report["prior draws"].text == "finite at 100 draws, and so are the gradients"


def test_its_numbers_are_those_of_pymc3(report, right):
    with pm.Model() as builtin:
        mu = pm.Normal("mu", 0.0, 1.0, testval=0.4)
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1.0), observed=Y)
    point = right.test_point
    numbers = report["value"].numbers
    np.testing.assert_allclose(numbers["y"], builtin["y"].logp(point))
    np.testing.assert_allclose(numbers["together"], builtin.logp(point))
    np.testing.assert_allclose(report["XLA"].numbers["value"], builtin.logp(point))
    assert set(report["gradient"].numbers) == {"y: mu", "y: sigma"}
    assert 0 < max(report["gradient"].numbers.values()) < 1e-7


def test_its_times_are_in_order(report):
    numbers = report["time"].numbers
    assert 0 < numbers["TensorFlow alone"] < numbers["model in Theano"]
    assert numbers["TensorFlow alone"] < numbers["step of pm.sample"]
    assert 0 < numbers["gradient in pymc3_tf.sample"] < numbers["step of pm.sample"]


def test_a_report_is_printed_stage_by_stage(right, capsys):
    found = pymc3_tf.check(right["y"], seconds=0.05)
    lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines) == str(found)
    assert lines[0].startswith("passed   captured         y: ") and max(map(len, lines)) <= 100
    assert lines[-1] == "y: no failure in 9 stages."
    assert repr(found) == "<Report of y: no failure in 9 stages>"
    with pytest.raises(KeyError, match="slope: the stages are captured, shapes, value"):
        found["slope"]


def test_a_report_is_shown_once_in_a_cell(capsys, monkeypatch):
    ipython = types.ModuleType("IPython")
    shell = types.SimpleNamespace(execution_count=3)
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    stage = Stage("value", "passed", "1")
    report = Report("x", [stage], current_cell())
    report._ipython_display_()
    assert capsys.readouterr().out == ""
    shell.execution_count = 4
    report._ipython_display_()
    assert capsys.readouterr().out == f"{report}\n"
    shell = None
    assert current_cell() is None
    Report("x", [stage], current_cell())._ipython_display_()
    assert capsys.readouterr().out == f"{report}\n"


@pytest.mark.parametrize("show, cell", [(True, 7), (False, None)])
def test_a_check_knows_the_cell_that_it_prints_in(monkeypatch, show, cell):
    monkeypatch.setattr(checking, "current_cell", lambda: 7)
    assert pymc3_tf.check(lambda: model_of(lambda y: y), show=show).cell == cell


def test_long_texts_are_wrapped():
    stage = Stage("value", "failed", "word " * 40 + "\nsecond")
    first, *rest = str(stage).splitlines()
    assert first.startswith("failed   value            word") and len(rest) == 3
    assert all(line.startswith(" " * 26) and len(line) <= 100 for line in rest)
    assert Report("x", [stage]).summary() == "x: 'value' failed first."


def test_a_check_leaves_nothing_behind(right):
    failures.record("other", "before")
    state = np.random.get_state()[1].copy()
    check(model_of(lambda y, mu: tf.math.log(mu - 1.0) + 0.0 * y))
    assert [text.split("The first one: ")[1][:6] for text in failures.take()] == ["before"]
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# -- what can be checked ----------------------------------------------------------------------


def test_free_variables_and_ops_can_be_checked():
    with pm.Model():
        x = pm.TFDensity("x", lambda x: -(x**2), transform=pm.distributions.transforms.log)
        wave = pymc3_tf.TensorFlowOp(tf.sin, [tf.TensorSpec([], tf.float64)])(x)
        other = pm.Deterministic("other", wave)
    for variable, skipped in ((x, 2), (wave, 2), (other, 2)):
        report = check(variable)
        assert report.passed and outcomes(report).count("skipped") >= skipped, str(report)
    z = tt.dscalar("z")
    with theano.config.change_flags(compute_test_value="off"):
        alone = pymc3_tf.TensorFlowOp(tf.sin, [tf.TensorSpec([], tf.float64)])(z)
    report = check(alone)
    assert report.failure.name == "shapes" and "'z' has no value. Set x" in report.failure.text
    np.testing.assert_allclose(list(pymc3_tf.verify_grad(alone, {"z": 2.0}).values()), 0, atol=1e-7)


@pytest.mark.parametrize("subject", [3.0, "y", None])
def test_other_things_are_refused(subject):
    with pytest.raises(TypeError, match="cannot be checked. Give a pm.Model, a variable"):
        check(subject)


def test_variables_without_tensorflow_are_refused():
    with pm.Model():
        x = pm.Normal("x", 0.0, 1.0)
    with pytest.raises(TypeError, match="'x' has nothing that TensorFlow computes. Give a"):
        check(x)


# -- verify_grad ------------------------------------------------------------------------------


def test_verify_grad_at_a_point(right):
    for point in (None, {"sigma": 0.3}, {"sigma_log__": -1.0, "mu": 2.0}):
        errors = pymc3_tf.verify_grad(right["y"], point)
        assert set(errors) == {"y: mu", "y: sigma"} and max(errors.values()) < 1e-7
    with pytest.raises(ValueError, match="point has 'tau', which is no free variable of y. Its"):
        pymc3_tf.verify_grad(right["y"], {"tau": 1.0})


def test_verify_grad_depends_on_the_point():
    @tf.custom_gradient
    def bent(x):
        return tf.abs(x), lambda upstream: upstream

    model = model_of(lambda y, mu: -bent(mu) + 0.0 * y, check_gradient=False)
    assert pymc3_tf.verify_grad(model, {"mu": 1.0})["y: mu"] < 1e-9
    with pytest.raises(GradientError, match=r"at mu = -1 it is -3, and central differences give 3"):
        pymc3_tf.verify_grad(model, {"mu": -1.0})


# -- lines ------------------------------------------------------------------------------------


def origin_of(density, op):
    program = density.distribution.program
    (node,) = [n.name for n in program.graph_without_gradients().node if n.op == op]
    return program.origins.of(node), program


def test_lines_of_graphs_and_of_functions_that_are_called():
    with tf.Graph().as_default():
        value = tf.compat.v1.placeholder(tf.float64, ())
        logp = -tf.cosh(value)

    @tf.function
    def inner(x):
        return tf.cosh(x)

    def outer(x):
        return -inner(x)

    with pm.Model():
        of_graph, of_function = pm.TFDensity("g", logp), pm.TFDensity("f", outer)
    assert origin_of(of_graph, "Cosh")[0].endswith(": `logp = -tf.cosh(value)`")
    line, program = origin_of(of_function, "Cosh")
    assert "test_check.py:" in line and line.endswith("in inner: `return tf.cosh(x)`")
    # They decide no numbers, and stay in their process.
    again = pickle.loads(pickle.dumps(program))
    assert again.origins is None and again == program and isinstance(again, Program)
