"""The examples of the documentation: their posteriors, and what they print and leave on disk."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pymc3_tf  # isort: skip  # before pymc3, for the sake of Python 3.11
import arviz as az
import matplotlib.image
import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats
from support import EXAMPLES, assert_same_posterior, load_example

HERE = Path(__file__).resolve().parent
robust_line = load_example("robust_line")
line_2018 = load_example("line_2018")


def compiled():
    """Return the environment of a process in which Theano has its compiler, unlike in this one."""
    package = Path(pymc3_tf.__file__).resolve().parents[1]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    flags = re.sub(r"(^|,)cxx=(?=,|$)", "", os.environ.get("THEANO_FLAGS", ""))
    return {**os.environ, "THEANO_FLAGS": flags, "PYTHONPATH": os.pathsep.join(paths)}


def sampled(expression, folder):
    """Evaluate an expression of this module, one that samples, in a process of its own."""
    path = str(folder.mktemp("draws") / "draws.nc")
    script = (
        f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}; "
        f"import test_examples as t; t.{expression}.to_netcdf(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", script, path], env=compiled(), check=True, timeout=900)
    return az.from_netcdf(path)


def sample_robust_line():
    return robust_line.sample(robust_line.model(robust_line.load(), robust_line.graph()), seed=1)


def sample_plain_pymc3():
    return robust_line.sample(plain_pymc3_model(robust_line.load()), seed=2)


def sample_2018():
    model = line_2018.model(line_2018.graph(*line_2018.load()))
    trace = line_2018.sample(model, tune=1000, seed=1)
    return az.from_pymc3(trace, model=model, log_likelihood=False)


# -- the line with outliers -------------------------------------------------------------------


def plain_pymc3_model(data):
    """The model of robust_line.py, written again with PyMC3's own distributions only."""
    x, y, sigma_y = data["x"], data["y"], data["sigma_y"]
    with pm.Model() as model:
        m = pm.Normal("m", 0, 10)
        height = pm.Normal("height", 400, 200)
        b = pm.Deterministic("b", height - m * x.mean())
        P_b = pm.Uniform("P_b", 0, 1)
        Y_b = pm.Normal("Y_b", 400, 200)
        V_b = tt.exp(pm.Normal("ln_V_b", 9, 2))
        pm.Mixture(
            "y",
            w=tt.stack([1 - P_b, P_b]),
            comp_dists=[
                pm.Normal.dist(m * x + b, sigma_y),
                pm.Normal.dist(Y_b * np.ones(len(x)), tt.sqrt(V_b + sigma_y**2)),
            ],
            observed=y,
        )
    return model


@pytest.fixture(scope="module")
def table():
    return robust_line.load()


@pytest.fixture(scope="module")
def tensors():
    return robust_line.graph()


@pytest.fixture(scope="module")
def robust_model(table, tensors):
    return robust_line.model(table, tensors)


@pytest.fixture(scope="module")
def plain_model(table):
    return plain_pymc3_model(table)


@pytest.fixture(scope="module")
def robust_posterior(tmp_path_factory):
    return sampled("sample_robust_line()", tmp_path_factory)


def test_table_gives_the_published_least_squares_lines(table):
    # Hogg, Bovy & Lang (2010), exercises 1 and 2: without and with the first four points.
    for points, line in [
        (table[4:], "(2.24 +- 0.11) x + (34 +- 18)"),
        (table, "(1.08 +- 0.08) x + (213 +- 14)"),
    ]:
        design = np.vander(points["x"], 2) / points["sigma_y"][:, None]
        covariance = np.linalg.inv(design.T @ design)
        m, b = covariance @ design.T @ (points["y"] / points["sigma_y"])
        sigma_m, sigma_b = np.sqrt(np.diag(covariance))
        assert f"({m:.2f} +- {sigma_m:.2f}) x + ({b:.0f} +- {sigma_b:.0f})" == line


def test_robust_line_has_the_density_and_gradient_of_plain_pymc3(robust_model, plain_model):
    ours, plain = (model.logp_dlogp_function() for model in [robust_model, plain_model])
    ours.set_extra_values({})
    plain.set_extra_values({})
    names = {v.name for v in plain_model.free_RVs}
    assert {v.name for v in robust_model.free_RVs} == names
    rng = np.random.RandomState(0)
    # About the posterior's means and standard deviations; then up to tens of them away.
    near = {
        "m": (2.2, 0.1),
        "height": (420, 7),
        "P_b_interval__": (-1, 0.6),
        "Y_b": (440, 50),
        "ln_V_b": (9, 1),
    }
    assert set(near) == names
    for scale in [0, 0.1, 1, 3, 10]:
        for _ in range(3):
            point = {
                name: np.array(mean + scale * sd * rng.randn()) for name, (mean, sd) in near.items()
            }
            logp, gradient = ours(ours.dict_to_array(point))
            expected_logp, expected_gradient = plain(plain.dict_to_array(point))
            assert np.isfinite(expected_logp)
            assert_allclose(logp, expected_logp, rtol=1e-10)
            gradient = ours.array_to_dict(gradient)
            for name, expected in plain.array_to_dict(expected_gradient).items():
                assert_allclose(gradient[name], expected, rtol=1e-10, atol=1e-10, err_msg=name)
            assert_allclose(
                robust_model["y"].logp_elemwise(point),
                plain_model["y"].logp_elemwise(point),
                rtol=1e-10,
            )


@pytest.mark.slow
def test_robust_line_has_the_posterior_of_plain_pymc3(robust_posterior, tmp_path_factory):
    expected = sampled("sample_plain_pymc3()", tmp_path_factory)
    for posterior in [robust_posterior, expected]:
        summary, _ = robust_line.summarise(posterior)
        assert summary["r_hat"].max() < 1.01
        assert summary["ess_bulk"].min() > 400  # fewer, and the errors below mean little
    for name in ["m", "b"]:
        # Four comparisons of equal posteriors leave four errors once in 4000 seeds. One of these
        # errors is about a sixtieth of the posterior's standard deviation, so a tenth of it fails.
        assert_same_posterior(robust_posterior.posterior[name], expected.posterior[name], name=name)


def test_outlier_probabilities_follow_bayes_theorem(table, tensors, robust_model, robust_posterior):
    with robust_model:
        outlier = pymc3_tf.evaluate(tensors.outlier, robust_posterior)
    draws = {
        name: robust_posterior.posterior[name].values[..., None]
        for name in ["m", "b", "P_b", "Y_b", "ln_V_b"]
    }
    x, y, sigma_y = table["x"], table["y"], table["sigma_y"]
    foreground = stats.norm.logpdf(y, draws["m"] * x + draws["b"], sigma_y)
    background = stats.norm.logpdf(y, draws["Y_b"], np.sqrt(np.exp(draws["ln_V_b"]) + sigma_y**2))
    expected = special.expit(special.logit(draws["P_b"]) + background - foreground)
    assert outlier.shape == (4, 1000, 20)
    assert_allclose(outlier, expected, rtol=1e-9, atol=1e-12)
    assert_array_equal(table["id"][outlier.mean(axis=(0, 1)) > 0.5], [2, 3, 4])


def test_robust_line_warns_in_words_of_chains_that_disagree():
    rng = np.random.RandomState(0)
    posterior = {name: rng.randn(4, 200) for name in robust_line.VARIABLES}
    diverging = np.zeros((4, 200), bool)
    good = az.from_dict(posterior, sample_stats={"diverging": diverging})
    assert robust_line.summarise(good)[1] == []
    diverging[0, 3] = True
    posterior["Y_b"] = posterior["Y_b"] + 0.2 * np.arange(4)[:, None]
    bad = az.from_dict(posterior, sample_stats={"diverging": diverging})
    disagree, diverged = robust_line.summarise(bad)[1]
    assert "r_hat of Y_b is" in disagree and "above 1.01" in disagree and "--tune" in disagree
    assert diverged.startswith("1 draw")


def test_robust_line_script_prints_the_summary_and_saves_the_pictures(tmp_path):
    output = tmp_path / "new" / "pictures"
    arguments = "--draws 150 --tune 400 --chains 2 --seed 3 --output".split()
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "robust_line.py"), *arguments, str(output)],
        env=compiled(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    printed = result.stdout
    assert result.returncode == 0, printed
    assert "100.00%" in printed, "no progress bar"

    header = re.search(r"^ +mean .*r_hat$", printed, re.MULTILINE)
    assert header, printed
    columns = header.group().split()
    assert {"mean", "sd", "hdi_3%", "hdi_97%", "ess_bulk", "ess_tail", "r_hat"} <= set(columns)
    rows = {}
    for name in robust_line.VARIABLES:
        row = re.search(rf"^{name} +(.*)$", printed, re.MULTILINE)
        rows[name] = dict(zip(columns, map(float, row.group(1).split())))
        assert 0.98 < rows[name]["r_hat"] < 1.1
        assert 20 < rows[name]["ess_bulk"] < 1000  # it can exceed the 300 draws, but not by much
    assert abs(rows["m"]["mean"] - 2.24) < 0.1
    assert abs(rows["b"]["mean"] - 34) < 15
    outliers = re.findall(r"point +(\d+) +[\d.]+  <- more likely than not", printed)
    assert outliers == ["2", "3", "4"]

    names = ["lines.png", "outliers.png", "pair.png", "robust_line.png", "trace.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    for name in names:
        assert str(output / name) in printed
        picture = matplotlib.image.imread(output / name)
        assert min(picture.shape[:2]) > 500, name
        assert 0.01 < (picture[..., :3] < 0.9).any(axis=-1).mean() < 0.5, f"{name} is blank"


# -- the line of 2018 -------------------------------------------------------------------------

# Mean and standard deviation for the data of the post, as computed independently of this package.
REFERENCE = {
    "m": (0.482247, 0.037164),
    "b": (-2.223177, 0.196873),
    "logs": (-0.296456, 0.103134),
}


@pytest.fixture(scope="module")
def line():
    return line_2018.graph(*line_2018.load())


@pytest.fixture(scope="module")
def line_model(line):
    return line_2018.model(line)


@pytest.fixture(scope="module")
def quadrature():
    """Mean and standard deviation of the posterior of m, b and logs, by the trapezoidal rule.

    It converges exponentially for a smooth density that vanishes at both ends. The grid ends eight
    standard deviations or more from the mode, well inside the uniform priors.
    """
    x, y = line_2018.load()
    grids = [
        np.linspace(0.13, 0.83, 161),
        np.linspace(-4.1, -0.35, 161),
        np.linspace(-1.1, 1.0, 121),
    ]
    m, b, logs = np.meshgrid(*grids, indexing="ij", sparse=True)
    # The sum of squares is a quadratic form in (m, b): no need of a fourth dimension.
    squares = (
        np.sum(y**2)
        + m**2 * np.sum(x**2)
        + b**2 * len(x)
        + 2 * (m * b * np.sum(x) - m * np.sum(x * y) - b * np.sum(y))
    )
    log_density = -0.5 * squares * np.exp(-2 * logs) - len(x) * logs
    density = np.exp(log_density - log_density.max())
    result = {}
    for axis, (name, grid) in enumerate(zip(line_2018.NAMES, grids)):
        marginal = density.sum(axis=tuple(i for i in range(3) if i != axis))
        assert marginal[[0, -1]].max() < 1e-9 * marginal.max(), f"the grid of {name} is too short"
        mean = np.average(grid, weights=marginal)
        result[name] = mean, np.sqrt(np.average((grid - mean) ** 2, weights=marginal))
    return result


def test_quadrature_reproduces_the_reference(quadrature):
    for name, expected in REFERENCE.items():
        assert_allclose(quadrature[name], expected, rtol=0, atol=2e-6, err_msg=name)


def test_loglike_of_2018_is_that_of_a_normal_with_its_gradient(line, line_model):
    x, y = line_2018.load()
    op = pymc3_tf.TensorFlowOp(line.loglike, [line.m, line.b, line.logs], session=line.session)
    inputs = [tt.dscalar(name) for name in line_2018.NAMES]
    rng = np.random.RandomState(0)
    with theano.config.change_flags(compute_test_value="off"):
        value = op(*inputs)
        outputs = [value, *tt.grad(value, inputs)]
        function = theano.function(inputs, outputs)
    for _ in range(5):
        m, b, logs = rng.uniform(-1, 1, 3)
        residual, precision = y - (m * x + b), np.exp(-2 * logs)
        expected = [
            stats.norm.logpdf(residual, scale=np.exp(logs)).sum(),
            precision * np.sum(residual * x),
            precision * np.sum(residual),
            precision * np.sum(residual**2) - len(x),
        ]
        assert_allclose(function(m, b, logs), expected, rtol=1e-10)


def test_verify_gradients_of_2018_notices_a_wrong_gradient(line):
    line_2018.verify_gradients(line)

    @tf.custom_gradient
    def wrong(x):
        return x, lambda upstream: 1.01 * upstream

    with line.session.graph.as_default():
        broken = line._replace(loglike=wrong(line.loglike))
    with pytest.raises(Exception, match="(?i)grad"):
        line_2018.verify_gradients(broken)


def test_maximum_likelihood_of_2018_is_least_squares(line_model):
    x, y = line_2018.load()
    best = pm.find_MAP(model=line_model, progressbar=False)
    m, b = np.polyfit(x, y, 1)
    logs = 0.5 * np.log(np.mean((y - m * x - b) ** 2))
    assert_allclose([best[name] for name in line_2018.NAMES], [m, b, logs], rtol=0, atol=1e-4)


def test_sampled_posterior_of_2018_is_that_of_quadrature(quadrature, tmp_path_factory):
    posterior = sampled("sample_2018()", tmp_path_factory)
    summary = az.summary(posterior)
    assert summary["r_hat"].max() < 1.01
    assert summary["ess_bulk"].min() > 400
    for name, expected in quadrature.items():
        # Quadrature is exact here, so the one Monte Carlo error is that of the draws.
        assert_same_posterior(posterior.posterior[name], expected, errors=3, name=name)
