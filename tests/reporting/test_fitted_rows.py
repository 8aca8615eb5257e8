"""The rows of a fit, from their standardised values."""

import dataclasses

import numpy as np
import pytest
from builders import problem_for, with_problem
from figures import fit_of_groups, groups

from bgmm_jd.data.standardize import standardize
from bgmm_jd.reporting.fitted_rows import fitted_rows
from bgmm_jd.storage.without_rows import without_rows


@pytest.mark.parametrize("covariance", ["diag", "full", "spherical"])
def test_rows_are_those_of_the_fit(covariance):
    """Up to the rounding of two changes of units."""
    X = groups(60, 2) * [1.0, 1e3] + [5.0, 1e5]
    posterior = with_problem(fit_of_groups(2), problem_for(X, 2, covariance))
    scale = X.std(axis=0) + np.abs(X).max(axis=0)
    assert np.abs((fitted_rows(posterior) - X) / scale).max() < 10 * np.finfo(X.dtype).eps


def test_missing_entries_are_nan_and_unread_columns_complete():
    X = np.column_stack([groups(60, 2, missing=True), np.full(60, 7.0)])
    posterior = fit_of_groups(2)
    problem = posterior.problem.on(standardize(X, read_constant_columns=False))
    posterior = dataclasses.replace(with_problem(posterior, problem), D=3)
    np.testing.assert_allclose(fitted_rows(posterior), X, rtol=1e-12, atol=1e-12)


def test_rows_that_were_not_kept_are_asked_for():
    with pytest.raises(ValueError, match="saved without the rows"):
        fitted_rows(without_rows(fit_of_groups(1)))
