"""The linker: every PyMC3 distribution has Theano's log density and gradient, for any arrays."""

import functools

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import MODE
from distribution_table import DISTRIBUTIONS, WITHOUT_LOG_DENSITY
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pymc3_tf.linker import link

RTOL = 1e-10

quick = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)
thorough = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def test_every_distribution_is_in_the_table():
    public = set(pm.distributions.__all__) | set(pm.distributions.timeseries.__all__)
    public -= WITHOUT_LOG_DENSITY
    # Some versions spell one of them in two ways.
    assert {name.lower() for name in public} == {name.split()[0].lower() for name in DISTRIBUTIONS}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@quick
@given(data=st.data())
def test_log_density_and_gradient_are_those_of_theano(name, data):
    assert_same_numbers(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@thorough
@given(data=st.data())
def test_log_density_and_gradient_are_those_of_theano_for_many_arrays(name, data):
    assert_same_numbers(name, data)


def assert_same_numbers(name, data):
    """Draw shapes, and arrays of which one may leave the support; compare."""
    row = DISTRIBUTIONS[name]
    kinds = {"value": row.value, **row.params}
    shapes = data.draw(st.sampled_from([tuple(layout) for layout in row.layouts]), label="shapes")
    lengths = {
        letter: data.draw(st.integers(2 if letter == "t" else 1, 4), label=letter)
        for letter in sorted({*"".join(shapes)} & {*"mnkt"})
    }
    strays = data.draw(st.sampled_from([None, None, *kinds]), label="may leave the support")
    arrays = []
    for (label, kind), dimensions in zip(kinds.items(), shapes):
        shape = tuple(lengths[d] if d.isalpha() else int(d) for d in dimensions)
        arrays.append(data.draw(kind.arrays(shape, label == strays), label=label))
    on_edge = any(
        np.any(a % 1 == 0) for a, k in zip(arrays, kinds) if k == strays and a.dtype == "float64"
    )
    theirs, ours = functions(name, shapes)
    (expected, *slopes), (got, *got_slopes) = theirs(*arrays), ours(*map(tf.constant, arrays))
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=RTOL, atol=1e-12)
    if strays is None:
        assert all(np.all(np.isfinite(x)) for x in [expected, *slopes])
    inside = np.all(np.isfinite(expected))
    # Slopes on the edge of the support, which is at whole numbers, are products of zero and
    # infinity, of which Theano may make any number.
    if np.any(np.isnan(expected)) or (on_edge and not inside):
        return
    largest = max([np.max(np.abs(s[np.isfinite(s)]), initial=0) for s in slopes], default=0)
    for got_slope, slope in zip(got_slopes, slopes):
        # Beyond the support slopes are zero. Where a density underflows they may be any number too.
        compared = np.isfinite(slope) & (inside | (slope == 0))
        np.testing.assert_allclose(
            got_slope.numpy()[compared], slope[compared], rtol=RTOL, atol=max(RTOL * largest, 1e-14)
        )


@functools.lru_cache(None)
def functions(name, shapes):
    """Return functions of the log density and its gradients: Theano's, and the linker's."""
    row = DISTRIBUTIONS[name]
    with theano.config.change_flags(compute_test_value="off"):
        inputs = [
            tt.TensorType(kind.dtype, [d == "1" for d in dimensions])()
            for kind, dimensions in zip([row.value, *row.params.values()], shapes)
        ]
        logp = row.logp(inputs[0], **dict(zip(row.params, inputs[1:])))
        floating = [x for x in inputs if x.dtype == "float64"]
        slopes = theano.grad(logp.sum(), floating, disconnected_inputs="ignore")
        theirs = theano.function(inputs, [logp, *slopes], on_unused_input="ignore", mode=MODE)
        linked = link([logp], inputs)

    def ours(*tensors):
        with tf.GradientTape() as tape:
            floating = [x for x in tensors if x.dtype.is_floating]
            tape.watch(floating)
            (value,) = linked(*tensors)
        return [value, *tape.gradient(value, floating, unconnected_gradients="zero")]

    fixed = not any(d.isalpha() for d in "".join(shapes))
    return theirs, tf.function(ours, autograph=False, jit_compile=True) if fixed else ours
