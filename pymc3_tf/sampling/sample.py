"""sample(): a whole PyMC3 model in one XLA program, drawn from by TensorFlow Probability's NUTS."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
from cachetools import LRUCache

from pymc3_tf.nuts import sampler as nuts
from pymc3_tf.nuts import trees
from pymc3_tf.private_tensorflow import eager_mode, is_eager_by_default
from pymc3_tf.runtime import failures, forks, memory
from pymc3_tf.sampling import arguments, culprits
from pymc3_tf.sampling import chains as nuts_chains
from pymc3_tf.sampling.progress import ProgressBar
from pymc3_tf.sampling.starts import chain_starts, check_values
from pymc3_tf.sampling.traces import finish
from pymc3_tf.sampling.unconstrained import UnconstrainedModel

_Function = TypeVar("_Function", bound=Callable[..., Any])

_log = logging.getLogger("pymc3")

# So many compiled programs stay with a model: of different shapes of its data, for example.
_PROGRAMS = 4
# A log likelihood of more numbers than this is only computed when it is asked for: 1.6 GB.
_LOG_LIKELIHOOD_NUMBERS = 200_000_000


def outside_of_graphs(function: _Function) -> _Function:
    """Let a function run eagerly, also where users are about to build a graph."""

    @functools.wraps(function)
    def eagerly(*args: Any, **kwargs: Any) -> Any:
        name = f"pymc3_tf.{function.__name__}"
        if not is_eager_by_default():
            raise RuntimeError(
                f"{name} needs TensorFlow's eager execution, which is disabled. "
                "Leave out disable_eager_execution() or disable_v2_behavior(): graphs can be built "
                "within tf.Graph().as_default(). Or use pm.sample()."
            )
        if tf.inside_function():
            raise RuntimeError(
                f"{name} is called inside of a tf.function, which would run it "
                "only once, while it is traced. Call it outside."
            )
        # A graph of its own hides the devices and names of the graph that the user builds.
        with tf.Graph().as_default(), eager_mode():
            return function(*args, **kwargs)

    return cast(_Function, eagerly)


@outside_of_graphs
def sample(
    draws: int = 1000,
    tune: Union[int, str] = 1000,
    chains: int = 4,
    *,
    cores: Optional[int] = None,
    target_accept: float = 0.8,
    max_treedepth: int = 10,
    init: str = "jitter+adapt_diag_grad",
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
    **unknown: Any,
) -> az.InferenceData:
    """Draw from the posterior of a PyMC3 model that is compiled as a whole.

    The model, its priors, transforms and TFDensity variables, becomes one XLA program together with
    the No-U-Turn sampler of TensorFlow Probability. For the same posterior as that of
    ``pm.sample`` it needs some seconds to compile, and then a fraction of the time.

    Parameters
    ----------
    draws : int
        Draws of each chain after the warmup.
    tune : int or "auto"
        Draws of each chain in the warmup. With "auto", the warmup ends as soon as the mass matrix
        and the step size have settled and the chains agree: often after 100 draws, after 1,000 at
        the latest. Not for ``"adapt_diag"`` and ``"adapt_full"``.
    chains : int
        Number of chains.
    cores : int, optional
        How many chains run at the same time, each in a thread. Default: the number of cores that
        this process may use, which can be fewer than the machine has.
    target_accept : float
        Mean acceptance rate to which the step size is tuned, between 0 and 1.
    max_treedepth : int
        A draw takes less than ``2 ** max_treedepth`` leapfrog steps. At most 20.
    init : str
        How the mass matrix is learnt in the warmup. ``"adapt_diag_grad"``: a diagonal one, from the
        draws and gradients of all chains together. ``"adapt_lowrank"``: likewise, and up to 32
        directions along which parameters are correlated, for hundreds of parameters.
        ``"adapt_diag"``: a diagonal one, from the draws of each chain alone, as in Stan.
        ``"adapt_full"``: a dense one, likewise. With ``"jitter+"`` in front, chains start within
        one unit of the test point in each unconstrained direction.
    start : dict or sequence of dict, optional
        Where to start, by variable name; one for all chains, or one for each. Chains start there
        without jitter. What it lacks is taken from the model's test point.
    random_seed : int or sequence of int, optional
        One seed, or one for each chain. The same seed gives the same draws.
    model : pymc3.Model, optional
        Default: the model on the context stack.
    progressbar : bool
        Show draws, speed, divergences and the time that is left: as a bar in a notebook or a
        terminal, as a line now and then where the output goes to a file.
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
    **unknown
        There are no others: of an argument of ``pm.sample``, the error says what to do instead.

    Returns
    -------
    arviz.InferenceData
        With the groups posterior, sample_stats, log_likelihood, observed_data and constant_data.
        The attributes of the posterior tell the sampling time in seconds, how many draws the
        warmup took (``tuning_steps``), and the versions.
        If sampling is interrupted from the keyboard, the draws so far.

    Raises
    ------
    pymc3_tf.exceptions.DiscreteVariableError
        If the model has discrete free variables.
    pymc3_tf.exceptions.CompilationError
        If XLA cannot compile a density, or if it lives on a cluster. The text names it.
    pymc3_tf.exceptions.EvaluationError
        If an op fails where a chain starts, such as for an index out of bounds (the text names
        the variable), if it fails while sampling with ``jit_compile=False``, or if there is not
        enough memory.
    pymc3_tf.exceptions.StartError
        If the log density of a potential, or a gradient, is not finite where a chain starts.
    MemoryError
        If a limit on the memory of the process (``ulimit -v``) leaves no room to compile.
    NotImplementedError
        If the model has a Theano op that has neither a translation to TensorFlow nor a gradient.
        The text names it.
    pymc3.exceptions.SamplingError
        If the log density is not finite where a chain starts.
    TypeError
        If there is no such argument.
    ValueError
        If an argument is out of its range, or nothing of its kind.
    RuntimeError
        In a forked process, or if TensorFlow's eager execution is disabled.
    ImportError
        If TensorFlow Probability is not installed.

    Notes
    -----
    The compiled program stays with the model: sampling it again, with other numbers of draws or
    with other data of the same shapes (``pm.set_data``), does not compile it again.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 3.0, 1.0)
    ...     idata = pymc3_tf.sample(500, tune=200, chains=2, random_seed=1, progressbar=False)
    >>> idata.posterior["x"].shape
    (2, 500)
    >>> abs(float(idata.posterior["x"].mean()) - 3.0) < 0.2
    True
    """
    # Long, because each argument has a line above, and most of them one where it goes.
    arguments.refuse(unknown)
    forks.refuse("pymc3_tf.sample")
    memory.require_room()
    model = _checked_model(model)
    arguments.check_flags(
        progressbar=progressbar,
        jit_compile=jit_compile,
        keep_untransformed=keep_untransformed,
        discard_tuned_samples=discard_tuned_samples,
        compute_convergence_checks=compute_convergence_checks,
    )
    options = arguments.options_of(idata_kwargs)
    _check(draws, tune, chains, cores, target_accept, max_treedepth, init, chain_method)
    jitter, learning = init.startswith("jitter"), init.split("+")[-1]
    seeds = nuts_chains.chain_seeds(random_seed, chains)
    batch = chains if chain_method == "vectorized" else 0
    longest = nuts_chains.LONGEST_WARMUP if tune == "auto" else int(tune)
    progress = ProgressBar(chains * (draws + longest), shown=progressbar)
    with _explained(progress, model, jit_compile):
        with progress.step("translating the model to TensorFlow"):
            unconstrained, program = compiled_model(
                model, batch, max_treedepth, nuts_chains.INITS[learning], jit_compile
            )
        with progress.step("computing the model where chains start"):
            starts = chain_starts(model, unconstrained, program, start, seeds, jitter)
            observed = _tried(model, unconstrained, starts, chains * draws, options)
        with progress.step("compiling the model"):
            nuts_chains.prepare(program, starts, unconstrained.data)
        begin = time.perf_counter()
        result = nuts_chains.run_chains(
            program,
            starts,
            draws,
            tune,
            init=learning,
            data=unconstrained.data,
            target_accept=target_accept,
            random_seed=random_seed,
            cores=cores,
            callback=progress,
            keep_warmup=not discard_tuned_samples,
        )
    seconds = time.perf_counter() - begin
    _record_failures(program)
    if result.interrupted:
        progress.stop()
        _log.warning("Sampling was interrupted. These are the draws so far.")
    checks = {
        "target_accept": target_accept,
        "max_treedepth": max_treedepth,
        "automatic": tune == "auto",
    }
    return finish(
        model,
        unconstrained,
        result,
        observed,
        tune=result.tune,
        seconds=seconds,
        checks=checks if compute_convergence_checks else None,
        keep_untransformed=keep_untransformed,
        **options,
    )


@contextlib.contextmanager
def _explained(progress: ProgressBar, model: pm.Model, jit_compile: bool) -> Iterator[None]:
    """Remove the bar where something fails, and say what did."""
    try:
        yield
    except BaseException as error:
        progress.remove()
        if isinstance(error, tf.errors.OpError):
            # Without TensorFlow's own, which is long and says nothing more.
            raise culprits.of_sampling(model, error, jit_compile) from None
        raise


def _checked_model(model: Optional[pm.Model]) -> pm.Model:
    model = pm.modelcontext(model)
    if not isinstance(model, pm.Model):
        raise TypeError(f"model is {model!r}. Give a pm.Model, or call inside of `with model:`.")
    culprits.refuse_clusters(model)
    if not model.vars:
        raise ValueError(
            "the model has no free variables: all are observed. Declare what is to be sampled, "
            "such as pm.Normal('mu', 0.0, 1.0), in the model."
        )
    return model


def _record_failures(sampler: nuts.CompiledSampler) -> None:
    """Count what failed in parts of the model that XLA could not compile."""
    for island in sampler.islands:
        number, text = island.take_failures()
        if number:
            failures.record(str(island.number), f"in {island.label}: {text}", number)


def _check(
    draws: int,
    tune: Union[int, str],
    chains: int,
    cores: Optional[int],
    target_accept: float,
    max_treedepth: int,
    init: str,
    chain_method: str,
) -> None:
    automatic = isinstance(tune, str) and tune == "auto"
    counts: List[Tuple[str, Any, int]] = [
        ("draws", draws, 1),
        ("tune", 0 if automatic else tune, 0),
        ("chains", chains, 1),
        ("cores", 1 if cores is None else cores, 1),
        ("max_treedepth", max_treedepth, 1),
    ]
    for name, value, least in counts:
        if not arguments.is_whole(value) or not least <= value < 2**31:
            other = " or 'auto'" if name == "tune" else ""
            raise ValueError(f"{name} is {value!r}. Give an integer of {least} or more{other}.")
    if max_treedepth > trees.DEEPEST:
        raise ValueError(
            f"max_treedepth is {max_treedepth}. Give at most {trees.DEEPEST}, with which a draw "
            f"takes up to {2**trees.DEEPEST:,} leapfrog steps. A model that needs more has to be "
            "reparameterized."
        )
    if not isinstance(target_accept, (float, np.floating)) or not 0 < target_accept < 1:
        raise ValueError(
            f"target_accept is {target_accept!r}. Give a rate between 0 and 1, such as 0.9."
        )
    if not isinstance(init, str) or init not in _INITS:
        raise ValueError(
            f"init is {init!r}. Give one of {', '.join(map(repr, _INITS))}, or use pm.sample, "
            "which has others."
        )
    if automatic and init.split("+")[-1] not in nuts_chains.POOLED:
        raise ValueError(
            f"tune is 'auto', which init={init!r} does not know. Give a number of draws, or leave "
            "out init."
        )
    if not isinstance(chain_method, str) or chain_method not in ("parallel", "vectorized"):
        raise ValueError(
            f"chain_method is {chain_method!r}. Give 'parallel' for a thread for each chain, or "
            "'vectorized' for all chains in one batch."
        )


_INITS = [jitter + name for name in nuts_chains.INITS for jitter in ("jitter+", "")]


class _Compiled(Dict[Any, Any]):
    """What was compiled for a model. It stays with the model, but not with its copies."""

    def __reduce__(self) -> Any:
        return _Compiled, ()

    def __deepcopy__(self, memo: Any) -> _Compiled:
        return _Compiled()


def compiled_model(
    model: pm.Model, batch: int, max_treedepth: int, metric: str, jit_compile: bool
) -> Tuple[UnconstrainedModel, nuts.CompiledSampler]:
    """Return the functions of a model and its sampler: those of last time, if nothing changed."""
    known = model.__dict__.setdefault("_pymc3_tf_compiled", _Compiled())
    contents = [*model.basic_RVs, *model.deterministics, *model.potentials]
    if [id(x) for x in known.get("contents", [])] != [id(x) for x in contents]:
        known.clear()
        known.update(
            contents=contents, model=UnconstrainedModel(model), programs=LRUCache(_PROGRAMS)
        )
    unconstrained, programs = known["model"], known["programs"]
    specs = tuple(tf.TensorSpec(array.shape, array.dtype) for array in unconstrained.data)
    key = batch, max_treedepth, metric, jit_compile, specs
    if key not in programs:
        programs[key] = nuts.CompiledSampler(
            unconstrained.log_density,
            unconstrained.size,
            specs,
            chains=batch,
            max_treedepth=max_treedepth,
            metric=metric,
            jit_compile=jit_compile,
        )
    return unconstrained, programs[key]


def _tried(
    model: pm.Model, unconstrained: UnconstrainedModel, starts: np.ndarray, draws: int, options: Any
) -> List[str]:
    """Try what is computed from draws before there are any, which would be lost.

    Returns
    -------
    list of str
        The observed variables of which to compute the log likelihood.
    """
    check_values(unconstrained, starts)
    return _wanted(model, unconstrained, starts[0], draws, options.pop("log_likelihood", None))


def _wanted(
    model: pm.Model, unconstrained: UnconstrainedModel, start: np.ndarray, draws: int, names: Any
) -> List[str]:
    """Return the observed variables of which to compute the log likelihood, and try it."""
    every = [v.name for v in model.observed_RVs]
    wanted = observed_names(names, every)
    numbers = sum(a.size for a in unconstrained.log_likelihood(start[None], wanted).values())
    if names is not None or numbers * draws <= _LOG_LIKELIHOOD_NUMBERS:
        return wanted
    _log.info(
        "The log likelihood of %d observations for %d draws is left out. Ask for it with "
        "idata_kwargs={'log_likelihood': True}.",
        numbers,
        draws,
    )
    return []


def observed_names(names: Any, every: List[str]) -> List[str]:
    """Return the observed variables whose log likelihood is asked for."""
    if names is None or isinstance(names, (bool, np.bool_)):
        return [] if names is not None and not names else every
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, (list, tuple)) or not set(listed) <= set(every):
        raise ValueError(
            f"idata_kwargs: log_likelihood is {names!r}. Give True, False, or names of observed "
            f"variables, which are: {', '.join(every)}."
        )
    return [name for name in every if name in listed]
