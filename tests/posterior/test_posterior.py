"""A fitted posterior: its text and its draws."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bgmm_jd.posterior.mode import Mode


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


def test_text_of_a_posterior_has_a_line_for_each_fact(two_clusters_posterior):
    shown = replace(
        two_clusters_posterior,
        modes=tuple(Mode(share, -20.0, -21.0, 0.1, 3) for share in (0.7, 0.295, 0.005)),
        feature_names=("width", "length"),
    )
    first, *lines = repr(shown).splitlines()
    assert first == "<Posterior: 2 components, diag covariance, 40 rows x 2 features"
    facts = dict(line.strip().rstrip(">").split("  ", 1) for line in lines)
    assert facts["log evidence"].strip() == (
        f"{shown.log_evidence:.2f} +/- {shown.log_evidence_se:.2f} nats"
    )
    assert facts["modes"].split() == ["shares", "of", "0.70,", "0.29"]
    assert facts["features"].strip() == "width, length"


def test_html_of_a_posterior_has_the_facts_of_its_text_with_names_escaped(two_clusters_posterior):
    named = replace(two_clusters_posterior, feature_names=("<script>", "a & b"))
    found = ElementTree.fromstring(named._repr_html_())
    cells = [cell.text for cell in found.iter("td")]
    assert cells == [line[14:].strip() for line in repr(named).rstrip(">").splitlines()[1:]]
    assert cells[-1] == "<script>, a & b"


@pytest.mark.parametrize("n", [1, 2, 7])
def test_sample_returns_as_many_draws_as_requested_if_few(two_clusters_posterior, n):
    assert len(two_clusters_posterior.sample(n)["weights"]) == n
