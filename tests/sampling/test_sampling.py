"""pymc3_tf.sample draws from the posterior of the whole model, and says so in InferenceData."""

import logging
import pickle
import signal
import threading

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt
from normal_line import X, Y, assert_normal, line_model, line_posterior, sample
from scipy import stats
from support import QUIET, tf_normal
from theano.compile.ops import as_op

import pymc3_tf
from pymc3_tf.exceptions import (
    CompilationError,
    DiscreteVariableError,
    EvaluationError,
    StartError,
)
from pymc3_tf.host import build
from pymc3_tf.nuts import sampler as nuts
from pymc3_tf.sampling import sample as sampling


@pytest.fixture(scope="module")
def line():
    return line_model()


def test_sampling_time_is_without_compilation(line, monkeypatch):
    now, prepare = [0.0], sampling.nuts_chains.prepare

    def slowly(*args):
        prepare(*args)
        now[0] = 1000.0

    monkeypatch.setattr(sampling.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(sampling.nuts_chains, "prepare", slowly)
    idata = sample(line, 10, tune=10)
    assert now[0] == 1000.0 and idata.posterior.attrs["sampling_time"] == 0


def test_inference_data_has_what_pm_sample_gives(line):
    ours = sample(line, 100, keep_untransformed=True, discard_tuned_samples=False)
    with line:
        theirs = pm.sample(
            100,
            tune=10,
            chains=2,
            cores=1,
            return_inferencedata=True,
            **QUIET,
        )
    for group in ("posterior", "log_likelihood", "observed_data", "constant_data"):
        assert set(ours[group].data_vars) == set(theirs[group].data_vars), group
        for name, array in theirs[group].data_vars.items():
            assert ours[group][name].dims == array.dims
            assert ours[group][name].shape == array.shape
            assert ours[group][name].dtype == array.dtype
            for dim in array.dims:
                np.testing.assert_array_equal(ours[group][name][dim], array[dim])
    for group in ("observed_data", "constant_data"):
        assert ours[group].equals(theirs[group])
    known = {"diverging", "tree_depth", "n_steps", "energy", "step_size", "acceptance_rate", "lp"}
    assert set(ours.sample_stats) == known
    assert known <= {*theirs.sample_stats, "n_steps"}
    assert ours.warmup_posterior["beta"].shape == (2, 500, 2)
    assert ours.warmup_sample_stats["lp"].shape == (2, 500)
    attrs = ours.posterior.attrs
    assert attrs["tuning_steps"] == 500 and attrs["sampling_time"] > 0
    assert attrs["tensorflow_version"] == tf.__version__
    assert attrs["pymc3_tf_version"] == pymc3_tf.__version__
    assert attrs["inference_library"] == "pymc3" and "tensorflow_probability_version" in attrs


def test_statistics_and_log_likelihood_belong_to_the_draws(line):
    idata = sample(line, 50)
    logp, pointwise = line.fn(line.logpt), line.y.logp_elemwise
    for chain in range(2):
        for draw in (0, 49):
            point = {"beta": idata.posterior["beta"].values[chain, draw]}
            at = {"chain": chain, "draw": draw}
            np.testing.assert_allclose(idata.sample_stats["lp"].sel(**at), logp(point))
            np.testing.assert_allclose(idata.log_likelihood["y"].sel(**at), pointwise(point))
    assert idata.log_likelihood["y"].dims == ("chain", "draw", "point")
    likelihood = stats.norm(idata.posterior["beta"].values @ np.stack([X**0, X]), 0.5)
    np.testing.assert_allclose(idata.log_likelihood["y"], likelihood.logpdf(Y))


@pytest.mark.parametrize("chain_method", ["parallel", "vectorized"])
def test_density_with_long_data_has_its_posterior_and_log_likelihood(chain_method):
    # More than is kept as constants of a graph.
    y = np.random.RandomState(42).normal(0.5, 1, 2_000)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        feeds = {"y": y, "weight": np.ones(2_000)}
        pm.TFDensity(
            "y",
            lambda y, mu, weight: tf_normal(y, mu * weight, np.float64(1.0)),
            {"mu": mu},
            feed_dict=feeds,
        )
    idata = sample(model, 500, chain_method=chain_method)
    draws = idata.posterior["mu"].values
    assert_normal(draws, y.mean(), 2_000**-0.5)
    expected = stats.norm.logpdf(y, draws[..., None], 1)
    np.testing.assert_allclose(idata.log_likelihood["y"], expected, rtol=1e-12, atol=1e-12)


def test_log_likelihood_of_named_variables_only():
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Normal("y", x, 1.0, observed=np.ones(3))
        pm.Normal("z", x, 1.0, observed=np.ma.masked_invalid([1.0, np.nan]))
    idata = sample(model, 20, idata_kwargs={"log_likelihood": ["z"]})
    assert list(idata.log_likelihood) == ["z"]
    assert np.isnan(idata.log_likelihood["z"][..., 1]).all()
    assert idata.posterior["z_missing"].shape == (2, 20, 1)
    assert not hasattr(sample(model, 20, idata_kwargs={"log_likelihood": False}), "log_likelihood")


def test_large_log_likelihood_is_left_out_unless_asked_for(line, monkeypatch, caplog):
    monkeypatch.setattr("pymc3_tf.sampling.sample._LOG_LIKELIHOOD_NUMBERS", 1000)
    caplog.set_level(logging.INFO, "pymc3")
    assert not hasattr(sample(line, 50), "log_likelihood")
    assert "log likelihood of 20 observations for 100 draws is left out" in caplog.text
    assert "idata_kwargs={'log_likelihood': True}" in caplog.text
    asked = sample(line, 50, idata_kwargs={"log_likelihood": True})
    assert asked.log_likelihood["y"].shape == (2, 50, 20)


def test_variables_on_the_unconstrained_scale_on_request():
    with pm.Model() as model:
        pm.HalfNormal("sigma", 1.0, shape=2)
    assert list(sample(model, 20).posterior) == ["sigma"]
    posterior = sample(model, 20, keep_untransformed=True).posterior
    np.testing.assert_allclose(posterior["sigma_log__"], np.log(posterior["sigma"].values))


def test_same_seed_same_draws_in_any_number_of_threads(line):
    first, second, other = (
        sample(line, 50, cores=cores, random_seed=seed).posterior["beta"].values
        for cores, seed in ((1, 7), (2, 7), (2, 8))
    )
    np.testing.assert_array_equal(first, second)
    assert not np.isclose(first, other).any()
    assert not np.isclose(first[0], first[1]).any()
    swapped = sample(line, 50, random_seed=[2, 1]).posterior["beta"].values
    plain = sample(line, 50, random_seed=[1, 2]).posterior["beta"].values
    np.testing.assert_array_equal(swapped[::-1], plain)


@pytest.fixture
def programs(monkeypatch):
    """The programs that were compiled since the test began."""
    made = []

    class Counted(nuts.CompiledSampler):
        def __init__(self, *args, **kwargs):
            made.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(nuts, "CompiledSampler", Counted)
    return made


def test_a_model_is_compiled_once(programs):
    model = line_model()
    sample(model, 20)
    sample(model, 30, tune=10, chains=3, target_accept=0.9, random_seed=4)
    assert len(programs) == 1
    with model:
        pm.set_data({"x": 10 * X, "y_data": Y + 1})
    idata = sample(model, 1000)
    assert len(programs) == 1
    mean, covariance = line_posterior(Y + 1, 10 * X)
    for i in range(2):
        draws = idata.posterior["beta"].values[..., i]
        assert_normal(draws, mean[i], np.sqrt(covariance[i, i]))
    np.testing.assert_array_equal(idata.observed_data["y"], Y + 1)


def test_data_of_another_shape_and_new_variables_are_compiled_anew(programs):
    model = line_model()
    sample(model, 20)
    with model:
        pm.set_data({"x": X[:5], "y_data": Y[:5]})
    mean, covariance = line_posterior(Y[:5], X[:5])
    draws = sample(model, 1000, idata_kwargs={"dims": {"y": ["five"]}}).posterior["beta"]
    assert len(programs) == 2
    assert_normal(draws.values[..., 0], mean[0], np.sqrt(covariance[0, 0]))
    with model:
        pm.Normal("more")
    assert "more" in sample(model, 20, idata_kwargs={"dims": {"y": ["five"]}}).posterior
    assert len(programs) == 3


def test_a_sampled_model_is_pickled_without_its_program(line):
    sample(line, 20)
    copy = pickle.loads(pickle.dumps(line))
    first, second = (sample(m, 20).posterior["beta"].values for m in (line, copy))
    np.testing.assert_array_equal(first, second)


def test_float32_graph_is_sampled_inside_a_model():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        y = tf.TensorSpec([], tf.float32)
        square = pymc3_tf.TensorFlowOp(lambda v: tf.square(v - 1.0), [y])
        pm.Potential("likelihood", -0.5 * square(tt.cast(x, "float32")))
    assert_normal(sample(model).posterior["x"].values, 0.5, np.sqrt(0.5))


def test_start_is_where_chains_begin():
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1e6)
        pm.Lognormal("z", 0.0, 1e6)
    starts = [{"x": 1e4, "z": 1e-100}, {"x": -1e4}]
    for init, near in (("adapt_diag", 20.0), ("jitter+adapt_diag", 21.0)):
        idata = sample(model, 5, tune=0, init=init, start=starts, max_treedepth=1)
        x = idata.posterior["x"].values
        assert np.abs(x - [[1e4], [-1e4]]).max() < near * 5
        assert np.abs(np.log(idata.posterior["z"].values[0]) + 230).max() < near * 5


def test_jitter_avoids_points_of_no_density():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Potential("right", tt.switch(x > 0.3, 0.0, -np.inf))
    draws = sample(model, 500, chains=8, cores=2).posterior["x"].values
    assert (draws > 0.3).all()


def test_divergences_and_depth_are_reported(caplog):
    with pm.Model() as funnel:
        v = pm.Normal("v", 0.0, 3.0)
        pm.Normal("x", 0.0, tt.exp(v / 2), shape=9)
    with caplog.at_level(logging.WARNING, "pymc3"):
        idata = sample(funnel, 500, target_accept=0.6)
        number = int(idata.sample_stats["diverging"].sum())
        assert number > 0
        (text,) = [text for text in caplog.messages if "diverged" in text]
        assert text.startswith(f"{number} of 1000 draws diverged")
        assert "Increase target_accept (now 0.6)" in text
        caplog.clear()
        sample(line_model(), 200, max_treedepth=1)
        assert "reached max_treedepth=1" in caplog.text
        caplog.clear()
        with pm.Model() as bimodal:
            x = pm.Flat("x")
            pm.Potential("two", tt.log(tt.exp(-0.5 * (x - 9) ** 2) + tt.exp(-0.5 * (x + 9) ** 2)))
        sample(bimodal, 300, start=[{"x": 9.0}, {"x": -9.0}])
        assert "rhat statistic is larger than 1.4" in caplog.text
        caplog.clear()
        sample(funnel, 500, compute_convergence_checks=False)
        assert not caplog.text


def test_attributes_tell_how_long_the_warmup_was(line):
    idata = sample(line, tune="auto", discard_tuned_samples=False)
    tune = idata.posterior.attrs["tuning_steps"]
    assert 50 < tune < 500
    assert idata.warmup_posterior.sizes["draw"] == tune


def test_many_short_chains(line):
    posterior = sample(line, 200, chains=64, chain_method="vectorized", tune="auto").posterior
    assert posterior.attrs["tuning_steps"] < 150
    assert az.rhat(posterior[["beta"]])["beta"].max() < 1.01
    mean, covariance = line_posterior()
    for i in range(2):
        assert_normal(posterior["beta"].values[..., i], mean[i], np.sqrt(covariance[i, i]))


def test_low_acceptance_after_an_automatic_warmup_says_what_to_give(line, caplog, monkeypatch):
    # As if more had been asked for.
    real = sampling.finish

    def finish(*args, checks, **options):
        return real(*args, checks={**checks, "target_accept": 0.999}, **options)

    monkeypatch.setattr(sampling, "finish", finish)
    with caplog.at_level(logging.WARNING, "pymc3"):
        sample(line, 200, tune="auto", target_accept=0.6)
    assert "Give tune=1000 instead of 'auto', or a larger target_accept." in caplog.text


def test_progress_bar_shows_speed_and_divergences(line, capsys):
    sample(line, 50, progressbar=True)
    shown = capsys.readouterr().out
    assert "1,100 of 1,100 draws" in shown
    assert "draws/s, 0 divergences" in shown
    sample(line, 50)
    assert not capsys.readouterr().out


def test_interruption_returns_the_draws_so_far(caplog):
    model = line_model()
    sample(model, 10)
    timer = threading.Timer(1.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with caplog.at_level(logging.WARNING, "pymc3"):
        idata = sample(model, 100_000_000, compute_convergence_checks=False)
    timer.join()
    draws = idata.posterior["beta"].values
    assert 1000 < draws.shape[1] < 100_000_000
    assert "interrupted" in caplog.text
    mean, covariance = line_posterior()
    assert_normal(draws[:, :20_000, 0], mean[0], np.sqrt(covariance[0, 0]))


# -- what cannot work -------------------------------------------------------------------------


def test_discrete_variables_are_refused_with_the_way_out():
    with pm.Model() as model:
        k = pm.Poisson("k", 3.0)
        pm.Normal("x", k, 1.0)
    with pytest.raises(DiscreteVariableError, match="'k' are discrete.*pm.sample()"):
        sample(model)


def test_density_that_xla_cannot_compile_is_named_without_routines_of_the_host(monkeypatch):
    monkeypatch.setattr(build, "library", lambda name: None)

    def logp(value):
        # Strings are nothing that XLA knows.
        digits = tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(value)), tf.float64)
        return -0.5 * tf.square(value) + 0.0 * digits

    with pm.Model() as model:
        pm.Normal("fine")
        pm.TFDensity("odd", logp)
    text = r"XLA cannot compile the TensorFlow part of 'odd': .*pm.sample\(\)"
    with pytest.raises(CompilationError, match=text):
        sample(model)


def test_failing_op_ends_sampling_without_xla():
    def logp(value):
        return tf.debugging.check_numerics(tf.math.log(value), "of a square") - value**2

    with pm.Model():
        pm.TFDensity("square", logp, testval=1.0)  # half of the line has no density
        with pytest.raises(EvaluationError, match=r"of a square.*Use pm.sample\(\)"):
            sample(pm.modelcontext(None), jit_compile=False)


def test_op_without_a_translation_is_named():
    @as_op(itypes=[tt.dscalar], otypes=[tt.dscalar])
    def mystery(x):
        return x

    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("odd", mystery(x))
    with pytest.raises(
        NotImplementedError, match="mystery.*tf_funcify.register.*Or give the op a method `grad`"
    ):
        sample(model)


def test_start_without_density_is_explained():
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Uniform("outside", 0.0, 1.0, observed=2.0)
    with pytest.raises(pm.exceptions.SamplingError, match="Initial evaluation(.|\n)*outside.*-inf"):
        sample(model)
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("nowhere", tt.log(-(x**2)))
    with pytest.raises(StartError, match="chain 0 cannot start: its log density is nan"):
        sample(model)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"draws": 0}, "draws is 0. Give an integer of 1 or more"),
        ({"tune": -1}, "tune is -1. Give an integer of 0 or more or 'auto'"),
        (
            {"tune": "auto", "init": "adapt_full"},
            "tune is 'auto', which init='adapt_full' does not",
        ),
        ({"chains": 1.5}, "chains is 1.5. Give an integer"),
        ({"cores": 0}, "cores is 0. Give an integer of 1 or more"),
        ({"max_treedepth": 0}, "max_treedepth is 0"),
        ({"target_accept": 1.0}, "target_accept is 1.0. Give a rate between 0 and 1"),
        (
            {"init": "advi"},
            "init is 'advi'. Give one of 'jitter.adapt_diag_grad'.*'adapt_lowrank'.*pm.sample",
        ),
        ({"chain_method": "pmap"}, "chain_method is 'pmap'. Give 'parallel'.*'vectorized'"),
        ({"idata_kwargs": {"dim": 3}}, "idata_kwargs has dim. Give coords, dims or log_likelihood"),
        ({"start": {"alpha": 0.0}}, "start has 'alpha', which is not a variable.*beta"),
        ({"start": [{}]}, "start has 1 points for 2 chains"),
        (
            {"start": {"beta": np.zeros(3)}},
            r"an array of shape \(3,\) for 'beta', which has shape \(2,\)",
        ),
        ({"start": [{}, {"beta": 1.0}]}, r"shape \(\) for 'beta', which has shape \(2,\)"),
        ({"start": {"beta": ["a", "b"]}}, "values of dtype <U1 for 'beta'. Give numbers"),
        ({"random_seed": [1]}, "random_seed: 1 seeds for 2 chains"),
        ({"random_seed": -1}, "random_seed is -1. Give an integer of 0 or more"),
        ({"random_seed": [1, 2.5]}, r"random_seed is \[1, 2.5\]. Give an integer of 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(line, options, text):
    with pytest.raises(ValueError, match=text):
        sample(line, **options)


def test_model_without_free_variables_is_refused():
    with pm.Model() as model:
        pm.Normal("y", 0.0, 1.0, observed=1.0)
    with pytest.raises(ValueError, match="no free variables: all are observed. Declare what"):
        sample(model)


def test_tensorflow_probability_is_asked_for(line, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_probability", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[tfp\]"'):
        sample(line_model())


def test_missing_model_is_an_error():
    with pytest.raises(TypeError, match="No model on context stack"):
        pymc3_tf.sample()
