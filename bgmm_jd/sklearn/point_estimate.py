"""Posterior means of the parameters in scikit-learn's shapes, and the likelihood at them."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.backend.numerics import blocks
from bgmm_jd.data.missing import Missing, separate_missing
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.model.covariances import (
    Arrays,
    covariance_matrices,
    diagonal_matrices,
    standard_deviations,
)
from bgmm_jd.posterior.normal_mixtures import normal_log_density
from bgmm_jd.posterior.posterior import Posterior, draw_standardized, in_data_units_exactly


class PointEstimate(NamedTuple):
    """Parameters of one Gaussian mixture, in the units of X: float64.

    weights : [K]
    means : [K, D]
    covariances : [K, D, D] ("full"), [D, D] ("tied"), [K, D] ("diag") or [K] ("spherical")
    covariance : the name of the form.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    covariance: str


def posterior_means(posterior: Posterior, draws: int, seed: int) -> PointEstimate:
    """Average weights, means and covariances over the draws of `posterior.sample(draws, seed)`."""
    theta = in_data_units_exactly(posterior, draw_standardized(posterior, draws, seed).theta)
    return PointEstimate(
        weights=theta["weights"].mean(axis=0),
        means=theta["means"].mean(axis=0),
        covariances=_covariances(theta, posterior.covariance).mean(axis=0),
        covariance=posterior.covariance,
    )


def _covariances(theta: Arrays, form: str) -> np.ndarray:
    """Return the covariances of draws, as few numbers as the form has."""
    if form in MATRIX_FORMS:
        return covariance_matrices(theta)
    return standard_deviations(theta, form) ** 2


def precision_factors(estimate: PointEstimate) -> np.ndarray:
    """Return upper triangular U with U U^T = covariance^-1, or 1 / sd where there are no matrices.

    In the shape of the covariances, as scikit-learn's `precisions_cholesky_`.
    """
    if estimate.covariance not in MATRIX_FORMS:
        return 1.0 / np.sqrt(estimate.covariances)
    return np.linalg.inv(np.linalg.cholesky(estimate.covariances)).swapaxes(-1, -2)


def precisions(estimate: PointEstimate) -> np.ndarray:
    """Return the inverses of the covariances, in their shape."""
    factors = precision_factors(estimate)
    if estimate.covariance not in MATRIX_FORMS:
        return factors**2
    return factors @ factors.swapaxes(-1, -2)


def row_log_likelihood(estimate: PointEstimate, X: np.ndarray, budget: int) -> np.ndarray:
    """Return log p(x_n) under the mixture, in nats: [N], float64.

    Missing entries are integrated out.

    Parameters
    ----------
    X : [N, D], NaN where an entry is missing.
    budget : numbers in the largest array of a block of rows.
    """
    values, missing = separate_missing(X.astype(np.float64))
    if missing is None:
        missing = Missing(np.ones((1, X.shape[1])), np.zeros(len(X), int))
    result = np.empty(len(X))
    for number, observed in enumerate(missing.observed):
        rows = np.flatnonzero(missing.pattern == number)
        own = _marginal_components(estimate, np.flatnonzero(observed))
        for part in blocks(len(rows), max(1, own.means.size), budget):
            chosen = rows[part]
            result[chosen] = _log_density(own, values[chosen][:, observed > 0])
    return result


class _Components(NamedTuple):
    """Log weights [K], means [K, g] and lower Cholesky factors [K, g, g] of normals."""

    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


def _marginal_components(estimate: PointEstimate, features: np.ndarray) -> _Components:
    covariances = _component_covariances(estimate)[:, features[:, np.newaxis], features]
    with np.errstate(divide="ignore"):  # a weight may be zero
        log_weights = np.log(estimate.weights)
    return _Components(log_weights, estimate.means[:, features], np.linalg.cholesky(covariances))


def _component_covariances(estimate: PointEstimate) -> np.ndarray:
    """Return the covariance matrix of each component: [K, D, D]."""
    (K, D), value = estimate.means.shape, estimate.covariances
    if estimate.covariance in MATRIX_FORMS:
        return np.broadcast_to(value, (K, D, D))
    variances = value[:, np.newaxis] if estimate.covariance == "spherical" else value
    return diagonal_matrices(np.broadcast_to(variances, (K, D)))


def _log_density(components: _Components, X: np.ndarray) -> np.ndarray:
    residual = X[:, np.newaxis] - components.means
    log_density, _ = normal_log_density(components.factors, residual)
    return logsumexp(components.log_weights + log_density, axis=1)


def parameter_count(estimate: PointEstimate, features: int) -> int:
    """Return the number of free parameters of a mixture of `features` features.

    K - 1 weights, K D means, and the distinct entries of the covariances: K D (D + 1) / 2 ("full"),
    D (D + 1) / 2 ("tied"), K D ("diag") or K ("spherical").
    """
    K, D = len(estimate.weights), features
    matrix = D * (D + 1) // 2
    entries = {"full": K * matrix, "tied": matrix, "diag": K * D, "spherical": K}
    return K - 1 + K * D + entries[estimate.covariance]
