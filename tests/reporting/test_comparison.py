"""Fits beside each other: against ArviZ called by hand, quadrature, and repeated rows.

Statistical tests raise a false alarm with probability 1e-6 each; the seeds are fixed.
"""

import functools
import inspect
import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import special, stats
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting import selection as selection_module
from bgmm_jd.fitting.selection import select
from bgmm_jd.posterior.densities import row_log_likelihood
from bgmm_jd.reporting import comparison, leave_one_out
from bgmm_jd.reporting.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.reporting.comparison import compare
from bgmm_jd.variational import approximation
from bgmm_jd.variational.structure import model_of

Z_ALARM = stats.norm.isf(1e-6 / 2)
S, SEED = 1000, 3
OLD = arviz_major_version() < 1
COLUMNS = [
    *("K", "covariance", "log_evidence", "elbo", "elbo_se", "elbo_diff"),
    *("elpd_loo", "se", "p_loo", "elpd_diff", "dse", "rank", "weight"),
    *("khat", "pareto_k_max", "warning", "status"),
]
# Graphs compile in a fraction of XLA's time; both follow the same path.
OPTIONS = {"execution": "graph", "restarts": 1, "progress": False}
CENTRES = np.array([[150.0, -0.02], [210.0, 0.01]])
SPREADS = np.array([[10.0, 0.004], [5.0, 0.009]])


@pytest.fixture(scope="module")
def rows():
    """Two clusters of columns far from zero and of unlike scale: float64 [120, 2]."""
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], [50, 70])
    return CENTRES[label] + SPREADS[label] * rng.standard_normal((120, 2))


@pytest.fixture(scope="module")
def selection(rows):
    with warnings.catch_warnings():  # what the status of the best is does not matter here
        warnings.simplefilter("ignore", RuntimeWarning)
        return select(rows, K=(1, 2, 3), draws=S, seed=SEED, **OPTIONS)


@pytest.fixture(scope="module")
def fits(selection):
    return {f"{K} {form}": posterior for (K, form), posterior in selection.posteriors.items()}


@pytest.fixture(scope="module")
def mean_field(rows):
    """`mean_field(K)` is a fit that was not calibrated."""

    @functools.cache
    def of(K):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return bgmm_jd.fit(rows, K, calibrate=False, **OPTIONS)

    return of


def on_other_rows(posterior, X, weight=None, **changes):
    """As if the posterior's values had been fitted to them: how well they fit is of no matter."""
    data = standardize(X, weight)
    return replace(posterior, inside=posterior.inside._replace(data=data), **changes)


def az_loo(idata):
    """By hand: elpd, p, values of the rows and the object itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")
        found = import_arviz().loo(idata, pointwise=True)
    if OLD:
        return found.elpd_loo, found.p_loo, found.loo_i.to_numpy(), found
    return found.elpd, found.p, found.elpd_i.to_numpy(), found


# --- the table ------------------------------------------------------------------------------


@pytest.mark.contract
def test_two_clusters_are_found(selection, rows):
    table = selection.table
    assert list(table.columns) == COLUMNS
    assert table.index[0] == "2 diag"
    assert sorted(table.index) == ["1 diag", "2 diag", "3 diag"]
    assert selection.best is selection.posteriors[2, "diag"]
    assert (np.diff(table["log_evidence"]) <= 0).all()
    assert table["weight"].sum() == pytest.approx(1.0, abs=1e-6)
    for column, diff in (("elbo", "elbo_diff"), ("elpd_loo", "elpd_diff")):
        expected = table[column] - table[column].max()
        np.testing.assert_allclose(table[diff], expected, atol=1e-6)
    assert sorted(table["rank"]) == [0, 1, 2]
    assert table["rank"].idxmin() == table["elpd_loo"].idxmax()
    assert table["warning"].dtype == bool
    assert "best of 3" in repr(selection)
    again = compare({"a": selection.best}, rows, draws=S, seed=SEED).loc["a"]
    first = table.loc["2 diag"]
    unshared = ["weight", "elbo_diff", "elpd_diff", "dse", "rank"]
    pd.testing.assert_series_equal(
        again.drop(unshared), first.drop(unshared), check_names=False, rtol=0.0, atol=0.0
    )


@pytest.mark.contract
def test_as_arviz_by_hand(fits, rows):
    """Leave-one-out of the same draws through `to_inference_data`, and `az.compare` of these.

    Of the fits whose draws can be trusted: no draw of the others may have all the weight.
    """
    good = {name: posterior for name, posterior in fits.items() if posterior.khat < 0.5}
    assert {"1 diag", "2 diag"} <= set(good)
    table = compare(good, rows, draws=S, seed=SEED)
    loos = {
        name: az_loo(bgmm_jd.to_inference_data(posterior, rows, draws=S, seed=SEED))
        for name, posterior in good.items()
    }
    best = loos[table["elpd_loo"].idxmax()][2]
    for name, (elpd, p, by_row, found) in loos.items():
        dse = np.sqrt(len(rows) * np.var(by_row - best))
        assert table.loc[name, "elpd_loo"] == pytest.approx(elpd, rel=1e-9)
        assert table.loc[name, "p_loo"] == pytest.approx(p, rel=1e-6)
        assert table.loc[name, "se"] == pytest.approx(found.se, rel=1e-9)
        assert table.loc[name, "dse"] == pytest.approx(dse, rel=1e-6, abs=1e-9)
        assert table.loc[name, "pareto_k_max"] == found.pareto_k.to_numpy().max()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")  # arviz 0.23 under pandas 3
        by_hand = import_arviz().compare({name: found for name, (*_, found) in loos.items()})
    np.testing.assert_allclose(table["weight"], by_hand["weight"][table.index], atol=0.01)
    assert list(by_hand.index) == list(table.sort_values("rank").index)


def test_evidence_counts_the_labellings(selection):
    table = selection.table
    gain = table["log_evidence"] - table["elbo"]
    np.testing.assert_allclose(gain, special.gammaln(table["K"] + 1.0), atol=1e-9)


def test_labels_that_the_prior_tells_apart_count_once(selection):
    prior = bgmm_jd.mixture_prior(3, 2, mean_loc=[[0.0], [1.0], [2.0]], dtype="float64")
    alike = selection.posteriors[3, "diag"]
    apart = replace(alike, inside=alike.inside._replace(model=model_of(prior, "diag")))
    assert comparison._log_relabellings(apart) == 0.0
    assert comparison._log_relabellings(alike) == pytest.approx(math.log(6.0))


@pytest.mark.contract
def test_one_alone(fits, rows):
    table = compare({("any", "name"): fits["2 diag"]}, rows)
    assert list(table.index) == [("any", "name")]
    row = table.iloc[0]
    assert row[["elbo_diff", "elpd_diff", "dse", "rank"]].tolist() == [0.0] * 4
    assert row["weight"] == pytest.approx(1.0)
    assert row["status"] == fits["2 diag"].status.name


def test_other_dtypes_of_the_same_rows(fits, rows):
    """Lists, and a dtype other than that of the fit, are the same rows."""
    expected = compare(fits, rows, draws=200)
    pd.testing.assert_frame_equal(compare(fits, rows.tolist(), draws=200), expected)
    near = compare(fits, rows.astype(np.float32), draws=200)
    np.testing.assert_allclose(near["elpd_loo"], expected["elpd_loo"], rtol=1e-4)


# --- leave-one-out against exact answers ----------------------------------------------------


def log_evidence_of_feature(x, shift, scale):
    """log p(x) of one column under one component and the default prior, by quadrature.

    mean ~ Normal(shift, 2 scale) integrated out in closed form; tau ~ Gamma(1, 0.1 scale^2) by the
    trapezoid rule in log tau, which converges like exp(-n) for so smooth a density.
    """
    log_tau = np.linspace(-12.0, 8.0, 2001) - 2.0 * np.log(scale)
    tau, n, r = np.exp(log_tau), len(x), x - shift
    s2 = (2.0 * scale) ** 2
    # x given tau has covariance I / tau + s2 11^T: determinant and inverse by Sherman-Morrison.
    log_det = -n * log_tau + np.log1p(n * s2 * tau)
    square = tau * ((r**2).sum() - s2 * tau * r.sum() ** 2 / (1.0 + n * s2 * tau))
    likelihood = -0.5 * (n * np.log(2 * np.pi) + log_det + square)
    prior = stats.gamma.logpdf(tau, 1.0, scale=1.0 / (0.1 * scale**2)) + log_tau
    return special.logsumexp(likelihood + prior) + np.log(log_tau[1] - log_tau[0])


@pytest.fixture(scope="module")
def exact(rows):
    """Of K=1: log evidence, and the exact elpd by leave-one-out."""
    shift, scale = rows.mean(axis=0), rows.std(axis=0)
    evidence = elpd = 0.0
    for d in range(2):
        whole = log_evidence_of_feature(rows[:, d], shift[d], scale[d])
        without = [
            log_evidence_of_feature(np.delete(rows[:, d], n), shift[d], scale[d])
            for n in range(len(rows))
        ]
        evidence += whole
        elpd += len(rows) * whole - sum(without)
    return evidence, elpd


def noise_of_elpd(posterior, rows, effective):
    """Monte Carlo sd of `elpd_loo` from that many draws.

    elpd = -sum_n log mean_s r_n(s), r_n = 1 / p(x_n given theta_s), and so to first order in the
    noise the mean over draws of sum_n r_n(s) / E[r_n].
    """
    likelihood = likelihood_of(posterior.sample(5000, seed=77), rows)
    ratio = np.exp(likelihood.min(axis=0) - likelihood)
    return (ratio / ratio.mean(axis=0)).sum(axis=1).std() / np.sqrt(effective)


def likelihood_of(theta, rows):
    sds = theta["precisions"][:, np.newaxis] ** -0.5
    each = stats.norm.logpdf(rows[:, np.newaxis], theta["means"][:, np.newaxis], sds)
    return special.logsumexp(each.sum(axis=-1), b=theta["weights"][:, np.newaxis], axis=-1)


def effective_draws(posterior):
    """How many independent draws of the posterior the S resampled ones are worth, at least."""
    weights = importance_sampling.draw_weighted(
        posterior.inside, S, np.random.default_rng(9)
    ).weights
    return 1.0 / (1.0 / S + (weights**2).sum())


def test_exact_for_one_component(fits, rows, exact):
    evidence, elpd = exact
    posterior = fits["1 diag"]
    row = compare({"one": posterior}, rows, draws=S, seed=SEED).loc["one"]
    noise = noise_of_elpd(posterior, rows, effective_draws(posterior))
    assert abs(row["elpd_loo"] - elpd) < Z_ALARM * noise
    assert row["log_evidence"] < evidence + Z_ALARM * row["elbo_se"]
    # A mean-field surrogate of one component leaves little of it out: mean and precision are
    # nearly independent, correlations being of order 1 / N.
    assert row["log_evidence"] > evidence - 0.5


def test_a_poor_surrogate_is_corrected(fits, mean_field, rows, exact):
    """Means spread twice too widely: az.loo of such draws is wrong, here it is right."""
    _, elpd = exact
    fit = mean_field(1)
    values = {name: dict(parameters) for name, parameters in fit.inside.values.items()}
    values["means"]["scale"] = 2.0 * values["means"]["scale"]
    poor = replace(fit, inside=fit.inside._replace(values=values))
    assert not poor.calibrated
    row = compare({"poor": poor}, rows, draws=S, seed=SEED).loc["poor"]
    tolerance = Z_ALARM * noise_of_elpd(fits["1 diag"], rows, effective_draws(poor))
    assert abs(row["elpd_loo"] - elpd) < tolerance
    plain, *_ = az_loo(bgmm_jd.to_inference_data(poor, rows, draws=S, seed=SEED))
    assert abs(plain - elpd) > 2.0 * tolerance


def test_mean_field_agrees_with_calibrated(fits, mean_field, rows):
    surrogate, calibrated = mean_field(2), fits["2 diag"]
    table = compare({"surrogate": surrogate, "calibrated": calibrated}, rows, draws=S, seed=SEED)
    noise = [
        noise_of_elpd(calibrated, rows, effective_draws(posterior))
        for posterior in (surrogate, calibrated)
    ]
    apart = table.loc["surrogate", "elpd_loo"] - table.loc["calibrated", "elpd_loo"]
    assert abs(apart) < Z_ALARM * np.hypot(*noise)


def loo_of_rows(posterior, X, draws):
    """Of any rows, whatever the fit was of."""
    sampled = importance_sampling.draw_calibrated(posterior.inside._replace(weigh=True), draws, 0)
    kept = leave_one_out.limit_copies(sampled.log_q.numpy())
    likelihood = row_log_likelihood(posterior, sampled, X)[kept]
    return leave_one_out.loo_from_likelihood(likelihood, sampled.theta["weights"].numpy()[kept])


def test_whole_weights_are_repeated_rows(mean_field, rows):
    weight = np.random.default_rng(5).integers(0, 4, len(rows))
    kept, counts = rows[weight > 0], weight[weight > 0]
    posterior = on_other_rows(mean_field(2), rows, weight)
    row = compare({"weighted": posterior}, kept, draws=200).loc["weighted"]
    expected = loo_of_rows(posterior, np.repeat(kept, counts, axis=0), draws=200)
    assert row["elpd_loo"] == pytest.approx(expected.elpd, rel=1e-9)
    assert row["se"] == pytest.approx(expected.se, rel=1e-9)
    assert row["p_loo"] == pytest.approx(expected.p, rel=1e-6)


def test_other_weights_have_no_leave_one_out(mean_field, rows):
    posterior = on_other_rows(mean_field(2), rows, np.linspace(0.5, 1.5, len(rows)))
    row = compare({"weighted": posterior}, rows, draws=200).loc["weighted"]
    assert row[["elpd_loo", "se", "p_loo", "elpd_diff", "dse"]].isna().all()
    assert row["warning"]
    assert row["weight"] == 0.0
    assert row["log_evidence"] == pytest.approx(posterior.elbo + math.log(2.0))


def test_missing_entries_and_empty_rows(mean_field, rows):
    """Rows of which nothing is observed change nothing."""
    holes = rows.copy()
    holes[::7, 1] = np.nan
    holes[5] = np.nan
    posterior = on_other_rows(mean_field(2), holes, missing="marginalize")
    row = compare({"holes": posterior}, holes, draws=200).loc["holes"]
    expected = loo_of_rows(posterior, np.delete(holes, 5, axis=0), draws=200)
    assert row["elpd_loo"] == pytest.approx(expected.elpd, rel=1e-9)
    assert row["pareto_k_max"] == pytest.approx(expected.k_max, rel=1e-6)


# --- what arithmetic could spoil ------------------------------------------------------------


def made_loo(shift=0.0, scale=0.3, seed=0):
    likelihood = shift - scale * np.random.default_rng(seed).standard_normal((S, 50)) ** 2
    return leave_one_out.loo_from_likelihood(likelihood, np.ones((S, 1)))


@pytest.mark.contract
@pytest.mark.parametrize("shift", [-900.0, 900.0])
def test_densities_beyond_the_range_of_floats(shift):
    """exp(-900) is zero and exp(900) infinite, but the comparison is the same."""
    near = comparison._differences([made_loo(), made_loo(scale=0.4), made_loo(seed=1)])
    far = comparison._differences([made_loo(shift), made_loo(shift, 0.4), made_loo(shift, seed=1)])
    np.testing.assert_allclose(far, near, atol=1e-6)


@pytest.mark.contract
def test_a_row_that_stands_out_is_told_in_the_table_only(fits):
    """No warning is raised, or it would be an error here."""
    likelihood = np.random.default_rng(1).normal(size=(S, 10))
    likelihood[:, 3] = -(stats.cauchy.rvs(size=S, random_state=2) ** 2)
    loo = leave_one_out.loo_from_likelihood(likelihood, np.ones((S, 1)))
    assert loo.bad
    assert loo.k_max > 0.7
    table = comparison.comparison_table({"one": fits["1 diag"]}, {"one": loo})
    assert table.loc["one", "warning"]
    assert table.loc["one", "pareto_k_max"] == loo.k_max


def test_khat_is_a_warning_too(fits, rows):
    table = compare({"bad": replace(fits["1 diag"], khat=0.9), "good": fits["1 diag"]}, rows)
    assert table["warning"].to_dict() == {"bad": True, "good": False}


@pytest.mark.contract
def test_a_fit_that_went_nowhere_does_not_spoil_the_others(fits, mean_field, rows):
    broken = mean_field(1)
    values = {
        name: {key: np.full_like(v, np.nan) if name == "means" else v for key, v in site.items()}
        for name, site in broken.inside.values.items()
    }
    broken = replace(
        broken, elbo=-np.inf, inside=broken.inside._replace(values=values), status=Status.DIVERGED
    )
    alone = compare({"good": fits["2 diag"], "fair": fits["1 diag"]}, rows)
    table = compare({"bad": broken, "good": fits["2 diag"], "fair": fits["1 diag"]}, rows)
    assert list(table.index) == ["good", "fair", "bad"]
    assert table["rank"].tolist() == [0, 1, 2]
    pd.testing.assert_series_equal(table["weight"].iloc[:2], alone["weight"])
    assert math.isnan(table.loc["bad", "elpd_loo"])
    assert table.loc["bad", "warning"]
    assert table.loc["bad", "status"] == "DIVERGED"
    only = compare({"bad": broken}, rows)
    assert only["elpd_loo"].isna().all()


def test_crowds_of_one_draw_are_thinned():
    draws = np.random.default_rng(3).permutation(
        np.r_[np.zeros(400), np.ones(20), np.arange(2, 582)]
    )
    kept = leave_one_out.limit_copies(draws)
    values, copies = np.unique(draws[kept], return_counts=True)
    assert dict(zip(values, copies, strict=True)) == {0: 31, 1: 20} | dict.fromkeys(
        range(2, 582), 1
    )
    assert (np.diff(kept) > 0).all()
    assert len(leave_one_out.limit_copies(np.arange(50.0))) == 50


@pytest.mark.contract
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_draw_with_much_weight(fits, rows, share, monkeypatch):
    """With a fifth of the weight it is held back; with nearly all of it nothing can be told."""

    def crowded(inside, n, seed, source=importance_sampling.draw_calibrated):
        draws = source(inside, n, seed)
        chosen = np.maximum(np.arange(n) - int(share * n), 0)
        theta = {name: v.numpy()[chosen] for name, v in draws.theta.items()}
        return approximation.Draws({k: tf.constant(v) for k, v in theta.items()},
                              tf.constant(draws.log_q.numpy()[chosen]))  # fmt: skip

    expected = compare({"one": fits["1 diag"]}, rows).loc["one"]
    monkeypatch.setattr(importance_sampling, "calibrated", crowded)
    row = compare({"one": fits["1 diag"]}, rows).loc["one"]
    assert row["warning"]
    assert not expected["warning"]
    if share > 0.5:
        assert math.isnan(row["elpd_loo"])
    else:
        assert abs(row["elpd_loo"] - expected["elpd_loo"]) < expected["p_loo"]


def test_many_rows_take_fewer_draws(fits, rows, monkeypatch):
    taken = []

    def calibrated(inside, n, seed, source=importance_sampling.draw_calibrated):
        taken.append(n)
        return source(inside, n, seed)

    monkeypatch.setattr(importance_sampling, "calibrated", calibrated)
    monkeypatch.setattr(leave_one_out, "_NUMBERS", 300 * len(rows))
    one = {"one": fits["1 diag"]}
    compare(one, rows, draws=1000)
    compare(one, rows, draws=200)
    monkeypatch.setattr(leave_one_out, "_NUMBERS", 7 * len(rows))
    compare(one, rows, draws=1000)
    assert taken == [300, 200, 100]


def test_the_seed_decides(fits, rows):
    one = {"one": fits["1 diag"]}
    pd.testing.assert_frame_equal(compare(one, rows, seed=1), compare(one, rows, seed=1))
    first, other = (compare(one, rows, seed=seed)["elpd_loo"].item() for seed in (1, 2))
    assert first != other


# --- the door of compare --------------------------------------------------------------------


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    def calibrated(*arguments):
        raise AssertionError("bad input came as far as the draws")

    monkeypatch.setattr(importance_sampling, "calibrated", calibrated)


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"posteriors": None}, TypeError, "mapping of names to posteriors.*NoneType"),
        ({"posteriors": ["a"]}, TypeError, "mapping.*got list"),
        ({"posteriors": {}}, ValueError, "at least one"),
        ({"posteriors": {"a": 3}}, TypeError, r"posteriors\['a'\] must be a Posterior.*got int"),
        ({"X": np.zeros((120, 3))}, ValueError, "2 columns"),
        ({"X": np.zeros((7, 2))}, ValueError, r"'2 diag'\] was fitted to 120 rows; X has 7"),
        ({"X": np.zeros((120, 2))}, ValueError, "other rows than X"),
        ({"X": np.full((120, 2), np.nan)}, ValueError, "finite"),
        ({"draws": 99}, ValueError, "at least 100.*got 99"),
        ({"draws": 200.0}, TypeError, "draws must be an integer"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_input_to_compare(fits, rows, arguments, error, message):
    good = {"posteriors": {"2 diag": fits["2 diag"]}, "X": rows}
    with pytest.raises(error, match=message):
        compare(**good | arguments)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_rows_in_another_order(fits, rows):
    swapped = rows.copy()
    swapped[[3, 90]] = swapped[[90, 3]]
    with pytest.raises(ValueError, match=r"other rows than X \(row (3|90) is"):
        compare(fits, swapped)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_fits_with_other_weights(fits, rows):
    weighted = on_other_rows(fits["2 diag"], rows, np.full(len(rows), 2.0))
    with pytest.raises(ValueError, match=r"'a'.*'b'.*different weights"):
        compare({"a": fits["2 diag"], "b": weighted}, rows)


# --- the sweep ------------------------------------------------------------------------------


class Fits:
    """In place of `fit`: gives the posteriors that there are, and keeps how it was called."""

    def __init__(self, posteriors, status=None, interrupt_at=None):
        self.posteriors = posteriors
        self.status = status or {}
        self.interrupt_at = interrupt_at
        self.calls = []

    def __call__(self, X, K, *, covariance, prior, seed, progress, **options):
        self.calls.append((K, covariance, prior, seed, progress, options))
        status = self.status.get(K, Status.CONVERGED)
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        if not status.good:
            warnings.warn(str(status), RuntimeWarning, stacklevel=2)
        return replace(self.posteriors[K, "diag"], status=status)


@pytest.fixture
def fake_fit(selection, monkeypatch):
    def make(**how):
        fits = Fits(selection.posteriors, **how)
        monkeypatch.setattr(selection_module, "fit", fits)
        return fits

    return make


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": [1.0, 2.0]}, ValueError, "two-dimensional"),
        ({"K": []}, ValueError, "at least one number"),
        ({"K": 0}, ValueError, "K must be at least 1"),
        ({"K": (2, 2.5)}, TypeError, "K must be an integer"),
        ({"K": "23"}, TypeError, "K must be an integer"),
        ({"K": (1, 121)}, ValueError, "at least K=121 rows; got 120"),
        (
            {"K": 100, "sample_weight": [0.0] * 60 + [1.0] * 60},
            ValueError,
            "K=100 rows of positive weight; got 60",
        ),
        ({"covariance": ()}, ValueError, "at least one form"),
        ({"covariance": ("diag", "round")}, ValueError, "covariance must be one of.*'round'"),
        ({"covariance": "round"}, ValueError, "covariance must be one of.*'round'"),
        ({"prior": bgmm_jd.mixture_prior(2, 2)}, TypeError, "function of K, D and covariance"),
        ({"prior": lambda K, D, covariance: None}, TypeError, "JointDistributionCoroutine"),
        ({"prior": lambda K, D, covariance: bgmm_jd.mixture_prior(2, D)}, ValueError, r"shape \[1\]"),
        ({"init": [[1.0, 1.0]]}, ValueError, "init.*one K only"),
        ({"draws": 10}, ValueError, "at least 100"),
        ({"seed": "a"}, TypeError, "seed must be an integer"),
    ],
)
def test_bad_input_to_select(rows, fake_fit, arguments, error, message):
    fits = fake_fit()
    with pytest.raises(error, match=message):
        select(**{"X": rows, "K": (1, 2)} | arguments)
    assert not fits.calls


def test_what_fit_refuses_is_refused_at_once(rows):
    with pytest.raises(ValueError, match="batch_size"):
        select(rows, K=(1, 2), batch_size=10_000)
    with pytest.raises(TypeError, match="unexpected keyword argument 'restart'"):
        select(rows, K=(1, 2), restart=3)


def test_every_combination_once_and_in_order(rows, fake_fit, selection):
    fits = fake_fit()
    found = select(rows, K=iter([2, 1, 2]), covariance="diag", seed=5, max_steps=9, batch_size=60)
    assert [call[:2] for call in fits.calls] == [(2, "diag"), (1, "diag")]
    assert list(found.posteriors) == [(2, "diag"), (1, "diag")]
    for *_, prior, seed, progress, options in fits.calls:
        assert (prior, seed, progress) == (None, 5, False)
        assert options == {"max_steps": 9, "batch_size": 60}
    assert found.best is found.posteriors[2, "diag"]
    with pytest.raises(TypeError):
        found.posteriors[3, "diag"] = selection.best


def test_each_fit_has_a_prior_of_its_own(rows, fake_fit):
    fits = fake_fit()
    select(rows, K=(1, 2), prior=bgmm_jd.mixture_prior)
    assert [prior for _, _, prior, *_ in fits.calls] == [
        bgmm_jd.mixture_prior(K, 2, covariance="diag") for K in (1, 2)
    ]
    assert isinstance(fits.calls[0][2], tfd.JointDistributionCoroutine)


def test_rows_of_weight_zero_are_not_left_out(rows, fits, monkeypatch):
    weight = np.r_[np.zeros(10), np.ones(110)]
    posterior = on_other_rows(fits["2 diag"], rows, weight)
    monkeypatch.setattr(selection_module, "fit", lambda *arguments, **options: posterior)
    found = select(rows, K=2, draws=200, sample_weight=weight)
    expected = compare({"2 diag": posterior}, rows[10:], draws=200)
    pd.testing.assert_frame_equal(found.table, expected)


def test_the_status_of_the_best_is_a_warning(rows, fake_fit):
    status = {1: Status.STEP_LIMIT, 2: Status.SEVERAL_MODES}
    fake_fit(status=status)
    with pytest.warns(RuntimeWarning) as caught:
        found = select(rows, K=(1, 2, 3))
    assert [str(w.message) for w in caught] == [f"Of the best fit, 2 diag: {status[2]}"]
    assert caught[0].filename == __file__
    told = {"1 diag": "STEP_LIMIT", "2 diag": "SEVERAL_MODES", "3 diag": "CONVERGED"}
    assert found.table["status"].to_dict() == told


def test_the_status_of_the_others_is_not(rows, fake_fit):
    """A warning would be an error here."""
    fake_fit(status={1: Status.STEP_LIMIT, 3: Status.KHAT_TOO_HIGH})
    select(rows, K=(1, 2, 3))


def test_other_warnings_of_a_fit_pass(rows, fake_fit, monkeypatch):
    fits = fake_fit()

    def warning_fit(*arguments, **options):
        warnings.warn("something else", RuntimeWarning, stacklevel=2)
        return fits(*arguments, **options)

    monkeypatch.setattr(selection_module, "fit", warning_fit)
    with pytest.warns(RuntimeWarning, match="something else"):
        select(rows, K=1)


@pytest.mark.parametrize("how", [{"interrupt_at": 3}, {"status": {3: Status.INTERRUPTED}}])
def test_an_interrupt_keeps_what_is_complete(rows, fake_fit, how):
    fake_fit(**how)
    with pytest.warns(RuntimeWarning, match="interrupted: the best is that of 2 fits out of 3"):
        found = select(rows, K=(1, 2, 3))
    assert list(found.posteriors) == [(1, "diag"), (2, "diag")]
    assert found.best is found.posteriors[2, "diag"]
    assert len(found.table) == 2


@pytest.mark.parametrize("how", [{"interrupt_at": 1}, {"status": {1: Status.INTERRUPTED}}])
def test_an_interrupt_of_the_first_fit_leaves_nothing(rows, fake_fit, how):
    fake_fit(**how)
    with pytest.raises(KeyboardInterrupt):
        select(rows, K=(1, 2, 3))


def test_progress_names_each_fit(rows, fake_fit, capsys):
    fake_fit()
    select(rows, K=(1, 2), progress=True)
    shown = capsys.readouterr().err
    assert "fit 1 of 2: K=1, diag" in shown
    assert re.search(r"fit 2 of 2: K=2, diag; highest elbo so far -[\d,.]+, of 1 diag", shown)
    assert shown.endswith("\r")
    select(rows, K=1, progress=False)
    assert not capsys.readouterr().err


def test_the_keywords_of_both():
    assert list(inspect.signature(compare).parameters) == ["posteriors", "X", "draws", "seed"]
    kinds = inspect.signature(select).parameters
    assert kinds["K"].default == range(1, 9)
    assert kinds["covariance"].default == ("diag",)
    assert all(
        kinds[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("progress", "seed", "prior")
    )
