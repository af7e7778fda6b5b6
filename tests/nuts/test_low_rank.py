"""The low rank metric: what it learns, what momenta it has, and what it is good for."""

import logging

import arviz as az
import numpy as np
import pytest
import tensorflow as tf

from pymc3_tf.nuts import momenta, randomness
from pymc3_tf.nuts.adaptation import Seen
from pymc3_tf.nuts.low_rank import Factor, LowRankAdaptation, directions_of, pack, rank
from pymc3_tf.nuts.sampler import CompiledSampler
from pymc3_tf.sampling.chains import run_chains

SIZE = 200


def normal(size=SIZE, seed=0):
    """Return the covariance of a normal with stiff and with long directions, and its inverse."""
    random = np.random.RandomState(seed)
    vectors = np.linalg.qr(random.randn(size, size))[0]
    variances = np.ones(size)
    variances[:4], variances[4:7] = 1e-3, 100
    scales = np.geomspace(0.1, 10, size)
    covariance = scales[:, None] * ((vectors * variances) @ vectors.T) * scales
    return covariance, np.linalg.inv(covariance)


def square_root(factor):
    """Return the matrix that a packed factor stands for."""
    along = np.linalg.norm(factor[:, 1:], axis=0)
    used = factor[:, 1:][:, along > 0] / along[along > 0]
    return factor[:, :1] * (np.eye(len(factor)) + used * (along[along > 0] - 1) @ used.T)


def spread(factor, precision):
    """Return the ratio of the largest and the smallest variance of a normal in a metric."""
    root = square_root(factor)
    values = np.linalg.eigvalsh(root.T @ precision @ root)
    return values[-1] / values[0]


def draw_from(covariance, precision, chains=4, seed=1):
    random = np.random.RandomState(seed)
    root = np.linalg.cholesky(covariance)

    def draw(plan):
        positions = random.normal(size=(plan.length, chains, len(root))) @ root.T
        flat = np.zeros((plan.length, chains))
        step_size = plan.averaging[:, 0]
        return Seen(positions, -positions @ precision, flat, flat + 0.8, flat, step_size)

    return draw


def last_plan(adaptation, draw):
    plan = adaptation.first()
    while plan.length:
        plan = adaptation.next(draw(plan))
        assert np.isfinite(plan.factor).all() and (plan.factor[..., 0] > 0).all()
        assert np.isfinite(plan.averaging).all() and (plan.averaging[:, 0] > 0).all()
    return plan


@pytest.mark.parametrize(("draws", "most"), [(100, 100), (1000, 4.5)])
def test_directions_of_a_normal(draws, most):
    # Of a million before. With draws enough, only what is below the cutoff of two is left.
    covariance, precision = normal()
    scales = np.sqrt(np.diag(covariance))
    rows = np.random.RandomState(2).multivariate_normal(np.zeros(SIZE), covariance, draws)
    rows -= rows.mean(axis=0)
    across, *directions = directions_of(rows / scales, -rows @ precision * scales)
    factor = pack(across * scales, *directions)
    assert 7 <= np.count_nonzero(factor.any(axis=0)) - 1 <= rank(SIZE)
    assert spread(factor, precision) < most


@pytest.mark.parametrize("name", ["diagonal", "low_rank", "dense"])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_momenta_have_the_precision_of_positions(name, batch):
    random = np.random.RandomState(3)
    directions, along = np.linalg.qr(random.randn(6, 2))[0], np.array([0.1, 5.0])
    deviations = random.uniform(0.5, 2, 6)
    packed = pack(deviations, directions, along)
    factor, root = {
        "diagonal": (deviations, np.diag(deviations)),
        "low_rank": (packed, square_root(packed)),
        "dense": (np.tril(random.randn(6, 6)) + 3 * np.eye(6),) * 2,
    }[name]
    assert factor.shape == momenta.factor_shape(name, 6)
    made = momenta.METRICS[name](tf.constant(np.broadcast_to(factor, (*batch, *factor.shape))))
    seed = tf.constant(1, tf.int64)
    (momentum,) = made.sample(seed)
    white = randomness.normal((*batch, 6), seed)
    np.testing.assert_allclose(momentum.numpy() @ root, white, atol=1e-12)
    energy = -0.5 * np.sum(np.square(white), axis=-1)
    np.testing.assert_allclose(made.log_prob(momentum), energy)


@pytest.mark.parametrize("chains", [1, 4, 64])
def test_metric_and_step_size_that_a_warmup_learns(chains):
    covariance, precision = normal(50)
    adaptation = LowRankAdaptation(np.ones((chains, 50)), 500)
    plan = last_plan(adaptation, draw_from(covariance, precision, chains))
    assert plan.factor.shape == (chains, 50, 33)
    assert (plan.factor == plan.factor[0]).all()
    assert spread(plan.factor[0], precision) < 4.5


def random_factor(random):
    directions = np.linalg.qr(random.randn(SIZE, 2))[0]
    return Factor(random.uniform(0.5, 2, SIZE), directions, random.uniform(0.2, 5, 2))


def test_how_a_metric_looks_in_another():
    random = np.random.RandomState(4)
    one, other = random_factor(random), random_factor(random)
    columns = random.randn(SIZE, 3)
    root, other_root = square_root(pack(*one)), square_root(pack(*other))
    precision = np.linalg.inv(root @ root.T)
    seen = one.seen_by(other, columns)
    np.testing.assert_allclose(seen, other_root.T @ precision @ other_root @ columns)


@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_step_size_follows_the_scale_of_the_metric(monkeypatch, scale):
    # A step of the same length: it is counted in units of the metric.
    old = random_factor(np.random.RandomState(5))
    adaptation = LowRankAdaptation(np.ones((2, SIZE)), 100)
    monkeypatch.setattr(LowRankAdaptation, "_together", True)
    for factor in (old, old._replace(deviations=scale * old.deviations)):
        monkeypatch.setattr(adaptation, "_learn_shared", lambda factor=factor: factor)
        before = np.copy(adaptation._log_step)
        adaptation._learn_metric()
    np.testing.assert_allclose(adaptation._log_step, before - np.log(scale))


def test_stuck_and_far_chains_spoil_nothing():
    covariance, precision = normal(50)
    draw_right = draw_from(covariance, precision)

    def draw(plan):
        seen = draw_right(plan)
        seen.positions[:, 0], seen.gradients[:, 0] = 1.0, 1e6
        seen.gradients[:, 1] *= 1e4
        return seen

    plan = last_plan(LowRankAdaptation(np.ones((4, 50)), 500), draw)
    assert spread(plan.factor[2], precision) < 100  # half of the draws are good


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e300])
def test_a_metric_that_is_not_finite_never_reaches_the_sampler(bad):
    draw_right = draw_from(np.eye(5), np.eye(5))

    def draw(plan):
        seen = draw_right(plan)
        seen.gradients[:, :, 0] = bad
        seen.positions[:, :, 1] = bad
        return seen

    last_plan(LowRankAdaptation(np.ones((4, 5)), 200), draw)


@pytest.mark.parametrize(("chains", "tune"), [(1, 60), (4, 20)])
def test_without_enough_draws_the_metric_is_diagonal(chains, tune, caplog):
    covariance, precision = normal(50)
    adaptation = LowRankAdaptation(np.ones((chains, 50)), tune)
    with caplog.at_level(logging.WARNING, "pymc3"):
        plan = last_plan(adaptation, draw_from(covariance, precision, chains))
    assert not plan.factor[..., 1:].any()
    assert [record.getMessage() for record in caplog.records] == [
        "The warmup was too short for a low rank mass matrix, and made a diagonal one. "
        "Give a larger tune, or init='jitter+adapt_diag_grad'."
    ]


def effective(result):
    """Return the effective samples of each element, and of the worst one for each gradient."""
    positions = result.draws.positions
    ess = np.array([az.ess(positions[..., i]) for i in range(positions.shape[-1])])
    gradients = sum(part.stats["n_steps"].sum() for part in (result.warmup, result.draws))
    return ess, ess.min() / gradients


def test_normal_of_many_dimensions():
    covariance, precision = normal()
    constant = tf.constant(precision)

    def logp(x):
        return -0.5 * tf.reduce_sum(x * tf.linalg.matvec(constant, x))

    starts = np.random.RandomState(4).uniform(-1, 1, (4, SIZE))
    found = {}
    for init, metric, draws in (
        ("adapt_lowrank", "low_rank", 500),
        ("adapt_diag_grad", "diagonal", 50),
    ):
        sampler = CompiledSampler(logp, SIZE, metric=metric, max_treedepth=7)
        result = run_chains(sampler, starts, draws, 150, init=init, random_seed=1, keep_warmup=True)
        found[init] = effective(result)
        if init == "adapt_lowrank":
            positions = result.draws.positions
    # In these directions elements are independent, and so are the errors of their means.
    variances, directions = np.linalg.eigh(covariance)
    standard = positions @ directions / np.sqrt(variances)
    ess = np.array([az.ess(standard[..., i]) for i in range(SIZE)])
    assert np.all(np.abs(standard.mean(axis=(0, 1))) * np.sqrt(ess) < 4)
    squares = standard**2
    ess = np.array([az.ess(squares[..., i]) for i in range(SIZE)])
    assert np.all(np.abs(squares.mean(axis=(0, 1)) - 1) * np.sqrt(ess / 2) < 4)
    assert found["adapt_lowrank"][1] > 10 * found["adapt_diag_grad"][1]


def test_funnel_is_not_made_much_worse():
    # Eight effects of unknown scale, which no constant metric helps.
    def logp(x):
        return -0.5 * (x[0] ** 2 + tf.reduce_sum(x[1:] ** 2) * tf.exp(-x[0])) - 4 * x[0]

    found = {}
    for init, metric in (("adapt_lowrank", "low_rank"), ("adapt_diag_grad", "diagonal")):
        sampler = CompiledSampler(logp, 9, metric=metric)
        options = dict(init=init, keep_warmup=True)
        every = [
            run_chains(sampler, np.zeros((4, 9)), 1000, 400, random_seed=seed, **options)
            for seed in range(1, 5)
        ]
        # Of one run it differs fivefold.
        found[init] = np.mean([effective(result)[1] for result in every])
        for result in every:
            scale = result.draws.positions[..., 0]
            assert abs(scale.mean()) * np.sqrt(az.ess(scale)) < 4
    assert found["adapt_lowrank"] > 0.5 * found["adapt_diag_grad"]
