"""What the README and the documentation show can be run as it stands."""

import contextlib
import functools
import re
from pathlib import Path

import numpy as np
import pymc3 as pm
import pytest
from conftest import load_example

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md"] + [
    f"docs/{name}.md"
    for name in (
        "index",
        "declare",
        "sources",
        "tensorflow_probability",
        "sampling",
        "parallel",
        "cluster",
    )
]


def check_cluster_page(session, model, trace, x, y, patient, **rest):
    x, y = session.run([x, y])
    expected = -0.5 * np.sum((y - 0.5 * x) ** 2) - 0.125 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(model.logp({"slope": 0.5}), expected, rtol=1e-10)
    assert trace.posterior["slope"].shape == (2, 10)
    assert patient.list_devices()[1].name.startswith("/job:worker/replica:0/task:1")


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, monkeypatch, tmp_path):
    quick = functools.partial(
        pm.sample, 10, tune=10, cores=1, progressbar=False, compute_convergence_checks=False
    )
    monkeypatch.setattr(pm, "sample", quick)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    assert blocks
    scope = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        target = "grpc://10.0.0.1:2222"
        if any(target in block for block in blocks):
            _, here = stack.enter_context(load_example("cluster").workers(2))
            blocks = [block.replace(target, here) for block in blocks]
        for number, block in enumerate(blocks):
            # In a file, where AutoGraph finds the source of functions.
            path = tmp_path / f"block_{number}.py"
            path.write_text(block, "utf-8")
            exec(compile(block, str(path), "exec"), scope)
        if page == "docs/cluster.md":
            check_cluster_page(**scope)
            scope["session"].close()
            scope["patient"].close()
    samples = scope.get("idata", scope.get("trace"))
    if page == "docs/sampling.md":
        assert samples.posterior["m"].shape == (4, 1000)
        np.testing.assert_allclose(
            scope["doubled"].posterior["twice"], 2 * scope["doubled"].posterior["z"]
        )
        x = scope["x"]
        shift = (scope["second"].posterior - scope["first"].posterior)["slope"].mean()
        assert abs(float(shift) - x.sum() / (1 + (x**2).sum())) < 0.01
    elif page == "docs/sources.md":
        slope, offset = 0.3, 0.2
        expected = -0.5 * np.sum((scope["y"] - slope * scope["x"] - offset) ** 2)
        found = scope["model"]["y"].logp({"slope": slope, "offset": offset})
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        position = scope["solver"](np.float64(2.0), np.float64(0.0))["position"].eval()
        np.testing.assert_allclose(position, np.cos(2.0 * 0.2 * np.arange(1, 6)), atol=0.02)
    elif page in ("README.md", "docs/index.md"):
        draws = 10_000 if page == "README.md" else 10
        assert samples.posterior["m"].shape == (2, draws)
        assert samples.log_likelihood["y"].shape == (2, draws, 50)


def test_readme_has_the_two_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("demo", "tests"):
        block = re.search(rf"<!-- command: {name} -->\n```bash\n(.*?)\n```", text, re.S).group(1)
        assert "\n" not in block and block.startswith("python3 -m venv .venv && ")
    assert (ROOT / re.search(r"!\[.*?\]\((.*?)\)", text).group(1)).is_file()
