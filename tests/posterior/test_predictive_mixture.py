"""Predictive mixtures against quadrature, scipy's normals and exact distributions.

Statistical tests state their false-alarm rate; the seeds are fixed.
"""

import itertools
import tracemalloc

import numpy as np
import pytest
from known_components import joint_density, make_components, select_components
from scipy import integrate, stats

from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.posterior.predictive_mixture import predictive_mixture

FALSE_ALARM = 1e-6
EPS = np.finfo(float).eps
# Densities here are the result of some tens of operations on numbers of at most some thousands, and
# on factors whose condition is at most some thousands.
ROUNDING = 1e-9


def marginal(components, features):
    return predictive_mixture(components, (), np.zeros(0), tuple(features))


def conditional(components, given, values, **options):
    wanted = [d for d in range(components.means.shape[-1]) if d not in given]
    return predictive_mixture(
        components, tuple(given), np.array(values, float), tuple(wanted), **options
    )


# --- The distribution ---------------------------------------------------------------------


@pytest.mark.parametrize("x", [-4.0, 0.3, 2.5])
@pytest.mark.parametrize("given", [0, 1])
def test_conditional_of_two_features_agrees_with_quadrature(given, x):
    """Density, mean, sd and cdf of y given x by integrals of the joint density over y."""
    components = make_components(S=3, K=2, D=2)
    found = conditional(components, [given], [x])

    density = joint_density(components)

    def joint(y):
        return density([x, y] if given == 0 else [y, x])

    def integral(f, low=-20.0, high=20.0):
        # In parts of some sds: over the whole line quadrature can miss a peak. No mean exceeds 10.
        parts = itertools.pairwise([low, *(e for e in range(-20, 20, 4) if low < e < high), high])
        return sum(integrate.quad(f, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in parts)

    total = integral(joint)
    mean = integral(lambda y: y * joint(y)) / total
    variance = integral(lambda y: (y - mean) ** 2 * joint(y)) / total
    np.testing.assert_allclose(found.mean(), [mean], rtol=ROUNDING)
    np.testing.assert_allclose(found.sd(), [variance**0.5], rtol=ROUNDING)
    np.testing.assert_allclose(found.covariance(), [[variance]], rtol=ROUNDING)
    for y in (-1.0, 0.5, 4.0):
        np.testing.assert_allclose(found.log_density([y]), np.log(joint(y) / total), rtol=ROUNDING)
        np.testing.assert_allclose(found.cdf([y]), [integral(joint, high=y) / total], rtol=ROUNDING)


def test_conditional_of_one_component_is_the_textbook_normal():
    components = make_components(S=1, K=1, D=4)
    mean, C = components.means[0, 0], components.covariances[0, 0]
    x, y = np.array([0.7, -1.2]), np.array([1.1, -0.4])
    given, wanted = [3, 1], [0, 2]
    B = C[np.ix_(wanted, given)] @ np.linalg.inv(C[np.ix_(given, given)])
    location = mean[wanted] + B @ (x - mean[given])
    scale = C[np.ix_(wanted, wanted)] - B @ C[np.ix_(given, wanted)]
    found = conditional(components, given, x)
    assert found.features == (0, 2)
    assert found.given == (3, 1)
    np.testing.assert_allclose(found.mean(), location, rtol=ROUNDING)
    np.testing.assert_allclose(found.covariance(), scale, rtol=ROUNDING)
    np.testing.assert_allclose(found.sd(), np.diag(scale) ** 0.5, rtol=ROUNDING)
    law = stats.multivariate_normal(location, scale)
    np.testing.assert_allclose(found.log_density(y), law.logpdf(y), rtol=ROUNDING)
    by_feature = stats.norm(location, np.diag(scale) ** 0.5)
    np.testing.assert_allclose(found.cdf(y), by_feature.cdf(y), rtol=ROUNDING)
    p = np.array([1e-8, 0.1, 0.5, 0.8])
    expected = by_feature.ppf(p[:, np.newaxis]).T
    np.testing.assert_allclose(found.quantile(p), expected, rtol=ROUNDING)


def test_marginal_is_the_mixture_of_the_blocks_of_its_features():
    components = make_components(S=3, K=2, D=4)
    Y = np.random.default_rng(1).normal(scale=3.0, size=(7, 2))
    found = marginal(components, [2, 0])
    expected = joint_density(select_components(components, D=[2, 0]))(Y)
    np.testing.assert_allclose(found.log_density(Y), np.log(expected), rtol=ROUNDING)
    np.testing.assert_allclose(found.weights, components.weights / 3, rtol=8 * EPS)
    np.testing.assert_array_equal(found.means, components.means[:, :, [2, 0]])
    blocks = components.covariances[:, :, [2, 0]][:, :, :, [2, 0]]
    np.testing.assert_allclose(found.covariances, blocks, rtol=ROUNDING)


@pytest.mark.parametrize("given", [[0], [2], [0, 1], [3, 1], [2, 0, 3]])
def test_joint_density_is_marginal_times_conditional(given):
    """log p(x, y) - log p(x) = log p(y given x), with draws weighted by their density of x."""
    components = make_components(S=5, K=3, D=4)
    X = np.random.default_rng(2).normal(scale=4.0, size=(20, 4))
    found = conditional(components, given, X[:, given])
    of_all = marginal(components, range(4)).log_density(X)
    np.testing.assert_allclose(of_all, np.log(joint_density(components)(X)), rtol=ROUNDING)
    of_given = marginal(components, given).log_density(X[:, given])
    rest = list(found.features)
    np.testing.assert_allclose(
        found.log_density(X[:, rest]), of_all - of_given, rtol=ROUNDING, atol=ROUNDING
    )


def test_draws_that_explain_x_count_for_more():
    """Two draws of one component each: the weights are those of Bayes' theorem."""
    components = ComponentDraws(
        weights=np.ones((2, 1)),
        means=np.array([[[0.0, -5.0]], [[3.0, 5.0]]]),
        covariances=np.broadcast_to(np.eye(2), (2, 1, 2, 2)),
    )
    density = stats.norm.pdf(1.0, [0.0, 3.0])
    found = conditional(components, [0], [1.0])
    np.testing.assert_allclose(found.weights[:, 0], density / density.sum(), rtol=8 * EPS)
    np.testing.assert_allclose(found.mean(), np.diff(density) * 5.0 / density.sum(), rtol=16 * EPS)


def test_mean_and_covariance_are_those_of_weights_means_and_covariances():
    components = make_components(S=4, K=3, D=5)
    X = np.random.default_rng(3).normal(scale=3.0, size=(6, 2))
    found = conditional(components, [1, 4], X)
    w, m, C = found.weights, found.means, found.covariances
    assert w.shape == (6, 4, 3)
    assert m.shape == (6, 4, 3, 3)
    assert C.shape == (4, 3, 3, 3)
    np.testing.assert_allclose(w.sum(axis=(1, 2)), 1.0, rtol=16 * EPS)
    mean = np.einsum("nsk,nskd->nd", w, m)
    second = np.einsum("nsk,skde->nde", w, C) + np.einsum("nsk,nskd,nske->nde", w, m, m)
    covariance = second - mean[:, :, np.newaxis] * mean[:, np.newaxis]
    np.testing.assert_allclose(found.mean(), mean, rtol=ROUNDING)
    np.testing.assert_allclose(found.covariance(), covariance, rtol=ROUNDING, atol=ROUNDING)
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(found.sd(), variance**0.5, rtol=ROUNDING)


def test_results_far_from_zero_in_narrow_units_are_only_shifted_and_scaled():
    """A million sds from zero, and 1e12 between the scales of the features."""
    components = make_components(S=2, K=2, D=3)
    shift, scale = np.array([1e6, -1e-6, 0.0]), np.array([1.0, 1e-12, 1e3])
    moved = ComponentDraws(
        components.weights,
        shift + scale * components.means,
        scale[:, np.newaxis] * scale * components.covariances,
    )
    x = np.array([0.5, 1.0])
    before = conditional(components, [0, 1], x)
    after = conditional(moved, [0, 1], shift[:2] + scale[:2] * x)
    # The rows are rounded at 1e6 sds: 1e6 eps, and some factor of condition.
    np.testing.assert_allclose(after.mean() / 1e3, before.mean(), rtol=1e-7)
    np.testing.assert_allclose(after.interval() / 1e3, before.interval(), rtol=1e-7)
    np.testing.assert_allclose(after.sd() / 1e3, before.sd(), rtol=1e-7)


def test_a_component_of_weight_zero_does_not_contribute():
    components = make_components(S=2, K=3, D=2)
    weights = components.weights.copy()
    weights[:, 1] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    empty = components._replace(weights=weights)
    without = select_components(empty, K=[0, 2])
    a, b = conditional(empty, [0], [1.0]), conditional(without, [0], [1.0])
    np.testing.assert_allclose(a.log_density([2.0]), b.log_density([2.0]), rtol=ROUNDING)
    np.testing.assert_allclose(a.interval(), b.interval(), rtol=ROUNDING)


@pytest.mark.parametrize("given", [[], [0], [2, 0]])
def test_results_do_not_depend_on_the_order_of_components_draws_and_features(given):
    components = make_components(S=3, K=3, D=4)
    order = np.array([2, 3, 1, 0])
    shuffled = select_components(select_components(components, S=[1, 2, 0], K=[2, 0, 1]), D=order)
    place = {int(old): new for new, old in enumerate(order)}
    x = np.array([0.8, -1.7])[: len(given)]
    wanted = [d for d in range(4) if d not in given]
    first = predictive_mixture(components, tuple(given), x, tuple(wanted))
    other = predictive_mixture(
        shuffled, tuple(place[d] for d in given), x, tuple(place[d] for d in wanted)
    )
    y = np.arange(len(wanted)) - 0.5
    for name in ("mean", "sd", "covariance", "interval"):
        np.testing.assert_allclose(
            getattr(first, name)(), getattr(other, name)(), rtol=ROUNDING, atol=ROUNDING
        )
    np.testing.assert_allclose(first.log_density(y), other.log_density(y), rtol=ROUNDING)
    np.testing.assert_allclose(first.cdf(y), other.cdf(y), rtol=ROUNDING)


def test_values_whose_density_underflows_are_an_error():
    components = make_components(S=2, K=2, D=2)
    found = conditional(components, [0], [[0.0], [1e200]])
    with pytest.raises(ValueError, match=r"\[1e\+200\] are so far from all components"):
        found.mean()
    # Less far: the component whose density decreases most slowly has all the weight.
    far = conditional(components, [0], [1e100])
    assert far.weights.max() == 1.0
    assert np.isfinite(far.interval()).all()


# --- Quantiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.999])
def test_interval_has_the_stated_probability(level):
    found = conditional(make_components(S=4, K=3, D=3), [1], np.linspace(-6, 6, 9)[:, np.newaxis])
    ends = found.interval(level)
    assert ends.shape == (9, 2, 2)
    low, high = found.cdf(ends[..., 0]), found.cdf(ends[..., 1])
    np.testing.assert_allclose(low, (1 - level) / 2, rtol=ROUNDING)
    np.testing.assert_allclose(high - low, level, rtol=ROUNDING)


def test_quantiles_are_the_inverse_of_the_cdf():
    found = marginal(make_components(S=5, K=3, D=2), [0, 1])
    y = np.linspace(-5, 5, 11)
    p = found.cdf(np.column_stack([y, y]))
    for feature in range(2):
        np.testing.assert_allclose(found.quantile(p[:, feature])[feature], y, atol=1e-9)


# --- Shapes, blocks -----------------------------------------------------------------------


def test_shapes_of_results_follow_those_of_the_values():
    components = make_components(S=3, K=2, D=3)
    for M in ((), (1,), (5,)):
        found = conditional(components, [0], np.zeros((*M, 1)))
        assert found.weights.shape == (*M, 3, 2)
        assert found.means.shape == (*M, 3, 2, 2)
        assert found.covariances.shape == (3, 2, 2, 2)
        assert found.mean().shape == found.sd().shape == (*M, 2)
        assert found.covariance().shape == (*M, 2, 2)
        assert found.interval().shape == (*M, 2, 2)
        assert found.quantile(0.5).shape == (*M, 2)
        assert found.quantile(np.full((4, 6), 0.5)).shape == (*M, 2, 4, 6)
        assert found.quantile([]).shape == (*M, 2, 0)
        assert found.sample(4).shape == (4, *M, 2)
        assert np.shape(found.log_density(np.zeros(2))) == M
        assert found.log_density(np.zeros((7, *M, 2))).shape == (7, *M)
        assert found.cdf(np.zeros((7, *M, 2))).shape == (7, *M, 2)
    grid = np.linspace(-1, 1, 4)[:, np.newaxis, np.newaxis] * np.ones(2)
    assert found.log_density(grid).shape == (4, 5)
    assert marginal(components, [1]).log_density(np.zeros((0, 1))).shape == (0,)
    assert marginal(components, [1]).cdf(np.zeros((0, 1))).shape == (0, 1)


def test_results_of_a_row_do_not_depend_on_the_other_rows():
    components = make_components(S=3, K=2, D=3)
    X = np.random.default_rng(4).normal(scale=3.0, size=(5, 1))
    Y = np.random.default_rng(5).normal(scale=3.0, size=(4, 5, 2))
    together = conditional(components, [1], X)
    for row in range(5):
        alone = conditional(components, [1], X[row])
        for of_all, of_one in (
            (together.mean()[row], alone.mean()),
            (together.covariance()[row], alone.covariance()),
            (together.interval()[row], alone.interval()),
            (together.weights[row], alone.weights),
            (together.means[row], alone.means),
            (together.log_density(Y)[:, row], alone.log_density(Y[:, row])),
            (together.cdf(Y)[:, row], alone.cdf(Y[:, row])),
        ):
            np.testing.assert_allclose(of_all, of_one, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("budget", [1, 40, 300])
@pytest.mark.parametrize("M", [(), (7,)])
def test_results_do_not_depend_on_the_memory_budget(budget, M):
    components, values = make_components(S=3, K=2, D=4), np.ones((*M, 2)) * np.arange(1, 3)
    whole = conditional(components, [1, 2], values)
    in_blocks = conditional(components, [1, 2], values, budget=budget)
    Y = np.random.default_rng(6).normal(scale=3.0, size=(3, *M, 2))
    results = {
        "weights": lambda law: law.weights,
        "means": lambda law: law.means,
        "mean": lambda law: law.mean(),
        "sd": lambda law: law.sd(),
        "covariance": lambda law: law.covariance(),
        "log_density": lambda law: law.log_density(Y),
        "cdf": lambda law: law.cdf(Y),
        "quantile": lambda law: law.quantile([0.1, 0.3, 0.8]),
        "sample": lambda law: law.sample(5, seed=1),
    }
    for name, result in results.items():
        found, expected = result(in_blocks), result(whole)
        np.testing.assert_allclose(found, expected, rtol=ROUNDING, err_msg=name)


def test_memory_of_many_rows_is_bounded():
    """40,000 rows x 200 components x 2 features: the means alone would be 16 million numbers."""
    components = make_components(S=50, K=4, D=3)
    X = np.linspace(-5, 5, 40_000)[:, np.newaxis]
    rows = [X[i] for i in (0, -1)]
    found = conditional(components, [0], X)
    tracemalloc.start()
    try:
        mean = found.mean()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**24
    ends = [conditional(components, [0], row).mean() for row in rows]
    np.testing.assert_allclose(mean[[0, -1]], ends, rtol=ROUNDING)


# --- Draws --------------------------------------------------------------------------------


def test_draws_follow_the_mixture():
    """Each feature by its cdf, and a sum of features by the mixture of its normals."""
    found = conditional(make_components(S=3, K=2, D=3), [1], [[-2.0], [1.5]])
    draws = found.sample(20_000, seed=3)
    a = np.array([1.0, -2.0])
    w, m = found.weights, found.means @ a
    sd = np.sqrt(np.einsum("d,skde,e->sk", a, found.covariances, a))
    below = stats.norm.cdf((draws @ a)[..., np.newaxis, np.newaxis], m, sd)
    u = np.concatenate([found.cdf(draws), (w * below).sum(axis=(-2, -1))[..., np.newaxis]], axis=2)
    # Six tests, each with a false alarm of 1e-6.
    assert all(
        stats.kstest(u[:, row, i], stats.uniform.cdf).pvalue > FALSE_ALARM
        for row in range(2)
        for i in range(3)
    )
    np.testing.assert_array_equal(found.sample(5, seed=1), found.sample(5, seed=1))
    assert not np.array_equal(found.sample(5, seed=1), found.sample(5, seed=2))


# --- As a value ---------------------------------------------------------------------------


def test_repr_names_features_rows_and_draws():
    law = conditional(make_components(S=4, K=2, D=3), [2, 0], [[0.5, 1.0], [1.5, 1.0]])
    assert repr(law) == (
        "<PredictiveMixture: feature 1 given features 2, 0 in 2 rows, 4 draws of 2 components>"
    )
    law = marginal(make_components(S=4, K=2, D=3), [0, 1])
    assert repr(law) == "<PredictiveMixture: features 0, 1, 4 draws of 2 components>"


def test_arrays_and_attributes_are_read_only():
    law = conditional(make_components(S=4, K=2, D=3), [0], [[0.5], [1.5]])
    with pytest.raises(ValueError, match="read-only"):
        law.values[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        law.parts.y_means[0] = 1.0
    with pytest.raises(AttributeError):
        law.features = (1,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda law: law.log_density([1.0]), ValueError, r"last axis of 2.*got shape \(1,\)"),
        (lambda law: law.log_density(1.0), ValueError, r"last axis of 2.*got shape \(\)"),
        (
            lambda law: law.log_density(np.zeros((4, 2))),
            ValueError,
            "one point for each of the 3 given rows",
        ),
        (lambda law: law.log_density([1.0, np.inf]), ValueError, "Y must be finite"),
        (lambda law: law.log_density(["a", "b"]), TypeError, "Y must hold real numbers"),
        (lambda law: law.cdf([1.0, np.nan]), ValueError, "Y must be numbers"),
        (
            lambda law: law.cdf(np.zeros((4, 2))),
            ValueError,
            "one point for each of the 3 given rows",
        ),
        (lambda law: law.quantile(0.0), ValueError, "between 0 and 1, both excluded; got 0"),
        (lambda law: law.quantile([0.5, 1.0]), ValueError, "between 0 and 1, both excluded"),
        (lambda law: law.quantile(np.nan), ValueError, "between 0 and 1, both excluded"),
        (
            lambda law: law.interval(1.0),
            ValueError,
            r"one number between 0 and 1, both excluded.*got 1\.0",
        ),
        (lambda law: law.interval([0.5, 0.9]), ValueError, "one number between 0 and 1"),
        (lambda law: law.sample(0), ValueError, "n must be at least 1"),
        (lambda law: law.sample(5, seed=-1), ValueError, "seed must not be negative"),
    ],
)
def test_bad_arguments_of_a_predictive_mixture_are_refused(call, error, message):
    law = conditional(make_components(S=4, K=2, D=3), [0], [[1.0], [2.0], [3.0]])
    with pytest.raises(error, match=message):
        call(law)


def test_cdf_of_infinity_is_zero_or_one():
    law = conditional(make_components(S=4, K=2, D=3), [0], [1.0])
    assert law.cdf([-np.inf, 0.0])[0] == 0.0
    np.testing.assert_allclose(law.cdf([np.inf, np.inf]), 1.0, rtol=16 * EPS)  # sum of the weights
