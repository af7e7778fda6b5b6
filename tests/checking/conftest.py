"""What the tests of checks share."""

import logging

import pymc3 as pm
import pytest
from checked_models import Y
from support import tf_normal


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.ERROR)


@pytest.fixture(scope="module")
def right():
    with pm.Model(coords={"point": list("abc")}) as model:
        mu = pm.Normal("mu", 0.0, 1.0, testval=0.4)
        sigma = pm.HalfNormal("sigma", 1.0)
        params = {"mu": mu, "sigma": sigma}
        pm.TFDensity("y", tf_normal, params, feed_dict={"value": Y}, dims="point")
    return model
