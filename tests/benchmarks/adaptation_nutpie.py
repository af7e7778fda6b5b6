"""nutpie in the benchmark of the warmup, in an environment that has no PyMC3."""

import jax
import numpy as np
import nutpie
import nutpie.compiled_pyfunc
import sampling_numpyro  # sets up JAX, before it is imported
from numpyro import infer


class Nutpie:
    """nutpie with its defaults, through a Python function."""

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

    def sample(self, seed):
        """Return the draws, and the leapfrog steps of the warmup and of the draws."""
        trace = nutpie.sample(self.compiled, seed=seed, save_warmup=True, **self.settings)
        steps = {
            name: trace[group]["n_steps"].values
            for name, group in (("warmup", "warmup_sample_stats"), ("draws", "sample_stats"))
        }
        return {"x": trace["posterior"]["x"].values, **steps}, None


METHODS = {"nutpie": Nutpie}

if __name__ == "__main__":
    from sampling_worker import serve

    serve(METHODS)
