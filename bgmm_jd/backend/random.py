"""Random numbers that are the same in eager mode, in a graph and under XLA.

TensorFlow's stateless generators give equal *integers* in every mode, but
`tf.random.stateless_normal` turns them into floats differently under XLA. A fit could then not be
replayed in eager mode, where it can be debugged. Here every draw starts as a word of random bits
and is mapped to its distribution by one elementwise formula, so the modes agree to the rounding of
the elementary functions.

One word makes one float of the same width, and each formula uses the bits where its distribution
needs them. Words and formulas are separate functions, so that several kinds of draws can be made by
one call of the generator: each call costs XLA a quarter of a second of compilation.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bgmm_jd.backend.numerics import polynomial

# Philox4x32 (Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*). It is chosen
# explicitly, because the automatic choice depends on the mode: under XLA on a CPU, seeds with a
# negative first number give other words than outside XLA. TFP's `split_seed` uses the automatic
# choice.
_PHILOX = tf.random.Algorithm.PHILOX.value

_WORD_DTYPE = {tf.float32: tf.uint32, tf.float64: tf.uint64}
_FLOAT_DTYPE = {word: real for real, word in _WORD_DTYPE.items()}


def stateless_seed(seed: Any, salt: str | None = None) -> tf.Tensor:
    """Convert any kind of seed to the pair of integers that the functions of this module take.

    Unlike in `tfp.random.sanitize_seed`, an integer is the seed itself. There it is passed to
    TensorFlow's global generator, which ignores seeds under XLA and gives new numbers at each call
    outside it.

    Parameters
    ----------
    seed : int, pair of int, int32 tensor [2], or None
        None gives a new random seed at each call.
    salt : str, optional
        Makes the draws of different families independent when they have the same seed.

    Returns
    -------
    int32 tensor [2]
    """
    if isinstance(seed, Integral):
        low_high = [int(seed) & 0xFFFFFFFF, (int(seed) >> 32) & 0xFFFFFFFF]
        seed = np.array(low_high, np.uint32).view(np.int32)
    return tfp.random.sanitize_seed(seed, salt=salt)


def fold_in(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Derive a new seed from a seed and a number.

    Computed by NumPy, because TensorFlow takes milliseconds for it outside a compiled function.

    Parameters
    ----------
    seed : int32 tensor [2]
    number : int, not negative

    Returns
    -------
    int32 tensor [2]
    """
    words = np.asarray(seed, np.int32).view(np.uint32)
    mixed = np.random.SeedSequence([*words.tolist(), number]).generate_state(2)
    return tf.constant(mixed.view(np.int32))


def offset_seed(seed: tf.Tensor, along: Any = 0, across: Any = 0) -> tf.Tensor:
    """Derive a seed for each pair of numbers by adding them, for use in compiled functions.

    Neighbouring seeds have unrelated draws: they are keys of a generator that mixes each bit of its
    key into all bits of a word.

    Parameters
    ----------
    seed : int32 tensor [2]
        A seed that is far from all others in use, such as one from `fold_in`.
    along, across : int32 scalars

    Returns
    -------
    int32 tensor [2]
    """
    return seed + tf.stack([along, across])


def random_words(shape: Any, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Draw words of random bits, each as wide as a float of `dtype`.

    Parameters
    ----------
    shape : sequence of int, or int32 tensor [R]
        Shape of the result, of rank R.
    seed : int32 tensor [2]
        Stateless seed; equal seeds give equal words.
    dtype : tf.DType
        float32 or float64, the dtype that the words will be mapped to.

    Returns
    -------
    uint32 or uint64 tensor of `shape`

    Raises
    ------
    TypeError
        For any other dtype.
    """
    dtype = tf.as_dtype(dtype)
    if dtype not in _WORD_DTYPE:
        raise TypeError(f"dtype must be float32 or float64; got {dtype.name}. Cast the parameters.")
    # The seed is used as the key. `tf.random.stateless_uniform` would first call the generator once
    # more to scramble it, which Philox does by itself.
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=shape,
        key=tf.reshape(tf.bitcast(seed, tf.uint64), [1]),
        counter=tf.zeros([2], tf.uint64),
        alg=_PHILOX,
        dtype=_WORD_DTYPE[dtype],
    )


def half_shape(shape: Any) -> tf.Tensor:
    """Return the shape of the first half of `shape[0]` antithetic draws, the larger half if odd."""
    return tf.concat([[(shape[0] + 1) // 2], shape[1:]], axis=0)


def join_pairs(first: tf.Tensor, second: tf.Tensor, count: Any) -> tf.Tensor:
    """Join draws and their antithetic partners to `count` draws [count, ...].

    Parameters
    ----------
    first, second : tensors of the shape given by `half_shape`
        If `count` is odd, the last partner is dropped.
    count : int or int32 scalar
    """
    return tf.concat([first, second], axis=0)[:count]


def to_exponential(words: tf.Tensor) -> tf.Tensor:
    """Map words k to exponential draws of mean 1: -log((k + 1/2) / 2^n), with n = 32 or 64 bits.

    The argument of the logarithm is rounded near 1, where the logarithm is flat, and exact near 0,
    where it is steep. The tail is therefore resolved down to the probability of one word, and ends
    at 22.9 in float32, 45.1 in float64. An argument that rounds to 1 gives an exact 0, with
    probability 2^-25 in float32, 2^-54 in float64.

    Parameters
    ----------
    words : uint32 or uint64 tensor [...]

    Returns
    -------
    float32 or float64 tensor [...]
        Not negative.
    """
    dtype = _FLOAT_DTYPE[words.dtype]
    return -tf.math.log((tf.cast(words, dtype) + 0.5) * 2.0 ** (-8 * words.dtype.size))


def to_normal(words: tf.Tensor) -> tf.Tensor:
    """Map words to standard normal draws by the inverse of the distribution function.

    The lowest bit is the sign; the others, k, give the tail probability p = (k + 1/2) / 2^n in
    (0, 1/2], with n = 32 or 64. Probabilities are counted from the nearer tail, because floats are
    dense near 0 but not near 1: no float32 lies within 3e-8 of 1. Both tails are thus resolved down
    to the probability of one word: draws reach 6.3 in float32 and 9.2 in float64, and are exactly
    symmetric. See `_upper_quantile` for the inverse.

    Parameters
    ----------
    words : uint32 or uint64 tensor [...]

    Returns
    -------
    float32 or float64 tensor [...]
    """
    dtype = _FLOAT_DTYPE[words.dtype]
    one = tf.constant(1, words.dtype)
    magnitude = tf.cast(tf.bitwise.right_shift(words, one), dtype)
    tail = (magnitude + 0.5) * 2.0 ** (-8 * words.dtype.size)
    sign = 1.0 - 2.0 * tf.cast(tf.bitwise.bitwise_and(words, one), dtype)
    return sign * _upper_quantile(tail)


def normal(
    shape: Any, seed: tf.Tensor, dtype: tf.DType = tf.float32, antithetic: bool = False
) -> tf.Tensor:
    """Draw from the standard normal distribution by `to_normal` of `random_words`.

    Parameters
    ----------
    shape, seed, dtype
        See `random_words`, also for the error raised.
    antithetic : bool
        Whether the second half along the first axis is minus the first half, so that odd functions
        of the draws have no error in their means.

    Returns
    -------
    tensor of `shape` and `dtype`
    """
    if not antithetic:
        return to_normal(random_words(shape, seed, dtype))
    half = to_normal(random_words(half_shape(shape), seed, dtype))
    return join_pairs(half, -half, shape[0])


# Coefficients of the numerator and denominator, from the seventh power down to the constant, of the
# three rational functions of AS 241 (routine PPND16): for tail probabilities above 0.075, above
# exp(-25), and below that.
_CENTRAL = (
    (2509.0809287301226727, 5226.495278852854561),
    (33430.575583588128105, 28729.085735721942674),
    (67265.770927008700853, 39307.89580009271061),
    (45921.953931549871457, 21213.794301586595867),
    (13731.693765509461125, 5394.1960214247511077),
    (1971.5909503065514427, 687.1870074920579083),
    (133.14166789178437745, 42.313330701600911252),
    (3.387132872796366608, 1.0),
)
_MIDDLE = (
    (7.7454501427834140764e-4, 1.05075007164441684324e-9),
    (0.0227238449892691845833, 5.475938084995344946e-4),
    (0.24178072517745061177, 0.0151986665636164571966),
    (1.27045825245236838258, 0.14810397642748007459),
    (3.64784832476320460504, 0.68976733498510000455),
    (5.7694972214606914055, 1.6763848301838038494),
    (4.6303378461565452959, 2.05319162663775882187),
    (1.42343711074968357734, 1.0),
)
_FAR = (
    (2.01033439929228813265e-7, 2.04426310338993978564e-15),
    (2.71155556874348757815e-5, 1.4215117583164458887e-7),
    (0.0012426609473880784386, 1.8463183175100546818e-5),
    (0.026532189526576123093, 7.868691311456132591e-4),
    (0.29656057182850489123, 0.0148753612908506148525),
    (1.7848265399172913358, 0.13692988092273580531),
    (5.4637849111641143699, 0.59983220655588793769),
    (6.6579046435011037772, 1.0),
)


def _upper_quantile(tail: tf.Tensor) -> tf.Tensor:
    """Return the standard normal quantile x >= 0 that is exceeded with probability `tail`.

    `tail` is in (0, 1/2]. Wichura (1988), The percentage points of the normal distribution,
    Algorithm AS 241, Applied Statistics 37(3). `tf.math.ndtri` is not accurate enough: XLA computes
    it by erfinv(2 p - 1), which has lost three digits at 5 standard deviations, and in float32 all
    digits beyond 5.4.
    """
    centre = 0.5 - tail
    central = centre * _rational(_CENTRAL, 0.180625 - tf.square(centre))
    root = tf.sqrt(-tf.math.log(tail))
    outer = _rational(_MIDDLE, root - 1.6)
    if tail.dtype == tf.float64:  # the tail of 32 bits ends before this region
        outer = tf.where(root <= 5.0, outer, _rational(_FAR, root - 5.0))
    return tf.where(centre <= 0.425, central, outer)


def _rational(coefficients: tuple[tuple[float, float], ...], x: tf.Tensor) -> tf.Tensor:
    """Return the quotient of two polynomials, which are evaluated together."""
    both = polynomial(coefficients[::-1], x[..., tf.newaxis])
    numerator, denominator = tf.unstack(both, num=2, axis=-1)
    return numerator / denominator
