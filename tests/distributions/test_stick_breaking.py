"""Stick-breaking proportions against Beta distributions, Dirichlet distributions and autodiff.

- Densities: products of Beta densities and their Jacobian in float64, within the roundings of the
  terms that are added up.
- Distributions and gradients of draws: scipy's distribution functions and exact expectations.

See `numerical_checks` for false alarms and tolerances. Seeds are fixed.
"""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import (
    DTYPES,
    FALSE_ALARM,
    ROUNDINGS,
    STANDARD_ERRORS,
    assert_mean,
    break_sticks,
    eps,
    has_loops,
    in_every_mode,
    kernel_size,
    tiny,
)
from scipy import special, stats

from bgmm_jd.distributions import dirichlet, gamma
from bgmm_jd.distributions.bijectors import StickCoordinates
from bgmm_jd.distributions.stick_breaking import (
    LOG_LEAST_STICK,
    AntitheticStickBreaking,
    StickBreaking,
    beta_parameters_of_dirichlet,
    dirichlet_process,
    log_prob_of_stick_coordinates,
)
from bgmm_jd.variational import families

tfd = tfp.distributions

SEED = tf.constant([3, 14], tf.int32)

# Pairs (a, b) of each break.
MIXED = np.array([[0.3, 1.0], [2.0, 5.0], [40.0, 8.0]])
PAIRS = {
    "small": np.array([[0.05, 0.05], [0.05, 0.3], [0.3, 0.05], [1.0, 0.7]]),
    "mixed": MIXED,
    "large": np.array([[1e6, 2e6], [3e6, 1.0], [1e6, 1e6], [0.5, 1e6]]),
    "largest": np.array([[1e8, 3e8], [1e8, 2e3], [7.0, 1e8]]),
}


def shares_of(w):
    """v, 1 - v and R of proportions in float64, each [..., K - 1]."""
    w = np.asarray(w, float)
    K = w.shape[-1]
    sums = np.stack([w[..., k:].sum(axis=-1) for k in range(K)], axis=-1)
    return w[..., :-1] / sums[..., :-1], sums[..., 1:] / sums[..., :-1], sums[..., :-1]


def log_density(pairs, v, rest, remaining):
    """The log density, and the size of the terms that it is the sum of."""
    a, b = pairs[..., 0], pairs[..., 1]
    terms = [special.xlogy(a - 1, v), special.xlogy(b - 1, rest), -special.betaln(a, b)]
    terms = np.stack(np.broadcast_arrays(*terms, -np.log(remaining)))
    return np.sum(terms, axis=(0, -1)), np.sum(np.abs(terms), axis=(0, -1))


def random_shares(pairs, n):
    """v and 1 - v [n, K - 1], each to full accuracy: half from the pairs, half more dispersed."""
    rng = np.random.default_rng(6)
    pairs = np.concatenate([np.tile(pairs, (n // 2, 1, 1)), np.tile(0.3 * pairs, (n // 2, 1, 1))])
    z = np.maximum(rng.gamma(pairs), 1e-60)
    return np.moveaxis(z / z.sum(axis=-1, keepdims=True), -1, 0)


# Densities


@pytest.mark.parametrize("name", PAIRS)
def test_log_prob_is_that_of_independent_beta_shares(name):
    pairs = PAIRS[name]
    v, rest = random_shares(pairs, 40)
    w = break_sticks(v, rest)
    remaining = np.cumprod(np.concatenate([np.ones((40, 1)), rest[:, :-1]], axis=1), axis=1)
    exact, size = log_density(pairs, v, rest, remaining)
    found = StickBreaking(pairs).log_prob(w).numpy()
    # Each sum of up to K parts, from which v is computed again, has K roundings.
    assert np.all(np.abs(found - exact) < ROUNDINGS * len(w[0]) * eps(tf.float64) * size)


def test_log_prob_follows_from_the_change_of_variables():
    """Against scipy's Beta densities, with the Jacobian of v -> w by automatic differentiation."""
    v = tf.constant(np.random.default_rng(1).uniform(0.05, 0.95, size=(7, 3)))
    with tf.GradientTape() as tape:
        tape.watch(v)
        left = tf.math.cumprod(1.0 - v, axis=-1)
        w = tf.concat([v[:, :1], v[:, 1:] * left[:, :-1], left[:, -1:]], axis=-1)
    _, log_det_jacobian = np.linalg.slogdet(tape.batch_jacobian(w, v)[:, :-1])
    exact = stats.beta.logpdf(v, *MIXED.T).sum(axis=-1) - log_det_jacobian
    np.testing.assert_allclose(StickBreaking(MIXED).log_prob(w), exact, rtol=1e-12)


def test_density_of_two_proportions_is_that_of_a_dirichlet():
    pair = np.array([[0.7, 3.0]])
    p = tfd.Dirichlet(pair[0]).sample(20, seed=(0, 1))
    found = StickBreaking(pair).log_prob(p)
    np.testing.assert_allclose(found, tfd.Dirichlet(pair[0]).log_prob(p), rtol=1e-12)
    np.testing.assert_allclose(found, dirichlet.Dirichlet(pair[0]).log_prob(p), rtol=1e-12)


@pytest.mark.parametrize("a", [(0.3, 1.0, 2.5, 0.7), (12.0, 3.0, 100.0, 1.0, 30.0)])
def test_stick_breaking_with_the_pairs_of_a_dirichlet_is_that_dirichlet(a):
    a = np.array(a)
    after = np.cumsum(a[::-1])[::-1][1:]
    pairs = np.stack([a[:-1], after], axis=-1)
    np.testing.assert_allclose(beta_parameters_of_dirichlet(tf.constant(a)), pairs, rtol=1e-15)
    sticks, stock = StickBreaking(pairs), tfd.Dirichlet(a)
    p = stock.sample(30, seed=(0, 2))
    # Sums of some ten terms of a size below a thousand.
    np.testing.assert_allclose(sticks.log_prob(p), stock.log_prob(p), atol=1e-11)
    np.testing.assert_allclose(sticks.mean(), stock.mean(), rtol=1e-13)
    np.testing.assert_allclose(sticks.variance(), stock.variance(), rtol=1e-12)


def test_log_prob_of_stick_coordinates_sums_to_the_density_of_the_coordinates():
    """The density of the proportions plus the log-det-Jacobian of the coordinates."""
    w = StickBreaking(MIXED).sample(20, seed=SEED)
    found = log_prob_of_stick_coordinates(tf.constant(MIXED), w)
    y = StickCoordinates().inverse(tf.identity(w))
    v, rest = special.expit(y.numpy()), special.expit(-y.numpy())
    exact = stats.beta.logpdf(v, *MIXED.T) + np.log(v) + np.log(rest)
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-11)
    log_det = StickCoordinates().forward_log_det_jacobian(y, event_ndims=1)
    whole = StickBreaking(MIXED).log_prob(w) + log_det
    np.testing.assert_allclose(tf.reduce_sum(found, axis=-1), whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", PAIRS)
def test_log_prob_of_draws_in_float32_matches_float64(name):
    pairs = PAIRS[name].astype(np.float32)
    w = StickBreaking(pairs).sample(50, seed=SEED)
    found = StickBreaking(pairs).log_prob(w)
    assert found.dtype == tf.float32
    pairs = pairs.astype(float)
    v, rest, remaining = shares_of(w)
    exact, exact_size = log_density(pairs, v, rest, remaining)
    a, b = pairs.T
    logs = 3 * np.log(2 * np.pi * (a + b + 1 / a + 1 / b)) + np.abs(np.log(remaining))
    kernels = kernel_size(v * (a + b) / a, a) + kernel_size(rest * (a + b) / b, b)
    size = (logs + kernels).sum(axis=-1)
    K = len(pairs) + 1
    allowed = ROUNDINGS * (K * eps(tf.float32) * size + eps(tf.float64) * exact_size)
    assert np.all(np.abs(found - exact) < allowed)


def test_density_of_tiny_last_proportions_is_accurate_in_float32():
    """Shares of a stick of 1e-30 are computed by sums; 1 minus the others would have no digit."""
    w = np.array([1.0, 1e-9, 3e-20, 2e-30, 5e-31], np.float32)
    pairs = np.array([[20.0, 0.4], [3.0, 0.5], [1.0, 0.1], [4.0, 1.5]])
    exact, size = log_density(pairs, *shares_of(w))
    found = StickBreaking(tf.constant(pairs, tf.float32)).log_prob(w)
    assert abs(found - exact) < ROUNDINGS * 5 * eps(tf.float32) * size


@pytest.mark.parametrize("dtype", DTYPES)
def test_proportions_of_zero_count_as_the_smallest_normal_float(dtype):
    """Also where all of the last proportions are zero."""
    distribution = StickBreaking(tf.constant(MIXED, dtype))
    more = 0.5 + 4 * eps(dtype)  # a sum above 1 leaves less than the smallest float of it
    rows = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.5, more, 0.0]]
    w = tf.constant(rows, dtype)
    with tf.GradientTape() as tape:
        tape.watch(w)
        found = distribution.log_prob(w)
    assert np.all(np.isfinite(found))
    assert not np.any(np.isnan(tape.gradient(found, w)))
    np.testing.assert_array_equal(found, distribution.log_prob(tf.maximum(w, tiny(dtype))))


def test_log_prob_gradients_match_closed_form_and_differences():
    """By concentrations in closed form; by proportions by differences along the simplex."""
    w = StickBreaking(MIXED).sample(seed=3)
    pairs = tf.constant(MIXED)
    with tf.GradientTape() as tape:
        tape.watch([pairs, w])
        log_prob = StickBreaking(pairs).log_prob(w)
    by_pairs, by_w = (g.numpy() for g in tape.gradient(log_prob, [pairs, w]))
    a, b = MIXED.T
    v, rest, _ = shares_of(w)
    common = special.digamma(a + b)
    exact = np.stack([np.log(v) - special.digamma(a), np.log(rest) - special.digamma(b)], axis=-1)
    np.testing.assert_allclose(by_pairs, exact + common[:, np.newaxis], rtol=1e-10)

    step = 1e-6 * w.numpy().min()
    for k in range(3):
        along = np.zeros(4)
        along[k], along[3] = step, -step
        ends = [log_density(MIXED, *shares_of(w.numpy() + sign * along))[0] for sign in (1, -1)]
        # Rounding leaves 1e-15 of some tens over the step, relative to the smallest proportion.
        slope = (ends[0] - ends[1]) / (2 * step)
        error = 100 * eps(tf.float64) / step
        assert abs(by_w[k] - by_w[3] - slope) < error + 1e-8 * abs(slope)


# Draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", [MIXED, [[12.0, 100.0], [1e4, 3e4], [0.3, 2.5]]])
def test_shares_of_draws_are_independent_beta_variables(pairs, dtype):
    pairs, n = np.array(pairs), 20_000
    w = StickBreaking(tf.constant(pairs, dtype)).sample(n, seed=4).numpy()
    # Each of K pieces, and the sum, is rounded by some eps of 1 + |log w|, w |log w| below 1/e.
    np.testing.assert_allclose(w.astype(float).sum(axis=-1), 1, atol=ROUNDINGS * eps(dtype))
    v, rest, _ = shares_of(w)
    u = np.where(v < 0.5, stats.beta.cdf(v, *pairs.T), 1 - stats.beta.cdf(rest, *pairs.T[::-1]))
    for k in range(3):
        assert stats.kstest(u[:, k], "uniform").pvalue > FALSE_ALARM
    correlation = np.corrcoef(u.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < STANDARD_ERRORS / np.sqrt(n))


def product_moments(pairs, power):
    """E[w^power] [K], by scipy's moments of each share."""
    taken = np.array([stats.beta(a, b).moment(power) for a, b in pairs])
    left = np.array([stats.beta(b, a).moment(power) for a, b in pairs])
    return break_sticks(taken, left)


def test_moments_are_products_of_beta_moments():
    distribution, n = StickBreaking(MIXED), 20_000
    mean, square = product_moments(MIXED, 1), product_moments(MIXED, 2)
    np.testing.assert_allclose(distribution.mean(), mean, rtol=1e-13)
    np.testing.assert_allclose(distribution.variance(), square - mean**2, rtol=1e-11)
    np.testing.assert_allclose(distribution.stddev(), np.sqrt(square - mean**2), rtol=1e-11)
    w = distribution.sample(n, seed=5).numpy()
    for k in range(4):
        assert_mean(w[:, k], mean[k])
        assert_mean(w[:, k] ** 2, square[k])


def test_variance_of_large_concentrations_is_accurate_in_float32():
    """It is 1e-6 of the squared mean: a difference of moments would have no digit in float32."""
    pairs = PAIRS["large"].astype(np.float32)
    found, exact = StickBreaking(pairs).variance(), StickBreaking(pairs.astype(float)).variance()
    assert found.dtype == tf.float32
    # The logs of the mean are sums of terms of up to log(3e6) = 15, which exp makes relative.
    np.testing.assert_allclose(found, exact, rtol=ROUNDINGS * 5 * 15 * eps(tf.float32))


def mean_slopes(pairs):
    """dE[w_k] / d(a, b) [K, K - 1, 2], by complex steps, which leave no error."""
    result = np.zeros((len(pairs) + 1, *pairs.shape))
    for where in np.ndindex(*pairs.shape):
        moved = pairs.astype(complex)
        moved[where] += 1e-100j
        mean = moved / moved.sum(axis=-1, keepdims=True)
        result[(slice(None), *where)] = break_sticks(*mean.T).imag / 1e-100
    return result


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_draws_have_the_derivatives_of_the_mean_as_means(dtype):
    n = 20_000
    pairs = tf.tile(tf.constant(MIXED[np.newaxis], dtype), [n, 1, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(pairs)
        pieces = tf.unstack(StickBreaking(pairs).sample(seed=6), axis=-1)
    exact = mean_slopes(MIXED)
    for k, piece in enumerate(pieces):
        slopes = tape.gradient(piece, pairs).numpy().astype(float)
        for where in np.ndindex(*MIXED.shape):
            if where[0] > k:  # a later break
                np.testing.assert_array_equal(slopes[(slice(None), *where)], 0)
            else:
                assert_mean(slopes[(slice(None), *where)], exact[(k, *where)])


def test_gradients_of_log_draws_near_the_least_proportion_have_the_exact_mean():
    """E log w_k is known in closed form; the concentrations are small."""
    n, pairs = 100_000, np.array([[0.05, 0.3], [0.6, 0.2]])
    tiled = tf.tile(tf.constant(pairs[np.newaxis], tf.float32), [n, 1, 1])
    with tf.GradientTape() as tape:
        tape.watch(tiled)
        last = tf.math.log(StickBreaking(tiled).sample(seed=7)[:, 2])
    slopes = tape.gradient(last, tiled).numpy().astype(float)
    # E log w_3 = sum_j digamma(b_j) - digamma(a_j + b_j).
    common = -special.polygamma(1, pairs.sum(axis=1))
    for j in range(2):
        assert_mean(slopes[:, j, 0], common[j])
        assert_mean(slopes[:, j, 1], special.polygamma(1, pairs[j, 1]) + common[j])


@pytest.mark.parametrize("dtype", DTYPES)
def test_breaks_that_take_nearly_all_leave_draws_and_gradients_finite(dtype):
    """Twenty of them: draws stay at or above the least proportion."""
    pairs = tf.constant(np.tile([1.0, 0.02], (20, 1)), dtype)
    priors = [
        StickBreaking(dirichlet_process(21, tf.constant(3.0, dtype))),
        StickBreaking(tf.constant(np.tile([50.0, 70.0], (20, 1)), dtype)),
        dirichlet.Dirichlet(tf.fill([21], tf.constant(30.0, dtype))),
    ]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(pairs)
        w = StickBreaking(pairs).sample(200, seed=SEED)
        densities = [prior.log_prob(w) for prior in (*priors, StickBreaking(pairs))]
    assert np.any(w == tf.constant(dirichlet.LEAST_PROPORTION, dtype))
    assert np.all(w >= 0.999 * dirichlet.LEAST_PROPORTION)
    for density in densities:
        assert np.all(np.isfinite(density))
        assert np.all(np.isfinite(tape.gradient(density, pairs)))


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_divergence_gradient_is_exact_times_the_probability_of_reaching_the_break(dtype, mode):
    """Of a prior, for many breaks that take nearly all, against the closed form.

    The divergence is a sum over breaks of that of Beta(a, b) from Beta(a', b'), whose gradient is

        by a:  (a - a') psi'(a) - (a - a' + b - b') psi'(a + b),    and by b likewise,

    and a break has a gradient in those draws only in which the stick left exceeds the least one.
    Without that rule the parameters of far breaks drift, and under XLA in float32 they had no
    gradient at all. Six standard errors of 40 means, for 22 numbers: a false alarm of 1e-5 by
    Student's t distribution.
    """
    prior = np.array([[700.0, 1170.0], [450.0, 0.1], *[[1.0, 0.1]] * 9])
    pairs = prior.copy()
    pairs[1:, 1] = 0.16
    prior_sticks = StickBreaking(tf.constant(prior, dtype))

    def gradient(pairs, seed):
        with tf.GradientTape() as tape:
            tape.watch(pairs)
            w = AntitheticStickBreaking(pairs).sample(5_000, seed=seed)
            fixed = StickBreaking(tf.stop_gradient(pairs))
            divergence = tf.reduce_mean(fixed.log_prob(w) - prior_sticks.log_prob(w))
        return tape.gradient(divergence, pairs)

    program = tf.function(gradient, jit_compile=mode == "xla", autograph=False)
    seeds = tf.constant([[s, 1] for s in range(40)])
    found = np.array([program(tf.constant(pairs, dtype), seed) for seed in seeds]).astype(float)
    difference, total = pairs - prior, pairs.sum(axis=1, keepdims=True)
    own = difference * special.polygamma(1, pairs)
    exact = own - difference.sum(axis=1, keepdims=True) * special.polygamma(1, total)
    n = 200_000
    reached = np.mean(log_remaining_sticks(pairs[:-1], n) > LOG_LEAST_STICK, axis=0)
    reached = reached[:, np.newaxis]
    reached_error = np.abs(exact[1:]) * (reached * (1.0 - reached) / n) ** 0.5
    exact[1:] *= reached
    error = found.std(axis=0, ddof=1) / 40**0.5
    error[1:] = np.hypot(error[1:], reached_error)
    roundings = 700 * 8 * eps(tf.float32)  # of a density's slope in the largest concentrations
    assert np.all(np.abs(found.mean(axis=0) - exact) < 6.0 * error + roundings)


def log_remaining_sticks(pairs, n):
    """Logs of the stick left after each break [n, breaks]; Gamma(b) is Gamma(b + 1) U^(1 / b)."""
    rng = np.random.default_rng(5)
    a, b = pairs.T
    log_y = np.log(rng.gamma(b + 1.0, size=(n, len(b)))) + np.log(rng.random((n, len(b)))) / b
    return np.cumsum(log_y - np.logaddexp(np.log(rng.gamma(a, size=(n, len(a)))), log_y), axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stick_breaking_draws_and_gradients_agree_in_every_mode(dtype):
    def draw(pairs):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(pairs)
            w = StickBreaking(pairs).sample(seed=SEED)
            first, last = tf.math.log(w[:, 0]), tf.math.log(w[:, -1])
        # Row by row, as sums over draws would hide a difference.
        return w, tape.gradient(first, pairs)[:, 0], tape.gradient(last, pairs)

    # Three breaks of each kind, 100 draws of each.
    pairs = tf.constant(np.repeat([pairs[:3] for pairs in PAIRS.values()], 100, axis=0), dtype)
    eager, graph, xla = in_every_mode(draw, pairs)
    # log w is a sum over three breaks of terms that may reach log(tiny), each rounded some 8 times.
    log_size = -np.log(tiny(dtype)) * 3
    for other in (graph, xla):
        for value, expected in zip(other, eager, strict=True):
            np.testing.assert_allclose(value, expected, rtol=8 * eps(dtype) * log_size)


def test_densities_agree_in_every_mode():
    distribution = StickBreaking(MIXED)
    w = distribution.sample(100, seed=SEED)
    eager, graph, xla = in_every_mode(distribution.log_prob, w)
    for other in (graph, xla):  # sums of terms of a size below a thousand
        np.testing.assert_allclose(other, eager, atol=1e-11)


def test_stick_breaking_graph_has_no_loops():
    @tf.function
    def draw(pairs):
        with tf.GradientTape() as tape:
            tape.watch(pairs)
            distribution = StickBreaking(pairs)
            density = distribution.log_prob(distribution.sample(2, seed=SEED))
        return tape.gradient(density, pairs)

    assert not has_loops(draw, tf.TensorSpec([3, 2], tf.float32))


def test_antithetic_draws_cancel_in_pairs():
    """Half-sums of pairs are of second order in the normal draws: 1 / sqrt(1e4) of the sd."""
    pairs = np.array([[1e4, 2e4], [3e4, 1e4]])
    w = AntitheticStickBreaking(pairs).sample(2_000, seed=SEED).numpy()
    assert stats.kstest(stats.beta.cdf(w[:1_000, 0], *pairs[0]), "uniform").pvalue > FALSE_ALARM
    half_sums = (w[:1_000] + w[1_000:]) / 2
    assert np.all(half_sums.std(axis=0) < 5 * 1e-2 * w.std(axis=0))


# Natural gradient


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
def test_natural_gradient_of_the_pairs_is_that_of_dirichlets_of_two_components(scale):
    """In log coordinates.

    The distribution is an exponential family with the concentrations as natural parameters: its
    Fisher information is minus the Hessian of the log density, at any w.
    """
    pairs = tf.constant(scale * MIXED)
    v, _, remaining = map(tf.constant, shares_of(StickBreaking(MIXED).sample(seed=9)))
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(pairs)
        with tf.GradientTape() as inner:
            inner.watch(pairs)
            a, b = tf.unstack(pairs, axis=-1)
            density = tf.reduce_sum(tfd.Beta(a, b).log_prob(v) - tf.math.log(remaining))
        slope = inner.gradient(density, pairs)
    hessian = outer.jacobian(slope, pairs, experimental_use_pfor=False).numpy()
    flat = pairs.numpy().ravel()
    F = -hessian.reshape(6, 6) * np.outer(flat, flat)
    blocks = np.kron(np.eye(3), np.ones((2, 2)))
    np.testing.assert_array_equal(F[blocks == 0], 0)

    gradient = np.random.default_rng(10).normal(size=(3, 2))
    found = families.DIRICHLET.natural_gradient(
        {"concentration": pairs}, {"concentration": gradient}
    )
    expected = np.linalg.solve(F, gradient.ravel())
    # Differentiation leaves errors of some eps of the terms of F, trigammas times a^2, about a + 1.
    # The first omitted term of the series for the trigamma function is 691 / 2730 / 8^11.
    root = np.sqrt(flat + 1)
    error = 50 * eps(tf.float64) * np.outer(root, root) + 691 / 2730 / 8.0**11
    allowed = np.abs(np.linalg.inv(F)) @ (blocks * error) @ np.abs(expected)
    assert np.all(allowed < 1e-4 * np.abs(expected).max())  # or it would be no test
    assert np.all(np.abs(found["concentration"].numpy().ravel() - expected) <= allowed)


def test_score_has_mean_zero_and_the_fisher_information_of_beta_shares_as_covariance():
    n, k = 20_000, 1
    pairs = tf.tile(tf.constant(MIXED[np.newaxis]), [n, 1, 1])
    w = StickBreaking(MIXED).sample(n, seed=11)
    with tf.GradientTape() as tape:
        tape.watch(pairs)
        density = StickBreaking(pairs).log_prob(w)
    score = tape.gradient(density, pairs).numpy()
    a, b = MIXED[k]
    common = special.polygamma(1, a + b)
    for j in range(2):
        assert_mean(score[:, k, j], 0.0)
        assert_mean(score[:, k, j] ** 2, special.polygamma(1, MIXED[k, j]) - common)
    assert_mean(score[:, k, 0] * score[:, k, 1], -common)
    assert_mean(score[:, 0, 0] * score[:, 1, 1], 0.0)


# Dirichlet process


@pytest.mark.parametrize("alpha", [0.1, 1.0, 7.0])
def test_mean_weights_of_a_dirichlet_process_are_geometric(alpha):
    """E[w_k] = 1/(1 + alpha) (alpha/(1 + alpha))^(k-1); the last is the remainder."""
    pairs = dirichlet_process(6, np.float64(alpha))
    share = alpha / (1 + alpha)
    expected = [*((1 - share) * share**k for k in range(5)), share**5]
    np.testing.assert_allclose(StickBreaking(pairs).mean(), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("alpha", "dtype"),
    [
        (1, tf.float32),
        (1.0, tf.float32),
        ([1, 2], tf.float32),
        (np.int64(1), tf.float32),
        (np.float64(1), tf.float64),
        (tf.constant([1.0, 2.0], tf.float64), tf.float64),
    ],
)
def test_process_has_the_dtype_of_alpha_or_float32(alpha, dtype):
    pairs = dirichlet_process(4, alpha)
    assert pairs.dtype == dtype
    assert pairs.shape == [*np.shape(alpha), 3, 2]
    assert StickBreaking(pairs).dtype == dtype
    assert StickBreaking(pairs.numpy()).dtype == dtype
    assert StickBreaking(pairs.numpy().tolist()).dtype == tf.float32
    assert StickBreaking(pairs.numpy().astype(int)).dtype == tf.float32


def test_process_with_random_alpha_is_a_member_of_a_joint_distribution():
    def model():
        alpha = yield tfd.JointDistributionCoroutine.Root(gamma.Gamma(2.0, 1.0, name="alpha"))
        yield StickBreaking(dirichlet_process(4, alpha), name="weights")

    joint = tfd.JointDistributionCoroutine(model)
    values, log_prob = joint.experimental_sample_and_log_prob([5], seed=SEED)
    assert values.weights.shape == [5, 4]
    for s in range(5):
        alpha = values.alpha[s].numpy().astype(float)
        pairs = np.tile([1.0, alpha], (3, 1))
        exact, size = log_density(pairs, *shares_of(values.weights[s]))
        exact += stats.gamma.logpdf(alpha, 2.0)
        assert abs(log_prob[s] - exact) < ROUNDINGS * 4 * eps(tf.float32) * (size + alpha + 3)
    points = joint.experimental_default_event_space_bijector().inverse(values)
    assert points.weights.shape == [5, 3]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((0, 1.0), ValueError, "K must be at least 1; got 0"),
        ((2.5, 1.0), TypeError, "K must be an integer; got 2.5"),
        ((True, 1.0), TypeError, "K must be an integer"),
        ((3, 0.0), ValueError, "alpha must be finite and positive"),
        ((3, np.inf), ValueError, "alpha must be finite and positive"),
        ((3, -0.5), ValueError, "alpha must be finite and positive; got -0.5"),
    ],
)
def test_process_refuses_arguments_out_of_range(arguments, error, match):
    with pytest.raises(error, match=match):
        dirichlet_process(*arguments)


# As a member of TFP


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_component_is_a_point_mass_at_one(dtype):
    distribution = StickBreaking(dirichlet_process(1, tf.constant([2.0, 3.0], dtype)))
    assert distribution.batch_shape == [2]
    assert distribution.event_shape == [1]

    @tf.function(jit_compile=True)
    def draw():
        w = distribution.sample(5, seed=SEED)
        return w, distribution.log_prob(w)

    for w, log_prob in (draw(), draw.python_function()):
        np.testing.assert_array_equal(w, np.ones([5, 2, 1]))
        np.testing.assert_array_equal(log_prob, np.zeros([5, 2]))
    np.testing.assert_array_equal(distribution.mean(), [[1], [1]])
    np.testing.assert_array_equal(distribution.variance(), [[0], [0]])
    np.testing.assert_array_equal(StickCoordinates().forward(tf.zeros([3, 0])), np.ones([3, 1]))
    assert StickCoordinates().inverse(tf.ones([3, 1])).shape == [3, 0]


def test_shapes_follow_from_the_concentration():
    distribution = StickBreaking(tf.ones([4, 1, 5, 2]))
    assert distribution.dtype == tf.float32
    assert distribution.batch_shape == [4, 1]
    assert distribution.event_shape == [6]
    np.testing.assert_array_equal(distribution.event_shape_tensor(), [6])
    np.testing.assert_array_equal(distribution.batch_shape_tensor(), [4, 1])
    assert distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    w = distribution.sample([2, 3], seed=1)
    assert w.shape == [2, 3, 4, 1, 6]
    assert distribution.log_prob(w).shape == [2, 3, 4, 1]
    # Values of fewer, and of more, batch axes than the concentrations have.
    assert distribution.log_prob(w[0, 0, 0]).shape == [4, 1]
    assert distribution.log_prob(tf.ones([7, 6]) / 6.0).shape == [4, 7]
    assert distribution.mean().shape == distribution.variance().shape == [4, 1, 6]
    assert distribution[2].batch_shape == [1]
    assert tfd.Independent(distribution, 2).event_shape == [4, 1, 6]
    copy = distribution.copy(concentration=tf.ones([3, 2]))
    assert type(copy) is StickBreaking
    assert copy.event_shape == [4]


def test_concentration_is_constrained_to_be_positive_with_the_shape_of_its_event():
    properties = StickBreaking.parameter_properties(dtype=tf.float64)["concentration"]
    assert properties.event_ndims == 2
    np.testing.assert_array_equal(properties.shape_fn([7, 4]), [7, 3, 2])
    constrained = properties.default_constraining_bijector_fn()(tf.constant(-1e3, tf.float64))
    assert constrained > 0


def test_draws_and_densities_of_unknown_shape_are_those_of_a_known_one():
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32), tf.TensorSpec([], tf.int32)])
    def draw(pairs, n):
        distribution = StickBreaking(pairs)
        w = distribution.sample(n, seed=SEED)
        return w, distribution.log_prob(w)

    distribution = StickBreaking(MIXED.astype(np.float32))
    w, log_prob = draw(distribution.concentration, 4)
    expected = distribution.sample(4, seed=SEED)
    np.testing.assert_allclose(w, expected, rtol=1e3 * eps(tf.float32))
    np.testing.assert_allclose(log_prob, distribution.log_prob(w), rtol=1e3 * eps(tf.float32))


@pytest.mark.parametrize("seed", [5, SEED, (1, 2), None])
def test_seed_determines_draws_unless_it_is_none(seed):
    distribution = StickBreaking(MIXED)
    w, log_prob = distribution.experimental_sample_and_log_prob([5], seed=seed)
    np.testing.assert_allclose(log_prob, distribution.log_prob(w), rtol=1e-12)
    again = distribution.sample([5], seed=seed)
    assert np.array_equal(w, again) == (seed is not None)
    assert not np.array_equal(again, distribution.sample([5], seed=6))
    # A Dirichlet of two with the same seed has other draws.
    others = dirichlet.Dirichlet(MIXED).sample([5], seed=seed)
    assert not np.any(np.isclose(others[:, 0, 0], again[:, 0]))


def test_deferred_parameters_of_stick_breaking_receive_gradients():
    concentration = tfp.util.TransformedVariable(MIXED, tfp.bijectors.Exp())
    distribution = StickBreaking(concentration)
    assert len(distribution.trainable_variables) == 1
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            distribution.log_prob(distribution.sample(10, seed=SEED)) + distribution.mean()[0]
        )
    gradient = tape.gradient(loss, distribution.trainable_variables[0]).numpy()
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient != 0)


@pytest.mark.parametrize("shape", [[2], [3, 1], [3, 3], [4, 2, 3]])
def test_concentration_of_other_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"concentration must have shape \[..., K - 1, 2\]"):
        StickBreaking(tf.ones(shape))


def test_arguments_are_checked_if_validate_args():
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be positive"):
        StickBreaking([[1.0, 0.0]], validate_args=True)
    distribution = StickBreaking([[1.0, 2.0]], validate_args=True)
    assert np.isfinite(distribution.log_prob([0.3, 0.7]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="sum to 1"):
        distribution.log_prob([0.3, 0.6])
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-negative"):
        distribution.log_prob([-0.3, 1.3])
