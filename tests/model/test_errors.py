"""Bad input is refused at declaration, by a text that names the culprit and the mend."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
import theano
import theano.tensor as tt
from support import tf_normal

import pymc3_tf
from pymc3_tf import TensorFlowOp, exceptions
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError, EvaluationError

v1 = tf.compat.v1
ONE = np.float64(1.0)
EAGER = tf.constant(1.0)


def normal(value, mu):
    return tf_normal(value, mu, ONE)


@pytest.fixture(autouse=True)
def model():
    """Give every test a model and a graph of its own."""
    with tf.Graph().as_default(), pm.Model() as model:
        pm.Normal("mu", 0.0, 1.0)
        yield model


def placeholders(*names, dtype=tf.float64, shape=()):
    return [v1.placeholder(dtype, shape, name=name) for name in names]


def test_several_unfed_placeholders_are_named(model):
    a, b, c = placeholders("a", "b", "c")
    with pytest.raises(
        exceptions.UnfedPlaceholderError, match="'b', 'c'.*name it with value=.*in params"
    ):
        pm.TFDensity("y", a * b * c, {a: model["mu"]})


def test_unfed_placeholder_is_named_when_the_value_is_given(model):
    a, b, c = placeholders("a", "b", "c")
    with pytest.raises(
        exceptions.UnfedPlaceholderError, match="'c', which has no value.*params or data in feed_di"
    ):
        pm.TFDensity("y", a * b * c, {a: model["mu"]}, value=b)


def test_unfed_argument_is_named(model):
    with pytest.raises(exceptions.UnfedPlaceholderError, match="argument 'x'.*into params or feed"):
        pm.TFDensity("y", lambda y, x, mu: y * x * mu, {"mu": model["mu"]})


def test_key_that_is_not_in_the_graph_is_refused(model):
    (a,) = placeholders("a")
    with tf.Graph().as_default():
        (elsewhere,) = placeholders("elsewhere")
    for argument in ("params", "feed_dict"):
        with pytest.raises(
            DeclarationError, match="'elsewhere', which is not in the graph of logp"
        ):
            pm.TFDensity("y", a * a, **{argument: {elsewhere: 1.0}})


def test_key_that_is_no_argument_is_refused_with_those_that_are(model):
    with pytest.raises(DeclarationError, match="'m' is not an argument of logp.*: value, mu"):
        pm.TFDensity("y", normal, {"m": model["mu"]})


def test_name_is_refused_as_the_key_of_a_graph(model):
    (a,) = placeholders("a")
    with pytest.raises(DeclarationTypeError, match=r"get_tensor_by_name\('a:0'\)"):
        pm.TFDensity("y", a * a, {"a": model["mu"]})


def test_tensor_is_refused_as_the_key_of_a_function(model):
    (a,) = placeholders("a")
    with pytest.raises(DeclarationTypeError, match="keys are the names of its arguments"):
        pm.TFDensity("y", normal, {a: model["mu"]})


def test_key_of_another_type_is_refused(model):
    (a,) = placeholders("a")
    with pytest.raises(DeclarationTypeError, match="key of type int: 3"):
        pm.TFDensity("y", a * a, {3: model["mu"]})


def test_key_in_both_dictionaries_is_refused(model):
    a, b = placeholders("a", "b")
    with pytest.raises(DeclarationError, match="'a' is both in params and in feed_dict"):
        pm.TFDensity("y", a * b, {a: model["mu"]}, feed_dict={a: 1.0})


def test_params_have_to_be_a_dict(model):
    with pytest.raises(DeclarationTypeError, match="params is a list. Write a dict"):
        pm.TFDensity("y", normal, [model["mu"]])


def test_value_in_feed_dict_and_in_observed_is_refused(model):
    with pytest.raises(DeclarationError, match="both in feed_dict and in observed. Give it once"):
        pm.TFDensity("y", normal, {"mu": model["mu"]}, feed_dict={"value": 1.0}, observed=2.0)


def test_observed_is_refused_where_no_value_is_left(model):
    a, b = placeholders("a", "b")
    with pytest.raises(DeclarationError, match="no value left for it.*with value="):
        pm.TFDensity("y", a * b, {a: model["mu"]}, feed_dict={b: 1.0}, observed=2.0)


def test_unnamed_distribution_takes_no_data(model):
    with pytest.raises(DeclarationError, match="TFDensity.dist has no data.*out of feed_dict"):
        pm.TFDensity.dist(normal, {"mu": model["mu"]}, feed_dict={"value": 1.0})


def test_joint_density_of_a_vector_is_refused_inside_another_distribution(model):
    """PyMC3 would return a wrong number, as it does for its own MvNormal."""

    def joint(value, mu):
        return tf.reduce_sum(normal(value, mu))

    component = pm.TFDensity.dist(joint, {"mu": model["mu"]}, shape=3)
    with pytest.raises(DeclarationError, match="joint over several.*Return one number for each"):
        pm.Mixture("m", [0.5, 0.5], [component, pm.Normal.dist(0.0, 1.0)], observed=np.ones(3))
    with pytest.raises(DeclarationError, match="joint over several.*declare the variable by its"):
        pm.Bound(pm.TFDensity, lower=0.0)("b", joint, {"mu": model["mu"]}, shape=3)


@pytest.mark.parametrize("use_resource", [True, False])
def test_uninitialized_variable_is_named(model, use_resource):
    (a,) = placeholders("a")
    scale = v1.get_variable("scale", [], tf.float64, use_resource=use_resource)
    with v1.Session() as session:
        with pytest.raises(
            exceptions.UninitializedVariableError, match="'scale'.*global_variables_initializer"
        ):
            pm.TFDensity("y", a * scale, session=session)


def test_parameter_variables_need_no_value(model):
    """What PyMC3 will sample is not read from the session."""
    (a,) = placeholders("a")
    scale = v1.get_variable("scale", [], tf.float64)
    y = pm.TFDensity("y", -a * a * scale, {scale: pm.HalfNormal("s")})
    np.testing.assert_allclose(y.logp({"y": 2.0, "mu": 0.0, "s_log__": np.log(3.0)}), -12.0)


def test_missing_session_is_asked_for(model):
    (a,) = placeholders("a")
    scale = v1.get_variable("scale", [], tf.float64)
    with pytest.raises(exceptions.MissingSessionError, match="'scale'.*Pass session="):
        pm.TFDensity("y", a * scale)


def test_session_of_another_graph_is_refused(model):
    (a,) = placeholders("a")
    scale = v1.get_variable("scale", [], tf.float64)
    with v1.Session(graph=tf.Graph()) as session:
        with pytest.raises(exceptions.MissingSessionError, match="another graph.*graph=logp.graph"):
            pm.TFDensity("y", a * scale, session=session)


def test_feed_has_to_fit_the_shape_of_its_placeholder(model):
    (a,) = placeholders("a")
    (x,) = placeholders("x", shape=[3])
    with pytest.raises(
        DeclarationError, match=r"feed_dict: 'x' has shape \(3,\).*value has shape \(4,\)"
    ):
        pm.TFDensity("y", a * tf.reduce_sum(x), feed_dict={x: np.ones(4)})


def test_parameter_has_to_fit_the_shape_of_its_placeholder(model):
    a, b = placeholders("a", "b")
    with pytest.raises(DeclarationError, match=r"params: 'a' has shape \(\).*value has shape \(2,"):
        pm.TFDensity("y", a * b, {a: pm.Normal("two", shape=2)})


def test_feed_has_to_fit_the_dtype_of_its_placeholder(model):
    (a,) = placeholders("a")
    (x,) = placeholders("x", dtype=tf.int32)
    with pytest.raises(
        DeclarationTypeError, match="'x' is int32.*float64. Make the placeholder fl"
    ):
        pm.TFDensity("y", a * tf.cast(x, tf.float64), feed_dict={x: 1.5})


def test_mixed_dtypes_inside_a_function_are_explained(model):
    with pytest.raises(DeclarationError, match="could not be traced with .*mu: float64.*float32"):
        pm.TFDensity("y", lambda value, mu: value * mu * tf.constant(1.0), {"mu": model["mu"]})


@pytest.mark.parametrize(
    "mu, x, text",
    [
        (1, [1.0, 2.0], "Integers: mu. .*give 1.0 instead of 1"),
        (1.0, [1, 2], r"Integers: x. .*np.asarray\(x, float\) instead of x"),
    ],
)
def test_integers_among_other_numbers_are_named(model, mu, x, text):
    with pytest.raises(DeclarationError, match=text):
        pm.TFDensity("y", lambda value, mu, x: value * mu * x, {"mu": mu}, feed_dict={"x": x})
    with pytest.raises(DeclarationError) as caught:  # an index is no reason for advice
        pm.TFDensity("y", lambda value, i: tf.reshape(value[i], [7]), {"i": 1}, shape=3)
    assert "Integers" not in str(caught.value)


@pytest.mark.parametrize(
    "value, text", [("three", "'a' is 'three'"), (None, "'a' is None"), ({}, "'a' is {}")]
)
def test_parameter_that_is_no_number_is_refused(model, value, text):
    a, b = placeholders("a", "b")
    with pytest.raises(DeclarationTypeError, match=text + ".*Give a PyMC3 variable") as caught:
        pm.TFDensity("y", a * b, {a: value})
    assert "params" in str(caught.value)


def test_masked_covariate_is_refused(model):
    a, b = placeholders("a", "b")
    masked = np.ma.masked_invalid([1.0, np.nan])
    with pytest.raises(DeclarationError, match="feed_dict: 'b' has masked entries"):
        pm.TFDensity("y", a * b, feed_dict={b: masked})


def test_parameter_without_effect_is_refused(model):
    a, b = placeholders("a", "b")
    with pytest.raises(DeclarationError, match="logp does not depend on 'b', which params gives"):
        pm.TFDensity("y", a * a, {b: model["mu"]})
    with pytest.raises(DeclarationError, match="logp does not depend on 'mu', which params gives"):
        pm.TFDensity("y", lambda value, mu: value * value, {"mu": model["mu"]})


def test_integer_log_density_is_refused(model):
    (a,) = placeholders("a")
    with pytest.raises(DeclarationTypeError, match="logp is int32.*tf.cast"):
        pm.TFDensity("y", tf.cast(a, tf.int32))


def test_integer_value_is_refused(model):
    (a,) = placeholders("a", dtype=tf.int32)
    with pytest.raises(DeclarationTypeError, match="value is int32, and TFDensity is continuous"):
        pm.TFDensity("y", tf.cast(a, tf.float64))


def test_shape_that_is_neither_scalar_nor_the_values_is_refused(model):
    with pytest.raises(
        DeclarationError, match=r"logp has shape \(3,\), and the value has shape \(\).*reduce_sum"
    ):
        pm.TFDensity("y", lambda value: value * tf.ones(3, tf.float64))
    (x,) = placeholders("x", shape=[None])
    with pytest.raises(
        DeclarationError, match=r"logp has shape \(2,\), and the value has shape \(5,\)"
    ):
        pm.TFDensity("z", x[:2], observed=np.ones(5))


def test_several_tensors_are_no_log_density(model):
    with pytest.raises(DeclarationError, match="logp has 2 tensors .*Give one"):
        pm.TFDensity("y", lambda value: (value, value))


@pytest.mark.parametrize("function", [tf.py_function, tf.numpy_function])
def test_python_op_is_refused(model, function):
    (a,) = placeholders("a")
    logp = tf.reshape(function(lambda x: x, [a], tf.float64), [])
    with pytest.raises(exceptions.UnsupportedOpError, match="PyFunc.*Write it with TensorFlow ops"):
        pm.TFDensity("y", logp)


def test_lookup_table_is_refused(model):
    (a,) = placeholders("a")
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2.0]), 0.0)
    logp = a * tf.cast(table.lookup(tf.constant(1)), tf.float64)
    with pytest.raises(exceptions.UnsupportedOpError, match="Table.*tf.gather"):
        pm.TFDensity("y", logp)


def test_random_op_is_refused(model):
    (a,) = placeholders("a")
    with pytest.raises(exceptions.UnsupportedOpError, match="RandomStandardNormal.*stateless"):
        pm.TFDensity("y", a * tf.random.normal([], dtype=tf.float64))


def test_random_op_inside_a_function_is_refused(model):
    @tf.function
    def noisy(value):
        return value * tf.random.normal([], dtype=tf.float64)

    with pytest.raises(exceptions.UnsupportedOpError, match="RandomStandardNormal.*stateless"):
        pm.TFDensity("y", noisy)


def test_queue_is_refused(model):
    (a,) = placeholders("a")
    queue = v1.FIFOQueue(3, [tf.float64], [[]])
    with pytest.raises(exceptions.UnsupportedOpError, match="Queue.*hand it over by feed_dict"):
        pm.TFDensity("y", a * queue.dequeue())


def test_op_without_gradient_is_refused(model):
    (a,) = placeholders("a")
    image = tf.reshape(a, [1, 1, 1, 1]) * tf.ones([1, 2, 2, 1], tf.float64)
    small = tf.raw_ops.ResizeArea(images=image, size=[1, 1])
    with pytest.raises(exceptions.UnsupportedOpError, match="ResizeArea.*tf.custom_gradient"):
        pm.TFDensity("y", tf.reduce_sum(small))


def test_graph_over_two_gigabytes_is_refused(model, monkeypatch):
    """TensorFlow's own error; 2 GB of constants would be too much for a test."""
    (a,) = placeholders("a")

    def too_large(*args, **kwargs):
        raise ValueError("GraphDef cannot be larger than 2GB.")

    logp = a * a
    monkeypatch.setattr(type(logp.graph), "as_graph_def", too_large)
    with pytest.raises(exceptions.GraphSizeError, match="over 2 GB.*placeholders.*feed_dict"):
        pm.TFDensity("y", logp)


def test_finalized_graph_is_refused(model):
    (a,) = placeholders("a")
    logp = a * a
    logp.graph.finalize()
    with pytest.raises(DeclarationError, match="graph of logp is finalized.*before graph.finalize"):
        pm.TFDensity("y", logp)


def test_source_of_another_type_is_refused(model):
    with pytest.raises(DeclarationTypeError, match="tf.Tensor of a graph or a function.*ndarray"):
        pm.TFDensity("y", np.ones(3))


def test_function_that_returns_no_tensor_is_refused(model):
    with pytest.raises(DeclarationTypeError, match="returned float, not a tensor"):
        pm.TFDensity("y", lambda value: 1.0)


def test_eager_tensor_is_refused_as_a_source():
    with pytest.raises(DeclarationTypeError, match="logp is an eager tensor.*Write the function"):
        pm.TFDensity("y", EAGER)


def test_tensors_of_two_graphs_are_refused():
    (a,) = placeholders("a")
    with tf.Graph().as_default():
        (b,) = placeholders("b")
    with pytest.raises(DeclarationError, match="outputs has tensors of different graphs"):
        TensorFlowOp([a, b], [a, b])


def test_unknown_rank_of_an_op_is_refused():
    x = v1.placeholder(tf.float64)
    with pytest.raises(DeclarationError, match="does not know the rank of outputs.*ensure_shape"):
        TensorFlowOp(2.0 * x, [x])


def test_unknown_rank_of_a_density_is_settled_at_the_test_point(model):
    value = v1.placeholder(tf.float64)
    y = pm.TFDensity("y", -0.5 * value**2, observed=np.array([1.0, 2.0]))
    np.testing.assert_allclose(y.logp_elemwise({"mu": 0.0}), [-0.5, -2.0])


def test_inputs_of_an_op_have_to_be_declared_and_to_fit():
    op = TensorFlowOp(lambda x: 2.0 * x, [tf.TensorSpec([2], tf.float64)])
    with pytest.raises(DeclarationTypeError, match="takes 1 inputs \\(x\\), not 2"):
        op(1.0, 2.0)
    with pytest.raises(DeclarationError, match="'x' has 1 dimensions in the graph.*has 0"):
        op(1.0)
    with pytest.raises(DeclarationError, match="'x' has 1 dimensions in the graph.*has 2"):
        op(np.ones([2, 1]))
    integers = TensorFlowOp(lambda x: 2 * x, [tf.TensorSpec([], tf.int32)])
    with pytest.raises(DeclarationTypeError, match="'x' is int32.*float64"):
        integers(np.float64(1.5))
    with pytest.raises(DeclarationTypeError, match="give a tf.TensorSpec"):
        TensorFlowOp(lambda x: 2.0 * x, [1.0])
    with pytest.raises(DeclarationError, match="inputs has 2 entries.*1 arguments"):
        TensorFlowOp(lambda x: x, [tf.TensorSpec([], tf.float64)] * 2)
    with pytest.raises(DeclarationError, match="feed_dict has 'z'.*not an argument of outputs"):
        TensorFlowOp(lambda x: x, [tf.TensorSpec([], tf.float64)], feed_dict={"z": 1.0})


def test_feeds_of_an_op_have_to_be_data():
    def op(t):
        return TensorFlowOp(lambda x, t: x * t, [tf.TensorSpec([], tf.float64)], {"t": t})

    with pytest.raises(DeclarationError, match="feed_dict: 't' has masked entries"):
        op(np.ma.masked_greater([1.0, 9.0], 5.0))
    with pytest.raises(DeclarationTypeError, match="'t' is a Theano variable.*'t' into inputs"):
        op(theano.shared(np.ones(2)))
    with pytest.raises(DeclarationTypeError, match="feed_dict: 't' is 'one'.*numeric array"):
        op("one")
    with pytest.raises(DeclarationTypeError, match="feed_dict is a list. Write a dict"):
        TensorFlowOp(lambda x, t: x * t, [tf.TensorSpec([], tf.float64)], ["t"])


def test_shape_that_changed_after_the_declaration_is_an_error():
    """TensorFlow itself would compute a wrong number: the declared shape is in the graph."""
    x = v1.placeholder(tf.float64, [3], name="x")
    op = TensorFlowOp(tf.reduce_mean(x), [x])
    with pytest.raises(ValueError, match=r"'x' was declared with shape \(3,\).*shape \(4,\)"):
        op(np.ones(4)).eval()


def test_evaluate_refuses_unknown_names(model):
    (a,) = placeholders("a")
    trace = pm.sample(5, tune=5, chains=1, cores=1, progressbar=False, return_inferencedata=False,
                      compute_convergence_checks=False)  # fmt: skip
    with pytest.raises(DeclarationError, match="params: the trace has no variable 'nu'.*mu"):
        pymc3_tf.evaluate(2.0 * a, trace, params={a: "nu"})
    (b,) = placeholders("b")
    with pytest.raises(exceptions.UnfedPlaceholderError, match="tensors needs the placeholder 'b'"):
        pymc3_tf.evaluate(a * b, trace, params={a: "mu"})


def test_all_errors_but_that_of_a_lost_worker_are_value_or_type_errors():
    """PyMC3's own handling has to catch them; what is no fault of arguments, it must not."""
    classes = [error for error in vars(exceptions).values() if isinstance(error, type)]
    for error in classes:
        if issubclass(error, Exception) and not issubclass(error, Warning):
            caught = issubclass(error, (ValueError, TypeError))
            assert caught == (error is not exceptions.WorkerLostError), error


@pytest.mark.parametrize("index", [-1, 3])
def test_index_out_of_bounds_is_an_error_with_its_gradient_too(model, index):
    # TensorFlow's gradient of tf.gather is zero for an index of -1.
    a = theano.shared(np.array([0.3, 1.2, -0.7]))
    density = pm.TFDensity("density", lambda a: tf.gather(a, index), {"a": a})
    function = theano.function([], [density.logpt, tt.grad(density.logpt, a)])
    with pytest.raises(EvaluationError, match=rf"indices = {index} is not in \[0, 3\)"):
        function()


def test_error_inside_of_tensorflow_is_explained_whatever_its_type(model):
    with pytest.raises(DeclarationError, match="could not be traced.*IndexError"):
        pm.TFDensity("y", lambda y: tf.scan(lambda s, e: s + e, y), observed=1.0)


def test_one_missing_number_is_refused(model):
    with pytest.raises(DeclarationError, match="one number, and it is missing.*free variable"):
        pm.TFDensity("y", lambda y: -tf.square(y), observed=np.nan)
