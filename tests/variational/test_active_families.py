"""The natural gradient of active components, against that of as many."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd.variational.active_families import ActiveDirichletFamily, ActiveFamily
from bgmm_jd.variational.families import DIRICHLET, GAMMA, MULTIVARIATE_NORMAL, WISHART

ACTIVE = tf.constant([1.0, 1.0, 1.0, 0.0], tf.float64)


@pytest.mark.parametrize("K", [1, 3])
def test_natural_gradient_of_a_dirichlet_is_that_of_its_active_proportions(K):
    active = tf.cast(tf.range(4) < K, tf.float64)
    concentration = np.array([1.5, 30.0, 4_000.0, 7.0])
    slope = np.array([0.3, -2.0, 5.0, 0.0]) * (K > 1)
    slope[K:] = 0.0
    found = ActiveDirichletFamily(active).natural_gradient(
        {"concentration": concentration}, {"concentration": slope}
    )["concentration"]
    expected = DIRICHLET.natural_gradient(
        {"concentration": concentration[:K]}, {"concentration": slope[:K]}
    )["concentration"]
    np.testing.assert_allclose(found[:K], expected, rtol=1e-12)
    np.testing.assert_array_equal(found[K:], 0.0)


def test_inactive_members_with_no_gradient_do_not_move():
    family = ActiveFamily(GAMMA, ACTIVE, ndims=1)
    p = {"concentration": np.full((4, 2), 3.0), "mean": np.full((4, 2), 0.5)}
    slope = np.zeros((4, 2))
    slope[:3] = 1.0
    found = family.natural_gradient(p, {"concentration": slope, "mean": slope})
    expected = GAMMA.natural_gradient(p, {"concentration": slope, "mean": slope})
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])
        np.testing.assert_array_equal(value[3], 0.0)


def test_active_family_is_the_family_otherwise():
    family = ActiveFamily(WISHART, ACTIVE, ndims=2)
    assert family.has_cholesky
    assert family.has_matrix_parameter
    assert family.constraints is WISHART.constraints
    assert family.parameter_shapes((4, 2, 2)) == WISHART.parameter_shapes((4, 2, 2))


def test_covariances_are_those_of_the_family():
    factor = tf.constant(np.tile([[2.0, 0.0], [1.0, 0.5]], (4, 1, 1)))
    family = ActiveFamily(MULTIVARIATE_NORMAL, ACTIVE, ndims=1)
    np.testing.assert_array_equal(
        family.from_factor(tf.zeros((4, 2)), factor)["scale_tril"], factor
    )
