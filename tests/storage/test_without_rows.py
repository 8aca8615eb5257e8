"""A posterior that was saved without the rows of its fit."""

import numpy as np
import pytest
from fits import ROWS, fit_of, group_names, own_prior_of
from numpy.lib.stride_tricks import sliding_window_view

import bgmm_jd
from bgmm_jd.storage.container import from_bytes
from bgmm_jd.storage.encoding import decode, encode
from bgmm_jd.storage.without_rows import KEPT_DRAWS, without_rows

# arviz 0.23 gives this notice at its first import of a day.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:\s*ArviZ is undergoing a major refactor:FutureWarning"
)
NEED = r"saved without the rows of the fit, which are needed here.*keep_rows=True"


def loaded_without_rows(kind, tmp_path):
    bgmm_jd.save(fit_of(kind), tmp_path / "posterior.nc", keep_rows=False)
    return bgmm_jd.load(tmp_path / "posterior.nc", prior=own_prior_of(kind))


@pytest.mark.parametrize("kind", ["chains", "spherical, mean field"])
def test_draws_that_need_no_rows_are_equal(kind, tmp_path):
    posterior, loaded = fit_of(kind), loaded_without_rows(kind, tmp_path)
    assert loaded.method == posterior.method in ("hmc", "mean field")
    one, other = posterior.sample(200, seed=2), loaded.sample(200, seed=2)
    for name, values in one.items():
        assert values.tobytes() == other[name].tobytes()


@pytest.mark.parametrize("kind", ["mixture prior", "frame, full, relabelled"])
def test_weighted_normal_draws_have_the_same_moments(kind, tmp_path):
    posterior, loaded = fit_of(kind), loaded_without_rows(kind, tmp_path)
    assert loaded.method == posterior.method == "importance"
    assert loaded.calibration == posterior.calibration
    assert_same_moments(posterior, loaded)


def assert_same_moments(posterior, loaded, kept=4_000):
    """Assert equal means of independent draws: six standard errors of 4,000 and of those kept.

    Weighted draws repeat some, which at most doubles the variance where k-hat is below 0.5.
    """
    one, other = posterior.sample(4_000, seed=1), loaded.sample(4_000, seed=1)
    for name, values in one.items():
        error = np.sqrt(2.0 / 4_000 + 2.0 / kept) * values.std(axis=0)
        assert (np.abs(values.mean(axis=0) - other[name].mean(axis=0)) <= 6.0 * error).all()


def test_weighted_draws_are_kept(tmp_path):
    posterior, loaded = fit_of("mixture"), loaded_without_rows("mixture", tmp_path)
    assert loaded.method == "mixture"
    assert loaded.mixing is None
    assert loaded.khat == posterior.khat
    assert loaded.evidence_bound == posterior.evidence_bound
    assert loaded.approximation.bank.points.shape[0] == KEPT_DRAWS
    assert_same_moments(posterior, loaded)
    # Each draw as often as every other.
    each = [np.sort(loaded.sample(KEPT_DRAWS, seed=s)["means"].ravel()) for s in (0, 1)]
    np.testing.assert_array_equal(*each)


def test_draws_of_each_mode_are_kept(tmp_path):
    posterior, loaded = fit_of("two modes"), loaded_without_rows("two modes", tmp_path)
    for number in range(2):
        kept = (loaded.approximation.bank.mode == number).sum()
        assert_same_moments(posterior.at_mode(number), loaded.at_mode(number), kept)
    only = without_rows(posterior.at_mode(1))
    assert only.approximation.bank.chosen == 1
    assert (only.approximation.bank.mode == 1).all()


@pytest.mark.parametrize("kind", ["mixture", "sticks, empty", "missing, weights"])
def test_file_has_no_row(kind):
    """Not even among the candidates for empty components."""
    posterior = fit_of(kind)
    rows = posterior.problem.data.rows.values
    rows = rows[(rows != 0.0).all(axis=1)]  # an entry that is missing is zero
    kept, left = (from_bytes(encode(p)).arrays for p in (posterior, without_rows(posterior)))
    assert rows_among(kept, rows) == len(rows)
    assert rows_among(left, rows) == 0


def rows_among(arrays, rows):
    """Return how many of the rows are in one of the arrays, one entry after the other."""
    D, found = rows.shape[1], set()
    for array in arrays.values():
        flat = array.ravel().astype(rows.dtype)
        if len(flat) >= D:
            found |= {part.tobytes() for part in sliding_window_view(flat, D)}
    return sum(row.tobytes() in found for row in rows)


def test_what_needs_no_rows_works(tmp_path):
    loaded = loaded_without_rows("mixture", tmp_path)
    assert bgmm_jd.predict_proba(loaded, ROWS).shape == (60, 2)
    assert np.isfinite(bgmm_jd.log_density(loaded, ROWS)).all()
    assert bgmm_jd.conditional(loaded, {0: [50.0]}).mean().shape == (1, 1)
    assert loaded.summary().shape == (10, 4)
    assert "60 rows x 2 features" in repr(loaded)
    assert loaded.surrogate.sample(seed=1).means.shape == (2, 2)


def test_inference_data_has_no_log_joint_density(tmp_path):
    loaded = loaded_without_rows("mixture", tmp_path)
    idata = bgmm_jd.to_inference_data(loaded, ROWS, draws=20)
    groups = set(group_names(idata))
    assert {"posterior", "log_prior", "log_likelihood", "posterior_predictive"} <= groups
    assert "sample_stats" not in groups


def test_what_needs_rows_is_an_error_that_says_so(tmp_path):
    loaded = loaded_without_rows("mixture", tmp_path)
    with pytest.raises(ValueError, match=NEED):
        bgmm_jd.compare({"fit": loaded}, ROWS)
    with pytest.raises(ValueError, match=NEED):
        bgmm_jd.occupied_components(loaded)
    with pytest.raises(ValueError, match=NEED):
        bgmm_jd.to_inference_data(loaded, chains="restarts")


def test_posterior_without_rows_is_saved_again_as_it_is(tmp_path):
    loaded = loaded_without_rows("mixture", tmp_path)
    for keep_rows in (True, False):
        bgmm_jd.save(loaded, tmp_path / "again.nc", keep_rows=keep_rows)
        assert (tmp_path / "again.nc").read_bytes() == (tmp_path / "posterior.nc").read_bytes()
    assert encode(decode(encode(loaded), None, "it")) == encode(loaded)
