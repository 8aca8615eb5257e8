"""The log evidence of small one-dimensional mixtures, by a sum over all allocations of the rows."""

import numpy as np
from scipy import special

_POINTS = 4_000  # of the grid of log precisions: the rule's error falls exponentially


def _unwrapped(distribution):
    while hasattr(distribution, "distribution"):
        distribution = distribution.distribution
    return distribution


def exact_log_evidence(posterior, rows):
    """Return the sum over all allocations under a fit's own default prior, of one feature."""
    found, _ = posterior.prior.sample_distributions(seed=(0, 0))
    means, precisions = _unwrapped(found.means), _unwrapped(found.precisions)
    first = {
        name: float(np.ravel(v)[0])
        for name, v in (
            ("mean_loc", means.loc),
            ("mean_scale", means.scale),
            ("precision_concentration", precisions.concentration),
            ("precision_rate", precisions.rate),
        )
    }
    return log_evidence(rows, posterior.K, weight_concentration=2.0, **first)


def log_evidence(
    rows, K, *, mean_loc, mean_scale, precision_concentration, precision_rate, weight_concentration
):
    """Return the log marginal likelihood of rows [N] under a mixture of K components.

    Weights ~ Dirichlet(a), means ~ Normal, precisions ~ Gamma, all independent. Given an allocation
    of the rows to components the likelihood factorises, and the weights integrate to a
    Dirichlet-multinomial probability. The sum over all K^N allocations is built up component by
    component, over all subsets of the rows that it may have.
    """
    a, N = weight_concentration, len(rows)
    members = (np.arange(2**N)[:, np.newaxis] >> np.arange(N)) & 1
    count = members.sum(axis=1)
    own = log_marginals(
        members, rows, mean_loc, mean_scale, precision_concentration, precision_rate
    )
    own += special.gammaln(a + count) - special.gammaln(a)
    total = own
    for _ in range(K - 1):
        total = np.array([_add_component(total, own, subset) for subset in range(2**N)])
    return total[-1] + special.gammaln(K * a) - special.gammaln(K * a + N)


def _add_component(total, own, subset):
    """Return the sum over the ways to give a part of a subset to one more component."""
    parts = _subsets(subset)
    return special.logsumexp(own[parts] + total[subset ^ parts])


def _subsets(subset):
    """Return all subsets of a set of bits."""
    found = np.zeros(1, int)
    for bit in range(subset.bit_length()):
        if subset >> bit & 1:
            found = np.concatenate([found, found | 1 << bit])
    return found


def log_marginals(members, rows, loc, scale, concentration, rate):
    """Return the log marginal likelihood of each subset of the rows in one component.

    The mean is integrated out in closed form, and the log precision on a grid.
    """
    count = members.sum(axis=1)
    mean = members @ rows / np.maximum(count, 1)
    scatter = (members * (rows - mean[:, np.newaxis]) ** 2).sum(axis=1)
    log_tau = np.linspace(-12.0, 14.0, _POINTS)
    tau = np.exp(log_tau)
    prior = concentration * (np.log(rate) + log_tau) - special.gammaln(concentration) - rate * tau
    n = np.maximum(count, 1)[:, np.newaxis]
    variance = scale**2 + 1.0 / (n * tau)
    log_density = (
        0.5 * (n - 1) * (log_tau - np.log(2.0 * np.pi))
        - 0.5 * tau * scatter[:, np.newaxis]
        - 0.5 * np.log(n)
        - 0.5 * np.log(2.0 * np.pi * variance)
        - 0.5 * (mean[:, np.newaxis] - loc) ** 2 / variance
    )
    found = special.logsumexp(log_density + prior, axis=1) + np.log(log_tau[1] - log_tau[0])
    return np.where(count > 0, found, 0.0)
