"""Program: a TensorFlow computation that can be compared, hashed and pickled.

A program is a view of one serialized graph: which of its nodes are inputs, which are outputs, and
which arrays are bound to the inputs that are data. Value, sum and vector-Jacobian product of one
density are three views of the same graph, so one call can give any two of them. ``runtime`` runs
programs, ``building`` puts them into a graph, ``differentiation`` adds the pullback.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf
from cachetools import LRUCache

from pymc3_tf.exceptions import DeclarationError
from pymc3_tf.programs.cluster import Cluster
from pymc3_tf.programs.libraries import Library
from pymc3_tf.programs.serialized import GraphDef, Shape, prune
from pymc3_tf.programs.xla import unsupported_by_xla

# TensorFlow takes memory of this alignment as it is and copies any other.
ALIGNMENT = 64


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a program.

    Parameters
    ----------
    node : str
        Name of the node in the program's graph.
    label : str
        What the user calls it; for error messages.
    dtype : str
        NumPy name of the dtype.
    shape : tuple of int or None
        Static shape, with None for an unknown dimension; None if the rank is unknown.
    like : str, optional
        Node of the input that always has the same shape.
    fallback : float, optional
        Of an output: what stands for it where TensorFlow fails. By default that is an error. NaN
        says that NaN is an error too.
    """

    node: str
    label: str
    dtype: str
    shape: Shape
    like: Optional[str] = None
    fallback: Optional[float] = None

    def __str__(self) -> str:
        shape = "unknown" if self.shape is None else str(self.shape).replace("None", "?")
        return f"{self.label}: {self.dtype} {shape}"

    @property
    def nbytes(self) -> int:
        """Bytes of a tensor of a shape that is known."""
        return np.dtype(self.dtype).itemsize * math.prod(n or 0 for n in self.shape or ())

    @property
    def is_floating(self) -> bool:
        """Whether gradients pass through this tensor."""
        return self.dtype in ("float16", "float32", "float64")

    @property
    def falls_back(self) -> bool:
        """Whether there is something to stand for it where TensorFlow fails."""
        return self.fallback is not None and not np.isnan(self.fallback)


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """An array bound to an input. The array is private, read-only and aligned."""

    node: str
    array: np.ndarray
    label: str = ""

    @property
    def spec(self) -> TensorSpec:
        """What the input is."""
        return TensorSpec(self.node, self.label, str(self.array.dtype), self.array.shape)

    @cached_property
    def digest(self) -> bytes:
        """Hash of dtype, shape and contents."""
        digest = hashlib.sha256(f"{self.node}{self.array.dtype}{self.array.shape}".encode())
        digest.update(self.array.reshape(-1).view(np.uint8).data)
        return digest.digest()

    def __reduce__(self) -> Any:
        # An unpickled array has lost its alignment and its read-only flag.
        return Feed.of, (self.node, self.array, self.label)

    @classmethod
    def of(cls, node: str, array: np.ndarray, label: str = "") -> Feed:
        """Bind a private copy of ``array``, which may change or go away later."""
        if array.flags.c_contiguous and not array.flags.writeable:
            if array.ctypes.data % ALIGNMENT == 0:
                return cls(node, array, label)  # made here before
        memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        copy.flags.writeable = False
        return cls(node, copy, label)


@dataclasses.dataclass(frozen=True)
class Pullback:
    """Where the vector-Jacobian product of a program stands in its graph.

    Parameters
    ----------
    cotangents : tuple of TensorSpec
        The upstream gradient of each floating output. Empty for a program of one scalar: its
        product is linear in the upstream gradient, so the one for 1 is enough.
    gradients : tuple of TensorSpec or None
        One for each input; None where no gradient reaches it.
    """

    cotangents: Tuple[TensorSpec, ...]
    gradients: Tuple[Optional[TensorSpec], ...]


@dataclasses.dataclass
class Kept:
    """What was made of a program. It lives as long as the program, and is not pickled with it."""

    graph_key: str = ""
    batched: LRUCache[Tuple[str, ...], Program] = dataclasses.field(
        default_factory=lambda: LRUCache(8)  # for so many choices of inputs that vary
    )
    differentiated: Optional[Program] = None
    value_and_vjp: Optional[Program] = None
    # The inputs by which the gradient was checked where the program was declared.
    checked: Set[int] = dataclasses.field(default_factory=set)
    function: Any = None  # the runtime's, of this process


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A frozen TensorFlow computation. Immutable, hashable, picklable.

    Parameters
    ----------
    graph_def : bytes
        Serialized ``GraphDef``. It has variables on a cluster only. Data is not in it.
    inputs, outputs : tuple of TensorSpec
        In the order in which values are passed and returned.
    feeds : tuple of Feed
        Arrays bound to the inputs that are data. They stay on TensorFlow's side.
    pullback : Pullback, optional
        None if it was not built together with the graph.
    sums : tuple of TensorSpec or None
        The sum of each output, None for outputs that are not floating.
    jit_compile : bool
        Compile with XLA.
    device : str
        Where TensorFlow runs it, such as ``"/GPU:0"``; empty for where TensorFlow likes.
    stacked : tuple of str
        Nodes of the inputs that have a leading dimension for many draws; all outputs then have it.
    cluster : Cluster, optional
        Where the graph lives; None for a frozen graph, which runs in any process.
    structure : nest of int
        How the source nests its outputs, as ``tf.nest`` does, by their positions.
    frozen : tuple of TensorSpec
        Variables that have become constants.
    libraries : tuple of Library
        Where its custom ops come from. A process that unpickles the program loads them.
    origins : object, optional
        Its ``of(node)`` is the line of the user's code that made a node. It is not pickled.
    """

    graph_def: bytes
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    feeds: Tuple[Feed, ...] = ()
    pullback: Optional[Pullback] = None
    sums: Tuple[Optional[TensorSpec], ...] = ()
    jit_compile: bool = False
    device: str = ""
    stacked: Tuple[str, ...] = ()
    cluster: Optional[Cluster] = None
    structure: Any = 0
    frozen: Tuple[TensorSpec, ...] = ()
    libraries: Tuple[Library, ...] = ()
    origins: Any = None
    kept: Kept = dataclasses.field(default_factory=Kept, init=False)

    @property
    def graph_key(self) -> str:
        """sha256 of the graph and its data: programs that can share a session have it in common."""
        if not self.kept.graph_key:
            digest = hashlib.sha256(self.graph_def)
            for feed in self.feeds:
                digest.update(feed.digest)
            digest.update(str((self.jit_compile, self.device, self.cluster)).encode())
            digest.update(self.cluster.config if self.cluster else b"")
            self.kept.graph_key = digest.hexdigest()
        return self.kept.graph_key

    @cached_property
    def key(self) -> str:
        """sha256 of everything that decides the numbers."""
        return hashlib.sha256(
            repr((self.graph_key, self.inputs, self.outputs, self.stacked)).encode()
        ).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __getstate__(self) -> Dict[str, Any]:
        # What is kept stays behind: it is cheap, and the runtime belongs to a process.
        state = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return {**state, "origins": None}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state, kept=Kept())
        for library in self.libraries:
            library.require()

    def __deepcopy__(self, memo: Any) -> Program:
        return self

    def __repr__(self) -> str:
        parts = [f"{title}: {', '.join(lines)}" for title, lines in self._described()]
        return f"Program({'; '.join(parts)})"

    def summary(self) -> str:
        """Return what was captured, as a table: a line for each input, output, feed and variable.

        Returns
        -------
        str
            With shapes ("?" for what may vary), the bytes of data and frozen variables, the number
            of nodes, where they run, and whether XLA could compile them.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc3_tf
        >>> import tensorflow as tf
        >>> wave = pymc3_tf.TensorFlowOp(
        ...     lambda x, t: tf.sin(x * t),
        ...     [tf.TensorSpec([], tf.float64)],
        ...     feed_dict={"t": np.arange(3.0)},
        ... )
        >>> print(wave.program.summary())
        inputs    x: float64 ()
        outputs   outputs: float64 (3,)
        feeds     t: float64 (3,), 24 bytes
        nodes     5, and 21 with the gradient
        XLA       can compile it
        """
        return "\n".join(
            f"{title if i == 0 else '':<9} {line}"
            for title, lines in self._described()
            for i, line in enumerate(lines)
        )

    def _described(self) -> List[Tuple[str, List[str]]]:
        """Return the lines of the summary under their titles."""

        def held(spec: TensorSpec) -> str:
            return f"{spec}, {spec.nbytes} bytes"

        nodes = str(len(self.graph_without_gradients().node))
        if self.pullback is not None:
            nodes += f", and {len(self.graph().node)} with the gradient"
        lacks = self.unsupported_by_xla()
        runs = f"on the cluster {self.cluster.target}" if self.cluster else self.device
        described = [
            ("inputs", [str(spec) for spec in self.inputs]),
            ("outputs", [str(spec) for spec in self.outputs]),
            ("feeds", [held(feed.spec) for feed in self.feeds]),
            ("frozen", [held(spec) for spec in self.frozen]),
            ("nodes", [nodes]),
            ("runs", [runs] if runs else []),
            ("XLA", [f"has no {', '.join(lacks)}" if lacks else "can compile it"]),
        ]
        return [(title, lines) for title, lines in described if lines]

    def unsupported_by_xla(self) -> List[str]:
        """Return the ops, gradient included, that XLA cannot compile on a processor."""
        return unsupported_by_xla(self.graph())

    def bind(self, arrays: Mapping[str, np.ndarray]) -> Program:
        """Return the program with inputs turned into data.

        Parameters
        ----------
        arrays : dict of str to array
            By node name of the input.
        """
        if not arrays:
            return self

        def kept(entries: Sequence[Any]) -> Tuple[Any, ...]:
            return tuple(x for x, spec in zip(entries, self.inputs) if spec.node not in arrays)

        feeds = tuple(
            Feed.of(spec.node, np.asarray(arrays[spec.node], spec.dtype), spec.label)
            for spec in self.inputs
            if spec.node in arrays
        )
        pullback = self.pullback and dataclasses.replace(
            self.pullback, gradients=kept(self.pullback.gradients)
        )
        return dataclasses.replace(
            self, inputs=kept(self.inputs), feeds=self.feeds + feeds, pullback=pullback
        )

    def sum(self) -> Program:
        """Return the program whose one output is the sum of this one's."""
        if [spec.shape for spec in self.outputs] == [()] and self.outputs[0].is_floating:
            return self
        (total,) = self.sums
        assert total is not None, "only a floating output has a sum"
        pullback = self.pullback and dataclasses.replace(self.pullback, cotangents=())
        return self.view(outputs=(total,), pullback=pullback, sums=(total,))

    def with_output(self, output: TensorSpec) -> Program:
        """Return the program with more known about its one output."""
        return dataclasses.replace(self, outputs=(output,))

    def on(self, device: str) -> Program:
        """Return the program on a device."""
        if device and self.cluster:
            raise DeclarationError(
                f"device is {device!r}, and {self.outputs[0].label} lives on the cluster "
                f"{self.cluster.target}, where its graph says the devices. Leave device out."
            )
        return dataclasses.replace(self, device=device)

    def with_fallback(self, *values: float) -> Program:
        """Return the program with values where TensorFlow fails; its gradients are zero there.

        There is one value for each output, or one for all. Outputs that are NaN count as failures,
        unless their value is zero. With NaN as the value, failures are errors.
        """
        outputs = [
            dataclasses.replace(spec, fallback=value)
            for spec, value in zip(self.outputs, itertools.cycle(values))
        ]
        return dataclasses.replace(self, outputs=tuple(outputs)).with_derived_fallbacks()

    def with_derived_fallbacks(self) -> Program:
        """Return the program with sums and gradients that fall back if its outputs do."""
        if self.outputs[0].fallback is None:
            return self
        gradient = None if np.isnan(self.outputs[0].fallback) else 0.0
        pullback = self.pullback and dataclasses.replace(
            self.pullback,
            gradients=tuple(
                g and dataclasses.replace(g, fallback=gradient) for g in self.pullback.gradients
            ),
        )
        sums = tuple(
            total and dataclasses.replace(total, fallback=spec.fallback)
            for total, spec in zip(self.sums, self.outputs)
        )
        return dataclasses.replace(self, pullback=pullback, sums=sums)

    def with_ranks(self, ranks: Sequence[int]) -> Program:
        """Return the program with the ranks of outputs of which TensorFlow does not know them."""
        outputs = [
            dataclasses.replace(spec, shape=(None,) * rank) if spec.shape is None else spec
            for spec, rank in zip(self.outputs, ranks)
        ]
        return dataclasses.replace(self, outputs=tuple(outputs))

    def batched(self, nodes: Sequence[str]) -> Program:
        """Return the program for many draws at once.

        Parameters
        ----------
        nodes : sequence of str
            Nodes of the inputs that vary, at least one. They get a leading dimension, which may
            have any length; the other inputs are the same for all draws.

        Returns
        -------
        Program
            Each output has the leading dimension. It is not differentiated, and shares the data
            and the session of this program.
        """
        known = self.kept.batched.get(tuple(nodes))
        if known is not None:
            return known

        def stack(spec: TensorSpec) -> TensorSpec:
            shape = None if spec.shape is None else (None, *spec.shape)
            return dataclasses.replace(spec, shape=shape)

        # Kept, so that what the runtime builds for it lives as long as this program.
        self.kept.batched[tuple(nodes)] = batched = self.view(
            inputs=tuple(stack(s) if s.node in nodes else s for s in self.inputs),
            outputs=tuple(stack(spec) for spec in self.outputs),
            pullback=None,
            sums=(),
            stacked=tuple(nodes),
        )
        return batched

    def of_one_draw(self) -> Program:
        """Return the program of which this one is the `batched` one."""

        def row(spec: TensorSpec) -> TensorSpec:
            return dataclasses.replace(spec, shape=None if spec.shape is None else spec.shape[1:])

        return self.view(
            inputs=tuple(row(s) if s.node in self.stacked else s for s in self.inputs),
            outputs=tuple(row(spec) for spec in self.outputs),
            stacked=(),
        )

    @property
    def has_version_1_loop(self) -> bool:
        """Whether it has a while loop of version 1, which cannot stand inside another loop."""
        return b"LoopCond" in self.graph_def

    def view(self, **changes: Any) -> Program:
        """Return another view of the same graph and data, without hashing them again."""
        view = dataclasses.replace(self, **changes)
        view.kept.graph_key = self.graph_key
        return view

    def graph(self) -> GraphDef:
        """Return the graph, with the gradients that it has."""
        return tf.compat.v1.GraphDef.FromString(self.graph_def)

    def graph_without_gradients(self) -> GraphDef:
        """Return what the outputs need of the graph."""
        graph_def = self.graph()
        inputs = [s.node for s in self.inputs] + [feed.node for feed in self.feeds]
        prune(graph_def, [spec.node for spec in self.outputs], inputs)
        return graph_def
