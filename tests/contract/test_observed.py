"""Data of every kind is observed as the built-ins observe it, by observed= and by feed_dict."""

import numpy as np
import pandas as pd
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
from support import assert_same_model, logp_dlogp_function
from twins import TWINS, both, draw, normal

import pymc3_tf

DATA = np.array([0.3, -1.2, 2.5, 0.7])
ROWS = np.arange(12.0).reshape(4, 3)
HOLES = np.array([[0.3, np.nan, 2.5], [np.nan, 1.0, -0.5]])
KINDS = {
    "list": [0.3, 1.0, 2.5],
    "list of integers": [1, 2, 3],
    "nested list": [[1.0, 2.0], [3.0, 4.0]],
    "number": 0.3,
    "float64": DATA,
    "float32": DATA.astype("float32"),
    "int64": np.arange(4),
    "int8": np.arange(4, dtype="int8"),
    "matrix": ROWS,
    "one row": ROWS[:1],
    "one column": ROWS[:, :1],
    "transposed": ROWS.T,
    "strided": ROWS[::2, ::-1],
    "Series": pd.Series(DATA, index=list("abcd")),
    "Series of integers": pd.Series([1, 2, 3]),
    "DataFrame": pd.DataFrame(ROWS, columns=["u", "v", "w"]),
    "DataFrame of integers": pd.DataFrame({"u": [1, 2], "v": [3, 4]}),
    "NaN": HOLES[0],
    "NaN in a matrix": HOLES,
    "NaN in a Series": pd.Series(HOLES[0]),
    "NaN in a DataFrame": pd.DataFrame(HOLES),
    "masked": np.ma.masked_greater(DATA, 1.0),
    "masked matrix": np.ma.masked_invalid(HOLES),
    "masked integers": np.ma.masked_equal(np.arange(4), 2),
    "nothing masked": np.ma.masked_greater(DATA, 100.0),
}
WHERE = ["observed", "feed_dict"]


def given(where, data):
    return {"observed": data} if where == "observed" else {"feed_dict": {"value": data}}


def two_models(data, where, **kwargs):
    models = []
    for ours in (True, False):
        with pm.Model() as model:
            mu = pm.Normal("mu", 0.0, 1.0)
            sigma = pm.HalfNormal("sigma", 1.0)
            if ours:
                params = {"mu": mu, "sigma": sigma}
                pm.TFDensity("y", normal, params, **given(where, data), **kwargs)
            else:
                pm.Normal("y", mu, sigma, observed=data, **kwargs)
        models.append(model)
    return models


@pytest.mark.filterwarnings("ignore::pymc3.exceptions.ImputationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", WHERE)
def test_data_of_every_kind_have_the_builtins_density(kind, where):
    ours, theirs = two_models(KINDS[kind], where)
    assert [rv.name for rv in ours.free_RVs] == [rv.name for rv in theirs.free_RVs]
    assert [rv.name for rv in ours.unobserved_RVs] == [rv.name for rv in theirs.unobserved_RVs]
    assert ("y_missing" in ours.named_vars) == ("NaN" in kind or kind.startswith("masked"))
    assert ours.y.dtype == theirs.y.dtype
    point = {**theirs.test_point, **ours.test_point}
    np.testing.assert_array_equal(*(data_of(model, point) for model in (ours, theirs)))
    elements = [model.y.logp_elemwise(point) for model in (ours, theirs)]
    np.testing.assert_allclose(*elements, rtol=1e-10)
    assert elements[0].shape == np.shape(KINDS[kind])
    assert_same_model(ours, theirs)


def data_of(model, point):
    """Return the data of the observed variable, missing values filled in from the point."""
    with theano.config.change_flags(compute_test_value="off"):
        function = theano.function(model.vars, model.y + 0.0, on_unused_input="ignore")
    return function(*[point[v.name] for v in model.vars])


@pytest.mark.filterwarnings("ignore::pymc3.exceptions.ImputationWarning")
@pytest.mark.parametrize("where", WHERE)
def test_missing_values_are_drawn_as_the_builtins(where):
    traces = [draw(model, pm.NUTS) for model in two_models(HOLES, where)]
    assert traces[0]["y_missing"].shape == (20, 2)
    np.testing.assert_allclose(traces[0]["y_missing"], traces[1]["y_missing"], rtol=1e-8)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("total_size", [40, [40, 30], [40, ..., 30]], ids=str)
def test_total_size_scales_as_the_builtins(where, total_size):
    assert_same_model(*two_models(ROWS, where, total_size=total_size))


@pytest.mark.parametrize(
    "size, shape",
    [
        (2, (2, 3)),
        ([2, 2], (2, 2)),
        ([(2, 7), (1, 8)], (2, 1)),
        ([None, 2], (4, 2)),
    ],
)
def test_minibatches_have_the_size_asked_for(size, shape):
    batch = pm.Minibatch(ROWS, size).eval()
    assert batch.shape == shape and np.isin(batch, ROWS).all()


def test_minibatches_of_a_vector_and_of_what_is_in_memory():
    assert pm.Minibatch(DATA, 3).eval().shape == (3,)
    for size in (2, [slice(2), slice(None)], [slice(2), None], [slice(2), Ellipsis]):
        batch = pm.Minibatch(ROWS, 20, in_memory_size=size).eval()
        assert batch.shape == (20, 3) and set(batch[:, 0]) == {0.0, 3.0}


@pytest.mark.parametrize("where", WHERE)
def test_minibatches_are_those_of_the_builtin(where):
    data = np.random.RandomState(1).randn(50)
    results = []
    for ours in (0, 1):
        batch = pm.Minibatch(data, 5, random_seed=7)
        evaluate = logp_dlogp_function(two_models(batch, where, total_size=50)[ours])
        results.append([np.hstack(evaluate(None, 0.1)) for _ in range(6)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)
    assert len(set(np.array(results[0])[:, 0])) == 6


def with_covariate(ours, x_where, y_where, length=4):
    """Return a regression whose x and y are pm.Data."""
    with pm.Model() as model:
        x = pm.Data("x", np.arange(float(length)))
        y = pm.Data("y_data", np.ones(length))
        slope = pm.Normal("slope", 0.0, 1.0)
        if ours:
            data = given(y_where, y)
            params = {"slope": slope, "sigma": 2.0}
            if x_where == "params":
                params["x"] = x
            else:
                data.setdefault("feed_dict", {})["x"] = x
            pm.TFDensity("y", line, params, **data)
        else:
            pm.Normal("y", slope * x, 2.0, observed=y)
    return model


def line(value, slope, x, sigma):
    return normal(value, slope * x, sigma)


@pytest.mark.parametrize("x_where", ["params", "feed_dict"])
@pytest.mark.parametrize("y_where", WHERE)
def test_set_data_changes_covariates_and_length_of_a_compiled_model(x_where, y_where):
    results = []
    for ours in (True, False):
        model = with_covariate(ours, x_where, y_where)
        evaluate = logp_dlogp_function(model)
        elements = model.fn(model.y.logp_elemwiset)
        values = []
        for length in (4, 7, 1):
            with model:
                pm.set_data({"x": np.arange(length) + 0.5, "y_data": np.linspace(0, 1, length)})
            for offset in (0.0, 0.3):
                values.extend([*evaluate(None, offset), elements({"slope": offset})])
        results.append(np.hstack([np.ravel(v) for v in values]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)


def test_prediction_at_new_x_is_one_set_data_away():
    """By a TensorFlow tensor of the density's own graph, fed with the covariate."""
    x_new = np.linspace(-1.0, 1.0, 6)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), pm.Model():
        slope_t, x_t = v1.placeholder(tf.float64, []), v1.placeholder(tf.float64, [None])
        y_t = v1.placeholder(tf.float64, [None])
        mean = slope_t * x_t
        x = pm.Data("x", np.arange(4.0))
        slope = pm.Normal("slope", 0.0, 1.0)
        logp = normal(y_t, mean, tf.constant(2.0, tf.float64))
        pm.TFDensity("y", logp, {slope_t: slope}, y_t, {x_t: x, y_t: pm.Data("y_data", DATA)})
        trace = pm.sample(
            20, tune=20, chains=1, cores=1, random_seed=1, progressbar=False,
            return_inferencedata=False, compute_convergence_checks=False,
        )  # fmt: skip
        pm.set_data({"x": x_new})
        predicted = pymc3_tf.evaluate(mean, trace)
    np.testing.assert_allclose(predicted[0], trace["slope"][:, None] * x_new)


def test_generator_of_batches_feeds_both_alike():
    def batches():
        random = np.random.RandomState(3)
        while True:
            yield random.randn(5)

    def build(ours):
        mu = pm.Normal("mu", 0.0, 1.0)
        TWINS["Normal"].declare("y", ours, {"mu": mu}, observed=pm.generator(batches()))

    results = []
    for model in both(build):
        evaluate = logp_dlogp_function(model)
        results.append([np.hstack(evaluate(None, 0.1)) for _ in range(4)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)
