"""Marginals and conditionals: their arguments, and a fit against its own log density."""

from types import SimpleNamespace

import numpy as np
import pytest
from known_components import make_components

import bgmm_jd
from bgmm_jd.posterior import conditionals
from bgmm_jd.posterior.conditionals import conditional, marginal
from bgmm_jd.posterior.predictive_mixture import predictive_mixture
from bgmm_jd.settings import MemorySettings, Settings

# Log densities of some tens of nats at most, from some tens of operations each.
ROUNDING = 1e-9


@pytest.fixture
def fitted(monkeypatch):
    """A stand-in for a posterior of three features, whose draws of the components are known."""

    def draw_known_components(posterior, draws, seed):
        return make_components(S=draws, K=2, D=posterior.D, seed=seed)

    monkeypatch.setattr(conditionals, "draw_components", draw_known_components)
    settings = Settings(memory=MemorySettings(mixture=40))
    return SimpleNamespace(D=3, feature_names=None, settings=settings)


def test_draws_columns_and_budget_are_those_of_arguments_and_settings(fitted):
    law = marginal(fitted, [2, 0], draws=4, seed=5)
    components = make_components(S=4, K=2, D=3, seed=5)
    expected = predictive_mixture(components, (), np.zeros(0), (2, 0), budget=40)
    assert (law.features, law.given, law.budget) == ((2, 0), (), 40)
    np.testing.assert_array_equal(law.mean(), expected.mean())
    law = conditional(fitted, {2: [0.5, 1.5, 2.5], 0: 1}, draws=4, seed=5)
    values = np.array([[0.5, 1.0], [1.5, 1.0], [2.5, 1.0]])
    expected = predictive_mixture(components, (2, 0), values, (1,), budget=40)
    assert (law.features, law.given, law.budget) == ((1,), (2, 0), 40)
    np.testing.assert_array_equal(law.values, values)
    np.testing.assert_array_equal(law.mean(), expected.mean())
    assert conditional(fitted, {1: 0.5}).mean().shape == (2,)
    assert conditional(fitted, {1: [0.5]}).mean().shape == (1, 2)


def test_given_values_are_copied(fitted):
    values = np.array([0.5, 1.5])
    law = conditional(fitted, {0: values}, draws=4)
    values[:] = 100.0
    np.testing.assert_array_equal(law.values, [[0.5], [1.5]])


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ([], ValueError, "at least one column from 0 to 2"),
        ([3], ValueError, "from 0 to 2; got 3"),
        ([-1], ValueError, "from 0 to 2; got -1"),
        ([0, 1, 0], ValueError, r"each column once; got \(0, 1, 0\)"),
        ([0.0], TypeError, r"by integers; got 0\.0"),
        ([True], TypeError, "by integers; got True"),
        (["a"], TypeError, "by integers; got 'a'"),
        (1, TypeError, "a sequence of column numbers; got 1"),
        ("01", TypeError, "a sequence of column numbers; got '01'"),
        (None, TypeError, "a sequence of column numbers; got None"),
    ],
)
def test_bad_features_of_marginal_are_refused(fitted, features, error, message):
    with pytest.raises(error, match=message):
        marginal(fitted, features)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "at least one column"),
        ({3: 1.0}, ValueError, "from 0 to 2; got 3"),
        ({"a": 1.0}, TypeError, "by integers; got 'a'"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, ValueError, "leave at least one feature out; it names all 3"),
        ([1.0, 2.0], TypeError, "mapping of columns to values"),
        ({0: np.nan}, ValueError, r"given\[0\] must be finite"),
        ({0: [1.0, np.inf]}, ValueError, r"given\[0\] must be finite"),
        ({0: "1"}, TypeError, r"given\[0\] must hold real numbers; got dtype <U1"),
        ({0: None}, TypeError, r"given\[0\] must hold real numbers; got dtype object"),
        ({0: 1j}, TypeError, r"given\[0\] must hold real numbers; got dtype complex128"),
        ({0: [[1.0]]}, ValueError, r"number or an array \[M\] with M > 0; got shape \(1, 1\)"),
        ({0: []}, ValueError, r"number or an array \[M\] with M > 0; got shape \(0,\)"),
        ({0: [1.0], 2: [1.0, 2.0]}, ValueError, r"one length; got the lengths \{0: 1, 2: 2\}"),
        ({0: np.ma.masked_less([1.0, 2.0], 1.5)}, ValueError, "no masked entries"),
    ],
)
def test_bad_given_values_are_errors(fitted, given, error, message):
    with pytest.raises(error, match=message):
        conditional(fitted, given)


@pytest.mark.parametrize(
    "call",
    [
        lambda fitted, **options: marginal(fitted, [0], **options),
        lambda fitted, **options: conditional(fitted, {0: 1.0}, **options),
    ],
    ids=["marginal", "conditional"],
)
def test_bad_numbers_of_draws_are_errors(fitted, call):
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        call(fitted, draws=0)
    with pytest.raises(TypeError, match=r"draws must be an integer; got 2\.5"):
        call(fitted, draws=2.5)


def test_conditional_of_a_fit_agrees_with_its_log_density(two_clusters, two_clusters_posterior):
    """For the same draws it is log p(x, y) - log p(x), up to rounding in float64."""
    both = bgmm_jd.log_density(two_clusters_posterior, two_clusters, draws=50, seed=3)
    law = marginal(two_clusters_posterior, [0, 1], draws=50, seed=3)
    np.testing.assert_allclose(law.log_density(two_clusters), both, rtol=ROUNDING)
    of_x = marginal(two_clusters_posterior, [0], draws=50, seed=3)
    given = {0: two_clusters[:, 0]}
    found = conditional(two_clusters_posterior, given, draws=50, seed=3)
    np.testing.assert_allclose(
        found.log_density(two_clusters[:, 1:]),
        both - of_x.log_density(two_clusters[:, :1]),
        rtol=ROUNDING,
        atol=ROUNDING,
    )
    with pytest.raises(ValueError, match="seed must not be negative"):
        conditional(two_clusters_posterior, given, seed=-1)
