"""What XLA would let pass is an error before the first draw, which names the variable."""

import logging

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano.tensor as tt
from support import tf_normal

import pymc3_tf
from pymc3_tf.exceptions import EvaluationError, message
from pymc3_tf.host import build
from pymc3_tf.nuts import sampler as nuts
from pymc3_tf.sampling import chains, starts, traces
from pymc3_tf.sampling.progress import ProgressBar

Y = np.array([0.0, 0.1, 5.0, 5.1, -5.0, -5.1])
GOOD, BAD = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 2, 2, 3, 3])


def sample(draws=10, **kwargs):
    kwargs = {"tune": 10, "chains": 1, "random_seed": 1, "progressbar": False, **kwargs}
    return pymc3_tf.sample(draws, compute_convergence_checks=False, **kwargs)


def builtin(mu, group):
    pm.Normal("y", mu[group], 1.0, observed=Y)


def potential(mu, group):
    pm.Potential("y", -0.5 * ((Y - mu[group]) ** 2).sum())


def deterministic(mu, group):
    pm.Deterministic("y", mu[group])


def density(mu, group):
    feeds = {"mu": mu, "group": group}
    pm.TFDensity(
        "y",
        lambda y, mu, group: tf_normal(y, tf.gather(mu, group), np.float64(1.0)),
        feeds,
        observed=Y,
        jit_compile=True,
    )


def array_of_tensors(mu, group):
    def logp(y, mu, group):
        array = tf.TensorArray(tf.float64, 3, clear_after_read=False).unstack(mu)
        means = tf.stack([array.read(tf.cast(group[i], tf.int32)) for i in range(6)])
        return tf_normal(y, means, np.float64(1.0))

    pm.TFDensity("y", logp, {"mu": mu, "group": group}, observed=Y)


def assertion(mu, group):
    def logp(y, mu, group):
        with tf.control_dependencies([tf.debugging.assert_less(group, tf.cast(3, group.dtype))]):
            return tf_normal(y, tf.reduce_sum(mu), np.float64(1.0))

    pm.TFDensity("y", logp, {"mu": mu, "group": group}, observed=Y)


@pytest.mark.parametrize(
    "declare, options",
    [
        (builtin, {}),
        (builtin, {"jit_compile": False}),
        (potential, {}),
        (deterministic, {}),
        (density, {}),
        (density, {"chain_method": "vectorized", "chains": 3}),
        (array_of_tensors, {}),
        (assertion, {}),
    ],
)
def test_index_out_of_bounds_names_the_variable(declare, options):
    options = {**options, "idata_kwargs": {"log_likelihood": False}}
    with pm.Model():
        group = pm.Data("group", GOOD)
        declare(pm.Normal("mu", 0.0, 10.0, shape=3), group)
        if not options.get("jit_compile", True):
            sample(**options)
        pm.set_data({"group": BAD})
        with pytest.raises(EvaluationError, match="^'y' cannot be computed where") as info:
            sample(**options)
        assert len(str(info.value)) < 500
        assert info.value.__suppress_context__


def test_index_out_of_bounds_is_found_when_the_program_is_compiled_already():
    with pm.Model():
        group = pm.Data("group", GOOD)
        builtin(pm.Normal("mu", 0.0, 10.0, shape=3), group)
        sample()
        pm.set_data({"group": BAD})
        with pytest.raises(EvaluationError, match="'y'.*indices.*3 is not in.*index is out of"):
            sample()
        pm.set_data({"group": GOOD - 3})  # counted from the end
        assert sample().posterior["mu"].shape == (1, 10, 3)


@pytest.mark.parametrize("index", [[0, 4], [0, -5], [3, 0]])
def test_index_into_a_matrix_is_checked_in_each_dimension(index):
    with pm.Model():
        row, column = (pm.Data(name, np.array([0])) for name in ("row", "column"))
        mu = pm.Normal("mu", 0.0, 10.0, shape=(3, 4))
        pm.Potential("y", -(mu[row, column] ** 2).sum())
        pm.Potential("set", -0.0 * tt.set_subtensor(mu[row, column], 1.0).sum())
        pm.set_data({"row": [index[0]], "column": [index[1]]})
        with pytest.raises(EvaluationError, match="'y' cannot be computed"):
            sample()


def test_incremented_index_is_checked():
    with pm.Model():
        rows = pm.Data("rows", np.array([0]))
        mu = pm.Normal("mu", 0.0, 10.0, shape=3)
        pm.Potential("y", -(tt.inc_subtensor(mu[rows], 1.0) ** 2).sum())
        pm.set_data({"rows": [-5]})
        with pytest.raises(EvaluationError, match="'y' cannot be computed"):
            sample()


@pytest.mark.parametrize("options", [{}, {"chain_method": "vectorized"}])
def test_jitter_avoids_starts_at_which_tensorflow_fails(options):
    def logp(x):
        return -tf.square(tf.debugging.check_numerics(tf.math.log(x - 0.3), "left"))

    with pm.Model():
        pm.TFDensity("x", logp, testval=0.5)
        draws = sample(tune=0, chains=6, **options).posterior["x"].values
    assert (draws > 0.3).all()


def test_start_at_which_tensorflow_fails_is_an_error():
    with pm.Model():
        pm.TFDensity(
            "x", lambda x: tf.debugging.check_numerics(tf.math.log(x), "left"), testval=1.0
        )
        with pytest.raises(EvaluationError, match="'x' cannot be computed.*left.*Give a start"):
            sample(start={"x": -1.0})


def test_starts_of_a_batch_are_evaluated_in_one_call(monkeypatch):
    calls = []
    evaluate = nuts.CompiledSampler.evaluate

    def counted(self, position, data):
        calls.append(position.shape)
        return evaluate(self, position, data)

    monkeypatch.setattr(nuts.CompiledSampler, "evaluate", counted)
    with pm.Model():
        pm.Normal("x")
        sample(chains=20, chain_method="vectorized")
    assert calls == [(20, 1), (20, 1)]  # for the starts, and by the chains themselves


def test_starts_do_not_depend_on_the_method():
    made = []
    with pm.Model() as model:
        x = pm.Normal("x", shape=2)
        pm.Potential("right", tt.switch(x[0] > 0.0, 0.0, -np.inf))
        for batch in (0, 5):
            unconstrained = pymc3_tf.sampling.unconstrained.UnconstrainedModel(model)
            program = nuts.CompiledSampler(unconstrained.log_density, 2, chains=batch)
            seeds = chains.chain_seeds(1, 5)
            made.append(starts.chain_starts(model, unconstrained, program, None, seeds, True))
    np.testing.assert_array_equal(*made)


# -- where it is called, and with what --------------------------------------------------------


def test_sampling_while_a_graph_is_built():
    def draws():
        with pm.Model():
            pm.Normal("x", tt.exp(0.1), 1.0, shape=2)
            return sample().posterior["x"].values

    outside = draws()
    with tf.Graph().as_default() as graph, tf.device("/CPU:0"), tf.name_scope("scope"):
        with tf.compat.v1.Session():
            np.testing.assert_array_equal(draws(), outside)
    assert not graph.get_operations()


def test_sampling_inside_of_a_function_of_tensorflow_is_refused():
    @tf.function(autograph=False)
    def function():
        with pm.Model():
            pm.Normal("x")
            sample()

    with pytest.raises(RuntimeError, match="inside of a tf.function.*Call it outside"):
        function()


@pytest.mark.parametrize(
    "options, text",
    [
        ({"return_inferencedata": True}, "InferenceData is what is returned"),
        ({"step": None}, r"use pm.sample\(\)"),
        ({"nuts_kwargs": {}}, "Give target_accept= and max_treedepth="),
        ({"nuts": {}}, "Give target_accept= and max_treedepth="),
        ({"callback": None}, "sampled outside of Python"),
        ({"trace": None}, "kept in memory"),
        ({"n_init": 1}, "learnt in the warmup"),
        ({"chain_idx": 1}, "numbered from 0"),
        ({"mp_ctx": "spawn"}, "threads of this process"),
        ({"target_acept": 0.9}, "Did you mean 'target_accept'.$"),
        ({"whatever": 1}, "It has: draws, tune, chains"),
    ],
)
def test_arguments_that_it_does_not_have(options, text):
    (name,) = options
    with pytest.raises(TypeError, match=f"no argument '{name}'.*{text}"):
        pymc3_tf.sample(**options)


def test_trees_deeper_than_what_memory_holds_are_refused():
    with pm.Model():
        pm.Normal("x")
        assert sample(max_treedepth=20).posterior["x"].shape == (1, 10)
        with pytest.raises(ValueError, match="max_treedepth is 21. Give at most 20"):
            sample(max_treedepth=21)
    zeros = np.zeros((1, 9))
    stats = {"lp": zeros, "diverging": zeros, "acceptance_rate": zeros, "tree_depth": zeros + 20}
    (warning,) = traces.warnings_of(stats, [0], 0.8, 20, automatic=False)
    assert warning.message.endswith("max_treedepth=20. Reparameterize.")


@pytest.mark.parametrize(
    ("automatic", "advice"),
    [(False, "Increase tune."), (True, "Give tune=1000 instead of 'auto', or a larger target_acc")],
)
def test_warnings_are_of_all_chains_together(automatic, advice):
    shape = 4, 100
    stats = {"lp": np.zeros(shape), "diverging": np.zeros(shape)}
    stats["tree_depth"], stats["acceptance_rate"] = np.full(shape, 3), np.full(shape, 0.8)
    stats["diverging"][1:, :5] = 1
    stats["tree_depth"][2:, :6] = 10
    stats["acceptance_rate"][[1, 3]] = [[0.65], [0.6]]
    found = traces.warnings_of(stats, [0, 1, 2, 5], 0.8, 10, automatic)
    texts = [warning.message for warning in found]
    assert texts[0].startswith("15 of 400 draws diverged: ")
    assert texts[1].startswith("More than 5 % of the draws of chains 2, 5 reached max_treedepth=10")
    low = "The mean acceptance rate of chains 1, 5 is as low as 0.60, where 0.8 was asked for. "
    assert texts[2].startswith(low + advice)
    many = {name: np.concatenate([array] * 5) for name, array in stats.items()}
    texts = [w.message for w in traces.warnings_of(many, range(20), 0.8, 10, automatic)]
    assert "rate of 10 chains is as low" in texts[2]
    stats["acceptance_rate"][:] = 0.6
    assert "rate is as low" in traces.warnings_of(stats, range(4), 0.8, 10, automatic)[2].message


def test_random_streams_are_refused_with_what_to_do():
    with pm.Model():
        x = pm.Normal("x")
        noise = pm.theanof.tt_rng(1).uniform((3,))
        pm.Potential("y", -(x**2) * noise.sum())
        with pytest.raises(NotImplementedError, match="pm.Minibatch is for ADVI.*whole data"):
            sample()


def test_messages_of_tensorflow_can_be_empty():
    assert message(tf.errors.InternalError(None, None, "")) == "InternalError."
    assert message(RuntimeError()) == "RuntimeError."
    text = "{{function_node __wrapped}} it failed [Op:GatherV2] name: "
    assert message(tf.errors.InternalError(None, None, text)) == "it failed."


def test_lack_of_memory_is_not_called_a_failure_to_compile(monkeypatch):
    def exhausted(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(nuts.CompiledSampler, "draw", exhausted)
    with pm.Model():
        pm.Normal("x")
        with pytest.raises(EvaluationError, match="memory is not enough: OOM.*fewer chains"):
            sample()


def test_an_error_takes_the_progress_bar_away(capsys, monkeypatch, caplog):
    monkeypatch.setattr(build, "library", lambda name: None)
    caplog.set_level(logging.ERROR)

    def logp(value):
        digits = tf.strings.to_number(tf.strings.as_string(tf.stop_gradient(value)), tf.float64)
        return -0.5 * tf.square(value) + 0.0 * digits

    removed = []
    remove = ProgressBar.remove
    monkeypatch.setattr(ProgressBar, "remove", lambda bar: removed.append(remove(bar)))
    with pm.Model():
        pm.TFDensity("odd", logp)
        with pytest.raises(pymc3_tf.exceptions.CompilationError, match="'odd'") as info:
            sample(progressbar=True)
    assert len(removed) == 1 and info.value.__suppress_context__
