"""TensorFlow tensors evaluated over the draws of a trace."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import pymc3 as pm
import tensorflow as tf
import theano
import theano.tensor as tt
from theano.graph.basic import Variable

from pymc3_tf.bridge.entries import Entries, Given, given_by, native, pairs_of
from pymc3_tf.bridge.feeds import values_at
from pymc3_tf.bridge.op import apply, as_list
from pymc3_tf.bridge.stacks import drawn, evaluate_draws
from pymc3_tf.capture.capture import capture
from pymc3_tf.capture.keys import Input, graph_tensor, needed, tensors_of
from pymc3_tf.exceptions import DeclarationError, DeclarationTypeError
from pymc3_tf.model.density import TFDensity
from pymc3_tf.runtime import functions


def evaluate(
    tensors: Union[tf.Tensor, Sequence[Any], Mapping[str, Any]],
    trace: Any,
    params: Optional[Entries] = None,
    feed_dict: Optional[Entries] = None,
    *,
    model: Optional[pm.Model] = None,
    session: Optional[tf.compat.v1.Session] = None,
) -> Any:
    """Evaluate tensors of a TensorFlow graph for every draw of a posterior.

    Parameters
    ----------
    tensors : tf.Tensor or nest of tf.Tensor
        What to evaluate: predictions, derived quantities, the log density itself.
    trace : pymc3.backends.base.MultiTrace or arviz.InferenceData
        The draws.
    params : dict or list of pairs, optional
        Names of the trace's variables, by tensor or variable of the graph. Default: what the
        model's TFDensity variables declared for this graph, data included.
    feed_dict : dict or list of pairs, optional
        Arrays for other placeholders, such as the points at which to predict. They replace what
        the TFDensity declared.
    model : pymc3.Model, optional
        Where to look for the TFDensity variables. Default: the model of the trace, or the model on
        the context stack.
    session : tf.compat.v1.Session, optional
        Holds the values of the graph's variables that are not parameters. Default: TensorFlow's
        default session.

    Returns
    -------
    array or nest of array
        One for each tensor, with the dimensions (chain, draw) before its own, in the same list,
        tuple or dictionary.

    Raises
    ------
    pymc3_tf.exceptions.DeclarationError
        If a placeholder has no value, or a name is not in the trace.
    pymc3_tf.exceptions.DeclarationTypeError
        If a tensor has neither numbers nor booleans.
    pymc3_tf.exceptions.EvaluationError
        If TensorFlow fails at a draw. The text has the draw and its values. NaN is no failure here:
        it is a value of the tensors.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> import tensorflow as tf
    >>> with tf.Graph().as_default(), pm.Model() as model:
    ...     mu_t = tf.compat.v1.placeholder(tf.float64, [])
    ...     twice = 2.0 * mu_t
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     trace = pm.sample(
    ...         10,
    ...         tune=10,
    ...         chains=2,
    ...         cores=1,
    ...         progressbar=False,
    ...         return_inferencedata=False,
    ...         compute_convergence_checks=False,
    ...     )
    ...     values = pymc3_tf.evaluate(twice, trace, params={mu_t: "mu"})
    >>> values.shape
    (2, 10)
    >>> np.allclose(values.ravel(), 2 * trace["mu"])
    True
    """
    outputs = tensors_of(tensors, "tensors")
    for tensor in outputs:
        _require_numbers(tensor)
    graph = outputs[0].graph
    samples, chains = _samples(trace)
    if params is None:
        given = _declared(graph, _model(trace, model))
        if not given:
            raise DeclarationError(
                "no TFDensity of the model uses the graph of these tensors. Say which variables "
                "they depend on: params={tensor: 'name'}."
            )
    else:
        given = _named(params, samples)
    replaced = given_by(feed_dict, "feed_dict")
    given = [g for g in given if not any(g.key is r.key for r in replaced)] + replaced
    keys = [graph_tensor(g.key, graph, g.argument, "tensors") for g in given]
    given = [g for g, tensor in zip(given, keys) if needed(outputs, tensor, keys)]
    number = len(next(iter(samples.values())))
    first = values_at(given, {name: draws[0] for name, draws in samples.items()})
    inputs = [Input(g.key, str(v.dtype), v.shape, g.argument) for g, v in zip(given, first)]
    program = capture(outputs, inputs, session=session, differentiable=False, name="tensors")
    fixed = {
        spec.node: g.source
        for spec, g in zip(program.inputs, given)
        if not isinstance(g.source, Variable)
    }
    program = program.bind(fixed)
    sources = [g.source for g in given if isinstance(g.source, Variable)]
    draws = {x: samples[x.name] for x in drawn(sources, samples)}
    if any(spec.shape is None for spec in program.outputs):
        varying = [v for g, v in zip(given, first) if isinstance(g.source, Variable)]
        program = program.with_ranks([y.ndim for y in functions.evaluate(program, varying)])
    with theano.config.change_flags(compute_test_value="off"):
        variables = as_list(apply(program, sources))
    results = evaluate_draws(variables, draws, number, chains)
    arrays = [r.reshape(chains, number // chains, *r.shape[1:]) for r in results]
    return tf.nest.pack_sequence_as(tensors, arrays)


def _require_numbers(tensor: tf.Tensor) -> None:
    try:
        tt.TensorType(tensor.dtype.name, ())
    except TypeError as error:
        raise DeclarationTypeError(
            f"tensors: {tensor.name!r} is a tensor of dtype {tensor.dtype.name}, and only numbers "
            "and booleans can be evaluated for draws. Evaluate the tensors from which it is "
            "computed, and do the rest in Python."
        ) from error


def _samples(trace: Any) -> Tuple[Dict[str, np.ndarray], int]:
    """Return the draws of all chains in a row, by variable name, and the number of chains."""
    if hasattr(trace, "posterior"):
        posterior = trace.posterior.transpose("chain", "draw", ...)
        samples = {
            str(name): native(array.values).reshape(-1, *array.shape[2:])
            for name, array in posterior.data_vars.items()
        }
        return samples, posterior.sizes["chain"]
    return {name: native(trace.get_values(name)) for name in trace.varnames}, trace.nchains


def _model(trace: Any, model: Optional[pm.Model]) -> pm.Model:
    straces = getattr(trace, "_straces", None)
    if model is None and straces:
        model = next(iter(straces.values())).model
    try:
        return pm.modelcontext(model)
    except TypeError as error:
        raise DeclarationError(
            "the trace does not know its model. Pass model=, or params={tensor: 'name'}, or call "
            "inside `with model:`."
        ) from error


def _declared(graph: tf.Graph, model: pm.Model) -> List[Given]:
    """Return what the densities of a model declared for a graph."""
    found: List[Given] = []
    for variable in [*model.unobserved_RVs, *model.observed_RVs]:
        distribution = getattr(variable, "distribution", None)
        if isinstance(distribution, TFDensity):
            for entry in distribution.fed:
                known = any(entry.key is other.key for other in found)
                if getattr(entry.key, "graph", None) is graph and not known:
                    found.append(entry)
    return found


def _named(params: Entries, samples: Mapping[str, np.ndarray]) -> List[Given]:
    entries = []
    for key, name in pairs_of(params, "params"):
        if name not in samples:
            raise DeclarationError(
                f"params: the trace has no variable {name!r}. It has: {', '.join(samples)}."
            )
        variable = _placeholder(samples[name], name)
        entries.append(Given(key, variable, "params"))
    return entries


def _placeholder(values: np.ndarray, name: str) -> Variable:
    return tt.TensorType(str(values.dtype), [False] * (values.ndim - 1))(name)
