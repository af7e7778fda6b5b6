"""Runs what the documentation shows, in a process of its own that has imported nothing before.

``python documentation.py PAGE...`` runs the blocks of each page in order, in a namespace of the
page; ``python documentation.py FILE.py...`` the examples of each docstring of modules, each in a
namespace of its own. Nothing of pymc3_tf, PyMC3 or Theano may be imported here before the code that
is shown.
"""

import ast
import contextlib
import doctest
import functools
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {"pymc3_tf", "pymc3", "theano"}


def examples(path):
    """Yield the docstrings of a module whose examples import a library, each with its name.

    Those of others show what is inside of their module, by the module's own names.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            if ">>>" in text and first_library(text):
                yield getattr(node, "name", path.stem), text


def first_library(code):
    """Return which of the libraries some code imports first, or None."""
    for line in code.splitlines():
        found = re.match(r"(?:>>>)?\s*(?:import|from)\s+(\w+)", line)
        if found and found.group(1) in LIBRARIES:
            return found.group(1)
    return None


def check_cluster_page(session, model, trace, x, y, patient, **rest):
    x, y = session.run([x, y])
    expected = -0.5 * np.sum((y - 0.5 * x) ** 2) - 0.125 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(model.logp({"slope": 0.5}), expected, rtol=1e-10)
    assert trace.posterior["slope"].shape == (2, 10)
    assert patient.list_devices()[1].name.startswith("/job:worker/replica:0/task:1")


def shorten():
    """Let pm.sample make a few draws only, once the code that is shown has imported PyMC3."""
    import pymc3 as pm

    if not isinstance(pm.sample, functools.partial):
        pm.sample = functools.partial(
            pm.sample, 10, tune=10, cores=1, progressbar=False, compute_convergence_checks=False
        )


# The examples import this package, so they run in processes of their own.
def example(name, code, *arguments, **kwargs):
    """Start code after an example, with the example's names, in a process of its own."""
    code = f"import runpy, sys; globals().update(runpy.run_path(sys.argv[1]))\n{code}"
    path = str(ROOT / "docs/examples" / name)
    return subprocess.Popen([sys.executable, "-c", code, path, *arguments], **kwargs)


def build_op(folder):
    """Compile the op of the page as its example does, and go where it is."""
    assert example("kepler.py", "build(Path(sys.argv[2]))", str(folder)).wait() == 0
    os.chdir(folder)


@contextlib.contextmanager
def cluster():
    """Run two workers; yield the address of the first."""
    code = "with workers(2) as (_, here):\n    print(here, flush=True)\n    sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with example("cluster.py", code, **pipes) as process:
        yield next(line.strip() for line in process.stdout if line.startswith("grpc://"))
        process.stdin.close()


def run_page(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    assert blocks
    scope = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = "grpc://10.0.0.1:2222"
        if any(target in block for block in blocks):
            here = stack.enter_context(cluster())
            blocks = [block.replace(target, here) for block in blocks]
        if page == "docs/custom_ops.md":
            build_op(folder)
        for number, block in enumerate(blocks):
            # In a file, where AutoGraph finds the source of functions.
            path = folder / f"block_{number}.py"
            path.write_text(block, "utf-8")
            for node in ast.parse(block).body:
                if "pymc3" in sys.modules and not isinstance(node, (ast.Import, ast.ImportFrom)):
                    shorten()
                exec(compile(ast.Module([node], []), str(path), "exec"), scope)
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
        assert samples.posterior["m"].shape == (2, 10)
        assert samples.log_likelihood["y"].shape == (2, 10, 50)


def run_docstrings(*paths):
    runner = doctest.DocTestRunner(
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False
    )
    for path in paths:
        for name, text in examples(ROOT / path):
            runner.run(doctest.DocTestParser().get_doctest(text, {}, name, path, 0))
    assert runner.summarize().failed == 0


if __name__ == "__main__":
    logging.getLogger("pymc3").setLevel(logging.ERROR)
    if sys.argv[1].endswith(".py"):
        run_docstrings(*sys.argv[1:])
    else:
        for name in sys.argv[1:]:
            print(name, flush=True)  # for the error that may follow
            run_page(name)
