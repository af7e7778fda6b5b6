"""sample(): a whole PyMC3 model in one XLA program, drawn from by TensorFlow Probability's NUTS."""

from __future__ import annotations

import logging
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
from fastprogress.fastprogress import progress_bar
from pymc3.exceptions import SamplingError
from pymc3.util import check_start_vals, is_transformed_name, update_start_vals
from theano.graph.basic import ancestors

from pymc3_tf import chains as nuts_chains
from pymc3_tf import nuts
from pymc3_tf._version import __version__
from pymc3_tf.exceptions import CompilationError
from pymc3_tf.op import TensorFlowOp
from pymc3_tf.results import multi_trace, warn
from pymc3_tf.unconstrained import UnconstrainedModel

_log = logging.getLogger("pymc3")

# A log likelihood of more numbers than this is only computed when it is asked for: 1.6 GB.
_LOG_LIKELIHOOD_NUMBERS = 200_000_000
_JITTER_RETRIES = 10


def sample(
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    *,
    cores: Optional[int] = None,
    target_accept: float = 0.8,
    max_treedepth: int = 10,
    init: str = "jitter+adapt_diag",
    start: Union[None, Mapping[str, Any], Sequence[Mapping[str, Any]]] = None,
    random_seed: Union[None, int, Sequence[int]] = None,
    model: Optional[pm.Model] = None,
    progressbar: bool = True,
    chain_method: str = "parallel",
    jit_compile: bool = True,
    keep_untransformed: bool = False,
    discard_tuned_samples: bool = True,
    compute_convergence_checks: bool = True,
    idata_kwargs: Optional[Mapping[str, Any]] = None,
) -> az.InferenceData:
    """Draw from the posterior of a PyMC3 model that is compiled as a whole.

    The model, its priors, transforms and TFDensity variables, becomes one XLA program together with
    the No-U-Turn sampler of TensorFlow Probability. For the same posterior as that of
    ``pm.sample`` it needs some seconds to compile, and then a fraction of the time.

    Parameters
    ----------
    draws, tune : int
        Draws of each chain after the warmup, and in the warmup.
    chains : int
        Number of chains.
    cores : int, optional
        How many chains run at the same time. Default: one for each core of the machine.
    target_accept : float
        Mean acceptance rate to which the step size is tuned, between 0 and 1.
    max_treedepth : int
        A draw takes less than ``2 ** max_treedepth`` leapfrog steps.
    init : str
        ``"adapt_diag"`` or ``"adapt_full"`` for a diagonal or dense mass matrix, which is learnt
        in the warmup. With ``"jitter+"`` in front, chains start within one unit of the test point
        in each unconstrained direction.
    start : dict or sequence of dict, optional
        Where to start, by variable name; one for all chains, or one for each. What it lacks is
        taken from the model's test point.
    random_seed : int or sequence of int, optional
        One seed, or one for each chain. The same seed gives the same draws.
    model : pymc3.Model, optional
        Default: the model on the context stack.
    progressbar : bool
        Show a bar with the speed and the number of divergences.
    chain_method : {"parallel", "vectorized"}
        One thread for each chain, or all chains in one batch: for hundreds of them, or for a GPU.
    jit_compile : bool
        Compile with XLA. Without it, sampling is slower than ``pm.sample``.
    keep_untransformed : bool
        Keep the variables on the unconstrained scale too, such as ``sigma_log__``.
    discard_tuned_samples : bool
        Leave the warmup out. If False, it is in the groups ``warmup_posterior`` and
        ``warmup_sample_stats``.
    compute_convergence_checks : bool
        Log PyMC3's warnings about chains that did not converge.
    idata_kwargs : dict, optional
        Arguments of ``arviz.from_pymc3``: ``coords``, ``dims``, ``log_likelihood`` (a bool, or
        names of variables). The log likelihood is left out if it would take over 1.6 GB; True
        insists on it.

    Returns
    -------
    arviz.InferenceData
        With the groups posterior, sample_stats, log_likelihood, observed_data and constant_data.
        The attributes of the posterior tell the sampling time in seconds, and the versions.
        If sampling is interrupted from the keyboard, the draws so far.

    Raises
    ------
    pymc3_tf.exceptions.DiscreteVariableError
        If the model has discrete free variables.
    pymc3_tf.exceptions.CompilationError
        If XLA cannot compile a density. The text names it.
    NotImplementedError
        If the model has a Theano op that has no translation to TensorFlow. The text names it.
    pymc3.exceptions.SamplingError
        If the log density is not finite where a chain starts.
    ValueError
        If an argument is out of its range.
    ImportError
        If TensorFlow Probability is not installed.

    Notes
    -----
    The compiled program stays with the model: sampling it again, with other numbers of draws or
    with other data of the same shapes (``pm.set_data``), does not compile it again.

    Examples
    --------
    >>> import pymc3 as pm
    >>> import pymc3_tf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 3.0, 1.0)
    ...     idata = pymc3_tf.sample(500, tune=200, chains=2, random_seed=1, progressbar=False)
    >>> idata.posterior["x"].shape
    (2, 500)
    >>> abs(float(idata.posterior["x"].mean()) - 3.0) < 0.2
    True
    """
    model = pm.modelcontext(model)
    options = dict(idata_kwargs or {})
    _check(draws, tune, chains, target_accept, max_treedepth, init, chain_method, options)
    batch = chains if chain_method == "vectorized" else 0
    dense = init.endswith("full")
    unconstrained, program = _compiled(model, batch, max_treedepth, dense, jit_compile)
    data = unconstrained.data
    seeds = nuts_chains.chain_seeds(random_seed, chains)
    starts = _starts(model, unconstrained, program, data, start, seeds, init.startswith("jitter"))
    begin = time.perf_counter()
    bar = _ProgressBar(chains * (draws + tune)) if progressbar else None
    try:
        result = nuts_chains.sample(
            program,
            starts,
            draws,
            tune,
            data=data,
            target_accept=target_accept,
            random_seed=random_seed,
            cores=cores,
            callback=bar,
            keep_warmup=not discard_tuned_samples,
        )
    except tf.errors.OpError as error:
        _blame(model, error)
        raise
    seconds = time.perf_counter() - begin
    if result.interrupted:
        _log.warning("Sampling was interrupted. Returning the draws so far.")
    warmup = result.warmup.positions.shape[1] if result.warmup else 0
    positions, stats = result.draws.positions, result.draws.stats
    if result.warmup:
        positions = np.concatenate([result.warmup.positions, positions], axis=1)
        stats = {k: np.concatenate([result.warmup.stats[k], v], axis=1) for k, v in stats.items()}
    samples = unconstrained.values(positions, transformed=keep_untransformed)
    trace = multi_trace(
        model, samples, stats, tune=tune, warmup=warmup, seconds=seconds, chains=result.chains
    )
    likelihood = _log_likelihood(
        model, unconstrained, result.draws.positions, options.pop("log_likelihood", None)
    )
    idata = to_inference_data(trace, likelihood, keep_untransformed, options)
    if compute_convergence_checks:
        warn(trace, idata, target_accept=target_accept, max_treedepth=max_treedepth)
    return idata
