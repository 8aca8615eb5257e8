"""Fits of rows A x + b under a prior moved likewise: the same labels, draws and evidence.

A full or a tied covariance form is closed under every linear map of the features, so that the
posterior moves with the rows. Rows are whitened, and the fit itself therefore hardly depends on A.
"""

import numpy as np
import pytest
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS

N, K, D = 150, 2, 3
DRAWS = 4_000
Root = tfd.JointDistributionCoroutine.Root


def rows():
    """Return two elongated clusters that overlap a little: float64 [N, D]."""
    rng = np.random.default_rng(0)
    label = rng.random(N) < 0.4
    noise = rng.standard_normal((N, D)) @ [[1.0, 0.8, 0.0], [0.0, 0.5, -0.3], [0.0, 0.0, 1.0]]
    return noise + np.where(label[:, np.newaxis], [3.0, 2.0, 0.0], [-1.0, -2.0, 1.0])


def random_map(condition, seed):
    """Draw A [D, D], with the given condition number and sign of determinant, and b [D]."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.standard_normal((D, D)))
    right, _ = np.linalg.qr(rng.standard_normal((D, D)))
    sizes = 10.0 * condition ** np.linspace(-0.5, 0.5, D)
    A = left @ np.diag(sizes) @ right
    return A, A @ rng.uniform(-20.0, 20.0, D)


def prior_moved_by(A, b, form):
    """Return a prior of the rows A x + b.

    Means are normal with correlated features. W(df, V) precisions become W(df, A^-T V A^-1).
    """
    covariance = 16.0 * (np.eye(D) + 0.5)
    loc, factor = b + A @ [0.5, 0.0, 0.0], np.linalg.cholesky(A @ covariance @ A.T)
    inverse = np.linalg.inv(A)
    scale_tril = np.linalg.cholesky(inverse.T @ np.diag([0.5, 1.0, 0.3]) @ inverse)

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        means = tfd.MultivariateNormalTriL(loc, factor)
        yield Root(tfd.Sample(means, K, name="means"))
        precisions = tfd.WishartTriL(np.float64(D + 2.0), scale_tril)
        yield Root(tfd.Sample(precisions, [K] if form == "full" else [], name="precisions"))

    return prior


def fitted(A, b, form):
    """Fit rows A x + b; the first of the means to start from stays the first component."""
    init = np.array([[3.0, 2.0, 0.0], [-1.0, -2.0, 1.0]])
    return bgmm_jd.fit(
        rows() @ A.T + b,
        K,
        covariance=form,
        prior=prior_moved_by(A, b, form),
        init=init @ A.T + b,
        progress=False,
    )


def original_units(draws, A, b):
    """Return draws of the fit of rows A x + b in the units of x."""
    return {
        "weights": draws["weights"],
        "means": np.linalg.solve(A, (draws["means"] - b)[..., np.newaxis])[..., 0],
        "precisions": A.T @ draws["precisions"] @ A,
    }


def assert_equal_moments(one, other):
    """Compare means and mean squares of two independent sets of draws, within 5 standard errors.

    Draws that were resampled by importance weights are fewer than DRAWS distinct ones: their number
    is counted. Some 70 comparisons: a false alarm of 4e-5.
    """
    distinct = min(len(np.unique(draws["weights"], axis=0)) for draws in (one, other))
    for name in one:
        for power in (1, 2):
            a, b = one[name] ** power, other[name] ** power
            error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / distinct)
            assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 5.0 * error), name


@pytest.mark.slow
@pytest.mark.parametrize(("condition", "seed", "form"), [(30.0, 2, "tied"), (1e4, 3, "full")])
def test_fit_moves_with_the_rows_and_the_prior(condition, seed, form):
    """The bound on the elbo is 0.05 nats of the fits' tolerance, and 5 standard errors."""
    A, b = random_map(condition, seed)
    plain, moved = fitted(np.eye(D), np.zeros(D), form), fitted(A, b, form)
    assert plain.status.good
    assert moved.status.good
    np.testing.assert_array_equal(
        bgmm_jd.predict(moved, rows() @ A.T + b), bgmm_jd.predict(plain, rows())
    )
    difference = moved.elbo + N * np.linalg.slogdet(A)[1] - plain.elbo
    assert abs(difference) < 0.05 + 5.0 * np.hypot(plain.elbo_se, moved.elbo_se)
    # Different seeds: the two sets of draws are independent.
    assert_equal_moments(
        original_units(moved.sample(DRAWS, seed=2), A, b), plain.sample(DRAWS, seed=1)
    )


def map_of_group(form):
    """Draw A and b under which the form of covariance stays the same."""
    A, b = random_map(1e4 if form == "full" else 30.0, 5)
    if form == "diag":
        return np.diag([0.03, 5.0, 200.0]), b
    if form == "spherical":
        rotation, _ = np.linalg.qr(A)
        return 7.0 * rotation, b
    return A, b


def own_units(draws, A, b, form):
    """Return draws of rows A x + b in the units of x, in any form."""
    if form in MATRIX_FORMS:
        return original_units(draws, A, b)
    means = np.linalg.solve(A, (draws["means"] - b)[..., np.newaxis])[..., 0]
    scales = np.diag(A) if form == "diag" else 7.0
    return {
        "weights": draws["weights"],
        "means": means,
        "precisions": draws["precisions"] * scales**2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_default_prior_and_starts_move_with_the_rows(form):
    """By the maps of each form's own group. The order of the components may change: two of them."""
    A, b = map_of_group(form)
    X, moved_rows = rows(), rows() @ A.T + b
    plain, moved = (bgmm_jd.fit(x, K, covariance=form, progress=False) for x in (X, moved_rows))
    assert plain.status.good
    assert moved.status.good
    difference = moved.elbo + N * np.linalg.slogdet(A)[1] - plain.elbo
    assert abs(difference) < 0.05 + 5.0 * np.hypot(plain.elbo_se, moved.elbo_se)
    labels, moved_labels = bgmm_jd.predict(plain, X), bgmm_jd.predict(moved, moved_rows)
    is_reversed = moved_labels[0] != labels[0]
    np.testing.assert_array_equal(1 - moved_labels if is_reversed else moved_labels, labels)
    draws = own_units(moved.sample(DRAWS, seed=2), A, b, form)
    if is_reversed:
        draws = {
            name: draw if form == "tied" and name == "precisions" else draw[:, ::-1]
            for name, draw in draws.items()
        }
    assert_equal_moments(draws, plain.sample(DRAWS, seed=1))


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_surrogate_of_moved_rows_is_in_their_units(form):
    """Its moments are those of uncalibrated draws, within 5 standard errors as above."""
    A, b = random_map(1e4, 4)
    posterior = fitted(A, b, form)
    members = posterior.surrogate.sample(DRAWS, seed=(0, 7))
    found = {name: np.asarray(draw) for name, draw in members._asdict().items()}
    drawn = posterior.sample(DRAWS, seed=3, calibrate=False)
    assert_equal_moments(original_units(found, A, b), original_units(drawn, A, b))
    assert np.all(np.isfinite(posterior.surrogate.log_prob(members)))


def half_normal_prior(units):
    """Return a prior of rows in other units [D], whose standard deviations have no family."""

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        means = tfd.Normal(np.zeros((K, D)), 5.0 * units * np.ones((K, 1)))
        yield Root(tfd.Independent(means, 2, name="means"))
        scales = tfd.HalfNormal(3.0 * units * np.ones((K, 1)))
        yield Root(tfd.Independent(scales, 2, name="scales"))

    return prior


def test_positive_variables_of_own_priors_move_with_the_units():
    """Their coordinates are logarithms, which units shift: the fit takes the same steps.

    So the bounds are those of rounding, which some hundred steps amplify.
    """
    units = np.array([1e-4, 1.0, 1e5])
    plain, moved = (
        bgmm_jd.fit(
            rows() * of_rows,
            K,
            prior=half_normal_prior(of_rows),
            execution="graph",
            restarts=1,
            finish="none",
            progress=False,
        )
        for of_rows in (np.ones(D), units)
    )
    assert moved.status is plain.status
    assert abs(moved.elbo + N * np.log(units).sum() - plain.elbo) < 1e-6 * abs(plain.elbo)
    draws, moved_draws = plain.sample(100), moved.sample(100)
    np.testing.assert_allclose(moved_draws["scales"] / units, draws["scales"], rtol=1e-5)
    np.testing.assert_allclose(moved_draws["weights"], draws["weights"], rtol=1e-5)
