"""The initial location and scale of variables that the data do not inform directly."""

import numpy as np
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.model.prior_summaries import PRIOR_DRAWS, prior_moments

Root = tfd.JointDistributionCoroutine.Root


@tfd.JointDistributionCoroutine
def own_prior():
    yield Root(tfd.Independent(tfd.Normal(np.full((2, 2), 3.0), 2.0), 2, name="a"))
    yield Root(tfd.Sample(tfd.Gamma(np.float64(2.0), 5.0), 3, name="b"))
    yield Root(tfd.Cauchy(np.float64(1.0), 0.5, name="c"))


def test_prior_moments_are_median_and_a_tenth_of_the_scaled_interquartile_range():
    """The scaled interquartile range is the range / 1.349, estimated from some hundred draws.

    The asymptotic standard errors of a sample median and quartile are sqrt(p (1 - p) / n) / f;
    6 of them for each of 8 entries is a false alarm of 1e-7 or so.
    """
    laws = [stats.norm(3.0, 2.0), stats.gamma(2.0, scale=0.2), stats.cauchy(1.0, 0.5)]
    found = prior_moments(own_prior)
    for (name, shape), law in zip([("a", (2, 2)), ("b", (3,)), ("c", ())], laws, strict=True):
        location, scale = found[name]
        assert location.shape == scale.shape == shape
        low, median, high = law.ppf([0.25, 0.5, 0.75])
        n = PRIOR_DRAWS
        assert np.all(np.abs(location - median) < 6 * 0.5 / np.sqrt(n) / law.pdf(median))
        error = np.sqrt(3 / 16 / n) * (1 / law.pdf(low) + 1 / law.pdf(high))
        assert np.all(np.abs(13.49 * scale - (high - low)) < 6 * error)


def test_prior_moments_are_the_same_each_time():
    found = [prior_moments(mixture_prior(3, 2)) for _ in range(2)]
    tf.nest.map_structure(np.testing.assert_array_equal, *found)
