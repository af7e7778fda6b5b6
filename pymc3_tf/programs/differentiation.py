"""Gradients: added to a graph when a program is made of it, or to a program's own graph.

Gradients are added to the live graph, where TensorFlow keeps its control flow contexts and the
Python gradients of functions; the rest is done on the serialized graph, under names of our own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import tensorflow as tf

from pymc3_tf.private_tensorflow import control_flow_for_xla
from pymc3_tf.programs.building import build
from pymc3_tf.programs.libraries import libraries_of
from pymc3_tf.programs.loops import bound_loops
from pymc3_tf.programs.program import Program, Pullback, TensorSpec
from pymc3_tf.programs.serialized import (
    GraphDef,
    NodeDef,
    Shape,
    clean,
    name_functions,
    node_of,
    ordered,
    prune,
    rewire,
    static_shape,
)


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
        bound_loops(floating)
        with control_flow_for_xla():
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
    graph_def: GraphDef,
    inputs: Sequence[TensorSpec],
    input_tensors: Sequence[str],
    outputs: Sequence[TensorSpec],
    gradients: Gradients,
    **fields: Any,
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
    **fields
        Further ones of the program.
    """
    inputs = [
        dataclasses.replace(spec, node=f"input_{i}", like=None) for i, spec in enumerate(inputs)
    ]
    replaced = {name: spec.node for name, spec in zip(input_tensors, inputs)}
    outputs = [
        dataclasses.replace(
            spec, node=f"output_{k}", shape=shape if spec.shape is None else spec.shape
        )
        for k, (spec, shape) in enumerate(zip(outputs, gradients.shapes))
    ]
    sums = [
        TensorSpec(f"sum_{k}", f"sum of {spec.label}", spec.dtype, ()) if name else None
        for k, (spec, name) in enumerate(zip(outputs, gradients.sums))
    ]
    products = [
        TensorSpec(f"gradient_{i}", f"gradient by {spec.label}", spec.dtype, spec.shape, spec.node)
        if name
        else None
        for i, (spec, name) in enumerate(zip(inputs, gradients.gradients))
    ]
    tensors = gradients.outputs + gradients.sums + gradients.gradients
    named = [
        (spec, tensor)
        for spec, tensor in zip([*outputs, *sums, *products], tensors)
        if spec is not None and tensor is not None
    ]
    nodes = [_placeholder(spec) for spec in inputs] + [_identity(*pair) for pair in named]
    cotangents = []
    for k, (spec, name) in enumerate(zip(outputs, gradients.cotangents)):
        if name is not None:
            replaced[name] = f"cotangent_{k}"
            label = f"gradient of {spec.label}"
            cotangents.append(TensorSpec(f"cotangent_{k}", label, spec.dtype, spec.shape))
            nodes += _ones(f"ones_{k}", spec, cotangents[-1])
    graph_def.node.extend(nodes)
    rewire(graph_def, replaced)
    prune(graph_def, [spec.node for spec, _ in named], [spec.node for spec in inputs])
    name_functions(graph_def)
    return Program(
        graph_def=graph_def.SerializeToString(deterministic=True),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        pullback=Pullback(tuple(cotangents), tuple(products)),
        sums=tuple(sums),
        libraries=libraries_of(graph_def),
        **fields,
    )


def _placeholder(spec: TensorSpec) -> NodeDef:
    node = tf.compat.v1.NodeDef(name=spec.node, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(spec.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    return node


def _identity(spec: TensorSpec, tensor: str) -> NodeDef:
    node = tf.compat.v1.NodeDef(name=spec.node, op="Identity", input=[tensor])
    node.attr["T"].type = tf.as_dtype(spec.dtype).as_datatype_enum
    return node


def _ones(name: str, output: TensorSpec, cotangent: TensorSpec) -> List[NodeDef]:
    """Return the nodes of an upstream gradient. Without one, the product is that of the sum."""
    ones = tf.compat.v1.NodeDef(name=name, op="OnesLike", input=[output.node])
    ones.attr["T"].type = tf.as_dtype(output.dtype).as_datatype_enum
    default = _placeholder(cotangent)
    default.op = "PlaceholderWithDefault"
    default.input.append(name)
    return [ones, default]


def vjp(program: Program) -> Program:
    """Return the vector-Jacobian product.

    Its inputs are the program's and the pullback's cotangents, its outputs the gradients that are
    not None.
    """
    whole = differentiated(program)
    assert whole.pullback is not None
    return whole.view(
        inputs=whole.inputs + whole.pullback.cotangents,
        outputs=tuple(g for g in whole.pullback.gradients if g is not None),
        pullback=None,
        sums=(),
    )


def value_and_vjp(program: Program) -> Program:
    """Return the program with the outputs of a program, then those of its ``vjp``."""
    if program.kept.value_and_vjp is None:
        product = vjp(program)
        outputs = differentiated(program).outputs + product.outputs
        program.kept.value_and_vjp = product.view(outputs=outputs)
    return program.kept.value_and_vjp


def pull_back(
    program: Program,
    inputs: Sequence[Any],
    upstream: Sequence[Optional[tf.Tensor]],
    apply: Callable[[Program, List[Any]], Sequence[Any]],
) -> List[Any]:
    """Return the gradient by each input for upstream gradients; None where none reaches it.

    Parameters
    ----------
    program : Program
    inputs : sequence
        Its inputs, as Theano variables or tensors.
    upstream : sequence
        The upstream gradient of each output. Those of outputs that are not floating do not count.
    apply : callable
        Takes a program and its inputs, and returns its outputs.
    """
    pullback, product = differentiated(program).pullback, vjp(program)
    assert pullback is not None
    floating = [g for g, spec in zip(upstream, program.outputs) if spec.is_floating]
    if not product.outputs:
        found: List[Any] = []
    elif pullback.cotangents:
        found = list(apply(product, [*inputs, *floating]))
    else:
        # Linear in the one upstream gradient: without it as an input, the product never waits for
        # the value, so that both can always be had in one call.
        found = [floating[0] * g for g in apply(product, list(inputs))]
    remaining = iter(found)
    return [None if spec is None else next(remaining) for spec in pullback.gradients]


def differentiated(program: Program) -> Program:
    """Return the same program, on a graph that has its pullback."""
    if program.pullback is not None:
        return program
    if program.kept.differentiated is None:
        program.kept.differentiated = _differentiated(program)
    return program.kept.differentiated


def _differentiated(program: Program) -> Program:
    if program.has_version_1_loop:
        raise NotImplementedError(
            f"{program.outputs[0].label}: TensorFlow has no second derivative of a while loop of "
            "version 1. Call tf.compat.v1.enable_control_flow_v2() before building the graph."
        )
    if _has_custom_gradient(program):
        # The Python function of the gradient belongs to the graph in which it was called.
        raise NotImplementedError(
            f"{program.outputs[0].label}: there are no second derivatives through "
            "tf.custom_gradient. Use a method without them, such as NUTS with its default init."
        )
    graph = tf.Graph()
    bound = {feed.node: feed.array for feed in program.feeds}
    with graph.as_default():
        placeholders = [
            tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in program.inputs
        ] + [tf.compat.v1.placeholder(a.dtype, a.shape) for a in bound.values()]
        nodes = [spec.node for spec in program.inputs] + list(bound)
        outputs = build(program, dict(zip(nodes, placeholders)))
        gradients = add_gradients(outputs, placeholders)
    graph_def = graph.as_graph_def()
    clean(graph_def, keep_devices=program.cluster is not None)
    whole = assemble(
        graph_def,
        [dataclasses.replace(spec, like=None) for spec in program.inputs]
        + [TensorSpec(n, n, str(a.dtype), a.shape) for n, a in bound.items()],
        [p.name for p in placeholders],
        program.outputs,
        gradients,
        structure=program.structure,
        frozen=program.frozen,
        jit_compile=program.jit_compile,
        cluster=program.cluster,
    ).on(program.device)
    libraries = {*program.libraries, *whole.libraries}
    whole = dataclasses.replace(whole.with_derived_fallbacks(), libraries=tuple(sorted(libraries)))
    renamed = dict(zip(nodes, (spec.node for spec in whole.inputs)))
    return whole.bind({renamed[n]: a for n, a in bound.items()})


def _has_custom_gradient(program: Program) -> bool:
    """Whether a way from an input to an output passes through ``tf.custom_gradient``."""
    if b"CustomGradient" not in program.graph_def:
        return False
    graph_def = program.graph_without_gradients()
    reached = {spec.node for spec in program.inputs}
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
