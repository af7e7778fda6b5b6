"""Custom ops: a solver of Kepler's equation in C++, wherever densities are evaluated."""

import dataclasses
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import arviz as az
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from numpy.testing import assert_allclose
from scipy import stats
from support import EXAMPLES, assert_same_model, assert_same_posterior, load_example, run, run_text

import pymc3_tf
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input
from pymc3_tf.exceptions import CompilationError, LibraryError, UnsupportedOpError
from pymc3_tf.host import build
from pymc3_tf.programs import libraries
from pymc3_tf.programs.differentiation import differentiated, value_and_vjp, vjp
from pymc3_tf.runtime import functions

kepler = load_example("kepler")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "custom_ops.md"
M = np.linspace(-20, 15, 401)
MEAN_ANOMALY, ECCENTRICITY = Input("M", "float64", (None,)), Input("e", "float64", ())
SAMPLING = {
    "draws": 10, "tune": 10, "chains": 2, "random_seed": [1, 2], "progressbar": False,
    "compute_convergence_checks": False,
}  # fmt: skip


def by_bisection(M, e):
    """Solve Kepler's equation: E is within e of M."""
    low, high = M - e, M + e
    for _ in range(60):
        middle = (low + high) / 2
        below = middle - e * np.sin(middle) < M
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def by_plain_ops(M, e):
    """Solve it by Newton's method, in ops of TensorFlow's own and with their gradients."""
    turns = 2 * np.pi * tf.floor(tf.stop_gradient(M) / (2 * np.pi))
    E = np.pi * tf.ones_like(M)
    for _ in range(12):
        E = E - (E - e * tf.sin(E) - (M - turns)) / (1 - e * tf.cos(E))
    return E + turns


@pytest.fixture(scope="module")
def models(op):
    """The orbit of the example, with the custom op and without."""
    data = kepler.simulate(op)
    return kepler.model(op, *data), kepler.model(by_plain_ops, *data)


# -- in this process --------------------------------------------------------------------------


@pytest.mark.parametrize("e", [0.0, 0.3, 0.9, 0.99])
def test_value_and_gradient_are_those_of_keplers_equation(op, e):
    program = capture(op, [MEAN_ANOMALY, ECCENTRICITY])
    E, by_M, by_e = functions.evaluate(value_and_vjp(program), [M, e, np.ones_like(M)])
    expected = by_bisection(M, e)
    assert_allclose(E, expected, atol=1e-10)
    assert_allclose(by_M, 1 / (1 - e * np.cos(expected)), rtol=1e-10)
    assert_allclose(by_e, np.sum(np.sin(expected) / (1 - e * np.cos(expected))), rtol=1e-10)


def test_float32_has_a_kernel_too(op):
    E = op(tf.constant(M, tf.float32), tf.constant(0.3, tf.float32))
    assert_allclose(E, by_bisection(M, 0.3), atol=1e-5)


def test_second_derivatives_go_through_the_registered_gradient(op):
    x, e, v = tt.dvector("M"), tt.dscalar("e"), tt.dvector("v")
    specs = [tf.TensorSpec([None], tf.float64), tf.TensorSpec([], tf.float64)]
    with theano.config.change_flags(compute_test_value="off"):
        total = tt.sum(pymc3_tf.TensorFlowOp(op, specs)(x, e))
        product = tt.grad(tt.dot(tt.grad(total, x), v), x)
        by_e = tt.grad(tt.grad(total, e), e)
        compiled = theano.function([x, e, v], [product, by_e], on_unused_input="ignore")
    direction = np.random.RandomState(0).randn(M.size)
    found, found_by_e = compiled(M, 0.3, direction)
    E = by_bisection(M, 0.3)
    d = 1 - 0.3 * np.cos(E)
    assert_allclose(found, -0.3 * np.sin(E) / d**3 * direction, atol=1e-10)
    by_e = np.sin(E) / d
    expected = np.cos(E) * by_e / d - by_e / d * (0.3 * np.sin(E) * by_e - np.cos(E))
    assert_allclose(found_by_e, expected.sum(), rtol=1e-10)


def test_orbit_has_the_density_of_the_one_in_plain_ops(models):
    ours, theirs = models
    # Small steps: the orbit is known to a fraction of a percent.
    assert_same_model(ours, theirs, offsets=(0.0, 0.01, -0.02), rtol=1e-8)


def test_failing_op_is_a_density_of_zero(op):
    with pm.Model() as model:
        e = pm.Normal("e", 0.5, 1.0)
        data = {"y": np.zeros(2)}
        pm.TFDensity("y", lambda y, e: op(y, e), {"e": e}, feed_dict=data)
    assert np.isfinite(model.logp({"e": 0.5})) and model.logp({"e": 1.5}) == -np.inf


def test_log_likelihood_of_many_draws(models):
    ours, theirs = models
    with ours:
        trace = pm.sample(cores=1, return_inferencedata=False, init="adapt_diag", **SAMPLING)
    found = az.from_pymc3(trace, model=ours).log_likelihood["velocity"]
    expected = [[theirs["velocity"].logp_elemwise(x) for x in trace.points([c])] for c in (0, 1)]
    assert_allclose(found, expected, rtol=1e-8)


# -- XLA --------------------------------------------------------------------------------------


def test_xla_is_refused_by_the_name_of_the_op(op, models, monkeypatch):
    # Without what the compiled program could call.
    monkeypatch.setattr(build, "library", lambda name: None)
    with pytest.raises(
        UnsupportedOpError, match="XLA cannot compile EccentricAnomaly.*jit_compile"
    ):
        capture(op, [MEAN_ANOMALY, ECCENTRICITY], jit_compile=True)
    text = r"'velocity': it knows no EccentricAnomaly. .*pm.sample\(\).*jit_compile=False"
    with pytest.raises(CompilationError, match=text):
        pymc3_tf.sample(model=models[0], **SAMPLING)


def test_sample_without_xla_draws_as_with_plain_ops(models):
    draws = [
        pymc3_tf.sample(
            model=model, jit_compile=False, max_treedepth=4, init="adapt_diag", **SAMPLING
        ).posterior
        for model in models
    ]
    for name in kepler.TRUTH:
        assert_allclose(draws[0][name], draws[1][name], rtol=1e-6)
        assert draws[0][name].std() > 0


# -- other processes --------------------------------------------------------------------------

CHAINS = f"""
import os, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import kepler, numpy as np, pymc3 as pm

if __name__ == "__main__":
    library, start, lost = sys.argv[1:]
    orbit = kepler.load(library)
    with kepler.model(orbit, *kepler.simulate(orbit)):
        if lost == "lost":
            os.unlink(library)
        two, one = (
            pm.sample(return_inferencedata=False, init="adapt_diag", **options, **{SAMPLING})
            for options in ({{"cores": 2, "mp_ctx": start}}, {{"cores": 1}})
        )
    for name in kepler.TRUTH:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-6)
        assert one[name].std() > 0
    print("the same draws")
"""


def sample_chains(folder, *arguments):
    script = folder / "chains.py"
    script.write_text(CHAINS, "utf-8")
    return run([str(script), *map(str, arguments)])


@pytest.mark.parametrize("start", [pytest.param("fork", marks=pytest.mark.slow), "spawn"])
def test_chains_of_several_processes_have_the_draws_of_one(library, tmp_path, start):
    result = sample_chains(tmp_path, library, start, "kept")
    assert "the same draws" in result.stdout, result.stderr


def test_chains_that_do_not_find_the_library_say_so(library, tmp_path):
    path = shutil.copy(library, tmp_path / "lost.so")
    result = sample_chains(tmp_path, path, "spawn", "lost")
    assert result.returncode == 1
    text = f"LibraryError: there is no library '{path}'.* unpickled uses its EccentricAnomaly"
    assert re.search(text, result.stderr), result.stderr


def test_process_that_unpickles_a_program_loads_the_library(op, library, tmp_path, monkeypatch):
    program = capture(op, [MEAN_ANOMALY, ECCENTRICITY])
    used = libraries.Library(str(library), ("EccentricAnomaly",))
    assert program.libraries == vjp(program).libraries == (used,)
    assert differentiated(vjp(program)).libraries == program.batched(["input_0"]).libraries
    lost = dataclasses.replace(program, libraries=(used._replace(path="/lost/kepler.so"),))
    # As if it had been loaded by tf.load_op_library.
    monkeypatch.setattr(libraries, "_paths", {})
    unknown = capture(op, [MEAN_ANOMALY, ECCENTRICITY])
    assert unknown.libraries == () and unknown == program
    for name, sent in [("program", program), ("lost", lost), ("unknown", unknown)]:
        (tmp_path / name).write_bytes(pickle.dumps(sent))
    copy = shutil.copy(library, tmp_path / "copy.so")
    result = run_text(
        f"""
        import json, pickle
        from pathlib import Path
        import pymc3_tf
        from pymc3_tf.programs.differentiation import vjp
        from pymc3_tf.runtime import functions

        def load(name):
            return pickle.loads((Path({str(tmp_path)!r}) / name).read_bytes())

        def evaluate(name):
            results = functions.evaluate(vjp(load(name)), [[1.0, 2.0], 0.3, [1.0, 1.0]])
            return [result.tolist() for result in results]

        def error_of(function, argument):
            try:
                function(argument)
            except pymc3_tf.exceptions.LibraryError as error:
                return str(error)

        errors = [error_of(load, "lost"), error_of(evaluate, "unknown")]
        # The first of them loads what all of them need.
        results = [evaluate(name) for name in ("program", "lost", "unknown")]
        errors.append(error_of(pymc3_tf.load_op_library, {str(copy)!r}))
        print(json.dumps([errors, results]))
        """
    )
    assert result.returncode == 0, result.stderr
    errors, results = json.loads(result.stdout)
    for error, text in zip(
        errors,
        [
            "no library '/lost/kepler.so'.* EccentricAnomaly.*load_op_library before unpickling",
            r"uses the op EccentricAnomaly.*pymc3_tf.load_op_library\(path\) instead of tf.*import",
            "copy.so' has no ops that TensorFlow does not have already.*restart Python",
        ],
    ):
        assert re.search(text, error), error
    E = by_bisection(np.array([1.0, 2.0]), 0.3)
    by_M = 1 / (1 - 0.3 * np.cos(E))
    for found in results:
        assert_allclose(found[0], by_M, rtol=1e-10)
        assert_allclose(found[1], np.sum(np.sin(E) * by_M), rtol=1e-10)


# -- libraries that cannot be loaded ----------------------------------------------------------


def test_library_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LibraryError, match=f"no library '{tmp_path}/kepler.so'. Build it"):
        pymc3_tf.load_op_library("kepler.so")


def test_file_that_is_no_library(tmp_path):
    path = tmp_path / "kepler.so"
    path.write_text("int main() {}")
    with pytest.raises(LibraryError, match=r"cannot load the library.*\(.*kepler.so: .*flags"):
        pymc3_tf.load_op_library(path)


def test_library_that_has_lost_an_op(library):
    with pytest.raises(LibraryError, match="has no op TrueAnomaly, and a density.*Build it"):
        libraries.Library(str(library), ("EccentricAnomaly", "TrueAnomaly")).require()


# -- the example and the page -----------------------------------------------------------------


@pytest.mark.slow
def test_example_finds_the_orbit(op, tmp_path):
    result = run([kepler.__file__, "--draws", "200", "--output", str(tmp_path / "draws.nc")])
    assert result.returncode == 0, result.stderr
    posterior = az.from_netcdf(str(tmp_path / "draws.nc")).posterior
    for name, expected in moments_by_importance(*kepler.simulate(op)).items():
        assert_same_posterior(posterior[name], expected, name=name)


def moments_by_importance(t, velocity, number=20_000):
    """Mean and standard deviation of the orbit's elements, without TensorFlow.

    Elements are drawn from a t distribution about the linearized least squares solution, and
    weighted by how much denser the posterior is there: the errors are a hundredth of a deviation.
    """
    truth = np.array(list(kepler.TRUTH.values()))

    def at(elements):
        period, K, e, omega, phase, offset = np.transpose(elements)[..., None]
        E = by_bisection(2 * np.pi * t / period + phase, e)
        distance = 1 - e * np.cos(E)
        toward = np.cos(omega) * (np.cos(E) - e) - np.sin(omega) * np.sqrt(1 - e**2) * np.sin(E)
        return offset + K * (toward / distance + e * np.cos(omega))

    steps = 1e-5 * np.eye(6)
    slopes = (at(truth + steps) - at(truth - steps)).T / 2e-5
    covariance = np.linalg.inv(slopes.T @ slopes / 4.0**2)
    best = truth + covariance @ slopes.T @ (velocity - at(truth[None])[0]) / 4.0**2
    proposal = stats.multivariate_t(best, covariance, df=8, seed=1)
    elements = proposal.rvs(number)
    period, K, e, _, _, offset = elements.T
    logp = (
        -0.5 * np.sum(((velocity - at(elements)) / 4.0) ** 2, axis=1)
        + stats.norm.logpdf(period, 14.3, 0.1)
        + stats.lognorm.logpdf(K, 1, 0, 50)
        + stats.beta.logpdf(e, 0.867, 3.03)
        + stats.norm.logpdf(offset, 0, 100)
    )
    weights = np.exp(logp - logp.max() - proposal.logpdf(elements) + proposal.logpdf(best))
    weights /= weights.sum()
    assert 1 / np.sum(weights**2) > 5_000
    mean = weights @ elements
    return dict(zip(kepler.TRUTH, zip(mean, np.sqrt(weights @ (elements - mean) ** 2))))


def test_page_can_be_followed(tmp_path):
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
    shutil.copy(kepler.SOURCE, tmp_path)
    build = blocks["bash"].replace("$(python ", f"$({sys.executable} ")
    subprocess.run(["bash", "-e", "-c", build], cwd=tmp_path, check=True)
    result = run_text(
        f"""
        import functools, json, os
        os.chdir({str(tmp_path)!r})
        import pymc3_tf, pymc3 as pm
        pm.sample = functools.partial(
            pm.sample, 300, tune=300, chains=2, cores=1, random_seed=[1, 2], progressbar=False
        )
        exec({blocks["python"]!r})
        draws = [chain.tolist() for chain in trace.get_values("e", combine=False)]
        print(json.dumps([draws, list(x)]))
        """
    )
    assert result.returncode == 0, result.stderr
    draws, x = json.loads(result.stdout.splitlines()[-1])
    e = np.linspace(0.0005, 0.9995, 1000)
    distances = [np.cos(by_bisection(np.linspace(0, 6, 20), value)) - value for value in e]
    logp = -0.5 * np.sum(((x - np.array(distances)) / 0.1) ** 2, axis=1)
    logp += stats.beta.logpdf(e, 0.867, 3.03)
    weights = np.exp(logp - logp.max())
    expected = np.average(e, weights=weights)
    sd = np.sqrt(np.average((e - expected) ** 2, weights=weights))
    assert_same_posterior(draws, (expected, sd))
