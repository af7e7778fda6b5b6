"""Take what the tests need of posteriordb: data, and what its reference draws say.

``PYTHONPATH=tests python tests/statistics/posteriordb.py CLONE`` writes ``posteriordb.json``, where
CLONE is a clone of https://github.com/stan-dev/posteriordb (Magnusson et al. 2023, BSD-3-Clause).
Its reference draws are 10,000 of Stan, thinned until they are as good as independent.
"""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pymc3_tf  # noqa: F401  # isort: skip  # before pymc3, for the sake of Python 3.11
import numpy as np
from support import moments

FILE = Path(__file__).with_suffix(".json")
# Name of the posterior: that of its data.
POSTERIORS = {
    "eight_schools-eight_schools_noncentered": "eight_schools",
    "hudson_lynx_hare-lotka_volterra": "hudson_lynx_hare",
    "gp_pois_regr-gp_regr": "gp_pois_regr",
    "gp_pois_regr-gp_pois_regr": "gp_pois_regr",
    "hmm_example-hmm_example": "hmm_example",
    "arK-arK": "arK",
    "garch-garch11": "garch",
}


def show(clone, path):
    return subprocess.run(
        ["git", "-C", clone, "show", f"HEAD:{path}"], check=True, stdout=subprocess.PIPE
    ).stdout


def unzipped(clone, path):
    with zipfile.ZipFile(io.BytesIO(show(clone, f"posterior_database/{path}.zip"))) as archive:
        return json.loads(archive.read(Path(path).name))


def summary(draws):
    """Return moments with their errors, and hundredths, of draws of a number in several chains."""
    mean, sd, *errors = (float(x) for x in moments(draws))
    quantiles = np.quantile(draws, np.arange(1, 100) / 100)
    numbers = [mean, sd, *errors]
    return {
        "moments": [float(f"{x:.8g}") for x in numbers],
        "quantiles": [float(f"{x:.5g}") for x in quantiles],
    }


def taken(clone):
    commit = subprocess.run(
        ["git", "-C", clone, "rev-parse", "HEAD"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    result = {
        "source": f"https://github.com/stan-dev/posteriordb at {commit.strip()}",
        "licence": show(clone, "LICENCE.md").decode(),
        "data": {},
        "posteriors": {},
    }
    for name, data in POSTERIORS.items():
        result["data"][data] = unzipped(clone, f"data/data/{data}.json")
        chains = unzipped(clone, f"reference_posteriors/draws/draws/{name}.json")
        result["posteriors"][name] = {
            key: summary(np.array([chain[key] for chain in chains])) for key in chains[0]
        }
    return result


if __name__ == "__main__":
    text = json.dumps(taken(sys.argv[1]))
    FILE.write_text(text.replace('"data": {', '"data": {\n').replace("]}, ", "]},\n") + "\n")
