"""How many components hold rows, by a Gibbs sampler: what tests/test_unknown_k.py is held against.

Labels and parameters are drawn in turn from their conditional distributions, all exact, for the
2,000 rows and the priors of that test: no approximation but the sampler's own noise, some 0.03 on
each probability between seeds. Sticks keep their places, among which labels move slowly.

Run it, from the project's root:  python tests/reference/make_occupied.py
It prints the probability of each number of occupied components, for four priors.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from test_unknown_k import CENTRES, K_MAX, D, four_clusters, in_units_of

SWEEPS, BURN_IN = 6_000, 1_000
STICKS = (0.1, 0.3)
DIRICHLETS = (0.01, 0.05)


def log_gamma_draw(shape, rng):
    """The log of a draw of Gamma(shape), also where the draw would underflow."""
    return np.log(rng.gamma(shape + 1.0)) + np.log(rng.random(np.shape(shape))) / shape


def dirichlet_log_weights(count, concentration, rng):
    """Log weights [K] given the rows in each component."""
    drawn = log_gamma_draw(concentration + count, rng)
    return drawn - np.logaddexp.reduce(drawn)


def stick_log_weights(count, concentration, rng):
    """The same for broken sticks: of what is left, Beta(1 + rows here, concentration + after)."""
    after = count[::-1].cumsum()[::-1] - count
    here = log_gamma_draw(1.0 + count[:-1], rng)
    there = log_gamma_draw(concentration + after[:-1], rng)
    both = np.logaddexp(here, there)
    left = np.append(0.0, np.cumsum(there - both))
    return left + np.append(here - both, 0.0)


def occupied(draw_log_weights, concentration, seed=0):
    """Probability of 0, 1, ..., K_MAX occupied components."""
    rng = np.random.default_rng(seed)
    X = four_clusters().astype(np.float64)
    prior = in_units_of(four_clusters())
    prior_precision = prior["mean_scale"] ** -2.0
    label = np.argmin(((X[:, np.newaxis] - CENTRES) ** 2).sum(axis=2), axis=1)
    tau = np.ones((K_MAX, D))
    found = np.zeros(K_MAX + 1)
    for sweep in range(SWEEPS):
        count = np.bincount(label, minlength=K_MAX).astype(np.float64)
        total = np.stack([np.bincount(label, X[:, d], K_MAX) for d in range(D)], axis=1)
        log_weights = draw_log_weights(count, concentration, rng)
        precision = prior_precision + count[:, np.newaxis] * tau
        centre = (prior_precision * prior["mean_loc"] + tau * total) / precision
        means = centre + rng.standard_normal((K_MAX, D)) / np.sqrt(precision)
        off = (X - means[label]) ** 2
        square = np.stack([np.bincount(label, off[:, d], K_MAX) for d in range(D)], axis=1)
        shape = prior["precision_concentration"] + count[:, np.newaxis] / 2.0
        tau = rng.gamma(shape) / (prior["precision_rate"] + square / 2.0)
        log_density = 0.5 * np.log(tau).sum(axis=1) - 0.5 * (
            (X[:, np.newaxis] - means) ** 2 * tau
        ).sum(axis=2)
        label = np.argmax(log_weights + log_density + rng.gumbel(size=log_density.shape), axis=1)
        if sweep >= BURN_IN:
            found[len(np.unique(label))] += 1
    return found / found.sum()


if __name__ == "__main__":
    for name, draw, concentrations in (
        ("sticks", stick_log_weights, STICKS),
        ("Dirichlet", dirichlet_log_weights, DIRICHLETS),
    ):
        for concentration in concentrations:
            print(name, concentration, np.round(occupied(draw, concentration), 3).tolist())
