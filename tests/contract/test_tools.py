"""PyMC3's and Theano's tools around a model: pictures, text, profiles, copies, DebugMode, scan."""

import copy
import pickle
import re

import cloudpickle
import dill
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from pymc3.distributions import transforms
from support import assert_same_model
from twins import TWINS, both, draw, normal

from pymc3_tf import TensorFlowOp

DATA = np.array([0.3, -1.2, 2.5, 0.7])


def declare(ours, with_mixture=True):
    """Declare free, transformed, missing, shared, bounded and mixed densities in one model."""
    x = pm.Data("x", np.arange(4.0))
    slope = TWINS["Normal"].declare("slope", ours)
    scale = TWINS["Gamma"].declare("scale", ours, shape=2, testval=np.ones(2))
    w = TWINS["Dirichlet"].declare("w", ours, testval=np.full(3, 1 / 3))
    half = pm.Deterministic("half", slope / 2)
    params = {"mu": slope * x + w[0], "sigma": scale[0]}
    TWINS["StudentT"].declare("y", ours, params, observed=DATA)
    TWINS["Normal"].declare("z", ours, {"mu": half}, observed=np.array([0.1, np.nan]))
    if not with_mixture:
        return
    components = [
        pm.TFDensity.dist(normal, {"mu": m, "sigma": scale[1]}) if ours else
        pm.Normal.dist(m, scale[1]) for m in (slope, 2.0)
    ]  # fmt: skip
    pm.Mixture("m", [0.4, 0.6], components, observed=DATA)


pytestmark = pytest.mark.filterwarnings("ignore::pymc3.exceptions.ImputationWarning")


def test_model_graph_is_the_builtins():
    ours, theirs = (pm.model_to_graphviz(model).source for model in both(declare))
    named = [re.findall(r"(\w+) \[label=\"(\w+)", text) for text in (ours, theirs)]
    assert sorted(named[0]) == sorted(named[1])
    edges = [sorted(re.findall(r"(\w+) -> (\w+)", text)) for text in (ours, theirs)]
    assert edges[0] == edges[1]
    assert {("slope", "y"), ("scale", "y"), ("x", "y"), ("slope", "half")} <= set(edges[0])
    assert ours.count("TFDensity") == 5


NAMES = {"slope": "Normal", "scale": "Gamma", "w": "Dirichlet", "y": "StudentT", "z": "Normal"}


@pytest.mark.parametrize("formatting", ["plain", "latex"])
def test_text_of_the_model_is_the_builtins(formatting):
    ours, theirs = (model._str_repr(formatting=formatting) for model in both(declare))
    ours, theirs = (text.splitlines() for text in (ours, theirs))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs):
        for name in set(NAMES.values()):
            their = re.sub(rf"\b{name}\b", "TFDensity", their)
        assert re.sub(r"\s+", " ", our) == re.sub(r"\s+", " ", their)


@pytest.mark.parametrize("formatting", ["plain_with_params", "latex_with_params"])
@pytest.mark.parametrize("name", ["slope", "scale", "z"])
def test_text_of_a_variable_has_the_parameters_of_the_builtin(name, formatting):
    ours, theirs = both(declare)
    texts = [model[name]._str_repr(formatting=formatting) for model in (ours, theirs)]
    assert texts[0].replace("TFDensity", NAMES[name]) == texts[1]
    if formatting.startswith("latex"):
        assert ours[name]._repr_latex_() == texts[0]
        copied = cloudpickle.loads(cloudpickle.dumps(ours))
        assert copied[name]._repr_latex_() == texts[0]


def test_profile_counts_the_calls():
    """And names the op that does the work: TensorFlow's in place of Theano's own."""
    for model, ours in zip(both(declare), (True, False)):
        with model:
            profile = model.profile([model.logpt, *tt.grad(model.logpt, model.vars)], n=7)
        assert profile.fct_callcount == 7
        ops = [node.op for _, node in profile.apply_time]
        assert any(isinstance(op, TensorFlowOp) for op in ops) == ours


def without_mixture(ours):
    declare(ours, with_mixture=False)


def test_mixture_of_a_list_can_not_be_pickled_by_pymc3():
    for model in both(declare):
        with pytest.raises(AttributeError, match="_comp_dist_random_wrapper"):
            pickle.dumps(model)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "dill": lambda model: dill.loads(dill.dumps(model)),
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
}


@pytest.mark.parametrize(
    "way",
    [
        "pickle",
        "cloudpickle",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("dill", "deepcopy")),
    ],
)
def test_copied_model_is_the_builtins(way):
    ours, theirs = both(without_mixture if way == "pickle" else declare)
    ours = COPIES[way](ours)
    assert_same_model(ours, theirs)
    traces = [draw(model, pm.NUTS, 10, start=theirs.test_point) for model in (ours, theirs)]
    for name in ("slope", "scale", "w", "z_missing"):
        np.testing.assert_allclose(traces[0][name], traces[1][name], rtol=1e-6)
    for model in (ours, theirs):
        with model:
            pm.set_data({"x": np.arange(4.0) ** 2})
    assert_same_model(ours, theirs)


def test_debug_mode_finds_nothing():
    # The built-ins have constants that are not finite.
    mode = theano.compile.debugmode.DebugMode(
        check_c_code=False, stability_patience=1, check_isfinite=False
    )

    def build(ours):
        x = TWINS["Gamma"].declare("x", ours, shape=2, testval=np.ones(2))
        TWINS["Normal"].declare("y", ours, {"mu": x}, observed=np.array([0.3, np.nan]))

    results = []
    for model in both(build):
        outputs = [model.logpt, *tt.grad(model.logpt, model.vars)]
        function = theano.function(model.vars, outputs, mode=mode)
        start = [np.full(2, 0.3) if v.name == "x_log__" else np.full(1, 0.7) for v in model.vars]
        results.append(np.hstack(function(*start)))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)


def test_scan_over_a_density_and_an_op():
    """An autoregression: each step has a TensorFlow op for its mean, and a density."""
    step = TensorFlowOp(
        lambda before, rho: rho * tf.tanh(before), [tf.TensorSpec([], tf.float64)] * 2
    )

    def build(ours):
        rho = TWINS["Normal"].declare("rho", ours, testval=0.5)
        sigma = TWINS["Gamma"].declare("sigma", ours, testval=1.0)

        def logp(value, before, rho, sigma):
            if ours:
                params = {"mu": step(before, rho), "sigma": sigma}
                return pm.TFDensity.dist(normal, params).logp(value)
            return pm.Normal.dist(rho * tt.tanh(before), sigma).logp(value)

        series = theano.shared(np.array([0.1, 0.5, -0.3, 0.8]))
        terms, _ = theano.scan(
            logp, sequences=[series[1:], series[:-1]], non_sequences=[rho, sigma], strict=True
        )
        pm.Potential("series", terms.sum())

    assert_same_model(*both(build))


def test_scan_whose_state_is_drawn_through_an_op():
    """A recurrence of a TensorFlow op, and the gradient back through all of its steps."""
    step = TensorFlowOp(
        lambda state, rate: state + rate * tf.sin(state), [tf.TensorSpec([], tf.float64)] * 2
    )

    def build(ours):
        rate = TWINS["Gamma"].declare("rate", ours, testval=0.5)

        def following(state, rate):
            return step(state, rate) if ours else state + rate * tt.sin(state)

        initial = theano.shared(np.array(0.4))
        states, _ = theano.scan(
            following, outputs_info=[initial + 0.0], non_sequences=[rate], n_steps=4, strict=True
        )
        pm.Normal("y", states, 0.5, observed=DATA)

    assert_same_model(*both(build))


def test_transform_of_a_copied_variable_stays():
    model = pickle.loads(pickle.dumps(both(without_mixture)[0]))
    assert isinstance(model.w.transformation, transforms.StickBreaking)
    assert model.test_point["w_stickbreaking__"].shape == (2,)
