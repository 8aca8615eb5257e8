"""Draws from Gamma(a) at rate 1, their gradients, and the special functions that these need.

In this file z is a draw from Gamma(a) at rate 1, and t = log(z / a).

Draws
    Marsaglia and Tsang's transform of a normal draw, with a fixed number of candidates, if a >= 10.
    For smaller a, a draw with concentration a + 10 is multiplied by powers of uniform draws: see
    `draw_standard_gamma`.
Gradients
    Implicit reparameterisation: as a changes, z moves along its quantile. The speed has an
    expansion in 1 / a that is uniform in z: see `path_elasticity`.
Densities
    Written in deviations from the mean, so that no numbers of size a cancel: see `log_kernel`.

References
----------
G. Marsaglia, W. W. Tsang (2000). A simple method for generating gamma variables. ACM Transactions
    on Mathematical Software 26(3).
M. Figurnov, S. Mohamed, A. Mnih (2018). Implicit reparameterization gradients. NeurIPS 31.
N. M. Temme (1979). The asymptotic expansion of the incomplete gamma functions. SIAM Journal on
    Mathematical Analysis 10(4).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend import numerics, random

# Smaller concentrations a are drawn at a + SHAPE_AUGMENTATION. From 10 on, a candidate is rejected
# with probability below 0.3 %; no normal draw is so low that the cube in `marsaglia_tsang` turns
# negative (3 sqrt(10 - 1/3) = 9.3 standard deviations); and three corrections of the gradient are
# enough.
SHAPE_AUGMENTATION = 10

# The last candidate is taken without a test. All three would have been rejected with probability
# below 3e-8, and only then does the draw follow the transform of the normal instead of the Gamma:
# detecting that would take 1e14 draws.
CANDIDATES = 3
_TESTS = CANDIDATES - 1

# Below this, the trigamma function is reduced by recurrence to the range of its asymptotic series.
_SERIES_FROM = 8.0


def _series_product(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of two power series, as far as both are known."""
    length = min(len(p), len(q))
    return [sum((p[j] * q[i - j] for j in range(i + 1)), Fraction(0)) for i in range(length)]


def _elasticity_corrections(orders: int, degree: int) -> list[list[float]]:
    """Return the Taylor coefficients of G_1, ..., G_orders in `path_elasticity`.

    There is one row per power of t, from 0 to `degree`. With B = t / (e^t - 1), whose coefficients
    are the Bernoulli numbers over factorials, the recursion is

        G_0 = B,    G_k = B * (G_{k-1}' - G_{k-1}'(0)) / t.

    It is evaluated in fractions, because its terms cancel.
    """
    length = degree + 1 + 2 * orders  # each order loses two: by the derivative and the division
    bernoulli: list[Fraction] = []
    for n in range(length):
        known = sum((bernoulli[j] / math.factorial(n - j + 1) for j in range(n)), Fraction(0))
        bernoulli.append(Fraction(n == 0) - known)
    terms = [bernoulli]
    for _ in range(orders):
        last = terms[-1]
        slope = [(i + 2) * last[i + 2] for i in range(len(last) - 2)]
        terms.append(_series_product(slope, bernoulli))
    return [[float(term[power]) for term in terms[1:]] for power in range(degree + 1)]


# The Bernoulli numbers B_2, B_4, ... The coefficients of Stirling's series in a^(1 - 2j) are
# B_2j / (2j (2j - 1)) (Abramowitz and Stegun 1964, 6.1.41); from a = 8 on, eight terms leave an
# error of 1e-14.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_STIRLING_COEFFICIENTS = [b / (2 * j * (2 * j - 1)) for j, b in enumerate(_BERNOULLI, start=1)]

_ELASTICITY_COEFFICIENTS = _elasticity_corrections(orders=3, degree=12)


def path_elasticity(log_ratio: tf.Tensor, concentration: tf.Tensor) -> tf.Tensor:
    """Return the elasticity dlog z / dlog a of a Gamma draw z that keeps its quantile.

    Such a draw moves at the speed dz/da = z G / a, with G the elasticity. A density p whose mass
    moves at a speed v obeys the transport equation dp/da + d(p v)/dz = 0. For the Gamma density
    this is, in t = log(z / a),

        (e^t - 1) G = t + log a - digamma(a) + (dG/dt) / a.

    Expand G = G_0 + G_1 / a + ... and log a - digamma(a) = b_1 / a + b_2 / a^2 + ... :

        G_0 = t / (e^t - 1),    G_k = (b_k + dG_{k-1}/dt) / (e^t - 1).

    As G is smooth at t = 0, b_k is -G_{k-1}'(0), and the numerator of G_k cancels there. The G_k
    are therefore computed from their Taylor series, whose radius of convergence is 2 pi. Temme's
    (1979) uniform expansion of the incomplete gamma ratio, differentiated, gives the same result.

    Parameters
    ----------
    log_ratio : tensor [...]
        t, above -3. Two of 1e10 draws are below for a = 10, and fewer for larger a.
    concentration : tensor [...]
        a >= 10. The error relative to G is then below 1e-6 for draws within 5 standard deviations.

    Returns
    -------
    tensor [...]
        G > 0, near 1 - t/2 + 1/(6a) about the mean.
    """
    eps = tf.constant(np.finfo(log_ratio.dtype.as_numpy_dtype).eps, log_ratio.dtype)
    # G_0 is 0/0 at the mean. At a distance of eps from it, its error is below eps.
    t = tf.where(tf.abs(log_ratio) < eps, eps, log_ratio)
    g1, g2, g3 = tf.unstack(
        numerics.polynomial(_ELASTICITY_COEFFICIENTS, t[..., tf.newaxis]), num=3, axis=-1
    )
    a = concentration
    return t / tf.math.expm1(t) + (g1 + (g2 + g3 / a) / a) / a


class StandardGammaDraw(NamedTuple):
    """Hold draws z = scale * exp(log_factor) from Gamma(a) at rate 1; all are tensors [...].

    The two factors are kept apart because z itself may underflow for small a, where a Dirichlet
    needs only ratios, and log z cannot represent all digits of z for large a.

    `log_change` is 0, but its gradient is that of log z by the concentration.
    """

    scale: tf.Tensor
    log_factor: tf.Tensor
    log_change: tf.Tensor


def draw_standard_gamma(
    concentration: tf.Tensor, seed: tf.Tensor, antithetic: bool
) -> StandardGammaDraw:
    """Draw one z ~ Gamma(a) at rate 1 for each element a of a tensor [...].

    If z_b ~ Gamma(b), b - a is an integer n, and u_0, ..., u_{n-1} are uniform, then
    z_b u_0^(1/a) u_1^(1/(a+1)) ... u_{n-1}^(1/(b-1)) ~ Gamma(a). With e_j = -log u_j:

        log z = log z_b - sum_j e_j / (a + j),
        dlog z / dlog a = (a / b) G(b) + a sum_j e_j / (a + j)^2,    G as in `path_elasticity`.

    If `antithetic`, the second half along the first axis has the exponential draws of the first
    half and minus its normal draws.
    """
    a = tf.stop_gradient(concentration)
    # One call of the generator: each takes XLA longer to compile than all the arithmetic below.
    shape = tf.concat([tf.shape(a), [CANDIDATES + _TESTS + SHAPE_AUGMENTATION]], axis=0)
    words = random.random_words(random.half_shape(shape) if antithetic else shape, seed, a.dtype)
    candidates = random.to_normal(words[..., :CANDIDATES])
    exponentials = random.to_exponential(words[..., CANDIDATES:])
    if antithetic:
        candidates = random.join_pairs(candidates, -candidates, shape[0])
        exponentials = random.join_pairs(exponentials, exponentials, shape[0])

    small = a < SHAPE_AUGMENTATION
    b = tf.where(small, a + SHAPE_AUGMENTATION, a)
    log_ratio = marsaglia_tsang(b, candidates, exponentials[..., :_TESTS])

    exponents = a[..., tf.newaxis] + tf.range(SHAPE_AUGMENTATION, dtype=a.dtype)
    reductions = tf.where(small[..., tf.newaxis], exponentials[..., _TESTS:] / exponents, 0.0)
    log_reduction = tf.reduce_sum(reductions, axis=-1)
    reduction_slope = tf.reduce_sum(reductions / exponents, axis=-1)

    elasticity = a * (path_elasticity(log_ratio, b) / b + reduction_slope)
    log_change = elasticity * zero_with_log_gradient(concentration)
    return StandardGammaDraw(scale=b, log_factor=log_ratio - log_reduction, log_change=log_change)


def marsaglia_tsang(b: tf.Tensor, normals: tf.Tensor, exponentials: tf.Tensor) -> tf.Tensor:
    """Return t = log(z / b) of a draw z ~ Gamma(b), b >= 10, by Marsaglia and Tsang's method.

    With d = b - 1/3 and y = x / (3 sqrt(d)) for a normal draw x, z = d (1 + y)^3 is accepted if an
    exponential draw exceeds

        d ((1 + y)^3 - 1 - 3 log(1 + y)) - x^2 / 2 = 3 d y^4 (1/4 - y/5 + y^2/6 - ...).

    The left side loses all its digits in float32 when d is large, so the series is used. Twelve
    terms have an error below 1e-5 within 4 standard deviations, and misplace less than 1e-8 of the
    probability mass. Rounding may change the outcome of a test in one mode of execution
    only: in float32, once in 1e8 draws.

    Parameters
    ----------
    b : tensor [...]
    normals : tensor [..., CANDIDATES]
        One for each candidate. The first that passes its test is taken.
    exponentials : tensor [..., CANDIDATES - 1]
        One for each test. The last candidate is not tested.

    Returns
    -------
    tensor [...]
    """
    d = (b - 1 / 3)[..., tf.newaxis]
    y = normals / (3.0 * tf.sqrt(d))
    tested = y[..., :-1]
    series = numerics.polynomial([(-1) ** k / (k + 4) for k in range(12)], tested)
    passed = exponentials > 3.0 * d * tf.square(tf.square(tested)) * series
    accepted = tf.unstack(passed, num=_TESTS, axis=-1)
    *candidates, chosen = tf.unstack(y, num=CANDIDATES, axis=-1)
    for c in reversed(range(_TESTS)):
        chosen = tf.where(accepted[c], candidates[c], chosen)
    return tf.math.log1p(-1 / (3 * b)) + 3.0 * tf.math.log1p(chosen)


def stirling_remainder(concentration: tf.Tensor) -> tf.Tensor:
    """Return the remainder of Stirling's formula.

    ::

        r(a) = lgamma(a) - ((a - 1/2) log a - a + log(2 pi) / 2)

    It is computed by eight terms of Gudermann's series r(a) = m(a) + m(a + 1) + ..., where
    m(x) = r(x) - r(x + 1) = (x + 1/2) log(1 + 1/x) - 1, and by the asymptotic series for the rest.
    All parts are positive and small, whereas lgamma and Stirling's formula would cancel for large
    a. (Moreover, the float32 lgamma of XLA has an error of 2e-6.)

    Parameters
    ----------
    concentration : tensor [...]
        a > 0.

    Returns
    -------
    tensor [...]
        r > 0, near 1 / (12 a) for large a.
    """
    x = concentration[..., tf.newaxis] + tf.range(8, dtype=concentration.dtype)
    series = tf.reduce_sum((x + 0.5) * tf.math.log1p(1.0 / x) - 1.0, axis=-1)
    raised = concentration + 8.0
    return series + numerics.polynomial(_STIRLING_COEFFICIENTS, 1.0 / raised**2) / raised


def trigamma_excess(a: tf.Tensor) -> tf.Tensor:
    """Return e(a) = a^2 trigamma(a) - a without cancellation.

    It falls from 1 at a = 0 to 1/2 at infinity. From a = 8 on the asymptotic series of the trigamma
    function is used (Abramowitz and Stegun 1964, 6.4.12), with its leading term cancelled
    analytically; below, the recurrence trigamma(a) = trigamma(a + 1) + 1 / a^2 (6.4.6) leads there.
    The recurrence is not a loop, so XLA can fuse it.
    """
    raised = a + _SERIES_FROM
    steps = a[..., tf.newaxis] + tf.range(1.0, _SERIES_FROM, dtype=a.dtype)
    below = tf.reduce_sum(1.0 / steps**2, axis=-1)
    small = 1.0 - a + a**2 * (below + (raised + _excess_series(raised)) / raised**2)
    return tf.where(a < _SERIES_FROM, small, _excess_series(tf.maximum(a, _SERIES_FROM)))


def _excess_series(a: tf.Tensor) -> tf.Tensor:
    """Return 1/2 + sum_j B_2j / a^(2j - 1) for a >= 8, with B_2j the Bernoulli numbers."""
    return 0.5 + numerics.polynomial(_BERNOULLI[:5], 1.0 / a**2) / a


def log_density_at_mean(concentration: tf.Tensor) -> tf.Tensor:
    """Return the log density of Gamma(a) at rate 1 at its mean a: -log(2 pi a) / 2 - r(a).

    r is the `stirling_remainder`.
    """
    log_two_pi_a = tf.math.log(2.0 * math.pi * concentration)
    return -0.5 * log_two_pi_a - stirling_remainder(concentration)


def log_kernel(z: tf.Tensor, mean: tf.Tensor, concentration: tf.Tensor) -> tf.Tensor:
    """Return the log density of Gamma(a) at z minus that at its mean.

    With w = z / mean this is (a - 1) log w - a (w - 1), written as -log w - a d, where
    d = w - 1 - log w is half the unit deviance.
    """
    shape = tf.broadcast_dynamic_shape(tf.shape(z), tf.shape(concentration))
    return _log_kernel_of_one_shape(*(tf.broadcast_to(x, shape) for x in (z, mean, concentration)))


@tf.custom_gradient
def _log_kernel_of_one_shape(
    z: tf.Tensor, mean: tf.Tensor, concentration: tf.Tensor
) -> tuple[tf.Tensor, Any]:
    """Compute `log_kernel` for arguments of equal shapes, with derivatives in closed form.

    They take a tenth of the time that differentiating the series takes to trace and to compile, and
    they do not cancel: with s = w - 1, the derivative by z is -(1 + a s) / z.
    """
    s = (z - mean) / mean
    near = tf.abs(s) < 0.25

    # Near the mean d = s - log(1 + s) cancels. As log(1 + s) = 2 artanh(u) with u = s / (2 + s), it
    # is s u - 2 u^3 (1/3 + u^2/5 + u^4/7 + ...).
    u = s / (2.0 + s)
    u2 = tf.square(u)
    near_deviance = s * u - 2.0 * u * u2 * numerics.polynomial(
        [1 / (2 * k + 3) for k in range(10)], u2
    )
    # The square roots keep the quotient from underflow where z is the smallest float.
    log_w = tf.where(near, tf.math.log1p(s), 2.0 * tf.math.log(tf.sqrt(z) / tf.sqrt(mean)))
    near_value = -log_w - concentration * near_deviance
    far_value = tf.math.multiply_no_nan(log_w, concentration - 1.0) - concentration * s

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        scaled = upstream * (1.0 + concentration * s)
        deviance = tf.where(near, near_deviance, s - log_w)
        return -scaled / z, scaled / mean, -upstream * deviance

    return tf.where(near, near_value, far_value), gradient


def zero_with_log_gradient(parameter: tf.Tensor) -> tf.Tensor:
    """Return zeros that have the gradient of log(parameter)."""
    constant = tf.stop_gradient(parameter)
    return (parameter - constant) / constant


def with_relative_gradient(value: tf.Tensor, log_change: tf.Tensor) -> tf.Tensor:
    """Return `value` with a gradient: the value times the gradient of `log_change`, which is zero.

    Values below the smallest normal float are raised to it and keep their relative gradient.
    """
    tiny = np.finfo(value.dtype.as_numpy_dtype).tiny
    return tf.stop_gradient(tf.maximum(value, tiny)) * (1.0 + log_change)
