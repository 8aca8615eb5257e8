"""The warning of columns that have few distinct values."""

import warnings

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.data.ties import FewValuesWarning, columns_of_few_values, warn_of_ties


def answers(N=300, values=5):
    """Return a normal column and one of answers on a scale: [N, 2]."""
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(size=N), np.arange(N) % values], axis=1)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (answers(), {1: 5}),
        (answers(values=11), {1: 11}),
        (answers(values=13), {}),
        (answers(49), {}),  # fewer than ten rows for each value
        (answers(values=1), {}),  # a constant column has no clusters
        (np.round(answers(), 1)[:, :1], {}),
        (np.where(np.arange(300)[:, np.newaxis] % 3 == 0, np.nan, answers()), {1: 5}),
        (np.sort(answers(30_000), axis=0), {1: 5}),
        (np.repeat(np.arange(3_000.0), 10)[:, np.newaxis], {}),
    ],
)
def test_columns_of_2_to_12_values_and_10_rows_each_are_found(X, expected):
    assert columns_of_few_values(X) == expected


def test_waiting_times_in_minutes_are_not_warned_of():
    """As of Old Faithful: 272 rows of two groups, some fifty distinct whole numbers."""
    rng = np.random.default_rng(1)
    X = np.round(np.where(rng.random(272) < 0.36, rng.normal(54, 6, 272), rng.normal(80, 6, 272)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_ties(X[:, np.newaxis], stacklevel=1)


def test_fit_warns_of_ties_once_and_not_for_a_single_component():
    X = answers(60)
    options = {"progress": False, "execution": "graph", "restarts": 1, "calibrate": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bgmm_jd.fit(X, 1, **options)
        assert [w for w in caught if w.category is FewValuesWarning] == []
        bgmm_jd.fit(X, 2, **options)
    (found,) = [w for w in caught if w.category is FewValuesWarning]
    assert "column 1 has only 5 distinct values in 60 rows" in str(found.message)
    assert found.filename == __file__


def test_warning_has_the_name_of_the_column():
    with pytest.warns(FewValuesWarning, match="X's column 'answer' has only 5"):
        warn_of_ties(answers(60), ("size", "answer"), stacklevel=1)


def test_select_warns_of_ties_once():
    options = {"progress": False, "execution": "graph", "restarts": 1, "calibrate": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bgmm_jd.select(answers(60), K=(1, 2), draws=100, **options)
    (found,) = [w for w in caught if w.category is FewValuesWarning]
    assert found.filename == __file__
