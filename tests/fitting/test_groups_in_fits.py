"""When a fit takes groups of moved draws, and when it does not."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting import assess
from bgmm_jd.settings import ChainSettings, ProposalSettings, Settings

ROWS = np.random.default_rng(3).normal(size=(10, 1))
# All weights count as poor, and a proposal is never efficient enough.
ALWAYS_CHAINS = Settings(
    chains=ChainSettings(above_khat=-np.inf), proposal=ProposalSettings(most_per_draw=0.0)
)


def fit_with(monkeypatch, change):
    """Fit with particles from the prior whose evidence is changed; return it and their bank."""
    banks, draw_annealed = [], assess.draw_annealed

    def changed(*arguments):
        found = draw_annealed(*arguments)
        banks.append(found.bank)
        return found._replace(evidence=found.evidence._replace(log=found.evidence.log + change))

    monkeypatch.setattr(assess, "draw_population", lambda *_: None)
    monkeypatch.setattr(assess, "draw_annealed", changed)
    posterior = bgmm_jd.fit(ROWS, 2, restarts=1, progress=False, settings=ALWAYS_CHAINS)
    return posterior, banks[0]


@pytest.mark.parametrize(("change", "is_taken"), [(0.0, True), (-20.0, False)])
def test_particles_are_taken_unless_their_evidence_is_below_the_bound(
    monkeypatch, change, is_taken
):
    posterior, bank = fit_with(monkeypatch, change)
    assert posterior.method == "hmc"
    assert (posterior.approximation.bank is bank) == is_taken
    assert posterior.log_evidence > posterior.evidence_bound
