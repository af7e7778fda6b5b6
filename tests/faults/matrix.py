"""Let faults happen to real processes, and write what came of them into docs/evidence.

Each trial is at another moment, which a seed decides, and has a time limit. With names of faults,
only these run; their rows take the place of those of earlier runs.

    python tests/faults/matrix.py [--part 0.1] ["disk full, C++" ...]
"""

import argparse
import collections
import concurrent.futures
import json
import queue
import shlex
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pymc3_tf  # noqa: F401  # isort: skip  # before pymc3, for the sake of Python 3.11
import evidence_file
from support import kill_group, python
from victims import FAULTS

HERE = Path(__file__).resolve().parent
LIBRARIES = ["tensorflow", "tensorflow-probability", "numpy", "Theano-PyMC", "pymc3"]
SECONDS = 600  # for one trial, and for the start of a process
# Trials of each fault, and how many of them one process has.
TRIALS = collections.defaultdict(lambda: (10, 5))
TRIALS.update(
    {"chain killed": (50, 10), "Ctrl-C, pm.sample": (50, 10), "Ctrl-C, pymc3_tf.sample": (50, 10)},
    **{fault: (2, 1) for fault in FAULTS if "C++" in fault},
    **{fault: (12, 1) for fault in FAULTS if fault.startswith("memory")},
    **{fault: (4, 2) for fault in FAULTS if fault.startswith("server")},
)
TRIALS["disk full, Theano"] = (2, 2)
MOUNTS = {"disk full": "size=64k", "disk read-only": "size=64k,ro"}


class Outcome(NamedTuple):
    """What came of one trial, whether that is right, and when the user had control again."""

    text: str
    good: bool
    seconds: float


def run(fault, seed, trials):
    """Return the outcomes of some trials in a process of their own."""
    kind = fault.partition(",")[0]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        environment = {"FAULTS_DISK": folder, "THEANO_FLAGS": "cxx="}
        if fault.endswith("Theano"):
            environment["THEANO_FLAGS"] = f"blas__ldflags=,base_compiledir={folder}/theano"
        victim = [str(HERE / "victims.py"), fault, str(seed), str(trials)]
        before = []
        if kind in MOUNTS:
            mount = f"mount -t tmpfs -o {MOUNTS[kind]} none {shlex.quote(folder)}"
            before = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
        process = python(victim, before, stderr=errors, **environment)
        outcomes = list(read(process, trials))
        kill_group(process, signal.SIGKILL)
        process.wait()
        if not all(outcome.good for outcome in outcomes):
            errors.seek(0)
            print(fault, seed, *outcomes, errors.read()[-5000:], sep="\n", file=sys.stderr)
    return outcomes


def read(process, trials):
    """Yield the outcomes that a process writes; the last one can be its end."""
    lines = queue.Queue()

    def work():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=work, daemon=True).start()
    for _ in range(trials):
        try:
            line = lines.get(timeout=SECONDS)
        except queue.Empty:
            kill_group(process, signal.SIGUSR1)
            time.sleep(5)  # so that it can say where it is
            yield Outcome(f"no end within {SECONDS} seconds", False, SECONDS)
            return
        if line is None:
            code = process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            yield Outcome(f"the process ended: {how}", False, 0.0)
            return
        yield Outcome(*json.loads(line))


def happen(fault, part=1.0, seed=0):
    """Yield the outcomes of a fault, two processes at a time."""
    number, each = TRIALS[fault]
    number = max(1, round(part * number))
    sizes = [min(each, number - begin) for begin in range(0, number, each)]
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        seeds = range(seed, seed + len(sizes))
        for outcomes in executor.map(run, [fault] * len(sizes), seeds, sizes):
            yield from outcomes


def row_of(fault, outcomes):
    """Return a row of the page."""
    counts = collections.Counter(outcome.text for outcome in outcomes).most_common()
    texts = "; ".join(f"{number} × {text}" for text, number in counts)
    wrong = sum(not outcome.good for outcome in outcomes)
    worst = max(outcome.seconds for outcome in outcomes)
    return [fault, len(outcomes), texts, wrong, f"{worst:.1f}"]


def write(row):
    """Put the row of a fault in place of that of an earlier run."""
    rows = {**{other[0]: other for other in evidence_file.rows("faults")}, row[0]: row}
    evidence_file.keep(
        "faults",
        title="Faults",
        text=(
            "Chains were killed, Ctrl-C was sent, disks were full or read-only, memory was short, "
            "and servers of a cluster ended, at moments that a seed chose, in real processes. "
            "After each trial the same process had to sample again, with the same draws as before. "
            "The table has what came out, how many outcomes were not as wanted, and the most "
            "seconds after which the user had control again. (Where no thread can start for lack "
            "of memory, TensorFlow itself ends the process.)"
        ),
        command="python tests/faults/matrix.py",
        versions=evidence_file.versions(*LIBRARIES),
        columns=["fault", "trials", "outcomes", "not as wanted", "worst seconds"],
        rows=[rows[fault] for fault in FAULTS if fault in rows],
    )


def main():
    """Write a row for each fault, as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", default=[], help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--part", type=float, default=1.0, help="of the trials (%(default)s)")
    options = parser.parse_args()
    wrong = 0
    for fault in options.faults or FAULTS:
        row = row_of(fault, list(happen(fault, options.part)))
        write(row)
        print(*row, sep=" | ", flush=True)
        wrong += row[3]
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
