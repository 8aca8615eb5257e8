"""Draws that do not depend on how the program is run, checked against scipy's distributions.

Kolmogorov-Smirnov tests raise a false alarm with probability 1e-6; the seeds are fixed.
"""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from bgmm_jd.backend import random
from bgmm_jd.distributions import normal as normal_module

tfd = tfp.distributions

FALSE_ALARM = 1e-6
DTYPES = [tf.float32, tf.float64]
SEED = tf.constant([11, -7], tf.int32)


def in_every_mode(function, *args):
    """Results in eager mode, in a graph and under XLA."""
    compiled = tf.function(function, jit_compile=True)
    return [function(*args), tf.function(function)(*args), compiled(*args)]


def eps(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps


def extreme_words(dtype):
    """The lowest and the highest word."""
    unsigned = {tf.float32: np.uint32, tf.float64: np.uint64}[dtype]
    return tf.constant(np.array([0, np.iinfo(unsigned).max], unsigned))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", [random.uniform, random.exponential, random.normal])
def test_modes_agree(draw, dtype):
    eager, graph, xla = in_every_mode(lambda seed: draw([400, 3], seed, dtype), SEED)
    assert eager.dtype == dtype
    # The words are equal. The elementary functions are each good to a few units in the last place,
    # and -log(u) near u = 1 to a few eps in absolute terms, as u itself is rounded there.
    tolerance = 8 * eps(dtype)
    np.testing.assert_allclose(graph, eager, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(xla, eager, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (random.uniform, stats.uniform),
        (random.exponential, stats.expon),
        (random.normal, stats.norm),
    ],
)
def test_law(draw, law, dtype):
    x = draw([200_000], SEED, dtype).numpy().astype(float)
    assert stats.kstest(x, law.cdf).pvalue > FALSE_ALARM


def test_neighbours_are_uncorrelated():
    x = random.normal([100_000], SEED).numpy()
    # A product of independent standard normals has mean 0 and sd 1; 4.9 sd: a false alarm of 1e-6.
    assert abs(np.mean(x[1:] * x[:-1])) < 4.9 / np.sqrt(len(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_is_open_and_symmetric(dtype):
    low, high = random.to_uniform(extreme_words(dtype)).numpy()
    assert 0 < low < high < 1
    assert low == 1 - high
    words = random.random_words([1000], SEED, dtype)
    u = random.to_uniform(words).numpy()
    antithetic = random.to_uniform(tf.bitwise.invert(words)).numpy()
    np.testing.assert_array_equal(u + antithetic, 1)


@pytest.mark.parametrize(("dtype", "bits"), [(tf.float32, 32), (tf.float64, 64)])
def test_tails_use_the_whole_word(dtype, bits):
    cell = 2.0**-bits
    longest = random.to_exponential(extreme_words(dtype)).numpy()[0]
    np.testing.assert_allclose(longest, -np.log(cell / 2), rtol=4 * eps(dtype))
    lowest_pair = tf.constant(np.array([0, 1], extreme_words(dtype).dtype.as_numpy_dtype))
    tail = random.to_normal(lowest_pair).numpy()
    outermost = stats.norm.isf(cell / 2)
    np.testing.assert_allclose(tail, [outermost, -outermost], rtol=4 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_quantiles_in_every_mode(dtype):
    """From the median to the last word, where `tf.math.ndtri` under XLA is infinite."""
    unsigned = extreme_words(dtype).dtype
    bits = 8 * unsigned.size
    tail = np.concatenate([np.geomspace(2.0 ** -(bits + 1), 0.4, 300), [0.42, 0.49, 0.5 - 1e-6]])
    magnitude = np.minimum(tail * 2.0**bits, 2.0 ** (bits - 1) - 1).astype(unsigned.as_numpy_dtype)
    # What the magnitude is in the float type: rounded, so exact for the truth as well.
    real = dtype.as_numpy_dtype
    tail = (magnitude.astype(real) + real(0.5)) * real(2.0) ** -bits
    truth = stats.norm.isf(tail.astype(float))
    for x in in_every_mode(random.to_normal, tf.constant(magnitude << 1)):
        # Some roundings in each of two polynomials, and in log, root and quotient. At the median
        # 1/2 - p is exact, so the relative error stays.
        np.testing.assert_allclose(x, truth, rtol=8 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_words_give_finite_draws(dtype):
    words = extreme_words(dtype)
    assert np.all(np.isfinite(random.to_normal(words)))
    exponential = random.to_exponential(words).numpy()
    assert np.all(np.isfinite(exponential))
    assert np.all(exponential >= 0)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="float32 or float64, got float16"):
        random.normal([2], SEED, tf.float16)


def test_integer_seeds_are_the_same_in_every_mode_and_call():
    seeds = in_every_mode(lambda: random.stateless_seed(5, salt="a"))
    for seed in seeds:
        np.testing.assert_array_equal(seed, seeds[0])


def test_seeds_are_told_apart():
    distinct = [0, 1, -1, 2**31, 2**32, 2**40, (3, 7)]
    pairs = {tuple(random.stateless_seed(seed).numpy()) for seed in distinct}
    assert len(pairs) == len(distinct)
    salted = random.stateless_seed(1, salt="a"), random.stateless_seed(1, salt="b")
    assert not np.array_equal(*salted)


@pytest.mark.parametrize("numbers", [{"along": 1}, {"across": 1}, {"along": 1, "across": -1}])
def test_seeds_side_by_side_have_unrelated_draws(numbers):
    """A correlation of 100,000 pairs has sd 0.0032; a false alarm of 1e-6 at 4.9 of them."""
    x = random.normal([100_000], SEED).numpy()
    y = random.normal([100_000], random.offset_seed(SEED, **numbers)).numpy()
    assert abs(np.mean(x * y)) < 4.9 / np.sqrt(len(x))
    assert abs(np.mean((x**2 - 1) * (y**2 - 1))) < 4.9 * 2 / np.sqrt(len(x))


def test_folded_seeds_are_near_no_other():
    """So that those made from them by `offset`, for steps and members, are all different."""
    found = np.array([random.fold_in(SEED, n) for n in range(50)], np.int64)
    apart = np.abs(found[:, np.newaxis] - found).max(axis=-1)
    # Two of them are this near with probability 2e-7.
    assert apart[~np.eye(50, dtype=bool)].min() > 2**20


def test_offset_seeds_are_the_same_in_every_mode():
    """At the end of the range of integers too, where they start again."""
    last = tf.constant([2**31 - 1, -5])
    for seed in in_every_mode(lambda: random.offset_seed(last, 2, across=1)):
        np.testing.assert_array_equal(seed, [-(2**31) + 1, -4])


def test_no_seed_is_fresh_randomness():
    assert not np.array_equal(random.stateless_seed(None), random.stateless_seed(None))


def test_normal_is_a_tfd_normal():
    normal = normal_module.Normal(loc=tf.zeros([3]), scale=2.0)
    assert isinstance(normal, tfd.Normal)
    assert type(normal).__name__ == "Normal"
    assert normal.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    copy = normal.copy(scale=1.0)
    assert type(copy) is normal_module.Normal
    assert copy.scale == 1.0
    np.testing.assert_array_equal(tfd.kl_divergence(normal, normal), tf.zeros([3]))


def test_normal_draws_in_every_mode():
    def draw(loc, scale):
        return normal_module.Normal(loc, scale).sample([4], seed=3)

    loc, scale = tf.constant([[0.0], [10.0]]), tf.constant([1.0, 1e-3, 5.0])
    eager, graph, xla = in_every_mode(draw, loc, scale)
    assert eager.shape == [4, 2, 3]
    assert len(np.unique(eager)) == eager.numpy().size
    np.testing.assert_allclose(graph, eager, rtol=8 * eps(tf.float32), atol=1e-6)
    np.testing.assert_allclose(xla, eager, rtol=8 * eps(tf.float32), atol=1e-6)


def test_normal_is_reparameterized():
    loc, scale = tf.Variable(1.0), tf.Variable(2.0)
    with tf.GradientTape() as tape:
        x = normal_module.Normal(loc, scale).sample(seed=SEED)
    by_loc, by_scale = tape.gradient(x, [loc, scale])
    assert by_loc == 1.0
    np.testing.assert_allclose(by_scale, (x - loc) / scale, rtol=8 * eps(tf.float32))
