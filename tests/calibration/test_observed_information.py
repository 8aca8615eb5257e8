"""The observed information against differences of gradients of the log joint density."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.calibration import observed_information as module
from bgmm_jd.calibration.observed_information import observed_information, rows_per_slice
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.model.priors import stick_breaking_prior
from bgmm_jd.settings import MemorySettings, Settings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import coordinate_layout, unflatten
from bgmm_jd.variational.evaluation import statistics_are_accurate
from bgmm_jd.variational.log_joint import log_joint

N, K, D = 61, 3, 2
# Differences over so many posterior sds. Their error is this squared times a fourth derivative,
# which is of the size of the second one in these units, and eps over this by rounding.
STEP = 1e-3
TOLERANCE = 1e-4  # of the largest entry; leaving out the products of scores would make it 1e-1
Root = tfd.JointDistributionCoroutine.Root


def rows(weights=False, missing=False):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(N, D)) + rng.choice([-2.0, 0.0, 2.0], (N, 1))
    if missing:
        X[rng.random(X.shape) < 0.2] = np.nan
    return X, rng.uniform(0.2, 2.0, N) if weights else None


def prior_of(**parts):
    """Return a float64 prior; a part that is a function takes the variables before it."""

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
    """Return a prior in which the sd of the means is a variable of its own."""

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
    """Return a problem, and the mean and sd of its start: no maximum, where more can go wrong."""
    case = dict(case)
    components, covariance = case.pop("K", K), case.pop("covariance", "diag")
    prior = case.pop("prior", lambda: None)()
    X, weight = rows(**case)
    problem = problem_for(
        X, components, covariance, prior=prior, weight=weight, execution=execution
    )
    points = draw_mean_field(problem, started(problem).params, 100, seed=0).points
    return problem, points.mean(axis=0), points.std(axis=0)


def by_gradients(problem, mean, sd):
    """Return minus the second derivatives in units of sd, by differences of gradients."""
    P, model = len(mean), problem.standardized_model
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    points = tf.constant(mean + STEP * sd * sides)
    with tf.GradientTape() as tape:
        tape.watch(points)
        theta, log_det_jacobian = unflatten(model, points)
        density = log_joint(model, theta, as_row_tensors(problem.data.rows)) + log_det_jacobian
    slope = tape.gradient(density, points).numpy() * sd
    return (slope[P:] - slope[:P]) / (2.0 * STEP)


def values_at(problem, mean):
    return unflatten(problem.standardized_model, tf.constant(mean[np.newaxis]))[0]


def by_steps(problem, mean, sd):
    """Return the observed information in units of sd, by steps of `STEP` sds."""
    return observed_information(problem, mean, STEP * sd) / STEP**2


@pytest.mark.parametrize("name", CASES)
def test_information_is_minus_the_hessian(name):
    problem, mean, sd = at_start(CASES[name])
    expected = by_gradients(problem, mean, sd)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(expected, expected.T, atol=TOLERANCE * largest)
    found = by_steps(problem, mean, sd)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12 * largest)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * largest)
    # Components overlap, so that their parameters depend on each other.
    if problem.model.K > 1:
        layout = coordinate_layout(problem.standardized_model)
        between = expected[np.ix_(layout.own[0], layout.own[1])]
        assert np.abs(between).max() > 10 * TOLERANCE * largest


@pytest.mark.parametrize(
    "name", ["diag", "full", "tied", "spherical", "scales, full", "hierarchical"]
)
def test_information_by_statistics_is_that_by_log_densities(name, monkeypatch):
    problem, mean, sd = at_start(CASES[name])
    expected = by_steps(problem, mean, sd)
    assert statistics_are_accurate(problem, values_at(problem, mean))
    monkeypatch.setattr(module, "statistics_are_accurate", lambda *_: False)
    found = by_steps(problem, mean, sd)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("rows_at_once", [17, 60])
def test_information_is_the_same_by_slices_that_do_not_divide_the_rows(rows_at_once):
    """The same sums in another order: in float64, by differences over 1e-3 sds."""
    problem, mean, sd = at_start(CASES["full, weights, missing"])
    expected = by_steps(problem, mean, sd)
    points = 1 + 2 * 5  # two means and three entries of a matrix, on either side
    memory = MemorySettings(curvature=rows_at_once * points * K * D * D)
    in_slices = replace(problem, settings=Settings(memory=memory))
    assert rows_per_slice(in_slices, points) == rows_at_once
    found = by_steps(in_slices, mean, sd)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_fixed_variables_have_no_information():
    """A single component has no weights, and fixed scales have no coordinates."""
    problem, mean, _ = at_start(CASES["one component"])
    layout = coordinate_layout(problem.standardized_model)
    assert layout.size == len(mean) == 5  # two means and three entries of a matrix
    assert layout.own.shape == (1, 5)
    fixed = tfd.Independent(tfd.Deterministic(np.ones((K, D))), 2, name="scales")
    prior = prior_of(**usual("weights", "means"), scales=fixed)
    problem, mean, sd = at_start({"prior": lambda: prior})
    assert len(mean) == K - 1 + K * D
    expected = by_gradients(problem, mean, sd)
    atol = TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(by_steps(problem, mean, sd), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("execution", ["graph", "xla"])
def test_compiled_information_equals_the_eager_one(execution):
    """In float64 up to rounding, 1e-16 over differences of 1e-3 sds of hundreds of nats."""
    problem, mean, sd = at_start(CASES["diag"])
    expected = by_steps(problem, mean, sd)
    found = by_steps(replace(problem, execution=execution), mean, sd)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_float32_information_by_steps_of_an_sd_keeps_four_digits():
    """As calibration uses it: one sd to either side, which costs a few of the 7 digits."""
    problem, mean, sd = at_start(CASES["diag"])
    expected = observed_information(problem, mean, sd)
    X, _ = rows()
    single = problem_for(X.astype(np.float32), K, execution="eager")
    found = observed_information(single, mean, sd)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
