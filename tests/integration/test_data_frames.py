"""Names of columns, from a data frame to predictions, tables and the command line."""

import numpy as np
import pandas as pd
import pytest

import bgmm_jd
from bgmm_jd.datasets import old_faithful

# Arrays are contiguous, as those made of frames are: the last digits depend on the order in memory.
# The quality of the draws does not matter here, and graphs compile in a fraction of XLA's time.
OPTIONS = {"execution": "graph", "restarts": 1, "calibrate": False, "progress": False}
MEANS = pd.DataFrame({"waiting": [55, 80], "eruptions": [2.0, 4.3]})


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(old_faithful().X, columns=["eruptions", "waiting"])


@pytest.fixture(scope="module")
def turned(frame):
    return frame[["waiting", "eruptions"]]


@pytest.fixture(scope="module")
def posterior(frame):
    return bgmm_jd.fit(frame, 2, **OPTIONS)


def test_fit_keeps_the_names_and_is_that_of_the_array(posterior, frame):
    of_array = bgmm_jd.fit(np.ascontiguousarray(frame), 2, **OPTIONS)
    assert (posterior.feature_names, of_array.feature_names) == (("eruptions", "waiting"), None)
    np.testing.assert_array_equal(posterior.sample(5)["means"], of_array.sample(5)["means"])
    assert bgmm_jd.relabel(posterior, [1, 0]).feature_names == ("eruptions", "waiting")


def test_predictions_are_the_same_whatever_the_order_of_the_columns(posterior, frame, turned):
    for function in (bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density):
        expected = function(posterior, frame.to_numpy())
        np.testing.assert_array_equal(function(posterior, frame), expected)
        np.testing.assert_array_equal(function(posterior, turned), expected)
    assert set(bgmm_jd.predict(posterior, turned)) == {0, 1}


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_predictions_are_the_same_for_frames_of_other_libraries(posterior, turned, library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    given = make({name: turned[name].to_numpy() for name in turned})
    expected = bgmm_jd.predict(posterior, turned)
    np.testing.assert_array_equal(bgmm_jd.predict(posterior, given), expected)


@pytest.mark.parametrize(
    "function",
    [
        bgmm_jd.predict,
        bgmm_jd.log_density,
        bgmm_jd.impute,
        bgmm_jd.to_inference_data,
        bgmm_jd.plot_density,
        lambda posterior, X: bgmm_jd.compare({"one": posterior}, X),
    ],
    ids=["predict", "log_density", "impute", "to_inference_data", "plot_density", "compare"],
)
def test_frames_with_other_columns_are_refused_by_every_function(posterior, frame, function):
    with pytest.raises(ValueError, match="lacks 'waiting'"):
        function(posterior, frame[["eruptions"]])
    with pytest.raises(ValueError, match=r"also has 'day'.*X\[\['eruptions', 'waiting'\]\]"):
        function(posterior, frame.assign(day=1))


def test_frame_is_taken_by_position_where_the_fit_has_no_names(frame, turned):
    posterior = bgmm_jd.fit(frame.to_numpy(), 2, **OPTIONS)
    found = bgmm_jd.log_density(posterior, turned)
    np.testing.assert_array_equal(found, bgmm_jd.log_density(posterior, turned.to_numpy()))


def test_imputations_have_the_columns_of_the_fit(posterior, frame, turned):
    holes = turned.astype({"waiting": "Float64"}).head(6)
    holes.loc[2, "waiting"] = pd.NA
    found = bgmm_jd.impute(posterior, holes, draws=3)
    observed = np.tile(frame.head(6).to_numpy(), (3, 1, 1))
    assert np.isfinite(found).all()
    assert (found[:, 2, 1] != observed[:, 2, 1]).all()
    found[:, 2, 1] = observed[:, 2, 1]
    np.testing.assert_array_equal(found, observed)


def test_comparison_takes_the_rows_of_the_fit_in_another_order_of_columns(posterior, frame, turned):
    expected, found = (bgmm_jd.compare({"one": posterior}, X, draws=100) for X in (frame, turned))
    pd.testing.assert_frame_equal(found, expected)


def test_conditional_and_marginal_take_names(posterior, frame, turned):
    by_name = bgmm_jd.conditional(posterior, {"waiting": frame["waiting"].astype("Float64")})
    by_number = bgmm_jd.conditional(posterior, {1: frame["waiting"].to_numpy()})
    np.testing.assert_array_equal(by_name.mean(), by_number.mean())
    assert (by_name.feature_names, by_name.given_names) == (("eruptions",), ("waiting",))
    assert "feature eruptions given feature waiting in 272 rows" in repr(by_name)
    both = bgmm_jd.marginal(posterior, ["waiting", 0])
    assert (both.features, both.feature_names) == ((1, 0), ("waiting", "eruptions"))
    values = np.ascontiguousarray(turned)
    np.testing.assert_array_equal(both.log_density(frame), both.log_density(values))
    np.testing.assert_array_equal(both.cdf(frame), both.cdf(values))


def test_names_that_are_no_columns_are_refused_by_conditional_and_marginal(posterior, frame):
    known = r"columns of the fit, \('eruptions', 'waiting'\)"
    with pytest.raises(ValueError, match=f"given must be {known}; got 'day'"):
        bgmm_jd.conditional(posterior, {"day": 1.0})
    with pytest.raises(ValueError, match=f"features must be {known}; got 'day'"):
        bgmm_jd.marginal(posterior, ["day"])
    with pytest.raises(ValueError, match=r"each column once; got \('waiting', 1\)"):
        bgmm_jd.marginal(posterior, ["waiting", 1])
    with pytest.raises(TypeError, match="sequence of column names or numbers; got 'waiting'"):
        bgmm_jd.marginal(posterior, "waiting")
    with pytest.raises(ValueError, match=r"Y must have the columns 'waiting' and no others"):
        bgmm_jd.marginal(posterior, ["waiting"]).log_density(frame)


def test_means_to_start_from_are_put_in_the_order_of_the_columns(frame):
    array = MEANS[["eruptions", "waiting"]].to_numpy()
    expected = bgmm_jd.fit(frame, 2, init=array, **OPTIONS)
    found = bgmm_jd.fit(frame, 2, init=MEANS, **OPTIONS)
    np.testing.assert_array_equal(found.sample(5)["means"], expected.sample(5)["means"])
    with pytest.raises(ValueError, match=r"init must have the columns.*lacks 'waiting'"):
        bgmm_jd.fit(frame, 2, init=MEANS[["eruptions"]], **OPTIONS)


def test_selection_keeps_names_and_takes_means_by_name(frame):
    selection = bgmm_jd.select(frame, 2, draws=100, init=MEANS, **OPTIONS)
    assert selection.best.feature_names == ("eruptions", "waiting")
    shortest = selection.best.sample(100)["means"].mean(axis=0)[0]
    np.testing.assert_allclose(shortest, [2.04, 54.6], rtol=0.05)  # of Azzalini and Bowman's groups
