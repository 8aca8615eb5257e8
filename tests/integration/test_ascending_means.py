"""A prior of ascending means, in several layouts, against quadrature."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd

pytestmark = pytest.mark.slow

K = 2
WEIGHTS, PRECISION = np.array([0.6, 0.4]), 1.0
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(-1.5, 1.0, 25), RNG.normal(1.5, 1.0, 15)])[:, np.newaxis]


def reshaped():
    """Ascend along a vector, and make a column of it without saying of what shape it is."""
    flat = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(np.float64(0), 3.0), K), tfb.Ascending()
    )
    return tfd.TransformedDistribution(flat, tfb.Reshape([K, 1]), name="means")


def transposed():
    """Ascend along a row, and transpose it: the coordinates are [1, K]."""
    row = tfd.Sample(tfd.Normal(np.float64(0), 3.0), [1, K])
    bijector = tfb.Chain([tfb.Transpose([1, 0]), tfb.Ascending()])
    return tfd.TransformedDistribution(row, bijector, name="means")


def prior_with(means):
    Root = tfd.JointDistributionCoroutine.Root

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.VectorDeterministic(WEIGHTS, name="weights"))
        yield Root(means())
        precisions = tfd.Deterministic(np.full((K, 1), PRECISION))
        yield Root(tfd.Independent(precisions, 2, name="precisions"))

    return prior


def means_by_quadrature():
    """Return means and sds [2, K] from a grid over the coordinates: m[0] = u, m[1] = u + exp(v)."""
    u, v = np.meshgrid(np.linspace(-5, 4, 600), np.linspace(-6, 3, 600), indexing="ij")
    means = np.stack([u, u + np.exp(v)])
    log_density = stats.norm.logpdf(u, 0, 3) + stats.norm.logpdf(v, 0, 3)
    for x in X[:, 0]:
        terms = stats.norm.logpdf(x, means, PRECISION**-0.5)
        log_density += logsumexp(terms, axis=0, b=WEIGHTS[:, np.newaxis, np.newaxis])
    share = np.exp(log_density - logsumexp(log_density))
    mean = (share * means).sum(axis=(1, 2))
    return mean, np.sqrt((share * means**2).sum(axis=(1, 2)) - mean**2)


@pytest.mark.parametrize("means", [reshaped, transposed])
def test_ascending_means_are_those_of_quadrature(means):
    """Within 0.1 sds: five standard errors of 4,000 draws with an efficiency above 0.6."""
    posterior = bgmm_jd.fit(X, K, prior=prior_with(means), progress=False, execution="graph")
    draws = posterior.sample(4_000, seed=1)["means"][..., 0]
    assert (np.diff(draws, axis=1) > 0).all()
    mean, sd = means_by_quadrature()
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), 0.1 * sd)
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.1)
    assert posterior.surrogate.sample(seed=(0, 1)).means.shape == (K, 1)
