"""Predictions for the rows of a source, against those for the same rows in memory."""

from collections.abc import Iterator

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.sources.weighted import WeightedRows

FUNCTIONS = [bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density]


@pytest.fixture(scope="module")
def X():
    """Return more rows than two blocks have: [150000, 2], in float64."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(150_000, 2)) + rng.choice([-4.0, 4.0], (150_000, 1)) * [1.0, 0.0]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_blocks_of_a_source_are_the_predictions_of_its_rows(two_clusters_posterior, X, function):
    """To rounding: blocks of other sizes are summed in another order."""
    source = bgmm_jd.batches(lambda: np.split(X, [1, 70_000, 70_000]))
    found = function(two_clusters_posterior, source, draws=3)
    assert isinstance(found, Iterator)
    blocks = list(found)
    assert [len(block) for block in blocks] == [2**16, 2**16, 150_000 - 2 * 2**16]
    expected = function(two_clusters_posterior, X, draws=3)
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=1e-9, atol=1e-12)


def test_imputations_of_a_source_keep_what_is_observed(two_clusters_posterior, two_clusters):
    X = two_clusters.copy()
    X[::3, 1] = np.nan
    source = bgmm_jd.batches(lambda: [X[:7], X[7:]])
    found = np.concatenate(list(bgmm_jd.impute(two_clusters_posterior, source, draws=4)), axis=1)
    np.testing.assert_array_equal(found, bgmm_jd.impute(two_clusters_posterior, X, draws=4))
    assert np.isfinite(found).all()


def test_source_of_other_columns_is_an_error_at_once(two_clusters_posterior):
    source = bgmm_jd.batches(lambda: [np.zeros((3, 5))])
    for function in (*FUNCTIONS, bgmm_jd.impute):
        with pytest.raises(ValueError, match="X must have 2 columns, in the order of the fit"):
            function(two_clusters_posterior, source)


def test_bad_row_of_a_source_is_an_error_with_its_number(two_clusters_posterior, X):
    rows = X.copy()
    rows[123_456, 1] = np.nan
    found = bgmm_jd.predict(two_clusters_posterior, bgmm_jd.batches(lambda: [rows]), draws=1)
    next(found)
    with pytest.raises(ValueError, match=r"column 1 has nan \(first in row 123456\)"):
        next(found)


def test_weights_of_a_source_play_no_part_in_predictions(two_clusters_posterior, two_clusters):
    source = WeightedRows(bgmm_jd.batches(lambda: [two_clusters]), np.zeros(40))
    labels = next(bgmm_jd.predict(two_clusters_posterior, source))
    np.testing.assert_array_equal(labels, bgmm_jd.predict(two_clusters_posterior, two_clusters))


def test_functions_that_need_rows_in_memory_refuse_a_source(two_clusters_posterior):
    source = bgmm_jd.batches(lambda: [np.zeros((3, 2))])
    with pytest.raises(ValueError, match=r"in memory here.*bgmm_jd\.sample_rows"):
        bgmm_jd.compare({"a": two_clusters_posterior}, source)
    with pytest.raises(ValueError, match=r"in memory here.*bgmm_jd\.sample_rows"):
        bgmm_jd.select(source, 2)
