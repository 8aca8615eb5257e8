"""A fitted posterior: its text and its draws."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

import bgmm_jd
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.sampling.draws import only_mode
from bgmm_jd.variational.approximation import Region


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
    (only,) = shown.restarts
    assert facts["restarts"].strip() == (
        f"1 of 1 runs agree; {only.starts} of {only.starts} starts led there"
    )
    assert facts["status"].strip() == f"CONVERGED: {bgmm_jd.Status.CONVERGED.value}"


def test_text_says_what_is_not_known(two_clusters_posterior):
    nan = float("nan")
    text = repr(replace(two_clusters_posterior, log_evidence=nan, khat=nan))
    assert "log evidence  not known" in text
    assert "k-hat not known" in text
    assert "nan" not in text


def test_text_names_the_mode_that_the_draws_are_of(two_clusters_posterior):
    found = two_clusters_posterior
    region = Region((), 1, 0.4)
    modes = (Mode(0.6, -20.0, -21.0, 0.1, 3), Mode(0.4, -20.0, -21.0, 0.1, 3, region))
    assert "alone" not in repr(replace(found, modes=modes))
    one = replace(found, modes=modes, approximation=only_mode(found.approximation, region))
    assert "; of modes[1] alone" in repr(one)


def test_html_of_a_posterior_has_the_facts_of_its_text_with_names_escaped(two_clusters_posterior):
    named = replace(two_clusters_posterior, feature_names=("<script>", "a & b"))
    found = ElementTree.fromstring(named._repr_html_())
    cells = [cell.text for cell in found.iter("td")]
    assert cells == [line[14:].strip() for line in repr(named).rstrip(">").splitlines()[1:]]
    assert cells[-1] == "<script>, a & b"


@pytest.mark.parametrize("n", [1, 2, 7])
def test_sample_returns_as_many_draws_as_requested_if_few(two_clusters_posterior, n):
    assert len(two_clusters_posterior.sample(n)["weights"]) == n
