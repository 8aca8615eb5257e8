"""The prior of a fit that is given none, for the user to look at, or to fit with."""

from typing import Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.standardize import Data, standardize
from bgmm_jd.data.units import Standardization
from bgmm_jd.data.validation import (
    MissingOption,
    as_count,
    as_missing_flag,
    as_rows,
    as_weights,
    check_rows,
)
from bgmm_jd.model.covariance_forms import (
    MATRIX_FORMS,
    CovarianceForm,
    check_covariance,
    units_of_rows,
)
from bgmm_jd.model.weakly_informative_prior import weakly_informative_prior
from bgmm_jd.settings import DefaultPriorSettings


@runs_tensorflow
def default_prior(
    X: Any,
    K: int,
    *,
    covariance: CovarianceForm = "diag",
    sample_weight: Any = None,
    missing: MissingOption | None = None,
) -> tfd.JointDistributionCoroutine:
    """Return the weakly informative prior that `fit` uses when none is given.

    Its values come from the location and the scatter of the rows that are not far from all others:
    see `model.weakly_informative_prior` for the formulas.

    Parameters
    ----------
    X : array-like or data frame [N, D]
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
    units = units_of_rows(covariance, complete=not allow_missing)
    data = standardize(X, weight, units, read_constant_columns=False)
    check_rows(data.shape[0], K, weight is not None)
    return prior_in_data_units(data, K, covariance, DefaultPriorSettings())


def prior_in_data_units(
    data: Data, K: int, covariance: CovarianceForm, settings: DefaultPriorSettings
) -> tfd.JointDistributionCoroutine:
    """Return the default prior of standardised rows, in the units of X."""
    return prior_of_standardized(data, K, covariance, settings, data.standardization)


def prior_of_standardized(
    data: Data,
    K: int,
    covariance: CovarianceForm,
    settings: DefaultPriorSettings,
    units: Standardization | None = None,
) -> tfd.JointDistributionCoroutine:
    """Return the default prior of standardised rows, in standardised units unless others are given.

    For most data sets it is then the same for all of a shape, and so are compiled programs.
    """
    D = data.shape[1]
    scatter = None
    if data.far_scatter is not None:
        # The means may lie as far as the rows do.
        scatter = np.eye(D) + data.far_scatter
        scatter = scatter if covariance in MATRIX_FORMS else np.diag(scatter)
    return weakly_informative_prior(
        K, D, covariance, data.dtype, units, scatter, data.informative_columns, settings
    )
