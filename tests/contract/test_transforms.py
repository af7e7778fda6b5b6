"""Under every transform, log density and gradient are the built-ins', the Jacobian counted once."""

import numpy as np
import pymc3 as pm
import pytest
import tensorflow as tf
from pymc3.distributions import transforms
from support import assert_same_model
from twins import TWINS, normal

TRANSFORMS = {
    "log": transforms.log,
    "log_exp_m1": transforms.log_exp_m1,
    "logodds": transforms.logodds,
    "interval": transforms.interval(-1.0, 3.0),
    "interval of arrays": transforms.interval(np.array([-1.0, 0.0, 1.0]), np.full(3, 3.0)),
    "lowerbound": transforms.lowerbound(2.0),
    "upperbound": transforms.upperbound(-2.0),
    "ordered": transforms.ordered,
    "stick_breaking": transforms.stick_breaking,
    "sum_to_1": transforms.sum_to_1,
    "circular": transforms.circular,
    "ordered inside of (0, 1)": transforms.Chain([transforms.logodds, transforms.ordered]),
    "simplex by logodds": transforms.Chain([transforms.sum_to_1, transforms.logodds]),
}


def declare_normal(transform, shape, joint_axes):
    """Declare a density that is joint over some of its axes, and the built-in that it equals."""

    def logp(value):
        return tf.reduce_sum(normal(value, np.float64(0.5), np.float64(2.0)), axis=joint_axes)

    with pm.Model() as ours:
        x = pm.TFDensity("x", logp, shape=shape, transform=transform)
    with pm.Model() as theirs:
        start = x.tag.test_value
        pm.Normal("x", 0.5, 2.0, shape=shape, transform=transform, testval=start)
    return ours, theirs


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("joint_axes", [[], [0]], ids=["pointwise", "joint"])
def test_vector_equals_the_builtin(name, joint_axes):
    assert_same_model(*declare_normal(TRANSFORMS[name], 3, joint_axes))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("joint_axes", [[1], [0, 1]], ids=["rows", "joint"])
def test_joint_density_of_a_matrix_has_the_right_total(name, joint_axes):
    assert_same_model(*declare_normal(TRANSFORMS[name], (2, 3), joint_axes))


@pytest.mark.parametrize("joint_axes", [[], [0]], ids=["pointwise", "joint"])
def test_packed_cholesky_factor_equals_the_builtin(joint_axes):
    assert_same_model(*declare_normal(transforms.CholeskyCovPacked(2), 3, joint_axes))


def test_bounds_may_be_variables_of_the_model():
    models = []
    for ours in (True, False):
        with pm.Model() as model:
            low = pm.Normal("low", -1.0, 1.0)
            bounds = transforms.interval(low, low + 2.0)
            TWINS["StudentT"].declare("x", ours, transform=bounds, shape=2, testval=np.zeros(2))
        models.append(model)
    assert_same_model(*models)


def test_default_start_follows_bounds_that_are_variables():
    with pm.Model() as model:
        low = pm.HalfNormal("low", 1.0, testval=2.0)
        x = TWINS["Normal"].declare("x", True, transform=transforms.lowerbound(low), shape=2)
    assert (x.tag.test_value > low.tag.test_value).all()
    assert np.isfinite(model.logp(model.test_point))


class LogOfMatrix(transforms.Transform):
    """Sums its Jacobian over the whole matrix."""

    name = "log_of_matrix"
    forward = staticmethod(transforms.log.forward)
    forward_val = staticmethod(transforms.log.forward_val)
    backward = staticmethod(transforms.log.backward)

    def jacobian_det(self, x):
        return x.sum()


def test_transform_whose_jacobian_pymc3_would_repeat_is_refused():
    """For a built-in it is counted once for each row, and no more is said."""
    with pm.Model() as theirs:
        pm.HalfNormal("x", 1.0, shape=(2, 3), transform=LogOfMatrix(), testval=np.full((2, 3), 2.0))
    with pm.Model() as right:
        pm.HalfNormal("x", 1.0, shape=(2, 3), testval=np.full((2, 3), 2.0))
    point = theirs.test_point
    once = {"x_log__": point["x_log_of_matrix__"]}
    repeated = theirs.logp(point) - right.logp(once)
    np.testing.assert_allclose(repeated, 6 * np.log(2.0))
    with pm.Model(), pytest.raises(
        ValueError, match="log_of_matrix.*0 dimensions.*the value has 2"
    ):
        TWINS["HalfNormal"].declare("x", True, shape=(2, 3), transform=LogOfMatrix())
