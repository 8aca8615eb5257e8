"""What a report says in words."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from figures import fit_of_groups

from bgmm_jd.reporting.report_tables import comparison_table
from bgmm_jd.reporting.report_texts import comparison_in_words, verdict
from bgmm_jd.variational.approximation import Bank, Mixing

nan = np.nan


def compared(evidence, se):
    """Return the table of two fits or more of such evidences, as `compare` sorts it."""
    n = len(evidence)
    return pd.DataFrame(
        {
            "K": range(1, n + 1),
            "covariance": "diag",
            "log_evidence": evidence,
            "log_evidence_se": se,
            "elbo": -9.0,
            "elpd_loo": -8.0,
            "se": 1.0,
            "elpd_diff": 0.0,
            "dse": 0.0,
            "warning": False,
            "status": "CONVERGED",
        },
        index=list("ABCDE"[:n]),
    )


@pytest.mark.parametrize(
    ("se", "words"),
    [
        ((0.1, 0.1), "The log evidence favours A over B by 5.00 nats, odds of 148.4 to 1"),
        ((nan, 0.1), "favours A over B by at least 5.00 nats, odds of at least 148.4 to 1"),
        ((0.1, nan), "A and B cannot be compared: that of B is known by a lower bound only"),
        ((nan, nan), "A and B cannot be compared: that of B is known by a lower bound only"),
    ],
)
def test_odds_are_told_only_where_the_lower_evidence_is_no_bound(se, words):
    text = comparison_in_words(compared((-20.0, -25.0), se))
    assert words in text
    assert ("odds" in text) == ("favours" in text)


def test_small_difference_to_a_bound_is_not_called_unclear():
    assert "no clear difference" in comparison_in_words(compared((-20.0, -21.0), (0.1, 0.1)))
    assert "no clear difference" not in comparison_in_words(compared((-20.0, -21.0), (nan, 0.1)))


def test_evidence_that_is_not_known_is_no_bound():
    text = comparison_table(compared((-20.0, -25.0, nan), (0.1, nan, nan)), fit_of_groups(1))
    assert "<td>at least -25.00</td><td>-5.00</td>" in text
    assert "<td>not known</td><td>not known</td>" in text
    assert "at least not known" not in text


@pytest.mark.parametrize(("rhat", "agree"), [(1.01, "agree"), (1.2, "do not agree")])
def test_draws_of_a_proposal_that_were_moved_are_not_called_chains(rhat, agree):
    """Those of several modes are put together, in random order."""
    posterior = fit_of_groups(1)

    def words(chains):
        bank = Bank(np.zeros((1000, 5)), chains, np.zeros(1000, int), Mixing(rhat, 900.0))
        approximation = dataclasses.replace(posterior.approximation, bank=bank)
        return verdict(dataclasses.replace(posterior, approximation=approximation))

    assert "By Hamiltonian Monte Carlo, from draws of a proposal for all modes" in words(1)
    assert f"groups of draws, or the chains of a mode, that R-hat compares {agree}" in words(1)
    assert "By Markov chains of Hamiltonian Monte Carlo" in words(4)
    assert f"the chains that R-hat compares {agree}" in words(4)
