"""Program: a TensorFlow computation that can be compared, hashed and pickled.

A program is a view of one serialized graph: which of its nodes are inputs, which are outputs, and
which arrays are bound to the inputs that are data. Value, sum and vector-Jacobian product of one
density are three views of the same graph, so that any two of them can be had in one call. Nothing
here runs TensorFlow; ``runtime`` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import re
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from cachetools import LRUCache

from pymc3_tf.exceptions import DeclarationError, LibraryError
from pymc3_tf.programs.cluster import Cluster
from pymc3_tf.programs.libraries import Library, libraries_of
from pymc3_tf.programs.loops import differentiated_for_xla
from pymc3_tf.programs.serialized import (
    CONTROL_FLOW,
    Shape,
    clean,
    name_functions,
    node_of,
    ordered,
    prune,
    rewire,
    static_shape,
)
from pymc3_tf.programs.xla import unsupported_by_xla

# For so many choices of inputs that vary, a program keeps its form for many draws.
_BATCHED = 8
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
        Whose ``of(node)`` says in which line of the user's code a node was made. It stays in its
        process, and decides no numbers.
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

    @cached_property
    def graph_key(self) -> str:
        """sha256 of the graph and its data: programs that can share a session have it in common."""
        digest = hashlib.sha256(self.graph_def)
        for feed in self.feeds:
            digest.update(feed.digest)
        digest.update(str((self.jit_compile, self.device, self.cluster)).encode())
        digest.update(self.cluster.config if self.cluster else b"")
        return digest.hexdigest()

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
        # Cached properties stay behind: they are cheap, and the runtime belongs to a process.
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**state, "origins": None}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
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
            nodes += f", and {len(self._graph().node)} with the gradient"
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
        return unsupported_by_xla(self._graph())

    @property
    def is_scalar(self) -> bool:
        """Whether the program has one output, known to be a floating scalar."""
        return (
            len(self.outputs) == 1 and self.outputs[0].shape == () and self.outputs[0].is_floating
        )

    def bind(self, arrays: Mapping[str, np.ndarray]) -> Program:
        """Return the program with inputs turned into data.

        Parameters
        ----------
        arrays : dict of str to array
            By node name of the input.
        """
        if not arrays:
            return self
        kept = [spec.node not in arrays for spec in self.inputs]
        feeds = tuple(
            Feed.of(spec.node, np.asarray(arrays[spec.node], spec.dtype), spec.label)
            for spec, keep in zip(self.inputs, kept)
            if not keep
        )
        pullback = self.pullback and Pullback(
            self.pullback.cotangents,
            tuple(g for g, keep in zip(self.pullback.gradients, kept) if keep),
        )
        return dataclasses.replace(
            self,
            inputs=tuple(spec for spec, keep in zip(self.inputs, kept) if keep),
            feeds=self.feeds + feeds,
            pullback=pullback,
        )

    def sum(self) -> Program:
        """Return the program whose one output is the sum of this one's."""
        if self.is_scalar:
            return self
        (total,) = self.sums
        assert total is not None, "only a floating output has a sum"
        pullback = self.pullback and dataclasses.replace(self.pullback, cotangents=())
        return self._view(outputs=(total,), pullback=pullback, sums=(total,))

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
        return dataclasses.replace(self, outputs=tuple(outputs))._with_fallbacks()

    def _with_fallbacks(self) -> Program:
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
        known: LRUCache[Tuple[str, ...], Program]
        known = self.__dict__.setdefault("_batched", LRUCache(_BATCHED))
        if tuple(nodes) in known:
            return known[tuple(nodes)]

        def stack(spec: TensorSpec) -> TensorSpec:
            shape = None if spec.shape is None else (None, *spec.shape)
            return dataclasses.replace(spec, shape=shape)

        # Kept, so that what the runtime builds for it lives as long as this program.
        known[tuple(nodes)] = self._view(
            inputs=tuple(stack(s) if s.node in nodes else s for s in self.inputs),
            outputs=tuple(stack(spec) for spec in self.outputs),
            pullback=None,
            sums=(),
            stacked=tuple(nodes),
        )
        return known[tuple(nodes)]

    def of_one_draw(self) -> Program:
        """Return the program of which this one is the `batched` one."""

        def row(spec: TensorSpec) -> TensorSpec:
            return dataclasses.replace(spec, shape=None if spec.shape is None else spec.shape[1:])

        return self._view(
            inputs=tuple(row(s) if s.node in self.stacked else s for s in self.inputs),
            outputs=tuple(row(spec) for spec in self.outputs),
            stacked=(),
        )

    @property
    def has_version_1_loop(self) -> bool:
        """Whether it has a while loop of version 1, which cannot stand inside another loop."""
        return b"LoopCond" in self.graph_def

    def _view(self, **changes: Any) -> Program:
        """Return another view of the same graph and data, without hashing them again."""
        view = dataclasses.replace(self, **changes)
        view.__dict__["graph_key"] = self.graph_key
        return view

    def vjp(self) -> Program:
        """Return the vector-Jacobian product.

        Its inputs are this program's and the pullback's cotangents, its outputs the gradients that
        are not None.
        """
        pullback = self.differentiated.pullback
        assert pullback is not None
        return self.differentiated._view(
            inputs=self.differentiated.inputs + pullback.cotangents,
            outputs=tuple(g for g in pullback.gradients if g is not None),
            pullback=None,
            sums=(),
        )

    def value_and_vjp(self) -> Program:
        """Return the program with the outputs of this one, then those of its ``vjp``."""
        vjp = self.vjp()
        return vjp._view(outputs=self.differentiated.outputs + vjp.outputs)

    def build(self, tensors: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        """Add the computation to TensorFlow's current graph.

        Parameters
        ----------
        tensors : dict of str to tf.Tensor
            By node name, for every input and every feed.

        Returns
        -------
        list of tf.Tensor
            The outputs.
        """
        if not self.stacked:
            return self._build(tensors)
        same = {node: x for node, x in tensors.items() if node not in self.stacked}
        rows = {node: tensors[node] for node in self.stacked}
        rank = self._elementwise_rank()
        if rank is not None:
            return self._build_elementwise(same, rows, rank)

        def build_one(row: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
            return self._build({**same, **row})

        def build_row(row: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
            # Tensors from outside come into a function by way of an op only.
            return self._build({**{node: tf.identity(x) for node, x in same.items()}, **row})

        def build_loop(rows: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
            signature = [
                tf.TensorSpec(None if spec.shape is None else spec.shape[1:], spec.dtype)
                for spec in self.outputs
            ]
            return tf.map_fn(build_row, rows, fn_output_signature=signature)

        if not self._has_control_flow:
            try:
                return tf.vectorized_map(build_one, rows, warn=False)
            except (TypeError, ValueError, NotImplementedError):
                pass  # one of its ops has no form for many draws
        # As a function, because there loops are of version 2, whatever the rest of the process has.
        return tf.function(build_loop, autograph=False)(rows)

    def _build_elementwise(
        self, same: Mapping[str, tf.Tensor], rows: Mapping[str, tf.Tensor], rank: int
    ) -> List[tf.Tensor]:
        """Build by broadcasting: the draws come before as many dimensions as any tensor has."""
        aligned = {
            # A stack of scalars is [draw], and becomes [draw, 1, ...].
            node: x[(slice(None), *(None,) * (rank + 1 - x.shape.rank))]
            for node, x in rows.items()
        }
        outputs = self._build({**same, **aligned})
        added = [rank + 1 - len(spec.shape or ()) for spec in self.outputs]
        return [
            tf.squeeze(y, axis=list(range(1, n + 1))) if n else y for y, n in zip(outputs, added)
        ]

    def _elementwise_rank(self) -> Optional[int]:
        """Return the largest rank of what broadcasts with the stacks; None if other ops use them.

        What is as simple as that is built in a fraction of the time of the general way.
        """
        graph_def = self.graph_without_gradients()
        shapes = [spec.shape for spec in self.inputs + self.outputs]
        if None in shapes:
            return None
        ranks = {s.node: len(s.shape or ()) - (s.node in self.stacked) for s in self.inputs}
        ranks.update({feed.node: feed.array.ndim for feed in self.feeds})
        for node in graph_def.node:
            if node.op == "Const":
                ranks[node.name] = len(node.attr["value"].tensor.tensor_shape.dim)
        inputs = {node.name: [node_of(i) for i in node.input] for node in graph_def.node}
        varying = set(self.stacked)
        ordered = False
        while not ordered:
            found = {name for name, sources in inputs.items() if varying.intersection(sources)}
            ordered = found <= varying
            varying |= found
        ops = {node.name: node.op for node in graph_def.node}
        if any(spec.node not in varying for spec in self.outputs):
            return None
        largest = 0
        for name in varying - set(self.stacked):
            if ops[name] not in _ELEMENTWISE:
                return None
            for source in inputs[name]:
                if source not in varying:
                    if source not in ranks:
                        return None
                    largest = max(largest, ranks[source])
        return max([largest, *(ranks[node] for node in self.stacked)])

    def _graph(self) -> Any:
        return tf.compat.v1.GraphDef.FromString(self.graph_def)

    def graph_without_gradients(self) -> Any:
        """Return what the outputs need of the graph."""
        graph_def = self._graph()
        inputs = [s.node for s in self.inputs] + [feed.node for feed in self.feeds]
        prune(graph_def, [spec.node for spec in self.outputs], inputs)
        return graph_def

    @property
    def _has_control_flow(self) -> bool:
        graph_def = self.graph_without_gradients()
        return bool(graph_def.library.function) or any(n.op == "Switch" for n in graph_def.node)

    @property
    def _has_custom_gradient(self) -> bool:
        """Whether a way from an input to an output passes through ``tf.custom_gradient``."""
        if b"CustomGradient" not in self.graph_def:
            return False
        graph_def = self.graph_without_gradients()
        reached = {spec.node for spec in self.inputs}
        for node in ordered(graph_def):
            if reached.intersection(map(node_of, node.input)):
                reached.add(node.name)
                if b"CustomGradient" in node.attr["_gradient_op_type"].s:
                    return True
        return any(
            b"CustomGradient" in node.attr["_gradient_op_type"].s
            for function in graph_def.library.function
            for node in function.node_def
        )

    def footprint(self, shapes: Sequence[Tuple[int, ...]]) -> int:
        """Return the bytes of all tensors of one evaluation, as far as their shapes are known.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Shapes of the inputs, for one draw.
        """
        placeholder = tf.compat.v1.placeholder
        with tf.Graph().as_default() as graph:
            tensors = {s.node: placeholder(s.dtype, n) for s, n in zip(self.inputs, shapes)}
            tensors.update({f.node: placeholder(f.array.dtype, f.array.shape) for f in self.feeds})
            self._build(tensors)
        results = [tensor for op in graph.get_operations() for tensor in op.outputs]
        return sum(t.dtype.size * (t.shape.num_elements() or 1) for t in results)

    def _build(self, tensors: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        graph_def = self.graph_without_gradients() if self.stacked else self._graph()
        outputs = [f"{spec.node}:0" for spec in self.outputs]
        ops = {node.name: node.op for node in graph_def.node}
        for node in graph_def.node:
            source = node_of(node.input[0]) if f"{node.name}:0" in outputs else ""
            if source and source not in tensors and ops[source] not in CONTROL_FLOW:
                # What an output names, rather than one more op to run on each call. Not for
                # control flow, which the optimizer replaces by other ops.
                source = node.input[0] if ":" in node.input[0] else f"{node.input[0]}:0"
                outputs[outputs.index(f"{node.name}:0")] = source
            if node.op == "PlaceholderWithDefault" and node.name not in tensors:
                # As an Identity it can be folded away with what depends on it.
                node.op = "Identity"
                node.attr["T"].CopyFrom(node.attr["dtype"])
                del node.attr["dtype"], node.attr["shape"]
        prune(graph_def, outputs)
        present = {node.name for node in graph_def.node}
        kept = [node for node in graph_def.node if node.name not in tensors]
        del graph_def.node[:]
        # Without the placeholders that are replaced: XLA cannot compile one, used or not.
        graph_def.node.extend(kept)
        try:
            # A prefix of its own: under the names of another import, feeds would get mixed up.
            return tf.import_graph_def(
                graph_def,
                input_map={f"{node}:0": x for node, x in tensors.items() if node in present},
                return_elements=outputs,
                name="program",
            )
        except tf.errors.NotFoundError as error:
            missing = re.search(r"Op type not registered '(\w+)'", error.message)
            if missing is None:
                raise
            raise LibraryError(
                f"{self.outputs[0].label} uses the op {missing[1]}, which this process does not "
                "have. Where the density is declared, load it with pymc3_tf.load_op_library(path) "
                "instead of tf.load_op_library, so that other processes can load it too; or import "
                "the package of the op before unpickling."
            ) from error

    @cached_property
    def differentiated(self) -> Program:
        """The same program, on a graph that has its pullback."""
        if self.pullback is not None:
            return self
        if self.has_version_1_loop:
            raise NotImplementedError(
                f"{self.outputs[0].label}: TensorFlow has no second derivative of a while loop of "
                "version 1. Call tf.compat.v1.enable_control_flow_v2() before building the graph."
            )
        if self._has_custom_gradient:
            # The Python function of the gradient belongs to the graph in which it was called.
            raise NotImplementedError(
                f"{self.outputs[0].label}: there are no second derivatives through "
                "tf.custom_gradient. Use a method without them, such as NUTS with its default init."
            )
        graph = tf.Graph()
        bound = {feed.node: feed.array for feed in self.feeds}
        with graph.as_default():
            placeholders = [
                tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in self.inputs
            ] + [tf.compat.v1.placeholder(a.dtype, a.shape) for a in bound.values()]
            nodes = [spec.node for spec in self.inputs] + list(bound)
            outputs = self.build(dict(zip(nodes, placeholders)))
            gradients = add_gradients(outputs, placeholders)
        graph_def = graph.as_graph_def()
        clean(graph_def, keep_devices=self.cluster is not None)
        program = assemble(
            graph_def,
            [dataclasses.replace(spec, like=None) for spec in self.inputs]
            + [TensorSpec(n, n, str(a.dtype), a.shape) for n, a in bound.items()],
            [p.name for p in placeholders],
            self.outputs,
            gradients,
            structure=self.structure,
            frozen=self.frozen,
            jit_compile=self.jit_compile,
            cluster=self.cluster,
        ).on(self.device)
        libraries = {*self.libraries, *program.libraries}
        program = dataclasses.replace(program._with_fallbacks(), libraries=tuple(sorted(libraries)))
        renamed = dict(zip(nodes, (spec.node for spec in program.inputs)))
        return program.bind({renamed[n]: a for n, a in bound.items()})


# Ops that do with each element of their inputs what they do with any other, and broadcast.
_ELEMENTWISE = frozenset(
    "Abs Add AddV2 Acos Acosh Asin Asinh Atan Atan2 Atanh Cast Ceil Cos Cosh Digamma Div DivNoNan "
    "Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Igamma "
    "Igammac Inv IsFinite IsInf IsNan Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot "
    "LogicalOr Maximum Minimum Mul MulNoNan Ndtri Neg NotEqual OnesLike Polygamma Pow RealDiv "
    "Reciprocal Relu Rint Round Rsqrt SelectV2 Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Square "
    "SquaredDifference StopGradient Sub Tan Tanh Xdivy Xlog1py Xlogy ZerosLike Zeta".split()
)


# What follows builds a program from a graph: gradients are added to the live graph, where
# TensorFlow keeps its control flow contexts and the Python gradients of functions; the rest is done
# on the serialized graph, under names of our own.


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Names of the tensors that ``add_gradients`` made."""

    outputs: Tuple[str, ...]
    sums: Tuple[Optional[str], ...]
    cotangents: Tuple[Optional[str], ...]
    gradients: Tuple[Optional[str], ...]
    shapes: Tuple[Shape, ...]

    @property
    def names(self) -> List[str]:
        """All of them that exist, as roots for pruning."""
        every = self.outputs + self.sums + self.gradients
        return [name for name in every if name is not None]

    def renamed(self, fresh: Mapping[str, str]) -> Gradients:
        """Follow the tensors into a graph where some of them have other names."""

        def names(every: Sequence[Any]) -> Tuple[Any, ...]:
            return tuple(fresh.get(name, name) for name in every)

        return Gradients(
            names(self.outputs),
            names(self.sums),
            names(self.cotangents),
            names(self.gradients),
            self.shapes,
        )


def add_gradients(outputs: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]) -> Gradients:
    """Add to the live graph the sums of the outputs and their gradient for an upstream gradient."""
    floating = [y for y in outputs if y.dtype.is_floating]
    sums = [tf.reduce_sum(y) if y.dtype.is_floating else None for y in outputs]
    cotangents: List[Optional[tf.Tensor]] = [None] * len(outputs)
    if not (len(outputs) == 1 and outputs[0].shape.rank == 0):
        cotangents = [
            tf.compat.v1.placeholder(y.dtype, y.shape) if y.dtype.is_floating else None
            for y in outputs
        ]
    gradients: List[Any] = [None] * len(inputs)
    if floating and inputs:
        grad_ys = [c for c in cotangents if c is not None] or None
        wanted = [i for i, x in enumerate(inputs) if _is_floating_or_handle(x)]
        with differentiated_for_xla(floating):
            found = tf.gradients(floating, [inputs[i] for i in wanted], grad_ys) if wanted else []
        for i, gradient in zip(wanted, found):
            gradients[i] = None if gradient is None else tf.convert_to_tensor(gradient)

    def names(tensors: Sequence[Optional[tf.Tensor]]) -> Tuple[Optional[str], ...]:
        return tuple(None if t is None else t.name for t in tensors)

    return Gradients(
        tuple(y.name for y in outputs),
        names(sums),
        names(cotangents),
        names(gradients),
        tuple(static_shape(y.shape) for y in outputs),
    )


def _is_floating_or_handle(tensor: tf.Tensor) -> bool:
    # A parameter that is a resource variable is differentiated through its handle.
    return tensor.dtype.is_floating or tensor.dtype == tf.resource


def assemble(
    graph_def: Any,
    inputs: Sequence[TensorSpec],
    input_tensors: Sequence[str],
    outputs: Sequence[TensorSpec],
    gradients: Gradients,
    *,
    structure: Any = 0,
    frozen: Sequence[TensorSpec] = (),
    jit_compile: bool = False,
    cluster: Optional[Cluster] = None,
) -> Program:
    """Make a program of a clean ``GraphDef``.

    Parameters
    ----------
    graph_def : tf.compat.v1.GraphDef
        Changed in place.
    inputs, outputs : sequence of TensorSpec
        Labels, dtypes and shapes; the nodes are named here.
    input_tensors : sequence of str
        The tensor of ``graph_def`` that each input replaces. It may be any tensor, not just a
        placeholder.
    gradients : Gradients
        What ``add_gradients`` returned for them.
    structure : nest of int
        How the source nests its outputs.
    frozen : sequence of TensorSpec
        Variables that have become constants.
    jit_compile : bool
        Compile with XLA.
    cluster : Cluster, optional
        Where the graph lives.
    """
    inputs = [
        dataclasses.replace(spec, node=f"input_{i}", like=None) for i, spec in enumerate(inputs)
    ]
    replaced = {name: spec.node for name, spec in zip(input_tensors, inputs)}
    new_nodes = [_placeholder(spec) for spec in inputs]
    specs: Dict[str, TensorSpec] = {}

    def output(kind: str, tensor: Optional[str], spec: TensorSpec) -> Optional[TensorSpec]:
        if tensor is None:
            return None
        node = tf.compat.v1.NodeDef(name=spec.node, op="Identity", input=[tensor])
        node.attr["T"].type = tf.as_dtype(spec.dtype).as_datatype_enum
        new_nodes.append(node)
        specs[kind] = spec
        return spec

    program_outputs, sums, cotangents = [], [], []
    for k, spec in enumerate(outputs):
        spec = dataclasses.replace(spec, node=f"output_{k}")
        if spec.shape is None:
            spec = dataclasses.replace(spec, shape=gradients.shapes[k])
        program_outputs.append(output("output", gradients.outputs[k], spec))
        total = TensorSpec(f"sum_{k}", f"sum of {spec.label}", spec.dtype, ())
        sums.append(output("sum", gradients.sums[k], total))
        cotangent = gradients.cotangents[k]
        if cotangent is not None:
            cotangents.append(
                TensorSpec(f"cotangent_{k}", f"gradient of {spec.label}", spec.dtype, spec.shape)
            )
            # Without an upstream gradient the product is the gradient of the sum.
            replaced[cotangent] = f"cotangent_{k}"
            ones = tf.compat.v1.NodeDef(name=f"ones_{k}", op="OnesLike", input=[spec.node])
            default = tf.compat.v1.NodeDef(
                name=f"cotangent_{k}", op="PlaceholderWithDefault", input=[f"ones_{k}"]
            )
            enum = tf.as_dtype(spec.dtype).as_datatype_enum
            ones.attr["T"].type = default.attr["dtype"].type = enum
            default.attr["shape"].shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
            new_nodes += [ones, default]
    program_gradients = [
        output(
            "gradient",
            tensor,
            TensorSpec(
                f"gradient_{i}", f"gradient by {spec.label}", spec.dtype, spec.shape, spec.node
            ),
        )
        for i, (spec, tensor) in enumerate(zip(inputs, gradients.gradients))
    ]
    graph_def.node.extend(new_nodes)
    rewire(graph_def, replaced)
    prune(graph_def, [n.name for n in new_nodes if n.op == "Identity"], [s.node for s in inputs])
    name_functions(graph_def)
    return Program(
        graph_def=graph_def.SerializeToString(deterministic=True),
        inputs=tuple(inputs),
        outputs=tuple(program_outputs),  # type: ignore[arg-type]
        pullback=Pullback(tuple(cotangents), tuple(program_gradients)),
        sums=tuple(sums),
        jit_compile=jit_compile,
        cluster=cluster,
        structure=structure,
        frozen=tuple(frozen),
        libraries=libraries_of(graph_def),
    )


def _placeholder(spec: TensorSpec) -> Any:
    node = tf.compat.v1.NodeDef(name=spec.node, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(spec.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    return node
