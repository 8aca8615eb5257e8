"""The components of a posterior in another order, or with names."""

import itertools

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.model.covariances import component_covariances


def test_relabel_moves_draws_predictions_and_surrogate(two_clusters, two_clusters_posterior):
    posterior = two_clusters_posterior
    turned = bgmm_jd.relabel(posterior, [1, 0])
    for name, v in posterior.sample(50).items():
        np.testing.assert_array_equal(turned.sample(50)[name], v[:, ::-1])
    np.testing.assert_array_equal(
        bgmm_jd.predict(turned, two_clusters), 1 - bgmm_jd.predict(posterior, two_clusters)
    )
    np.testing.assert_array_equal(
        bgmm_jd.log_density(turned, two_clusters), bgmm_jd.log_density(posterior, two_clusters)
    )
    np.testing.assert_allclose(
        turned.surrogate.sample_distributions(seed=(0, 0))[0].means.mean(),
        posterior.surrogate.sample_distributions(seed=(0, 0))[0].means.mean()[::-1],
    )
    again = bgmm_jd.relabel(turned, [1, 0])
    np.testing.assert_array_equal(again.sample(50)["means"], posterior.sample(50)["means"])


def test_relabel_by_weights_puts_the_largest_component_first():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-5, 1, (10, 2)), rng.normal(5, 1, (30, 2))])
    posterior = bgmm_jd.relabel(bgmm_jd.fit(X, 2, restarts=1), "weights")
    weights = posterior.sample(200)["weights"].mean(axis=0)
    assert weights[0] > weights[1]


def test_relabel_like_another_posterior_undoes_any_order():
    """Of two components at one centre too, which differ in their widths."""
    rng = np.random.default_rng(3)
    X = np.concatenate(
        [rng.normal(0, sd, (150, 2)) for sd in (0.1, 2.0)] + [rng.normal(9, 1, (90, 2))]
    )
    first = bgmm_jd.fit(X, 3, restarts=1, finish="none")
    later = bgmm_jd.fit(X[::2], 3, covariance="full", restarts=1, finish="none")
    for order in itertools.permutations(range(3)):
        turned = bgmm_jd.relabel(bgmm_jd.relabel(later, order), first)
        # The widths are 0.1, 1 and 2: their ratios are far from those of any wrong pair.
        np.testing.assert_allclose(log_widths(turned), log_widths(first), atol=0.3)


def log_widths(posterior):
    """Return half the log determinant of each component's covariance, per feature: [K]."""
    covariances = component_covariances(posterior.sample(200), posterior.covariance).mean(axis=0)
    return np.linalg.slogdet(covariances)[1] / 4.0


def test_relabel_refuses_a_posterior_of_another_shape(two_clusters_posterior):
    other = bgmm_jd.fit(np.random.default_rng(0).normal(size=(40, 2)), 1, finish="none")
    with pytest.raises(ValueError, match="K=2 components of 2 features"):
        bgmm_jd.relabel(two_clusters_posterior, other)


@pytest.mark.parametrize("order", [[0, 0], [0, 1, 2], "means", [1, 2]])
def test_relabel_refuses_what_is_no_permutation(two_clusters_posterior, order):
    with pytest.raises(ValueError, match="order must be"):
        bgmm_jd.relabel(two_clusters_posterior, order)


def test_relabel_names_components_and_moves_names_with_them(two_clusters_posterior):
    posterior = two_clusters_posterior
    assert posterior.component_names is None
    named = bgmm_jd.relabel(posterior, names=["left", "right"])
    assert named.component_names == ("left", "right")
    np.testing.assert_array_equal(named.sample(5)["means"], posterior.sample(5)["means"])
    turned = bgmm_jd.relabel(named, [1, 0])
    assert turned.component_names == ("right", "left")
    assert bgmm_jd.relabel(posterior, [1, 0]).component_names is None


def test_relabel_gives_names_in_the_new_order(two_clusters_posterior):
    turned = bgmm_jd.relabel(two_clusters_posterior, [1, 0], names=("right", "left"))
    assert turned.component_names == ("right", "left")
    means = turned.sample(200)["means"].mean(axis=0)[:, 0]
    assert means[0] > 0 > means[1]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a"], ValueError),
        (["a", "b", "c"], ValueError),
        (["a", "a"], ValueError),
        (["a", 1], TypeError),
        ("ab", TypeError),
        ({"a", "b"}, TypeError),
        (3, TypeError),
    ],
)
def test_relabel_refuses_names_that_are_not_as_many_distinct_strings(
    two_clusters_posterior, names, error
):
    with pytest.raises(error, match="names must be"):
        bgmm_jd.relabel(two_clusters_posterior, names=names)


def test_relabel_without_order_and_names_is_refused(two_clusters_posterior):
    with pytest.raises(ValueError, match="an order, names of the components, or both"):
        bgmm_jd.relabel(two_clusters_posterior)
