"""Starts and swaps at values that many rows have, by hand and on rows whose optimum is there."""

import numpy as np
from real_rows import REAL

import bgmm_jd
from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.optimization.conjugate_em import expect, feature_rows, maximise
from bgmm_jd.optimization.conjugate_prior import conjugate_prior
from bgmm_jd.optimization.em_runs import converge
from bgmm_jd.optimization.equal_values import frequent_values, partitions_at_values
from bgmm_jd.optimization.partitions import inverse_root, kmeans_partition
from bgmm_jd.optimization.swaps import improve_by_swaps
from bgmm_jd.settings import DefaultPriorSettings, StartSettings

SETTINGS = StartSettings()


def rows_with_a_value(seed=0, n=200, equal=40):
    """Return normal rows [n, 2], some of which have 0.3 for their second entry, and which."""
    rng = np.random.default_rng(seed)
    X, has_value = rng.normal(size=(n, 2)), np.arange(n) < equal
    X[has_value, 1] = 0.3
    return X, has_value


def geyser():
    """Return waiting times and durations of Old Faithful (Azzalini and Bowman 1990) [299, 2].

    Durations that were noted as short or long at night are coded as 2 and 4 minutes, which 23 and
    53 are.
    """
    table = np.genfromtxt(REAL / "geyser.csv", delimiter=",", skip_header=1)
    return table[:, :2]


def test_frequent_values_are_those_by_hand():
    columns = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [0.0, 7.0], [0.0, 8.0], [3.0, 5.0]])
    settings = StartSettings(fewest_equal=3, least_equal_share=0.0, excess_of_equal=2.0)
    found = frequent_values(columns, np.ones(6), settings)
    np.testing.assert_array_equal(found[0], columns[:, 1] == 5.0)
    np.testing.assert_array_equal(found[1], columns[:, 0] == 0.0)
    assert len(found) == 2
    heavy = frequent_values(columns, np.array([9.0, 1.0, 1.0, 9.0, 9.0, 1.0]), settings)
    np.testing.assert_array_equal(heavy[0], columns[:, 0] == 0.0)
    assert frequent_values(columns, np.ones(6), SETTINGS) == []


def test_values_that_rounding_has_moved_are_equal_and_constant_columns_have_none():
    X, has_value = rows_with_a_value()
    X[has_value, 1] += 1e-6 * np.random.default_rng(1).normal(size=has_value.sum())
    (found,) = frequent_values(np.column_stack([X, np.ones(len(X))]), np.ones(len(X)), SETTINGS)
    np.testing.assert_array_equal(found, has_value)


def test_rows_of_a_continuous_distribution_have_no_frequent_value():
    X = np.random.default_rng(0).normal(size=(4_000, 3))
    assert frequent_values(X, np.ones(4_000), SETTINGS) == []


def test_no_whole_number_is_frequent_where_all_values_are_such():
    rng = np.random.default_rng(0)
    whole = rng.normal(70.0, 10.0, (300, 1)).round()
    scaled = (whole - whole.mean()) / whole.std()
    assert np.unique(whole, return_counts=True)[1].max() > 0.03 * 300
    assert frequent_values(scaled, np.ones(300), SETTINGS) == []
    answers = rng.integers(1, 6, (300, 4)).astype(float)
    assert frequent_values(answers, np.ones(300), SETTINGS) == []


def test_partitions_have_a_cluster_for_one_or_two_values():
    X, has_value = rows_with_a_value()
    other = np.arange(200) >= 170
    found = partitions_at_values(
        X, np.ones(200), [has_value, other], 3, np.random.default_rng(0), 25
    )
    assert len(found) == 3
    for label, member in zip(found, (has_value, other), strict=False):
        assert (label[member] == 0).all()
        assert set(label[~member]) == {1, 2}
    assert set(found[2][has_value]) == {0}
    assert set(found[2][other]) == {1}
    assert set(found[2][~has_value & ~other]) == {2}
    assert partitions_at_values(X, np.ones(200), [has_value], 1, np.random.default_rng(0), 25) == []


def test_swaps_move_a_component_to_a_value_where_others_do_not():
    """From the optimum with five components that k-means leads to."""
    X = geyser()
    moments = robust_moments(X, np.ones(len(X)))
    whitened = (X - moments.location) @ inverse_root(moments.scatter)
    rows = feature_rows(whitened, np.ones(len(X)), "full")
    prior = conjugate_prior(5, 2, "full", DefaultPriorSettings())
    label = kmeans_partition(whitened, np.ones(len(X)), 5, np.random.default_rng(0), 25)
    share = (label == np.arange(5)[:, None])[None].astype(float)
    mixture, value = converge(rows, prior, maximise(rows, prior, share), 1e-3, 300)

    def improved(at_values):
        rng = np.random.default_rng(0)
        return improve_by_swaps(rows, prior, mixture, float(value[0]), rng, SETTINGS, at_values)

    without, (found, higher) = improved([])[1], improved([X[:, 1] == 4.0])
    assert higher > without + 5.0
    label = expect(rows, found)[0][0].argmax(axis=0)
    own = np.bincount(label[X[:, 1] == 4.0], minlength=5).argmax()
    assert (X[label == own, 1] == 4.0).mean() > 0.9


def test_durations_of_four_minutes_are_a_component_of_the_geyser():
    """At least the optimum that a start from these rows leads to."""
    X = geyser()
    rest = bgmm_jd.fit(X, 2, covariance="full", progress=False, finish="none")
    label = np.where(X[:, 1] == 4.0, 2, bgmm_jd.predict(rest, X))
    known = bgmm_jd.fit(X, 3, covariance="full", init=label, progress=False, finish="none")
    found = bgmm_jd.fit(X, 3, covariance="full", progress=False, finish="none")
    slack = 3.0 * np.hypot(found.elbo_se, known.elbo_se)
    assert found.elbo > known.elbo - 0.5 - slack
