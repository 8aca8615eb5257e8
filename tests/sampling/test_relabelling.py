"""Permutations as linear maps, and the density averaged over them against the sum over all."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started
from scipy import special

import bgmm_jd
from bgmm_jd.sampling import student_mixture
from bgmm_jd.sampling.relabelling import (
    TooManyLabellings,
    align,
    centre_of,
    distance_from,
    labels_of,
    symmetrised_log_density,
)
from bgmm_jd.variational.approximation import StudentMixture, draw_mean_field
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.labels import permute_components

FORMS = ("diag", "full", "tied", "spherical")


def problem_of_form(form, K=3):
    rows = np.random.default_rng(0).normal(size=(40, 2))
    return problem_for(rows, K, form)


def labelled_mixture(labels, spread, rng, members=3):
    """Draw a mixture whose components are `spread` apart in their own coordinates."""
    P = labels.layout.size
    centre = rng.normal(size=P)
    centre[labels.layout.own] += spread * np.arange(labels.K)[:, np.newaxis]
    means = centre + 0.3 * rng.normal(size=(members, P))
    roots = rng.normal(size=(members, P, 2 * P))
    factors = np.linalg.cholesky(roots @ roots.swapaxes(1, 2) / (2 * P))
    return StudentMixture(rng.dirichlet(np.ones(members)), means, factors, 5.0)


def by_enumeration(mixture, points, labels):
    maps = student_mixture.whitening(mixture)
    found = []
    for order in itertools.permutations(range(labels.K)):
        distances = student_mixture.squared_distances(maps, points @ labels.matrix(order).T)
        found.append(student_mixture.log_terms(maps, distances, mixture.df))
    return special.logsumexp(np.concatenate(found, axis=1), axis=1) - math.log(len(found))


@pytest.mark.parametrize("form", FORMS)
def test_a_permutation_is_a_linear_map_of_the_coordinates(form):
    problem = problem_of_form(form)
    labels, model = labels_of(problem), problem.standardized_model
    draws = draw_mean_field(problem, started(problem).params, 5, seed=1)
    points = flatten(model, draws.theta, log_ratios=True).numpy()
    for order in itertools.permutations(range(3)):
        moved = permute_components(problem.model, draws.theta, np.array(order))
        theta = tf.nest.map_structure(tf.identity, moved)
        expected = flatten(model, theta, log_ratios=True).numpy()
        matrix = labels.matrix(order)
        np.testing.assert_allclose(points @ matrix.T, expected, rtol=1e-4, atol=1e-4)
        assert abs(np.linalg.det(matrix)) == pytest.approx(1.0)


@pytest.mark.parametrize("spread", [0.0, 2.0, 30.0])
@pytest.mark.parametrize("form", FORMS)
def test_density_is_the_sum_over_all_permutations(form, spread):
    labels = labels_of(problem_of_form(form, K=4))
    rng = np.random.default_rng(2)
    mixture = labelled_mixture(labels, spread, rng)
    points = student_mixture.draw(mixture, 200, rng)
    found = symmetrised_log_density(mixture, points, labels)
    # Left out are terms of exp(-9) of the density, and terms are summed in float32.
    np.testing.assert_allclose(found, by_enumeration(mixture, points, labels), atol=3e-4)


def test_density_does_not_depend_on_the_labelling():
    labels = labels_of(problem_of_form("diag", K=4))
    rng = np.random.default_rng(3)
    mixture = labelled_mixture(labels, 1.0, rng)
    points = student_mixture.draw(mixture, 100, rng)
    moved = points @ labels.matrix((2, 0, 3, 1)).T
    found, again = (symmetrised_log_density(mixture, p, labels) for p in (points, moved))
    np.testing.assert_allclose(found, again, atol=1e-3)


def test_only_permutations_that_matter_are_computed():
    """Twelve components far apart have 479 million permutations."""
    labels = labels_of(problem_of_form("diag", K=12))
    rng = np.random.default_rng(4)
    mixture = labelled_mixture(labels, 1000.0, rng)
    points = student_mixture.draw(mixture, 50, rng)
    maps = student_mixture.whitening(mixture)
    terms = student_mixture.log_terms(
        maps, student_mixture.squared_distances(maps, points), mixture.df
    )
    expected = special.logsumexp(terms, axis=1) - math.lgamma(13)
    np.testing.assert_allclose(symmetrised_log_density(mixture, points, labels), expected)


def test_too_many_permutations_are_refused():
    labels = labels_of(problem_of_form("diag", K=4))._replace(budget=1_000)
    rng = np.random.default_rng(5)
    mixture = labelled_mixture(labels, 0.0, rng)
    with pytest.raises(TooManyLabellings):
        symmetrised_log_density(mixture, student_mixture.draw(mixture, 50, rng), labels)


def test_labels_that_the_prior_distinguishes_are_not_permuted():
    prior = bgmm_jd.mixture_prior(2, 2, mean_loc=[[-1.0], [1.0]])
    problem = problem_for(np.random.default_rng(0).normal(size=(40, 2)), 2, prior=prior)
    labels = labels_of(problem)
    assert not labels.is_free
    mixture = labelled_mixture(labels, 0.0, np.random.default_rng(6), members=1)
    points = student_mixture.draw(mixture, 10, np.random.default_rng(7))
    maps = student_mixture.whitening(mixture)
    expected = student_mixture.log_terms(
        maps, student_mixture.squared_distances(maps, points), mixture.df
    )[:, 0]
    np.testing.assert_allclose(symmetrised_log_density(mixture, points, labels), expected)


def test_draws_are_aligned_with_a_centre():
    labels = labels_of(problem_of_form("full", K=3))
    rng = np.random.default_rng(8)
    mixture = labelled_mixture(labels, 30.0, rng, members=1)
    points = student_mixture.draw(mixture, 60, rng)
    orders = list(itertools.permutations(range(3)))
    moved = np.stack([labels.matrix(orders[i % 6]) @ p for i, p in enumerate(points)])
    centre = centre_of(points)
    np.testing.assert_allclose(align(moved, centre, labels), points, atol=1e-9)
    np.testing.assert_allclose(
        distance_from(moved, centre, labels), distance_from(points, centre, labels)
    )
