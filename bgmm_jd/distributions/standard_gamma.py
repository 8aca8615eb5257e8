"""Draws from Gamma(a) at rate 1, their gradients, and the special functions these need."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend import numerics, random

# Concentrations below _RAISE are drawn at a + _RAISE. From 10 on a candidate is rejected with
# probability below 0.3 %, no normal draw is so low that the cube of `_marsaglia_tsang` turns
# negative (3 sqrt(10 - 1/3) = 9.3 standard deviations), and three corrections of the gradient do.
_RAISE = 10

# The last candidate is taken untested. That all three should have been rejected has probability
# below 3e-8, and only then does the draw follow the transform of the normal instead of the Gamma:
# it would take 1e14 draws to tell.
_CANDIDATES = 3
_TESTS = _CANDIDATES - 1

# Below, the trigamma function is brought up to its asymptotic series by recurrence.
_SERIES_FROM = 8.0


def _series_product(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
    """Coefficients of the product of two power series, as far as both are known."""
    length = min(len(p), len(q))
    return [sum((p[j] * q[i - j] for j in range(i + 1)), Fraction(0)) for i in range(length)]


def _elasticity_corrections(orders: int, degree: int) -> list[list[float]]:
    """Taylor coefficients of G_1, ..., G_orders of `path_elasticity`: one row per power of t.

    With B = t / (e^t - 1), whose coefficients are the Bernoulli numbers over factorials, the
    recursion is G_0 = B, G_k = B * (G_{k-1}' - G_{k-1}'(0)) / t. In fractions, as it cancels.
    """
    length = degree + 1 + 2 * orders  # an order costs two: for the derivative and the division
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


# B_2, B_4, ..., of which B_2j / (2j (2j - 1)) are the coefficients of Stirling's series in
# a^(1 - 2j) (Abramowitz and Stegun 1964, 6.1.41): eight are right to 1e-14 from a = 8 on.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_STIRLING = [b / (2 * j * (2 * j - 1)) for j, b in enumerate(_BERNOULLI, start=1)]

_CORRECTIONS = _elasticity_corrections(orders=3, degree=12)


def path_elasticity(log_ratio: tf.Tensor, concentration: tf.Tensor) -> tf.Tensor:
    """Relative change of a Gamma draw per relative change of its concentration, dlog z / dlog a.

    A draw that keeps its quantile moves at the speed dz/da = z G / a, with G this elasticity; and a
    density whose mass moves at a speed v obeys the transport equation dp/da + d(p v)/dz = 0. For
    the Gamma density that is, in t = log(z / a),

        (e^t - 1) G = t + log a - digamma(a) + (dG/dt) / a.

    Expand G = G_0 + G_1 / a + ... and log a - digamma(a) = b_1 / a + b_2 / a^2 + ... :

        G_0 = t / (e^t - 1),    G_k = (b_k + dG_{k-1}/dt) / (e^t - 1).

    As G is smooth at t = 0, b_k is -G_{k-1}'(0), and the numerator of G_k cancels there. So the G_k
    are computed by their Taylor series, whose radius is 2 pi. Differentiating Temme's (1979)
    uniform expansion of the incomplete gamma ratio leads to the same, by a longer way.

    Parameters
    ----------
    log_ratio : tensor [...]
        t, above -3: for a = 10, twice in 1e10 draws are below, and fewer for larger a.
    concentration : tensor [...]
        a >= 10. The error relative to G is then below 1e-6 for draws within 5 standard deviations.

    Returns
    -------
    tensor [...]
        G > 0, near 1 - t/2 + 1/(6a) about the mean.
    """
    eps = tf.constant(np.finfo(log_ratio.dtype.as_numpy_dtype).eps, log_ratio.dtype)
    # At the mean itself G_0 is 0/0; an eps beside it, it is right to an eps.
    t = tf.where(tf.abs(log_ratio) < eps, eps, log_ratio)
    g1, g2, g3 = tf.unstack(numerics.polynomial(_CORRECTIONS, t[..., tf.newaxis]), num=3, axis=-1)
    a = concentration
    return t / tf.math.expm1(t) + (g1 + (g2 + g3 / a) / a) / a


class StandardGammaDraw(NamedTuple):
    """Draws z = scale * exp(log_factor) from Gamma(a) at rate 1, all tensors [...].

    Kept in two factors: z itself may underflow for small a, where a Dirichlet needs only ratios;
    log z has no room for the digits of z for large a.
    """

    scale: tf.Tensor
    log_factor: tf.Tensor
    change: tf.Tensor  # the number 0, but its gradient is that of log z in the concentration


def draw_standard_gamma(
    concentration: tf.Tensor, seed: tf.Tensor, antithetic: bool
) -> StandardGammaDraw:
    """Draw one z ~ Gamma(a) for each element a of a tensor [...].

    If z_b ~ Gamma(b), b - a is a whole number n, and u_0, ..., u_{n-1} are uniform, then
    z_b u_0^(1/a) u_1^(1/(a+1)) ... u_{n-1}^(1/(b-1)) ~ Gamma(a). With e_j = -log u_j:

        log z = log z_b - sum_j e_j / (a + j),
        dlog z / dlog a = (a / b) G(b) + a sum_j e_j / (a + j)^2,    G as in `path_elasticity`.
    """
    a = tf.stop_gradient(concentration)
    # One call of the generator: each takes XLA longer to compile than all the arithmetic below.
    shape = tf.concat([tf.shape(a), [_CANDIDATES + _TESTS + _RAISE]], axis=0)
    words = random.random_words(random.half_shape(shape) if antithetic else shape, seed, a.dtype)
    candidates = random.to_normal(words[..., :_CANDIDATES])
    exponentials = random.to_exponential(words[..., _CANDIDATES:])
    if antithetic:
        candidates = random.join_pairs(candidates, -candidates, shape[0])
        exponentials = random.join_pairs(exponentials, exponentials, shape[0])

    small = a < _RAISE
    b = tf.where(small, a + _RAISE, a)
    log_ratio = _marsaglia_tsang(b, candidates, exponentials[..., :_TESTS])

    steps = a[..., tf.newaxis] + tf.range(_RAISE, dtype=a.dtype)
    powers = tf.where(small[..., tf.newaxis], exponentials[..., _TESTS:] / steps, 0.0)
    lowered = tf.reduce_sum(powers, axis=-1)
    lowered_slope = tf.reduce_sum(powers / steps, axis=-1)

    elasticity = a * (path_elasticity(log_ratio, b) / b + lowered_slope)
    change = elasticity * relative_change(concentration)
    return StandardGammaDraw(scale=b, log_factor=log_ratio - lowered, change=change)


def _marsaglia_tsang(b: tf.Tensor, normals: tf.Tensor, exponentials: tf.Tensor) -> tf.Tensor:
    """Draw t = log(z / b) for z ~ Gamma(b), b >= 10.

    With d = b - 1/3 and y = x / (3 sqrt(d)) for a normal draw x, z = d (1 + y)^3 is accepted if an
    exponential draw exceeds

        d ((1 + y)^3 - 1 - 3 log(1 + y)) - x^2 / 2 = 3 d y^4 (1/4 - y/5 + y^2/6 - ...).

    The left side has no digits left in float32 when d is large, so the series is used: twelve terms
    are right to 1e-5 within 4 standard deviations, and all told misplace less than 1e-8 of the law.
    Rounding may tip a test in one mode of execution only: in float32, once in 1e8 draws.

    Parameters
    ----------
    b : tensor [...]
    normals : tensor [..., C]
        One for each candidate.
    exponentials : tensor [..., C - 1]
        One for each test; the last candidate is not tested.

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
    *candidates, chosen = tf.unstack(y, num=_CANDIDATES, axis=-1)
    for c in reversed(range(_TESTS)):
        chosen = tf.where(accepted[c], candidates[c], chosen)
    return tf.math.log1p(-1 / (3 * b)) + 3.0 * tf.math.log1p(chosen)


def stirling_remainder(concentration: tf.Tensor) -> tf.Tensor:
    """What Stirling's formula leaves: r(a) = lgamma(a) - ((a - 1/2) log a - a + log(2 pi) / 2).

    Gudermann's series r(a) = m(a) + m(a + 1) + ..., where m(x) = r(x) - r(x + 1) =
    (x + 1/2) log(1 + 1/x) - 1, for eight terms, and the asymptotic series for the rest. All parts
    are positive and small, while lgamma and Stirling's formula would cancel for large a. (And the
    float32 lgamma of XLA is only good to 2e-6.)

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
    return series + numerics.polynomial(_STIRLING, 1.0 / raised**2) / raised


def trigamma_excess(a: tf.Tensor) -> tf.Tensor:
    """e(a) = a^2 trigamma(a) - a, from 1 at a = 0 to 1/2 at infinity, without cancellation.

    From 8 on by the asymptotic series of the trigamma function (Abramowitz and Stegun 1964,
    6.4.12), whose leading term cancels by hand; below, raised to it by trigamma(a) =
    trigamma(a + 1) + 1 / a^2 (6.4.6). No loop, so XLA fuses it.
    """
    raised = a + _SERIES_FROM
    steps = a[..., tf.newaxis] + tf.range(1.0, _SERIES_FROM, dtype=a.dtype)
    below = tf.reduce_sum(1.0 / steps**2, axis=-1)
    small = 1.0 - a + a**2 * (below + (raised + _excess_series(raised)) / raised**2)
    return tf.where(a < _SERIES_FROM, small, _excess_series(tf.maximum(a, _SERIES_FROM)))


def _excess_series(a: tf.Tensor) -> tf.Tensor:
    """1/2 + sum_j B_2j / a^(2j - 1), B_2j the Bernoulli numbers, for a >= 8."""
    return 0.5 + numerics.polynomial(_BERNOULLI[:5], 1.0 / a**2) / a


def log_density_at_mean(concentration: tf.Tensor) -> tf.Tensor:
    """Log density of Gamma(a), at rate 1, at its mean: -log(2 pi a) / 2 - r(a)."""
    log_two_pi_a = tf.math.log(2.0 * math.pi * concentration)
    return -0.5 * log_two_pi_a - stirling_remainder(concentration)


def log_kernel(z: tf.Tensor, mean: tf.Tensor, concentration: tf.Tensor) -> tf.Tensor:
    """Log density of Gamma(a) at z less that at its mean: (a - 1) log w - a (w - 1), w = z / mean.

    Written as -log w - a d, with the deviance d = w - 1 - log w.
    """
    shape = tf.broadcast_dynamic_shape(tf.shape(z), tf.shape(concentration))
    return _kernel(*(tf.broadcast_to(x, shape) for x in (z, mean, concentration)))


@tf.custom_gradient
def _kernel(z: tf.Tensor, mean: tf.Tensor, concentration: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """`_log_kernel` of equal shapes, with its derivatives in closed form.

    They cost a tenth of what differentiating the series costs to trace and to compile, and keep
    their digits: with s = w - 1, the derivative in z is -(1 + a s) / z.
    """
    s = (z - mean) / mean
    near = tf.abs(s) < 0.25

    # Near the mean d cancels: it is s u - 2 u^3 (1/3 + u^2/5 + u^4/7 + ...) with u = s / (2 + s),
    # because log(1 + s) = 2 artanh(u).
    u = s / (2.0 + s)
    u2 = tf.square(u)
    series = s * u - 2.0 * u * u2 * numerics.polynomial([1 / (2 * k + 3) for k in range(10)], u2)
    # Roots, as z may be the smallest float and the mean above 1.
    log_w = tf.where(near, tf.math.log1p(s), 2.0 * tf.math.log(tf.sqrt(z) / tf.sqrt(mean)))
    near_value = -log_w - concentration * series
    far_value = tf.math.multiply_no_nan(log_w, concentration - 1.0) - concentration * s

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        pull = upstream * (1.0 + concentration * s)
        deviance = tf.where(near, series, s - log_w)
        return -pull / z, pull / mean, -upstream * deviance

    return tf.where(near, near_value, far_value), gradient


def relative_change(parameter: tf.Tensor) -> tf.Tensor:
    """The number 0, with the gradient of log(parameter)."""
    here = tf.stop_gradient(parameter)
    return (parameter - here) / here


def with_relative_gradient(value: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """`value`, at least the smallest normal float, with the gradient of value * (1 + change)."""
    tiny = np.finfo(value.dtype.as_numpy_dtype).tiny
    return tf.stop_gradient(tf.maximum(value, tiny)) * (1.0 + change)
