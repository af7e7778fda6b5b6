"""What ``pymc3_tf.sample`` does not take: what to write instead."""

from __future__ import annotations

import difflib
from numbers import Integral
from typing import Any, Dict, Mapping, Optional

import numpy as np

# The arguments of pm.sample, of pm.NUTS, and other libraries' names for ours.
_ADVICE = {
    "return_inferencedata": "Leave it out: InferenceData is what is returned",
    "step": "Leave it out: the sampler is NUTS. For other step methods, use pm.sample()",
    "nuts_kwargs": "Give target_accept= and max_treedepth= themselves",
    "nuts": "Give target_accept= and max_treedepth= themselves",
    "step_kwargs": "Give target_accept= and max_treedepth= themselves",
    "callback": "Leave it out, or use pm.sample(): chains are sampled outside of Python",
    "trace": "Leave it out: draws are kept in memory, and returned as InferenceData",
    "n_init": "Leave it out: the mass matrix is learnt in the warmup (tune=)",
    "chain_idx": "Leave it out: chains are numbered from 0",
    "mp_ctx": "Leave it out: chains run in threads of this process (cores=)",
    "pickle_backend": "Leave it out: chains run in threads of this process (cores=)",
    "njobs": "Give cores= and chains=",
    "nchains": "Give chains=",
    "num_chains": "Give chains=",
    "num_samples": "Give draws=",
    "n_samples": "Give draws=",
    "num_warmup": "Give tune=",
    "warmup": "Give tune=",
    "burn": "Give tune=",
    "seed": "Give random_seed=",
    "rng_seed": "Give random_seed=",
    "random_state": "Give random_seed=",
    "initvals": "Give start=",
    "max_tree_depth": "Give max_treedepth=",
    "target_accept_prob": "Give target_accept=",
    "adapt_delta": "Give target_accept=",
    "progress_bar": "Give progressbar=",
    "var_names": "Select variables of what is returned: idata.posterior[['mu']]",
    "vars": "Leave it out: all free variables are sampled",
    "scaling": "Leave it out: the mass matrix is learnt in the warmup (init=, tune=)",
    "is_cov": "Leave it out: the mass matrix is learnt in the warmup (init=, tune=)",
    "potential": "Leave it out: the mass matrix is learnt in the warmup (init=, tune=)",
    "step_scale": "Leave it out: the step size is tuned in the warmup (target_accept=)",
    "adapt_step_size": "Leave it out: the step size is tuned in the warmup (target_accept=)",
    "early_max_treedepth": "Give max_treedepth=, which holds for the warmup too",
    "log_likelihood": "Give idata_kwargs={'log_likelihood': ...}",
    "coords": "Give idata_kwargs={'coords': ...}",
    "dims": "Give idata_kwargs={'dims': ...}",
}

NAMES = (
    "draws",
    "tune",
    "chains",
    "cores",
    "target_accept",
    "max_treedepth",
    "init",
    "start",
    "random_seed",
    "model",
    "progressbar",
    "chain_method",
    "jit_compile",
    "keep_untransformed",
    "discard_tuned_samples",
    "compute_convergence_checks",
    "idata_kwargs",
)


def refuse(unknown: Mapping[str, Any]) -> None:
    """Raise an error for the first of the arguments that ``pymc3_tf.sample`` does not know.

    Raises
    ------
    TypeError
        If there is one. The text says what to write instead.

    Examples
    --------
    >>> refuse({"seed": 1})
    Traceback (most recent call last):
    TypeError: pymc3_tf.sample has no argument 'seed'. Give random_seed=.
    """
    for name in unknown:
        close = difflib.get_close_matches(name, NAMES, 1, 0.75)
        if name in _ADVICE:
            advice = _ADVICE[name]
        elif close:
            advice = f"Did you mean {close[0]!r}?"
        else:
            advice = f"It has: {', '.join(NAMES)}"
        end = "" if advice.endswith("?") else "."
        raise TypeError(f"pymc3_tf.sample has no argument {name!r}. {advice}{end}")


def is_whole(number: Any) -> bool:
    """Whether it is an integer, for which NumPy takes a time, and Python True, as well."""
    return isinstance(number, Integral) and not isinstance(number, (bool, np.timedelta64))


def check_flags(**flags: bool) -> None:
    """Refuse what is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} is {flag!r}. Give True or False.")


def options_of(idata_kwargs: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Check the options of the conversion to InferenceData."""
    if idata_kwargs is None:
        return {}
    if not isinstance(idata_kwargs, Mapping):
        raise ValueError(f"idata_kwargs is {idata_kwargs!r}. Give a dict, such as {{'dims': ...}}.")
    options = dict(idata_kwargs)
    unknown = set(options) - {"coords", "dims", "log_likelihood"}
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"idata_kwargs has {names}. Give coords, dims or log_likelihood.")
    for name in ("coords", "dims"):
        given = options.get(name)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"idata_kwargs: {name} is {given!r}. Give a dict by name.")
    return options
