"""What follows the draws: right after the data changed, and never a reason to lose the draws."""

import logging

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt
from support import tf_normal

import pymc3_tf
from pymc3_tf.exceptions import EvaluationError
from pymc3_tf.nuts import sampler as nuts
from pymc3_tf.patches.arviz_converter import install
from pymc3_tf.runtime import failures
from pymc3_tf.sampling import sample as sampling
from pymc3_tf.sampling import traces
from pymc3_tf.sampling.chains import ChainsResult, Draws
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

ROWS = np.random.RandomState(0).normal(size=(6, 2))
COUNTS = np.array([[1, 2, 3], [3, 2, 1], [0, 3, 3], [2, 2, 2]])
SHARES = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


@pytest.fixture(autouse=True)
def warnings_of_pymc3(caplog):
    """Show what is logged, whatever other tests have done to PyMC3's logger."""
    caplog.set_level(logging.WARNING, "pymc3")


def sample(model, draws=5, chains=2, compute_convergence_checks=False, **options):
    """What `pymc3_tf.sample` makes of draws, which here are not from the posterior."""
    kwargs = dict(options.pop("idata_kwargs", {}))
    known = UnconstrainedModel(model)
    observed = sampling.observed_names(
        kwargs.pop("log_likelihood", None), [v.name for v in model.observed_RVs]
    )
    random = np.random.RandomState(1)

    def drawn(number):
        shape = chains, number
        stats = {name: random.uniform(size=shape) for name in nuts.COLUMNS}
        stats.update(diverging=np.zeros(shape, bool), tree_depth=np.ones(shape, int))
        return Draws(random.normal(size=(*shape, known.size)), stats)

    after = drawn(draws)
    warmup = None if options.pop("discard_tuned_samples", True) else drawn(5)
    result = ChainsResult(after, warmup, np.arange(chains), np.ones((chains, known.size)), 5, False)
    checks = (
        dict(target_accept=0.8, max_treedepth=10, automatic=False)
        if compute_convergence_checks
        else None
    )
    return traces.finish(
        model, known, result, observed, tune=5, seconds=1.0, checks=checks, **options, **kwargs
    )


def really_sample(model, **options):
    arguments = dict(tune=5, chains=1, random_seed=1, jit_compile=False, max_treedepth=2)
    checks = dict(progressbar=False, compute_convergence_checks=False)
    return pymc3_tf.sample(5, model=model, **{**arguments, **checks, **options})


def equal(ours, theirs):
    """The same variables, dimensions, coordinates and numbers."""
    assert set(ours.data_vars) == set(theirs.data_vars)
    for name, array in theirs.data_vars.items():
        assert ours[name].dims == array.dims, name
        np.testing.assert_allclose(ours[name], array, rtol=1e-10, err_msg=name)
        for dim in array.dims:
            np.testing.assert_array_equal(ours[name][dim], array[dim])


def converted(model, idata, **options):
    """What ArviZ makes of the same draws, as ``pm.sample`` hands them over."""
    names = [v.name for v in model.unobserved_RVs]
    samples = {name: idata.posterior[name].values for name in names}
    stats = {name: array.values for name, array in idata.sample_stats.items()}
    trace = traces.multi_trace(model, samples, stats, warmup=0, tune=5, seconds=1.0)
    return az.from_pymc3(trace, model=model, log_likelihood=True, **options)


# -- data of another length ---------------------------------------------------------------------


def data_model(x, y):
    with pm.Model() as model:
        x, y = pm.Data("x", x), pm.Data("y_data", y)
        b = pm.Normal("b", 2.0, 1.0)
        pm.Deterministic("average", (b * x).mean())
        pm.Deterministic("line", b * x)
        pm.Deterministic("length", x.shape[0] * b)
        pm.Deterministic("outer", tt.dot((b * x)[:, None], x[None, :]))
        pm.Normal("y", b * x, 1.0, observed=y)
        pm.TFDensity("z", tf_normal, {"mu": b * x, "sigma": 1.0}, observed=y)
        rows = pm.Data("rows", np.stack([y.get_value()] * 2, axis=1))
        pm.MvNormal("w", tt.ones(2) * b, np.eye(2), observed=rows)
    return model


def test_data_of_other_lengths_gives_what_a_fresh_model_gives():
    model = data_model(np.ones(7), np.zeros(7))
    position = UnconstrainedModel(model)
    for length in (7, 3, 1, 12, 7):
        x, y = np.linspace(1.0, 3.0, length), np.linspace(-1.0, 1.0, length)
        pm.set_data({"x": x, "y_data": y, "rows": np.stack([y, y], axis=1)}, model=model)
        at = np.array([[[0.5], [2.5]]])
        fresh = UnconstrainedModel(data_model(x, y))
        for found, right in (
            (position.values(at), fresh.values(at)),
            (
                position.log_likelihood(at, ["y", "z", "w"]),
                fresh.log_likelihood(at, ["y", "z", "w"]),
            ),
        ):
            assert set(found) == set(right)
            for name, array in right.items():
                np.testing.assert_allclose(found[name], array, err_msg=name)
        np.testing.assert_allclose(found["y"][0, 1], -0.5 * (y - 2.5 * x) ** 2 - 0.9189385332)


def test_sampling_after_data_of_another_length():
    model = data_model(np.ones(7), np.zeros(7))
    really_sample(model)
    x, y = np.linspace(1.0, 3.0, 4), np.linspace(-1.0, 1.0, 4)
    pm.set_data({"x": x, "y_data": y, "rows": np.stack([y, y], axis=1)}, model=model)
    found, right = really_sample(model), really_sample(data_model(x, y))
    for group in ("posterior", "log_likelihood", "observed_data", "constant_data"):
        equal(found[group], right[group])


def test_data_of_another_length_than_the_coords_goes_without_dims(caplog):
    with pm.Model(coords={"obs": list("abc")}) as model:
        x = pm.Data("x", np.ones(3), dims="obs")
        b = pm.Normal("b")
        pm.Deterministic("line", b * x, dims="obs")
        pm.Normal("y", b * x, 1.0, observed=x, dims="obs")
    first = sample(model)
    assert list(first.posterior["obs"].values) == list("abc") and not caplog.messages
    pm.set_data({"x": np.ones(5)}, model=model)
    with caplog.at_level(logging.WARNING, "pymc3"):
        idata = sample(model)
    assert idata.posterior["line"].dims == ("chain", "draw", "line_dim_0")
    for array in (idata.posterior["line"], idata.log_likelihood["y"]):
        assert array.shape == (2, 5, 5)
    assert idata.observed_data["y"].shape == idata.constant_data["x"].shape == (5,)
    assert "'line' has no named dims, because ('obs',) do not fit its shape (5,)" in caplog.text


# -- the unconstrained scale --------------------------------------------------------------------


@pytest.mark.parametrize("chains", [1, 2])
@pytest.mark.parametrize("draws", [1, 4])
def test_unconstrained_variables_have_the_dims_of_their_variable(chains, draws):
    with pm.Model(coords={"place": ["a", "b"], "kind": list("xyz")}) as model:
        pm.HalfNormal("scale")
        pm.HalfNormal("scales", 1.0, dims="place")
        pm.Dirichlet("weights", np.ones(3), dims="kind")
    options = dict(chains=chains, keep_untransformed=True, discard_tuned_samples=False)
    idata = sample(model, draws, **options)
    for group, number in (("posterior", draws), ("warmup_posterior", 5)):
        found = idata[group]
        assert found["scale_log__"].shape == (chains, number)
        assert found["scales_log__"].dims == ("chain", "draw", "place")
        assert list(found["scales_log__"]["place"].values) == ["a", "b"]
        assert found["weights_stickbreaking__"].shape == (chains, number, 2)
        assert found["weights"].dims[-1] == "kind"
        np.testing.assert_allclose(np.exp(found["scales_log__"]), found["scales"])
        np.testing.assert_allclose(np.exp(found["scale_log__"]), found["scale"])


# -- the log likelihood -------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["obs2", ["obs2"], ("obs2",)])
def test_log_likelihood_of_one_name_is_no_part_of_another(names):
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Normal("obs", x, 1.0, observed=1.0)
        pm.TFDensity("obs2", tf_normal, {"mu": x, "sigma": 1.0}, observed=np.ones(2))
    idata = sample(model, idata_kwargs={"log_likelihood": names})
    assert list(idata.log_likelihood) == ["obs2"]
    install()
    trace = traces.multi_trace(
        model,
        {"x": idata.posterior["x"].values},
        {name: array.values for name, array in idata.sample_stats.items()},
        warmup=0,
        tune=5,
        seconds=1.0,
    )
    assert list(az.from_pymc3(trace, model=model, log_likelihood=names).log_likelihood) == ["obs2"]


def test_unknown_names_are_refused_before_sampling():
    with pm.Model() as model:
        pm.Normal("obs", pm.Normal("x"), 1.0, observed=1.0)
    with pytest.raises(ValueError, match="log_likelihood is 'ob'.*variables, which are: obs"):
        really_sample(model, idata_kwargs={"log_likelihood": "ob"})
    with pytest.raises(ValueError, match=r"idata_kwargs: dims is \['a'\]. Give a dict by name"):
        really_sample(model, idata_kwargs={"dims": ["a"]})


def rows_normal(y, mu):
    return tf.reduce_sum(tf_normal(y, mu, np.float64(1.0)), axis=-1)


def joint_normal(y, mu):
    return tf.reduce_sum(tf_normal(y, mu, np.float64(1.0)))


def mv_normal(x):
    pm.MvNormal("y", tt.ones(2) * x, np.eye(2), observed=ROWS, dims=("obs", "part"))


def by_rows(x):
    pm.TFDensity("y", rows_normal, {"mu": x}, observed=ROWS, dims=("obs", "part"))


def joint(x):
    pm.TFDensity("y", joint_normal, {"mu": x}, observed=ROWS, dims=("obs", "part"))


def by_elements(x):
    pm.TFDensity("y", tf_normal, {"mu": x, "sigma": 1.0}, observed=ROWS, dims=("obs", "part"))


def multinomial(x):
    p = tt.nnet.softmax(tt.stack([x, 0.0, 0.0]))[0]
    pm.Multinomial("y", 6, p, observed=COUNTS, dims=("count", "kind"))


def dirichlet(x):
    pm.Dirichlet("y", tt.exp(x) * np.ones(3), observed=SHARES, dims=("two", "kind"))


def matrix_normal(x):
    pm.MatrixNormal(
        "y",
        x,
        rowcov=np.eye(6),
        colcov=np.eye(2),
        observed=ROWS,
        dims=("obs", "part"),
    )


def wishart(x):
    v = np.eye(2) * tt.exp(x)
    pm.Wishart("y", 3, v, observed=np.eye(2), dims=("part", "part2"))


def dims_of_one_of_two(x):
    pm.TFDensity("y", rows_normal, {"mu": x}, observed=ROWS, dims=("obs", "part"))
    pm.Normal("z", x, 1.0, observed=ROWS[:, 0], dims="obs")


def scalar(x):
    pm.Normal("y", x, 1.0, observed=1.0)


@pytest.mark.parametrize(
    "declare",
    [
        *(mv_normal, by_rows, joint, by_elements, multinomial, dirichlet, matrix_normal, wishart),
        *(dims_of_one_of_two, scalar),
    ],
)
def test_log_likelihood_has_the_dims_that_pymc3_gives(declare, caplog):
    coords = dict(obs=list("abcdef"), part=["l", "r"], part2=["t", "b"], kind=list("xyz"))
    with pm.Model(coords={**coords, "count": [1, 2, 3, 4], "two": [7, 8]}) as model:
        declare(pm.Normal("x"))
    idata = sample(model)
    right = converted(model, idata)
    for group in ("posterior", "log_likelihood", "observed_data"):
        equal(idata[group], right[group])
    assert not caplog.messages


def test_joint_density_beside_one_by_rows_with_dims_that_have_no_coords(caplog):
    """ArviZ gives up: the joint one has the dimension "row" of length 1, the other of length 6."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.TFDensity("z", rows_normal, {"mu": x}, observed=ROWS)
        pm.TFDensity("y", joint_normal, {"mu": x}, observed=ROWS)
    dims = {name: ["row", "column"] for name in "yz"}
    idata = sample(model, idata_kwargs={"dims": dims})
    assert idata.log_likelihood["z"].dims == ("chain", "draw", "row")
    assert idata.log_likelihood["y"].dims == ("chain", "draw", "y_dim_0")
    assert idata.observed_data["y"].dims == ("row", "column")
    assert "'y' has no named dims" in caplog.text


# -- what fails, and the draws ------------------------------------------------------------------


def simple_model():
    with pm.Model(coords={"two": ["a", "b"]}) as model:
        x = pm.Normal("x", 0.0, 1.0, dims="two")
        pm.Deterministic("twice", 2 * x)
        pm.Normal("y", x, 1.0, observed=np.ones(2))
        pm.Normal("z", x, 1.0, observed=np.ones(2))
    return model


@pytest.mark.parametrize(
    "options, text",
    [
        ({"coords": {"two": [1, 2, 3]}}, "'x' has no named dims"),
        ({"dims": {"x": ["two", "three"]}}, "'x' has no named dims"),
        ({"dims": {"x": ["chain"]}}, "ArviZ cannot convert"),
        ({"dims": {"twice": ["two"]}, "coords": {"two": 5}}, "'x' has no named dims"),
    ],
)
def test_names_that_do_not_fit_leave_the_draws(options, text, caplog):
    model = simple_model()
    right = sample(model)
    assert not caplog.messages
    idata = sample(model, idata_kwargs=options, keep_untransformed=True)
    for name in ("x", "twice"):
        np.testing.assert_array_equal(idata.posterior[name], right.posterior[name])
    np.testing.assert_array_equal(idata.log_likelihood["y"], right.log_likelihood["y"])
    np.testing.assert_array_equal(idata.sample_stats["lp"], right.sample_stats["lp"])
    assert text in caplog.text


def test_one_name_of_a_dimension_may_be_a_text():
    idata = sample(simple_model(), idata_kwargs={"dims": {"twice": "two"}})
    assert idata.posterior["twice"].dims == ("chain", "draw", "two")


def test_everything_that_can_fail_leaves_the_draws(caplog, monkeypatch):
    model = simple_model()
    right = sample(model, discard_tuned_samples=False)

    def fails(*args, **kwargs):
        raise MemoryError

    real = UnconstrainedModel.log_likelihood

    def one_fails(self, positions, names):
        if positions.ndim > 2 and "z" in names:
            raise MemoryError("no memory for it\nin the midst of it")
        return real(self, positions, names)

    monkeypatch.setattr(UnconstrainedModel, "log_likelihood", one_fails)
    monkeypatch.setattr(traces, "warn", fails)
    monkeypatch.setattr(az, "from_pymc3", fails)
    idata = sample(model, discard_tuned_samples=False, compute_convergence_checks=True)
    for group in ("posterior", "warmup_posterior", "sample_stats", "warmup_sample_stats"):
        assert set(idata[group]) == set(right[group])
        for name, array in right[group].items():
            np.testing.assert_array_equal(idata[group][name], array)
    assert idata.posterior.attrs["tuning_steps"] == 5
    assert list(idata.log_likelihood) == ["y"]
    assert "The log likelihood of 'z' is left out: no memory for it" in caplog.messages
    assert "The convergence could not be checked: MemoryError" in caplog.messages
    assert any(text.endswith("cannot convert them: MemoryError") for text in caplog.messages)


def test_ctrl_c_in_what_follows_leaves_the_draws(caplog, monkeypatch):
    real = UnconstrainedModel.log_likelihood

    def interrupted(self, positions, names):
        if positions.ndim > 2:
            raise KeyboardInterrupt
        return real(self, positions, names)

    monkeypatch.setattr(UnconstrainedModel, "log_likelihood", interrupted)
    idata = sample(simple_model())
    assert "log_likelihood" not in idata.groups() and idata.posterior["x"].shape == (2, 5, 2)
    assert "The log likelihood of 'y', 'z' is left out: KeyboardInterrupt" in caplog.messages


def positive_only(x):
    with tf.control_dependencies([tf.debugging.assert_positive(x)]):
        return tf.math.log(x)


def test_deterministic_that_fails_is_nan_at_these_draws(caplog):
    log = pymc3_tf.TensorFlowOp(positive_only, [tf.TensorSpec([], tf.float64)])
    number = pymc3_tf.TensorFlowOp(
        lambda x: tf.cast(positive_only(x) > 0, tf.int32), [tf.TensorSpec([], tf.float64)]
    )
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Deterministic("log", log(x))
        pm.Deterministic("sign", number(x))
        pm.Deterministic("never", log(-tt.exp(x)))
        pm.Deterministic("twice", 2 * x)
    idata = sample(model, 40)
    x = idata.posterior["x"].values
    assert (x < 0).any() and (x > 0).any()
    np.testing.assert_allclose(idata.posterior["log"], np.log(np.where(x > 0, x, np.nan)))
    np.testing.assert_allclose(idata.posterior["twice"], 2 * x)
    assert set(idata.posterior) == {"x", "log", "twice"}
    assert any(t.startswith("'log' is NaN where it cannot be computed: ") for t in caplog.messages)
    for name in ("sign", "never"):
        assert any(text.startswith(f"'{name}' is left out: ") for text in caplog.messages)


def partial(y, x, level):
    return tf_normal(y, x, np.float64(1.0)) + tf.math.log(level)  # of one, until it is changed


@pytest.mark.parametrize("errors", ["divergence", "raise"])
def test_density_that_fails_at_the_draws(errors, caplog):
    with pm.Model() as model:
        level = pm.Data("level", 1.0)
        x = pm.Normal("x")
        data = {"y": np.ones(2), "level": level}
        pm.TFDensity("y", partial, {"x": x}, feed_dict=data, errors=errors)
        pm.Normal("z", x, 1.0, observed=np.ones(2))
    pm.set_data({"level": -1.0}, model=model)
    failures.take()
    with caplog.at_level(logging.WARNING, "pymc3"):
        idata = sample(model)
    assert idata.posterior["x"].shape == (2, 5)
    assert np.isfinite(idata.log_likelihood["z"]).all()
    if errors == "divergence":
        assert (idata.log_likelihood["y"] == -np.inf).all()
        (text,) = caplog.messages
        assert text.startswith("A TFDensity failed in 10 evaluations")
    else:
        assert set(idata.log_likelihood) == {"z"}
        (text,) = caplog.messages
        assert text.startswith("The log likelihood of 'y' is left out: TensorFlow failed at x = ")


def test_error_of_the_model_is_raised_before_sampling(monkeypatch):
    monkeypatch.setattr(
        "pymc3_tf.sampling.chains.run_chains", lambda *args, **kwargs: pytest.fail("sampled")
    )
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Deterministic("line", x * pm.Data("a", np.ones(3)) * pm.Data("b", np.ones(3)))
        pm.Normal("y", x, 1.0, observed=1.0)
    pm.set_data({"b": np.ones(2)}, model=model)
    with pytest.raises((EvaluationError, ValueError), match="line|shapes|dimensions|Dimensions"):
        really_sample(model)


def test_deterministic_that_fails_at_the_start_only_does_not_end_sampling():
    log = pymc3_tf.TensorFlowOp(positive_only, [tf.TensorSpec([], tf.float64)])
    with pm.Model() as model:
        pm.Deterministic("log", log(pm.Normal("x", 100.0, 1.0, testval=-0.1)))
    idata = really_sample(model, tune=200, max_treedepth=8, start={"x": -0.1})
    np.testing.assert_allclose(idata.posterior["log"], np.log(idata.posterior["x"]))


def test_log_likelihood_of_a_loop_is_that_of_pymc3():
    # XLA computes it, 64 draws at a time: of 150, the last call has 22.
    def recurrence(y, a):
        states = tf.scan(lambda s, e: a * s + e, y)
        return -0.5 * tf.square(y - tf.concat([[0.0], a * states[:-1]], 0))

    y = np.random.RandomState(1).normal(size=20)
    with pm.Model() as model:
        a = pm.Uniform("a", 0.0, 1.0)
        pm.TFDensity("y", recurrence, {"a": a}, observed=y)
        idata = pymc3_tf.sample(150, tune=50, chains=1, random_seed=1, progressbar=False)
    pointwise = model.fn(model["y"].logp_elemwiset)
    for draw in (0, 63, 64, 149):
        drawn = float(idata.posterior["a"][0, draw])
        expected = pointwise({"a_interval__": np.log(drawn / (1 - drawn))})
        found = idata.log_likelihood["y"].values[0, draw]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
