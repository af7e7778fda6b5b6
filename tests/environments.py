"""Run a choice of the tests in one environment, and write what came out into docs/evidence.

``tox -m matrix`` runs it with the oldest and the newest TensorFlow on each Python, and where
something is missing. The whole suite takes hours; this choice has each package in it, and takes
minutes.

    python tests/environments.py NAME [pytest's options]
"""

import os
import platform
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import evidence_file

HERE = Path(__file__).resolve().parent
LIBRARIES = ["tensorflow", "tensorflow-probability", "numpy", "Theano-PyMC", "pymc3", "arviz"]

NUMBERS = [
    "contract/test_declaration.py::test_each_twin_is_the_builtin_with_random_parameters",
    "statistics/test_either_sampler.py::test_posterior_is_the_closed_form_in_either_floatx[pymc3]",
]
CORE = [
    *NUMBERS,
    "test_private_tensorflow.py",
    "advice/test_advice.py::test_the_line_is_the_one_that_failed",
    "bridge/test_calls.py::test_rewrite_serves_plain_theano_functions",
    "host/test_build.py::test_log_says_it_once_and_a_gpu_leaves_it_out",
    "linker/test_linker.py::test_new_data_of_the_same_shape_needs_no_new_trace",
    *(
        f"model/test_density.py::test_free_and_observed_normal_equal_the_builtin[{regime}-False]"
        for regime in ("placeholder", "resource_variable", "tf_function", "xla")
    ),
    "model/test_inference_data.py::test_equal_to_the_builtin_distribution",
    "patches/test_theano.py::test_the_default_mode_changes_there_and_back",
    "programs/test_program.py::test_value_sum_and_products_in_closed_form",
    "programs/test_program.py::test_second_derivatives_through_functions_and_control_flow",
    "runtime/test_runtime.py::test_forked_children_compute_and_their_children_are_refused[nothing-3]",
    "sampling/test_sampling.py::test_tensorflow_probability_is_asked_for",
]
# What needs TensorFlow Probability.
XLA = [
    "statistics/test_either_sampler.py::test_posterior_is_the_closed_form_in_either_floatx[pymc3_tf]"
]
PROBABILITY = [
    *XLA,
    "capture/test_tfp.py::test_log_density_is_the_builtins_but_for_the_jacobian",
    "gradients/test_missing_gradients.py::test_op_without_a_gradient_by_one_of_its_inputs",
    "nuts/test_trees.py",
    "sampling/test_first_evaluation.py::test_index_out_of_bounds_names_the_variable",
    "checking/test_check.py::test_its_numbers_are_those_of_pymc3",
]
# What needs a C++ compiler too.
COMPILER = ["host/test_routines.py::test_cholesky_of_the_lower_triangle"]


def choice(name):
    """Return the tests for an environment."""
    if name.endswith("float32"):
        return [*NUMBERS, *XLA, "runtime/test_runtime.py::test_float32_models"]
    if name.endswith("without_tfp"):
        return CORE
    return [*CORE, *PROBABILITY, *([] if name.endswith("without_compiler") else COMPILER)]


def check(name):
    """See that the environment is what it is called."""
    is_there = {
        "float32": "floatX=float32" in os.environ.get("THEANO_FLAGS", ""),
        "without_tfp": not version("tensorflow-probability"),
        "without_compiler": not shutil.which("g++"),
    }
    kind = name.partition("-")[2]
    assert is_there.get(kind, True), f"this is no environment {kind}"


def version(library):
    """Return the version of a library; empty if it is not there."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def run(tests, options):
    """Return how many tests passed and did not, which did not, and how many seconds they took."""
    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        paths = [str(HERE / test) for test in tests]
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *options, *paths]
        subprocess.run(command, cwd=HERE.parent)
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
    ]
    return len(cases) - len(failed), failed, time.monotonic() - begin


def write(name, passed, failed, seconds):
    """Put the row of an environment in place of that of an earlier run."""
    versions = [version(library) or "none" for library in LIBRARIES]
    row = [name, platform.python_version(), *versions, passed, len(failed)]
    others = [other for other in evidence_file.rows("environments") if other[0] != name]
    evidence_file.keep(
        "environments",
        title="Environments",
        text=(
            "A choice of the tests, with some of each package and a posterior that is known "
            "exactly, ran in fresh environments: with the oldest and the newest supported "
            "TensorFlow, in float32, without TensorFlow Probability, and without a C++ compiler. "
            "Each row has its versions and its numbers of tests."
        ),
        command="tox -m matrix",
        versions={"platform": platform.platform(terse=True)},
        columns=["environment", "Python", *LIBRARIES, "passed", "failed"],
        rows=sorted([*others, row], key=lambda row: (len(row[0].split("-")[0]), row[0])),
    )
    print(f"{name}: {passed} passed, {len(failed)} failed in {seconds:.0f} seconds", *failed)


def main(name, *options):
    """Run the tests of an environment."""
    check(name)
    passed, failed, seconds = run(choice(name), options)
    write(name, passed, failed, seconds)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
