"""The table of the components, against quantiles of the draws by NumPy."""

import dataclasses

import numpy as np
import pytest
from known_covariances import D, K, drawn, either_scale_variable, every_form

import bgmm_jd
from bgmm_jd.posterior.summary import summary_table


def check_row(row, draws, prob):
    lower, upper = np.quantile(draws, [0.5 - prob / 2, 0.5 + prob / 2])
    expected = {"mean": draws.mean(), "sd": draws.std(ddof=1), "lower": lower, "upper": upper}
    assert list(row.index) == list(expected)
    # Matrices with condition numbers of some dozens are inverted in float64.
    np.testing.assert_allclose(row, list(expected.values()), rtol=1e-10, atol=1e-12)


@either_scale_variable
@every_form
def test_table_has_moments_and_quantiles_of_the_draws_in_every_form(form, name):
    theta, covariances = drawn(form, name, (50,), seed=2)
    theta["weights"] = np.random.default_rng(0).dirichlet(np.ones(K), 50)
    sds = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    components, features = "abcdefg"[:K], "tuvwxyz"[:D]
    table = summary_table(theta, form, components, features, 0.8)
    assert len(table) == K + 2 * K * D
    for k, component in enumerate(components):
        check_row(table.loc["weights", component, ""], theta["weights"][:, k], 0.8)
        for d, feature in enumerate(features):
            check_row(table.loc["means", component, feature], theta["means"][:, k, d], 0.8)
            check_row(table.loc["sds", component, feature], sds[:, k, d], 0.8)


def test_summary_is_that_of_the_draws_of_sample(two_clusters_posterior):
    table = two_clusters_posterior.summary(draws=300, seed=7, prob=0.5)
    theta = two_clusters_posterior.sample(300, seed=7)
    sds = theta["precisions"] ** -0.5
    for k in range(2):
        check_row(table.loc["weights", k, ""], theta["weights"][:, k], 0.5)
        for d in range(2):
            check_row(table.loc["means", k, d], theta["means"][:, k, d], 0.5)
            check_row(table.loc["sds", k, d], sds[:, k, d], 0.5)
    assert not table.equals(two_clusters_posterior.summary(draws=300, seed=8, prob=0.5))


def test_rows_are_in_the_order_of_output(two_clusters_posterior):
    table = two_clusters_posterior.summary(draws=10)
    pairs = [(k, d) for k in (0, 1) for d in (0, 1)]
    expected = [("weights", 0, ""), ("weights", 1, "")]
    expected += [(name, *pair) for name in ("means", "sds") for pair in pairs]
    assert table.index.to_list() == expected
    assert list(table.index.names) == ["variable", "component", "feature"]


def test_rows_have_the_names_of_components_and_features(two_clusters_posterior):
    """The names are in no alphabetical order, and a part of a label is found without a warning."""
    named = dataclasses.replace(two_clusters_posterior, feature_names=("y", "x"))
    named = bgmm_jd.relabel(named, [1, 0], names=["right", "left"])
    table, plain = named.summary(), two_clusters_posterior.summary()
    assert table.loc["means", "right"].index.to_list() == ["y", "x"]
    for name in ("means", "sds"):
        right = table.loc[name, "right", "x"]
        np.testing.assert_array_equal(right, plain.loc[name, 1, 1])
    assert table.loc["weights"].index.to_list() == [("right", ""), ("left", "")]
    assert table["mean"].unstack("feature").loc[("means", "left"), "y"] == pytest.approx(
        plain.loc[("means", 0, 0), "mean"]
    )


def test_feature_with_an_empty_name_has_rows_of_its_own(two_clusters_posterior):
    named = dataclasses.replace(two_clusters_posterior, feature_names=("x", ""))
    plain = two_clusters_posterior.summary()
    np.testing.assert_array_equal(named.summary().loc["means", 1, ""], plain.loc["means", 1, 1])


def test_summary_of_one_draw_has_no_sd(two_clusters_posterior):
    table = two_clusters_posterior.summary(draws=1)
    assert table["sd"].isna().all()
    np.testing.assert_array_equal(table["lower"], table["mean"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prob": 94}, ValueError, "prob must be one number between 0 and 1.*got 94"),
        ({"draws": 0}, ValueError, "draws must be"),
        ({"seed": -1}, ValueError, "seed must not be negative"),
    ],
)
def test_bad_options_of_summary_are_refused(two_clusters_posterior, options, error, message):
    with pytest.raises(error, match=message):
        two_clusters_posterior.summary(**options)
