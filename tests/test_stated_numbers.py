"""The numbers that the README and the documentation state are those of docs/benchmarks."""

import datetime
import statistics
from pathlib import Path

import performance_page
import pytest
from performance_page import mean, saved

ROOT = Path(__file__).resolve().parent.parent
LINE, SAMPLING, ADAPTATION = map(saved, ("line", "sampling", "adaptation"))
MODELS = SAMPLING["models"]
EVALUATION = LINE["evaluation"]["50"]


def ratios(over, under, key="ess_per_second"):
    """Return how many times the speed of one method another one has, by model."""
    return {
        model: found[over][key] / found[under][key]
        for model, found in MODELS.items()
        if over in found and under in found
    }


def digits(value, number):
    """Return a number of so many digits, without an exponent."""
    rounded = float(f"{value:.{number}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (number - 1) else f"{rounded:g}"


def microseconds(name):
    return EVALUATION[name]["minimum"]


def of_draws_alone(method):
    return mean(ADAPTATION["models"]["gaussian_process"][method], "ess_per_1000_draws_alone")


def readme():
    whole, density = ratios("xla", "pymc3"), ratios("density", "pymc3")
    low, high = digits(min(whole.values()), 2), digits(max(whole.values()), 2)
    yield f"up to {high} times the effective samples per second"
    yield f"`pymc3_tf.sample` makes {low} to {high} times the effective samples per second"
    yield f"makes {digits(min(density.values()), 2)} to {digits(max(density.values()), 2)} times"


def should_i_use_this():
    density = ratios("density", "pymc3")
    yield (
        f"a TFDensity makes {digits(min(density.values()), 2)} to "
        f"{digits(max(density.values()), 2)} times its effective samples per second"
    )
    assert 10 <= microseconds("density") - microseconds("pymc3") <= 35
    yield "some 10 to 35 microseconds"
    by_hand = [1 / ratio for ratio in ratios("xla", "threads").values()]
    assert 2.5 < max(by_hand) < 3.5 and min(by_hand) < 1
    yield "it is up to three times as fast, or slower, depending on the model"


def evaluation():
    ours, two, bare, pymc3 = map(microseconds, ("density", "two_op", "bare", "pymc3"))
    yield f"Of the {ours:.0f} microseconds for 50 points, TensorFlow takes {bare:.0f}"
    yield f"plain PyMC3 takes {pymc3:.0f} in total"
    yield f"twenty times faster than two `session.run`, it would have to take {two / 20:.0f}"
    parts = ratios("density", "pymc3", "draws_per_second")
    yield f"TFDensity makes {parts['line_50']:.2f} of the draws per second of plain PyMC3"
    versions = LINE["versions"]
    python, tensorflow = (versions[x].rsplit(".", 1)[0] for x in ("python", "tensorflow"))
    yield f"with Python {python}, PyMC3 {versions['pymc3']} and TensorFlow {tensorflow}"


def whole_models():
    line = MODELS["line_50"]
    speed = float(digits(line["pymc3"]["draws_per_second"], 2).replace(",", ""))
    yield f"plain PyMC3 in two processes makes {speed:,.0f} draws per second"
    seconds = statistics.median(call["seconds"] for call in line["xla"]["calls"])
    draws = 2 * (line["xla"]["draws"] + line["xla"]["tune"])
    yield f"`pymc3_tf.sample` takes {seconds:.1f} seconds for {draws:,} draws"
    yield datetime.date.fromisoformat(SAMPLING["date"]).strftime("of %d %B %Y")
    numpyro = ratios("numpyro", "xla")
    assert {model for model, ratio in numpyro.items() if ratio > 1} == {"logistic"}
    assert ratios("numpyro", "xla_density")["logistic"] < 1
    yield "NumPyro is faster for the logistic regression, and slower for the other models"


def gradients():
    ours, theirs, stan = map(of_draws_alone, ("auto", "numpyro", "diag"))
    yield f"draws are worth {ours:.1f} effective samples per 1,000 gradients"
    yield f"against {theirs:.1f} of NumPyro, and {stan:.1f} of Stan's warmup"
    runs = ADAPTATION["models"]["gaussian_process"]
    seeds = sorted(run["ess_per_1000_draws_alone"] for run in runs["auto"])
    yield "three seeds have {:.1f}, {:.1f} and {:.1f}".format(*seeds)
    lowrank = mean(runs["lowrank"], "ess_per_1000"), of_draws_alone("lowrank")
    yield '`init="jitter+adapt_lowrank"` has {:.1f}, and its draws alone {:.1f}'.format(*lowrank)


SENTENCES = [
    ("README.md", readme),
    ("docs/should_i_use_this.md", should_i_use_this),
    ("docs/performance.md", evaluation),
    ("docs/performance.md", whole_models),
    ("docs/performance.md", gradients),
]


@pytest.mark.parametrize(("page", "sentences"), SENTENCES, ids=lambda x: getattr(x, "__name__", x))
def test_sentences_have_the_numbers_of_the_benchmarks(page, sentences):
    text = " ".join((ROOT / page).read_text("utf-8").split())
    missing = [sentence for sentence in sentences() if sentence not in text]
    assert not missing


def test_tables_are_those_of_the_benchmarks():
    text = performance_page.PAGE.read_text("utf-8")
    names = [block.group(2) for block in performance_page.BLOCK.finditer(text)]
    assert sorted(names) == sorted(performance_page.TABLES)
    assert performance_page.with_tables(text) == text, "run tests/performance_page.py"
