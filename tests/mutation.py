"""Change one thing in a module and see whether its own tests fail: mutation testing.

    python tests/mutation.py [--sample N] [--survivors] [NAME ...]

The changes are those of cosmic-ray. It starts a process for each and writes the changed module to
the disk; here each is a fork of a process that has imported TensorFlow already, and gets the
changed module from memory: an import of all takes longer than most tests. Where there are more
changes than ``--sample``, a seeded sample of them is tried. Results go to docs/evidence. A change
that no test notices is listed there with the reason why none has to, if there is one.
"""

import argparse
import difflib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
import types
from pathlib import Path
from typing import NamedTuple

import evidence_file

ROOT = Path(__file__).resolve().parents[1]
PATH = evidence_file.FOLDER / "mutation.json"
SEED, TIMEOUT = 1, 600
TEXT = """\
One operator, number, comparison or condition of a module is changed at a time, and the tests of
that module run: they should fail. Where a module has more such changes than were tried, those were
drawn at random (seed 1). A change is *explained* if it changes nothing that matters: the value of a
rule of thumb, say, or the speed."""


class Target(NamedTuple):
    """A module and its tests; ``alone`` if they need no more than the module and NumPy."""

    tests: list
    alone: bool = False


TARGETS = {
    "nuts/adaptation.py": Target(["tests/nuts/test_adaptation.py"], alone=True),
    "nuts/stan.py": Target(["tests/nuts/test_adaptation.py"], alone=True),
    "nuts/low_rank.py": Target(
        ["tests/nuts/test_low_rank.py", "--deselect=tests/nuts/test_low_rank.py::"
         "test_normal_of_many_dimensions", "--deselect=tests/nuts/test_low_rank.py::"
         "test_funnel_is_not_made_much_worse"], alone=True,
    ),
    "programs/program.py": Target(["tests/programs/test_program.py"]),
    "bridge/op.py": Target(
        ["tests/bridge", "tests/model/test_errors.py::"
         "test_inputs_of_an_op_have_to_be_declared_and_to_fit"],
    ),
    "bridge/rewrites.py": Target(["tests/bridge/test_calls.py"]),
    "model/declaration.py": Target(
        ["tests/advice/test_advice.py", "tests/model/test_density.py",
         "tests/model/test_errors.py", "tests/capture/test_tfp_variables.py"],
    ),
    "linker/subtensor.py": Target(["tests/linker/test_indexing.py"]),
}  # fmt: skip


class Mutant(NamedTuple):
    """A changed module: what was on the line, what is, and all of it."""

    line: int
    before: str
    after: str
    source: str


def sites(source):
    """Return where a module can be changed: kinds of change, and which occurrence of each."""
    # Here, because pytest imports all modules in search of examples.
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    kinds = [get_operator(name) for name in operator_names()]
    return [
        (kind, occurrence)
        for kind in kinds
        if not kind.arguments()
        for occurrence in range(sum(len(list(kind().mutation_positions(n))) for n in nodes))
    ]


def mutants(source, number):
    """Return so many changes of a module, drawn at random from the different ones."""
    from cosmic_ray.mutating import mutate_code

    places = sites(source)
    random.Random(SEED).shuffle(places)
    found = {}
    for kind, occurrence in places:
        if len(found) == number:
            break
        mutant = changed(source, mutate_code(source, kind(), occurrence))
        found.setdefault(mutant.source, mutant)
    return len(places), list(found.values())


def changed(source, mutated):
    """Return a mutant, with the first line in which it differs."""
    lines = source.splitlines(), mutated.splitlines()
    opcodes = difflib.SequenceMatcher(None, *lines, autojunk=False).get_opcodes()
    _, i, i_end, j, j_end = next(code for code in opcodes if code[0] != "equal")
    texts = (" ".join(map(str.strip, part)) for part in (lines[0][i:i_end], lines[1][j:j_end]))
    return Mutant(i + 1, *texts, mutated)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a text."""

    def __init__(self, name, path, source):
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, path=None, target=None):
        """Find that module only."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def exec_module(self, module):
        """Run the text."""
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def outcomes(name, target, sources, jobs):
    """Yield the number of each text and whether the tests pass with it as the module: in forks."""
    waiting, running = list(enumerate(sources)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, source = waiting.pop(0)
            child = os.fork()
            if not child:
                os.setpgid(0, 0)
                os._exit(run_tests(name, target, source))
            running[child] = number, time.monotonic()
        time.sleep(0.02)
        for child, (number, begin) in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if not done and time.monotonic() - begin > TIMEOUT:
                os.killpg(child, signal.SIGKILL)
                done, status = os.waitpid(child, 0)
            if done:
                del running[child]
                yield number, status == 0


def run_tests(name, target, source):
    """Run the tests of a module in this process, quietly; return zero if they pass."""
    import pytest

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    path = ROOT / "pymc3_tf" / name
    module = ".".join(["pymc3_tf", *Path(name).with_suffix("").parts])
    sys.meta_path.insert(0, Changed(module, path, source))
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    if target.alone:
        # The package without what it imports.
        package = types.ModuleType("pymc3_tf")
        package.__path__ = [str(ROOT / "pymc3_tf")]
        sys.modules["pymc3_tf"] = package
        options += ["--noconftest", "-c", os.devnull]
    try:
        return int(pytest.main([*options, *target.tests]))
    except BaseException:
        return 1


def measure(name, sample, jobs, alive=None):
    """Try changes of a module, or those of them that were alive; return which survived."""
    target = TARGETS[name]
    source = (ROOT / "pymc3_tf" / name).read_text("utf-8")
    number_of_changes, tried = mutants(source, sample)
    number_tried = len(tried)
    if alive is not None:
        tried = [mutant for mutant in tried if [mutant.before, mutant.after] in alive]
    ((_, passes),) = outcomes(name, target, [source], 1)
    assert passes, f"{name}: its tests fail as it is"
    survivors = []
    ended = outcomes(name, target, [mutant.source for mutant in tried], jobs)
    for done, (number, survives) in enumerate(ended, 1):
        if survives:
            line, before, after, _ = tried[number]
            survivors.append([line, before, after])
            print(f"{name}:{line}: {before}  ->  {after}", flush=True)
        if done % 10 == 0:
            print(f"{name}: {done} of {len(tried)}, {len(survivors)} survived", flush=True)
    return {"changes": number_of_changes, "tried": number_tried, "survivors": sorted(survivors)}


def keep(found, reasons):
    """Write what was found, with the reasons that are known for survivors."""
    rows = []
    for name, result in found.items():
        alive = len(result["survivors"])
        explained = sum(f"{name}: {b} -> {a}" in reasons for _, b, a in result["survivors"])
        killed = result["tried"] - alive
        rows.append([f"`{name}`", result["changes"], result["tried"], killed, alive, explained])
    evidence_file.keep(
        "mutation",
        title="Changed code that the tests notice",
        text=TEXT,
        command="tox -e mutation",
        columns=["module", "changes", "tried", "noticed", "not noticed", "explained"],
        rows=rows,
        found=found,
        reasons=reasons,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--sample", type=int, default=60, help="changes to try of a module")
    parser.add_argument(
        "--survivors", action="store_true", help="try only those again that no test noticed"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tests at a time")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ["THEANO_FLAGS"] = f"{os.environ.get('THEANO_FLAGS', '')},cxx=".lstrip(",")
    import pytest  # noqa: F401  # what a fork need not import again
    import tensorflow_probability  # noqa: F401

    kept = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
    found, reasons = kept.get("found", {}), kept.get("reasons", {})
    for name in arguments.names or list(TARGETS):
        sample, alive = arguments.sample, None
        if arguments.survivors:
            sample, alive = found[name]["tried"], [[b, a] for _, b, a in found[name]["survivors"]]
        found[name] = measure(name, sample, arguments.jobs, alive)
        keep(found, reasons)


if __name__ == "__main__":
    main()
