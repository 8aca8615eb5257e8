"""A fitted posterior: its text and its draws."""

import pytest


def test_repr_of_a_posterior_states_its_assessment(two_clusters_posterior):
    text = repr(two_clusters_posterior)
    for part in (
        "2 components",
        "40 rows x 2 features",
        "k-hat",
        "1 of 1 runs agree",
        "converged",
    ):
        assert part in text


@pytest.mark.parametrize("n", [1, 2, 7])
def test_sample_returns_as_many_draws_as_requested_if_few(two_clusters_posterior, n):
    assert len(two_clusters_posterior.sample(n)["weights"]) == n
