"""Value and gradient of a model: by TensorFlow's own XLA, and as pymc3_tf's sampler has them."""

import time
from functools import partial

import numpy as np
import tensorflow as tf

from pymc3_tf.nuts import density
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

ROUNDS, COMPILATIONS = 5, 4
SECONDS = 0.2  # of a loop, and of calls


class ByHand:
    """``tf.function(jit_compile=True)`` of value and gradient: in a loop, and called from Python.

    Parameters
    ----------
    logp : callable
        Takes tensors.
    start : list of array
    jit_compile : bool
        Without it if XLA cannot.
    """

    def __init__(self, logp, start, jit_compile=True):
        self.start = [tf.constant(x, tf.float64) for x in start]
        function = partial(tf.function, autograph=False, jit_compile=jit_compile)

        def evaluate(*params):
            with tf.GradientTape() as tape:
                tape.watch(params)
                value = tf.reduce_sum(logp(*params))
            return value, *tape.gradient(value, params)

        self.call = function(evaluate)
        self.repeat = function(partial(looped, evaluate))

    def loop(self, number):
        return self.repeat(tf.constant(number), *self.start)[0].numpy()


class InSampler:
    """The same of a PyMC3 model, by what ``CompiledSampler`` puts into its program.

    Parameters
    ----------
    model : pymc3.Model
    """

    def __init__(self, model):
        self.model = UnconstrainedModel(model)
        self.start = [tf.constant(self.model.vector(model.test_point))]
        self.data = [tf.constant(array) for array in self.model.data]
        function = tf.function(
            partial(density.value_and_gradient, self.model.log_density, False), autograph=False
        ).get_concrete_function(*self.start, *self.data)
        self.traced = function, density.inlined(function)
        self.trace(whole=False)

    def trace(self, whole):
        build, self.islands, _ = density.for_xla(self.traced, None, whole)

        @partial(tf.function, autograph=False, jit_compile=True)
        def repeat(number, position, *data):
            return looped(lambda x: build(x, *data), number, position)

        self.repeat = repeat

    def loop(self, number):
        try:
            return self.repeat(tf.constant(number), *self.start, *self.data)[0].numpy()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            if self.islands:
                raise
            self.trace(whole=True)  # as the sampler does
            return self.repeat(tf.constant(number), *self.start, *self.data)[0].numpy()


def looped(evaluate, number, *start):
    """Evaluate again and again, each time from the last gradient on."""

    def again(i, value, params, gradients):
        moved = [x + 1e-12 * tf.math.tanh(g) for x, g in zip(params, gradients)]
        value, *gradients = evaluate(*moved)
        return i + 1, tf.reshape(value, []), moved, gradients

    state = tf.constant(0), tf.constant(0.0, tf.float64), [*start], [*map(tf.zeros_like, start)]
    _, value, _, gradients = tf.while_loop(lambda i, *_: i < number, again, state)
    return value, *gradients


def compare(by_hand, in_sampler):
    """Return processor seconds to compile and of a gradient; the two ways take turns.

    Parameters
    ----------
    by_hand, in_sampler : callable
        Make a new ``ByHand`` and a new ``InSampler``.
    """
    tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0.0))  # what comes once
    found = {"call_compile": [], "loop_compile": [], "ours_compile": []}
    for _ in range(COMPILATIONS):
        begin = time.process_time()
        hand = by_hand()
        hand.call(*hand.start)
        found["call_compile"].append(time.process_time() - begin)
        begin = time.process_time()
        hand.loop(1)
        found["loop_compile"].append(time.process_time() - begin)
        begin = time.process_time()
        ours = in_sampler()
        ours.loop(1)
        found["ours_compile"].append(time.process_time() - begin)
    ways = {
        "call": lambda number: [hand.call(*hand.start)[0].numpy() for _ in range(number)],
        "loop": hand.loop,
        "ours": ours.loop,
    }
    numbers = {way: repetitions(run) for way, run in ways.items()}
    times = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            times[way].append(seconds(run, numbers[way]))
    # Other programs on the machine can only add to a time.
    result = {name: min(values) for name, values in {**found, **times}.items()}
    return {**result, "rounds": times, "islands": len(ours.islands)}


def seconds(run, number):
    """Return processor time: it depends less on what else the machine does."""
    begin = time.process_time()
    run(number)
    return (time.process_time() - begin) / number


def repetitions(run):
    """Return how many repetitions take about ``SECONDS``."""
    number = 3
    run(1)
    while (each := seconds(run, number)) * number < SECONDS / 4 and number < 10**6:
        number *= 4
    return int(np.clip(SECONDS / each, 3, 10**6))
