"""`bgmm-jd predict`."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from terminal import run

import bgmm_jd


@pytest.mark.usefixtures("folder")
def test_labels_and_probabilities_are_those_of_the_library(rows, posterior):
    outcome = run("predict", "rows.fit.nc", "rows.csv")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Wrote rows.predicted.csv ")
    found = pd.read_csv("rows.predicted.csv")
    assert list(found) == ["component", "probability_small", "probability_large"]
    expected = bgmm_jd.predict_proba(posterior, rows)
    np.testing.assert_allclose(found.iloc[:, 1:], expected, rtol=1e-5, atol=1e-12)  # six digits
    names = np.array(["small", "large"])
    assert list(found["component"]) == list(names[expected.argmax(axis=1)])


@pytest.mark.usefixtures("folder")
def test_columns_are_found_by_name_or_taken_in_the_order_asked_for(rows):
    expected = run("predict", "rows.fit.nc", "rows.csv", "-o", "-").out
    other = rows.assign(remark="text")[["width", "remark", "length, mm"]]
    other.to_csv("other.csv", index=False, sep=";", decimal=",")
    outcome = run("predict", "rows.fit.nc", "other.csv", "-o", "-")
    assert (outcome.code, outcome.err, outcome.out) == (0, "", expected)
    renamed = other.set_axis(["b", "c", "a"], axis=1)
    renamed.to_csv("renamed.csv", index=False)
    assert run("predict", "rows.fit.nc", "renamed.csv", "-o", "-").code == 2
    outcome = run("predict", "rows.fit.nc", "renamed.csv", "-o", "-", "--columns", "a,b")
    assert outcome.out == expected


@pytest.mark.usefixtures("folder")
def test_missing_values_are_integrated_out_as_in_the_fit(rows, posterior):
    rows.assign(width="NA").to_csv("part.csv", index=False)
    outcome = run("predict", "rows.fit.nc", "part.csv", "-o", "-")
    assert outcome.code == 2
    assert "no value at all" in outcome.err
    part = rows.copy()
    part.loc[::3, "width"] = np.nan
    part.to_csv("part.csv", index=False, na_rep="NA")
    found = pd.read_csv(io.StringIO(run("predict", "rows.fit.nc", "part.csv", "-o", "-").out))
    expected = bgmm_jd.predict_proba(posterior, part)
    np.testing.assert_allclose(found.iloc[:, 1:], expected, rtol=1e-5, atol=1e-12)


def test_columns_of_a_fit_are_not_taken_by_number(folder, rows, posterior):
    """The names of the fit are years, and the file has others."""
    years = dataclasses.replace(posterior, feature_names=("2", "1"))
    bgmm_jd.save(years, folder / "years.fit.nc")
    outcome = run("predict", "years.fit.nc", "rows.csv", "-o", "-")
    assert outcome.code == 2
    assert "there is no column '2'" in outcome.err


def test_advice_on_missing_values_is_to_fit_again(folder, rows, posterior):
    bgmm_jd.save(dataclasses.replace(posterior, missing=None), folder / "whole.fit.nc")
    rows.mask(rows > rows.max() - 0.1).to_csv("part.csv", index=False)
    outcome = run("predict", "whole.fit.nc", "part.csv", "-o", "-")
    assert outcome.code == 2
    assert "fit again with --missing marginalize" in outcome.err
    assert "pass --missing" not in outcome.err
