"""The linker: loops of theano.scan have Theano's values and gradients."""

import numpy as np
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import SMALL, SQUARE, assert_same_expression
from theano.scan.utils import until

from pymc3_tf.linker import link


def _loop_with_taps(x):
    initial = {"initial": tt.stack([x[0], x[1] * 2]), "taps": [-1, -2]}
    result, _ = theano.scan(
        lambda s, before, long_before, k: tt.sin(before) * k + 0.5 * long_before + s,
        sequences=[x],
        outputs_info=[initial],
        non_sequences=[x[2]],
    )
    return result


def _loop_with_sequence_taps(x):
    sequence = {"input": x, "taps": [-1, 0, 2]}
    return theano.scan(lambda a, b, c: [a * b + c, a - tt.exp(c / 9)], sequences=[sequence])[0][1]


def _loop_of_vectors(a):
    start = tt.ones(3)
    return theano.scan(lambda y: tt.tanh(tt.dot(a, y)), outputs_info=[start], n_steps=5)[0]


def _loop_in_loop(a):
    def outer(row, total):
        inner, _ = theano.scan(
            lambda s, t: tt.cos(s) + t * row[0], sequences=[row], outputs_info=[total]
        )
        return inner[-1]

    return theano.scan(outer, sequences=[a], outputs_info=[tt.constant(0.1)])[0]


def _loop_with_condition(x):
    result, _ = theano.scan(
        lambda i, t: (t * 1.1, until(t > 3)), sequences=[tt.arange(0, 60)], outputs_info=[tt.exp(x)]
    )
    return result[-1]


def _loop_with_branches(x):
    return theano.scan(lambda s: tt.switch(s > 0, tt.log(s), s), sequences=[x])[0]


LOOPS = {
    "taps": (_loop_with_taps, SMALL),
    "sequence_taps": (_loop_with_sequence_taps, SMALL),
    "vectors": (_loop_of_vectors, SQUARE),
    "nested": (_loop_in_loop, SQUARE),
    "condition": (_loop_with_condition, np.array(0.5)),
    "branches": (_loop_with_branches, SMALL),
    "reduce": (lambda x: theano.reduce(lambda s, t: t * 0.9 + s**2, x, x[0])[0], SMALL),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_those_of_theano(name):
    assert_same_expression(*LOOPS[name])


def test_gradient_of_loop_made_by_theano_is_translated():
    def loop(x):
        return theano.scan(lambda s, before: tt.sin(before) * s, sequences=[x], outputs_info=[x[0]])

    assert_same_expression(lambda x: theano.grad(loop(x)[0].sum(), x), SMALL)
    # Of a loop with two taps, Theano's second derivative is wrong.
    slope = lambda x: theano.grad(_loop_with_taps(x).sum(), x)  # noqa: E731
    assert_same_expression(slope, SMALL, gradient=False)


def test_loop_that_ends_early_is_as_long_as_in_theano():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dscalar()
        result, _ = theano.scan(
            lambda t: (t * 2, until(t > 3)), outputs_info=[x], n_steps=tt.constant(20)
        )
        expected = theano.function([x], result)(0.5)
    np.testing.assert_allclose(tf.function(link([result], [x]))(np.float64(0.5))[0], expected)
