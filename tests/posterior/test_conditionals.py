"""Marginals and conditionals: what they ask of their arguments, and what they make of a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from known_components import make

import bgmm_jd
from bgmm_jd.posterior import conditionals
from bgmm_jd.posterior.conditionals import conditional, marginal
from bgmm_jd.posterior.predictive_mixture import predictive_mixture

# Of log densities of some tens of nats at most, from some tens of operations each.
ROUNDING = 1e-9


@pytest.fixture
def fitted(monkeypatch):
    """Stands for a posterior of three features, with draws that are known."""

    def component_draws(posterior, draws, seed):
        return make(S=draws, K=2, D=posterior.D, seed=seed)

    monkeypatch.setattr(conditionals, "component_draws", component_draws)
    return SimpleNamespace(D=3)


def test_draws_and_columns_are_those_asked_for(fitted):
    law = marginal(fitted, [2, 0], draws=4, seed=5)
    components = make(S=4, K=2, D=3, seed=5)
    expected = predictive_mixture(components, (), np.zeros(0), (2, 0))
    assert (law.features, law.given) == ((2, 0), ())
    np.testing.assert_array_equal(law.mean(), expected.mean())
    law = conditional(fitted, {2: [0.5, 1.5, 2.5], 0: 1}, draws=4, seed=5)
    values = np.array([[0.5, 1.0], [1.5, 1.0], [2.5, 1.0]])
    expected = predictive_mixture(components, (2, 0), values, (1,))
    assert (law.features, law.given) == ((1,), (2, 0))
    np.testing.assert_array_equal(law.values, values)
    np.testing.assert_array_equal(law.mean(), expected.mean())
    assert conditional(fitted, {1: 0.5}).mean().shape == (2,)
    assert conditional(fitted, {1: [0.5]}).mean().shape == (1, 2)


def test_values_are_copied(fitted):
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
def test_bad_features(fitted, features, error, message):
    with pytest.raises(error, match=message):
        marginal(fitted, features)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "at least one column"),
        ({3: 1.0}, ValueError, "from 0 to 2; got 3"),
        ({"a": 1.0}, TypeError, "by integers; got 'a'"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, ValueError, "leave a feature out; it names all 3"),
        ([1.0, 2.0], TypeError, "mapping of columns to values"),
        ({0: np.nan}, ValueError, r"given\[0\] must be finite"),
        ({0: [1.0, np.inf]}, ValueError, r"given\[0\] must be finite"),
        ({0: "1"}, TypeError, r"given\[0\] must hold real numbers; got dtype <U1"),
        ({0: None}, TypeError, r"given\[0\] must hold real numbers; got dtype object"),
        ({0: 1j}, TypeError, r"given\[0\] must hold real numbers; got dtype complex128"),
        ({0: [[1.0]]}, ValueError, r"number or an array \[M\]; got shape \(1, 1\)"),
        ({0: []}, ValueError, r"number or an array \[M\]; got shape \(0,\)"),
        ({0: [1.0], 2: [1.0, 2.0]}, ValueError, r"one length; got \{0: 1, 2: 2\}"),
        ({0: np.ma.masked_less([1.0, 2.0], 1.5)}, ValueError, "no masked entries"),
    ],
)
def test_bad_given(fitted, given, error, message):
    with pytest.raises(error, match=message):
        conditional(fitted, given)


@pytest.mark.parametrize(
    "call",
    [
        lambda fitted, **settings: marginal(fitted, [0], **settings),
        lambda fitted, **settings: conditional(fitted, {0: 1.0}, **settings),
    ],
    ids=["marginal", "conditional"],
)
def test_bad_settings(fitted, call):
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        call(fitted, draws=0)
    with pytest.raises(TypeError, match=r"draws must be an integer; got 2\.5"):
        call(fitted, draws=2.5)


def test_a_fit_agrees_with_its_log_density(two_clusters, two_clusters_posterior):
    """The same draws, so log p(x, y) less log p(x) to the rounding of float64."""
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
