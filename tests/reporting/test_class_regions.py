"""Probabilities of components at points against other ways to them."""

import numpy as np
import pytest
from figures import fit_of_groups
from scipy import stats

import bgmm_jd
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.normal_mixtures import ComponentDraws, marginal_components
from bgmm_jd.reporting.class_regions import (
    component_probabilities,
    lead_over_others,
    runs_of_true,
)


def test_probabilities_of_all_features_are_those_of_predict_proba():
    posterior = fit_of_groups(2, "full")
    points = np.random.default_rng(0).uniform(-3.0, 9.0, (50, 2))
    found = component_probabilities(draw_components(posterior, 30, 1), points)
    expected = bgmm_jd.predict_proba(posterior, points, draws=30, seed=1)
    # predict_proba works in the fit's dtype and standardised units.
    np.testing.assert_allclose(found.T, expected, atol=1e-8)


def test_marginal_probabilities_are_those_of_the_marginal_normals():
    posterior = fit_of_groups(10)
    theta = posterior.sample(20, seed=1)
    points = np.linspace(-2.0, 8.0, 21)[:, np.newaxis] * [1.0, 0.8]
    joint = np.array(
        [
            [
                w * stats.multivariate_normal(m[[3, 7]], np.diag(1.0 / p[[3, 7]])).pdf(points)
                for w, m, p in zip(*draw, strict=True)
            ]
            for draw in zip(theta["weights"], theta["means"], theta["precisions"], strict=True)
        ]
    )
    expected = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    components = marginal_components(draw_components(posterior, 20, 1), [3, 7])
    np.testing.assert_allclose(component_probabilities(components, points), expected, atol=1e-10)


def test_probabilities_sum_to_one_where_every_density_underflows():
    components = ComponentDraws(
        np.array([[0.0, 0.5, 0.5]]), np.array([[[0.0], [0.0], [1.0]]]), np.ones((1, 3, 1, 1))
    )
    found = component_probabilities(components, np.array([[1e6], [-1e6]]))
    np.testing.assert_array_equal(found, [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize("K", [1, 2, 5])
def test_lead_is_positive_for_the_most_probable_component_only(K):
    probabilities = np.random.default_rng(1).dirichlet(np.ones(K), 40).T
    lead = lead_over_others(probabilities)
    np.testing.assert_array_equal((lead > 0.0).sum(axis=0), 1)
    np.testing.assert_array_equal(lead.argmax(axis=0), probabilities.argmax(axis=0))
    for k in range(K):
        others = np.delete(probabilities, k, axis=0)
        np.testing.assert_allclose(lead[k], probabilities[k] - others.max(axis=0, initial=0.0))


def test_runs_end_half_way_between_points():
    x = np.array([0.0, 1.0, 2.0, 4.0, 5.0])
    flags = np.array([True, True, False, True, False])
    assert runs_of_true(x, flags) == [(0.0, 1.5), (3.0, 4.5)]
    assert runs_of_true(x, ~flags) == [(1.5, 3.0), (4.5, 5.0)]
    assert runs_of_true(x, x < 0.0) == []
