"""`update`: the fit of some rows and then of others is the fit of all of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import two_groups_of_unlike_scale, with_memory

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.fitting import update as update_module
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.variational.approximation import EmptyComponents

K = 2
OPTIONS = {"execution": "graph", "finish": "none", "progress": False}
DRAWS = 20_000


@pytest.fixture(scope="module")
def X():
    """Two groups 5 sds apart, far from zero and in columns of unlike scale: [600, 2]."""
    return two_groups_of_unlike_scale(600)


@pytest.fixture(scope="module")
def first(X):
    return bgmm_jd.fit(pd.DataFrame(X[:300], columns=["a", "b"]), K, **OPTIONS)


@pytest.fixture(scope="module")
def updated(X, first):
    """Return the posterior of all rows, in two updates of 150 rows."""
    frame = pd.DataFrame(X, columns=["a", "b"])
    posterior = bgmm_jd.update(first, frame.iloc[300:450])
    return bgmm_jd.update(posterior, frame.iloc[450:])


def moments(posterior):
    """Return means and sds of weights, means and precisions."""
    draws = posterior.sample(DRAWS, seed=1)
    return {name: (v.mean(axis=0), v.std(axis=0)) for name, v in draws.items()}


def assert_same_posterior(found, expected):
    """Means within 0.15 sd and sds within 8 %.

    A calibration settles to 0.08 of an sd; the noise of 20,000 weighted draws adds 0.05 sd at five
    standard errors.
    """
    for name, (mean, sd) in moments(expected).items():
        own_mean, own_sd = moments(found)[name]
        assert np.all(np.abs(own_mean - mean) < 0.15 * sd), name
        assert np.all(np.abs(np.log(own_sd / sd)) < 0.08), name


def test_fit_of_some_rows_and_updates_by_the_others_are_the_fit_of_all(X, first, updated):
    of_all = bgmm_jd.fit(X, K, start=replace(first, feature_names=None), **OPTIONS)
    assert updated.status is Status.CONVERGED
    assert updated.khat < 0.5
    assert_same_posterior(updated, of_all)
    # That of half of them has sds that are wider by about sqrt(2).
    assert np.all(moments(first)["means"][1] > 1.2 * moments(updated)["means"][1])


def test_row_weights_count_rows_as_often(X, first):
    frame = pd.DataFrame(X[300:400], columns=["a", "b"])
    weight = np.arange(100) % 3
    weighted = bgmm_jd.update(first, frame, sample_weight=weight)
    repeated = bgmm_jd.update(first, frame.iloc[np.repeat(np.arange(100), weight)])
    assert_same_posterior(weighted, repeated)
    assert weighted.problem.data.shape[0] == 300 + np.count_nonzero(weight)


def test_surrogate_has_the_moments_of_the_draws(updated):
    """By 1,000 draws, with an error of the sds of 2.2 %, and 20,000 of each: five of those."""
    surrogate = updated.sample(DRAWS, seed=2, calibrate=False)
    for name in ("means", "precisions"):
        mean, sd = moments(updated)[name]
        noise = np.hypot(1 / 4_000**0.5, (2 / DRAWS) ** 0.5)
        assert np.all(np.abs(surrogate[name].mean(axis=0) - mean) < 5 * noise * sd)
        assert np.all(np.abs(np.log(surrogate[name].std(axis=0) / sd)) < 5 * noise)


def test_updated_posterior_is_one_of_all_rows_without_rows(X, updated, tmp_path):
    assert isinstance(updated, Posterior)
    assert updated.method == "normal"
    assert updated.feature_names == ("a", "b")
    assert "600 rows x 2 features" in repr(updated)
    assert np.isnan([updated.elbo, updated.log_evidence]).all()
    assert updated.batch_size == 150
    labels = bgmm_jd.predict(updated, X)
    assert (labels == (X[:, 0] > 60.0)).mean() > 0.99  # the group on the left comes first
    idata = bgmm_jd.to_inference_data(updated, X[:20], draws=50)
    assert idata["log_likelihood"]["x"].shape == (1, 50, 20)
    assert "sample_stats" not in idata
    assert len(updated.summary()) == K + 2 * K * 2
    with pytest.raises(ValueError, match=r"was updated.*which are needed here"):
        bgmm_jd.occupied_components(updated)
    bgmm_jd.save(updated, tmp_path / "updated.nc")
    loaded = bgmm_jd.load(tmp_path / "updated.nc")
    again = bgmm_jd.update(loaded, pd.DataFrame(X[:50], columns=["a", "b"]), seed=3)
    direct = bgmm_jd.update(updated, pd.DataFrame(X[:50], columns=["a", "b"]), seed=3)
    for name, values in direct.sample(20).items():
        np.testing.assert_array_equal(again.sample(20)[name], values)


# --- Posteriors and rows that are refused ---------------------------------------------------------


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def updated_normal(*arguments):
        raise AssertionError("a posterior that cannot be passed on was")

    monkeypatch.setattr(update_module, "updated_normal", updated_normal)


@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"khat": 0.5}, r"below 0\.5; got 0\.50\..*start=posterior"),
        ({"khat": np.nan}, r"below 0\.5; it is not known"),
        ({"status": Status.ONE_OF_SEVERAL_MODES}, "CONVERGED; got ONE_OF_SEVERAL_MODES"),
    ],
)
def test_posterior_that_is_not_close_to_normal_is_refused(X, first, changes, message):
    with pytest.raises(ValueError, match=message):
        bgmm_jd.update(replace(first, **changes), X[300:])


@pytest.mark.usefixtures("nothing_is_computed")
def test_posterior_without_a_calibration_is_refused(X, first):
    approximation = replace(first.approximation, calibration=None)
    with pytest.raises(ValueError, match=r"none: it was fitted with calibrate=False.*start="):
        bgmm_jd.update(replace(first, approximation=approximation), X[300:])


@pytest.mark.usefixtures("nothing_is_computed")
def test_posterior_with_empty_components_is_refused(X, first):
    approximation = first.approximation
    empty = EmptyComponents(np.array([False, True]), *[np.zeros(0)] * 6)
    calibration = approximation.calibration._replace(empty=empty)
    with pytest.raises(ValueError, match="every component holds rows"):
        bgmm_jd.update(
            replace(first, approximation=replace(approximation, calibration=calibration)), X[300:]
        )


@pytest.mark.usefixtures("nothing_is_computed")
def test_more_rows_than_are_affordable_are_refused(X, first):
    """1,000 draws of k-hat with K D = 4 numbers a row."""
    little = with_memory(first, affordable=1_000 * 4 * 100)
    with pytest.raises(ValueError, match=r"at most 100 rows.*got 300\. Update with parts of X"):
        bgmm_jd.update(little, X[300:])


@pytest.mark.usefixtures("nothing_is_computed")
def test_bad_arguments_of_update_are_refused(X, first):
    with pytest.raises(TypeError, match="posterior must be a Posterior; got ndarray"):
        bgmm_jd.update(X, X)
    with pytest.raises(ValueError, match="X must have 2 columns"):
        bgmm_jd.update(first, X[:, :1])
    with pytest.raises(ValueError, match="X must be finite"):
        bgmm_jd.update(first, np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="each of the 300 rows"):
        bgmm_jd.update(first, X[300:], sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="seed must not be negative"):
        bgmm_jd.update(first, X[300:], seed=-1)


def test_khat_of_the_normal_is_computed_where_another_proposal_makes_the_draws(first, monkeypatch):
    """With the finish "auto" `posterior.khat` is that of the mixture."""
    whole = bgmm_jd.fit(
        first.problem.data.rows.values[:150], K, **OPTIONS | {"finish": "auto", "restarts": 1}
    )
    assert whole.method == "mixture"
    assert bgmm_jd.update(replace(whole, khat=9.0), np.zeros((5, 2))).method == "normal"


def test_step_that_is_far_from_normal_is_a_warning_with_advice(X, first, monkeypatch):
    exact = update_module.updated_normal
    monkeypatch.setattr(update_module, "updated_normal", lambda *a: (exact(*a)[0], 0.8))
    with pytest.warns(bgmm_jd.StatusWarning, match=r"k-hat above 0\.7.*start=posterior"):
        found = bgmm_jd.update(first, X[300:])
    assert found.status is Status.KHAT_TOO_HIGH
