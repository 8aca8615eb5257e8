"""Priors of many families, for `fuzzing.cases`; each is made once, so that programs are shared."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import bgmm_jd

Root = tfd.JointDistributionCoroutine.Root


def _over_event(distribution: Any, name: str) -> Any:
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


def _independent(weights: Any, means: Any, **scale: Any) -> Any:
    """Make a coroutine of independent variables."""
    variables = {"weights": weights, "means": means, **scale}

    @tfd.JointDistributionCoroutine
    def prior() -> Any:
        for name, distribution in variables.items():
            yield Root(_over_event(distribution, name))

    return prior


def _weights(K: int, dtype: str) -> Any:
    if K == 1:  # of which TFP makes no Dirichlet distribution
        return tfd.Deterministic(np.ones(1, dtype))
    return tfd.Dirichlet(np.full(K, 2.0, dtype))


def half_cauchy(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype), tfd.Normal(0 * one, 10 * one), scales=tfd.HalfCauchy(0 * one, one)
    )


def log_normal(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype), tfd.StudentT(3 * one, 0 * one, one), scales=tfd.LogNormal(0 * one, one)
    )


def bounded(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype),
        tfd.Uniform(-50 * one, 50 * one),
        scales=tfd.Uniform(0.01 * one, 20 * one),
    )


def inverse_gamma(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype),
        tfd.Laplace(0 * one, 5 * one),
        precisions=tfd.InverseGamma(2 * one, one),
    )


def heavy_precisions(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype), tfd.Cauchy(0 * one, one), precisions=tfd.HalfCauchy(0 * one, one)
    )


def hierarchical(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)

    @tfd.JointDistributionCoroutine
    def prior() -> Any:
        yield Root(_over_event(_weights(K, dtype), "weights"))
        width = yield Root(tfd.Gamma(np.asarray(2.0, dtype), 1.0, name="width"))
        scale = width[..., tf.newaxis, tf.newaxis] * one
        yield tfd.Independent(tfd.Normal(0 * one, scale), 2, name="means")
        yield Root(_over_event(tfd.Gamma(2 * one, one), "precisions"))

    return prior


def fixed_scales(K: int, D: int, dtype: str) -> Any:
    one = np.ones((K, D), dtype)
    return _independent(
        _weights(K, dtype), tfd.Normal(0 * one, 5 * one), scales=tfd.Deterministic(one)
    )


OWN_PRIORS = {
    "half-Cauchy": half_cauchy,
    "log-normal": log_normal,
    "bounded": bounded,
    "inverse-gamma": inverse_gamma,
    "heavy precisions": heavy_precisions,
    "hierarchical": hierarchical,
    "fixed scales": fixed_scales,
}


@functools.lru_cache(maxsize=64)
def prior_of(name: str, K: int, D: int, covariance: str, dtype: str) -> Any:
    """Return a prior by its name; those of `OWN_PRIORS` have diagonal covariances only."""
    if name == "default":
        return None
    if name == "published":
        return bgmm_jd.mixture_prior(K, D, covariance=covariance, dtype=dtype)
    if name == "sticks":
        return bgmm_jd.stick_breaking_prior(K, D, covariance=covariance, dtype=dtype)
    return OWN_PRIORS[name](K, D, dtype)
