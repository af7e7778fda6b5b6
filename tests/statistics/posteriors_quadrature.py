"""Posteriors by quadrature on a grid, of what is left when the rest is integrated in closed form.

The likelihoods on the grids are NumPy's and SciPy's, and a filter that is written here.
"""

import numpy as np
import pymc3 as pm
import tensorflow as tf
import tensorflow_probability as tfp
from contract.twins import student_t
from marginals import Posterior, mixture, on_grid, on_grids, runge_kutta_step, weights_on
from scipy import stats
from support import tf_normal

tfd = tfp.distributions


def outliers():
    """The location and scale of data of Cauchy, two of which are far away."""
    y = np.array([-0.9, 0.1, 0.4, 0.5, 0.9, 1.2, 1.4, 2.0, 9.0, -14.0])

    def build():
        params = {"nu": np.float64(1), "mu": pm.Normal("mu", 0.0, 3.0)}
        params["sigma"] = pm.math.exp(pm.Normal("log_scale", 0.0, 1.0))
        pm.TFDensity("y", student_t, params, observed=y)

    def logp(mu, log_scale):
        prior = stats.norm.logpdf(mu, 0.0, 3.0) + stats.norm.logpdf(log_scale)
        z = (y - mu[..., None]) / np.exp(log_scale)[..., None]
        return prior - np.log1p(z**2).sum(-1) - len(y) * log_scale

    marginals = on_grids(logp, (-6.0, 6.0), (-5.0, 5.0))
    expected = {"mu": marginals[:1], "log_scale": marginals[1:]}
    return Posterior("heavy tails: outliers", "quadrature", build, expected)


def two_groups():
    """A mixture of two normals: the share of the second, and where it is."""
    random = np.random.RandomState(1)
    y = np.concatenate([random.normal(0.0, 1.0, 40), random.normal(2.5, 1.0, 20)])

    def density(y, share, mu):
        far = tf.math.log(share) + tf_normal(y, mu, np.float64(1))
        near = tf.math.log1p(-share) + tf_normal(y, np.float64(0), np.float64(1))
        return tf.reduce_logsumexp(tf.stack([near, far]), axis=0)

    def build():
        params = {"share": pm.Beta("share", 2.0, 2.0), "mu": pm.Normal("mu", 2.0, 1.0)}
        pm.TFDensity("y", density, params, observed=y)

    def logp(share, mu):
        prior = stats.beta.logpdf(share, 2.0, 2.0) + stats.norm.logpdf(mu, 2.0, 1.0)
        share, mu = share[..., None], mu[..., None]
        both = (1 - share) * stats.norm.pdf(y) + share * stats.norm.pdf(y, mu)
        return prior + np.log(both).sum(-1)

    marginals = on_grids(logp, (0.0, 1.0), (-4.0, 8.0))
    expected = {"share": marginals[:1], "mu": marginals[1:]}
    return Posterior("mixture", "quadrature", build, expected)


def growth():
    """Logistic growth, solved by Runge and Kutta here and in closed form for the reference."""
    t, start, noise, per_point = np.arange(1.0, 11.0), 0.1, 0.05, 5

    def solution(rate, limit):
        return limit / (1 + (limit / start - 1) * np.exp(-rate * t))

    y = solution(0.9, 1.0) + np.random.RandomState(2).normal(0.0, noise, len(t))

    def density(y, rate, limit):
        def change(x):
            return rate * x * (1 - x / limit)

        steps = np.full(len(t) * per_point, 1 / per_point)
        path = tf.scan(runge_kutta_step(change), steps, initializer=tf.constant(start, tf.float64))
        return tf_normal(y, path[per_point - 1 :: per_point], np.float64(noise))

    def build():
        params = {name: pm.Lognormal(name, 0.0, 0.5) for name in ("rate", "limit")}
        pm.TFDensity("y", density, params, observed=y, jit_compile=True)

    def logp(rate, limit):
        prior = stats.lognorm.logpdf(rate, 0.5) + stats.lognorm.logpdf(limit, 0.5)
        mean = solution(rate[..., None], limit[..., None])
        return prior + stats.norm.logpdf(y, mean, noise).sum(-1)

    marginals = on_grids(logp, (0.3, 2.0), (0.3, 2.0))
    expected = {"rate": marginals[:1], "limit": marginals[1:]}
    return Posterior("differential equation", "quadrature", build, expected)


def logistic():
    random = np.random.RandomState(3)
    x = random.normal(size=40)
    y = (random.uniform(size=40) < 1 / (1 + np.exp(-(0.5 + 1.5 * x)))).astype(float)

    def build():
        params = {"a": pm.Normal("a", 0.0, 2.0), "b": pm.Normal("b", 0.0, 2.0)}
        pm.TFDensity(
            "y",
            lambda y, a, b: y * (a + b * x) - tf.math.softplus(a + b * x),
            params,
            observed=y,
        )

    def logp(a, b):
        prior = stats.norm.logpdf(a, 0.0, 2.0) + stats.norm.logpdf(b, 0.0, 2.0)
        at = a[..., None] + b[..., None] * x
        return prior + (y * at - np.logaddexp(0.0, at)).sum(-1)

    marginals = on_grids(logp, (-6.0, 6.0), (-6.0, 12.0))
    return Posterior(
        "logistic regression", "quadrature", build, {"a": marginals[:1], "b": marginals[1:]}
    )


def survival():
    """Times of Weibull, of which those above three were not waited for."""
    times = stats.weibull_min.rvs(1.5, scale=2.0, size=30, random_state=4)
    seen, times = (times < 3.0).astype(float), np.minimum(times, 3.0)

    def density(t, log_shape, log_scale):
        z = tf.math.log(t) - log_scale
        shape = tf.exp(log_shape)
        return seen * (log_shape - log_scale + (shape - 1) * z) - tf.exp(shape * z)

    def build():
        params = {name: pm.Normal(name, 0.0, 1.0) for name in ("log_shape", "log_scale")}
        pm.TFDensity("t", density, params, observed=times)

    def logp(log_shape, log_scale):
        prior = stats.norm.logpdf(log_shape) + stats.norm.logpdf(log_scale)
        law = stats.weibull_min(np.exp(log_shape)[..., None], scale=np.exp(log_scale)[..., None])
        return prior + np.where(seen == 1, law.logpdf(times), law.logsf(times)).sum(-1)

    marginals = on_grids(logp, (-3.0, 3.0), (-3.0, 3.0))
    expected = {"log_shape": marginals[:1], "log_scale": marginals[1:]}
    return Posterior("censored data", "quadrature", build, expected)


def groups():
    """Means of five groups. Given the two scales they are normal, and integrated in closed form."""
    number, size = 5, 4
    random = np.random.RandomState(5)
    y = random.normal(random.normal(1.0, 1.5, number)[:, None], 1.0, (number, size))

    def build():
        mu = pm.Normal("mu", 0.0, 5.0)
        tau, sigma = pm.HalfNormal("tau", 2.0), pm.HalfNormal("sigma", 2.0)
        z = pm.Normal("z", 0.0, 1.0, shape=number)
        theta = pm.Deterministic("theta", mu + tau * z)
        pm.TFDensity(
            "y",
            lambda y, theta, sigma: tf_normal(y, theta[:, None], sigma),
            {"theta": theta, "sigma": sigma},
            observed=y,
        )

    def given(tau, sigma):
        """Log likelihood, mean and variance of mu and the groups' means, for each pair."""
        prior = np.full((number + 1, number + 1), 25.0) + tau[..., None, None] ** 2 * np.diag(
            [0.0] + [1.0] * number
        )
        seen = prior[..., 1:, 1:] + sigma[..., None, None] ** 2 / size * np.eye(number)
        gain = np.linalg.solve(seen, prior[..., 1:, :])
        means = y.mean(1)
        residual = np.linalg.solve(seen, np.broadcast_to(means[:, None], (*tau.shape, number, 1)))
        logp = -0.5 * (means @ residual)[..., 0] - 0.5 * np.linalg.slogdet(seen)[1]
        within = np.sum((y - means[:, None]) ** 2)
        logp -= number * (size - 1) * np.log(sigma) + 0.5 * within / sigma**2
        logp += stats.halfnorm.logpdf(tau, scale=2.0) + stats.halfnorm.logpdf(sigma, scale=2.0)
        variance = np.diagonal(prior - np.swapaxes(prior[..., 1:, :], -1, -2) @ gain, 0, -2, -1)
        return logp, np.swapaxes(gain, -1, -2) @ means, variance

    tau, sigma = (np.arange(150) + 0.5) / 15, (np.arange(120) + 0.5) / 30
    axes = tau, sigma
    weights = weights_on(lambda *pair: given(*pair)[0], *axes)
    _, means, variances = given(*np.meshgrid(*axes, indexing="ij"))
    held = weights > 1e-7
    marginals = [
        mixture(weights[held], means[held][:, i], np.sqrt(variances[held][:, i]))
        for i in range(number + 1)
    ]
    expected = {"mu": marginals[:1], "theta": marginals[1:]}
    expected["tau"] = [on_grid(tau, weights.sum(1), cut="left")]
    expected["sigma"] = [on_grid(sigma, weights.sum(0))]
    return Posterior("hierarchical", "quadrature", build, expected, {"target_accept": 0.95})


def filtered(y, level, noise):
    """Log likelihood of a random walk seen through noise, by Kalman's filter, for any scales."""
    mean, variance, total = np.zeros_like(level), np.ones_like(level), np.zeros_like(level)
    for value in y:
        seen = variance + noise**2
        total += stats.norm.logpdf(value, mean, np.sqrt(seen))
        mean = mean + variance / seen * (value - mean)
        variance = variance * noise**2 / seen + level**2
    return total


def state_space():
    """TensorFlow Probability's state space model, and a filter of a few lines."""
    length, one = 25, np.eye(1)
    random = np.random.RandomState(6)
    y = random.normal(0.0, 0.4, length).cumsum() + random.normal(0.0, 0.7, length)

    def build():
        def model(log_level, log_noise):
            return tfd.LinearGaussianStateSpaceModel(
                num_timesteps=length,
                transition_matrix=one,
                transition_noise=tfd.MultivariateNormalDiag(scale_diag=tf.exp(log_level)[None]),
                observation_matrix=one,
                observation_noise=tfd.MultivariateNormalDiag(scale_diag=tf.exp(log_noise)[None]),
                initial_state_prior=tfd.MultivariateNormalDiag(scale_diag=np.ones(1)),
            )

        params = {name: pm.Normal(name, -0.5, 0.7) for name in ("log_level", "log_noise")}
        pm.TFDensity("y", distribution=model, params=params, observed=y[:, None])

    def logp(log_level, log_noise):
        prior = stats.norm.logpdf(log_level, -0.5, 0.7) + stats.norm.logpdf(log_noise, -0.5, 0.7)
        return prior + filtered(y, np.exp(log_level), np.exp(log_noise))

    marginals = on_grids(logp, (-5.0, 4.0), (-5.0, 4.0))
    expected = {"log_level": marginals[:1], "log_noise": marginals[1:]}
    return Posterior("state space: scales", "exact filter, quadrature", build, expected)


MODELS = {
    function.__name__: function
    for function in (
        outliers,
        two_groups,
        growth,
        logistic,
        survival,
        groups,
        state_space,
    )
}
