"""Loops, conditions and graphs within graphs."""

from __future__ import annotations

from typing import Iterator, List, Sequence

import tensorflow as tf
import theano
from theano.compile.builders import OpFromGraph
from theano.graph.basic import Apply
from theano.graph.op import Op
from theano.ifelse import IfElse
from theano.scan.op import Scan

from pymc3_tf.linker.dispatch import Translation, Value, cast, is_known, shape_of, tf_funcify
from pymc3_tf.linker.graph import evaluate_graph, rewritten


@tf_funcify.register(IfElse)
def _if_else(op: Op, node: Apply) -> Translation:
    def if_else(condition: Value, *branches: Value) -> Value:
        then, otherwise = branches[: op.n_outs], branches[op.n_outs :]
        if is_known(condition):
            return list(then if condition else otherwise)
        return tf.cond(
            tf.cast(condition, tf.bool),
            lambda: [tf.convert_to_tensor(x) for x in then],
            lambda: [tf.convert_to_tensor(x) for x in otherwise],
        )

    return if_else


@tf_funcify.register(OpFromGraph)
def _op_from_graph(op: Op, node: Apply) -> Translation:
    graph = rewritten(op.local_inputs, op.local_outputs)

    @tf.custom_gradient
    def call(*xs: Value) -> Value:
        outputs = evaluate_graph(graph, graph.toposort(), xs)

        def gradient(*upstream: Value) -> List[Value]:
            # Theano's, because such an op can come with a gradient of its own.
            with theano.config.change_flags(compute_test_value="off"):
                inputs = [x.type() for x in node.inputs]
                results = op(*inputs, return_list=True)
                cotangents = [y.type() for y in results]
                pulled = op.L_op(inputs, results, cotangents)
            known = [i for i, g in enumerate(pulled) if hasattr(g, "dtype")]
            back = rewritten([*inputs, *cotangents], [pulled[i] for i in known])
            found = evaluate_graph(back, back.toposort(), [*xs, *upstream])
            slopes = dict(zip(known, map(tf.convert_to_tensor, found)))
            return [slopes.get(i) for i in range(len(xs))]

        return [tf.convert_to_tensor(y) for y in outputs], gradient

    return lambda *xs: call(*[tf.convert_to_tensor(x) for x in xs])


@tf_funcify.register(Scan)
def _scan(op: Op, node: Apply) -> Translation:
    """Translate a loop.

    Theano keeps each recurrent output in one buffer: first the initial values, as many as the
    longest tap looks back, then one value for each step. Here the loop carries the last values
    (the window), and an array collects the steps. Long, because the step shares the buffers and
    the lengths before it.
    """
    graph = rewritten(op.inputs, op.outputs)
    nodes = graph.toposort()
    taps = op.tap_array[op.n_mit_mot : op.n_outs]
    look_back = [-min(each) for each in taps]
    dtypes = [y.dtype for y in graph.outputs]

    def scan(steps: Value, *xs: Value) -> List[Value]:
        rest = iter(xs)
        sequences = _take(rest, op.n_seqs)
        mit_mots = [tf.convert_to_tensor(x) for x in _take(rest, op.n_mit_mot)]
        initial = [tf.convert_to_tensor(x) for x in _take(rest, len(taps))]
        shared = [tf.convert_to_tensor(x) for x in _take(rest, op.n_shared_outs)]
        _take(rest, op.n_nit_sot)  # their lengths, which are the number of steps
        constants = list(rest)
        for buffer, n in zip(initial, look_back):
            length = shape_of(buffer)[0]
            if is_known(steps) and is_known(length) and length != int(steps) + n:
                raise NotImplementedError(f"{op}: only loops that keep all steps are translated")
        count = int(steps) if is_known(steps) else tf.cast(steps, tf.int32)
        # Not as arrays, the gradients of which have a length that XLA does not know.
        sequences = [tf.convert_to_tensor(x) for x in sequences]
        windows = [[x[i] for i in range(n)] for x, n in zip(initial, look_back)]
        first = op.n_mit_mot_outs
        results = [
            tf.TensorArray(dtype, count, element_shape=x.shape[1:])
            for x, dtype in zip(initial, dtypes[first:])
        ] + [
            tf.TensorArray(dtype, count)
            for dtype in dtypes[first + len(taps) : first + len(taps) + op.n_nit_sot]
        ]

        def step(
            i: Value, going: Value, mit_mots: Value, windows: Value, results: Value, shared: Value
        ) -> Value:
            arguments = [tf.gather(x, i) for x in sequences]
            for buffer, each in zip(mit_mots, op.tap_array):
                arguments += [tf.gather(buffer, i - min(each) + tap) for tap in each]
            for window, each, n in zip(windows, taps, look_back):
                arguments += [window[n + tap] for tap in each]
            arguments += [*shared, *constants]
            values = iter(
                cast(tf.convert_to_tensor(y), dtype)
                for y, dtype in zip(evaluate_graph(graph, nodes, arguments), dtypes)
            )
            mit_mots = [
                _write(buffer, [i - min(each) + tap for tap in places], _take(values, len(places)))
                for buffer, each, places in zip(mit_mots, op.tap_array, op.mit_mot_out_slices)
            ]
            new = _take(values, len(results))
            windows = [
                [*window[1:], tf.ensure_shape(y, window[0].shape)]
                for window, y in zip(windows, new)
            ]
            results = [array.write(i, y) for array, y in zip(results, new)]
            shared = _take(values, op.n_shared_outs)
            if op.as_while:
                going = tf.logical_not(tf.cast(next(values), tf.bool))
            return i + 1, going, mit_mots, windows, results, shared

        taken, _, mit_mots, _, results, shared = tf.while_loop(
            lambda i, going, *_: tf.logical_and(i < count, going),
            step,
            (tf.constant(0), tf.constant(True), mit_mots, windows, results, shared),
            maximum_iterations=count if is_known(steps) else None,
        )
        outputs = [array.stack() for array in results]
        if op.as_while:
            last_only = getattr(node.tag, "last_only", False)
            outputs = [_shortened(y, taken, count, last_only) for y in outputs]
        outputs[: len(taps)] = [
            tf.concat([x[:n], y], 0) for x, y, n in zip(initial, outputs, look_back)
        ]
        return [*mit_mots, *outputs, *shared]

    return scan


def _take(values: Iterator[Value], number: int) -> List[Value]:
    return [next(values) for _ in range(number)]


def _write(buffer: Value, places: Sequence[Value], values: Sequence[Value]) -> Value:
    for place, value in zip(places, values):
        buffer = tf.tensor_scatter_nd_update(buffer, [[place]], value[None])
    return buffer


def _shortened(y: Value, taken: Value, count: Value, last_only: bool) -> Value:
    """Return the steps that were taken.

    XLA cannot shorten a tensor. If only the last step is used, that one is repeated instead.
    """
    if last_only:
        return tf.gather(y, tf.minimum(tf.range(count), taken - 1))
    return y[:taken]
