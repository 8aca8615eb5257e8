"""A prior of a user's own, for two components in two dimensions."""

import numpy as np
from tensorflow_probability import distributions as tfd

Root = tfd.JointDistributionCoroutine.Root


def two_components(widest=5.0):
    """Yield the variables of a prior with lognormal scales and a width of the means."""
    ones = np.ones(2, np.float32)
    width = yield Root(tfd.HalfNormal(np.float32(widest), name="width"))
    yield Root(tfd.Dirichlet(2.0 * ones, name="weights"))
    scale = width[..., np.newaxis, np.newaxis] * np.ones((2, 2), np.float32)
    yield tfd.Independent(tfd.Normal(np.float32(0.0), scale), 2, name="means")
    shape = np.zeros((2, 2), np.float32)
    yield Root(tfd.Independent(tfd.LogNormal(shape, np.float32(1.0)), 2, name="scales"))
