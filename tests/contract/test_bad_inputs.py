"""Each wrong declaration is refused by name, or is right after all."""

import collections
import traceback
import warnings

import bad_inputs
import numpy as np
import pymc3 as pm
import pytest
from scipy import stats

import pymc3_tf
from pymc3_tf import exceptions
from pymc3_tf.sampling.arguments import NAMES

OURS = (
    exceptions.DeclarationError,
    exceptions.DeclarationTypeError,
    exceptions.EvaluationError,
)
# PyMC3 and Python refuse these by name themselves, for all distributions.
THEIRS = (
    "Specify only one of 'dims' or 'shape'",
    "Unknown dimension name",
    "Unrecognized `total_size` type",
    "Variable name y already exists",
    "missing 1 required positional argument: 'name'",
    # pm.Data's
    "ufunc 'isnan' not supported",
    # what the function raises itself
    "'mine'",
    "maximum recursion depth",
)


def normal(*values):
    return stats.norm.logpdf(values).sum()


MOVED = normal(*(bad_inputs.DATA - 1.0))
OF_DATA = normal(*bad_inputs.DATA)
# What is no mistake, with its log density.
RIGHT = {
    "observed that is None": normal(0.0),
    "feed_dict that is None": normal(0.0),
    "feed_dict that is an empty list": normal(0.0),
    "random that is None": OF_DATA,
    "a value= that is None": OF_DATA,
    "params that are None": OF_DATA,
    "session that is None": OF_DATA,
    "device that is None": OF_DATA,
    "total_size that is None": OF_DATA,
    "total_size that is an empty list": OF_DATA,
    "total_size that is a boolean": OF_DATA / 4,
    "total_size below the data": OF_DATA / 2,
    "a name that is a string": OF_DATA,
    "jit_compile that is a boolean": OF_DATA,
    "check_gradient that is a boolean": OF_DATA,
    "an empty name": OF_DATA,
    "shape that is None": 0.0,
    "shape that is an empty list": 0.0,
    "shape that is an empty array of two dimensions": 0.0,
    "dims that is None": 0.0,
    "transform that is None": 0.0,
    "testval that is None": 0.0,
    "testval that is an eager tensor": -1.5,
    "testval that is a tf.Variable": -1.5,
    "testval that is a big-endian array of one": -1.5,
    "testval that is a boolean": -1.5,
    "testval that is a Decimal": -1.5 * 1.5**2,
    "testval that is a Fraction": -1.5 / 9,
    "a parameter that is an eager tensor": MOVED,
    "a parameter that is a tf.Variable": MOVED,
    "a parameter that is a big-endian array of one": MOVED,
    "a parameter that is a long double array": MOVED,
    "a feed that is an eager tensor": MOVED,
    "a feed that is a tf.Variable": MOVED,
    "a feed that is a big-endian array of one": MOVED,
    "a feed that is a long double array": MOVED,
    "distribution that is a distribution": OF_DATA,
    # Missing values start at zero.
    "observed that is an object array": normal(1.0, 0.0),
    "a NaN among the data": normal(1.0, 0.0),
    "all of the data missing": normal(0.0, 0.0),
    "observed that is a masked array": normal(1.0, 0.0, 2.0, 3.0),
    "observed that is an eager tensor": normal(1.0),
    "observed that is a tf.Variable": normal(1.0),
    "observed that is a Decimal": normal(1.5),
    "observed that is a Fraction": normal(1 / 3),
    "observed that is five dimensions": normal(*np.ones(32)),
    "observed that is an empty list": 0.0,
    "observed that is an empty array of two dimensions": 0.0,
    "observed that is a big-endian array of one": normal(1.0),
    "observed that is a boolean": normal(1.0),
    "observed that is an array of booleans": normal(1.0, 0.0, 1.0, 0.0),
    "observed that is an unsigned array": normal(0.0, 1.0, 2.0, 3.0),
    "observed that is a half precision array": normal(*np.ones(4)),
    "observed that is a long double array": normal(*np.ones(4)),
    "integers with floats": normal(0.0, 1.0, 2.0, 3.0),
    "a feed of integers": normal(1.0, 2.0),
    "logp of a dict": bad_inputs.DATA.sum(),
    "logp with an unknown rank": 0.0,
    # Nothing is there but points of density zero, at which sampling does not start.
    "a parameter that is infinity": -np.inf,
    "observed that is infinity": -np.inf,
    "a feed that is infinity": -np.inf,
    "a parameter that is NaN": -np.inf,
    "a feed that is NaN": -np.inf,
    "logp that is NaN": -np.inf,
    "logp that is -inf": -np.inf,
    "a distribution with a sd below zero": -np.inf,
    "logp that is +inf": np.inf,
}

GROUPS = collections.defaultdict(list)
for _name in bad_inputs.CASES:
    GROUPS[_name.split(" that ")[0] if " that " in _name else "others"].append(_name)


def outcome(case):
    """Return the log density of a declaration, or the error that it ends in."""
    with pm.Model() as model:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case()
                return float(model.logp(model.test_point))
        except Exception as error:
            return error


def test_the_table_has_what_it_is_meant_to_have():
    assert len(bad_inputs.CASES) > 1200
    assert set(RIGHT) <= set(bad_inputs.CASES)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_wrong_declarations_are_refused_by_name(group, record_property):
    wrong = []
    for name in GROUPS[group]:
        found = outcome(bad_inputs.CASES[name])
        if isinstance(found, OURS):
            # Ours says in its text what to write instead; so it is no bare "invalid".
            ok = name not in RIGHT and len(str(found)) > 40
        elif isinstance(found, Exception):
            ok = name not in RIGHT and any(text in str(found) for text in THEIRS)
        else:
            ok = name in RIGHT and np.isclose(found, RIGHT[name], rtol=1e-6)
        if not ok:
            shown = found
            if isinstance(found, Exception):
                shown = "".join(traceback.format_exception_only(type(found), found)).strip()
            wrong.append(f"{name}: {shown}")
    record_property("passed", len(GROUPS[group]) - len(wrong))
    assert not wrong, "\n".join(wrong)


# What the arguments of `pymc3_tf.sample` take, of all the values of the table.
TAKEN = {name: {"None"} for name in ("cores", "idata_kwargs", "random_seed", "start")}
FLAGS = (
    "progressbar",
    "jit_compile",
    "keep_untransformed",
    "discard_tuned_samples",
    "compute_convergence_checks",
)
TAKEN["random_seed"].add("a huge integer")
TAKEN["model"] = {"None", "a pm.Model"}


@pytest.fixture(scope="module")
def sampled():
    """A model that is compiled, with quick options to sample it."""
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0, shape=2)
    options = dict(draws=5, tune=5, chains=2, random_seed=1, model=model)
    options.update(progressbar=False, compute_convergence_checks=False)
    pymc3_tf.sample(**options)
    return options


@pytest.mark.parametrize("argument", NAMES)
def test_wrong_arguments_of_sample_are_refused_by_name(sampled, argument, record_property):
    tried, wrong = 0, []
    for what, value in bad_inputs.VALUES.items():
        taken = TAKEN.get(argument, set())
        if argument in FLAGS:
            taken = {"a boolean"}
        if what in taken:
            continue
        tried += 1
        try:
            with sampled["model"]:
                pymc3_tf.sample(**{**sampled, argument: value})
            wrong.append(f"{what} is taken")
        except (ValueError, TypeError) as error:
            if argument not in str(error):
                wrong.append(f"{what}: {error}")
    record_property("passed", tried - len(wrong))
    assert not wrong, "\n".join(wrong)
