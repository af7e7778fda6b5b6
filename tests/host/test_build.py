"""Building the libraries of C++, and doing without them."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pymc3_tf.host import build


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Return the folder of an empty cache, and a function that installs a compiler."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def compiler(script):
        path = tmp_path / "compiler"
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o700)
        monkeypatch.setenv("CXX", str(path))

    # What this process has loaded stays.
    monkeypatch.setattr(build, "loaded", build.loaded.__wrapped__)
    return tmp_path / "cache" / "pymc3_tf", compiler


def only_message(caplog):
    (record,) = [r for r in caplog.records if "without them" in r.getMessage()]
    return record.getMessage()


# Writes an empty file wherever it is to write.
WRITES = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'


@pytest.mark.parametrize(
    "script, reason",
    [
        (None, "No such file"),
        ("exit 3", "returned non-zero exit status 3"),
        ('echo "call.h:7: fatal error: registry.h: No such file" >&2; exit 1', "registry.h: No su"),
        (WRITES, "file too short"),
        ("exec sleep 60", "timed out"),
    ],
)
def test_what_cannot_be_built_is_left_out(environment, caplog, monkeypatch, script, reason):
    cache, compiler = environment
    if script is None:
        monkeypatch.setenv("CXX", "/nowhere/g++")
    else:
        compiler(script)
    monkeypatch.setattr(build, "_SECONDS", 1)
    caplog.set_level(logging.INFO, "pymc3")
    assert build.library("routines") is None
    assert reason in only_message(caplog)
    assert not [p for p in cache.glob("*") if "-tf" not in p.name]


def test_cache_that_cannot_be_made(environment, caplog):
    cache, compiler = environment
    compiler(WRITES)
    cache.parent.write_text("a file, where a folder is to be")
    caplog.set_level(logging.INFO, "pymc3")
    assert build.library("routines") is None
    assert str(cache.parent) in only_message(caplog)


def test_each_compiler_and_each_tensorflow_has_a_library_of_its_own(environment, monkeypatch):
    cache, compiler = environment
    compiler("echo one >&2;" + WRITES)
    paths = {build.built("routines")}
    assert {build.built("routines")} == paths
    compiler("echo another >&2;" + WRITES)
    paths.add(build.built("routines"))
    monkeypatch.setattr(build.tf, "__version__", "2.99.0")
    paths.add(build.built("routines"))
    assert len(paths) == 3
    assert set(cache.iterdir()) == paths


def test_log_says_it_once_and_a_gpu_leaves_it_out(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "pymc3")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    build.loaded("none")
    build.loaded("none")
    only_message(caplog)
    monkeypatch.setattr(build.tf.config, "list_physical_devices", lambda kind: [kind])
    assert build.library("routines") is None


def test_two_processes_build_at_once(tmp_path):
    # The compiler is quick here: what is tried is who puts what where.
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\nsleep 0.2\n{WRITES}")
    compiler.chmod(0o700)
    code = "from pymc3_tf.host import build; print(build.built('routines'))"
    environment = {**os.environ, "CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    paths = {process.communicate()[0].split()[-1] for process in processes}
    assert len(paths) == 1
    assert [str(p).encode() for p in (tmp_path / "pymc3_tf").iterdir()] == list(paths)


def test_interruption_ends_the_compiler(environment, caplog):
    cache, compiler = environment
    compiler('case "$*" in *-E*) exit;; esac\necho $$ > $(dirname $0)/number; exec sleep 60')
    number = cache.parents[1] / "number"
    said = []

    def interrupt():
        while not (number.exists() and number.read_text()):
            time.sleep(0.01)
        said.append(build.under_way())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        build.library("islands")
    assert said == ["building the C++ routines (islands)"] and not build.under_way()
    assert not list(cache.iterdir())
    status = Path(f"/proc/{int(number.read_text())}/stat")
    end = time.monotonic() + 10
    # Gone, or dead.
    while status.exists() and status.read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)
