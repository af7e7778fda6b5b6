"""The ways of sampling that are compared, but for NumPyro, which has an environment of its own.

Each is made with the name of a model, numbers of draws and the target of the acceptance rate. Its
``sample`` returns the draws by name, and the seconds that sampling alone took.
"""

import sampling_models  # isort: skip  # on Python 3.11 it has to come before PyMC3

import concurrent.futures
import time

import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf
from sampling_worker import serve

import pymc3_tf

CHAINS = CORES = 2


class PyMC3:
    """pm.sample of the plain model."""

    likelihood = "plain"
    cores = CORES

    def __init__(self, model, draws, tune, target_accept):
        with pm.Model() as self.model:
            getattr(sampling_models.MODELS[model](), self.likelihood)()
        self.options = {"draws": draws, "tune": tune, "target_accept": target_accept}

    def sample(self, seed, chains=CHAINS):
        with self.model:
            trace = pm.sample(
                **self.options,
                chains=chains,
                cores=self.cores,
                random_seed=seed,
                progressbar=False,
                compute_convergence_checks=False,
                return_inferencedata=False,
            )
        names = [v.name for v in self.model.unobserved_RVs if not v.name.endswith("__")]
        found = {name: np.stack(trace.get_values(name, combine=False)) for name in names}
        return found, trace.report.t_sampling


class PyMC3Density(PyMC3):
    """pm.sample of the model with a TFDensity."""

    likelihood = "density"


class Bridge(PyMC3):
    """pm.sample of the model with two ops that each run a session."""

    likelihood = "bridge"
    cores = 1  # its session hangs in a forked process


class XLA(PyMC3):
    """pymc3_tf.sample of the plain model."""

    def sample(self, seed, chains=CHAINS):
        idata = pymc3_tf.sample(
            **self.options, chains=chains, model=self.model, random_seed=seed, progressbar=False
        )
        found = {name: array.values for name, array in idata.posterior.items()}
        return found, idata.posterior.attrs["sampling_time"]


class XLADensity(XLA):
    """pymc3_tf.sample of the model with a TFDensity."""

    likelihood = "density"


class Batched:
    """Kernels of TensorFlow Probability for a log density written by hand: one batch of chains."""

    batch = [CHAINS]

    def __init__(self, model, draws, tune, target_accept):
        import sampling_by_hand
        import tensorflow_probability as tfp

        self.by_hand = by_hand = sampling_by_hand.MODELS[model]()
        number = [tf.constant(x, tf.float64) for x in (0.1, target_accept, 10)]
        self.start = np.zeros([*self.batch, by_hand.size])
        if model == "outliers":  # where its priors have their centres
            self.start[..., [1, 3, 4]] = 400, 400, 9

        def trace(_, results):
            nuts = results.inner_results.inner_results
            return {
                "lp": nuts.target_log_prob,
                "energy": nuts.energy,
                "acceptance_rate": nuts.log_accept_ratio,
                "step_size": nuts.step_size,
                "n_steps": nuts.leapfrogs_taken,
                "diverging": nuts.has_divergence,
            }

        @tf.function(jit_compile=True, autograph=False)
        def run(start, seed):
            kernel = tfp.experimental.mcmc.PreconditionedNoUTurnSampler(by_hand.logp, number[0])
            kernel = tfp.experimental.mcmc.DiagonalMassMatrixAdaptation(
                kernel,
                tfp.experimental.stats.RunningVariance.from_stats(
                    number[2],
                    tf.zeros(by_hand.size, tf.float64),
                    tf.ones(by_hand.size, tf.float64),
                ),
                # After that, only the step size is adapted.
                num_estimation_steps=int(0.7 * tune),
            )
            kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(
                kernel, num_adaptation_steps=tune, target_accept_prob=number[1]
            )
            return tfp.mcmc.sample_chain(
                draws, start, kernel=kernel, num_burnin_steps=tune, trace_fn=trace, seed=seed
            )

        self.run = run

    def chains(self, seed):
        """Return positions and statistics, shape (draws, chains, ...)."""
        positions, stats = self.run(self.jittered(seed), tf.constant([0, seed], tf.int32))
        return positions.numpy(), {name: array.numpy() for name, array in stats.items()}

    def jittered(self, seed):
        shape = self.start.shape
        return tf.constant(self.start + np.random.RandomState(seed).uniform(-1, 1, shape))

    def sample(self, seed):
        begin = time.perf_counter()
        positions, stats = self.chains(seed)
        sampling = time.perf_counter() - begin
        values = self.by_hand.values(np.swapaxes(positions, 0, 1))
        stats = {name: np.swapaxes(array, 0, 1) for name, array in stats.items() if array.ndim == 2}
        idata = az.from_dict(posterior=values, sample_stats=stats)
        return {name: array.values for name, array in idata.posterior.items()}, sampling


class Threads(Batched):
    """The same, in a program for one chain that each of two threads runs."""

    batch = []

    def chains(self, seed):
        self.run.get_concrete_function(self.jittered(seed), tf.constant([0, seed], tf.int32))
        with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
            runs = list(pool.map(super().chains, [2 * seed, 2 * seed + 1]))
        positions, stats = zip(*runs)
        names = stats[0]
        return np.stack(positions, 1), {n: np.stack([s[n] for s in stats], 1) for n in names}


class Windowed:
    """TensorFlow Probability's windowed_adaptive_nuts of a joint distribution."""

    def __init__(self, model, draws, tune, target_accept):
        import sampling_by_hand
        import tensorflow_probability as tfp

        distribution, y = sampling_by_hand.JOINT_DISTRIBUTIONS[model]()

        @tf.function(jit_compile=True, autograph=False)
        def run(seed):
            return tfp.experimental.mcmc.windowed_adaptive_nuts(
                draws,
                distribution,
                n_chains=CHAINS,
                num_adaptation_steps=tune,
                dual_averaging_kwargs={
                    "target_accept_prob": tf.constant(target_accept, tf.float64)
                },
                seed=seed,
                y=y,
            )

        self.run = run

    def sample(self, seed):
        begin = time.perf_counter()
        found, _ = self.run(tf.constant([0, seed], tf.int32))
        values = {name: np.swapaxes(x.numpy(), 0, 1) for name, x in found._asdict().items()}
        sampling = time.perf_counter() - begin
        idata = az.from_dict(posterior=values)
        return {name: array.values for name, array in idata.posterior.items()}, sampling


METHODS = {
    "bridge": Bridge,
    "pymc3": PyMC3,
    "density": PyMC3Density,
    "xla": XLA,
    "xla_density": XLADensity,
    "batched": Batched,
    "threads": Threads,
    "windowed": Windowed,
}

if __name__ == "__main__":
    serve(METHODS)
