"""The prior of a fit that is given none, for the user to look at, or to fit with."""

from typing import Any

from tensorflow_probability import distributions as tfd

from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.validation import (
    MissingOption,
    as_count,
    as_missing_flag,
    as_rows,
    as_weights,
    check_rows,
)
from bgmm_jd.model.covariance_forms import CovarianceForm, check_covariance, units_of_rows
from bgmm_jd.model.priors import weakly_informative_prior


def default_prior(
    X: Any,
    K: int,
    *,
    covariance: CovarianceForm = "diag",
    sample_weight: Any = None,
    missing: MissingOption | None = None,
) -> tfd.JointDistributionCoroutine:
    """Return the weakly informative prior that `fit` uses when none is given.

    Its values come from the mean and the standard deviation of each column of X: see
    `mixture_prior`.

    Parameters
    ----------
    X : array-like [N, D]
    K : int
        Number of components.
    covariance, sample_weight, missing
        As in `fit`.

    Returns
    -------
    tfd.JointDistributionCoroutine
        In the units of X.

    Raises
    ------
    ValueError, TypeError
        For bad input, as in `fit`.
    """
    allow_missing = as_missing_flag(missing)
    X = as_rows(X, missing=allow_missing)
    weight = as_weights(sample_weight, len(X), X.dtype)
    K = as_count(K, "K")
    check_covariance(covariance)
    data = standardize(X, weight, units_of_rows(covariance, complete=not allow_missing))
    check_rows(data.shape[0], K, weight is not None)
    D = X.shape[1]
    return weakly_informative_prior(K, D, covariance, X.dtype, data.standardization)
