"""Location and scatter of a source against those of the same rows in memory."""

import numpy as np
import pytest
from rows_in_parts import cut, mixed_rows, reader_of

from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.settings import RobustMomentsSettings
from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.census import take_census
from bgmm_jd.sources.scatter import scatter_of_source

SETTINGS = RobustMomentsSettings()


def moments_of(source, sample_rows=10_000):
    """Return the moments with a sample of all rows, whose quantiles are those of the rows."""
    reader = reader_of(source)
    census = take_census(reader, sample_rows=sample_rows, seed=0, missing=True)
    return scatter_of_source(reader, census, SETTINGS)


def assert_same_moments(found, expected):
    """Sums of 5,000 float64 numbers, in another order."""
    scale = np.sqrt(np.diag(expected.scatter))
    np.testing.assert_allclose(found.location, expected.location, rtol=0, atol=1e-11 * scale.max())
    for a, b in (
        (found.scatter, expected.scatter),
        (found.far_scatter, expected.far_scatter),
    ):
        np.testing.assert_allclose(
            a / np.outer(scale, scale), b / np.outer(scale, scale), atol=1e-9
        )
    np.testing.assert_array_equal(found.constant, expected.constant)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("sizes", [[], [1, 0, 2_222], [999] * 4], ids=str)
def test_moments_are_those_of_the_rows_in_memory(sizes, missing):
    X = mixed_rows(missing=missing)
    found, has_far = moments_of(cut(X, sizes))
    assert has_far
    assert_same_moments(found, robust_moments(X, settings=SETTINGS))


def test_weighted_moments_are_those_of_the_rows_in_memory():
    X = mixed_rows()
    weight = np.random.default_rng(1).choice([0.0, 0.5, 3.0], len(X))
    found, _ = moments_of(batches(lambda: [(X, weight)]))
    assert_same_moments(found, robust_moments(X, weight, SETTINGS))


def test_column_that_is_constant_without_its_far_rows_keeps_them():
    X = mixed_rows()
    X[:, 1] = 5.0
    X[17, 1] = 6.0
    found, has_far = moments_of(cut(X, [2_000]))
    expected = robust_moments(X, settings=SETTINGS)
    assert has_far == expected.far.any()
    assert_same_moments(found, expected)


def test_column_that_is_constant_in_the_sample_only_is_not_constant():
    X = mixed_rows()
    X[:, 1] = 5.0
    census_rows = take_census(reader_of(cut(X, [])), sample_rows=50, seed=0, missing=False)
    rare = next(n for n in range(len(X)) if n not in census_rows.sample.number)
    X[rare, 1] = 6.0
    found, _ = moments_of(cut(X, []), sample_rows=50)
    assert not found.constant.any()
    assert found.location[1] == pytest.approx(X[:, 1].mean(), abs=1e-12)
    assert found.scatter[1, 1] == pytest.approx(X[:, 1].var(), rel=1e-6)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_rows_in_another_order_in_the_second_pass_are_an_error(missing):
    X, passes = mixed_rows(missing=missing), []

    def scan():
        passes.append(len(passes))
        return np.split(np.roll(X, max(0, passes[-1] - 3), axis=0), [1_300])

    source = batches(scan)  # begins three passes, to see what rows are like
    with pytest.raises(ValueError, match="the same rows in the same order in every pass"):
        moments_of(source, sample_rows=50)


def test_constant_column_is_only_centred():
    X = mixed_rows()
    X[:, 2] = 7.0
    found, _ = moments_of(cut(X, [10]))
    assert found.constant.tolist() == [False, False, True]
    assert_same_moments(found, robust_moments(X, settings=SETTINGS))
