"""The table of `compare` against ArviZ called by hand, and its arguments."""

import inspect
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import with_data, with_problem
from scipy import stats

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.data.standardize import standardize
from bgmm_jd.reporting import leave_one_out
from bgmm_jd.reporting.comparison import compare, comparison_table
from bgmm_jd.reporting.leave_one_out import UNKNOWN_LOO, loo_from_likelihood
from bgmm_jd.variational.structure import model_of

S, SEED = 1000, 3


@pytest.fixture(scope="module")
def fits(calibrated):
    return {name: calibrated(K) for K, name in enumerate(("one", "two", "three"), start=1)}


def az_loo(idata):
    """Return elpd, p and pointwise values of `az.loo`, and its result itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")
        found = import_arviz().loo(idata, pointwise=True)
    if arviz_major_version() < 1:
        return found.elpd_loo, found.p_loo, found.loo_i.to_numpy(), found
    return found.elpd, found.p, found.elpd_i.to_numpy(), found


# --- The table ----------------------------------------------------------------------------------


@pytest.mark.contract
def test_table_agrees_with_arviz_by_hand(fits, clustered_rows):
    """Leave-one-out of the same draws by `to_inference_data`, and `az.compare` of the results.

    Only fits with reliable draws: in the others no draw may have all the weight.
    """
    good = {name: posterior for name, posterior in fits.items() if posterior.khat < 0.5}
    assert {"one", "two"} <= set(good)
    table = compare(good, clustered_rows, draws=S, seed=SEED)
    loos = {
        name: az_loo(bgmm_jd.to_inference_data(posterior, clustered_rows, draws=S, seed=SEED))
        for name, posterior in good.items()
    }
    best = loos[table["elpd_loo"].idxmax()][2]
    for name, (elpd, p, pointwise, found) in loos.items():
        dse = np.sqrt(len(clustered_rows) * np.var(pointwise - best))
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


def test_evidence_is_that_of_the_fit_or_else_its_bound(fits):
    unknown = {
        f"{name}, unknown": replace(posterior, log_evidence=math.nan, log_evidence_se=math.nan)
        for name, posterior in fits.items()
    }
    table = comparison_table(fits | unknown, dict.fromkeys(fits | unknown, UNKNOWN_LOO))
    for name, posterior in fits.items():
        assert table.loc[name, "log_evidence"] == posterior.log_evidence
        assert table.loc[name, "log_evidence_se"] == posterior.log_evidence_se
        assert table.loc[f"{name}, unknown", "log_evidence"] == posterior.evidence_bound
    assert (np.diff(table["log_evidence"]) <= 0.0).all()


def test_bound_has_no_factor_for_labellings_that_the_prior_distinguishes(calibrated):
    prior = bgmm_jd.mixture_prior(3, 2, mean_loc=[[0.0], [1.0], [2.0]], dtype="float64")
    alike = calibrated(3)
    distinct = with_problem(alike, replace(alike.problem, model=model_of(prior, "diag")))
    assert distinct.evidence_bound == distinct.elbo
    assert alike.elbo < alike.evidence_bound < alike.elbo + math.log(6.0) + 1e-9


@pytest.mark.contract
def test_a_single_fit_has_differences_of_zero(calibrated, clustered_rows):
    table = compare({("any", "name"): calibrated(2)}, clustered_rows)
    assert list(table.index) == [("any", "name")]
    row = table.iloc[0]
    assert row[["elbo_diff", "elpd_diff", "dse", "rank"]].tolist() == [0.0] * 4
    assert row["weight"] == pytest.approx(1.0)
    assert row["status"] == calibrated(2).status.name


def test_lists_and_other_dtypes_are_the_same_rows(fits, clustered_rows):
    expected = compare(fits, clustered_rows, draws=200)
    pd.testing.assert_frame_equal(compare(fits, clustered_rows.tolist(), draws=200), expected)
    near = compare(fits, clustered_rows.astype(np.float32), draws=200)
    np.testing.assert_allclose(near["elpd_loo"], expected["elpd_loo"], rtol=1e-4)


def test_leave_one_out_columns_are_nan_for_weights_that_are_not_whole(uncalibrated, clustered_rows):
    data = standardize(clustered_rows, np.linspace(0.5, 1.5, len(clustered_rows)))
    posterior = with_data(uncalibrated(2), data)
    row = compare({"weighted": posterior}, clustered_rows, draws=200).loc["weighted"]
    assert row[["elpd_loo", "se", "p_loo", "elpd_diff", "dse"]].isna().all()
    assert row["warning"]
    assert row["weight"] == 0.0
    assert row["log_evidence"] == posterior.evidence_bound


def test_equal_seeds_give_equal_tables(calibrated, clustered_rows):
    one = {"one": calibrated(1)}
    first, again = (compare(one, clustered_rows, seed=1) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = compare(one, clustered_rows, seed=2)
    assert first["elpd_loo"].item() != other["elpd_loo"].item()


# --- Fits that could spoil the table ------------------------------------------------------------


def made_loo(shift=0.0, scale=0.3, seed=0):
    likelihood = shift - scale * np.random.default_rng(seed).standard_normal((S, 50)) ** 2
    return loo_from_likelihood(likelihood, np.ones((S, 1)))


@pytest.mark.contract
@pytest.mark.parametrize("shift", [-900.0, 900.0])
def test_densities_beyond_the_range_of_floats_are_compared(fits, shift):
    """exp(-900) is zero and exp(900) infinite, but the comparison is the same."""
    tables = []
    for level in (0.0, shift):
        loos = [made_loo(level), made_loo(level, 0.4), made_loo(level, seed=1)]
        tables.append(comparison_table(fits, dict(zip(fits, loos, strict=True))))
    columns = ["elpd_diff", "dse", "rank", "weight"]
    near, far = (table[columns] for table in tables)
    np.testing.assert_allclose(far, near, atol=1e-6)


@pytest.mark.contract
def test_a_row_with_a_large_pareto_k_is_reported_in_the_table_only(calibrated):
    """A warning would be an error here."""
    likelihood = np.random.default_rng(1).normal(size=(S, 10))
    likelihood[:, 3] = -(stats.cauchy.rvs(size=S, random_state=2) ** 2)
    loo = loo_from_likelihood(likelihood, np.ones((S, 1)))
    assert loo.warning
    assert loo.k_max > 0.7
    table = comparison_table({"one": calibrated(1)}, {"one": loo})
    assert table.loc["one", "warning"]
    assert table.loc["one", "pareto_k_max"] == loo.k_max


def test_a_large_khat_is_a_warning(calibrated, clustered_rows):
    fits = {"bad": replace(calibrated(1), khat=0.9), "good": calibrated(1)}
    table = compare(fits, clustered_rows)
    assert table["warning"].to_dict() == {"bad": True, "good": False}


@pytest.mark.contract
def test_a_diverged_fit_does_not_affect_the_others(calibrated, uncalibrated, clustered_rows):
    broken = uncalibrated(1)
    params = {
        name: {key: np.full_like(v, np.nan) if name == "means" else v for key, v in site.items()}
        for name, site in broken.approximation.params.items()
    }
    approximation = replace(broken.approximation, params=params)
    broken = replace(broken, elbo=-np.inf, approximation=approximation, status=Status.DIVERGED)
    good = {"good": calibrated(2), "fair": calibrated(1)}
    alone = compare(good, clustered_rows)
    table = compare({"bad": broken} | good, clustered_rows)
    assert list(table.index) == ["good", "fair", "bad"]
    assert table["rank"].tolist() == [0, 1, 2]
    pd.testing.assert_series_equal(table["weight"].iloc[:2], alone["weight"])
    assert math.isnan(table.loc["bad", "elpd_loo"])
    assert table.loc["bad", "warning"]
    assert table.loc["bad", "status"] == "DIVERGED"
    only = compare({"bad": broken}, clustered_rows)
    assert only["elpd_loo"].isna().all()


# --- Arguments ----------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    def draw_standardized(*arguments, **options):
        raise AssertionError("bad input was not found before the draws")

    monkeypatch.setattr(leave_one_out, "draw_standardized", draw_standardized)


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"posteriors": None}, TypeError, "mapping of names to posteriors.*NoneType"),
        ({"posteriors": ["a"]}, TypeError, "mapping.*got list"),
        ({"posteriors": {}}, ValueError, "at least one"),
        ({"posteriors": {"a": 3}}, TypeError, r"posteriors\['a'\] must be a Posterior.*got int"),
        ({"X": np.zeros((120, 3))}, ValueError, "2 columns"),
        ({"X": np.zeros((7, 2))}, ValueError, r"'two'\] was fitted to 120 rows; X has 7"),
        ({"X": np.zeros((120, 2))}, ValueError, "other rows than X"),
        ({"X": np.full((120, 2), np.nan)}, ValueError, "finite"),
        ({"draws": 99}, ValueError, "at least 100.*got 99"),
        ({"draws": 200.0}, TypeError, "draws must be an integer"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments_of_compare_are_refused(
    calibrated, clustered_rows, arguments, error, message
):
    good = {"posteriors": {"two": calibrated(2)}, "X": clustered_rows}
    with pytest.raises(error, match=message):
        compare(**good | arguments)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_rows_in_another_order_are_an_error(fits, clustered_rows):
    swapped = clustered_rows.copy()
    swapped[[3, 90]] = swapped[[90, 3]]
    with pytest.raises(ValueError, match=r"other rows than X \(row (3|90) differs most"):
        compare(fits, swapped)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_fits_with_different_weights_are_an_error(calibrated, clustered_rows):
    weighted = with_data(calibrated(2), standardize(clustered_rows, np.full(120, 2.0)))
    with pytest.raises(ValueError, match=r"'a'.*'b'.*different weights"):
        compare({"a": calibrated(2), "b": weighted}, clustered_rows)


def test_options_of_compare_are_keyword_only():
    parameters = inspect.signature(compare).parameters
    positional, options = ["posteriors", "X"], ["draws", "seed", "rows"]
    assert list(parameters) == [*positional, *options]
    assert {parameters[name].kind for name in options} == {inspect.Parameter.KEYWORD_ONLY}
