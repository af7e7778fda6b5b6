"""Names, shapes, dims, start values and dtypes are the built-ins'."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
from pymc3.distributions import transforms
from support import assert_same_model, logp_dlogp
from twins import FLOATX, RTOL, TWINS, draw, normal

BOTH = (True, False)


@pytest.mark.parametrize("name", TWINS)
def test_each_twin_is_the_builtin_as_a_free_variable(name):
    twin = TWINS[name]
    models = []
    for ours in BOTH:
        with pm.Model() as model:
            x = twin.declare("x", ours)
        models.append(model)
        assert x.dtype == FLOATX
        assert [rv.dtype for rv in model.free_RVs] == [FLOATX]
    ours, theirs = models
    assert [rv.name for rv in ours.free_RVs] == [rv.name for rv in theirs.free_RVs]
    assert [rv.name for rv in ours.unobserved_RVs] == [rv.name for rv in theirs.unobserved_RVs]
    assert ours.ndim == theirs.ndim
    assert_same_model(ours, theirs, rtol=RTOL)


@pytest.mark.parametrize("name", TWINS)
def test_each_twin_is_the_builtin_with_random_parameters(name):
    """A hierarchical model: the first parameter of an observed variable is free."""
    twin = TWINS[name]
    data = {"Beta": [0.2, 0.7], "Dirichlet": [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]}
    data = data.get(name, np.arange(1.0, 7.0).reshape(2, 3) if twin.shape else [1.0, 2.5])
    label, example = next(iter(twin.params.items()))
    models = []
    for ours in BOTH:
        with pm.Model() as model:
            free = pm.Gamma("free", 2.0, 1.0, shape=np.shape(example))
            twin.declare("y", ours, {label: free}, observed=np.array(data, FLOATX))
        models.append(model)
    assert_same_model(*models, rtol=RTOL)


def test_nested_models_prefix_the_names_as_the_builtins():
    names = []
    for ours in BOTH:
        with pm.Model("outer") as outer:
            TWINS["HalfNormal"].declare("x", ours)
            with pm.Model("inner") as inner:
                x = TWINS["HalfNormal"].declare("x", ours)
                TWINS["Normal"].declare("y", ours, observed=np.zeros(2))
                TWINS["Normal"].declare("z", ours, {"mu": x})
        names.append([sorted(v.name for v in m.named_vars.values()) for m in (outer, inner)])
        assert inner["y"].distribution.logp(0.0).ndim == 0
    assert names[0] == names[1]
    assert "inner_x_log__" in names[0][1]


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"shape": 3}, {"shape": (2, 3)}, {"shape": (2, 1)}, {"shape": 1}, {"dims": ("a", "b")}],
    ids=str,
)
def test_shape_and_dims_are_the_builtins(kwargs):
    models = []
    for ours in BOTH:
        with pm.Model(coords={"a": ["u", "v"], "b": [10, 20, 30]}) as model:
            x = TWINS["Gamma"].declare("x", ours, **{"shape": (), **kwargs})
        models.append(model)
        shape = (2, 3) if "dims" in kwargs else np.zeros(kwargs.get("shape", ())).shape
        assert x.tag.test_value.shape == tuple(x.distribution.shape) == shape
    ours, theirs = models
    assert ours["x"].broadcastable == theirs["x"].broadcastable
    assert ours.RV_dims == theirs.RV_dims
    assert_same_model(ours, theirs, rtol=RTOL)


def test_dims_and_coords_reach_inference_data():
    results = []
    for ours in BOTH:
        with pm.Model(coords={"a": ["u", "v"], "obs": [1, 2, 3]}):
            x = TWINS["Normal"].declare("x", ours, dims="a")
            TWINS["Normal"].declare("y", ours, {"mu": x[0]}, observed=np.arange(3.0), dims="obs")
            results.append(
                pm.sample(
                    10, tune=0, chains=1, cores=1, random_seed=4, progressbar=False,
                    compute_convergence_checks=False, return_inferencedata=True,
                )
            )  # fmt: skip
    for group in ("posterior", "observed_data", "log_likelihood"):
        ours, theirs = (result[group] for result in results)
        assert {k: v.dims for k, v in ours.items()} == {k: v.dims for k, v in theirs.items()}
        assert {k: v.values.tolist() for k, v in ours.coords.items()} == {
            k: v.values.tolist() for k, v in theirs.coords.items()
        }
    assert results[0].posterior["x"].dims == ("chain", "draw", "a")


# The built-ins' name of the argument changed in PyMC3 3.11.5; a TFDensity takes both.
@pytest.mark.parametrize("argument", ["testval", "initval"])
@pytest.mark.parametrize("value", [0.25, np.array([0.25, 0.5, 0.75])], ids=["number", "array"])
def test_start_value_is_the_one_given(argument, value):
    with pm.Model() as ours:
        TWINS["Beta"].declare("x", True, shape=3, **{argument: value})
    with pm.Model() as theirs:
        TWINS["Beta"].declare("x", False, shape=3, testval=value)
    for name, expected in theirs.test_point.items():
        np.testing.assert_allclose(ours.test_point[name], expected, rtol=RTOL)
        assert ours.test_point[name].dtype == expected.dtype == FLOATX
    np.testing.assert_allclose(ours.x.tag.test_value, theirs.x.tag.test_value, rtol=RTOL)


INSIDE = {
    "none": (None, (3,), lambda x: np.isfinite(x)),
    "log": (transforms.log, (3,), lambda x: x > 0),
    "log_exp_m1": (transforms.log_exp_m1, (3,), lambda x: x > 0),
    "logodds": (transforms.logodds, (2, 3), lambda x: (x > 0) & (x < 1)),
    "interval": (transforms.interval(-3.0, -1.0), (3,), lambda x: (x > -3) & (x < -1)),
    "lowerbound": (transforms.lowerbound(4.0), (), lambda x: x > 4),
    "upperbound": (transforms.upperbound(-4.0), (3,), lambda x: x < -4),
    "ordered": (transforms.ordered, (2, 3), lambda x: np.diff(x) > 0),
    "stick_breaking": (transforms.stick_breaking, (2, 3), lambda x: (x > 0) & (x < 1)),
    "sum_to_1": (transforms.sum_to_1, (3,), lambda x: (x > 0) & (x < 1)),
    "circular": (transforms.circular, (3,), lambda x: np.abs(x) <= np.pi),
    "cholesky": (transforms.CholeskyCovPacked(2), (3,), lambda x: x[[0, 2]] > 0),
    "chain": (
        transforms.Chain([transforms.logodds, transforms.ordered]),
        (3,),
        lambda x: (x > 0) & (x < 1) & (np.diff(x, prepend=0) > 0),
    ),
    "simplex in a chain": (
        transforms.Chain([transforms.sum_to_1, transforms.logodds]),
        (4,),
        lambda x: (x > 0) & (x < 1),
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_default_start_lies_inside_the_support(name):
    transform, shape, inside = INSIDE[name]
    with pm.Model() as model:
        x = TWINS["Normal"].declare("x", True, shape=shape, transform=transform)
    start = x.tag.test_value
    assert start.shape == shape and start.dtype == FLOATX
    assert inside(start).all()
    if "simplex" in name or name in ("stick_breaking", "sum_to_1"):
        np.testing.assert_allclose(start.sum(axis=-1), 1.0, rtol=RTOL)
    value, gradient = logp_dlogp(model)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_draws_have_the_dtype_and_the_values_of_the_builtins():
    """With as few draws as rounding errors leave alike, in float32 too."""
    traces = []
    for ours in BOTH:
        with pm.Model() as model:
            x = TWINS["Gamma"].declare("x", ours, shape=2, testval=np.ones(2))
            TWINS["Normal"].declare("y", ours, {"mu": x}, observed=np.array([0.5, 2.0]))
        traces.append(draw(model, pm.NUTS, 5, max_treedepth=3))
        assert {rv.dtype for rv in model.unobserved_RVs + model.observed_RVs} == {FLOATX}
        assert model.logpt.dtype == theano.config.floatX
    for name in ("x", "x_log__"):
        assert traces[0][name].dtype == traces[1][name].dtype == FLOATX
        np.testing.assert_allclose(traces[0][name], traces[1][name], rtol=100 * RTOL)


def test_data_of_another_dtype_becomes_floatx():
    with pm.Model() as model:
        for dtype in ("float32", "float64", "int32", "int64"):
            data = np.arange(3).astype(dtype)
            y = TWINS["Normal"].declare(f"y_{dtype}", True, observed=data)
            assert y.dtype == FLOATX
            np.testing.assert_array_equal(y.observations, data)
    logps = [rv.logp(model.test_point) for rv in model.observed_RVs]
    assert len(set(map(float, logps))) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_graph_of_either_dtype_serves_either_floatx(dtype):
    models, traces = [], []
    data = np.array([0.5, 2.0])
    for ours in BOTH:
        with pm.Model() as model:
            mu = pm.Normal("mu", 0.0, 1.0)
            if ours:
                with tf.Graph().as_default():
                    mu_t = tf.compat.v1.placeholder(dtype, [])
                    y_t = tf.compat.v1.placeholder(dtype, [None])
                    z_t = tf.compat.v1.placeholder(dtype, [2])
                    one = tf.constant(1.0, dtype)
                    pm.TFDensity("y", normal(y_t, mu_t, one), {mu_t: mu}, observed=data)
                    pm.TFDensity("z", normal(z_t, mu_t, one), {mu_t: mu})
            else:
                pm.Normal("y", mu, 1.0, observed=data)
                pm.Normal("z", mu, 1.0, shape=2)
        traces.append(draw(model, pm.NUTS, 3, max_treedepth=3))
        models.append(model)
    assert models[0].z.dtype == traces[0]["z"].dtype == FLOATX
    assert_same_model(*models, rtol=1e-5)
    np.testing.assert_allclose(traces[0]["z"], traces[1]["z"], rtol=1e-3)
