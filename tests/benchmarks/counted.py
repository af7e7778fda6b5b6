"""What `counts.py` counts in one model: calls, gradients, compilations, traces, copies, bytes."""

import os
import sys
import tempfile
from pathlib import Path

# Set before Theano and XLA read them. Theano's C takes minutes and changes no count; XLA leaves a
# file for each program that it compiles.
os.environ["THEANO_FLAGS"] = f"{os.environ.get('THEANO_FLAGS', '')},cxx=".lstrip(",")
_DUMP = tempfile.TemporaryDirectory()
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={_DUMP.name}".strip()
TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "statistics")]

import quiet  # noqa: F401  # isort: skip
import reach_models  # isort: skip  # before PyMC3, for Python 3.11

import collections
import pickle
from unittest import mock

import drift_draws
import numpy as np
import pymc3 as pm
import sampling_models
import tensorflow as tf
from support import QUIET, Calls

import pymc3_tf
from pymc3_tf.nuts import runners, sampler


class Process:
    """Counts, the logarithm of whose rate is a Gaussian process, all of it in TensorFlow."""

    y = drift_draws.COUNTS
    declare = staticmethod(drift_draws.process)


MODELS = {
    "line of 50 points": lambda: sampling_models.Line(50),
    "line of 10,000 points": lambda: sampling_models.Line(10_000),
    "scan of 200 steps": reach_models.Autoregression,
    "Gaussian process": Process,
    "eight schools": sampling_models.Schools,
}
POINTS = 5
CHAIN = dict(tune=10, draws=20, chains=1, cores=1, max_treedepth=5, random_seed=1, **QUIET)
CHAINS = dict(chains=2, cores=1, max_treedepth=7, **QUIET)


class Clock:
    """Time that passes by a millisecond whenever somebody looks: turns that end by count."""

    def __init__(self):
        self._now = 0.0

    def perf_counter(self):
        self._now += 1e-3
        return self._now


class Traced:
    """Counts the functions that TensorFlow traces, loops and branches of theirs included."""

    def __init__(self):
        self.number = 0
        graph = tf.__internal__.FuncGraph
        made = graph.__init__

        def counted(*args, **kwargs):
            self.number += 1
            return made(*args, **kwargs)

        self._patch = mock.patch.object(graph, "__init__", counted)

    def __enter__(self):
        self._patch.start()
        return self

    def __exit__(self, *error):
        self._patch.stop()


def compilations():
    """Return how many programs XLA has compiled in this process."""
    return len(list(Path(_DUMP.name).glob("*before_optimizations.txt")))


def copies(data, serialized):
    """Return how many times an array is in some bytes."""
    return serialized.count(np.asarray(data, np.float64).tobytes())


def measure(name):
    """Return the counts of a model by name."""
    case = MODELS[name]()
    declare = getattr(case, "density", None) or case.declare
    print(name, file=sys.stderr)
    found = {}
    with Traced() as traced, pm.Model() as model:
        declare()
    found["functions traced: declaration"] = traced.number
    found.update(_of_the_density(model, case.y))
    found.update(_of_pymc3(model, case.y))
    found.update(_of_sample(model, case.y))
    return found


def _of_the_density(model, data):
    """Count what a declared density keeps, and sends to a process that is not forked."""
    program = model["y"].distribution.program
    sent = pickle.dumps(model["y"].distribution)
    return {
        "data: copies in the frozen graph": copies(data, program.graph_def),
        "data: copies in what a spawned chain is sent": copies(data, sent),
        "data: bytes of feeds": sum(feed.spec.nbytes for feed in program.feeds),
        "bytes: frozen graph": len(program.graph_def),
        "bytes: density, as a spawned chain is sent it": len(sent),
    }


def _of_pymc3(model, data):
    """Count the calls of pm.sample."""
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    point = function.dict_to_array(model.test_point)
    function(point)
    counted = Calls()
    for i in range(POINTS):
        function(point + 0.01 * (i + 1))
    calls = counted.number / POINTS
    graphs = [f.graph.graph_def.SerializeToString() for f in counted.functions]
    with model:
        counted = Calls()
        trace = pm.sample(return_inferencedata=False, discard_tuned_samples=False, **CHAIN)
    steps = int(trace.get_sampler_stats("tree_size").sum())
    return {
        "data: copies in a session's graph": max(copies(data, graph) for graph in graphs),
        "pm.sample: TensorFlow calls per value and gradient": calls,
        "pm.sample: TensorFlow calls per draw": counted.number / len(trace),
        "pm.sample: TensorFlow calls per leapfrog step": counted.number / steps,
    }


def _of_sample(model, data):
    """Count gradients, calls and compilations of pymc3_tf.sample."""
    found = collections.OrderedDict()
    before = compilations()
    with model, Traced() as traced, mock.patch.object(runners, "time", Clock()):
        with mock.patch.object(
            sampler.CompiledSampler, "draw", autospec=True, side_effect=sampler.CompiledSampler.draw
        ) as draw:
            idata = pymc3_tf.sample(
                100, tune=100, random_seed=1, discard_tuned_samples=False, **CHAINS
            )
    program = draw.call_args[0][0]
    found["sample: gradients of the warmup"] = int(idata.warmup_sample_stats["n_steps"].sum())
    found["sample: gradients of the draws"] = int(idata.sample_stats["n_steps"].sum())
    found["sample: calls of the compiled program"] = draw.call_count
    found["sample: compilations, first time"] = compilations() - before
    found["sample: functions traced, first time"] = traced.number
    graph_def = program.draw_function.graph.as_graph_def().SerializeToString()
    found["data: copies in the compiled program"] = copies(data, graph_def)
    found["bytes: graph of the compiled program"] = len(graph_def)
    before = compilations()
    with model, Traced() as traced:
        pymc3_tf.sample(70, tune=50, random_seed=2, **CHAINS)
    found["sample: compilations, again"] = compilations() - before
    found["sample: functions traced, again"] = traced.number
    return found
