"""Proposals in which an empty component is moved onto a row, and their density."""

import numpy as np
import pytest
from mean_fields import (
    PRIORS,
    D,
    K,
    arrays_of,
    empty_in,
    mean_field_near,
    with_correlated_means,
)
from scipy import special, stats

from bgmm_jd.calibration.relocation import (
    Relocations,
    choose_relocations,
    draw_stick_coordinates,
    log_density_ratio,
    mean_field_of_means,
    relocate_means,
)
from bgmm_jd.settings import MemorySettings

BUDGET = MemorySettings().relocation
ONE_OCCUPIED = (0.6, 1e-9, 1e-9, 1e-9)


def form_and_means(approximation):
    """Return the form of covariance, and the mean field of the means."""
    means = mean_field_of_means(approximation.params["means"])
    return approximation.problem.model.covariance, means


CORRELATED = ("full", "tied", "factors")  # with multivariate normal means


def mean_field_of(name):
    """Return the mean field near a prior, or that with correlated means."""
    base = name.removesuffix(", correlated")
    return mean_field_near(base) if base == name else with_correlated_means(mean_field_near(base))


@pytest.mark.parametrize("name", [*PRIORS, *(f"{name}, correlated" for name in CORRELATED)])
def test_density_ratio_has_mean_one_under_the_mean_field(name):
    """It is the ratio of two densities, and its mean over draws from the denominator is 1.

    Two thirds of the empty components' draws have a weight here. Six standard errors, but the ratio
    is skew: a false alarm of some 1e-6.
    """
    approximation = mean_field_of(name)
    empty = empty_in(approximation, ONE_OCCUPIED)
    theta = arrays_of(approximation, 20_000)
    form, means = form_and_means(approximation)
    ratio = np.exp(log_density_ratio(empty, theta, form, means, fraction=0.7, budget=BUDGET))
    error = ratio.std() / len(ratio) ** 0.5
    assert abs(ratio.mean() - 1.0) < 6.0 * error
    assert error < 0.05  # or the test would show nothing
    assert np.mean(np.abs(ratio - 1.0) > 0.1) > 0.1  # it is far from 1 in many draws


@pytest.mark.parametrize("name", ["dirichlet", "full", "full, correlated"])
def test_mean_field_of_means_has_the_precision_and_determinant_of_their_covariance(name):
    approximation = mean_field_of(name)
    means = approximation.params["means"]
    if "scale" in means:
        covariance = np.stack([np.diag(row**2) for row in means["scale"].numpy()])
    else:
        tril = means["scale_tril"].numpy()
        covariance = tril @ tril.swapaxes(-1, -2)
    found = mean_field_of_means(means)
    np.testing.assert_array_equal(found.loc, means["loc"])
    np.testing.assert_allclose(found.precision, np.linalg.inv(covariance), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.log_det, np.linalg.slogdet(covariance)[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["full", "full, correlated"])
def test_relocated_mean_is_conditional_on_the_row_it_holds(name):
    """Its moments are those of normal conditioning, with S + C the covariance of the row.

    Means and second moments within 5 standard errors: ten comparisons, 6e-7 each.
    """
    approximation = mean_field_of(name)
    empty, theta = empty_in(approximation), arrays_of(approximation, 20_000)
    empty = empty._replace(rows=np.array([[1.5, -0.5]]), probability=np.ones(1))
    C = np.array([[0.5, 0.2], [0.2, 0.4]])
    theta["precisions"][:] = np.linalg.inv(C)
    chosen = Relocations(np.arange(20_000), np.full(20_000, 1))
    form, means = form_and_means(approximation)
    rng = np.random.default_rng(7)
    moved = relocate_means(empty, chosen, theta, form, means, rng, BUDGET)[:, 1]
    S, loc = np.linalg.inv(means.precision[1]), means.loc[1]
    gain = S @ np.linalg.inv(S + C)
    centred = moved - (loc + gain @ (empty.rows[0] - loc))
    products = centred[:, :, np.newaxis] * centred[:, np.newaxis]
    for found, expected in ((centred, np.zeros(D)), (products, S - gain @ S)):
        error = found.std(axis=0) / np.sqrt(len(found))
        assert np.all(np.abs(found.mean(axis=0) - expected) < 5.0 * error)


@pytest.mark.parametrize("name", ["dirichlet", "full"])
def test_small_budget_changes_the_blocks_and_not_the_results(name):
    """Budgets of some rows only, for 300 draws; products of matrices may round otherwise."""
    approximation = mean_field_near(name)
    empty, theta = empty_in(approximation, ONE_OCCUPIED), arrays_of(approximation, 300)
    form, means = form_and_means(approximation)
    chosen = choose_relocations(empty, 300, 0.5, np.random.default_rng(7))

    def results(budget):
        # Blocks of the same generator: standard normals come in the same order.
        rng = np.random.default_rng(8)
        moved = relocate_means(empty, chosen, theta, form, means, rng, budget)
        return moved, log_density_ratio(empty, theta, form, means, 0.5, budget)

    for whole, in_blocks in zip(results(BUDGET), results(70), strict=True):
        np.testing.assert_allclose(in_blocks, whole, rtol=1e-9, atol=1e-12)


def test_relocated_components_are_at_rows_by_their_probability():
    """Where covariances are small, each is at one of the candidate rows, and the others stay."""
    approximation = mean_field_near("dirichlet")
    empty, theta = empty_in(approximation), arrays_of(approximation, 8_000)
    theta["precisions"][:] = 1e12
    rng = np.random.default_rng(7)
    chosen = choose_relocations(empty, 8_000, 0.5, rng)
    moved = relocate_means(empty, chosen, theta, *form_and_means(approximation), rng, BUDGET)
    distance = np.abs(moved[tuple(chosen)][:, np.newaxis] - empty.rows).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-4  # a hundred sds
    counts = np.bincount(distance.argmin(axis=1), minlength=len(empty.rows))
    assert stats.chisquare(counts, empty.probability * len(chosen.draws)).pvalue > 1e-6
    not_chosen = np.ones((8_000, K), bool)
    not_chosen[tuple(chosen)] = False
    np.testing.assert_array_equal(moved[not_chosen], theta["means"][not_chosen])
    assert set(chosen.components) == {1, 3}


def test_draw_without_a_valid_covariance_leaves_the_others_finite():
    """A float32 precision matrix may not be positive definite, or out of range."""
    approximation = mean_field_near("full")
    empty, theta = empty_in(approximation), arrays_of(approximation, 100)
    theta["precisions"][:30] = [[1e4, 1e4], [1e4, 1e4 - 1e-3]]
    theta["precisions"][30:60] = np.inf
    rng = np.random.default_rng(7)
    chosen = choose_relocations(empty, 100, 0.9, rng)
    form, means = form_and_means(approximation)
    with np.errstate(invalid="ignore", over="ignore"):
        moved = relocate_means(empty, chosen, theta, form, means, rng, BUDGET)
        ratio = log_density_ratio(empty, theta | {"means": moved}, form, means, 0.5, BUDGET)
    assert np.isfinite(moved[:30]).all()
    assert np.isfinite(ratio[60:]).all()


def test_breaks_of_a_relocated_component_are_beta_with_one_more_row():
    """Its own break has one more row, and so has the rest at each break before it: 1e-6 each."""
    empty = empty_in(mean_field_near("sticks"), ONE_OCCUPIED)
    chosen = Relocations(np.arange(20_000), np.full(20_000, 1))
    coordinates = draw_stick_coordinates(empty, chosen, 20_000, np.random.default_rng(8))
    with_one_more = empty.beta + np.array([[0, 1], [1, 0], [0, 0]])
    for found, (a, b) in zip(special.expit(coordinates).T, with_one_more, strict=True):
        assert stats.kstest(found, stats.beta(a, b).cdf).pvalue > 1e-6


@pytest.mark.parametrize("name", ["sticks", "dirichlet"])
def test_breaks_without_a_relocation_are_those_of_the_mean_field(name):
    """They have its Beta distributions: a false alarm of 1e-6 each."""
    empty = empty_in(mean_field_near(name))
    rng = np.random.default_rng(8)
    none = choose_relocations(empty, 20_000, 0.0, rng)
    coordinates = draw_stick_coordinates(empty, none, 20_000, rng)
    for found, (a, b) in zip(special.expit(coordinates).T, empty.beta, strict=True):
        assert stats.kstest(found, stats.beta(a, b).cdf).pvalue > 1e-6
