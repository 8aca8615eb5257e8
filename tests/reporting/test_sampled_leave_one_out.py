"""Leave-one-out of a sample of a source's rows, against that of all rows.

Statistical tests raise a false alarm with probability 1e-6 each; the seeds are fixed.
"""

import numpy as np
import pytest
from scipy import stats

import bgmm_jd
from bgmm_jd.reporting.sampled_leave_one_out import DensitySums, SampledLoo, sampled_leave_one_out

Z_ALARM = stats.norm.isf(1e-6 / 2)
S, SEED = 1000, 3


@pytest.fixture(scope="module")
def fits(calibrated):
    return {"one": calibrated(1), "two": calibrated(2)}


def source_of(X):
    return bgmm_jd.batches(lambda: np.array_split(X, 3))


def test_sample_of_all_rows_is_leave_one_out_of_all_rows(fits, clustered_rows):
    """To the rounding of sums of densities that are added and subtracted."""
    N = len(clustered_rows)
    found = bgmm_jd.compare(fits, source_of(clustered_rows), draws=S, seed=SEED, rows=10 * N)
    expected = bgmm_jd.compare(fits, clustered_rows, draws=S, seed=SEED)
    assert list(found.index) == list(expected.index)
    for column in ("elpd_loo", "elpd_diff", "p_loo", "weight", "pareto_k_max"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-6, atol=1e-6)
    assert (found["rank"] == expected["rank"]).all()
    assert (found[["subsampling_se", "subsampling_dse"]] == 0.0).all(axis=None)


def test_estimate_of_a_sample_is_within_its_error(fits, clustered_rows):
    """Differences of leave-one-out from a density are skew, so that 25 samples are averaged.

    The error of the mean is estimated from the samples, whose own errors agree with it on average:
    the ratio of variances is F with 24 and about 24 n degrees of freedom, and skewness widens it.
    """
    X, n = clustered_rows, len(clustered_rows) // 4
    whole = sampled_leave_one_out(fits, source_of(X), S, SEED, len(X))
    expected = np.array([loo.elpd for loo in whole.loos.values()])
    elpd, errors = [], []
    for sample in range(25):
        # Other rows are sampled where they come in another order; draws and fits stay the same.
        order = np.random.default_rng(sample).permutation(len(X))
        found = sampled_leave_one_out(fits, source_of(X[order]), S, SEED, n)
        elpd.append([loo.elpd for loo in found.loos.values()])
        errors.append(found.columns()["subsampling_se"].to_numpy())
    error = np.std(elpd, axis=0, ddof=1)
    t = stats.t.isf(1e-6 / 2, 24)
    assert (np.abs(np.mean(elpd, axis=0) - expected) < t * error / 5.0).all()
    ratio = error / np.sqrt(np.mean(np.square(errors), axis=0))
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


def test_densities_of_all_rows_have_the_errors_of_leave_one_out(fits, clustered_rows):
    """Both are dominated by how the rows differ: to a tenth."""
    found = bgmm_jd.compare(fits, source_of(clustered_rows), draws=S, seed=SEED, rows=40)
    expected = bgmm_jd.compare(fits, clustered_rows, draws=S, seed=SEED)
    np.testing.assert_allclose(found["se"], expected["se"], rtol=0.1)
    np.testing.assert_allclose(found["dse"], expected["dse"], rtol=0.1)
    assert (found["subsampling_se"] > 0.0).all()


def test_error_of_a_sample_without_replacement():
    """Three of four rows with errors 0, 1 and 2: N sqrt((1 - 3/4) / 3) sd = 4 sqrt(1/12)."""
    sums = DensitySums(4, np.zeros(1), np.zeros((1, 1)))
    loo = type("Loo", (), {"elpd": 0.0})()
    found = SampledLoo({"a": loo}, sums, np.array([[0.0], [1.0], [2.0]])).columns()
    assert found["subsampling_se"]["a"] == pytest.approx(4.0 * np.sqrt(1.0 / 12.0))
    assert found["subsampling_dse"]["a"] == 0.0


def test_sources_of_other_rows_are_errors(fits, clustered_rows):
    X = clustered_rows
    with pytest.raises(ValueError, match=rf"was fitted to {len(X)} rows, and X has {len(X) - 1}"):
        bgmm_jd.compare(fits, source_of(X[1:]))
    with pytest.raises(ValueError, match="X must have 2 columns"):
        bgmm_jd.compare(fits, source_of(X[:, :1]))
    with pytest.raises(ValueError, match="without weights"):
        bgmm_jd.compare(fits, bgmm_jd.batches(lambda: [(X, np.ones(len(X)))]))
    with pytest.raises(ValueError, match=r"at least 2 of its rows; got rows=1\."):
        bgmm_jd.compare(fits, source_of(X), rows=1)
