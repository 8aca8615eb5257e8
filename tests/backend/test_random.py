"""Draws that do not depend on how the program is run, checked against scipy's distributions.

Kolmogorov-Smirnov tests raise a false alarm with probability 1e-6; the seeds are fixed.
"""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from bgmm_jd.backend import random

FALSE_ALARM = 1e-6
DTYPES = [tf.float32, tf.float64]
SEED = tf.constant([11, -7], tf.int32)


def in_every_mode(function, *args):
    """Results in eager mode, in a graph and under XLA."""
    compiled = tf.function(function, jit_compile=True)
    return [function(*args), tf.function(function)(*args), compiled(*args)]


def eps(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps


def exponential(shape, seed, dtype=tf.float32):
    return random.to_exponential(random.random_words(shape, seed, dtype))


def extreme_words(dtype):
    """The lowest and the highest word."""
    unsigned = {tf.float32: np.uint32, tf.float64: np.uint64}[dtype]
    return tf.constant(np.array([0, np.iinfo(unsigned).max], unsigned))


@pytest.mark.parametrize("dtype", DTYPES)
def test_words_are_equal_in_every_mode_and_use_all_bits(dtype):
    eager, graph, xla = in_every_mode(lambda seed: random.random_words([400, 3], seed, dtype), SEED)
    np.testing.assert_array_equal(graph, eager)
    np.testing.assert_array_equal(xla, eager)
    bits = np.unpackbits(eager.numpy().reshape(-1, 1).view(np.uint8), axis=1).mean(axis=0)
    assert len(bits) == 8 * eager.dtype.size
    # A mean of 1,200 fair bits has sd 0.0144; 64 of them beyond 6 sds: a false alarm of 1e-7.
    assert np.all(np.abs(bits - 0.5) < 6 * 0.0144)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", [exponential, random.normal])
def test_draws_agree_in_every_mode(draw, dtype):
    eager, graph, xla = in_every_mode(lambda seed: draw([400, 3], seed, dtype), SEED)
    assert eager.dtype == dtype
    # The words are equal. The elementary functions are each accurate to a few units in the last
    # place, and -log(u) near u = 1 to a few eps in absolute terms, as u itself is rounded there.
    tolerance = 8 * eps(dtype)
    np.testing.assert_allclose(graph, eager, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(xla, eager, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("draw", "expected"), [(exponential, stats.expon), (random.normal, stats.norm)]
)
def test_draws_follow_their_distribution(draw, expected, dtype):
    x = draw([200_000], SEED, dtype).numpy().astype(float)
    assert stats.kstest(x, expected.cdf).pvalue > FALSE_ALARM


def test_neighbouring_draws_are_uncorrelated():
    x = random.normal([100_000], SEED).numpy()
    # A product of independent standard normals has mean 0 and sd 1; 4.9 sd: a false alarm of 1e-6.
    assert abs(np.mean(x[1:] * x[:-1])) < 4.9 / np.sqrt(len(x))


@pytest.mark.parametrize("count", [6, 7])
def test_antithetic_normal_draws_are_exact_negatives(count):
    x = random.normal([count, 2], SEED, tf.float64, antithetic=True).numpy()
    half = (count + 1) // 2
    np.testing.assert_array_equal(x[half:], -x[: count - half])
    np.testing.assert_array_equal(x[:half], random.normal([half, 2], SEED, tf.float64))
    np.testing.assert_array_equal(random.half_shape([count, 2]), [half, 2])


def test_joined_pairs_drop_the_last_partner_of_an_odd_number():
    joined = random.join_pairs(tf.constant([1, 2]), tf.constant([-1, -2]), 3)
    np.testing.assert_array_equal(joined, [1, 2, -1])


@pytest.mark.parametrize(("dtype", "bits"), [(tf.float32, 32), (tf.float64, 64)])
def test_outermost_draws_have_the_quantile_of_one_word(dtype, bits):
    cell = 2.0**-bits
    longest = random.to_exponential(extreme_words(dtype)).numpy()[0]
    np.testing.assert_allclose(longest, -np.log(cell / 2), rtol=4 * eps(dtype))
    lowest_pair = tf.constant(np.array([0, 1], extreme_words(dtype).dtype.as_numpy_dtype))
    tail = random.to_normal(lowest_pair).numpy()
    outermost = stats.norm.isf(cell / 2)
    np.testing.assert_allclose(tail, [outermost, -outermost], rtol=4 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_quantiles_are_those_of_scipy_in_every_mode(dtype):
    """From the median to the last word, where `tf.math.ndtri` under XLA is infinite."""
    unsigned = extreme_words(dtype).dtype
    bits = 8 * unsigned.size
    tail = np.concatenate([np.geomspace(2.0 ** -(bits + 1), 0.4, 300), [0.42, 0.49, 0.5 - 1e-6]])
    magnitude = np.minimum(tail * 2.0**bits, 2.0 ** (bits - 1) - 1).astype(unsigned.as_numpy_dtype)
    # The magnitude as a float of this dtype: rounded, and so exact for scipy as well.
    real = dtype.as_numpy_dtype
    tail = (magnitude.astype(real) + real(0.5)) * real(2.0) ** -bits
    exact = stats.norm.isf(tail.astype(float))
    for x in in_every_mode(random.to_normal, tf.constant(magnitude << 1)):
        # Some roundings in each of two polynomials, and in log, root and quotient. At the median
        # 1/2 - p is exact, so the bound on the relative error holds there too.
        np.testing.assert_allclose(x, exact, rtol=8 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_words_give_finite_draws(dtype):
    words = extreme_words(dtype)
    assert np.all(np.isfinite(random.to_normal(words)))
    x = random.to_exponential(words).numpy()
    assert np.all(np.isfinite(x))
    assert np.all(x >= 0)


def test_random_numbers_of_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="float32 or float64; got float16"):
        random.normal([2], SEED, tf.float16)


def test_integer_seeds_are_the_same_in_every_mode_and_call():
    seeds = in_every_mode(lambda: random.stateless_seed(5, salt="a"))
    for seed in seeds:
        np.testing.assert_array_equal(seed, seeds[0])


def test_different_seeds_and_salts_give_different_pairs():
    distinct = [0, 1, -1, 2**31, 2**32, 2**40, (3, 7)]
    pairs = {tuple(random.stateless_seed(seed).numpy()) for seed in distinct}
    assert len(pairs) == len(distinct)
    salted = random.stateless_seed(1, salt="a"), random.stateless_seed(1, salt="b")
    assert not np.array_equal(*salted)


@pytest.mark.parametrize("numbers", [{"along": 1}, {"across": 1}, {"along": 1, "across": -1}])
def test_neighbouring_seeds_have_unrelated_draws(numbers):
    """A correlation of 100,000 pairs has sd 0.0032; a false alarm of 1e-6 at 4.9 of them."""
    x = random.normal([100_000], SEED).numpy()
    y = random.normal([100_000], random.offset_seed(SEED, **numbers)).numpy()
    assert abs(np.mean(x * y)) < 4.9 / np.sqrt(len(x))
    assert abs(np.mean((x**2 - 1) * (y**2 - 1))) < 4.9 * 2 / np.sqrt(len(x))


def test_folded_seeds_are_far_from_each_other():
    """So that those derived from them by `offset_seed`, for steps and variables, all differ."""
    found = np.array([random.fold_in(SEED, n) for n in range(50)], np.int64)
    distance = np.abs(found[:, np.newaxis] - found).max(axis=-1)
    # Two of them are this near with probability 2e-7.
    assert distance[~np.eye(50, dtype=bool)].min() > 2**20


def test_offset_seeds_are_the_same_in_every_mode():
    """Also at the end of the range of integers, where they wrap around."""
    last = tf.constant([2**31 - 1, -5])
    for seed in in_every_mode(lambda: random.offset_seed(last, 2, across=1)):
        np.testing.assert_array_equal(seed, [-(2**31) + 1, -4])


def test_missing_seed_gives_a_new_one_at_each_call():
    assert not np.array_equal(random.stateless_seed(None), random.stateless_seed(None))
