"""Complete fits are kept in a folder: a sweep that is repeated makes only those that it lacks."""

import os
import warnings

import numpy as np
import pandas as pd
import pytest
from builders import two_groups_of_unlike_scale
from equal_values import assert_same

import bgmm_jd
from bgmm_jd.fitting import selection as selection_module

OPTIONS = {
    "draws": 100,
    "execution": "graph",
    "finish": "none",
    "calibrate": False,
    "restarts": 1,
    "progress": False,
}


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(two_groups_of_unlike_scale(90), columns=["length", "width"])


def select(X, K=(1, 2), **options):
    with warnings.catch_warnings():  # the status of the best fit does not matter here
        warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
        return bgmm_jd.select(X, K, **OPTIONS | options)


@pytest.fixture(scope="module")
def cached(frame, tmp_path_factory):
    """Return a sweep, and the folder in which its fits are kept."""
    folder = tmp_path_factory.mktemp("sweep") / "cache"
    return select(frame, cache=folder), folder


@pytest.fixture
def fits(monkeypatch):
    """Return a list of the K of each fit that is made from now on."""
    made, fit = [], selection_module.fit

    def counted(X, K, **options):
        made.append(K)
        return fit(X, K, **options)

    monkeypatch.setattr(selection_module, "fit", counted)
    return made


def test_repeated_sweep_reads_all_fits_and_has_the_same_result(frame, cached, fits):
    expected, folder = cached
    assert [name[:8] for name in sorted(os.listdir(folder))] == ["K1-diag-", "K2-diag-"]
    found = select(frame, cache=folder)
    assert fits == []
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    for key, posterior in expected.posteriors.items():
        assert_same(found.posteriors[key], posterior)
    assert found.best is found.posteriors[expected.best.K, "diag"]


def test_sweep_with_a_cache_has_the_result_of_one_without(frame, cached):
    pd.testing.assert_frame_equal(select(frame).table, cached[0].table, check_exact=True)


def test_sweep_makes_the_fits_that_are_not_in_the_folder(frame, cached, fits, tmp_path):
    _, folder = cached
    (of_two,) = folder.glob("K2-*")
    (tmp_path / of_two.name).write_bytes(of_two.read_bytes())
    found = select(frame, K=(2, 1), cache=tmp_path)
    assert fits == [1]
    assert list(found.posteriors) == [(2, "diag"), (1, "diag")]
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(folder))


def prior(K, D, covariance):
    return bgmm_jd.mixture_prior(K, D, covariance=covariance, mean_scale=100.0, dtype="float64")


@pytest.mark.parametrize(
    "change",
    [
        {"X": two_groups_of_unlike_scale(90)},  # without names
        {"X": pd.DataFrame(two_groups_of_unlike_scale(90) + 1.0, columns=["length", "width"])},
        {"seed": 1},
        {"sample_weight": 1.0 + np.arange(90) % 2},
        {"max_steps": 5_000},
        {"covariance": "spherical"},
        {"prior": prior},
        {"init": np.zeros((2, 2))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fit_of_other_arguments_is_another_file(frame, cached, monkeypatch, change):
    class Made(Exception):
        pass

    def fit(*_, **__):
        raise Made

    monkeypatch.setattr(selection_module, "fit", fit)
    with pytest.raises(Made):
        select(**{"X": frame, "K": 2, "cache": cached[1]} | change)


def test_interrupted_fit_is_not_kept(frame, tmp_path):
    def interrupt(progress):
        if progress.K == 2:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted"):
        select(frame, cache=tmp_path, callback=interrupt)
    assert [name[:2] for name in os.listdir(tmp_path)] == ["K1"]


def test_damaged_file_is_an_error_that_names_it(frame, cached, tmp_path):
    for name in os.listdir(cached[1]):
        (tmp_path / name).write_bytes((cached[1] / name).read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"K1-diag-.*\.nc cannot be loaded.*Delete the file"):
        select(frame, cache=tmp_path)
