"""The linker: data, errors, and Theano's functions in TensorFlow mode."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from comparisons import SMALL, SQUARE, X, Y, assert_same_expression, with_gradient
from theano.graph.basic import Apply
from theano.graph.op import COp, Op

from pymc3_tf.linker import TFLinker, link, tf_funcify

# -- data -------------------------------------------------------------------------------------


def test_new_data_of_the_same_shape_needs_no_new_trace():
    with pm.Model() as model:
        x = pm.Data("x", X)
        y = pm.Data("y", Y)
        pm.Normal("obs", tt.dot(x, pm.Normal("beta", shape=2)), 1.0, observed=y)
    linked = link([model.logpt], model.vars)
    assert {s.name for s in linked.shared} == {"x", "y"}
    compiled = with_gradient(linked, jit_compile=True)
    beta = np.array([0.3, -0.4])
    for change in (0, 1.0):
        with model:
            pm.set_data({"x": X + change, "y": Y - change})
        value, _ = compiled(tf.constant(beta), data=[tf.constant(d) for d in linked.data])
        np.testing.assert_allclose(value, model.logp({"beta": beta}), rtol=1e-12)
    assert compiled.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(linked(beta)[0], value, rtol=1e-12)


def test_large_arrays_are_data_and_not_part_of_the_graph():
    x = np.linspace(0, 1, 5000)
    with pm.Model() as model:
        a = pm.Normal("a")
        pm.Normal("y", a * x, 1.0, observed=2 * x + 0.5)
        pm.TFDensity("z", lambda z, a: -tf.square(z - a), {"a": a}, feed_dict={"z": 3 * x})
    linked = link([model.logpt], model.vars)
    assert sum(d.nbytes for d in linked.data) == 3 * x.nbytes
    data = [tf.constant(d) for d in linked.data]
    compiled = with_gradient(linked)
    concrete = compiled.get_concrete_function(tf.constant(0.5, tf.float64), data=data)
    assert len(concrete.graph.as_graph_def().SerializeToString()) < x.nbytes
    value = tf.function(linked, jit_compile=True)(tf.constant(0.5, tf.float64), data=data)[0]
    np.testing.assert_allclose(value, model.logp({"a": 0.5}), rtol=1e-12)


# -- errors -----------------------------------------------------------------------------------


class Double(Op):
    """An op without a translation."""

    def make_node(self, x):
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = 2 * inputs[0]

    def __str__(self):
        return "Double"


def test_op_without_translation_is_named_with_the_variable_and_the_mend():
    class Other(Double):
        pass

    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        doubled = Other()(x)
        doubled.name = "twice"
        linked = link([tt.exp(doubled)], [x])
    mend = "Theano op Double .* computes 'twice'.* @pymc3_tf.linker.tf_funcify.register\\(Other\\)"
    with pytest.raises(NotImplementedError, match=mend):
        linked(SMALL)


def test_translation_can_be_registered():
    @tf_funcify.register(Double)
    def _(op, node):
        return lambda x: 2.0 * x

    assert_same_expression(lambda x: tt.exp(Double()(x)), SMALL, gradient=False)


def test_constants_are_computed_without_a_compiler(monkeypatch):
    monkeypatch.setattr(COp, "make_c_thunk", lambda *args: pytest.fail("it builds C++"))
    with theano.config.change_flags(compute_test_value="off", cxx="g++"):
        x = tt.dvector("x")
        linked = link([x + tt.log(tt.constant(SMALL + 3.0)).sum()], [x])
    (found,) = linked(tf.constant(SMALL))
    np.testing.assert_allclose(found, SMALL + np.log(SMALL + 3.0).sum(), rtol=1e-14)


def test_wrong_number_of_tensors_is_an_error():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector("x")
        linked = link([x.sum()], [x])
    with pytest.raises(TypeError, match=r"the function takes 1 tensors \(x\), not 2"):
        linked(SMALL, SMALL)


# -- Theano's side ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["TF", theano.compile.mode.Mode(TFLinker(jit_compile=True), "fast_run")]
)
def test_theano_function_in_tensorflow_mode_equals_the_default(mode):
    if not isinstance(mode, str):
        mode = mode.excluding("inplace", "fusion", "BlasOpt", "local_view_op")
    with theano.config.change_flags(compute_test_value="off"):
        x, n = tt.dmatrix("x"), tt.lscalar("n")
        outputs = [
            tt.dot(x, x.T),
            tt.grad(tt.log(tt.nnet.softmax(x)).sum(), x),
            n * 2,
            x,
            tt.ones(2),
        ]
        function = theano.function([x, n], outputs, mode=mode)
        expected = theano.function([x, n], outputs)
    for value in (SQUARE, X):
        for got, other in zip(function(value, 3), expected(value, 3)):
            assert isinstance(got, np.ndarray) and got.dtype == other.dtype
            np.testing.assert_allclose(got, other, rtol=1e-10)


def test_theano_function_in_tensorflow_mode_updates_shared_variables():
    with theano.config.change_flags(compute_test_value="off"):
        state, x = theano.shared(np.float64(1.0)), tt.dscalar("x")
        function = theano.function([x], state * 10, updates=[(state, state + x)], mode="TF")
    assert [float(function(2.0)), float(function(0.5))] == [10.0, 30.0]
    assert state.get_value() == 3.5


def test_results_of_tensorflow_mode_belong_to_the_caller():
    with theano.config.change_flags(compute_test_value="off"):
        x = tt.dvector()
        function = theano.function([x], x + 0, mode="TF")
    first = function(SMALL)
    first[:] = 0
    np.testing.assert_array_equal(function(SMALL), SMALL)


def test_model_functions_run_in_tensorflow_mode():
    with pm.Model() as model:
        groups = pm.Data("groups", np.array([0, 1, 2, 2, 1, 0]))
        alpha = pm.Normal("alpha", 0, pm.HalfNormal("sigma_alpha"), shape=3)
        mu = alpha[groups] + tt.dot(pm.Data("x", X), pm.Normal("beta", shape=2))
        pm.StudentT("y", 4, mu=mu, sigma=pm.Lognormal("sigma", 0.1, 0.5), observed=Y)
    function = model.logp_dlogp_function(mode="TF")
    expected = model.logp_dlogp_function()
    for f in (function, expected):
        f.set_extra_values({})
    point = function.dict_to_array(model.test_point) + 0.3
    for got, other in zip(function(point), expected(point)):
        np.testing.assert_allclose(got, other, rtol=1e-10)
