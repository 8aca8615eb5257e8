"""The Wishart distribution against truths that are computed another way.

- Distributions of draws: scipy's distribution functions of quadratic forms, by Kolmogorov-Smirnov
  tests.
- Moments and gradients of expectations: exact values.
- Densities: scipy and tfd in float64; float32 against float64, within the effect of rounding the
  matrices.
- Natural gradients: second derivatives of the closed-form divergence.

See `numerical_checks` for false alarms and tolerances. Seeds are fixed. Matrices consist of float32
numbers, so that both dtypes have the same ones.
"""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import (
    DTYPES,
    FALSE_ALARM,
    ROUNDINGS,
    assert_mean,
    eps,
    has_loops,
    in_every_mode,
    kernel_size,
)
from scipy import special, stats
from tensorflow_probability import distributions as tfd

from bgmm_jd.distributions.gamma import Gamma
from bgmm_jd.distributions.standard_gamma import trigamma_excess
from bgmm_jd.distributions.wishart import (
    AntitheticWishart,
    Wishart,
    WishartTriLOfCholesky,
    product_with_transpose,
    wishart_natural_gradient,
)

SEED = tf.constant([2, 71], tf.int32)


def mean_tril(D, batch=(), seed=0):
    """C [*batch, D, D] of D correlated variables of different scales."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(*batch, D, 3 * D)) * 10.0 ** rng.uniform(-1, 1, size=(D, 1))
    C = np.linalg.cholesky(rows @ np.swapaxes(rows, -1, -2) / (3 * D))
    return C.astype(np.float32).astype(float)


def make_wishart(df, C, dtype=tf.float64, family=Wishart):
    return family(tf.constant(df, dtype), tf.constant(C, dtype))


def stock(df, C):
    """The same distribution by tfd, in float64: its scale matrix is C C^T / df."""
    df = tf.convert_to_tensor(df, tf.float64)
    return tfd.WishartTriL(df, C / tf.sqrt(df)[..., tf.newaxis, tf.newaxis])


def whitened(x, C):
    """L of draws x = C L L^T C^T, in float64."""
    return np.linalg.solve(C, np.linalg.cholesky(np.asarray(x, float)))


def outer_product(v):
    return v[..., :, np.newaxis] * v[..., np.newaxis, :]


# Draws


@pytest.mark.parametrize("family", [Wishart, AntitheticWishart])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("df", [2.125, 2.5, 3.0, 7.0, 300.0, 1e6, 1e8])
def test_quadratic_forms_of_draws_follow_chi_square_distributions(df, dtype, family):
    """v'Xv / v'Mv and v'M^-1 v / v'X^-1 v are chi-squares over df (Muirhead 1982, section 3.2).

    Each half is tested separately, as antithetic partners depend on each other.
    """
    n, D = 20_000, 3
    C = mean_tril(D)
    L = whitened(make_wishart(df, C, dtype, family).sample(n, seed=1), C)
    direction = np.array([0.6, -0.64, 0.48])  # of length 1
    forward = np.sum((direction @ L) ** 2, axis=-1)
    backward = 1 / np.sum(np.linalg.solve(L, direction[:, np.newaxis]) ** 2, axis=(-2, -1))
    # Values below a floor, which this dtype cannot represent accurately, are spread over the
    # probability below it. The floor is far above eps, because a rounding of X along its last axis
    # counts 1 / cos^2 as much along the direction.
    floor = eps(dtype) ** 0.25
    uniform = np.random.default_rng(0).uniform(size=n)
    for ratio, k in ((forward, df), (backward, df - D + 1)):
        chi_square = stats.gamma(k / 2, scale=2 / df)
        u = np.where(ratio < floor, uniform * chi_square.cdf(floor), chi_square.cdf(ratio))
        for half in (u[: n // 2], u[n // 2 :]):
            assert stats.kstest(half, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("df", [3.5, 40.0])
def test_sample_moments_match_the_exact_moments(df):
    D = 4
    C = mean_tril(D)
    distribution = make_wishart(df, C)
    x = distribution.sample(50_000, seed=2).numpy()
    mean = distribution.mean().numpy()
    assert_mean(x, mean)
    assert_mean((x - mean) ** 2, distribution.variance().numpy())
    expected = np.sum(special.digamma((df - np.arange(D)) / 2) + np.log(2 / df))
    assert_mean(2 * np.log(np.linalg.det(whitened(x, C))), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_and_variance_are_those_of_tfd(dtype):
    df, C = np.array([[5.0], [1e6]]), mean_tril(4, (3,))
    distribution, expected = make_wishart(df, C, dtype), stock(df, C)
    for moment in ("mean", "variance", "stddev"):
        found = getattr(distribution, moment)()
        assert found.dtype == dtype
        assert found.shape == [2, 3, 4, 4]
        exact = np.broadcast_to(getattr(expected, moment)(), found.shape)
        # An element of C C^T may be small by cancellation, relative to its row and its column.
        size = np.sqrt(np.einsum("...ii->...i", exact))
        allowed = ROUNDINGS * eps(dtype) * outer_product(size)
        assert np.all(np.abs(found - exact) <= allowed)


@pytest.mark.parametrize("D", [1, 3, 16])
def test_nearly_singular_draws_have_a_cholesky_factor_and_a_density(D):
    """For df at which many draws would round to a singular matrix."""

    def draw(df, C):
        with tf.GradientTape() as tape:
            tape.watch(df)
            x = Wishart(df, C).sample(500, seed=3)
            log_prob = Wishart(df, C).log_prob(x)
        return log_prob, tape.gradient(log_prob, df)

    df = np.array([D - 0.9, D - 0.5, D, D + 1.0])
    for dtype in DTYPES:
        for values in draw(tf.constant(df, dtype), tf.constant(mean_tril(D), dtype)):
            assert np.all(np.isfinite(values))


def test_nearly_singular_draws_have_a_cholesky_factor_under_xla():
    D = 16
    C = tf.constant(mean_tril(D), tf.float32)

    @tf.function(jit_compile=True)
    def factors(df):
        return tf.linalg.cholesky(Wishart(df, C).sample(500, seed=3))

    assert np.all(np.isfinite(factors(tf.constant([D - 0.9, D - 0.5, D, D + 1.0]))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_product_with_transpose_raises_the_diagonal_of_singular_matrices_only(dtype):
    regular = np.array([[2.0, 0.0], [1.0, 3.0]])
    singular = np.array([[2.0, 0.0], [1.0, 1e-9]])
    factors = tf.constant(np.stack([regular, singular]), dtype)
    found = product_with_transpose(factors, 2).numpy()
    np.testing.assert_array_equal(found[0], regular @ regular.T)
    expected = np.array([[4.0, 2.0], [2.0, 1.0]]) + 2 * eps(dtype) * np.diag([4.0, 1.0])
    np.testing.assert_allclose(found[1], expected, rtol=eps(dtype))
    assert np.all(np.isfinite(tf.linalg.cholesky(found)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_wishart_draws_and_gradients_agree_in_every_mode(dtype):
    C = mean_tril(3, (5,))
    scale = np.sqrt(np.sum(C**2, axis=-1))  # square roots of the M_ii

    def draw(df):
        df = tf.broadcast_to(df, [200, 5])  # one for each draw: sums would hide differences
        with tf.GradientTape() as tape:
            tape.watch(df)
            x = Wishart(df, tf.constant(C, dtype)).sample(seed=SEED)
            total = tf.reduce_sum(x / outer_product(tf.constant(scale, dtype)), axis=[-2, -1])
        return x, tape.gradient(total, df)

    df = np.array([2.25, 4.0, 30.0, 1e4, 1e6])
    (x, by_df), *others = in_every_mode(draw, tf.constant(df, dtype))
    # As for Gamma draws: roundings of the log of a draw, which may reach log(tiny).
    tolerance = ROUNDINGS * eps(dtype) * -np.log(np.finfo(dtype.as_numpy_dtype).tiny)
    roots = np.sqrt(tf.linalg.diag_part(x))
    size = np.sum(roots / scale, axis=-1) ** 2
    for other_x, other_by_df in others:
        assert np.all(np.abs(x - other_x) <= tolerance * outer_product(roots))
        assert np.all(np.abs(by_df - other_by_df) <= tolerance * size / (df - 2))


def test_wishart_graph_has_no_loops():
    @tf.function
    def draw(df, C):
        with tf.GradientTape() as tape:
            tape.watch([df, C])
            x = Wishart(df, C).sample(2, seed=SEED)
        return tape.gradient(x, [df, C])

    specs = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, 3, 3], tf.float32)
    assert not has_loops(draw, *specs)


def test_draws_of_unknown_batch_shape_are_those_of_a_known_one():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([None, 2, 2])])
    def draw(df, C):
        return Wishart(df, C).sample(4, seed=SEED)

    C = tf.eye(2, batch_shape=[3])
    np.testing.assert_allclose(draw(5.0, C), Wishart(5.0, C).sample(4, seed=SEED), rtol=1e-4)


def test_broadcast_parameters_have_draws_of_their_own():
    x = Wishart(4.0, tf.eye(2, batch_shape=[50])).sample(seed=SEED).numpy()
    assert len(np.unique(x[:, 1, 0])) == len(np.unique(x[:, 1, 1])) == 50


# Antithetic pairs


def test_antithetic_partners_are_mirrored_below_the_diagonal():
    df, D = 50.0, 3
    C = mean_tril(D)
    L = whitened(make_wishart(df, C, family=AntitheticWishart).sample(2_000, seed=4), C)
    first, second = L[:1_000], L[1_000:]
    rows, columns = np.tril_indices(D, -1)
    np.testing.assert_allclose(
        first[:, rows, columns], -second[:, rows, columns], atol=1e3 * eps(tf.float64)
    )
    # log L_ii^2 is linear in its normal draw except for a square, whose share of the variance is
    # 1 / (18 d), d = (df - 2) / 2 - 1/3; and one draw in 300 has accepted another candidate.
    logs = 2 * np.log(np.stack([np.linalg.det(first), np.linalg.det(second)]))
    assert np.corrcoef(logs)[0, 1] < -0.98


def test_odd_number_of_antithetic_draws_leaves_out_one_partner():
    x = make_wishart(5.0, np.eye(2), family=AntitheticWishart).sample(5, seed=SEED)
    assert x.shape == [5, 2, 2]
    assert len(np.unique(x[:, 1, 0])) == 5


# Gradients of draws


@pytest.mark.parametrize("df", [25.0, 300.0, 1e5])
def test_gradient_by_df_keeps_the_quantiles_of_the_elements(df):
    """From df = 22 on, where all the Gamma draws are of concentrations above 10."""
    n, D = 500, 3
    C = tf.constant(mean_tril(D))
    each = tf.fill([n], tf.constant(df, tf.float64))
    elements = [(i, j) for i in range(D) for j in range(i + 1)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(each)
        x = Wishart(each, C).sample(seed=SEED)
        L = tf.linalg.triangular_solve(tf.broadcast_to(C, x.shape), tf.linalg.cholesky(x))
        picked = [L[:, i, j] for i, j in elements]
    for (i, j), element in zip(elements, picked, strict=True):
        found = tape.gradient(element, each) * df
        element = element.numpy()
        if i > j:
            np.testing.assert_allclose(found, -element / 2, atol=1e-10)
        else:
            # `path_elasticity` states an error of 1e-6; that of the differences is 1e-8.
            moved = element / 2 * log_quantile_slope(element**2, df, i)
            np.testing.assert_allclose(found, moved, atol=2e-6)


def log_quantile_slope(square, df, i):
    """dlog(L_ii^2) / dlog df along its quantile, by central differences of scipy's quantiles."""
    p = stats.gamma((df - i) / 2, scale=2 / df)
    upper = square > 1
    tail = np.where(upper, p.sf(square), p.cdf(square))
    ends = []
    for moved in (df * (1 - 1e-4), df * (1 + 1e-4)):
        q = stats.gamma((moved - i) / 2, scale=2 / moved)
        ends.append(np.log(np.where(upper, q.isf(tail), q.ppf(tail))))
    return (ends[1] - ends[0]) / 2e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("df", [3.5, 6.0, 40.0, 1e4, 1e6])
def test_gradients_by_df_have_the_derivatives_of_expectations_as_means(df, dtype):
    """At a fixed mean, E[X] does not depend on df; E log|X| and E tr (M^-1 X)^2 do."""
    n, D = 20_000, 3
    C = tf.constant(mean_tril(D), dtype)
    each = tf.fill([n], tf.constant(df, dtype))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(each)
        x = Wishart(each, C).sample(seed=SEED)
        L = tf.linalg.triangular_solve(tf.broadcast_to(C, x.shape), tf.linalg.cholesky(x))
        log_det = 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(L)), axis=-1)
        trace = tf.reduce_sum(tf.matmul(L, L, transpose_a=True) ** 2, axis=[-2, -1])
        element = x[:, 2, 1]
    values = [tape.gradient(y, each).numpy().astype(float) for y in (log_det, trace, element)]
    # By the variances of the elements, E tr (M^-1 X)^2 = D + D (D + 1) / df.
    trigammas = special.polygamma(1, (df - np.arange(D)) / 2)
    expected = [np.sum(trigammas) / 2 - D / df, -D * (D + 1) / df**2, 0.0]
    for value, exact in zip(values, expected, strict=True):
        assert_mean(value, exact)


@pytest.mark.parametrize("family", [Wishart, AntitheticWishart])
def test_gradient_by_the_mean_matches_central_differences(family):
    """Draws are quadratic in C, so that central differences are exact for any step."""
    D = 4
    C = mean_tril(D)
    weight = np.random.default_rng(5).normal(size=(6, D, D))

    def weighted_sum(C):
        return tf.reduce_sum(weight * family(tf.constant(7.0, tf.float64), C).sample(6, seed=SEED))

    with tf.GradientTape() as tape:
        point = tf.constant(C)
        tape.watch(point)
        value = weighted_sum(point)
    found = tape.gradient(value, point)
    for i, j in zip(*np.tril_indices(D), strict=True):
        step = np.zeros((D, D))
        step[i, j] = 0.1
        expected = (weighted_sum(tf.constant(C + step)) - weighted_sum(tf.constant(C - step))) / 0.2
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-9, atol=1e-9 * np.abs(value))


# Densities


def log_prob_by_scipy(x, df, C):
    """The log density of x [n, D, D], and the size of the terms that it is the sum of."""
    D = len(C)
    scale = C @ C.T / df
    value = stats.wishart(df, scale).logpdf(np.moveaxis(x, 0, -1)).reshape(len(x))
    log_dets = np.abs(np.linalg.slogdet(x)[1]) + np.abs(np.linalg.slogdet(scale)[1])
    traces = np.trace(np.linalg.solve(scale, x), axis1=-2, axis2=-1)
    size = df * (log_dets + D) + traces + np.abs(special.multigammaln(df / 2, D))
    return value, size


@pytest.mark.parametrize("D", [1, 2, 5, 16])
@pytest.mark.parametrize("above", [-0.5, 0.0, 3.3, 100.0, 1e4, 1e6])
def test_log_prob_is_that_of_scipy(D, above):
    df, C = D + above, mean_tril(D)
    x = make_wishart(D + 20.0, C).sample(10, seed=6).numpy()  # mostly far out
    if above > 1:
        x = np.concatenate([x, make_wishart(df, C).sample(10, seed=7), [C @ C.T]])
    exact, size = log_prob_by_scipy(x, df, C)
    # Determinants and solutions have errors of some D roundings, and so has C C^T.
    allowed = ROUNDINGS * D * eps(tf.float64) * size
    if above < 1e3:
        assert np.all(allowed < 1e-10 * (1e3 + np.abs(exact)))  # or the bound would be no test
    assert np.all(np.abs(make_wishart(df, C).log_prob(x) - exact) < allowed)


@pytest.mark.parametrize("D", [1, 4])
@pytest.mark.parametrize("df", [4.7, 30.0, 1e3])
def test_gradients_of_log_prob_are_those_of_tfd(D, df):
    C = tf.constant(mean_tril(D))
    df = tf.constant(df, tf.float64)
    x = make_wishart(D + 20.0, C).sample(5, seed=8)
    gradients = []
    for make in (Wishart, stock):
        with tf.GradientTape() as tape:
            tape.watch([x, df, C])
            log_prob = make(df, C).log_prob(x)
        by_x, by_df, by_C = tape.gradient(log_prob, [x, df, C])
        # Multiplied by C to be free of scales, and without elements above the diagonal.
        whitened_by_x = tf.matmul(C, tf.matmul(by_x, C), transpose_a=True)
        whitened_by_C = tf.linalg.band_part(tf.matmul(C, by_C, transpose_a=True), -1, 0)
        gradients.append([whitened_by_x, by_df, whitened_by_C])
    # Sums of a few dozen terms of size df; L^-1 contributes a factor that is below 100 here.
    for found, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e4 * eps(tf.float64) * df)


def value_and_gradient(df, C, x):
    """log_prob [...], and its derivative by W [..., D, D], where x = C W C^T."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = Wishart(df, C).log_prob(x)
    gradient = tape.gradient(log_prob, x)
    return log_prob, tf.matmul(C, tf.matmul(gradient, C), transpose_a=True)


@pytest.mark.parametrize("D", [2, 16])
def test_log_prob_in_float32_has_the_error_of_a_few_roundings_for_large_df(D):
    """Of roundings of x and C, whatever df.

    Cholesky's decomposition and triangular solves give the exact results for matrices with D
    roundings in each element, which add up as the square root of D. The effect of one rounding in
    each element is computed in float64. (The terms of the usual formula are 1e8 at D = 16 and
    df = 1e6, so that its error in float32 is several nats.)
    """
    df = D + np.array([1.5, 30.0, 1e4, 1e6])
    C = mean_tril(D)
    x = make_wishart(df, C, tf.float32).sample(10, seed=9).numpy().astype(float)
    exact = [v.numpy() for v in value_and_gradient(*map(tf.constant, (df, C, x)))]

    rng = np.random.default_rng(10)
    squares = [0.0, 0.0]
    for _ in range(20):
        noise = np.tril(rng.normal(size=x.shape))
        noise += np.swapaxes(np.tril(noise, -1), -1, -2)
        moved_x = x * (1 + eps(tf.float32) * noise)
        moved_C = C * (1 + eps(tf.float32) * rng.normal(size=(D, D)))
        moved = value_and_gradient(*map(tf.constant, (df, moved_C, moved_x)))
        squares = [s + (m - e) ** 2 for s, m, e in zip(squares, moved, exact, strict=True)]
    sensitivity = [np.sqrt(s / 20) for s in squares]

    L = whitened(x, C)
    each = ROUNDINGS * eps(tf.float32)
    roundings = (
        each * sizes_of_terms(df, C, L),
        # The last steps of the gradient are products of matrices of this size.
        each * D * np.abs(exact[1]).max(axis=(-2, -1), keepdims=True),
    )
    narrow = [tf.constant(v, tf.float32) for v in (df, C, x)]
    compiled = tf.function(value_and_gradient, jit_compile=True)
    for mode in (value_and_gradient(*narrow), compiled(*narrow)):
        for found, value, one, sums in zip(mode, exact, sensitivity, roundings, strict=True):
            assert np.all(np.abs(found - value) <= 5 * np.sqrt(D) * one + sums)


def sizes_of_terms(df, C, L):
    """The sum of the sizes of the terms of a log density, where x = C L L^T C^T."""
    D = len(C)
    a = (df[:, np.newaxis] - np.arange(D)) / 2
    roots = np.einsum("...ii->...i", L)
    w = roots**2 * df[:, np.newaxis] / 2 / a
    constants = np.abs(np.log(df / 2))[:, np.newaxis] + np.abs(np.log(2 * np.pi * a))
    diagonal = kernel_size(w, a) + constants + D * np.abs(np.log(roots))
    below = D * (D - 1) / 4 * np.abs(np.log(df / 2 / np.pi))
    squares = df / 2 * np.sum(np.tril(L, -1) ** 2, axis=(-2, -1))
    scale = (D + 1) * np.sum(np.abs(np.log(np.diag(C))))
    return np.sum(diagonal, axis=-1) + below + squares + scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("df", [0.1, 3.0, 1e6])
def test_density_in_one_dimension_is_that_of_a_gamma(df, dtype):
    x = np.array([0.3, 1.9, 2.0, 2.1, 9.0])
    found = make_wishart(df, [[np.sqrt(2.0)]], dtype).log_prob(
        tf.constant(x.reshape(-1, 1, 1), dtype)
    )
    expected = Gamma(tf.constant(df / 2, tf.float64), df / 2 / 2.0).log_prob(x).numpy()
    # Rounding x, and the mean as a square: 10 roundings, each of them multiplied by the slope.
    slope = df / 2 * np.abs(x / 2 - 1) + 1
    logs = np.abs(np.log(df)) + np.abs(np.log(x))
    assert np.all(np.abs(found.numpy() - expected) < 10 * eps(dtype) * (ROUNDINGS * logs + slope))


# Natural gradients

SIZES = [0.05, 0.5, 2.0, 30.0, 1e3, 1e5]  # of df - (D - 1)


def unpack(flat, D):
    """df and C from unconstrained coordinates: u, and C row by row with logs on its diagonal."""
    rows, columns = np.tril_indices(D)
    entries = tf.where(rows == columns, tf.exp(flat[1:]), flat[1:])
    C = tf.scatter_nd(np.stack([rows, columns], axis=-1), entries, [D, D])
    return D - 1 + tf.exp(flat[0]), C


def divergence(df, C, other_df, other_C):
    """Kullback-Leibler divergence of two Wishart distributions.

    ::

        n2 / 2 (log|V2| - log|V1|) + n1 / 2 (tr(V2^-1 V1) - D)
        + log Gamma_D(n2 / 2) - log Gamma_D(n1 / 2) + (n1 - n2) / 2 psi_D(n1 / 2)
    """
    D = C.shape[-1]
    halves = tf.range(D, dtype=tf.float64) / 2
    a, other_a = df / 2 - halves, other_df / 2 - halves

    def log_det(df, C):
        return 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(C))) - D * tf.math.log(df)

    ratio = tf.linalg.triangular_solve(other_C, C)
    trace = tf.reduce_sum(ratio**2) * other_df / df
    return (
        other_df / 2 * (log_det(other_df, other_C) - log_det(df, C))
        + df / 2 * (trace - D)
        + tf.reduce_sum(tf.math.lgamma(other_a) - tf.math.lgamma(a))
        + (df - other_df) / 2 * tf.reduce_sum(tf.math.digamma(a))
    )


def fisher(flat, D):
    """The second derivative of the divergence by its second distribution, where both are equal."""
    flat = tf.constant(flat)
    fixed = unpack(flat, D)
    with tf.GradientTape(persistent=True) as second:
        second.watch(flat)
        with tf.GradientTape() as first:
            first.watch(flat)
            value = divergence(*fixed, *unpack(flat, D))
        slope = first.gradient(value, flat)
    return second.jacobian(slope, flat, experimental_use_pfor=False).numpy()


def coordinates(size, D):
    """Coordinates [1 + D (D + 1) / 2] at df = D - 1 + size."""
    C = mean_tril(D)
    C[np.diag_indices(D)] = np.log(np.diag(C))
    return np.concatenate([[np.log(size)], C[np.tril_indices(D)]])


def natural_gradient_at(flat, gradient, D, dtype=tf.float64, above=0.0):
    df, C = (tf.cast(v, dtype) for v in unpack(tf.constant(flat), D))
    by_C = np.full((D, D), above)
    by_C[np.tril_indices(D)] = gradient[1:]
    by_u, by_C = wishart_natural_gradient(
        df, C, tf.constant(gradient[0], dtype), tf.constant(by_C, dtype)
    )
    assert by_u.dtype == by_C.dtype == dtype
    np.testing.assert_array_equal(by_C.numpy()[np.triu_indices(D, 1)], 0.0)
    return np.concatenate([[by_u], by_C.numpy()[np.tril_indices(D)]]).astype(float)


# The first omitted term of the series for the trigamma function, that of B_12 at 8.
SERIES_ERROR = 691 / 2730 / 8.0**11


@pytest.mark.parametrize("D", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_natural_gradient_is_the_inverse_fisher_information(size, D):
    flat = coordinates(size, D)
    gradient = np.random.default_rng(11).normal(size=len(flat))
    F = fisher(flat, D)
    expected = np.linalg.solve(F, gradient)
    # Differentiation leaves errors of some eps of the terms of F: for u, (size)^2 times trigammas
    # and 1/df; for C, its own elements, of size df.
    root = np.sqrt(np.diag(F))
    root[0] = np.sqrt(D * (size + 1))
    error = 50 * D * eps(tf.float64) * np.outer(root, root)
    error[0, 0] += SERIES_ERROR * D
    allowed = np.abs(np.linalg.inv(F)) @ error @ np.abs(expected)
    assert np.all(allowed < 1e-5 * np.abs(expected).max())  # or the bound would be no test
    assert np.all(np.abs(natural_gradient_at(flat, gradient, D) - expected) <= allowed)


@pytest.mark.parametrize("D", [2, 16])
@pytest.mark.parametrize("size", [1.0, 30.0, 1e6])
def test_natural_gradient_in_float32_matches_float64(size, D):
    flat = coordinates(size, D)
    gradient = np.random.default_rng(12).normal(size=len(flat))
    found, expected = (natural_gradient_at(flat, gradient, D, dtype) for dtype in DTYPES)
    # The information of u is a sum of positive terms, whose trigammas have some 50 roundings.
    assert abs(found[0] - expected[0]) <= 100 * eps(tf.float32) * abs(expected[0])
    # For C there are two products of matrices.
    df, C = (v.numpy() for v in unpack(tf.constant(flat), D))
    by_C = np.zeros((D, D))
    by_C[np.tril_indices(D)] = np.abs(gradient[1:])
    by_C[np.diag_indices(D)] /= np.diag(C)
    T = np.tril(np.abs(C).T @ by_C) / df
    size_of_C = np.abs(C) @ T
    size_of_C[np.diag_indices(D)] = np.diag(T)
    allowed = ROUNDINGS * D * eps(tf.float32) * size_of_C[np.tril_indices(D)]
    assert np.all(np.abs(found - expected)[1:] <= allowed)


def test_gradient_above_the_diagonal_does_not_change_the_natural_gradient():
    flat = coordinates(3.0, 3)
    gradient = np.arange(1.0, 8.0)
    clean = natural_gradient_at(flat, gradient, 3)
    for above in (1.0, np.inf, np.nan):
        np.testing.assert_array_equal(natural_gradient_at(flat, gradient, 3, above=above), clean)


def test_natural_gradient_in_one_dimension_is_that_of_a_gamma():
    """Of concentration df / 2: its log mean is 2 log C, with information df / 2."""
    df = tf.constant([0.3, 7.0, 1e5], tf.float64)
    C = tf.constant([0.5, 1.0, 20.0], tf.float64)
    by_df, by_C = wishart_natural_gradient(
        df, C[:, None, None], tf.ones_like(df), tf.ones([3, 1, 1], tf.float64)
    )
    np.testing.assert_allclose(by_df, 1 / trigamma_excess(df / 2), rtol=1e-14)
    np.testing.assert_allclose(by_C[:, 0, 0], 1 / (2 * df), rtol=1e-14)


def test_natural_gradient_of_a_batch_under_xla_is_that_of_each_member():
    df, C = tf.constant([[3.5], [90.0]]), tf.constant(mean_tril(3, (2, 4)), tf.float32)
    df = tf.broadcast_to(df, [2, 4])
    gradient = tf.constant(np.random.default_rng(13).normal(size=(2, 4, 3, 3)), tf.float32)
    batch = tf.function(wishart_natural_gradient, jit_compile=True)(df, C, df, gradient)
    for b in np.ndindex(2, 4):
        one = wishart_natural_gradient(df[b], C[b], df[b], gradient[b])
        for found, expected in zip(batch, one, strict=True):
            size = np.abs(expected).max()
            np.testing.assert_allclose(found[b], expected, atol=100 * eps(tf.float32) * size)


# As a distribution of the TFP families


def test_wishart_has_the_shapes_slices_and_copies_of_a_tfd_distribution():
    C = mean_tril(3, (4,))
    distribution = Wishart(df=tf.constant([[5.0], [7.0]]), mean_tril=tf.constant(C, tf.float32))
    assert distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert distribution.batch_shape == [2, 4]
    assert distribution.event_shape == [3, 3]
    np.testing.assert_array_equal(distribution.batch_shape_tensor(), [2, 4])
    np.testing.assert_array_equal(distribution.event_shape_tensor(), [3, 3])
    assert set(Wishart.parameter_properties()) == {"df", "mean_tril"}
    part = distribution[1, 2:]
    assert type(part) is Wishart
    assert part.batch_shape == [2]
    np.testing.assert_array_equal(part.mean_tril, C[2:].astype(np.float32))
    assert part.df == 7.0
    copy = AntitheticWishart(5.0, np.eye(2)).copy(df=9.0)
    assert type(copy) is AntitheticWishart
    assert copy.dtype == tf.float64
    assert copy.df == 9.0
    np.testing.assert_array_equal(copy.mean_tril, np.eye(2))


@pytest.mark.parametrize("family", [Wishart, AntitheticWishart])
def test_cholesky_draws_are_factors_of_the_draws_with_the_same_density(family):
    """As in `tfd.WishartTriL`, the density remains that of the matrices."""
    df, C = np.array([4.0, 90.0]), mean_tril(3, (2,))
    matrices = make_wishart(df, C, family=family)
    factors = matrices.copy(input_output_cholesky=True)
    cholesky = factors.sample(6, seed=SEED).numpy()
    np.testing.assert_array_equal(cholesky, np.tril(cholesky))
    x = cholesky @ cholesky.swapaxes(-1, -2)
    np.testing.assert_allclose(matrices.sample(6, seed=SEED), x, rtol=1e-13)
    expected = stock(df, C).copy(input_output_cholesky=True)
    shorter = WishartTriLOfCholesky(**expected.parameters)
    for found in (factors.log_prob(cholesky), shorter.log_prob(cholesky)):
        np.testing.assert_allclose(found, expected.log_prob(cholesky), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(factors.log_prob(cholesky), matrices.log_prob(x), rtol=1e-10)
    bijector = factors.experimental_default_event_space_bijector()
    back = bijector(bijector.inverse(tf.identity(cholesky)))
    np.testing.assert_allclose(back, cholesky, rtol=1e-13)


@pytest.mark.parametrize("input_output_cholesky", [False, True])
def test_elements_above_the_diagonal_of_the_mean_are_ignored(input_output_cholesky):
    """An optimiser such as Adam may change them."""
    C = tf.constant(mean_tril(3))
    above = C + tf.linalg.band_part(tf.ones_like(C), 0, -1) - tf.eye(3, dtype=C.dtype)
    with tf.GradientTape() as tape:
        tape.watch(above)
        distribution = Wishart(tf.constant(7.0, tf.float64), above, input_output_cholesky)
        draws = distribution.sample(4, seed=SEED)
        density = distribution.log_prob(draws)
        total = tf.reduce_sum(density) + tf.reduce_sum(draws**2)
    clean = Wishart(tf.constant(7.0, tf.float64), C, input_output_cholesky)
    np.testing.assert_array_equal(draws, clean.sample(4, seed=SEED))
    np.testing.assert_allclose(density, clean.log_prob(draws), rtol=1e-14)
    gradient = tape.gradient(total, above).numpy()
    np.testing.assert_array_equal(np.triu(gradient, 1), 0.0)
    assert np.all(gradient[np.tril_indices(3)] != 0.0)


def test_default_bijectors_map_zeros_to_the_identity_matrix():
    bijector = make_wishart(5.0, np.eye(3)).experimental_default_event_space_bijector()
    point = tf.constant([0.3, -1.0, 0.5, 2.0, -0.2, 0.7], tf.float64)
    x = bijector.forward(point)
    assert np.all(np.linalg.eigvalsh(x) > 0)
    np.testing.assert_allclose(bijector.inverse(x), point, rtol=1e-12)
    np.testing.assert_allclose(bijector.forward(tf.zeros(6, tf.float64)), np.eye(3), atol=1e-15)
    constraint = Wishart.parameter_properties()["mean_tril"].default_constraining_bijector_fn()
    np.testing.assert_allclose(constraint.forward(tf.zeros(6)), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("seed", [5, SEED, (1, 2), None])
def test_draws_have_sample_and_batch_shape_for_every_kind_of_seed(seed):
    distribution = tfd.Independent(Wishart(5.0, tf.eye(2, batch_shape=[3, 4])), 2)
    x, log_prob = distribution.experimental_sample_and_log_prob([5, 6], seed=seed)
    assert x.shape == [5, 6, 3, 4, 2, 2]
    assert log_prob.shape == [5, 6]
    np.testing.assert_allclose(log_prob, distribution.log_prob(x), rtol=1e-5)


def test_integer_seed_determines_draws():
    distribution = Wishart(5.0, np.eye(2))
    np.testing.assert_array_equal(distribution.sample(3, seed=9), distribution.sample(3, seed=9))
    assert not np.array_equal(distribution.sample(3, seed=9), distribution.sample(3, seed=10))


def test_deferred_parameters_of_a_wishart_receive_gradients():
    df = tfp.util.TransformedVariable(
        [4.0, 500.0], tfp.bijectors.Chain([tfp.bijectors.Shift(1.0), tfp.bijectors.Exp()])
    )
    C = tfp.util.TransformedVariable(tf.eye(2), tfp.bijectors.FillScaleTriL())
    distribution = Wishart(df, C)
    assert len(distribution.trainable_variables) == 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(distribution.log_prob(tf.eye(2) + distribution.sample(10, seed=SEED)))
    for gradient in tape.gradient(loss, distribution.trainable_variables):
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient != 0)


def test_joint_distribution_runs_under_xla():
    C = tf.constant(mean_tril(2, (3,)), tf.float32)

    def model():
        root = tfd.JointDistributionCoroutine.Root
        yield root(tfd.Independent(Wishart(5.0, C), 1, name="precisions"))

    joint = tfd.JointDistributionCoroutine(model)
    values, log_prob = tf.function(joint.experimental_sample_and_log_prob, jit_compile=True)(
        [4], seed=SEED
    )
    assert values.precisions.shape == [4, 3, 2, 2]
    x, C = (tf.cast(v, tf.float64) for v in (values.precisions, C))
    expected = tf.reduce_sum(stock(5.0, C).log_prob(x), axis=-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)
