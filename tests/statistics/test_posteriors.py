"""Known posteriors are sampled: some in one way, and (slow) all in all ways."""

import arviz as az
import numpy as np
import posteriors
import pymc3 as pm
import pytest
from marginals import of, on_grids
from scipy import stats

# One model of each kind of reference, each in another way.
QUICK = {
    "shares": "jitter+adapt_diag_grad parallel",
    "missing": "jitter+adapt_diag_grad vectorized",
    "two_groups": "pm.sample",
    "groups": "jitter+adapt_full parallel",
    "autoregression": "jitter+adapt_lowrank vectorized",
}


@pytest.mark.parametrize("name", QUICK)
def test_a_posterior_is_the_known_one(name):
    posterior = posteriors.MODELS[name]()
    with pm.Model() as model:
        posterior.build()
    row = posteriors.compared(model, posterior, QUICK[name])
    assert posteriors.agrees(*row["last"]), row


@pytest.mark.slow
@pytest.mark.parametrize("name", posteriors.MODELS)
def test_a_posterior_is_the_known_one_in_all_ways(name):
    rows = posteriors.in_a_process(name)
    assert [row["way"] for row in rows] == posteriors.WAYS
    assert all(posteriors.agrees(*row["last"]) for row in rows), rows


def test_a_wrong_posterior_is_caught():
    """Of draws whose moments are right the distribution is not, and the reverse."""
    random = np.random.RandomState(0)
    normal = {"x": [of(stats.norm())]}

    def compared(draws):
        return posteriors.compare(az.convert_to_dataset({"x": draws}), normal)

    assert posteriors.agrees(*compared(random.normal(size=(4, 2000))))
    shifted, wider = random.normal(0.1, 1.0, (4, 2000)), random.normal(0.0, 1.07, (4, 2000))
    assert compared(shifted)[0] > 4 and compared(wider)[1] > 4
    mean, sd, p_value = compared(random.laplace(0.0, 0.5**0.5, (4, 2000)))
    assert mean < 4 and sd < 4 and p_value < posteriors.P_VALUE


def test_quadrature_has_the_marginals_of_a_normal():
    mean, covariance = np.array([1.0, -2.0]), np.array([[1.0, 0.4], [0.4, 0.5]])
    normal = stats.multivariate_normal(mean, covariance)

    def logp(x, y):
        return normal.logpdf(np.stack([x, y], axis=-1))

    draws = normal.rvs(2000, random_state=1)
    for i, marginal in enumerate(on_grids(logp, (-10.0, 10.0), (-10.0, 10.0))):
        exact = of(stats.norm(mean[i], covariance[i, i] ** 0.5))
        np.testing.assert_allclose(marginal[:2], exact[:2], rtol=1e-5)
        np.testing.assert_allclose(
            marginal.p_value(draws[:, i]), exact.p_value(draws[:, i]), rtol=0.01
        )
