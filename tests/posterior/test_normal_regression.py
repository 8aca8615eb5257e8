"""Regression within normals against the textbook's formulas and scipy's densities."""

import numpy as np
import pytest
from known_components import make_components
from scipy import stats

from bgmm_jd.posterior.normal_regression import (
    normalize_log_weights,
    partition_normals,
    regress_normals,
)

EPS = np.finfo(float).eps
# Some tens of operations on numbers of at most some hundreds, and on factors whose condition is at
# most some thousands.
ROUNDING = 1e-9


@pytest.mark.parametrize(
    ("given", "wanted"),
    [([0], [1, 2, 3]), ([3, 1], [0, 2]), ([2, 0], [3]), ([2, 0, 3], [1]), ([1], [3, 0])],
)
def test_each_normal_is_regressed_as_in_the_textbook(given, wanted):
    """Theorem 3.2.4 with the inverse written out; the others are summed out."""
    components = make_components(S=2, K=3, D=4)
    x = np.random.default_rng(1).normal(scale=3.0, size=(5, len(given)))
    parts = partition_normals(*components, given, wanted)
    log_joint_label, means = regress_normals(parts, x)
    assert log_joint_label.shape == (5, 6)
    assert means.shape == (5, 6, len(wanted))
    flat = zip(
        components.weights.reshape(6),
        components.means.reshape(6, 4),
        components.covariances.reshape(6, 4, 4),
        strict=True,
    )
    for j, (weight, mean, C) in enumerate(flat):
        S_xx, S_yx = C[np.ix_(given, given)], C[np.ix_(wanted, given)]
        B = S_yx @ np.linalg.inv(S_xx)
        location = mean[wanted] + (x - mean[given]) @ B.T
        scale = C[np.ix_(wanted, wanted)] - B @ S_yx.T
        of_x = np.log(weight) + stats.multivariate_normal(mean[given], S_xx).logpdf(x)
        np.testing.assert_allclose(log_joint_label[:, j], of_x, rtol=ROUNDING)
        np.testing.assert_allclose(means[:, j], location, rtol=ROUNDING)
        factor = parts.y_factors[j]
        np.testing.assert_allclose(factor @ factor.T, scale, rtol=ROUNDING, atol=ROUNDING)


def test_means_and_weights_are_unchanged_if_nothing_is_given():
    components = make_components(S=2, K=3, D=4)
    log_joint_label, means = regress_normals(
        partition_normals(*components, (), (2, 0)), np.zeros((1, 0))
    )
    np.testing.assert_array_equal(log_joint_label, np.log(components.weights).reshape(1, 6))
    np.testing.assert_array_equal(means, components.means[:, :, [2, 0]].reshape(1, 6, 2))


def test_label_probabilities_follow_bayes_theorem():
    """Also where densities underflow, and separately for each of several draws."""
    share = np.random.default_rng(3).dirichlet([1.0, 2.0, 3.0], size=(5, 2))
    log_joint_label = np.log(share) - 1e4 * np.arange(1, 11).reshape(5, 2, 1)
    found = np.exp(normalize_log_weights(log_joint_label, np.zeros((5, 1))))
    np.testing.assert_allclose(found, share, rtol=1e6 * EPS)  # the logarithms are of 1e5


def test_rows_whose_log_density_overflows_are_an_error():
    log_joint_label = np.array([[[-1.0, -2.0], [-3.0, -np.inf]], [[-1.0, 0.0], [-np.inf, -np.inf]]])
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = np.exp(normalize_log_weights(log_joint_label[:1], x[:1]))
    np.testing.assert_array_equal(found[0, 1], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"\[3\.0, 4\.0\] are so far from all components"):
        normalize_log_weights(log_joint_label, x)


def test_a_component_of_weight_zero_has_label_probability_zero():
    weights, means, covariances = make_components(S=1, K=2, D=2)
    x = np.array([[1.0]])
    log_joint_label, _ = regress_normals(
        partition_normals(weights * [[0.0, 1.0]], means, covariances, [0], [1]), x
    )
    np.testing.assert_array_equal(np.exp(normalize_log_weights(log_joint_label, x)), [[0.0, 1.0]])
