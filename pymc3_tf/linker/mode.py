"""Theano's side: the linker and the mode "TF"."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf
import theano
from cachetools import LRUCache
from theano.compile.mode import Mode, predefined_linkers, predefined_modes
from theano.configdefaults import _filter_mode
from theano.graph.basic import Apply, Variable
from theano.graph.fg import FunctionGraph
from theano.link.basic import Container, PerformLinker
from theano.link.utils import map_storage

from pymc3_tf.linker.graph import QUERY, Linked
from pymc3_tf.runtime import forks

# Where Theano keeps the value of a variable: a list with one element.
Storage = List[Any]

# For so many choices of shapes of its inputs, a function keeps what was traced.
_SHAPES = 16


class TFLinker(PerformLinker):
    """Computes all outputs of a Theano function by one TensorFlow function.

    Parameters
    ----------
    allow_gc : bool, optional
        As for any of Theano's linkers; without effect.
    schedule : callable, optional
        As for any of Theano's linkers; without effect.
    jit_compile : bool, optional
        Compile with XLA.

    Notes
    -----
    ``theano.function(..., mode="TF")`` uses it without XLA.
    """

    def __init__(
        self,
        allow_gc: Optional[bool] = None,
        schedule: Optional[Callable] = None,
        jit_compile: bool = False,
    ) -> None:
        super().__init__(allow_gc=allow_gc, schedule=schedule)
        self.jit_compile = jit_compile

    def clone(self, allow_gc: Optional[bool] = None) -> TFLinker:
        """Return a linker that is tied to no graph."""
        return type(self)(allow_gc=allow_gc, jit_compile=self.jit_compile)

    def accept(
        self,
        fgraph: FunctionGraph,
        no_recycling: Optional[List[Variable]] = None,
        profile: Any = None,
    ) -> TFLinker:
        """Return a linker for a graph."""
        linker = self if self.fgraph in (None, fgraph) else self.clone(self.allow_gc)
        linker.fgraph = fgraph
        linker.no_recycling = no_recycling or []
        return linker

    def make_all(
        self,
        input_storage: Optional[List[Storage]] = None,
        output_storage: Optional[List[Storage]] = None,
        storage_map: Optional[Dict[Variable, Storage]] = None,
    ) -> Tuple[Callable[[], None], List[Container], List[Container], List, List[Apply]]:
        """Return the function of the whole graph, with containers for its inputs and outputs."""
        graph = self.fgraph
        nodes = self.schedule(graph)
        input_storage, output_storage, storage_map = map_storage(
            graph, nodes, input_storage, output_storage, storage_map
        )
        linked = Linked(graph, graph.inputs, [])
        functions: LRUCache[Tuple[Tuple[int, ...], ...], Callable] = LRUCache(_SHAPES)

        def run() -> None:
            forks.refuse("A Theano function that is computed by TensorFlow")
            arguments = [
                np.asarray(storage[0], variable.dtype)
                for storage, variable in zip(input_storage, graph.inputs)
            ]
            shapes = tuple([array.shape for array in arguments])
            if shapes not in functions:
                # One for each choice of shapes: in a single one they would pile up.
                functions[shapes] = tf.function(
                    linked, autograph=False, jit_compile=self.jit_compile or None
                )
            results = functions[shapes](*arguments)
            for storage, result, variable in zip(output_storage, results, graph.outputs):
                storage[0] = np.array(result, variable.dtype)

        vars(run).update(allow_gc=self.allow_gc, storage_map=storage_map)
        return (
            run,
            [Container(x, storage) for x, storage in zip(graph.inputs, input_storage)],
            [Container(y, s, readonly=True) for y, s in zip(graph.outputs, output_storage)],
            [],
            nodes,
        )


class TFMode(Mode):
    """Theano's mode "TF". Theano tells its default modes apart by the names of their classes."""


TF = TFMode(TFLinker(), QUERY)

# A reloaded module takes the place of its former self.
predefined_linkers["tf"] = TF.linker
predefined_modes["TF"] = TF


def _name_or_mode(value: Any) -> Any:
    """Check a value of ``theano.config.mode``: Theano's own list of names lacks "TF"."""
    return value if isinstance(value, str) and value == "TF" else _filter_mode(value)


# PyMC3 pickles Theano's options for the processes it starts: no lambda.
theano.config._config_var_dict["mode"]._apply = _name_or_mode
