"""Hashes of row numbers, and the rows with the smallest."""

import numpy as np
from scipy import stats

from bgmm_jd.sources.row_sample import RowSample, join, row_keys


def splitmix(state):
    """Return the next number of the generator SplitMix64, in plain integers."""
    x = state % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_keys_are_the_hash_of_seed_and_number():
    golden = 0x9E3779B97F4A7C15
    expected = [splitmix(splitmix(5 + golden) + n * golden) for n in range(4)]
    assert row_keys(np.arange(4), 5).tolist() == expected


def test_first_known_number_of_splitmix():
    """0xE220A8397B1DCDAF is the first output for the seed 0 in the authors' program."""
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_keys_are_uniform_and_differ_between_seeds():
    a, b = (row_keys(np.arange(100_000), seed) / 2.0**64 for seed in (0, 1))
    assert stats.kstest(a, "uniform").pvalue > 1e-4
    assert abs(stats.pearsonr(a, b).statistic) < 4 / np.sqrt(100_000)


def sample_of(numbers):
    numbers = np.asarray(numbers)
    return RowSample(row_keys(numbers, 3), numbers, numbers[:, np.newaxis] * 1.0, None)


def test_smallest_of_parts_are_the_smallest_of_all():
    whole = sample_of(range(1_000)).smallest(50).in_order()
    parts = [sample_of(range(0, 400)), sample_of(range(400, 401)), sample_of(range(401, 1_000))]
    joined = join([part.smallest(50) for part in parts]).smallest(50).in_order()
    np.testing.assert_array_equal(joined.number, whole.number)
    expected = np.sort(np.argsort(row_keys(np.arange(1_000), 3))[:50])
    np.testing.assert_array_equal(whole.number, expected)
    np.testing.assert_array_equal(whole.values[:, 0], whole.number)
