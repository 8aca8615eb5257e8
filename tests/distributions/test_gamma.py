"""Gamma and Dirichlet against truths that were computed another way.

- Laws: scipy's distribution functions, by Kolmogorov-Smirnov tests with a false alarm of 1e-6.
- Gradients: differences of scipy's quantiles where draws keep their quantile; elsewhere exact
  derivatives of expectations, within 5 standard errors (a false alarm of 6e-7).
- Densities: 50-digit decimal arithmetic, within the roundings of the terms that are added up.

Seeds are fixed.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, special, stats

from bgmm_jd.distributions import dirichlet, gamma, standard_gamma

tfd = tfp.distributions

FALSE_ALARM = 1e-6
STANDARD_ERRORS = 5
DTYPES = [tf.float32, tf.float64]
CONCENTRATIONS = [0.05, 0.3, 1.0, 2.5, 12.0, 100.0, 5e4, 1e8]
RAISED = [0.05, 0.3, 1.0, 2.5, 9.9]
UNRAISED = [10.0, 12.0, 100.0, 5e4, 1e8]
SEED = tf.constant([3, 14], tf.int32)


def eps(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps


def tiny(dtype):
    return np.finfo(dtype.as_numpy_dtype).tiny


def draw_with_gradient(concentration, n, dtype, rate=1.0, seed=SEED):
    """n draws z [n] in float64 and dz/da [n], as float64 arrays."""
    a = tf.fill([n], tf.constant(concentration, dtype))
    with tf.GradientTape() as tape:
        tape.watch(a)
        z = gamma.Gamma(a, tf.constant(rate, dtype)).sample(seed=seed)
    return z.numpy().astype(float), tape.gradient(z, a).numpy().astype(float)


def in_every_mode(function, *args):
    compiled = tf.function(function, jit_compile=True)
    return [function(*args), tf.function(function)(*args), compiled(*args)]


# Roundings of each term of a sum; elementary functions are good to two units in the last place.
ROUNDINGS = 8


# Draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_law(concentration, dtype):
    n = 100_000
    rate = 4.0  # a power of 2: exact
    z = gamma.Gamma(tf.constant(concentration, dtype), tf.constant(rate, dtype)).sample(n, seed=1)
    z = z.numpy().astype(float)
    u = special.gammainc(concentration, rate * z)
    # What lies below the smallest float is piled up there: spread it over its share of the law.
    spread = np.random.default_rng(0).uniform(size=n)
    u = np.where(z <= tiny(dtype), spread * u, u)
    assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM
    assert np.all(z >= tiny(dtype))


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_moments(concentration):
    n = 100_000
    rate = 0.3
    z = gamma.Gamma(tf.constant(concentration, tf.float64), rate).sample(n, seed=2).numpy()
    law = stats.gamma(concentration, scale=1 / rate)
    kurtosis = 3 + law.stats("k")
    assert abs(z.mean() - law.mean()) < STANDARD_ERRORS * law.std() / np.sqrt(n)
    variance_error = law.var() * np.sqrt((kurtosis - 1) / n)
    assert abs(z.var() - law.var()) < STANDARD_ERRORS * variance_error
    log_mean = special.digamma(concentration) - np.log(rate)
    log_sd = np.sqrt(special.polygamma(1, concentration))
    assert abs(np.log(z).mean() - log_mean) < STANDARD_ERRORS * log_sd / np.sqrt(n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "concentration", [(0.05, 0.05, 0.05), (0.3, 1.0, 2.5), (12.0, 0.05, 1e8), (5e4, 1e8, 100.0)]
)
def test_dirichlet_law(concentration, dtype):
    n = 100_000
    a = np.array(concentration)
    p = dirichlet.Dirichlet(tf.constant(a, dtype)).sample(n, seed=3).numpy().astype(float)
    # The sum of three rounded quotients; raising to the least proportion adds nothing.
    least = float(np.array(dirichlet.LEAST_PROPORTION, dtype.as_numpy_dtype))
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=4 * eps(dtype))
    assert np.all(p >= 0.999 * least)
    spread = np.random.default_rng(1).uniform(size=n)
    for k in range(3):
        # From the smaller side: a p near 1 is rounded, but the sum of the others has its digits.
        rest = np.delete(p, k, axis=-1).sum(axis=-1)
        low = stats.beta(a[k], a.sum() - a[k]).cdf(p[:, k])
        high = stats.beta(a.sum() - a[k], a[k]).cdf(rest)
        # What lies below the least proportion is piled up there: spread it over its share.
        low = np.where(p[:, k] <= 1.001 * least, spread * low, low)
        high = np.where(rest <= 2.002 * least, spread * high, high)
        u = np.where(p[:, k] < 0.5, low, 1 - high)
        assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("concentration", [10.0, 12.0, 1e3])
def test_accepted_candidates_follow_the_gamma_law(concentration):
    """The chance of acceptance is the ratio of the law to that of the candidates, as it must be."""
    b = tf.constant(concentration, tf.float64)
    x = np.linspace(-4, 4, 81)
    step = 1e-5

    def chosen(first, exponential):
        spare = np.full_like(x, 0.1234)  # accepted against any exponential but 0
        normals = tf.constant(np.stack([first, spare, spare], axis=-1))
        exponentials = tf.constant(np.stack([exponential, np.ones_like(x)], axis=-1))
        return standard_gamma._marsaglia_tsang(tf.fill(x.shape, b), normals, exponentials).numpy()

    always, never = np.full_like(x, np.inf), np.full_like(x, -np.inf)
    t = chosen(x, always)
    slope = (chosen(x + step, always) - chosen(x - step, always)) / (2 * step)
    # Log densities of t: of the law, b (t - e^t) + constant; of the candidates.
    log_ratio = concentration * (t - np.expm1(t)) + x**2 / 2 + np.log(slope)
    hurdle = log_ratio[40] - log_ratio  # x = 0 is always accepted
    # 1e-5 is what `_marsaglia_tsang` promises; the slope is good to 1e-9.
    np.testing.assert_array_equal(chosen(x, hurdle + 1.1e-5), t)
    np.testing.assert_array_equal(chosen(x, hurdle - 1.1e-5), chosen(x, never))


def test_three_candidates_suffice():
    """The probabilities that the module states, at the concentration where they are largest."""
    d = standard_gamma._RAISE - 1 / 3

    def rejection(x):
        y = x / (3 * np.sqrt(d))
        excess = d * ((1 + y) ** 3 - 1 - 3 * np.log1p(y)) - x**2 / 2
        return stats.norm.pdf(x) * -np.expm1(-max(excess, 0.0))

    rejected = integrate.quad(rejection, -9, 9, epsabs=1e-10, limit=200)[0]
    assert rejected < 3e-3
    assert rejected**standard_gamma._CANDIDATES < 3e-8


@pytest.mark.parametrize("dtype", DTYPES)
def test_modes_agree(dtype):
    def draw(concentration):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(concentration)
            z = gamma.Gamma(concentration, rate=tf.ones([], dtype)).sample(500, seed=SEED)
            p = dirichlet.Dirichlet(concentration).sample(500, seed=SEED)
            log_z, log_p = tf.math.log(z), tf.math.log(p)[..., 0]
        # Row by row, as sums over draws would hide a difference.
        return z, p, tape.gradient(log_z, concentration), tape.gradient(log_p, concentration)

    concentration = tf.constant(CONCENTRATIONS, dtype)
    eager, graph, xla = in_every_mode(draw, concentration)
    # log z is a sum of exponentials over a, which may reach log(tiny): each of its roundings is an
    # eps of that, and exp makes it a relative error of z. 8 roundings.
    log_size = -np.log(tiny(dtype))
    for other in (graph, xla):
        for ours, theirs in zip(eager, other, strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=8 * eps(dtype) * log_size)


def test_graph_has_no_loops():
    @tf.function
    def draw(concentration):
        with tf.GradientTape() as tape:
            tape.watch(concentration)
            z = gamma.Gamma(concentration, 1.0).sample(2, seed=SEED)
        return tape.gradient(z, concentration)

    graph = draw.get_concrete_function(tf.TensorSpec([3], tf.float32)).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert not any("While" in kind or "If" in kind for kind in kinds)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_of_unknown_shape(dtype):
    @tf.function(input_signature=[tf.TensorSpec(None, dtype), tf.TensorSpec([], tf.int32)])
    def draw(concentration, n):
        return gamma.Gamma(concentration, tf.ones([], dtype)).sample(n, seed=SEED)

    a = tf.ones([2, 1], dtype)
    fixed = gamma.Gamma(a, tf.ones([], dtype)).sample(4, seed=SEED)
    np.testing.assert_allclose(draw(a, 4), fixed, rtol=1e3 * eps(dtype))


# Gradients of draws


def quantile_elasticity(z, a):
    """dlog z / dlog a along the quantile of z, by central differences of scipy's quantiles.

    The step of 1e-4 leaves a relative error of 1e-8 by its square, and 1e-10 by rounding.
    """
    low, high = a * (1 - 1e-4), a * (1 + 1e-4)
    upper = z > a
    p = np.where(upper, special.gammaincc(a, z), special.gammainc(a, z))
    ends = [
        np.where(upper, special.gammainccinv(b, p), special.gammaincinv(b, p)) for b in (low, high)
    ]
    return (ends[1] - ends[0]) / z / 2e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", UNRAISED)
def test_gradient_keeps_the_quantile(concentration, dtype):
    z, slope = draw_with_gradient(concentration, 2_000, dtype)
    truth = quantile_elasticity(z, concentration) * z / concentration
    # 1e-6 is what `path_elasticity` promises; a float32 adds some roundings of t and of G.
    np.testing.assert_allclose(slope, truth, rtol=1e-6 + 8 * eps(dtype))


@pytest.mark.parametrize("concentration", [10.0, 100.0, 1e3])
def test_gradient_is_that_of_the_stock_sampler(concentration):
    """Where float64 RandomGammaGrad is right. At 1e4 it is 4e-6 off below the mean, at 5e4 9 %."""
    z, slope = draw_with_gradient(concentration, 2_000, tf.float64)
    stock = tf.raw_ops.RandomGammaGrad(alpha=tf.constant(concentration, tf.float64), sample=z)
    np.testing.assert_allclose(slope, stock, rtol=1e-6)


@pytest.mark.parametrize("concentration", UNRAISED)
@pytest.mark.parametrize("deviations", [-5.0, -1.0, -1e-3, 0.0, 2.0, 5.0])
def test_path_elasticity_across_the_law(concentration, deviations):
    log_ratio = 3 * np.log1p(deviations / np.sqrt(9 * concentration))
    z = concentration * np.exp(log_ratio)
    ours = standard_gamma.path_elasticity(
        tf.constant(log_ratio, tf.float64), tf.constant(concentration, tf.float64)
    )
    # Far down the tail of large concentrations scipy's quantiles are only good to 5e-6.
    rtol = 1e-5 if deviations == -5.0 and concentration > 1e6 else 1e-6
    np.testing.assert_allclose(ours, quantile_elasticity(z, concentration), rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_path_elasticity_at_the_mean(dtype):
    a = tf.constant([10.0, 1e8], dtype)
    ours = standard_gamma.path_elasticity(tf.zeros([2], dtype), a).numpy()
    # The expansion at t = 0: 1 + 1/(6a) + 1/(60 a^2) - 1/(105 a^3) + O(a^-4).
    truth = 1 + 1 / (6 * a) + 1 / (60 * a**2) - 1 / (105 * a**3)
    np.testing.assert_allclose(ours, truth, rtol=2 * eps(dtype))


def assert_mean(values, expected):
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < STANDARD_ERRORS * error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", RAISED + UNRAISED)
def test_gradients_of_expectations(concentration, dtype):
    z, slope = draw_with_gradient(concentration, 100_000, dtype)
    assert np.all(np.isfinite(slope))
    assert np.all(slope > 0)
    # E log z = digamma(a); E z = a; E exp(-z) = 2^-a. (For large a the last is 0.)
    # The means are over quantities rounded to an eps, which the standard error covers.
    assert_mean(slope / z, special.polygamma(1, concentration))
    assert_mean(slope, 1.0)
    if concentration < 20:
        assert_mean(-np.exp(-z) * slope, -np.log(2) * 2.0**-concentration)


def test_gradient_of_the_rate():
    rate = tf.constant([0.5, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(rate)
        z = gamma.Gamma(tf.constant([0.7, 300.0]), rate).sample(seed=SEED)
    np.testing.assert_allclose(tape.gradient(z, rate), -z / rate, rtol=4 * eps(tf.float32))


def test_log_rate_draws_the_same():
    by_rate = gamma.Gamma(2.0, rate=4.0).sample(50, seed=SEED)
    by_log_rate = gamma.Gamma(2.0, log_rate=np.log(np.float32(4.0))).sample(50, seed=SEED)
    np.testing.assert_allclose(by_log_rate, by_rate, rtol=8 * eps(tf.float32))


def test_dirichlet_gradients_of_expectations():
    n = 100_000
    a = np.array([0.05, 0.6, 20.0])
    concentration = tf.tile(tf.constant(a[np.newaxis], tf.float32), [n, 1])
    with tf.GradientTape() as tape:
        tape.watch(concentration)
        log_p = tf.math.log(dirichlet.Dirichlet(concentration).sample(seed=SEED))[:, 0]
    gradient = tape.gradient(log_p, concentration).numpy().astype(float)
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient != 0)
    # E log p_0 = digamma(a_0) - digamma(sum a). Raising tiny p keeps their relative gradient.
    common = -special.polygamma(1, a.sum())
    assert_mean(gradient[:, 0], special.polygamma(1, a[0]) + common)
    assert_mean(gradient[:, 1], common)
    assert_mean(gradient[:, 2], common)


def test_dirichlet_gradient_stays_on_the_simplex():
    concentration = tf.constant([0.05, 3.0, 5e4])
    with tf.GradientTape() as tape:
        tape.watch(concentration)
        p = dirichlet.Dirichlet(concentration).sample(20, seed=SEED)
    jacobian = tape.jacobian(p, concentration).numpy()
    # Those raised to the least proportion are apart: their gradient is its size times thousands.
    proper = np.all(p > 1.001 * dirichlet.LEAST_PROPORTION, axis=-1)
    jacobian, p = jacobian[proper], p[proper]
    # dp_k = p_k (c_k - sum_j p_j c_j), c_j the relative change of z_j: rounding the bracket leaves
    # some eps of p_j c_j for each j, which is -dp_k/da_j / p_k for any k other than j.
    others = np.where(np.eye(3, dtype=bool), 0, np.abs(jacobian) / p.numpy()[..., np.newaxis])
    bound = ROUNDINGS * eps(tf.float32) * others.max(axis=1) + tiny(tf.float32)
    assert np.all(np.abs(jacobian.sum(axis=1)) < bound)


# Densities, against 50 digits


def digits(x):
    """The exact value of a float."""
    return Decimal(float(x))


def decimal_log_gamma(a):
    """lgamma(a) in the current decimal context: Stirling's series at a + 40, and the recurrence."""
    product = Decimal(1)
    for j in range(40):
        product *= a + j
    b = a + 40
    # B_2k / (2k (2k - 1) b^(2k - 1)); the next would be below 1e-21.
    coefficients = [(1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156)]
    series = sum(
        Decimal(top) / bottom / b ** (2 * k + 1) for k, (top, bottom) in enumerate(coefficients)
    )
    two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")
    return (b - Decimal("0.5")) * b.ln() - b + two_pi.ln() / 2 + series - product.ln()


def decimal_gamma_log_prob(z, a, rate):
    with localcontext(prec=50):
        z, a, rate = digits(z), digits(a), digits(rate)
        return float((a - 1) * z.ln() + a * rate.ln() - rate * z - decimal_log_gamma(a))


def decimal_dirichlet_log_prob(p, a):
    """With A (1 - sum(p)) for rounded p, as the class documents."""
    with localcontext(prec=50):
        p, a = [digits(x) for x in p], [digits(x) for x in a]
        terms = ((ak - 1) * pk.ln() - decimal_log_gamma(ak) for pk, ak in zip(p, a, strict=True))
        return float(sum(terms) + decimal_log_gamma(sum(a)) + sum(a) * (1 - sum(p)))


def kernel_size(w, a):
    """Size of the terms that make the log kernel at w = z / mean; an error is some eps of it.

    Far from the mean, (a - 1) log w and a (w - 1) are added as they stand. Near it they are not,
    but rounding w moves the kernel by its slope, 1 + a |w - 1|.
    """
    far = np.where(np.abs(w - 1) < 0.25, 0.0, np.abs(a - 1) * np.abs(np.log(w)))
    return 1 + a * np.abs(w - 1) + far


def points(concentration, rate, dtype):
    """z [n] over the law, and far outside it on both sides."""
    law = stats.gamma(concentration, scale=1 / rate)
    mean = concentration / rate
    inside = law.ppf([1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-6])
    outside = mean * np.array([1e-30, 1e-3, 0.1, 0.7, 0.76, 1.0, 1.24, 1.3, 10.0])
    z = np.concatenate([inside, outside]).astype(dtype.as_numpy_dtype)
    return np.maximum(z, tiny(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [2.0, 0.7, 1e-3])
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_log_prob(concentration, rate, dtype):
    a, rate = (dtype.as_numpy_dtype(x) for x in (concentration, rate))
    z = points(concentration, rate, dtype)
    ours = gamma.Gamma(a, rate).log_prob(z).numpy()
    truth = np.array([decimal_gamma_log_prob(x, a, rate) for x in z])
    w = z.astype(float) * float(rate) / float(a)
    size = np.abs(np.log(rate)) + np.abs(np.log(2 * np.pi * a)) + kernel_size(w, float(a))
    assert np.all(np.abs(ours - truth) < ROUNDINGS * eps(dtype) * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [2.0, 0.7])
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_log_prob_gradients(concentration, rate, dtype):
    z = tf.constant(points(concentration, rate, dtype))
    a = tf.fill(z.shape, tf.constant(concentration, dtype))
    b = tf.fill(z.shape, tf.constant(rate, dtype))
    with tf.GradientTape() as tape:
        tape.watch([z, a, b])
        log_prob = gamma.Gamma(a, b).log_prob(z)
    by_z, by_a, by_b = (g.numpy() for g in tape.gradient(log_prob, [z, a, b]))

    z, a, b = (x.numpy().astype(float) for x in (z, a, b))
    w = z * b / a
    # The mean a / b is rounded, unless b is a power of 2; that moves w - 1 by an eps.
    mean_rounded = 0.0 if rate == 2.0 else 1.0
    bound = ROUNDINGS * eps(dtype)
    size = kernel_size(w, a) + np.where(np.abs(w - 1) < 0.25, mean_rounded, 1) * a * (1 + w)
    # The truths, differences in float64, have an error of their own.
    truth_size = 4 * eps(tf.float64) * a * (1 + w)
    assert np.all(np.abs(by_z - ((a - 1) / z - b)) < (bound * size + truth_size) / z)
    assert np.all(np.abs(by_b - (a / b - z)) < (bound * size + truth_size) / b)
    # Terms of size |w - 1| and log w, and those of 1/a in the normalizer.
    size_a = 1 / a + np.abs(w - 1) + np.abs(np.log(w)) + mean_rounded
    truth_a = np.log(b * z) - special.digamma(a)
    bound_a = bound * size_a + 4 * eps(tf.float64) * np.abs(np.log(b * z))
    assert np.all(np.abs(by_a - truth_a) < bound_a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stirling_remainder(dtype):
    a = np.array([1e-3, 0.05, 0.5, 1, 3, 7.9, 8, 20, 1e3, 1e8], dtype.as_numpy_dtype)
    with localcontext(prec=50):
        two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")
        stirling = [
            (x - Decimal("0.5")) * x.ln() - x + two_pi.ln() / 2 for x in (digits(x) for x in a)
        ]
        truth = [float(decimal_log_gamma(digits(x)) - s) for x, s in zip(a, stirling, strict=True)]
    # Eight terms near 1, of which 1 is taken.
    bound = ROUNDINGS * eps(dtype) * (1 + np.abs(truth))
    assert np.all(np.abs(standard_gamma.stirling_remainder(tf.constant(a)).numpy() - truth) < bound)


DIRICHLETS = [
    (0.05, 0.05, 0.05),
    (0.05, 1.0, 30.0),
    (2.5, 12.0, 3e3),
    (1e8, 5e7, 3e3),
    (1e8, 0.05, 7.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", DIRICHLETS)
def test_dirichlet_log_prob(concentration, dtype):
    a = np.array(concentration, dtype.as_numpy_dtype)
    p = dirichlet.Dirichlet(a).sample(30, seed=SEED)
    ours = dirichlet.Dirichlet(a).log_prob(p).numpy()
    truth = np.array([decimal_dirichlet_log_prob(x, a) for x in p.numpy()])
    a, p = a.astype(float), p.numpy().astype(float)
    logs = np.abs(np.log(2 * np.pi * a)).sum() + 3 * np.abs(np.log(a.sum()))
    size = logs + kernel_size(p * a.sum() / a, a).sum(axis=-1)
    assert np.all(np.abs(ours - truth) < ROUNDINGS * eps(dtype) * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", DIRICHLETS)
def test_dirichlet_log_prob_gradients(concentration, dtype):
    a = tf.tile(tf.constant([concentration], dtype), [30, 1])
    p = dirichlet.Dirichlet(a).sample(seed=SEED)
    with tf.GradientTape() as tape:
        tape.watch([a, p])
        log_prob = dirichlet.Dirichlet(a).log_prob(p)
    by_a, by_p = (g.numpy() for g in tape.gradient(log_prob, [a, p]))

    a, p = a.numpy().astype(float), p.numpy().astype(float)
    total = a.sum(axis=-1, keepdims=True)
    w = p * total / a
    bound = ROUNDINGS * eps(dtype)
    # The means a / A are rounded: an eps of w. All other terms are smaller than a and a w.
    assert np.all(np.abs(by_p - ((a - 1) / p - total)) < bound * (1 + a * (1 + w)) / p)
    # All components meet in the derivative by the total.
    each = 1 + 1 / a + np.abs(w - 1) + np.abs(np.log(w))
    shared = np.sum(a / total * each, axis=-1, keepdims=True) + 3 / total
    off_simplex = 1 - p.sum(axis=-1, keepdims=True)
    truth_a = np.log(p) - special.digamma(a) + special.digamma(total) + off_simplex
    bound_a = bound * (each + shared) + 4 * eps(tf.float64) * np.log(total + 1)
    assert np.all(np.abs(by_a - truth_a) < bound_a)


def test_second_derivative_of_log_prob():
    z = tf.constant([0.1, 0.9, 1.0, 1.1, 5.0], tf.float64) * 3.0
    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            log_prob = gamma.Gamma(tf.constant(6.0, tf.float64), 2.0).log_prob(z)
        slope = inner.gradient(log_prob, z)
    # -(a - 1) / z^2; the series is cut at float64 accuracy, its second derivative a little above.
    np.testing.assert_allclose(outer.gradient(slope, z), -5.0 / z**2, rtol=1e-11)


def test_density_integrates_to_one():
    law = gamma.Gamma(tf.constant(3.3, tf.float64), 2.0)
    total = integrate.quad(lambda z: float(law.prob(z)), 0.0, 30.0, limit=200)[0]
    np.testing.assert_allclose(total, 1, atol=1e-7)


# As members of the TFP families


def test_outside_the_support():
    law = gamma.Gamma([1.0, 2.0], 3.0, force_probs_to_zero_outside_support=True)
    np.testing.assert_array_equal(law.log_prob([-1.0, -1.0]), [-np.inf, -np.inf])
    # At 0 the exponential law has a density, steeper laws have none.
    np.testing.assert_allclose(law.log_prob([0.0, 0.0]), [np.log(3.0), -np.inf], rtol=1e-6)
    law = dirichlet.Dirichlet([1.0, 2.0], force_probs_to_zero_outside_support=True)
    inside = law.log_prob([[0.4, 0.6], [0.4, 0.5], [-0.4, 1.4]])
    bound = ROUNDINGS * eps(tf.float32)
    np.testing.assert_allclose(inside, [np.log(2 * 0.6), -np.inf, -np.inf], atol=bound)


def test_gamma_is_a_tfd_gamma():
    law = gamma.Gamma(concentration=[2.0, 3.0], rate=1.5)
    stock = tfd.Gamma(concentration=[2.0, 3.0], rate=1.5)
    assert isinstance(law, tfd.Gamma)
    assert type(law).__name__ == "Gamma"
    assert law.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert law.batch_shape == [2]
    assert law.event_shape == []
    assert set(law.parameter_properties()) == set(stock.parameter_properties())
    default = law.experimental_default_event_space_bijector()
    assert type(default) is type(stock.experimental_default_event_space_bijector())
    for moment in ("mean", "variance", "stddev", "entropy"):
        np.testing.assert_array_equal(getattr(law, moment)(), getattr(stock, moment)())
    np.testing.assert_array_equal(
        tfd.kl_divergence(law, gamma.Gamma(1.0, 1.0)), tfd.kl_divergence(stock, tfd.Gamma(1.0, 1.0))
    )
    copy = law.copy(concentration=7.0)
    assert type(copy) is gamma.Gamma
    assert copy.concentration == 7.0
    assert copy.rate == 1.5
    assert law[0].batch_shape == []


def test_dirichlet_is_a_tfd_dirichlet():
    law = dirichlet.Dirichlet([2.0, 3.0, 4.0])
    stock = tfd.Dirichlet([2.0, 3.0, 4.0])
    assert isinstance(law, tfd.Dirichlet)
    assert type(law).__name__ == "Dirichlet"
    assert law.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert law.batch_shape == []
    assert law.event_shape == [3]
    # The bijector itself cannot be built on every NumPy: TFP 0.25 calls np.reshape(newshape=).
    assert law._default_event_space_bijector.__func__ is tfd.Dirichlet._default_event_space_bijector
    for moment in ("mean", "variance", "covariance", "entropy"):
        np.testing.assert_array_equal(getattr(law, moment)(), getattr(stock, moment)())
    flat = [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(
        tfd.kl_divergence(law, dirichlet.Dirichlet(flat)),
        tfd.kl_divergence(stock, tfd.Dirichlet(flat)),
    )
    np.testing.assert_allclose(law.prob([0.2, 0.3, 0.5]), stock.prob([0.2, 0.3, 0.5]), rtol=1e-5)
    copy = law.copy(concentration=flat)
    assert type(copy) is dirichlet.Dirichlet
    np.testing.assert_array_equal(copy.concentration, flat)


@pytest.mark.parametrize("seed", [5, SEED, (1, 2), None])
def test_seeds_and_shapes(seed):
    law = tfd.Independent(gamma.Gamma(tf.ones([4, 1]), tf.ones([3])), 2)
    assert law.sample([5, 2], seed=seed).shape == [5, 2, 4, 3]
    z, log_prob = law.experimental_sample_and_log_prob([5], seed=seed)
    assert z.shape == [5, 4, 3]
    assert log_prob.shape == [5]
    np.testing.assert_allclose(log_prob, law.log_prob(z), rtol=1e-5)
    assert dirichlet.Dirichlet(tf.ones([2, 3])).sample([5, 1], seed=seed).shape == [5, 1, 2, 3]


def test_broadcast_parameters_get_their_own_draws():
    z = gamma.Gamma(2.0, tf.ones([100])).sample(seed=SEED)
    assert len(np.unique(z)) == 100


def test_integer_seeds_repeat():
    law = gamma.Gamma(2.0, 1.0)
    np.testing.assert_array_equal(law.sample(3, seed=9), law.sample(3, seed=9))
    assert not np.array_equal(law.sample(3, seed=9), law.sample(3, seed=10))


def test_deferred_parameters_receive_gradients():
    variable = tf.Variable([0.5, 1.0, 8.0])
    log = tfp.bijectors.Exp()
    concentration = tfp.util.TransformedVariable([0.05, 3.0, 5e4], log)
    laws = [
        (gamma.Gamma(tfp.util.DeferredTensor(variable, tf.exp), 2.0), variable),
        (gamma.Gamma(concentration, rate=concentration), concentration.trainable_variables[0]),
        (dirichlet.Dirichlet(concentration), concentration.trainable_variables[0]),
    ]
    for law, parameter in laws:
        assert len(law.trainable_variables) >= 1
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(law.log_prob(law.sample(10, seed=SEED)))
        gradient = tape.gradient(loss, parameter).numpy()
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient != 0)


def test_joint_distribution_under_xla():
    def model():
        root = tfd.JointDistributionCoroutine.Root
        weights = yield root(dirichlet.Dirichlet([2.0, 2.0, 2.0], name="weights"))
        gammas = gamma.Gamma(5.0 * tf.ones([3, 2]), 5.0)
        precisions = yield root(tfd.Independent(gammas, 2, name="precisions"))
        yield tfd.Independent(gamma.Gamma(precisions, weights[..., tf.newaxis]), 2, name="last")

    joint = tfd.JointDistributionCoroutine(model)
    values, log_prob = tf.function(joint.experimental_sample_and_log_prob, jit_compile=True)(
        [4], seed=SEED
    )
    assert values.last.shape == [4, 3, 2]
    assert log_prob.shape == [4]
    stock = (
        tfd.Dirichlet([2.0, 2.0, 2.0]).log_prob(values.weights)
        + tf.reduce_sum(tfd.Gamma(5.0, 5.0).log_prob(values.precisions), [-2, -1])
        + tf.reduce_sum(
            tfd.Gamma(values.precisions, values.weights[..., tf.newaxis]).log_prob(values.last),
            [-2, -1],
        )
    )
    np.testing.assert_allclose(log_prob, stock, rtol=1e-4)


def test_laws_pass_through_functions():
    @tf.function(jit_compile=True)
    def doubled(law):
        return law.copy(concentration=2 * law.concentration)

    law = doubled(gamma.Gamma(3.0, 1.0))
    assert type(law) is gamma.Gamma
    assert law.concentration == 6.0
