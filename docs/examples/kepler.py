"""The orbit of a planet, from radial velocities, with an op in C++ that solves Kepler's equation.

The op is in ``kepler_op.cc``; it is built with g++ for the installed TensorFlow. The velocities are
simulated, for a planet on an eccentric orbit, and the model is that of Murray & Correia (2010),
https://arxiv.org/abs/1009.1738.

    python kepler.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines

import argparse
import logging
import subprocess
import tempfile
from pathlib import Path

# Theano's advice on BLAS, and PyMC3's to move to its successor.
logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
logging.getLogger("pymc3").addFilter(lambda record: "outdated" not in record.getMessage())

import pymc3_tf  # before pymc3, for the sake of Python 3.11  # isort: skip
import arviz as az
import numpy as np
import pymc3 as pm
import tensorflow as tf

SOURCE = Path(__file__).resolve().parent / "kepler_op.cc"
TRUTH = {"period": 14.31, "K": 55.0, "e": 0.45, "omega": 1.0, "phase": -0.7, "offset": 3.0}


def build(folder):
    """Compile the op; return the path of the library."""
    library = Path(folder) / "kepler.so"
    # The flags for linking come last: libraries are searched for what comes before them.
    command = ["g++", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
    command += tf.sysconfig.get_compile_flags() + tf.sysconfig.get_link_flags()
    subprocess.run(command, check=True)
    return library


def load(library):
    """Load the op, and register its gradient; return the function of mean anomaly and e."""
    eccentric_anomaly = pymc3_tf.load_op_library(library).eccentric_anomaly

    @tf.RegisterGradient("EccentricAnomaly")
    def gradient(op, upstream):
        E, e = op.outputs[0], op.inputs[1]
        by_mean_anomaly = upstream / (1 - e * tf.cos(E))
        return by_mean_anomaly, tf.reduce_sum(by_mean_anomaly * tf.sin(E))

    return eccentric_anomaly


def radial_velocity(eccentric_anomaly, t, period, K, e, omega, phase, offset):
    """Velocity of the star along the line of sight, by the orbital elements of the planet.

    Parameters
    ----------
    eccentric_anomaly : callable
        Solves Kepler's equation for a vector of mean anomalies.
    t : vector
        Days.
    period : scalar
        Days.
    K, offset : scalar
        Semi-amplitude and velocity of the barycentre, in m/s.
    e, omega : scalar
        Eccentricity, and argument of periastron in radians.
    phase : scalar
        Mean anomaly at t = 0, in radians.
    """
    E = eccentric_anomaly(2 * np.pi * t / period + phase, e)
    distance = 1 - e * tf.cos(E)
    cos_true, sin_true = (tf.cos(E) - e) / distance, tf.sqrt(1 - e**2) * tf.sin(E) / distance
    toward = tf.cos(omega) * cos_true - tf.sin(omega) * sin_true
    return offset + K * (toward + e * tf.cos(omega))


def simulate(eccentric_anomaly, number=40, sigma=4.0, seed=7):
    """Observe the planet of ``TRUTH``: times in days, velocities in m/s."""
    random = np.random.RandomState(seed)
    t = np.sort(random.uniform(-60, 60, number))
    truth = {name: tf.constant(value, tf.float64) for name, value in TRUTH.items()}
    exact = radial_velocity(eccentric_anomaly, tf.constant(t), **truth)
    return t, exact.numpy() + sigma * random.randn(number)


def model(eccentric_anomaly, t, velocity, sigma=4.0):
    """Return the PyMC3 model: priors there, the likelihood in TensorFlow."""

    def log_likelihood(velocity, t, **elements):
        residual = (velocity - radial_velocity(eccentric_anomaly, t, **elements)) / sigma
        return -0.5 * residual**2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)

    with pm.Model() as orbit:
        elements = {
            "period": pm.Normal("period", 14.3, 0.1),  # as a periodogram tells it
            "K": pm.Lognormal("K", np.log(50), 1),
            "e": pm.Beta("e", 0.867, 3.03),  # Kipping (2013), https://arxiv.org/abs/1306.4982
            "omega": pm.Uniform("omega", -np.pi, np.pi),
            "phase": pm.Uniform("phase", -np.pi, np.pi),
            "offset": pm.Normal("offset", 0, 100),
        }
        feeds = {"velocity": velocity, "t": t}
        pm.TFDensity("velocity", log_likelihood, elements, feed_dict=feeds)
    return orbit


def main(arguments=None):
    """Build, simulate, sample, and compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="of each chain, and for tuning")
    parser.add_argument("--output", type=Path, help="file for the draws, in ArviZ's netCDF")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        eccentric_anomaly = load(build(folder))
        t, velocity = simulate(eccentric_anomaly)
        with model(eccentric_anomaly, t, velocity):
            idata = pm.sample(
                options.draws,
                tune=options.draws,
                chains=2,
                init="adapt_diag",
                start={name: TRUTH[name] for name in ("omega", "phase")},
                random_seed=[1, 2],
                progressbar=False,
                return_inferencedata=True,
            )
    summary = az.summary(idata, kind="stats", round_to=4)
    print(summary.assign(truth=[TRUTH[name] for name in summary.index]))
    if options.output:
        idata.to_netcdf(str(options.output))


if __name__ == "__main__":
    main()
