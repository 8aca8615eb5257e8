"""The sweep of `select` over K and covariance: the table, the arguments, and Ctrl-C."""

import inspect
import pickle
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import with_data
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd import Status, StatusWarning
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting import selection as selection_module
from bgmm_jd.fitting.progress import Progress
from bgmm_jd.fitting.selection import select
from bgmm_jd.reporting.comparison import compare
from bgmm_jd.settings import Settings, SourceSettings

S, SEED = 1000, 3
COLUMNS = [
    *("K", "covariance", "log_evidence", "log_evidence_se", "elbo", "elbo_se", "elbo_diff"),
    *("elpd_loo", "se", "p_loo", "elpd_diff", "dse", "rank", "weight"),
    *("khat", "pareto_k_max", "warning", "status"),
]
CENTRES = np.array([[150.0, -0.02], [210.0, 0.01]])
SDS = np.array([[10.0, 0.004], [5.0, 0.009]])


@pytest.fixture(scope="module")
def rows():
    """Two clusters in columns far from zero and of very different scale: float64 [120, 2]."""
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], [50, 70])
    return CENTRES[label] + SDS[label] * rng.standard_normal((120, 2))


@pytest.fixture(scope="module")
def selection(rows):
    with warnings.catch_warnings():  # the status of the best fit does not matter here
        warnings.simplefilter("ignore", RuntimeWarning)
        return select(
            rows,
            K=(1, 2, 3),
            draws=S,
            seed=SEED,
            execution="graph",  # compiles in a fraction of XLA's time
            restarts=1,
            progress=False,
        )


def test_memmap_with_more_numbers_than_are_kept_of_a_source_is_fitted_as_an_array(rows, tmp_path):
    """With a batch size, which a source does not allow; the first report ends the fit."""

    class Begun(Exception):
        pass

    def report(progress):
        raise Begun

    np.save(tmp_path / "x.npy", rows)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = Settings(sources=SourceSettings(numbers_in_memory=1))
    with pytest.raises(Begun):
        select(mapped, K=1, batch_size=60, callback=report, progress=False, settings=settings)


@pytest.mark.contract
def test_two_clusters_are_found_and_the_table_is_consistent(selection, rows):
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
    assert f"best of 3 fits is {selection.table.index[0]}" in repr(selection)
    for text in (repr(selection), selection._repr_html_()):
        assert all(name in text for name in selection.table.index)
    again = compare({"a": selection.best}, rows, draws=S, seed=SEED).loc["a"]
    first = table.loc["2 diag"]
    relative = ["weight", "elbo_diff", "elpd_diff", "dse", "rank"]
    pd.testing.assert_series_equal(
        again.drop(relative), first.drop(relative), check_names=False, rtol=0.0, atol=0.0
    )


class KnownFits:
    """A stand-in for `fit` that returns known posteriors and records its calls."""

    def __init__(self, posteriors, status=None, interrupt_at=None):
        self.posteriors = posteriors
        self.status = status or {}
        self.interrupt_at = interrupt_at
        self.calls = []

    def __call__(self, X, K, *, covariance, prior, seed, progress, callback, **options):
        callback(Progress(phase="calibration", K=K, covariance=covariance))
        self.calls.append((K, covariance, prior, seed, progress, options))
        status = self.status.get(K, Status.CONVERGED)
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        if not status.good:
            warnings.warn(str(status), StatusWarning, stacklevel=2)
        return replace(self.posteriors[K, "diag"], status=status)


@pytest.fixture
def fake_fit(selection, monkeypatch):
    def make(**how):
        fits = KnownFits(selection.posteriors, **how)
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
        (
            {"prior": lambda K, D, covariance: bgmm_jd.mixture_prior(2, D)},
            ValueError,
            r"shape \[1\]",
        ),
        ({"init": [[1.0, 1.0]]}, ValueError, "init.*one K only"),
        ({"callback": 1}, TypeError, "callback must be a function"),
        ({"draws": 10}, ValueError, "at least 100"),
        ({"seed": "a"}, TypeError, "seed must be an integer"),
        ({"checkpoint": "fit.npz"}, ValueError, "checkpoint is of one fit; use cache="),
        ({"cache": 3}, TypeError, "cache must be a str"),
        ({"cache": __file__}, NotADirectoryError, "cache must be a folder"),
        (
            {"cache": ".", "batch_size": object()},
            TypeError,
            "batch_size cannot be recognised in a later call.*object",
        ),
    ],
)
def test_bad_arguments_of_select_are_refused_before_the_first_fit(
    rows, fake_fit, arguments, error, message
):
    fits = fake_fit()
    with pytest.raises(error, match=message):
        select(**{"X": rows, "K": (1, 2)} | arguments)
    assert not fits.calls


def test_selection_is_pickled_with_its_posteriors(selection):
    found = pickle.loads(pickle.dumps(selection))
    assert found.table.equals(selection.table)
    assert list(found.posteriors) == list(selection.posteriors)
    assert any(found.best is posterior for posterior in found.posteriors.values())
    with pytest.raises(TypeError, match="does not support item assignment"):
        found.posteriors[1, "diag"] = found.best
    for key, posterior in selection.posteriors.items():
        draws, again = posterior.sample(20), found.posteriors[key].sample(20)
        for name, values in draws.items():
            np.testing.assert_array_equal(values, again[name])


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [((1, 2, 3), None), ((1, 2), "try more"), ((2, 3), "try fewer"), ((2,), None)],
)
def test_text_says_whether_the_best_is_at_an_end_of_the_sweep(selection, numbers, advice):
    """The best of the three has two components."""
    posteriors = {key: p for key, p in selection.posteriors.items() if key[0] in numbers}
    text = repr(replace(selection, posteriors=posteriors))
    assert "the best of" in text
    for words in ("try more", "try fewer"):
        assert (words in text) == (words == advice)


def test_posterior_to_start_from_is_refused_for_several_forms(rows, selection, fake_fit):
    fits = fake_fit()
    with pytest.raises(ValueError, match="init is a posterior of one form of covariance only"):
        select(rows, K=2, covariance=("diag", "full"), init=selection.best)
    assert not fits.calls


def test_arguments_that_fit_rejects_are_errors_of_the_first_fit(rows):
    with pytest.raises(ValueError, match="batch_size"):
        select(rows, K=(1, 2), batch_size=10_000)
    with pytest.raises(TypeError, match="unexpected keyword argument 'restart'"):
        select(rows, K=(1, 2), restart=3)


def test_every_combination_is_fitted_once_and_in_order(rows, fake_fit, selection):
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


def test_rows_of_weight_zero_do_not_count_in_leave_one_out(rows, selection, monkeypatch):
    weight = np.r_[np.zeros(10), np.ones(110)]
    posterior = with_data(selection.best, standardize(rows, weight))
    monkeypatch.setattr(selection_module, "fit", lambda *arguments, **options: posterior)
    found = select(rows, K=2, draws=200, sample_weight=weight)
    expected = compare({"2 diag": posterior}, rows[10:], draws=200)
    pd.testing.assert_frame_equal(found.table, expected)


def test_a_bad_status_of_the_best_fit_is_a_warning(rows, fake_fit):
    status = {1: Status.STEP_LIMIT, 2: Status.ONE_OF_SEVERAL_MODES}
    fake_fit(status=status)
    with pytest.warns(RuntimeWarning) as caught:
        found = select(rows, K=(1, 2, 3))
    assert [str(w.message) for w in caught] == [f"Best fit (2 diag): {status[2]}"]
    assert caught[0].filename == __file__
    expected = {"1 diag": "STEP_LIMIT", "2 diag": "ONE_OF_SEVERAL_MODES", "3 diag": "CONVERGED"}
    assert found.table["status"].to_dict() == expected


def test_a_bad_status_of_another_fit_is_no_warning(rows, fake_fit):
    """A warning would be an error here."""
    fake_fit(status={1: Status.STEP_LIMIT, 3: Status.KHAT_TOO_HIGH})
    select(rows, K=(1, 2, 3))


def test_other_warnings_of_a_fit_are_not_suppressed(rows, fake_fit, monkeypatch):
    fits = fake_fit()

    def warning_fit(*arguments, **options):
        warnings.warn("something else", RuntimeWarning, stacklevel=2)
        return fits(*arguments, **options)

    monkeypatch.setattr(selection_module, "fit", warning_fit)
    with pytest.warns(RuntimeWarning, match="something else"):
        select(rows, K=1)


@pytest.mark.parametrize("how", [{"interrupt_at": 3}, {"status": {3: Status.INTERRUPTED}}])
def test_an_interrupt_keeps_the_complete_fits(rows, fake_fit, how):
    fake_fit(**how)
    with pytest.warns(RuntimeWarning, match="interrupted: the best is that of 2 fits out of 3"):
        found = select(rows, K=(1, 2, 3))
    assert list(found.posteriors) == [(1, "diag"), (2, "diag")]
    assert found.best is found.posteriors[2, "diag"]
    assert len(found.table) == 2


@pytest.mark.parametrize("how", [{"interrupt_at": 1}, {"status": {1: Status.INTERRUPTED}}])
def test_an_interrupt_of_the_first_fit_is_raised(rows, fake_fit, how):
    fake_fit(**how)
    with pytest.raises(KeyboardInterrupt):
        select(rows, K=(1, 2, 3))


def test_progress_names_each_fit_and_its_phase(rows, fake_fit, capsys):
    """And from the second fit on, how long the rest may take."""
    fake_fit()
    select(rows, K=(1, 2), progress=True)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "fit 1 of 2: K=1, diag; calibrating ..."
    assert re.fullmatch(r"fit 2 of 2: K=2, diag, about \d+ s left; calibrating \.\.\.", second)
    select(rows, K=1, progress=False)
    assert not capsys.readouterr().err


def test_callback_receives_the_progress_of_each_fit(rows, fake_fit):
    fake_fit()
    found = []
    select(rows, K=(1, 2), callback=found.append)
    assert [(progress.K, progress.covariance) for progress in found] == [(1, "diag"), (2, "diag")]


def test_interrupt_in_a_callback_keeps_the_complete_fits(rows, fake_fit):
    def interrupting(progress):
        if progress.K == 2:
            raise KeyboardInterrupt

    fake_fit()
    with pytest.warns(RuntimeWarning, match="interrupted: the best is that of 1 fits out of 2"):
        found = select(rows, K=(1, 2), callback=interrupting)
    assert list(found.posteriors) == [(1, "diag")]


def test_select_has_its_defaults_and_keyword_only_options():
    parameters = inspect.signature(select).parameters
    assert parameters["K"].default == range(1, 9)
    assert parameters["covariance"].default == ("diag",)
    assert all(
        parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        for name in ("progress", "seed", "prior")
    )
