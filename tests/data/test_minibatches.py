"""The rows of each minibatch: every row once an epoch, in a random order.

A statistical test raises a false alarm with probability 1e-6; the seeds are fixed.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from bgmm_jd.backend import random
from bgmm_jd.data import minibatches

FALSE_ALARM = 1e-6

CUTS = [
    (1, 1),
    (2, 1),
    (7, 1),
    (7, 7),
    (7, 2),
    (7, 3),
    (7, 5),
    (7, 6),
    (10, 5),
    (10, 4),
    (1000, 64),
]


def epoch_of(batches, epoch, seed):
    """Return the rows of each batch of an epoch, by the function that the fit calls."""
    for step in range(epoch * batches.count, (epoch + 1) * batches.count):
        indices, real = minibatches.batch_indices(batches, tf.constant(step), tf.constant(seed))
        yield indices.numpy(), real.numpy()


@pytest.mark.parametrize(("N", "B"), CUTS)
def test_each_row_occurs_once_an_epoch(N, B):
    batches = minibatches.equal_batches(N, B)
    for epoch in (0, 5):
        parts = list(epoch_of(batches, epoch, [3, 4]))
        assert all(len(indices) == batches.size <= B for indices, _ in parts)
        sizes = [int(real.sum()) for _, real in parts]
        assert max(sizes) - min(sizes) <= 1  # none is a noisy remainder
        rows = np.concatenate([indices[real] for indices, real in parts])
        np.testing.assert_array_equal(np.sort(rows), np.arange(N))
        # The padding entry is read as well, and so must be a row.
        assert all(indices.min() >= 0 and indices.max() < N for indices, _ in parts)


def test_batches_are_the_fewest_and_as_equal_as_possible():
    """For every batch size of up to forty rows."""
    for N in range(1, 41):
        for B in range(1, N + 1):
            batches = minibatches.equal_batches(N, B)
            assert batches.N == N
            assert batches.size <= B
            assert batches.count * (batches.size - 1) < N <= batches.count * batches.size
            assert batches.count == -(-N // B)  # the fewest


def test_order_of_rows_differs_between_epochs_and_seeds():
    batches = minibatches.equal_batches(100, 60)
    orders = {
        tuple(np.concatenate([i for i, _ in epoch_of(batches, epoch, seed)]))
        for epoch in range(3)
        for seed in ([0, 0], [0, 1], [10, 0])
    }
    # Two permutations of 100 rows are equal with probability 1e-158.
    assert len(orders) == 9


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 31, 100, 1023, 4096, 100_003])
def test_permute_sends_all_numbers_to_a_permutation(N):
    for seed in ([0, 0], [1, 2], [-5, 2**31 - 1]):
        order = minibatches.permute(tf.range(N), N, tf.constant(seed, tf.int32))
        assert order.dtype == tf.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(N))


def test_permute_sends_some_numbers_where_it_sends_them_among_all():
    seed = tf.constant([11, -7])
    every = minibatches.permute(tf.range(1000), 1000, seed)
    np.testing.assert_array_equal(
        minibatches.permute(tf.range(300, 400), 1000, seed), every[300:400]
    )


def test_batches_are_the_same_in_every_execution():
    batches = minibatches.equal_batches(1003, 130)

    def batch(step, seed):
        return minibatches.batch_indices(batches, step, seed)

    # The last of the second epoch, which has a padding entry.
    arguments = tf.constant(2 * batches.count - 1), tf.constant([11, -7])
    eager = batch(*arguments)
    for function in (tf.function(batch), tf.function(batch, jit_compile=True)):
        for found, expected in zip(function(*arguments), eager, strict=True):
            np.testing.assert_array_equal(found, expected)


def orders(N, count):
    """Draw permutations [count, N] by successive epochs' seeds, as the fit does."""

    @tf.function(jit_compile=True)
    def run():
        seed = tf.constant([5, 6], tf.int32)
        return tf.map_fn(
            lambda epoch: minibatches.permute(tf.range(N), N, random.offset_seed(seed, epoch)),
            tf.range(count),
        )

    return run().numpy()


@pytest.mark.parametrize("N", [4, 5])
def test_every_order_of_few_rows_is_equally_likely(N):
    found = orders(N, 12_000)
    every = list(itertools.permutations(range(N)))
    counts = [np.sum((found == order).all(axis=1)) for order in every]
    assert sum(counts) == len(found)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_position_of_a_row_is_uniform_and_independent_of_its_neighbour():
    N = 12
    found = orders(N, 12_000)
    first, second = found[:, 3], found[:, 4]
    # All pairs of different positions are equally likely.
    pairs = np.zeros((N, N), int)
    np.add.at(pairs, (first, second), 1)
    assert stats.chisquare(pairs[~np.eye(N, dtype=bool)]).pvalue > FALSE_ALARM
