"""The curvature at one point against differences of gradients of the log joint density."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.calibration import observed_information as observed_information_module
from bgmm_jd.calibration.observed_information import observed_information
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model.priors import stick_breaking_prior
from bgmm_jd.variational import approximation, coordinates
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.log_joint import log_joint

N, K, D = 61, 3, 2
# Of a posterior sd: differences are then wrong by this squared times a fourth derivative, which is
# of the size of the second in these units, and by rounding, eps over this.
STEP = 1e-3
TOLERANCE = 1e-4  # of the largest entry; products of scores that were left out would be 1e-1
Root = tfd.JointDistributionCoroutine.Root


def rows(weights=False, missing=False):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(N, D)) + rng.choice([-2.0, 0.0, 2.0], (N, 1))
    if missing:
        X[rng.random(X.shape) < 0.2] = np.nan
    return X, rng.uniform(0.2, 2.0, N) if weights else None


def prior_of(**parts):
    """Of independent variables, in float64; a function makes a distribution of those before."""

    def model():
        drawn = {}
        for name, part in parts.items():
            part = part(**drawn) if callable(part) else Root(part)
            drawn[name] = yield part

    return tfd.JointDistributionCoroutine(model)


def over(distribution, name):
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


def usual(*names):
    one = np.ones((K, D))
    everything = {
        "weights": tfd.Dirichlet(2.0 * np.ones(K), name="weights"),
        "means": over(tfd.Normal(0.0 * one, 3.0 * one), "means"),
        "precisions": over(tfd.Gamma(2.0 * one, one), "precisions"),
    }
    return {name: everything[name] for name in names}


def scales_of(kind):
    one = np.ones((K, D))
    if kind == "half-normal":
        return over(tfd.HalfNormal(2.0 * one), "scales")
    if kind == "one for all features":
        return over(tfd.LogNormal(0.0 * one[:, :1], one[:, :1]), "scales")
    lower = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(np.zeros((K, D * (D + 1) // 2)), np.ones((K, 3))),
        tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=None),
    )
    return over(lower, "scales")


def hierarchical():
    """A spread of the means that is a variable of its own."""

    def means(spread, **_):
        sd = spread[..., tf.newaxis, tf.newaxis] * np.ones((K, D))
        return tfd.Independent(tfd.Normal(np.zeros((K, D)), sd), 2, name="means")

    return prior_of(
        weights=usual("weights")["weights"],
        spread=tfd.HalfNormal(np.float64(2.0), name="spread"),
        means=means,
        precisions=usual("precisions")["precisions"],
    )


def scales_prior(kind):
    return prior_of(**usual("weights", "means"), scales=scales_of(kind))


CASES = {
    "diag": {},
    "diag, weights, missing": {"weights": True, "missing": True},
    "full": {"covariance": "full"},
    "full, weights, missing": {"covariance": "full", "weights": True, "missing": True},
    "tied": {"covariance": "tied", "weights": True},
    "tied, missing": {"covariance": "tied", "missing": True},
    "spherical": {"covariance": "spherical"},
    "scales": {"prior": lambda: scales_prior("half-normal")},
    "scales, spherical": {
        "prior": lambda: scales_prior("one for all features"),
        "covariance": "spherical",
    },
    "scales, full": {"prior": lambda: scales_prior("lower"), "covariance": "full"},
    "sticks": {"prior": lambda: stick_breaking_prior(K, D, dtype="float64")},
    "hierarchical": {"prior": hierarchical},
    "one component": {"K": 1, "covariance": "full"},
}


def at_start(case, execution="eager"):
    """A start with no fit, and a point with its sds: not a maximum, where more can go wrong."""
    case = dict(case)
    components, covariance = case.pop("K", K), case.pop("covariance", "diag")
    prior = case.pop("prior", lambda: None)()
    X, weight = rows(**case)
    data = standardize(X, weight, common=covariance == "spherical")
    inside = problem_of(data, components, covariance, prior, execution)
    inside = start_at(inside, None, 1, [0, 0])
    draws = approximation.draw_mean_field(inside, 100, seed=0)
    points = flatten(inside.model.sites, draws.theta, inside.standardization).numpy()
    return inside, points.mean(axis=0), points.std(axis=0)


def by_gradients(inside, mean, sd):
    """Minus the second derivatives in units of sd: differences of gradients at either side."""
    P, units = len(mean), inside.standardization
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    points = tf.constant(mean + STEP * sd * sides)
    with tf.GradientTape() as tape:
        tape.watch(points)
        theta, volume = unflatten(inside.model.sites, points, units)
        density = log_joint(inside.model, theta, units, as_row_tensors(inside.data.rows)) + volume
    slope = tape.gradient(density, points).numpy() * sd
    return (slope[P:] - slope[:P]) / (2.0 * STEP)


def found(inside, mean, sd):
    units, data = inside.standardization, inside.data.rows
    matrix = observed_information(inside.model, data, units, mean, STEP * sd, inside.execution)
    return matrix / STEP**2


@pytest.mark.parametrize("name", CASES)
def test_information_is_minus_the_hessian(name):
    inside, mean, sd = at_start(CASES[name])
    expected = by_gradients(inside, mean, sd)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(expected, expected.T, atol=TOLERANCE * largest)
    matrix = found(inside, mean, sd)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12 * largest)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=TOLERANCE * largest)
    # Components overlap: what one says of another is there to be found.
    if inside.model.K > 1:
        plan = coordinates.coordinate_layout(inside.model, inside.standardization)
        assert np.abs(expected[np.ix_(plan.own[0], plan.own[1])]).max() > 10 * TOLERANCE * largest


@pytest.mark.parametrize("rows_at_once", [17, 60])
def test_slices_need_not_divide_the_rows(rows_at_once, monkeypatch):
    """The same sums in another order: in float64, by differences over 1e-3 sds."""
    inside, mean, sd = at_start(CASES["full, weights, missing"])
    whole = found(inside, mean, sd)
    points = 1 + 2 * 5  # two means and three entries of a matrix, on either side
    monkeypatch.setattr(
        observed_information_module, "_SLICE_NUMBERS", rows_at_once * points * K * D * D
    )
    assert (
        observed_information_module._slice_size(inside.model, inside.data.rows, points)
        == rows_at_once
    )
    cut = found(inside, mean, sd)
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-8 * np.abs(whole).max())


def test_what_the_prior_fixes_has_no_coordinates():
    """One component has no weights: two means and three entries of a matrix."""
    inside, mean, _ = at_start(CASES["one component"])
    plan = coordinates.coordinate_layout(inside.model, inside.standardization)
    assert plan.size == len(mean) == 5
    assert plan.own.shape == (1, 5)
    fixed = tfd.Independent(tfd.Deterministic(np.ones((K, D))), 2, name="scales")
    prior = prior_of(**usual("weights", "means"), scales=fixed)
    case = {"prior": lambda: prior}
    inside, mean, sd = at_start(case)
    assert len(mean) == K - 1 + K * D
    expected = by_gradients(inside, mean, sd)
    atol = TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(found(inside, mean, sd), expected, rtol=0, atol=atol)


def test_layout():
    """Weights first, then means and matrices by component; what is tied is shared."""
    inside, _, _ = at_start(CASES["tied"])
    plan = coordinates.coordinate_layout(inside.model, inside.standardization)
    assert plan.size == 2 + 6 + 3
    np.testing.assert_array_equal(plan.own, [[2, 3], [4, 5], [6, 7]])
    np.testing.assert_array_equal(plan.shared, [8, 9, 10])


def test_compiled_or_not_is_the_same():
    """In float64 by rounding alone, 1e-16 over differences of 1e-3 sds of hundreds of nats."""
    inside, mean, sd = at_start(CASES["diag"])
    expected = found(inside, mean, sd)
    for execution in ("graph", "xla"):
        matrix = found(inside._replace(execution=execution), mean, sd)
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_float32_at_a_whole_sd():
    """As it is used: one sd to either side, in float32, which costs a few of its 7 digits."""
    inside, mean, sd = at_start(CASES["diag"])
    units, data = inside.standardization, inside.data.rows
    expected = observed_information(inside.model, data, units, mean, sd, "eager")
    X, _ = rows()
    prior = bgmm_jd.model.priors.default_prior(K, D, "diag", "float32")
    single = problem_of(standardize(X.astype(np.float32)), K, "diag", prior, "eager")
    single = single._replace(prior_units=inside.prior_units)
    matrix = observed_information(
        single.model, single.data.rows, single.standardization, mean, sd, "eager"
    )
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
