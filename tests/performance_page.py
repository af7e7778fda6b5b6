"""Writes the tables of docs/performance.md from what the benchmarks have saved in docs/benchmarks.

``python tests/performance_page.py`` does so after a benchmark was run again.
"""

import json
import re
import statistics
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "performance.md"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def saved(name):
    """Return what a benchmark has saved."""
    return json.loads((DOCS / "benchmarks" / f"{name}.json").read_text("utf-8"))


def number(value):
    """Return a number of three digits, as text."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head, rows):
    """Return lines of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


def target_rows(targets):
    """Return rows with what was measured, the aim, and whether it was reached."""
    for found in targets:
        bound, limit = found["target"].split()
        aim = f"{limit} or {'more' if bound == '>=' else 'less'}"
        reached = "reached" if found["reached"] else "missed"
        yield [found["text"], number(found["value"]), aim, reached]


def aims(name):
    """Return the table of the aims of a benchmark."""
    return table(["", "measured", "aim", ""], target_rows(saved(name)["targets"]))


def line():
    return aims("line")


def sampling_aims():
    return aims("sampling")


def sampling():
    """Return effective samples per second, by method and model."""
    results = saved("sampling")
    models = ordered(results["models"])
    rows = []
    for name, label in results["labels"]["methods"].items():
        found = [models[model].get(name) for model in models]
        rows.append([label, *(number(x["ess_per_second"]) if x else "" for x in found)])
    return table(["", *(results["labels"]["models"][model] for model in models)], rows)


def ordered(models):
    """Return the models, those that plain PyMC3 samples fastest first."""
    speed = {name: found["pymc3"]["ess_per_second"] for name, found in models.items()}
    return {name: models[name] for name in sorted(models, key=speed.get, reverse=True)}


def compiling():
    """Return how long pymc3_tf.sample compiles, and when that has paid off, by model."""
    results = saved("sampling")
    rows = []
    for model, found in ordered(results["models"]).items():
        ours = found["xla"]
        draws = ours.get("break_even_draws")
        paid = "never" if draws is None else f"{draws:,} draws on"
        rows.append([results["labels"]["models"][model], number(ours["compile_seconds"]), paid])
    return table(["", "seconds to compile", "faster than plain PyMC3 from"], rows)


def reach():
    """Return the ratios of hard densities, with the aims that are missed in bold type."""
    results = saved("reach")
    texts = []
    for found in results["targets"].values():
        texts += [text for text in found if text not in texts]
    rows = []
    for model, label in results["labels"].items():
        found = results["targets"].get(model)
        if found:
            rows.append([label, *(reach_cell(found.get(text)) for text in texts)])
    return table(["", *texts], rows)


def reach_cell(found):
    if found is None:
        return ""
    return number(found["value"]) if found["reached"] else f"**{number(found['value'])}**"


def adaptation():
    """Return effective samples per 1,000 gradients, and gradients of a warmup."""
    results = saved("adaptation")
    models = results["models"]
    rows = []
    for name, label in results["labels"].items():
        found = [methods.get(name) for methods in models.values()]
        rows.append([label, *(number(mean(x, "ess_per_1000")) if x else "" for x in found)])
    for name, label in (
        ("auto", "gradients of a chain's warmup, tune='auto'"),
        ("nutpie", "the same, nutpie"),
    ):
        rows.append([label, *(number(mean(m[name], "warmup")) for m in models.values())])
    labels = {**saved("sampling")["labels"]["models"], "factors": "250 coefficients"}
    return table(["", *(labels[model] for model in models)], rows)


def mean(runs, key):
    return statistics.mean(run[key] for run in runs)


def adaptation_aims():
    """Return how far tune="auto" is ahead, for the models that all methods have."""
    models = saved("adaptation")["models"]

    def ratios(name, key="ess_per_1000"):
        return [
            mean(methods["auto"], key) / mean(methods[name], key)
            for methods in models.values()
            if {"auto", "nutpie", "numpyro", "diag"} <= set(methods)
        ]

    targets = []
    for name, label, aim in (("nutpie", "nutpie", 1.15), ("numpyro", "NumPyro", 2)):
        found = ratios(name)
        text = f"{len(found)} models, geometric mean: times those of {label}"
        targets.append((text, statistics.geometric_mean(found), aim))
        targets.append((f"the same, worst model: times those of {label}", min(found), 1))
    alone = min(ratios("diag", "ess_per_1000_draws_alone"))
    targets.append(("draws alone, worst model: part of those of adapt_diag", alone, 0.95))
    rows = (
        {"text": text, "value": value, "target": f">= {aim}", "reached": value >= aim}
        for text, value, aim in targets
    )
    return table(["", "measured", "aim", ""], target_rows(rows))


TABLES = {
    made.__name__: made
    for made in (line, sampling, compiling, sampling_aims, reach, adaptation, adaptation_aims)
}


def with_tables(text):
    """Return the text of the page with its tables made anew."""
    return BLOCK.sub(lambda block: block.group(1) + TABLES[block.group(2)](), text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
