"""Random numbers of the trajectories: one number from one seed, in a dozen operations.

TensorFlow's own are good for many numbers at once. One number costs hundreds of operations: the
seed goes through ten rounds of the Philox generator and makes a key, which goes through ten more. A
trajectory needs two seeds and one number for each leapfrog step, so most of the compiled program
would be that. Here a seed is 64 bits, and a step of SplitMix64 makes a number, or another seed, of
it (Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195).

The functions have the names and arguments of TensorFlow Probability's module ``samplers``, whose
place they take in the methods of a sampler.
"""

from __future__ import annotations

import sys
import types
from typing import Any, List, Sequence

import numpy as np
import tensorflow as tf

# The constants of SplitMix64, as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def used_by(base: Any) -> Any:
    """Return a subclass whose methods find this module where they look for ``samplers``.

    Parameters
    ----------
    base : type
        A sampler of TensorFlow Probability.
    """

    def rebound(method: Any) -> Any:
        names = {**method.__globals__, "samplers": sys.modules[__name__]}
        return types.FunctionType(
            method.__code__, names, method.__name__, method.__defaults__, method.__closure__
        )

    own = {
        name: rebound(method)
        for name, method in vars(base).items()
        if isinstance(method, types.FunctionType) and "samplers" in method.__code__.co_names
    }
    return type(base.__name__, (base,), own)


def sanitize_seed(seed: tf.Tensor) -> tf.Tensor:
    """Return the seed: it is one already."""
    return seed


def zeros_seed() -> tf.Tensor:
    """Return a seed to stand where the numbers do not matter."""
    return tf.zeros([], tf.int64)


def seed_of(words: tf.Tensor) -> tf.Tensor:
    """Return a seed, from two words of 32 bits.

    Parameters
    ----------
    words : tf.Tensor of int32, shape (2,)

    Returns
    -------
    tf.Tensor of int64, shape ()
    """
    return tf.bitcast(words, tf.int64)


def fold_in(seed: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Return the seed with some number, of those that follow from a seed."""
    return _mixed(seed + _STEP * (tf.cast(number, tf.int64) + 1))


def split_seed(seed: tf.Tensor, n: int = 2) -> List[tf.Tensor]:
    """Return so many seeds that follow from a seed. It must not be used again."""
    return tf.unstack(fold_in(seed[..., None], np.arange(n)), axis=-1)


def uniform(
    shape: Sequence[int], seed: tf.Tensor, minval: int = 0, maxval: int = 1, dtype: Any = tf.float64
) -> tf.Tensor:
    """Return uniform numbers: `maxval` is not among them.

    Parameters
    ----------
    shape : sequence of int
    seed : tf.Tensor of int64, shape ()
    minval, maxval : int, optional
        Default: from 0 to 1.
    dtype : tf.DType, optional
        float64 (the default), float32 or an integer type.
    """
    number = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    dtype = tf.as_dtype(dtype)
    # So many bits that the number cannot be rounded up to 1.
    bits = 24 if dtype == tf.float32 else 53
    unit = tf.cast(_shifted(fold_in(seed, number), 64 - bits), tf.float64) * 2.0**-bits
    return tf.cast(minval + (maxval - minval) * unit, dtype)


def normal(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Return standard normal numbers of float64, by TensorFlow, with the seed as the key."""
    return tf.raw_ops.StatelessRandomNormalV2(
        shape=shape,
        key=tf.bitcast(seed, tf.uint64)[None],
        counter=tf.zeros([2], tf.uint64),
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.float64,
    )


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """Return 64 bits, each of which depends on all bits of x."""
    for shift, factor in zip((30, 27), _FACTORS):
        x = tf.bitwise.bitwise_xor(x, _shifted(x, shift)) * factor
    return tf.bitwise.bitwise_xor(x, _shifted(x, 31))


def _shifted(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Return x, shifted to the right; zeros come from the left."""
    unsigned = tf.bitcast(x, tf.uint64)
    return tf.bitcast(tf.bitwise.right_shift(unsigned, tf.constant(bits, tf.uint64)), tf.int64)
