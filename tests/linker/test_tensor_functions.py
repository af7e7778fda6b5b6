"""The linker: functions of tensors have Theano's values and gradients."""

import numpy as np
import pymc3 as pm
import pytest
import scipy.special
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import ABOVE, SMALL, SQUARE, WIDE, assert_same_expression

from pymc3_tf.linker import link

MATH = {
    "logsumexp": (lambda x: pm.math.logsumexp(x.reshape((2, 3)), axis=1), WIDE),
    "logsumexp_all": (lambda x: pm.math.logsumexp(x), WIDE),
    "logaddexp": (lambda x: pm.math.logaddexp(x, x[::-1] * 0.3), WIDE),
    "logdiffexp": (lambda x: pm.math.logdiffexp(x, x - 0.5), WIDE),
    "invlogit": (lambda x: pm.math.invlogit(x), WIDE),
    "logit": (lambda x: pm.math.logit(x), ABOVE / 61),
    "log1pexp": (lambda x: pm.math.log1pexp(x), WIDE),
    "log1mexp": (lambda x: pm.math.log1mexp(x), ABOVE),
    "sigmoid": (lambda x: pm.math.sigmoid(x), WIDE),
    "log_sigmoid": (lambda x: tt.log(pm.math.sigmoid(x)), WIDE * 20),
    "probit": (lambda x: pm.math.probit(x), ABOVE / 61),
    "invprobit": (lambda x: pm.math.invprobit(x), SMALL * 4),
    "flatten_list": (lambda x: pm.math.flatten_list([x, x.reshape((2, 3)).T]), WIDE),
    "tround": (lambda x: pm.math.tround(x * 2.5), WIDE),
    "kronecker": (lambda a: pm.math.kronecker(a, a[:2, :2], tt.eye(2)), SQUARE),
    "kron_dot": (lambda a: pm.math.kron_dot([a, a[:2, :2]], tt.arange(6.0)), SQUARE),
    "kron_solve_lower": (
        lambda a: pm.math.kron_solve_lower([tt.tril(a), tt.tril(a[:2, :2])], tt.arange(6.0)),
        SQUARE,
    ),
    "kron_solve_upper": (
        lambda a: pm.math.kron_solve_upper([tt.triu(a), tt.triu(a[:2, :2])], tt.arange(6.0)),
        SQUARE,
    ),
    "kron_diag": (lambda x: pm.math.kron_diag(x, x[:2]), WIDE),
    "logdet": (lambda a: pm.math.logdet(a), SQUARE),
    "logdet_of_negative": (lambda a: pm.math.logdet(-a), SQUARE),
    "det": (lambda a: pm.math.det(a), SQUARE[::-1]),
    "matrix_inverse": (lambda a: pm.math.matrix_inverse(a), SQUARE),
    "matrix_dot": (lambda a: pm.math.matrix_dot(a, a, a[0]), SQUARE),
    "trace": (lambda a: pm.math.trace(a), SQUARE),
    "extract_diag": (lambda a: pm.math.extract_diag(a), SQUARE),
    "expand_packed_triangular": (lambda x: pm.math.expand_packed_triangular(3, x), WIDE),
    "expand_packed_upper": (lambda x: pm.math.expand_packed_triangular(3, x, lower=False), WIDE),
    "expand_packed_diagonal": (
        lambda x: pm.math.expand_packed_triangular(3, x, diagonal_only=True),
        WIDE,
    ),
    "batched_diag": (lambda a: pm.math.batched_diag(a), SQUARE),
    "batched_diag_of_matrices": (lambda a: pm.math.batched_diag(a.reshape((1, 3, 3)) ** 2), SQUARE),
    "block_diagonal": (lambda a: pm.math.block_diagonal([a, a[:2, 1:], a[:1]]), SQUARE),
    "cholesky": (lambda a: tt.slinalg.cholesky(a + a.T), SQUARE),
    "upper_cholesky": (lambda a: tt.slinalg.Cholesky(lower=False)(a + a.T), SQUARE),
    "solve": (lambda a: tt.slinalg.solve(a, a.T), SQUARE),
    "solve_vector": (lambda a: tt.slinalg.solve_lower_triangular(a, a[0]), SQUARE),
    "eigenvalues": (lambda a: tt.nlinalg.eigh(a + a.T)[0], SQUARE),
    "eigh": (
        lambda a: tt.nlinalg.matrix_dot(
            tt.nlinalg.eigh(a + a.T)[1] ** 2, tt.exp(tt.nlinalg.eigh(a + a.T)[0] / 3)
        ),
        SQUARE,
    ),
    "softmax": (lambda a: tt.nnet.softmax(a), SQUARE),
    "log_softmax": (lambda a: tt.log(tt.nnet.softmax(a * 30)), SQUARE),
    "softplus": (lambda x: tt.nnet.softplus(x), WIDE * 20),
    "sort": (lambda x: tt.sort(x * x[::-1]), WIDE),
    "argsort": (lambda x: tt.argsort(tt.sin(x)), WIDE),
    "cumsum": (lambda a: tt.cumsum(a, axis=1), SQUARE),
    "cumsum_flat": (lambda a: tt.cumsum(a), SQUARE),
    "cumprod": (lambda a: tt.cumprod(a + 1, axis=0), SQUARE),
    "diff": (lambda x: tt.extra_ops.diff(x, n=2), WIDE),
    "repeat": (lambda a: tt.repeat(a, 2, axis=1), SQUARE),
    "tile": (lambda a: tt.tile(a, (2, 1)), SQUARE),
    "max": (lambda a: tt.max(a, axis=0), SQUARE),
    "min": (lambda a: tt.min(a), SQUARE),
    "argmax": (lambda a: tt.argmax(a, axis=1), SQUARE),
    "max_and_argmax": (lambda a: tt.add(*tt.max_and_argmax(a, axis=1)), SQUARE),
    "prod": (lambda a: tt.prod(a + 1.0, axis=1), SQUARE),
    "mean_and_var": (lambda a: tt.mean(a, axis=0) + tt.var(a, axis=0), SQUARE),
    "any_all": (lambda a: tt.any(a > 1, axis=0) + 2 * tt.all(a > -1), SQUARE),
    "tensordot": (lambda a: tt.tensordot(a, a, axes=[[0], [1]]), SQUARE),
    "batched_dot": (lambda a: tt.batched_dot(a.reshape((3, 1, 3)), a.reshape((3, 3, 1))), SQUARE),
    "batched_dot_vectors": (lambda a: tt.batched_dot(a, a.T), SQUARE),
    "outer": (lambda x: tt.outer(x, x), WIDE),
    "alloc_diag": (lambda x: tt.diag(x), WIDE),
    "fill_diagonal": (lambda a: tt.fill_diagonal(a, a[0, 1]), SQUARE),
    "eye": (lambda a: a + tt.eye(3, k=1), SQUARE),
    "tril": (lambda a: tt.tril(a, -1) + tt.triu(a, 1), SQUARE),
    "split": (lambda x: tt.split(x, [1, 3, 2], 3)[1], WIDE),
    "stack": (lambda x: tt.stack([x, x**2], axis=1), WIDE),
    "moveaxis": (lambda a: a.reshape((3, 1, 3)).dimshuffle(2, "x", 0, 1), SQUARE),
    "flatten": (lambda a: tt.flatten(a.reshape((3, 3, 1)), 2), SQUARE),
    "searchsorted": (lambda x: tt.extra_ops.searchsorted(x, np.linspace(-31, 31, 8)), WIDE),
    "clip": (lambda x: tt.clip(x, -1.0, 2.0), WIDE),
    "ifelse": (lambda x: theano.ifelse.ifelse(tt.gt(x[0], 0), x[1:3], x[3:5]), WIDE),
    "stop_gradient": (lambda x: theano.gradient.disconnected_grad(x) * x, WIDE),
    "grad_clip": (lambda x: theano.gradient.grad_clip(x, -0.1, 0.1) ** 2, WIDE),
    "assert": (lambda x: tt.opt.Assert("positive")(x, tt.all(x > -100)), WIDE),
}


@pytest.mark.parametrize("name", MATH)
def test_functions_of_tensors_are_those_of_theano(name):
    build, array = MATH[name]
    loose = 1e-7 if name in ("eigh", "eigenvalues") else 1e-10
    assert_same_expression(build, array, rtol=loose)


def test_incomplete_beta_of_pymc3_is_translated():
    incomplete_beta = pm.distributions.dist_math.incomplete_beta
    with theano.config.change_flags(compute_test_value="off"):
        a, b, x = tt.dscalars("abx")
        linked = link([incomplete_beta(a, b, x)], [a, b, x])
    for jit in (None, True):
        compiled = tf.function(linked, jit_compile=jit)
        for point in [(2.0, 3.0, 0.4), (0.5, 0.7, 0.9), (20.0, 3.0, 0.2)]:
            got = compiled(*(tf.constant(x, tf.float64) for x in point))[0]
            np.testing.assert_allclose(got, scipy.special.betainc(*point), rtol=1e-10)


def test_graph_within_a_graph_keeps_its_own_gradient():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector()
        plain = theano.compile.builders.OpFromGraph([x], [tt.exp(x)])
        other = theano.compile.builders.OpFromGraph(
            [x], [tt.exp(x)], grad_overrides=lambda inputs, grads: [grads[0] * 7 * inputs[0]]
        )
    assert_same_expression(lambda x: plain(x) * x, SMALL)
    assert_same_expression(lambda x: other(x) * x, SMALL)
