"""The normal distribution: the same draws in every mode, reparameterised, and antithetic pairs."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import DTYPES, FALSE_ALARM, eps, in_every_mode
from scipy import stats

from bgmm_jd.distributions.normal import AntitheticNormal, Normal

tfd = tfp.distributions

SEED = tf.constant([11, -7], tf.int32)


def test_normal_inherits_from_the_one_of_tfd():
    normal = Normal(loc=tf.zeros([3]), scale=2.0)
    assert isinstance(normal, tfd.Normal)
    assert type(normal).__name__ == "Normal"
    assert normal.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    copy = normal.copy(scale=1.0)
    assert type(copy) is Normal
    assert copy.scale == 1.0
    np.testing.assert_array_equal(tfd.kl_divergence(normal, normal), tf.zeros([3]))


def test_normal_draws_agree_in_every_mode():
    def draw(loc, scale):
        return Normal(loc, scale).sample([4], seed=3)

    loc, scale = tf.constant([[0.0], [10.0]]), tf.constant([1.0, 1e-3, 5.0])
    eager, graph, xla = in_every_mode(draw, loc, scale)
    assert eager.shape == [4, 2, 3]
    assert len(np.unique(eager)) == eager.numpy().size
    np.testing.assert_allclose(graph, eager, rtol=8 * eps(tf.float32), atol=1e-6)
    np.testing.assert_allclose(xla, eager, rtol=8 * eps(tf.float32), atol=1e-6)


@pytest.mark.parametrize("family", [Normal, AntitheticNormal])
@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_draws_follow_the_normal_distribution(dtype, family):
    """Of antithetic pairs the first half is tested, as partners depend on each other."""
    x = family(tf.constant(3.0, dtype), tf.constant(0.5, dtype)).sample(40_000, seed=SEED)
    assert x.dtype == dtype
    assert stats.kstest(x.numpy()[:20_000], stats.norm(3.0, 0.5).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("family", [Normal, AntitheticNormal])
def test_normal_is_reparameterized(family):
    loc, scale = tf.Variable(1.0), tf.Variable(2.0)
    with tf.GradientTape() as tape:
        x = family(loc, scale).sample(seed=SEED)
    by_loc, by_scale = tape.gradient(x, [loc, scale])
    assert by_loc == 1.0
    np.testing.assert_allclose(by_scale, (x - loc) / scale, rtol=8 * eps(tf.float32))


@pytest.mark.parametrize("n", [6, 7])
def test_antithetic_normal_draws_are_symmetric_about_the_mean(n):
    loc = tf.constant([2.0, -1.0], tf.float64)
    x = AntitheticNormal(loc, [0.5, 3.0]).sample(n, seed=SEED).numpy() - loc
    assert x.shape == (n, 2)
    half = (n + 1) // 2
    # Adding and subtracting the mean rounds by its eps.
    np.testing.assert_allclose(x[half:], -x[: n - half], atol=8 * eps(tf.float64))
    assert len(np.unique(np.abs(x[:half]))) == 2 * half
