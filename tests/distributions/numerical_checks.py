"""Tolerances, exact values and comparisons that the tests of distributions share.

A Kolmogorov-Smirnov test raises a false alarm with probability 1e-6, a comparison of means within
5 standard errors with probability 6e-7. Errors of rounding are bounded by `ROUNDINGS` eps of each
term of a sum, because elementary functions are accurate to two units in the last place.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special

FALSE_ALARM = 1e-6
STANDARD_ERRORS = 5
ROUNDINGS = 8
DTYPES = [tf.float32, tf.float64]


def eps(dtype: Any) -> float:
    """Return the distance from 1 to the next float."""
    return np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps


def tiny(dtype: Any) -> float:
    """Return the smallest normal float."""
    return np.finfo(tf.as_dtype(dtype).as_numpy_dtype).tiny


def in_every_mode(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return the results in eager mode, in a graph and under XLA."""
    compiled = tf.function(function, jit_compile=True)
    return [function(*args), tf.function(function)(*args), compiled(*args)]


def has_loops(program: Any, *specs: tf.TensorSpec) -> bool:
    """Return whether a `tf.function` has loops or branches in its graph."""
    graph = program.get_concrete_function(*specs).graph
    kinds = {operation.type for operation in graph.get_operations()}
    return any("While" in kind or "If" in kind for kind in kinds)


def assert_mean(values: np.ndarray, expected: Any) -> None:
    """Compare means over the first axis elementwise with expected values."""
    error = values.std(axis=0) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < STANDARD_ERRORS * error)


def kernel_size(w: Any, a: Any) -> Any:
    """Return the size of the terms of `log_kernel` at w = z / mean; errors are some eps of it.

    Far from the mean, (a - 1) log w and a (w - 1) are added. Near it they are not, but rounding w
    changes the kernel by its slope, 1 + a |w - 1|.
    """
    far = np.where(np.abs(w - 1) < 0.25, 0.0, np.abs(a - 1) * np.abs(np.log(w)))
    return 1 + a * np.abs(w - 1) + far


def quantile_elasticity(z: np.ndarray, a: float) -> np.ndarray:
    """Return dlog z / dlog a of Gamma(a) draws along their quantile, by differences of scipy's.

    The step of 1e-4 leaves a relative error of 1e-8 by its square, and 1e-10 by rounding.
    """
    low, high = a * (1 - 1e-4), a * (1 + 1e-4)
    upper = z > a
    p = np.where(upper, special.gammaincc(a, z), special.gammainc(a, z))
    ends = [
        np.where(upper, special.gammainccinv(b, p), special.gammaincinv(b, p)) for b in (low, high)
    ]
    return (ends[1] - ends[0]) / z / 2e-4


def break_sticks(v: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return proportions [..., K] from v and 1 - v, [..., K - 1], one break after the other."""
    pieces, remaining = [], np.ones_like(v[..., 0])
    for k in range(v.shape[-1]):
        pieces.append(remaining * v[..., k])
        remaining = remaining * rest[..., k]
    return np.stack([*pieces, remaining], axis=-1)


# Written out: a product at this place would be rounded to the 28 digits of the default context.
TWO_PI = Decimal("6.28318530717958647692528676655900576839433879875022")


def as_decimal(x: Any) -> Decimal:
    """Return the exact value of a float."""
    return Decimal(float(x))


def decimal_log_gamma(a: Decimal) -> Decimal:
    """Return lgamma(a) in the decimal context in use, to 20 digits if that has 50.

    By Stirling's series at a + 40 and the recurrence. Its coefficients are B_2k / (2k (2k - 1)),
    and the first term that is left out is below 1e-21.
    """
    product = Decimal(1)
    for j in range(40):
        product *= a + j
    b = a + 40
    coefficients = [(1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156)]
    series = sum(
        Decimal(top) / bottom / b ** (2 * k + 1) for k, (top, bottom) in enumerate(coefficients)
    )
    return (b - Decimal("0.5")) * b.ln() - b + TWO_PI.ln() / 2 + series - product.ln()
