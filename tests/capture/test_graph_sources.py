"""Three densities, written in every way in which people write graphs of TensorFlow 1."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from source_densities import (
    DENSITIES,
    assert_same_numbers,
    graph_with_a_variable,
    model_of,
    named,
    placeholders,
)

v1 = tf.compat.v1

# -- the rows: each declares the density d, given PyMC3's p and q ------------------------------

ROWS = {}


def row(declare):
    ROWS[declare.__name__] = declare
    return declare


@row
def graph_of_placeholders(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t, p_t, q_t = placeholders(d)
        logp = d.function(y_t, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, feed_dict={y_t: d.y})


@row
def placeholders_with_defaults(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t = v1.placeholder_with_default(d.y, d.y.shape)
        p_t, q_t = (v1.placeholder_with_default(np.ones(x.shape), x.shape) for x in (d.p, d.q))
        logp = d.function(y_t, p_t, q_t)  # y keeps its default
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


def _variables(d, p, q, use_resource):
    with tf.Graph().as_default() as graph:
        y_t = v1.get_variable("y", initializer=d.y, use_resource=use_resource)
        p_t, q_t = (
            v1.get_variable(name, initializer=np.ones(x.shape), use_resource=use_resource)
            for name, x in (("p", d.p), ("q", d.q))
        )
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            # y is frozen at its value; p and q are parameters.
            pm.TFDensity("y", d.function(y_t, p_t, q_t), {p_t: p, q_t: q}, session=session)


@row
def reference_variables(d, p, q, tmp_path):
    _variables(d, p, q, use_resource=False)


@row
def resource_variables(d, p, q, tmp_path):
    _variables(d, p, q, use_resource=True)


@row
def intermediate_tensors(d, p, q, tmp_path):
    with tf.Graph().as_default():
        y_t, start_p, start_q = placeholders(d)
        p_t, q_t, value = 2.0 * start_p, tf.exp(start_q), y_t + 1.0
        logp = d.function(value, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, value=value, observed=d.y)


@row
def default_session(d, p, q, tmp_path):
    with tf.Graph().as_default(), v1.Session().as_default() as session:
        offset = v1.get_variable("offset", initializer=d.y)
        session.run(v1.global_variables_initializer())
        y_t, p_t, q_t = placeholders(d)
        logp = d.function(y_t + offset, p_t, q_t)
        pm.TFDensity("y", logp, {p_t: p, q_t: q}, feed_dict={y_t: np.zeros(d.y.shape)})


@row
def interactive_session(d, p, q, tmp_path):
    with tf.Graph().as_default():
        session = v1.InteractiveSession()
        try:
            y_t = v1.get_variable("y", initializer=d.y)
            session.run(v1.global_variables_initializer())
            _, p_t, q_t = placeholders(d)
            pm.TFDensity("y", d.function(y_t, p_t, q_t), {p_t: p, q_t: q})
        finally:
            session.close()


@row
def meta_graph_restored_by_a_saver(d, p, q, tmp_path):
    graph, session = graph_with_a_variable(d)
    with graph.as_default(), session:
        v1.train.Saver().save(session, str(tmp_path / "model"))
    with tf.Graph().as_default() as restored, v1.Session() as session:
        v1.train.import_meta_graph(str(tmp_path / "model.meta")).restore(
            session, str(tmp_path / "model")
        )
        logp, p_t, q_t = named(restored, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def parameters_of_a_meta_graph(d, p, q, tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        p_t, q_t = (v1.get_variable(n, initializer=x) for n, x in (("p", d.p), ("q", d.q)))
        tf.identity(d.function(tf.constant(d.y), p_t, q_t), name="logp")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"))
    with tf.Graph().as_default() as restored:
        v1.train.import_meta_graph(str(tmp_path / "model.meta"))
        p_t, q_t = v1.global_variables()
        (logp,) = named(restored, "logp")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def frozen_graph_of_a_file(d, p, q, tmp_path):
    graph, session = graph_with_a_variable(d)
    with session:
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logp"]
        )
    tf.io.write_graph(frozen, str(tmp_path), "frozen.pb", as_text=False)
    with tf.Graph().as_default() as graph:
        graph_def = v1.GraphDef.FromString((tmp_path / "frozen.pb").read_bytes())
        tf.import_graph_def(graph_def, name="")
        logp, p_t, q_t = named(graph, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@row
def saved_model_in_a_session(d, p, q, tmp_path):
    graph, session = graph_with_a_variable(d)
    logp, p_t, q_t = named(graph, "logp", "p", "q")
    with graph.as_default(), session:
        v1.saved_model.simple_save(
            session, str(tmp_path / "model"), {"p": p_t, "q": q_t}, {"logp": logp}
        )
    with tf.Graph().as_default() as graph, v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        logp, p_t, q_t = named(graph, "logp", "p", "q")
        pm.TFDensity("y", logp, {p_t: p, q_t: q})


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: d.function.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_density_in_a_graph_has_the_numbers_of_eager_tensorflow(name, density, tmp_path):
    model = model_of(density, ROWS[name], tmp_path)
    assert_same_numbers(model, density)
