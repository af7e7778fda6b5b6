"""What InferenceData has of a model besides draws: pointwise log likelihood, and fed arrays."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
from pymc3.distributions.transforms import TransformedDistribution
from theano.graph.basic import Variable

from pymc3_tf.bridge.stacks import drawn, evaluate_draws
from pymc3_tf.model.density import TFDensity


def log_likelihood(
    model: pm.Model, draws: Mapping[str, Any], variables: Optional[Sequence[Variable]] = None
) -> Dict[str, np.ndarray]:
    """Evaluate the log likelihood of observed variables for many draws.

    Parameters
    ----------
    model : pymc3.Model
        The model of the draws.
    draws : dict of str to array
        The draws of the model's free variables and, if there are any, of deterministic variables,
        with the dimensions (chain, draw) before their own.
    variables : sequence of observed variables, optional
        Default: all of the model.

    Returns
    -------
    dict of str to array
        By name of the variable, one number for each element, with the dimensions (chain, draw)
        before its own. As in ArviZ, a joint density has one element, and missing values have nan.

    Raises
    ------
    ValueError
        If a variable depends on a free variable of which there are no draws.
    pymc3_tf.exceptions.EvaluationError
        If a TFDensity with ``errors="raise"`` fails at a draw. Where another one fails or is not a
        number, it is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc3_tf.model.inference_data import log_likelihood
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     y = pm.Normal("y", mu, 1.0, observed=np.array([1.0, 2.0, 3.0]))
    >>> log_likelihood(model, {"mu": np.zeros((4, 100))})["y"].shape
    (4, 100, 3)
    """
    if variables is None:
        variables = model.observed_RVs
    chains, number = np.shape(draws[next(iter(draws))])[:2]
    results = {}
    for variable in variables:
        logp = variable.logp_elemwiset
        rows = {}
        for x in drawn([logp], draws):
            array = np.asarray(draws[x.name])
            rows[x] = array.reshape(chains * number, *array.shape[2:])
        values = evaluate_draws([logp], rows, chains * number, chains)[0]
        values = values.reshape(chains, number, *(values.shape[1:] or (1,)))
        results[variable.name] = without_missing(variable, values)
    return results


def without_missing(variable: Variable, values: np.ndarray) -> np.ndarray:
    """Return the log likelihood of a variable with nan for its missing values."""
    mask = getattr(getattr(variable, "observations", None), "mask", None)
    if mask is None or not variable.missing_values:
        return values
    if mask.ndim > values.ndim - 2:
        mask = np.any(mask, axis=-1)
    return np.where(mask, np.nan, values)


def fed_arrays(model: pm.Model) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Return the arrays that densities of a model were fed with besides their value.

    Parameters
    ----------
    model : pymc3.Model

    Returns
    -------
    dict of str to array
        By the name of the placeholder or argument, with the name of the variable in front if that
        is taken.
    dict of str to str
        Names of arrays that have the shape of the variable that they were fed for, and so its
        dimensions: the name of that variable.
    """
    arrays: Dict[str, np.ndarray] = {}
    like = {}
    for variable in [*model.observed_RVs, *model.free_RVs]:
        distribution = getattr(variable, "distribution", None)
        if isinstance(distribution, TransformedDistribution):
            distribution = distribution.dist
        if not isinstance(distribution, TFDensity):
            continue
        for entry in distribution.constants:
            taken = entry.label in model.named_vars or entry.label in arrays
            name = f"{variable.name}_{entry.label}" if taken else entry.label
            arrays[name] = entry.source
            if np.shape(entry.source) == np.shape(variable.tag.test_value):
                like[name] = variable.name
    return arrays, like
