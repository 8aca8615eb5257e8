"""Log evidence, shares of modes and draws, against exact sums and published values."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import with_memory
from exact_evidence import exact_log_evidence, log_evidence
from hard_cases import HARD, fit_case, invariants
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.draws import draw_standardized
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import propose, refitted_to_draws
from bgmm_jd.sampling.relabelling import labels_of
from bgmm_jd.sampling.whole_posterior import best_of_refits
from bgmm_jd.variational.points import as_log_ratios

ENOUGH = 0.1  # nats
TEN_ROWS = np.random.default_rng(3).normal(size=10)
Root = tfd.JointDistributionCoroutine.Root


def galaxies():
    """The velocities of 82 galaxies (Roeder 1990), 1000 km/s, without the misprint in the 78th."""
    rows = np.array(json.loads((HARD / "gal_lib_K4.json").read_text())["data"]).ravel()
    rows[77] = 26.960
    return rows


def galaxy_prior(K, equal_variances):
    """Means N(20, 10^2), precisions Gamma(3, 20), weights Dirichlet(1)."""

    def model():
        ones = tf.ones(K, tf.float64)
        single = tfd.Independent(tfd.Deterministic(ones), 1, name="weights")
        yield Root(tfd.Dirichlet(ones, name="weights") if K > 1 else single)
        means = tfd.Normal(20.0 * tf.ones([K, 1], tf.float64), 10.0)
        yield Root(tfd.Independent(means, 2, name="means"))
        if equal_variances:  # the Gamma as a Wishart of one feature: df / 2 = 3, 1 / (2 V) = 20
            root = tf.constant([[40.0**-0.5]], tf.float64)
            yield Root(tfd.WishartTriL(tf.constant(6.0, tf.float64), root, name="precisions"))
        else:
            precisions = tfd.Gamma(3.0 * tf.ones([K, 1], tf.float64), 20.0)
            yield Root(tfd.Independent(precisions, 2, name="precisions"))

    return tfd.JointDistributionCoroutine(model)


def test_sum_over_allocations_is_right_for_one_component_and_two_rows():
    """One component: the sum has one term. Two rows: four allocations, summed by hand."""
    prior = {
        "mean_loc": 0.3,
        "mean_scale": 2.0,
        "precision_concentration": 1.5,
        "precision_rate": 0.7,
        "weight_concentration": 2.0,
    }
    one, two = np.array([0.4]), np.array([0.4, -1.1])
    single = log_evidence(one, 1, **prior)
    assert log_evidence(one, 3, **prior) == pytest.approx(single)
    together = log_evidence(two, 1, **prior)
    apart = single + log_evidence(two[1:], 1, **prior)
    # Dirichlet(2, 2): two rows are in the same component with probability 3 / 5.
    expected = np.log(0.6 * np.exp(together) + 0.4 * np.exp(apart))
    assert log_evidence(two, 2, **prior) == pytest.approx(expected)


@pytest.mark.parametrize("K", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 3, 6))])
def test_log_evidence_of_ten_rows_is_the_sum_over_allocations(K):
    posterior = bgmm_jd.fit(TEN_ROWS[:, np.newaxis], K, progress=False)
    exact = exact_log_evidence(posterior, TEN_ROWS)
    assert posterior.log_evidence == pytest.approx(exact, abs=ENOUGH)
    assert posterior.evidence_bound < exact + 3.0 * posterior.elbo_se
    assert posterior.method == "mixture"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("K", "equal_variances", "published"),
    [(1, False, -246.106), (2, True, -239.76), (3, True, -226.84), (3, False, -226.79)],
)
def test_log_evidence_of_the_galaxies_is_the_published_one(K, equal_variances, published):
    form = "tied" if equal_variances else "diag"
    posterior = bgmm_jd.fit(
        galaxies()[:, np.newaxis],
        K,
        covariance=form,
        prior=galaxy_prior(K, equal_variances),
        progress=False,
    )
    assert posterior.log_evidence == pytest.approx(published, abs=ENOUGH)


@pytest.fixture(scope="module")
def two_modes():
    """The galaxies with four components: two solutions, which both have a large share."""
    return fit_case(json.loads((HARD / "gal_lib_K4.json").read_text()), seed=0)


def test_modes_share_the_posterior(two_modes):
    posterior = two_modes
    assert posterior.status is Status.SEVERAL_MODES
    assert posterior.status.good
    shares = [mode.share for mode in posterior.modes]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    evidence = np.logaddexp.reduce([m.log_evidence for m in posterior.modes if m.share > 0.0])
    assert evidence == pytest.approx(posterior.log_evidence)


def test_draws_of_one_mode_are_those_that_belong_to_it(two_modes):
    posterior = two_modes
    labels = labels_of(posterior.problem)
    for number, mode in enumerate(posterior.modes):
        if mode.share > 0.02:
            draws = draw_standardized(posterior.at_mode(number), 300, seed=0)
            points = as_log_ratios(posterior.problem, draws.points)
            nearest = nearest_mode(points, mode.region.centres, labels)
            # Points have been rounded to float32 and back: one on the border may change sides.
            assert (nearest == mode.region.chosen).mean() > 0.99


def test_the_draws_are_those_of_the_modes_mixed_by_their_shares(two_modes):
    posterior = two_modes

    def largest_weight(one):
        return one.sample(4_000, seed=1)["weights"].max(axis=1)

    kept = [m for m, mode in enumerate(posterior.modes) if mode.share > 0.01]
    parts = [largest_weight(posterior.at_mode(m)) for m in kept]
    shares = np.array([posterior.modes[m].share for m in kept])
    assert shares.sum() > 0.99
    mixed = shares @ [part.mean() for part in parts] / shares.sum()
    whole = largest_weight(posterior)
    # 4,000 draws are worth 1,000 or more; the limit has a false-alarm rate of 7e-6.
    assert abs(mixed - whole.mean()) < 4.5 * whole.std() * (2 / 1_000) ** 0.5


def test_a_mixture_with_poor_weights_is_fitted_again_to_its_draws(two_modes):
    """The adapted mixture, with members half as wide: more of the draws are effective again."""
    problem, proposal = two_modes.approximation.problem, two_modes.approximation.proposal
    narrow = proposal.mixture._replace(factors=0.5 * proposal.mixture.factors)
    labels, before, after = labels_of(problem), 0.0, 0.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        draws = propose(problem, narrow, labels, 9_000, rng)
        mixture = refitted_to_draws(narrow, [draws], problem.settings.proposal)
        before += draws.effective
        after += propose(problem, mixture, labels, 9_000, rng).effective
    assert after > 1.2 * before


@pytest.mark.slow
def test_seeds_agree_on_a_posterior_with_a_component_to_spare():
    """Four spherical components for three round clusters: two ways to use the fourth.

    Both have elbos that differ by less than their noise, and a share of a third at least. Evidences
    with standard errors of 0.035 nats differ by more than 0.2 once in 20,000.
    """
    rng = np.random.default_rng(5)
    X = np.concatenate(
        [
            rng.normal(0.0, 1.0, (1_200, 2)),
            rng.normal([2.0, 2.0], 1.0, (500, 2)),
            rng.normal([4.0, 0.0], 0.7, (300, 2)),
        ]
    )
    found = [
        bgmm_jd.fit(X, 4, covariance="spherical", seed=seed, progress=False) for seed in (0, 4)
    ]
    assert found[0].log_evidence == pytest.approx(found[1].log_evidence, abs=0.2)
    weights = [np.max(one.sample(4_000, seed=1)["weights"], axis=1).mean() for one in found]
    assert weights[0] == pytest.approx(weights[1], abs=0.04)  # half a posterior sd
    assert all(one.modes[1].share > 0.2 for one in found)


def test_a_mixture_with_good_weights_is_kept(two_modes):
    problem, mixture = two_modes.approximation.problem, two_modes.approximation.proposal.mixture
    found, draws = best_of_refits(problem, mixture, labels_of(problem), np.random.default_rng(0))
    assert draws.khat < problem.settings.proposal.khat
    assert found is mixture


def test_many_draws_are_made_in_parts(two_modes):
    """The budget for permutations decides in the fit, and not when draws are made."""
    few = with_memory(two_modes, labellings=1)
    draws = few.sample(5_000, seed=2)
    assert draws["weights"].shape == (5_000, 4)
    np.testing.assert_array_equal(draws["weights"], two_modes.sample(5_000, seed=2)["weights"])


def test_a_mode_without_draws_is_refused(two_modes):
    with pytest.raises(IndexError):
        two_modes.at_mode(len(two_modes.modes))
    rare = replace(two_modes, modes=(two_modes.modes[0]._replace(share=0.001),))
    with pytest.raises(ValueError, match=r"at least 0\.01; got 0\.001"):
        rare.at_mode(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in HARD.glob("*.json")))
def test_hard_posteriors_are_right(name):
    """Against two samplers that agree: several modes, overlap, and components to spare."""
    case = json.loads((HARD / f"{name}.json").read_text())
    truth = case["refined"]
    posterior = fit_case(case, seed=1)
    kept = [
        i for i, sd in enumerate(truth["sd"]) if truth["names"][i] != "n_occupied" and sd > 1e-3
    ]
    mean, sd = (np.array(truth[key])[kept] for key in ("mean", "sd"))
    found = invariants({k: v.astype(np.float64) for k, v in posterior.sample(4_000).items()})
    found = found[:, kept]
    assert posterior.status.good
    assert np.abs((found.mean(axis=0) - mean) / sd).max() < 0.15
    np.testing.assert_allclose(found.std(axis=0) / sd, 1.0, atol=0.12)
    slack = 3.0 * np.hypot(truth["log_evidence_se"], posterior.log_evidence_se)
    assert posterior.log_evidence == pytest.approx(truth["log_evidence"], abs=0.15 + slack)
    assert posterior.log_evidence_se < 0.3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_finish_none_ends_with_the_calibrated_posterior():
    posterior = bgmm_jd.fit(TEN_ROWS[:, np.newaxis], 2, progress=False, finish="none")
    assert posterior.method in ("importance", "normal")
    assert np.isnan(posterior.log_evidence)
    assert np.isfinite(posterior.evidence_bound)
    with pytest.raises(ValueError, match="no draws of its own"):
        posterior.at_mode(0)


def test_finish_is_checked():
    with pytest.raises(ValueError, match="finish must be one of"):
        bgmm_jd.fit(TEN_ROWS[:, np.newaxis], 2, progress=False, finish="nuts")
