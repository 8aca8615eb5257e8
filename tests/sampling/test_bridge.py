"""Bridge sampling, of normal distributions whose normalising constants are known."""

import numpy as np
from scipy import stats

from bgmm_jd.sampling.bridge import bridge_evidence
from bgmm_jd.sampling.evidence import sum_of_evidences

LOG_Z = 3.7
P = 5


def ratios(rng, n, shift, scale, width=1.0):
    """Return log ratios at draws of N(0, 1) times exp(LOG_Z), and at draws of N(shift, scale)."""
    posterior = stats.norm(0.0, width)
    proposal = stats.norm(shift, scale)

    def log_ratio(x):
        return (posterior.logpdf(x) - proposal.logpdf(x)).sum(axis=1) + LOG_Z

    return (
        log_ratio(posterior.rvs((n, P), random_state=rng)),
        log_ratio(proposal.rvs((n, P), random_state=rng)),
    )


def test_evidence_is_right_within_its_error():
    """A proposal that is narrower than the posterior, whose importance weights have no variance."""
    rng, scores = np.random.default_rng(0), []
    for _ in range(200):
        found = bridge_evidence(*ratios(rng, 1_000, 0.3, 0.65), effective=1_000)
        assert 0.0 < found.se < 0.2
        scores.append((found.log - LOG_Z) / found.se)
    # Of 200 standard normal scores: the mean and the log sd have errors of 0.07 and 0.05.
    assert abs(np.mean(scores)) < 4.5 * 0.07
    assert abs(np.log(np.std(scores))) < 4.5 * 0.05


def test_fewer_effective_draws_give_a_larger_error():
    """By the square root of their number at most, as that of the proposal's stays."""
    both = ratios(np.random.default_rng(1), 2_000, 0.5, 1.2)
    all_effective, few = (bridge_evidence(*both, effective=n) for n in (2_000, 100))
    assert all_effective.se < few.se < 20.0**0.5 * all_effective.se


def test_evidence_of_a_part_counts_the_draws_inside_of_it():
    """Half of the posterior: draws of the proposal on the other side have no ratio."""
    rng = np.random.default_rng(2)
    x, y = np.abs(rng.normal(size=20_000)), rng.normal(0.0, 1.5, 20_000)

    def log_ratio(at):
        return stats.norm.logpdf(at) - stats.norm.logpdf(at, scale=1.5) + LOG_Z

    restricted = np.where(y > 0.0, log_ratio(y), -np.inf)
    found = bridge_evidence(log_ratio(x), restricted, effective=20_000)
    assert abs(found.log - (LOG_Z - np.log(2.0))) < 4.5 * found.se


def test_evidence_is_out_of_reach_where_the_distributions_hardly_overlap():
    found = bridge_evidence(*ratios(np.random.default_rng(3), 1_000, 3.0, 0.5), effective=1_000)
    assert np.isnan(found.log)
    assert np.isnan(found.se)


def test_evidences_of_parts_add_up():
    first, second = (
        bridge_evidence(*ratios(np.random.default_rng(s), 1_000, 0.2, 1.0), 1_000) for s in (4, 5)
    )
    whole = sum_of_evidences([first, second])
    assert np.isclose(whole.log, np.logaddexp(first.log, second.log))
    assert max(first.se, second.se) / 2.0 < whole.se < max(first.se, second.se)
