"""Components that hold hardly any rows: which they are, and the density of their coordinates."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from mean_fields import (
    COVARIANCES,
    PRIORS,
    SECOND_AND_FOURTH_EMPTY,
    D,
    K,
    Root,
    empty_in,
    mean_field_for,
    mean_field_near,
)
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.calibration.empty_components import (
    candidate_rows,
    expected_counts_and_log_density,
    log_prob_of_empty,
)
from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import identity_standardization
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.settings import CalibrationSettings, MemorySettings, Settings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import coordinate_layout, unflatten
from bgmm_jd.variational.surrogate import surrogate_in_data_units


def with_rows(problem, values, weight=None, missing=None):
    """Return the problem for other rows, which are in standardised units already."""
    return problem.on(Data(Rows(values, weight, missing), identity_standardization(D)))


# --- Which components are empty ------------------------------------------------------------------


def test_empty_components_and_their_breaks_are_found():
    """A break is left to the mean field if it is an empty component's or has only empty ones left.

    The first break, and the means and precisions of components 0 and 2, are informed.
    """
    found = empty_in(mean_field_near("sticks"))
    np.testing.assert_array_equal(found.components, [False, True, False, True])
    np.testing.assert_array_equal(found.breaks, [False, True, True])
    # The coordinates are 3 breaks, 8 means and 8 precisions.
    means = [3 + 2 * k + d for k in (0, 2) for d in range(D)]
    np.testing.assert_array_equal(found.informed, [0, *means, *np.add(means, K * D)])


@pytest.mark.parametrize("name", PRIORS)
def test_shared_coordinates_are_informed_whichever_components_are_empty(name):
    approximation = mean_field_near(name)
    found = empty_in(approximation)
    layout = coordinate_layout(approximation.problem.standardized_model)
    expected = [*layout.weights[:1], *layout.own[[0, 2]].ravel(), *layout.shared]
    np.testing.assert_array_equal(found.informed, np.sort(expected))


def test_no_component_is_empty_where_all_hold_rows():
    assert empty_in(mean_field_near("sticks"), [0.6, 0.1, 0.15, 0.15]) is None


def test_no_component_is_empty_where_coordinates_are_not_separate():
    """Under ascending means each coordinate moves all components after its own."""

    @tfd.JointDistributionCoroutine
    def ascending():
        yield Root(tfd.Dirichlet(np.ones(K), name="weights"))
        increasing = tfb.Chain([tfb.Transpose([1, 0]), tfb.Ascending(), tfb.Transpose([1, 0])])
        normal = tfd.Sample(tfd.Normal(np.float64(0), 1.0), (K, 1))
        yield Root(tfd.TransformedDistribution(normal, increasing, name="means"))
        yield Root(tfd.Sample(tfd.Gamma(np.float64(2), 1.0), (K, 1), name="precisions"))

    X = np.tile([[0.0], [2.0]], (25, 1))
    approximation = mean_field_for(ascending, X, prior_moments(ascending))
    assert empty_in(approximation, [0.5, 1e-9, 0.5, 1e-9]) is None


def test_no_component_is_empty_where_the_prior_makes_components_dependent():
    """Means around a common centre: an empty component's mean depends on the others."""

    @tfd.JointDistributionCoroutine
    def hierarchical():
        centre = yield Root(tfd.Normal(np.float64(0), 1.0, name="centre"))
        yield Root(tfd.Dirichlet(np.ones(K), name="weights"))
        yield tfd.Sample(tfd.Normal(centre, 1.0), (K, D), name="means")
        yield Root(tfd.Sample(tfd.Gamma(np.float64(2), 1.0), (K, D), name="precisions"))

    X = np.random.default_rng(0).normal(size=(50, D))
    independent = mean_field_near("dirichlet")
    dependent = mean_field_for(hierarchical, X, prior_moments(hierarchical))
    assert empty_in(independent, [0.5, 1e-9, 0.5, 1e-9]) is not None
    assert empty_in(dependent, [0.5, 1e-9, 0.5, 1e-9]) is None


def test_no_component_is_empty_only_because_row_weights_are_small():
    """With row weights that add up to 1 every component holds less than half a row."""
    X = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0.0], [6.0]], 30, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = bgmm_jd.fit(
            X,
            2,
            sample_weight=np.full(60, 1 / 60),
            restarts=1,
            max_steps=200,
            execution="graph",
            progress=False,
        )
    assert found.approximation.calibration.empty is None


# --- Expected rows and candidates ----------------------------------------------------------------


@pytest.mark.parametrize("rows_at_once", [50, 7])
@pytest.mark.parametrize("form", FORMS)
def test_expected_counts_and_log_density_of_far_clusters_are_their_weights(form, rows_at_once):
    """Two far clusters, whether all rows are read at once or in slices."""
    approximation = mean_field_near(form if form in COVARIANCES else "dirichlet")
    problem = approximation.problem
    theta = dict(draw_mean_field(problem, approximation.params, 1, seed=4).theta)
    theta["means"] = tf.constant([[[0.0, 0.0], [50.0, 0.0], [99.0, 0.0], [0.0, 99.0]]], tf.float64)
    theta["precisions"] = tf.eye(2, batch_shape=[1, K], dtype=tf.float64)
    if form in ("diag", "spherical"):
        theta["precisions"] = tf.ones([1, K, D if form == "diag" else 1], tf.float64)
    if form == "tied":
        theta["precisions"] = tf.eye(2, batch_shape=[1], dtype=tf.float64)
    X = np.zeros((50, D))
    X[:20, 0] = 50.0
    memory = MemorySettings(empty_components=rows_at_once * problem.numbers_per_row)
    problem = replace(problem, settings=Settings(memory=memory))
    for weight, each in ((None, 1.0), (np.full(50, 0.5), 0.5)):
        counts, log_density = expected_counts_and_log_density(with_rows(problem, X, weight), theta)
        np.testing.assert_allclose(counts, [30 * each, 20 * each, 0.0, 0.0], atol=1e-9)
        expected = tf.math.log(theta["weights"])[0, :2].numpy() - np.log(2.0 * np.pi)
        np.testing.assert_allclose(log_density[[49, 0]], expected, rtol=1e-9)


def test_candidate_rows_are_complete_and_chosen_by_weight_and_density():
    """Half by weight, half by weight / density; a sample of them if they are many."""
    problem = mean_field_near("dirichlet").problem
    values = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    missing = Missing(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 0, 0]))
    log_density = np.array([-2.0, -1e4, -2.0, -2.0 - np.log(8.0)])
    weight, rng = np.array([1.0, 1.0, 2.0, 1.0]), np.random.default_rng(0)
    incomplete = with_rows(problem, values, weight, missing)
    rows, probability = candidate_rows(incomplete, log_density, rng)
    np.testing.assert_array_equal(rows, values[[0, 2, 3]])
    expected = np.array([1.0, 2.0, 1.0]) / 8.0 + np.array([1.0, 2.0, 8.0]) / 22.0
    np.testing.assert_allclose(probability, expected, rtol=1e-12)
    many = with_rows(problem, np.random.default_rng(1).normal(size=(10_000, D)))
    rows, probability = candidate_rows(many, np.zeros(10_000), rng)
    assert len(rows) == len(probability) == CalibrationSettings().candidate_rows < 10_000
    np.testing.assert_allclose(probability.sum(), 1.0)


# --- Density of the coordinates that the rows do not inform --------------------------------------


@pytest.mark.parametrize("name", sorted(PRIORS.keys() - {"tied"}))
def test_density_of_all_coordinates_is_that_of_the_surrogate(name):
    """If all components are empty: the surrogate's density times the Jacobian of coordinates."""
    approximation = mean_field_near(name)
    problem, params = approximation.problem, approximation.params
    draws = draw_mean_field(problem, params, 20, seed=1)
    empty = empty_in(approximation, SECOND_AND_FOURTH_EMPTY)
    all_empty = empty._replace(components=np.ones(K, bool), breaks=np.ones(K - 1, bool))
    found = log_prob_of_empty(problem, params, draws.theta, all_empty)
    surrogate = surrogate_in_data_units(problem.standardized_model, params)
    _, log_det_jacobian = unflatten(problem.standardized_model, tf.constant(draws.points))
    expected = surrogate.log_prob(list(draws.theta.values())) + log_det_jacobian
    np.testing.assert_allclose(found, expected, rtol=1e-9)
