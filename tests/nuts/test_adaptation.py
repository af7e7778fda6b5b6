"""What a warmup learns: the metric, the step size and when to stop, without any sampler."""

import weakref

import numpy as np
import pytest

from pymc3_tf.nuts.adaptation import GradientAdaptation, Seen, Window, rhat
from pymc3_tf.nuts.stan import WindowedAdaptation, factor_of_covariance, phases

SIZE = 4
SCALES = np.array([0.1, 1.0, 3.0, 50.0])
TUNES = [0, 1, 2, 5, 19, 20, 60, 149, 150, 151, 300, 1000, 2001]


class Normal:
    """Independent draws of a normal, with the acceptance rate of a step size that fits it."""

    def __init__(self, scales=SCALES, chains=4, seed=0):
        self.scales = scales
        self.chains = chains
        self.random = np.random.RandomState(seed)

    def acceptance(self, plan):
        step = plan.averaging[:, 0] * (plan.factor / self.scales).max(axis=-1)
        return np.exp(-0.25 * step**2)

    def draw(self, plan):
        shape = plan.length, self.chains, len(self.scales)
        positions = self.scales * self.random.normal(size=shape)
        noise = self.random.uniform(0.5, 1.5, shape[:2])
        return Seen(
            positions,
            -positions / self.scales**2,
            -0.5 * np.sum((positions / self.scales) ** 2, axis=-1),
            self.acceptance(plan) ** noise,
            np.zeros(shape[:2]),
            plan.averaging[:, 0],
        )

    def gradients(self):
        return self.random.normal(size=(self.chains, len(self.scales))) / self.scales


def warm_up(adaptation, draw):
    """Return all plans."""
    plans = [adaptation.first()]
    while plans[-1].length:
        plans.append(adaptation.next(draw(plans[-1])))
    return plans


# From gradients


@pytest.mark.parametrize("tune", TUNES)
def test_plans_make_up_the_warmup(tune):
    normal = Normal()
    plans = warm_up(GradientAdaptation(normal.gradients(), tune), normal.draw)
    assert sum(plan.length for plan in plans) == tune


def test_first_metric_is_a_guess_from_the_gradients_of_either_sign():
    gradients = np.array([[4.0, -4.0, 0.0, 0.01]])
    np.testing.assert_allclose(
        GradientAdaptation(gradients, 100).first().factor, [[0.5, 0.5, 1.0, 10.0]]
    )
    # Without a warmup there is nothing that would correct a guess.
    np.testing.assert_array_equal(GradientAdaptation(gradients, 0).first().factor, np.ones((1, 4)))


def test_window_has_the_latter_half_of_the_draws_and_gives_up_those_before():
    window, lp, kept = Window(), [], []
    for number, length in enumerate([1, 1, 10, 3, 20, 7, 40, 11, 5, 90, 30], 1):
        block = 100.0 * number + np.arange(float(length))[:, None]
        lp, kept = [*lp, *block.copy()], [*kept, weakref.ref(block)]
        window.add(Seen(block, block, block, block, block, block[0]))
        del block
        np.testing.assert_array_equal(window("lp"), lp[len(lp) // 2 :])
    # The latter half of 218 draws is in the last two blocks.
    assert [ref() is not None for ref in kept] == [False] * 9 + [True] * 2


@pytest.mark.parametrize("chains", [1, 4, 64])
def test_metric_and_step_size_of_a_normal(chains):
    normal = Normal(chains=chains)
    plans = warm_up(GradientAdaptation(normal.gradients(), 300), normal.draw)
    np.testing.assert_allclose(plans[-1].factor, np.tile(SCALES, (chains, 1)))
    np.testing.assert_allclose(normal.acceptance(plans[-1]), 0.8, atol=0.01)
    assert len(set(plans[-1].averaging[:, 0])) == 1


def test_metric_of_a_correlated_normal_is_its_variances():
    random = np.random.RandomState(1)
    root = np.eye(SIZE) + 0.4 * random.randn(SIZE, SIZE)
    covariance = SCALES[:, None] * root @ root.T * SCALES
    precision = np.linalg.inv(covariance)

    def draw(plan):
        positions = random.multivariate_normal(np.zeros(SIZE), covariance, (plan.length, 4))
        acceptance = np.full((plan.length, 4), 0.8)
        lp = np.zeros((plan.length, 4))
        step_size = plan.averaging[:, 0]
        return Seen(positions, -positions @ precision, lp, acceptance, lp, step_size)

    factor = warm_up(GradientAdaptation(np.ones((4, SIZE)), 10000), draw)[-1].factor
    np.testing.assert_allclose(factor, [np.sqrt(np.diag(covariance))] * 4, rtol=0.05)


def test_bad_early_draws_are_forgotten():
    normal, far = Normal(), Normal(scales=1000 * SCALES)
    adaptation = GradientAdaptation(normal.gradients(), 200)
    made = [0]

    def draw(plan):
        made[0] += plan.length
        return (far if made[0] < 80 else normal).draw(plan)

    plans = warm_up(adaptation, draw)
    np.testing.assert_allclose(plans[-1].factor, [SCALES] * 4)
    np.testing.assert_allclose(normal.acceptance(plans[-1]), 0.8, atol=0.02)


def test_a_stuck_chain_spoils_nothing():
    normal = Normal()

    def draw(plan):
        seen = normal.draw(plan)
        seen.positions[:, 0] = 1.0
        seen.gradients[:, 0] = 1e6
        seen.acceptance[:, 0] = 0
        return seen

    plans = warm_up(GradientAdaptation(normal.gradients(), 300), draw)
    np.testing.assert_allclose(plans[-1].factor, [SCALES] * 4)
    np.testing.assert_allclose(normal.acceptance(plans[-1])[1:], 0.8, atol=0.02)
    # The step size of the chain that rejects everything goes down, that of the others does not.
    assert plans[-1].averaging[0, 0] < 0.1 * plans[-1].averaging[1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e300])
def test_a_metric_that_is_not_finite_never_reaches_the_sampler(bad):
    normal = Normal()
    gradients = normal.gradients()
    gradients[:, 0] = bad if np.isfinite(bad) else 0

    def draw(plan):
        seen = normal.draw(plan)
        seen.gradients[:, :, 0] = bad
        seen.positions[:, :, 1] = bad
        seen.acceptance[:] = 0 if bad else 1
        return seen

    for plan in warm_up(GradientAdaptation(gradients, 200), draw):
        assert np.isfinite(plan.factor).all() and (plan.factor > 0).all()
        assert np.isfinite(plan.averaging).all() and (plan.averaging[:, 0] > 0).all()


def test_divergences_do_not_freeze_the_step_size():
    normal = Normal()
    made = [0]

    def draw(plan):
        made[0] += plan.length
        seen = normal.draw(plan)
        seen.acceptance[:] *= made[0] > 100
        return seen

    plans = warm_up(GradientAdaptation(normal.gradients(), 1000), draw)
    np.testing.assert_allclose(normal.acceptance(plans[-1]), 0.8, atol=0.02)


def test_trees_are_shallow_at_first():
    normal = Normal()
    plans = warm_up(GradientAdaptation(normal.gradients(), 300), normal.draw)
    made = np.cumsum([plan.length for plan in plans]) - [plan.length for plan in plans]
    depths = [plan.depth for plan in plans]
    # The first step size is looked for in single leapfrog steps.
    assert depths[0] == 1 and plans[0].length == 1
    assert all(depth and depth <= 7 for depth, before in zip(depths, made) if before < 100)
    assert all(depth is None for depth, before in zip(depths, made) if before >= 100)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_first_step_size_is_looked_for(size):
    # A guess from the gradient that is wrong by a factor of a million.
    normal = Normal(scales=np.full(SIZE, size), chains=2)
    gradients = np.ones((2, SIZE))
    adaptation = GradientAdaptation(gradients, 1000)
    plan = adaptation.first()
    for _ in range(30):
        if plan.length > 1:
            break
        plan = adaptation.next(normal.draw(plan))
    assert np.all(normal.acceptance(plan) > 0.5)
    assert np.all(normal.acceptance(plan) < 0.99)


# Stopping early


@pytest.mark.parametrize(("chains", "most"), [(1, 300), (4, 100), (64, 100)])
def test_warmup_ends_when_it_has_settled(chains, most):
    normal = Normal(chains=chains)
    plans = warm_up(GradientAdaptation(normal.gradients(), 1000, stops_early=True), normal.draw)
    assert 50 < sum(plan.length for plan in plans) <= most
    np.testing.assert_allclose(plans[-1].factor, np.tile(SCALES, (chains, 1)))
    np.testing.assert_allclose(normal.acceptance(plans[-1]), 0.8, atol=0.03)


def test_warmup_goes_on_while_chains_disagree():
    normal = Normal()

    def draw(plan):
        seen = normal.draw(plan)
        seen.positions[:, 0, 0] += 10 * SCALES[0]
        return seen

    plans = warm_up(GradientAdaptation(normal.gradients(), 1000, stops_early=True), draw)
    assert sum(plan.length for plan in plans) == 1000


def test_warmup_goes_on_while_a_chain_is_on_its_way():
    normal = Normal(chains=1)
    made = [0]

    def draw(plan):
        seen = normal.draw(plan)
        trend = made[0] + np.arange(plan.length)
        made[0] += plan.length
        seen.lp[:] += trend[:, None]
        return seen

    plans = warm_up(GradientAdaptation(normal.gradients(), 600, stops_early=True), draw)
    assert sum(plan.length for plan in plans) == 600


@pytest.mark.parametrize("growth", [3.0, 1 / 3])
def test_warmup_goes_on_while_the_metric_changes(growth):
    normal = Normal()

    def draw(plan):
        seen = normal.draw(plan)
        if plan.length > 1:  # the first step size is found
            normal.scales = normal.scales * growth
            seen.acceptance[:] = 0.8
        return seen

    plans = warm_up(GradientAdaptation(normal.gradients(), 300, stops_early=True), draw)
    assert sum(plan.length for plan in plans) == 300


@pytest.mark.parametrize(("name", "value"), [("acceptance", 0.65), ("diverging", 0.02)])
def test_warmup_goes_on_while_draws_are_bad(name, value):
    # Not so bad that the step size would change much.
    normal = Normal()
    lengths = {}
    for bad in (False, True):
        adaptation = GradientAdaptation(normal.gradients(), 400, stops_early=True)
        made = [0]

        def draw(plan, bad=bad, made=made):
            seen = normal.draw(plan)
            made[0] += plan.length
            if bad and made[0] < 200:
                getattr(seen, name)[:] = value
            return seen

        lengths[bad] = sum(plan.length for plan in warm_up(adaptation, draw))
    assert lengths[False] <= 100 and lengths[True] >= 220


def test_rhat():
    random = np.random.RandomState(0)
    draws = random.normal(size=(1000, 4, 3))
    draws[:, :, 1] += [0, 0, 0, 2]
    draws[500:, :, 2] += 2
    one, other, halves = rhat(draws)
    assert 0.99 < one < 1.01 and other > 1.3 and halves > 1.3
    assert np.isinf(rhat(np.ones((10, 2))))
    # Halves 0, 1 and 2, 5: a variance within of 2.5, and of 4.5 between their means.
    np.testing.assert_allclose(rhat(np.array([[0.0], [1.0], [2.0], [5.0]])), np.sqrt(0.5 + 1.8))


# Stan's


@pytest.mark.parametrize("tune", TUNES)
def test_phases_make_up_the_warmup(tune):
    lengths = [phase.length for phase in phases(tune)]
    assert sum(lengths) == tune
    assert all(length > 0 for length in lengths)
    windows = [phase.length for phase in phases(tune) if phase.learns]
    assert all(b >= 2 * a for a, b in zip(windows, windows[1:]))


@pytest.mark.parametrize(
    "tune, expected",
    [
        # Below 150 draws Stan takes 15 % for the beginning and 10 % for the end.
        (149, [(22, False, 0, 22), (113, True, 0, 113), (14, False, 0, 14)]),
        (150, [(75, False, 0, 75), (25, True, 0, 25), (50, False, 0, 50)]),
        # The step size of the last window, whose metric is no more the unit matrix, is not lost.
        (225, [(75, False, 0, 75), (25, True, 0, 25), (75, True, 0, 125), (50, False, 75, 125)]),
    ],
)
def test_phases_of_short_warmups(tune, expected):
    assert phases(tune) == expected


def test_metric_is_shrunk_as_in_stan():
    positions = np.random.RandomState(0).randn(20, SIZE) * SCALES
    covariance = 20 / 25 * np.cov(positions.T) + 1e-3 * 5 / 25 * np.eye(SIZE)
    diagonal = factor_of_covariance(positions, dense=False)
    np.testing.assert_allclose(diagonal**2, np.diag(covariance))
    cholesky = factor_of_covariance(positions, dense=True)
    np.testing.assert_allclose(cholesky @ cholesky.T, covariance)
    batch = factor_of_covariance(np.stack([positions, 2 * positions], axis=1), dense=True)
    np.testing.assert_allclose(batch[0], cholesky)


@pytest.mark.parametrize("dense", [False, True])
def test_windows_learn_from_their_own_draws(dense):
    random = np.random.RandomState(0)
    adaptation = WindowedAdaptation(np.ones((2, SIZE)), 1000, dense=dense)
    plan, window = adaptation.first(), None
    lengths = []
    while plan.length:
        lengths.append(plan.length)
        shape = plan.length, 2, SIZE
        window = SCALES * random.normal(size=shape) if len(lengths) < 7 else np.zeros(shape)
        seen = Seen(window, window, *[window[..., 0]] * 3, np.array([0.5, 0.6]))
        after = adaptation.next(seen)
        if 2 <= len(lengths) <= 6:
            expected = factor_of_covariance(window, dense)
            np.testing.assert_array_equal(after.factor, expected)
        else:
            np.testing.assert_array_equal(after.factor, plan.factor)
        # A new window starts from the step size that there is; the end goes on.
        assert (after.averaging is None) == (len(lengths) >= 6)
        if after.averaging is not None:
            np.testing.assert_array_equal(after.averaging[:, 0], [0.5, 0.6])
        plan = after
    assert lengths == [75, 25, 50, 100, 200, 500, 50]
