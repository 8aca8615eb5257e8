"""Posterior means of the parameters in scikit-learn's shapes, and the likelihood at them."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.data.missing import separate_missing
from bgmm_jd.data.rows import Rows
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.model.covariances import Arrays, covariance_matrices, standard_deviations
from bgmm_jd.posterior.densities import map_rows
from bgmm_jd.posterior.draws import draw_mixtures, in_data_units_exactly
from bgmm_jd.posterior.posterior import Posterior


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
    theta = in_data_units_exactly(posterior, draw_mixtures(posterior, draws, seed).theta)
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


def row_log_likelihood(posterior: Posterior, estimate: PointEstimate, X: np.ndarray) -> np.ndarray:
    """Return log p(x_n) under the mixture, in nats: [N], float64.

    Missing entries are integrated out.

    Parameters
    ----------
    posterior : of the estimate.
    X : [N, D], NaN where an entry is missing.
    """
    values, missing = separate_missing(X.astype(np.float64))
    inverse = precisions(estimate)
    if estimate.covariance == "spherical":
        inverse = inverse[:, np.newaxis]
    theta = {"weights": estimate.weights, "means": estimate.means, "precisions": inverse}
    one_draw = {name: tf.constant(value[np.newaxis]) for name, value in theta.items()}
    rows = Rows(values, missing=missing)
    found = map_rows(posterior, likelihood.row_log_likelihood, one_draw, rows)
    return np.concatenate([block[0] for _, block in found])


def parameter_count(estimate: PointEstimate, features: int) -> int:
    """Return the number of free parameters of a mixture of `features` features.

    K - 1 weights, K D means, and the distinct entries of the covariances: K D (D + 1) / 2 ("full"),
    D (D + 1) / 2 ("tied"), K D ("diag") or K ("spherical").
    """
    K, D = len(estimate.weights), features
    matrix = D * (D + 1) // 2
    entries = {"full": K * matrix, "tied": matrix, "diag": K * D, "spherical": K}
    return K - 1 + K * D + entries[estimate.covariance]
