"""Processes that sample on demand: each method of the sampling benchmark has one of its own.

They are told what to do in lines of JSON, and answer in such. Draws are handed over in a file.
Needs nothing but NumPy, so that other environments can use it.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np


class Worker:
    """A process that serves methods.

    Parameters
    ----------
    python, script : path
        The script has to call ``serve``.
    folder : path
        For its draws and what it writes on stderr.
    name : str
        Of the method.
    """

    def __init__(self, python, script, folder, name):
        self.name = name
        self._draws, self._log = folder / f"{name}.npz", folder / f"{name}.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_until_ready(self):
        """Wait for what it imports."""
        self._answer()

    def prepare(self, model, **settings):
        """Make the model; return how many seconds it took."""
        return self._ask(do="prepare", method=self.name, model=model, settings=settings)["seconds"]

    def sample(self, **arguments):
        """Return a dict with seconds of the call and of sampling alone, and the draws by name."""
        answer = self._ask(do="sample", arguments=arguments, path=str(self._draws))
        with np.load(self._draws) as draws:
            return {**answer, "draws": dict(draws)}

    def stop(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            sys.stderr.write(self._log.read_text())
            raise RuntimeError(f"{self.name} failed in its process")
        return json.loads(line)


def serve(methods):
    """Do what the process is asked to, until its input ends.

    Parameters
    ----------
    methods : dict of str to class
        Made with the name of the model and keyword arguments; ``sample`` returns the draws by name
        and the seconds of sampling alone, if they are known.
    """
    # What libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write("{}\n")
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prepare":
            sampler = None  # frees the model before
            begin = time.perf_counter()
            sampler = methods[request["method"]](request["model"], **request["settings"])
            answer = {"seconds": time.perf_counter() - begin}
        else:
            begin = time.perf_counter()
            draws, sampling = sampler.sample(**request["arguments"])
            seconds = time.perf_counter() - begin
            np.savez(request["path"], **draws)
            answer = {"seconds": seconds, "sampling_seconds": sampling}
        answers.write(json.dumps(answer) + "\n")
