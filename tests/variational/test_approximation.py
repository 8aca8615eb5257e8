"""The problem as a value, and draws of the mean field."""

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started

from bgmm_jd.data.standardize import subsample
from bgmm_jd.variational.approximation import (
    AVERAGED,
    Calibration,
    EmptyComponents,
    draw_mean_field,
    sample_mean_field,
)
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.parameters import as_parameter_tensors
from bgmm_jd.variational.surrogate import standardized_surrogate

N, D, K = 60, 3, 2


def rows(missing=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) + 5.0 * (rng.random((N, 1)) < 0.5)
    if missing:
        X[:10, 1] = np.nan
    return X


@pytest.mark.parametrize(
    ("form", "missing", "expected"),
    [("diag", False, K * D), ("diag", True, K * D), ("full", False, K * D)]
    + [(form, True, K * D * D) for form in ("full", "tied")],
)
def test_numbers_per_row_count_matrices_only_where_entries_are_missing(form, missing, expected):
    assert problem_for(rows(missing), K, form).numbers_per_row == expected


def test_problem_on_a_subsample_keeps_the_model_and_the_units():
    problem = problem_for(rows(), K)
    few = problem.on(subsample(problem.data, 20, np.random.default_rng(1)))
    assert few.model is problem.model
    assert few.data.shape == (20, D)
    assert few.compiled_form.data is few.data
    assert few.data.total_weight == pytest.approx(N)
    for one, other in zip(few.prior_standardization, problem.prior_standardization, strict=True):
        np.testing.assert_array_equal(one, other)
    assert problem.data.shape == (N, D)


@pytest.mark.parametrize("execution", ["graph", "eager"])
def test_mean_field_draws_have_their_points_and_the_density_of_the_surrogate(execution):
    approximation = started(problem_for(rows(), K, "full", execution=execution))
    problem, params = approximation.problem, approximation.params
    draws = draw_mean_field(problem, params, 7, seed=3)
    model = problem.standardized_model
    points = flatten(model, tf.nest.map_structure(tf.identity, draws.theta))
    np.testing.assert_allclose(draws.points, points, rtol=1e-10, atol=1e-10)
    surrogate = standardized_surrogate(model, as_parameter_tensors(params))
    expected = surrogate.log_prob([draws.theta[site.name] for site in model.sites])
    np.testing.assert_allclose(draws.log_q, expected, rtol=1e-9)
    again, log_q = sample_mean_field(problem, params, 7, seed=3)
    np.testing.assert_array_equal(log_q, draws.log_q)
    for name, v in draws.theta.items():
        np.testing.assert_array_equal(again[name], v)


def test_normal_of_a_calibration_has_all_coordinates_unless_components_are_empty():
    informed, nothing = np.array([0, 2, 3]), np.empty(0)
    empty = EmptyComponents(*[nothing] * 3, informed, *[nothing] * 3)
    assert Calibration(AVERAGED, None, None, True).informed == slice(None)
    assert Calibration(AVERAGED, None, empty, True).informed is informed
