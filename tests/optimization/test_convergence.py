"""Convergence of a run, on iterates whose drift is known."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd import mixture_prior
from bgmm_jd.optimization import convergence
from bgmm_jd.variational import structure

SITES = structure.sites_of(mixture_prior(2, 1, dtype="float64"))

# Unconstrained coordinates of a converged surrogate: concentrations and precisions as logs.
CENTRE = {
    "weights": {"concentration": np.log([40.0, 60.0])},
    "means": {"loc": np.array([[-1.0], [2.0]]), "scale": np.log([[0.1], [0.2]])},
    "precisions": {
        "concentration": np.log([[20.0], [30.0]]),
        "mean": np.log([[1.0], [4.0]]),
    },
}


def moved(site, name, by):
    """Return the converged block with one parameter of the first component moved."""
    block = {s: {n: v.copy() for n, v in parameters.items()} for s, parameters in CENTRE.items()}
    block[site][name].flat[0] += by
    return block


def noise(rng, size):
    return {
        s: {n: v + size * rng.standard_normal(v.shape) for n, v in parameters.items()}
        for s, parameters in CENTRE.items()
    }


@pytest.mark.parametrize(
    ("count", "kept"), [(1, 1), (3, 1), (4, 2), (7, 2), (8, 4), (11, 4), (12, 6), (100, 50)]
)
def test_second_half_has_an_even_number_of_blocks(count, kept):
    """So that its halves are equal; it is the last block of a short run."""
    blocks = list(range(count))
    assert convergence.second_half(blocks) == blocks[-kept:]
    assert kept == 1 or (kept % 2 == 0 and kept <= count / 2)


def test_checks_are_due_about_eight_times_in_each_doubling():
    checks = [n for n in range(1, 2000) if convergence.is_check_due(n)]
    assert checks[:16] == list(range(1, 17))
    for start in (16, 100, 500, 900):
        assert 4 <= sum(start <= n < 2 * start for n in checks) <= 16
    half = [n for n in range(1, 2000) if convergence.is_check_due(n, 4)]
    assert set(half) < set(checks)
    assert [n for n in half if 12 <= n <= 32] == [12, 14, 16, 20, 24, 28, 32]
    # A check averages half of all blocks; after every block, checks would cost as much as the run.
    assert len(checks) < 80


def test_average_is_the_mean_in_unconstrained_coordinates():
    """The geometric mean of a positive parameter, the mean of a location."""
    blocks = [moved("precisions", "mean", 0.0), moved("precisions", "mean", np.log(9.0))]
    found = convergence.average_parameters(SITES, blocks)
    np.testing.assert_allclose(found["precisions"]["mean"], [[3.0], [4.0]], rtol=1e-14)
    blocks = [moved("means", "loc", 0.0), moved("means", "loc", 4.0)]
    found = convergence.average_parameters(SITES, blocks)
    np.testing.assert_allclose(found["means"]["loc"], [[1.0], [2.0]], rtol=1e-14)
    np.testing.assert_allclose(found["means"]["scale"], [[0.1], [0.2]], rtol=1e-14)
    assert all(isinstance(leaf, np.ndarray) for leaf in tf.nest.flatten(found))


def test_drift_of_equal_blocks_is_zero():
    assert convergence.drift(SITES, [CENTRE] * 8) == 0


@pytest.mark.parametrize("count", [1, 4, 7])
def test_drift_of_a_short_run_is_infinite(count):
    assert convergence.drift(SITES, [CENTRE] * count) == np.inf


@pytest.mark.parametrize(
    ("site", "name", "by", "expected"),
    [
        ("means", "loc", 0.03, 0.3),  # the sd is 0.1
        ("means", "scale", 0.4, 0.4),  # the log of the sd itself
        ("precisions", "concentration", 0.5, 0.25),  # sd = mean / sqrt(concentration)
        # The mean moves by exp(0.02) - 1 of itself, and its new sd is exp(0.02) / sqrt(20).
        ("precisions", "mean", 0.02, (1 - np.exp(-0.02)) * np.sqrt(20)),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_drift_is_in_posterior_sds(site, name, by, expected, sign):
    """The later half of the averaged blocks moved as a whole, up or down."""
    away = moved(site, name, by)
    blocks = [CENTRE, away] if sign > 0 else [away, CENTRE]
    found = convergence.drift(SITES, [CENTRE] * 4 + [b for b in blocks for _ in range(2)])
    if (site, name, sign) == ("precisions", "mean", -1):
        expected = (np.exp(0.02) - 1) * np.sqrt(20)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_drift_ignores_the_first_half_of_the_run():
    assert convergence.drift(SITES, [moved("means", "loc", 1e3)] * 8 + [CENTRE] * 8) == 0


def test_noise_around_the_optimum_averages_out():
    """The mean of 64 blocks with noise of a tenth of an sd has less noise than each of them."""
    rng = np.random.default_rng(0)
    found = convergence.drift(SITES, [noise(rng, 0.01) for _ in range(128)])
    # Halves of 32 blocks; the largest response is sqrt(30) sds per unit of log mean. 8 numbers at
    # 5 of their sds: a false alarm of 5e-6.
    assert found < 5 * np.sqrt(30) * 0.01 * np.sqrt(2 / 32)
    average = convergence.average_parameters(SITES, [noise(rng, 0.01) for _ in range(64)])
    assert np.all(np.abs(average["means"]["loc"] - CENTRE["means"]["loc"]) < 5 * 0.01 / 8)


def test_moment_vectors_are_those_of_the_surrogate():
    params = convergence.average_parameters(SITES, [CENTRE])
    mean, sd = convergence.parameter_moments(SITES, params)
    weights = np.array([0.4, 0.6])
    np.testing.assert_allclose(mean, [*weights, -1.0, 2.0, 1.0, 4.0], rtol=1e-14)
    expected = [
        *np.sqrt(weights * (1 - weights) / 101),
        0.1,
        0.2,
        1.0 / np.sqrt(20),
        4.0 / np.sqrt(30),
    ]
    np.testing.assert_allclose(sd, expected, rtol=1e-14)
