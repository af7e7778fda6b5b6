"""Sample posteriors that are known in every way there is, and compare: the table of all of them.

``PYTHONPATH=tests python tests/statistics/posteriors.py`` writes ``docs/evidence/posteriors.json``,
model by model. Each model is sampled in a process of its own, because TensorFlow keeps what it has
compiled.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

import pymc3_tf  # isort: skip  # before pymc3, for the sake of Python 3.11
import arviz as az
import evidence_file
import numpy as np
import posteriors_closed_form
import posteriors_published
import posteriors_quadrature
import pymc3 as pm
from support import QUIET, run, standard_errors_away

MODULES = posteriors_closed_form, posteriors_quadrature, posteriors_published
# Name of a model: its function, which remembers what it has computed.
MODELS = {
    name: functools.lru_cache(maxsize=None)(make)
    for module in MODULES
    for name, make in module.MODELS.items()
}
LEARNING = ["adapt_diag_grad", "adapt_diag", "adapt_full", "adapt_lowrank"]
# Ways to sample: of pm.sample, and init and chain_method of pymc3_tf.sample.
WAYS = ["pm.sample"] + [
    f"jitter+{init} {method}" for method in ("parallel", "vectorized") for init in LEARNING
]
ERRORS = 4.0  # Monte Carlo standard errors
P_VALUE = 1e-5
R_HAT = 1.01  # below it, chains have mixed (Vehtari et al. 2021)
FEWEST = 150  # effective draws: with fewer, errors are not known well enough to compare
OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "posteriors.json"
SEED = 20261129


def draw(model, way, options, longer=1):
    """Sample a model in one of the ways, with a seed of its own."""
    seed = SEED + 10 * WAYS.index(way) + 1000 * longer
    common = dict(
        model=model,
        random_seed=seed,
        idata_kwargs={"log_likelihood": False},
        **QUIET,
        **options,
    )
    if way == "pm.sample":
        common["random_seed"] = [seed, seed + 1]
        common.update(tune=600, chains=2, cores=1, return_inferencedata=True)
        return pm.sample(600 * longer, **common).posterior
    init, method = way.split()
    return pymc3_tf.sample(2000 * longer, init=init, chain_method=method, **common).posterior


def worth(draws):
    """Return how many independent draws these are worth: for the mean, the spread and the tails."""
    squares = (draws - draws.mean()) ** 2
    return min(az.ess(draws), az.ess(squares), az.ess(draws, method="tail"))


def independent(draws):
    """Leave out draws until they are as good as independent."""
    return draws.ravel()[:: int(np.ceil(draws.size / worth(draws)))]


def compare(posterior, expected):
    """Return the largest deviations of means and of standard deviations, and the least p-value.

    Infinite deviations stand for too few draws.
    """
    worst = np.zeros((0, 3))
    for name, marginals in expected.items():
        draws = posterior[name].values
        draws = draws.reshape(*draws.shape[:2], -1)
        assert draws.shape[-1] == len(marginals), name
        if min(worth(draws[..., i]) for i in range(len(marginals))) < FEWEST:
            return [np.inf, np.inf, np.nan]
        known = np.array([(m.mean, m.sd, m.error_of_mean, m.error_of_sd) for m in marginals])
        means, sds = standard_errors_away(draws, tuple(known.T))
        p_values = [m.p_value(independent(draws[..., i])) for i, m in enumerate(marginals)]
        worst = np.concatenate([worst, np.stack([means, sds, p_values], axis=1)])
    p_value = np.nanmin(worst[:, 2]) if np.isfinite(worst[:, 2]).any() else np.nan
    return [float(x) for x in (*worst[:, :2].max(axis=0), p_value)]


def have_mixed(draws, names):
    """Whether all chains have been everywhere, by their rank-normalized R-hat."""
    return max(float(az.rhat(draws[name])[name].max()) for name in names) < R_HAT


def agrees(mean, sd, p_value):
    """Whether a comparison is within the limits."""
    return mean < ERRORS and sd < ERRORS and not p_value < P_VALUE


def compared(model, posterior, way):
    """Sample and compare; if it is outside of the limits once more, with four times the draws.

    Of thousands of right comparisons some are outside. What is wrong is further away with more.
    Where even these are worth too little (pm.sample in the tails of a Cauchy distribution, of
    PyMC3's own just so), or are outside and have not mixed, so that nobody knows what they are
    worth (one chain was long in such a tail), with sixteen times the draws.
    """
    first = compare(draw(model, way, posterior.options), posterior.expected)
    if agrees(*first):
        return {"way": way, "repeated": False, "first": first, "last": first}
    for longer in (4, 16):
        draws = draw(model, way, posterior.options, longer)
        last = compare(draws, posterior.expected)
        if agrees(*last) or np.isfinite(last[0]) and have_mixed(draws, posterior.expected):
            break
    return {"way": way, "repeated": True, "first": first, "last": last}


def results(name, ways):
    """Sample a model in the given ways, and print a line for each."""
    posterior = MODELS[name]()
    with pm.Model() as model:
        posterior.build()
    for way in ways:
        begin = time.process_time()
        row = {"model": name, **compared(model, posterior, way)}
        print(f"{name} {way} {time.process_time() - begin:.1f} s", file=sys.stderr)
        print(json.dumps(row), flush=True)


def in_a_process(name, ways=WAYS, timeout=3600):
    """Return the results of a model, which is sampled in a process of its own."""
    arguments = [__file__, "--model", name, "--ways", *ways]
    # Theano without its C compiler, which takes minutes for what is run once.
    process = run(arguments, timeout, THEANO_FLAGS="cxx=", TF_CPP_MIN_LOG_LEVEL="3")
    rows = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"model')]
    if len(rows) < len(ways):
        print(f"{name}: {len(rows)} of {len(ways)} ways\n{process.stderr[-3000:]}", file=sys.stderr)
    return rows


def row_of(name, rows):
    """Return a row of the table."""
    posterior = MODELS[name]()
    worst = np.array([row["last"] for row in rows])
    p_value = np.nan if np.isnan(worst[:, 2]).all() else np.nanmin(worst[:, 2])
    return [
        posterior.kind,
        posterior.reference,
        posterior.quantities,
        f"{len(rows)} of {len(WAYS)}" if len(rows) < len(WAYS) else len(rows),
        round(float(worst[:, 0].max()), 2),
        round(float(worst[:, 1].max()), 2),
        "" if np.isnan(p_value) else float(f"{p_value:.1g}"),
        sum(row["repeated"] for row in rows),
        "yes" if all(agrees(*row["last"]) for row in rows) else "no",
    ]


def write(results, path):
    """Write the table of the results so far, from which the page of the documentation is made."""
    rows = [row_of(name, rows) for name, rows in results.items() if rows]
    partly = sum(0 < len(rows) < len(WAYS) for rows in results.values())
    partly = f" ({partly} of them in fewer ways so far)" if partly else ""
    repeats, agree = sum(row[7] for row in rows), sum(row[8] == "yes" for row in rows)
    numbers = sum(MODELS[name]().quantities * len(rows) for name, rows in results.items())
    evidence_file.keep(
        path.stem,
        title="Known posteriors",
        text=f"Each of {len(rows)} models, with a TFDensity in it, was sampled by pm.sample "
        f"and by pymc3_tf.sample with each init and each chain_method{partly}. "
        f"{2 * numbers:,} means and standard deviations are compared with closed forms, "
        "quadratures and published draws: all have to be within four Monte Carlo standard errors, "
        f"and all Kolmogorov-Smirnov p-values above {P_VALUE:.0e}. What is not is sampled once "
        "more, with another seed and four times the draws; or sixteen times where these are worth "
        f"fewer than {FEWEST}, or are outside and have not mixed (R-hat above {R_HAT}). The table "
        f"has the repetition ({repeats} of {sum(len(rows) for rows in results.values())}). "
        f"{agree} of {len(rows)} models agree in all ways.",
        command="PYTHONPATH=tests python tests/statistics/posteriors.py",
        columns=[
            "model", "reference", "numbers", "ways", "means: largest |z|",
            "standard deviations: largest |z|", "least p-value", "repeated", "agrees",
        ],
        rows=rows,
        folder=path.parent,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, help="print the results of this one only")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--rows", type=Path, help="where results are kept, to go on from there")
    arguments = parser.parse_args()
    if arguments.model:
        return results(arguments.model, arguments.ways)
    kept = arguments.rows
    found = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for name in arguments.models:
        known = found.get(name, [])
        ways = [way for way in arguments.ways if way not in {row["way"] for row in known}]
        found[name] = known + (in_a_process(name, ways) if ways else [])
        if kept:
            kept.write_text(json.dumps(found))
        write({name: found[name] for name in MODELS if name in found}, arguments.output)
        print(name, *row_of(name, found[name])[2:], flush=True)


if __name__ == "__main__":
    main()
