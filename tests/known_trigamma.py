"""The trigamma function beside its leading term, by an integral, and the error of its series."""

import itertools

import numpy as np
from scipy import integrate

# Truncation error of the trigamma function, a series cut at B_10: less than the first term left
# out, |B_12| / a^11 with a >= 8.
TRIGAMMA_TRUNCATION = 691 / 2730 / 8.0**11


def trigamma_excess_by_integral(a):
    """Compute a^2 trigamma(a) - a without cancellation, by Binet's second formula.

    Differentiated twice it gives 1/2 + 4 a times the integral of
    u / ((1 + u^2)^2 (exp(2 pi a u) - 1)) du from 0 to infinity.
    """

    def integrand(u):
        return u / ((1 + u * u) ** 2 * np.expm1(min(2 * np.pi * a * u, 100.0)))

    edges = np.array([0, 0.1, 0.5, 1, 3, 10]) / a if a > 1 else np.array([0, 0.5, 1, 5, 50, 1e4])
    pieces = itertools.pairwise(edges)
    return 0.5 + 4 * a * sum(integrate.quad(integrand, *p, epsrel=1e-12)[0] for p in pieces)
