"""nutpie and NumPyro in the benchmark of the warmup, in an environment that has no PyMC3."""

import jax
import numpy as np
import nutpie
import nutpie.compiled_pyfunc
import sampling_numpyro  # sets up JAX, before it is imported
from numpyro import infer
from numpyro.util import fori_collect


class Nutpie:
    """nutpie with its defaults, through a Python function."""

    more = {}

    def __init__(self, model, draws, chains):
        declared = sampling_numpyro.MODELS[model]()
        start = infer.util.initialize_model(jax.random.PRNGKey(0), declared)
        flat, unravel = jax.flatten_util.ravel_pytree(start.param_info.z)
        logp = jax.jit(jax.value_and_grad(lambda x: -start.potential_fn(unravel(x))))

        def value_and_gradient(x):
            value, gradient = logp(x)
            return float(value), np.asarray(gradient)

        self.compiled = nutpie.compiled_pyfunc.from_pyfunc(
            len(flat),
            lambda: value_and_gradient,
            lambda *_: lambda x: {"x": np.asarray(x)},
            [np.dtype("float64")],
            [(len(flat),)],
            ["x"],
        )
        self.settings = {"draws": draws, "chains": chains, "cores": 2, "progress_bar": False}
        self.settings.update(self.more)

    def sample(self, seed):
        """Return the draws, and the leapfrog steps of the warmup and of the draws."""
        trace = nutpie.sample(self.compiled, seed=seed, save_warmup=True, **self.settings)
        steps = {
            name: trace[group]["n_steps"].values
            for name, group in (("warmup", "warmup_sample_stats"), ("draws", "sample_stats"))
        }
        return {"x": trace["posterior"]["x"].values, **steps}, None


class LowRankNutpie(Nutpie):
    """nutpie with its low rank mass matrix."""

    more = {"low_rank_modified_mass_matrix": True}


class NumPyro:
    """NumPyro's NUTS with its defaults, two chains on each of two devices."""

    def __init__(self, model, draws, chains):
        self.tune, self.chains = draws, chains  # as many of the one as of the other
        kernel = infer.NUTS(sampling_numpyro.MODELS[model](), target_accept_prob=0.8)

        def chain(key):
            state = kernel.init(key, self.tune, None, (), {})
            return fori_collect(
                0,
                self.tune + draws,
                lambda state: kernel.sample(state, (), {}),
                state,
                lambda state: (jax.flatten_util.ravel_pytree(state.z)[0], state.num_steps),
                progbar=False,
            )

        self.sample_all = jax.pmap(lambda keys: jax.lax.map(chain, keys))

    def sample(self, seed):
        """Return the draws, and the leapfrog steps of the warmup and of the draws."""
        keys = jax.random.split(jax.random.PRNGKey(seed), (2, self.chains // 2))
        x, steps = (
            np.asarray(array).reshape(self.chains, *array.shape[2:])
            for array in jax.device_get(self.sample_all(keys))
        )
        tune = self.tune
        return {"x": x[:, tune:], "warmup": steps[:, :tune], "draws": steps[:, tune:]}, None


METHODS = {"nutpie": Nutpie, "nutpie_lowrank": LowRankNutpie, "numpyro": NumPyro}

if __name__ == "__main__":
    from sampling_worker import serve

    serve(METHODS)
