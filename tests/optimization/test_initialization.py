"""The starts of a fit: from clusters of the rows, given means, or the labels of the prior."""

import numpy as np
import pytest
from builders import (
    QUICK,
    RIGHT_FIRST,
    means_in_data_units,
    problem_for,
    standardized_means,
    started,
)

import bgmm_jd
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.elbo_differences import elbo_gain
from bgmm_jd.optimization.initialization import all_starts
from bgmm_jd.optimization.restarts import component_means
from bgmm_jd.settings import OptimizationSettings, Settings


def test_start_has_the_means_of_the_clusters(two_clusters):
    """In ascending order of the first feature; within 0.5, as 20 rows are of sd 1."""
    problem = problem_for(two_clusters, 2)
    found = means_in_data_units(problem, standardized_means(started(problem)))
    np.testing.assert_allclose(found, [[-4.0, 0.0], [4.0, 0.0]], atol=0.5)


def test_start_from_given_means_keeps_their_order(two_clusters):
    problem = problem_for(two_clusters, 2)
    found = means_in_data_units(problem, standardized_means(started(problem, RIGHT_FIRST)))
    np.testing.assert_allclose(found, RIGHT_FIRST, atol=0.5)


def test_starts_are_equal_for_equal_seeds_and_numbers_only():
    """Rows without clusters, so that each seeding of k-means++ finds other ones."""
    problem = problem_for(np.random.default_rng(0).normal(size=(200, 2)), 5)
    first = standardized_means(started(problem, start=1, seed=3))
    np.testing.assert_array_equal(first, standardized_means(started(problem, start=1, seed=3)))
    for start, seed in ((2, 3), (1, 4)):
        other = standardized_means(started(problem, start=start, seed=seed))
        assert np.abs(other - first).max() > 0.05


def test_first_start_is_the_tightest_of_several_clusterings():
    """Rows without clusters, of which k-means++ finds another clustering for each seed."""
    X = np.random.default_rng(0).normal(size=(200, 2))
    one, many = (
        problem_for(
            X,
            6,
            settings=Settings(optimization=OptimizationSettings(first_start_seedings=seedings)),
        )
        for seedings in (1, 16)
    )

    def spread(problem, seed):
        means = standardized_means(started(problem, seed=seed))
        rows = problem.data.rows.values
        return ((rows[:, np.newaxis] - means) ** 2).sum(axis=-1).min(axis=1).sum()

    of_one, of_many = ([spread(problem, seed) for seed in range(8)] for problem in (one, many))
    assert max(of_many) < np.mean(of_one)


@pytest.mark.parametrize(("extra", "occupied"), [(0, 2), (1, 3)])
def test_start_under_stick_breaking_occupies_the_clusters_that_bic_selects(
    two_clusters, extra, occupied
):
    """And as many more as the settings say; the first break starts at the largest cluster."""
    settings = Settings(optimization=OptimizationSettings(extra_clusters=(extra,)))
    prior = bgmm_jd.stick_breaking_prior(5, 2, dtype="float64")
    problem = problem_for(two_clusters, 5, prior=prior, settings=settings)
    rest, weights = 1.0, []
    for a, b in np.asarray(started(problem).params["weights"]["concentration"]):
        weights.append(rest * a / (a + b))
        rest *= b / (a + b)
    assert np.sum(np.array([*weights, rest]) > 0.05) == occupied


def test_start_has_the_labels_that_the_prior_prefers(two_clusters):
    """Its first component is expected on the right."""
    prior = bgmm_jd.mixture_prior(2, 2, mean_loc=RIGHT_FIRST, dtype="float64")
    problem = problem_for(two_clusters, 2, prior=prior)
    found = means_in_data_units(problem, standardized_means(started(problem)))
    np.testing.assert_allclose(found, RIGHT_FIRST, atol=0.5)


# --- Starts by variational EM ---------------------------------------------------------------------


def component_moments(problem, start):
    """Return means and sds of the components' means in standardised units."""
    return component_means(problem.model.sites, start.params)


def test_all_starts_of_clusters_that_are_apart_are_one(two_clusters):
    found = all_starts(problem_for(two_clusters, 2), None, 4, 0)
    (start,) = found.runs
    assert start.starts >= found.searches


def test_given_means_and_stick_breaking_have_a_start_for_each_run(two_clusters):
    sticks = bgmm_jd.stick_breaking_prior(3, 2, dtype="float64")
    for problem, init in (
        (problem_for(two_clusters, 2), RIGHT_FIRST),
        (problem_for(two_clusters, 3, prior=sticks), None),
    ):
        found = all_starts(problem, init, 3, 0)
        assert [start.starts for start in found.runs] == [1, 1, 1]
        assert found.searches == 3


def test_starts_by_em_have_the_labels_that_the_prior_prefers(two_clusters):
    prior = bgmm_jd.mixture_prior(2, 2, mean_loc=RIGHT_FIRST, dtype="float64")
    problem = problem_for(two_clusters, 2, prior=prior)
    (start,) = all_starts(problem, None, 4, 0).runs
    means, _ = component_moments(problem, start)
    np.testing.assert_allclose(means_in_data_units(problem, means), RIGHT_FIRST, atol=0.5)


def test_start_on_a_subsample_has_the_sds_of_all_rows(two_clusters):
    """Rows that stand for four rows each: half the sd, but for the prior's weight of one row."""
    problem = problem_for(two_clusters, 2)
    weight = np.full(len(two_clusters), 4.0)
    data = problem_for(two_clusters, 2, weight=weight).data._replace(sampling_fraction=0.25)
    (_, own), (_, stands_for_more) = (
        component_moments(p, all_starts(p, None, 4, 0).runs[0]) for p in (problem, problem.on(data))
    )
    np.testing.assert_allclose(stands_for_more, own * np.sqrt(21 / 81), rtol=1e-6)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_start_of_correlated_rows_has_the_elbo_of_the_optimum(form):
    """Two narrow, parallel clusters; means of the same sds, but independent, are far from it."""
    rng = np.random.default_rng(0)
    sides = np.repeat([-0.5, 0.5], 150)[:, np.newaxis] * [1.0, -1.0, 0.0, 0.0]
    X = rng.normal(size=(300, 1)) * [3.0, 3.0, 3.0, 3.0] + 0.1 * rng.normal(size=(300, 4)) + sides
    fitted = bgmm_jd.fit(X, 2, covariance=form, **QUICK)
    problem, optimum = fitted.problem, fitted.approximation.params
    (start,) = all_starts(problem, None, 1, 0).runs
    assert abs(elbo_gain(problem, start.params, optimum).gain) < 0.1
    factor = np.asarray(start.params["means"]["scale_tril"])
    sds = np.linalg.norm(factor, axis=-1)[..., np.newaxis] * np.eye(4)
    independent = {**start.params["means"], "scale_tril": sds}
    assert elbo_gain(problem, {**start.params, "means": independent}, optimum).gain > 1.0
