"""The linker: what a switch does not take has no part in the gradient, even if it is NaN."""

import numpy as np
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import MODE, WIDE, with_gradient

from pymc3_tf.linker import link

SWITCHES = {
    "log": lambda x: tt.switch(x > 0, tt.log(x), 0.0),
    "sqrt": lambda x: tt.switch(x > 0, tt.sqrt(x), x),
    "division": lambda x: tt.switch(tt.neq(x, 0), tt.sin(x) / x, 1.0),
    "power": lambda x: tt.switch(x > 0, x**-1.5, 0.0),
    "overflow": lambda x: tt.switch(x < 100, tt.exp(x), x),
    "product": lambda x: tt.switch(x < 100, x * tt.exp(x), x),
    "gammaln": lambda x: tt.switch(x > 0, tt.gammaln(x), x**2),
    "log1p_of_exp": lambda x: tt.switch(x > 50, x, tt.log1p(tt.exp(x))),
    "nested": lambda x: tt.switch(x > 0, tt.log(tt.sqrt(x)) * tt.exp(-1 / x), 0.0),
    "outside": lambda x: 3 * tt.sqr(tt.switch(x > 0, tt.log(x), x)),
    "scalar_base": lambda x: tt.switch(x > 0, tt.sqrt(x) * x[3], x),
    **{
        f"{name}_of_nan": lambda x, f=f: tt.switch(x > 0, f(tt.sqrt(x) / 9), 0.0)
        for name, f in {
            **{name: getattr(tt, name) for name in ("abs_", "sin", "cos", "arctan", "arcsinh")},
            **{name: getattr(tt, name) for name in ("tanh", "erf", "erfc")},
            **{name: getattr(tt.nnet, name) for name in ("sigmoid", "softplus", "softsign")},
        }.items()
    },
}


@pytest.mark.parametrize("name", SWITCHES)
def test_branch_that_is_not_taken_has_no_gradient(name):
    x = np.array([-3.0, 0.0, 0.5, 4.0, 800.0])
    if name == "gammaln":
        x = np.array([-3.0, -0.5, 0.5, 4.0, 8.0])
    with theano.config.change_flags(compute_test_value="off"):
        y = tt.dvector()
        total = SWITCHES[name](y).sum()
        expected = theano.function([y], theano.grad(total, y), mode=MODE)(x)
    assert np.all(np.isfinite(expected))
    for jit in (None, True):
        _, (got,) = with_gradient(link([total], [y]), jit_compile=jit)(tf.constant(x))
        np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("function", [tt.max, tt.min, lambda x: tt.max_and_argmax(x)[0]])
def test_extreme_that_is_nan_has_no_gradient_in_a_branch_that_is_not_taken(function):
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector()
        total = tt.switch(x[1] > 9.0, function(tt.sqrt(x)), x[1] ** 2)
    for jit in (None, True):
        _, (got,) = with_gradient(link([total], [x]), jit_compile=jit)(
            tf.constant([-1.0, 4.0], tf.float64)
        )
        np.testing.assert_array_equal(got, [0.0, 8.0])


def test_second_derivatives_pass_through_switches():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector()
        y = tt.switch(x > 0, tt.log(x) * tt.sqr(x), tt.exp(x)).sum()
        slope = theano.grad(y, x)
        expected = theano.function([x], theano.grad((slope * np.arange(6.0)).sum(), x))(WIDE)
    linked, value = link([y], [x]), tf.constant(WIDE)
    with tf.GradientTape() as outer:
        outer.watch(value)
        with tf.GradientTape() as inner:
            inner.watch(value)
            (got,) = linked(value)
        slope = tf.reduce_sum(inner.gradient(got, value) * np.arange(6.0))
    np.testing.assert_allclose(outer.gradient(slope, value), expected, rtol=1e-10)
