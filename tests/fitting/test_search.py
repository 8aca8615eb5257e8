"""Problems, and the search for the best of several starts."""

from dataclasses import replace

import numpy as np
import pytest
from builders import RIGHT_FIRST, means_in_data_units, problem_for
from small_problems import two_large_clusters

import bgmm_jd
from bgmm_jd.fitting import search
from bgmm_jd.fitting.progress import Progress
from bgmm_jd.fitting.search import (
    SearchPlan,
    find_optimum,
    output_order,
    subsample_size,
    with_data_unit_elbos,
)
from bgmm_jd.optimization.initialization import start_at
from bgmm_jd.optimization.restarts import component_means
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import OptimizationSettings, Settings, StartSettings

PLAN = SearchPlan(
    batch_size=40, restarts=1, init=None, max_steps=20_000, optimizer="natural", seed=0
)


# --- The problem ---------------------------------------------------------------------------------


def test_default_prior_is_in_standardised_units(two_clusters):
    """One prior, and so one compiled program, serves all data of a shape."""
    problem, other = (problem_for(X, 2) for X in (two_clusters, 100.0 + 7.0 * two_clusters))
    assert problem.model is other.model
    np.testing.assert_array_equal(problem.prior_standardization.shift, 0.0)
    np.testing.assert_array_equal(problem.prior_standardization.scale, 1.0)


def test_own_prior_is_in_the_units_of_the_rows(two_clusters):
    prior = bgmm_jd.mixture_prior(2, 2, dtype="float64")
    problem = problem_for(two_clusters, 2, prior=prior)
    assert problem.model.prior is prior
    own, other = problem.prior_standardization, problem.data.standardization
    np.testing.assert_array_equal(own.shift, other.shift)
    np.testing.assert_array_equal(own.scale, other.scale)
    assert own.inverse is other.inverse is None


# --- The search ----------------------------------------------------------------------------------


def test_search_reports_every_start_and_keeps_the_best(two_clusters):
    """Given means make one run each, here all from the same ones."""
    problem = problem_for(two_clusters, 2, execution="graph")
    reports = []
    plan = replace(PLAN, restarts=3, init=RIGHT_FIRST)
    found = find_optimum(problem, plan, reports.append)
    assert found.best.status is Status.CONVERGED
    assert found.batch_size == 40
    assert found.searches == 3
    assert [restart.agrees for restart in found.restarts] == [True] * 3
    assert found.best.elbo == max(restart.elbo for restart in found.restarts)
    assert reports[0] == Progress(phase="starts")
    assert all(report.phase == "optimization" and report.starts == 3 for report in reports[1:])
    assert sorted({report.start for report in reports}) == [1, 2, 3]
    # Reports are in the units of X.
    last_of_first = [report for report in reports if report.start == 1][-1]
    jacobian = problem.data.log_det_jacobian
    assert last_of_first.elbo == pytest.approx(found.restarts[0].elbo - jacobian, abs=1.0)


def test_search_makes_one_run_where_all_starts_lead_to_one_optimum(two_clusters):
    """Clusters 8 sds apart: all searches end there, and most of their starts."""
    found = find_optimum(
        problem_for(two_clusters, 2, execution="graph"),
        replace(PLAN, restarts=4),
        lambda report: None,
    )
    (restart,) = found.restarts
    assert restart.agrees
    assert found.searches <= 3
    assert restart.starts > 2


def test_search_without_a_batch_size_reads_a_subsample_and_then_all_rows():
    """400 rows in clusters 8 sds apart, of which the first phase reads 100."""
    X = two_large_clusters()
    small = OptimizationSettings(subsample_rows=100, subsample_rows_per_component=10)
    problem = problem_for(X, 2, execution="graph", settings=Settings(optimization=small))
    found = find_optimum(problem, replace(PLAN, batch_size=None, restarts=2), lambda report: None)
    assert found.batch_size == 100
    assert found.best.status is Status.CONVERGED
    means, _ = component_means(problem.model.sites, found.best.params)
    expected = [X[:200].mean(axis=0), X[200:].mean(axis=0)]
    # An sd of a posterior mean is 1 / sqrt(200) = 0.07; the prior moves a mean by less than that.
    np.testing.assert_allclose(means_in_data_units(problem, means), expected, atol=0.07)


def test_search_ends_at_an_interrupted_start(two_clusters):
    """The third start does not begin; the first is kept."""
    problem = problem_for(two_clusters, 2, execution="graph")

    def interrupt_second(report):
        if report.start == 2:
            raise KeyboardInterrupt

    found = find_optimum(problem, replace(PLAN, restarts=3, init=RIGHT_FIRST), interrupt_second)
    assert [restart.status for restart in found.restarts] == [
        Status.CONVERGED,
        Status.INTERRUPTED,
    ]
    assert found.best.status is Status.CONVERGED


def test_interrupt_while_runs_are_compared_keeps_them(two_clusters, monkeypatch):
    problem = problem_for(two_clusters, 2, execution="graph")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "join_connected", interrupt)
    found = find_optimum(problem, replace(PLAN, restarts=2, init=RIGHT_FIRST), lambda _: None)
    assert [restart.status for restart in found.restarts] == [
        Status.CONVERGED,
        Status.INTERRUPTED,
    ]
    assert found.best.status is Status.CONVERGED


@pytest.mark.parametrize(
    ("K", "D", "expected"),
    [
        (2, 50, 4_096),
        (30, 2, 6_000),  # 200 of each component
        (30, 10, 12_000),  # 40 of each component and feature
        (50, 10, 20_000),
        (60, 10, 20_000),  # as many as a fit without a subsample
        (50, 30, 11_184),  # 2^24 numbers
    ],
)
def test_subsample_grows_with_the_components_and_with_the_features_of_many(K, D, expected):
    assert subsample_size(K, D, Settings()) == expected


def test_starts_of_many_components_read_as_many_rows_as_are_affordable():
    settings = StartSettings(most_numbers=10_000 * 30 * 10)
    assert settings.rows_to_read(2, 50) == 4_096
    assert settings.rows_to_read(30, 10) == 10_000
    assert settings.rows_to_read(30, 100) == 6_000


# --- Results in the order and units of output ----------------------------------------------------


def test_output_order_is_ascending_where_labels_are_free(two_clusters):
    """Components that start from right to left come out from left to right, unless they were given.

    Given means have an order already.
    """
    problem = problem_for(two_clusters, 2)
    params = start_at(problem, RIGHT_FIRST, 0, 0)
    np.testing.assert_array_equal(output_order(problem, params, has_init=False), [1, 0])
    np.testing.assert_array_equal(output_order(problem, params, has_init=True), [0, 1])


@pytest.mark.slow
def test_output_order_of_two_widths_at_one_centre_is_the_same_for_ten_seeds():
    """300 rows: the narrow component comes first, although neither mean is above the other."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 2)) * np.repeat([1.0, 8.0], 150)[:, np.newaxis]
    problem = problem_for(X, 2, execution="graph")
    for seed in range(10):
        plan = replace(PLAN, batch_size=300, seed=seed)
        params = find_optimum(problem, plan, lambda report: None).best.params
        order = output_order(problem, params, has_init=False)
        first, second = np.asarray(params["precisions"]["mean"])[order]
        assert (first > 10 * second).all()


def test_output_order_is_that_of_a_prior_that_distinguishes_components(two_clusters):
    prior = bgmm_jd.mixture_prior(2, 2, mean_loc=RIGHT_FIRST, dtype="float64")
    problem = problem_for(two_clusters, 2, prior=prior)
    params = start_at(problem, None, 0, 0)
    np.testing.assert_array_equal(output_order(problem, params, has_init=False), [0, 1])


def test_elbos_of_restarts_are_converted_to_the_units_of_the_rows(two_clusters_posterior):
    """x = shift + scale z: the log density of X is lower by N sum log scale."""
    problem, restarts = two_clusters_posterior.problem, two_clusters_posterior.restarts
    converted = with_data_unit_elbos(problem, restarts)
    jacobian = 40 * np.log(problem.data.standardization.scale).sum()
    for before, after in zip(restarts, converted, strict=True):
        assert after.elbo == pytest.approx(before.elbo - jacobian)
        assert after._replace(elbo=before.elbo) == before
