"""The models of the sampling benchmark in NumPyro, in an environment that has no PyMC3."""

import model_data
import numpy as np
import numpyro

numpyro.enable_x64()
numpyro.set_host_device_count(2)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from numpyro import distributions as dist  # noqa: E402
from numpyro import infer, sample  # noqa: E402


def line(points):
    x, y = model_data.line_data(points)

    def model():
        m, b, logs = (sample(name, dist.Uniform(-5, 5)) for name in ("m", "b", "logs"))
        sample("y", dist.Normal(m * x + b, jnp.exp(logs)), obs=y)

    return model


def schools():
    y, sigma = model_data.schools()

    def model():
        mu = sample("mu", dist.Normal(0, 5))
        tau = sample("tau", dist.HalfCauchy(5))
        eta = sample("eta", dist.Normal(0, 1).expand([8]).to_event(1))
        sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    return model


def correlated():
    factor = np.linalg.cholesky(model_data.correlated())

    def model():
        sample("x", dist.MultivariateNormal(jnp.zeros(len(factor)), scale_tril=factor))

    return model


def logistic():
    x, y = model_data.logistic()

    def model():
        beta = sample("beta", dist.Normal(0, 2.5).expand([x.shape[1]]).to_event(1))
        sample("y", dist.Bernoulli(logits=x @ beta), obs=y)

    return model


def factors():
    x, y = model_data.factors()

    def model():
        beta = sample("beta", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
        sample("y", dist.Normal(x @ beta, sample("sigma", dist.HalfNormal(1))), obs=y)

    return model


def gaussian_process(points=100):
    x, y = model_data.counts(points)
    squares, jitter = np.subtract.outer(x, x) ** 2, 1e-6 * np.eye(len(x))

    def model():
        ell = sample("ell", dist.Gamma(4, 2))
        height = sample("height", dist.HalfNormal(1))
        white = sample("f_rotated_", dist.Normal(0, 1).expand([len(x)]).to_event(1))
        covariance = height**2 * jnp.exp(-0.5 * squares / ell**2) + jitter
        sample("y", dist.Poisson(jnp.exp(jnp.linalg.cholesky(covariance) @ white)), obs=y)

    return model


def outliers():
    x, y, sigma_y = model_data.outliers()

    def model():
        m = sample("m", dist.Normal(0, 10))
        height = sample("height", dist.Normal(400, 200))
        P_b = sample("P_b", dist.Uniform(0, 1))
        Y_b = sample("Y_b", dist.Normal(400, 200))
        ln_V_b = sample("ln_V_b", dist.Normal(9, 2))
        inlier = dist.Normal(m * (x - x.mean()) + height, sigma_y).log_prob(y)
        outlier = dist.Normal(Y_b, jnp.sqrt(jnp.exp(ln_V_b) + sigma_y**2)).log_prob(y)
        mixture = jnp.logaddexp(jnp.log1p(-P_b) + inlier, jnp.log(P_b) + outlier)
        numpyro.factor("y", mixture.sum())

    return model


MODELS = {
    "line_50": lambda: line(50),
    "line_1e5": lambda: line(100_000),
    "schools": schools,
    "correlated": correlated,
    "logistic": logistic,
    "gaussian_process": gaussian_process,
    "gaussian_process_500": lambda: gaussian_process(500),
    "outliers": outliers,
    "factors": factors,
}


class NumPyro:
    """NumPyro's NUTS, one device for each chain."""

    def __init__(self, model, draws, tune, target_accept, max_treedepth=10):
        declared = MODELS[model]()

        def chain(key):
            kernel = infer.NUTS(
                declared, target_accept_prob=target_accept, max_tree_depth=max_treedepth
            )
            mcmc = infer.MCMC(kernel, num_warmup=tune, num_samples=draws, progress_bar=False)
            mcmc.run(key, extra_fields=("energy", "num_steps", "diverging"))
            return mcmc.get_samples(), mcmc.get_extra_fields()

        # MCMC(num_chains=2) does the same, but compiles it again for each run.
        self.chains = jax.pmap(chain)

    def sample(self, seed):
        """Return the draws by name, shape (chains, draws, ...)."""
        found, _ = jax.device_get(self.chains(jax.random.split(jax.random.PRNGKey(seed), 2)))
        return {name: np.asarray(array) for name, array in found.items()}, None


METHODS = {"numpyro": NumPyro}

if __name__ == "__main__":
    from sampling_worker import serve

    serve(METHODS)
