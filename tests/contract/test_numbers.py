"""Log densities and gradients are the built-ins', for any shape, parameter and data."""

import functools

import numpy as np
import pymc3 as pm
import pytest
import theano
import theano.tensor as tt
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from twins import FLOATX, RTOL, TWINS

quick = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)
RANGES = {
    "Normal": {"value": (-5, 5), "mu": (-3, 3), "sigma": (0.2, 5)},
    "HalfNormal": {"value": (0.01, 5), "sigma": (0.2, 5)},
    "StudentT": {"value": (-5, 5), "nu": (0.5, 20), "mu": (-3, 3), "sigma": (0.2, 5)},
    "Gamma": {"value": (0.01, 5), "alpha": (0.2, 5), "beta": (0.2, 5)},
    "Beta": {"value": (0.01, 0.99), "alpha": (0.2, 5), "beta": (0.2, 5)},
}


def arrays(shape, low, high):
    return st_numpy.arrays("float64", shape, elements=st.floats(low, high)).map(
        lambda array: array.astype(FLOATX)
    )


@functools.lru_cache(None)
def functions(name, ranks, event):
    """Return functions of the log density, its sum and gradients: of ours, and the built-in's.

    They are compiled once for given numbers of dimensions, of the value and of each parameter, and
    for the shape of a vector that is one event.
    """
    twin = TWINS[name]
    value, *params = (tt.TensorType(FLOATX, [False] * rank)() for rank in ranks)
    given = dict(zip(twin.params, params))
    compiled = []
    with theano.config.change_flags(compute_test_value="off"):
        ours = pm.TFDensity.dist(twin.logp, given, shape=event)
        theirs = twin.builtin.dist(**given, shape=event)
        for dist in (ours, theirs):
            total = dist.logp_sum(value)
            # A joint density of vectors has its sum only, as long as it has no name.
            pointwise = [] if event else [dist.logp(value)]
            gradients = tt.grad(total, [value, *params])
            if name == "MvNormal":
                # Theano and TensorFlow share out the gradient by a symmetric matrix differently.
                gradients[-1] += gradients[-1].T
            compiled.append(theano.function([value, *params], [*pointwise, total, *gradients]))
    return compiled


def assert_equal_numbers(name, arguments):
    event = np.shape(arguments[1]) if TWINS[name].shape else ()
    ours, theirs = functions(name, tuple(np.ndim(a) for a in arguments), event)
    for got, expected in zip(ours(*arguments), theirs(*arguments)):
        assert got.dtype == expected.dtype == FLOATX
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("name", RANGES)
@quick
@given(data=st.data())
def test_univariate_density_and_gradient_equal_the_builtin(name, data):
    shape = data.draw(st_numpy.array_shapes(min_dims=0, max_dims=2, max_side=4))
    arguments = []
    for label, (low, high) in RANGES[name].items():
        as_value = label == "value" or data.draw(st.booleans())
        arguments.append(data.draw(arrays(shape if as_value else (), low, high)))
    assert_equal_numbers(name, arguments)


sizes = st.integers(2, 4)


@quick
@given(data=st.data(), n=sizes, rows=st.none() | st.integers(1, 4))
def test_mv_normal_density_and_gradient_equal_the_builtin(data, n, rows):
    value = data.draw(arrays((n,) if rows is None else (rows, n), -3, 3))
    factor = data.draw(arrays((n, n), -0.5, 0.5))
    cov = (factor @ factor.T + np.eye(n)).astype(FLOATX)
    assert_equal_numbers("MvNormal", [value, data.draw(arrays((n,), -3, 3)), cov])


@quick
@given(data=st.data(), n=sizes, rows=st.none() | st.integers(1, 4))
def test_dirichlet_density_and_gradient_equal_the_builtin(data, n, rows):
    value = data.draw(arrays((n,) if rows is None else (rows, n), 0.05, 1))
    value = (value / value.sum(axis=-1, keepdims=True)).astype(FLOATX)
    assert_equal_numbers("Dirichlet", [value, data.draw(arrays((n,), 0.2, 5))])
