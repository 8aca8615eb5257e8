"""Posteriors by Markov chains, against exact sums, proposals and published values."""

import json

import numpy as np
import pytest
from builders import problem_for
from exact_evidence import exact_log_evidence
from hard_cases import HARD, fit_case, invariants

import bgmm_jd
from bgmm_jd.backend.arviz_version import import_arviz
from bgmm_jd.optimization.status import Status
from bgmm_jd.sampling.chain_posterior import are_affordable
from bgmm_jd.settings import ChainSettings, Settings

TEN_ROWS = np.random.default_rng(3).normal(size=10)
# Cases without modes that are close to each other, for which chains have to mix.
APART = {"gal_std_K3"}
Z_ALARM = 4.5  # false alarms: 7e-6


@pytest.fixture(scope="module")
def ten_rows():
    return bgmm_jd.fit(TEN_ROWS[:, np.newaxis], 2, restarts=1, progress=False, finish="hmc")


def test_log_evidence_of_ten_rows_is_the_sum_over_allocations(ten_rows):
    exact = exact_log_evidence(ten_rows, TEN_ROWS)
    assert ten_rows.log_evidence == pytest.approx(exact, abs=0.1)
    assert 0.0 < ten_rows.log_evidence_se < 0.1


def test_what_made_the_draws_is_reported(ten_rows):
    assert ten_rows.method == "hmc"
    assert ten_rows.status.good
    settings = ten_rows.settings.chains
    assert ten_rows.mixing.rhat < settings.rhat
    assert ten_rows.mixing.effective > settings.effective
    assert ten_rows.seconds["chains"] > 0.0
    assert [mode.share for mode in ten_rows.modes] == [1.0]


def test_chains_and_weighted_proposals_have_the_same_posterior(ten_rows):
    proposed = bgmm_jd.fit(TEN_ROWS[:, np.newaxis], 2, progress=False)
    assert proposed.method == "mixture"
    found = [invariants(one.sample(4_000)) for one in (ten_rows, proposed)]
    sd = found[1].std(axis=0)
    effective = min(ten_rows.mixing.effective, 1_000.0)  # proposals are made until 1,000 are
    limit = Z_ALARM * (2.0 / effective) ** 0.5
    assert (np.abs(found[0].mean(axis=0) - found[1].mean(axis=0)) / sd < limit).all()
    assert (np.abs(np.log(found[0].std(axis=0) / sd)) < limit).all()


def test_any_number_of_draws_takes_each_equally_often(ten_rows):
    bank = len(ten_rows.approximation.bank.points)
    few = ten_rows.sample(100, seed=1)["weights"]
    np.testing.assert_array_equal(few, ten_rows.sample(100, seed=1)["weights"])
    assert (few != ten_rows.sample(100, seed=2)["weights"]).any()
    each_once = [np.sort(ten_rows.sample(bank, seed=s)["means"].ravel()) for s in (1, 2)]
    np.testing.assert_array_equal(*each_once)
    twice = np.sort(ten_rows.sample(2 * bank, seed=3)["means"].ravel())
    np.testing.assert_array_equal(twice, each_once[0].repeat(2))


def test_chains_are_chains_in_arviz(ten_rows):
    idata = bgmm_jd.to_inference_data(ten_rows, TEN_ROWS[:, np.newaxis], draws=50)
    chains = ten_rows.approximation.bank.chains
    assert dict(idata["posterior"].sizes)["chain"] == chains
    assert dict(idata["posterior"].sizes)["draw"] == 100
    assert idata["log_likelihood"]["x"].shape == (chains, 100, 10)
    assert "log_q" not in idata["sample_stats"]
    assert np.isfinite(idata["sample_stats"]["lp"]).all()
    assert idata["posterior"].attrs["rhat"] == ten_rows.mixing.rhat
    table = import_arviz().summary(idata)
    assert (table["r_hat"].astype(float) < 1.1).all()
    alone = bgmm_jd.to_inference_data(ten_rows, draws=50, chains="one")
    assert dict(alone["posterior"].sizes)["chain"] == 1


def test_cross_validation_takes_the_draws_of_chains(ten_rows):
    table = bgmm_jd.compare({"hmc": ten_rows}, TEN_ROWS[:, np.newaxis])
    assert np.isfinite(table.loc["hmc", "elpd_loo"])


def test_chains_that_have_hardly_moved_get_no_clean_verdict():
    settings = Settings(chains=ChainSettings(warm_up=(1,), first_step=1e-3, moves=5, most_moves=5))
    with pytest.warns(RuntimeWarning, match="chains have not mixed"):
        posterior = bgmm_jd.fit(
            TEN_ROWS[:, np.newaxis],
            2,
            restarts=1,
            progress=False,
            finish="hmc",
            settings=settings,
        )
    assert posterior.status is Status.CHAINS_NOT_MIXED
    assert not posterior.status.good


def test_chains_without_calibration_are_refused():
    with pytest.raises(ValueError, match="finish='hmc' draws from the posterior"):
        bgmm_jd.fit(TEN_ROWS[:, np.newaxis], 2, progress=False, finish="hmc", calibrate=False)


def test_chains_are_affordable_for_small_data_only():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    assert are_affordable(problem_for(rows, 3))
    assert not are_affordable(problem_for(np.tile(rows, (100, 1)), 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:chains not mixed")
@pytest.mark.parametrize("name", sorted(path.stem for path in HARD.glob("*.json")))
def test_hard_posteriors_by_chains_are_right_or_said_not_to_be(name):
    """Modes that no start has found are not apart for chains, which then have not mixed."""
    case = json.loads((HARD / f"{name}.json").read_text())
    truth = case["refined"]
    posterior = fit_case(case, seed=1, finish="hmc")
    assert posterior.method == "hmc"
    if not posterior.status.good:
        assert posterior.status is Status.CHAINS_NOT_MIXED
        assert name not in APART
        return
    for number, mode in enumerate(posterior.modes):
        if mode.share > 0.02:
            assert posterior.at_mode(number).sample(200)["weights"].shape == (200, case["K"])
    mean, sd = (np.array(truth[key])[:-1] for key in ("mean", "sd"))
    kept = sd > 1e-3
    found = invariants({k: v.astype(np.float64) for k, v in posterior.sample(4_000).items()})
    assert np.abs((found.mean(axis=0) - mean) / sd)[kept].max() < 0.15
    np.testing.assert_allclose((found.std(axis=0) / sd)[kept], 1.0, atol=0.12)
    slack = 3.0 * np.hypot(truth["log_evidence_se"], posterior.log_evidence_se)
    assert posterior.log_evidence == pytest.approx(truth["log_evidence"], abs=0.15 + slack)
