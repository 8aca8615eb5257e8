"""Which rows each step of the minibatch loop reads."""

import math
from dataclasses import dataclass

import tensorflow as tf

from bgmm_jd.backend.random import offset_seed, random_words

# Rounds of the swap-or-not shuffle. Each round sends a row to one of two places by a coin flip;
# after 24 the batch that a row falls in is independent of its place in X for every practical N.
_SHUFFLE_ROUNDS = 24


@dataclass(frozen=True)
class Batches:
    """How an epoch is cut: `count` batches of `size` rows or one fewer, every row once.

    The batches are as equal as can be, so that none is a noisy remnant: with the batch's sum
    multiplied by `count`, each row has the same weight, and the mean over an epoch's batches is
    exactly the full sum whether or not the size divides N.
    """

    rows: int
    size: int
    count: int


def equal_batches(rows: int, batch_size: int) -> Batches:
    """Cut `rows` into the fewest batches of at most `batch_size` rows, as equal as can be."""
    count = math.ceil(rows / batch_size)
    return Batches(rows=rows, size=math.ceil(rows / count), count=count)


def batch_indices(
    batches: Batches, step: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Row numbers of the batch of one step, drawn from that step's reshuffled epoch.

    Parameters
    ----------
    batches : Batches
    step : int32 scalar, counted from 0 over the whole run.
    seed : int32 [2], the same for the whole run; each epoch takes one to itself (`draws.offset`).

    Returns
    -------
    indices : int32 [size], rows of X.
    weight : bool [size], False for the one filling entry of a batch that is a row short.
    """
    epoch, batch = step // batches.count, step % batches.count
    # Balanced cut: the first `longer` batches have `size` rows, the others one fewer.
    longer = batches.rows - batches.count * (batches.size - 1)
    first = batch * batches.size - tf.maximum(batch - longer, 0)
    place = first + tf.range(batches.size)
    real = tf.range(batches.size) < batches.size - tf.cast(batch >= longer, tf.int32)
    place = tf.where(real, place, 0)
    return permute(place, batches.rows, offset_seed(seed, epoch)), real


def permute(place: tf.Tensor, rows: int, seed: tf.Tensor) -> tf.Tensor:
    """Send places 0..rows-1 through a random permutation, without making the whole of it.

    The swap-or-not shuffle of Hoang, Morris and Rogaway (CRYPTO 2012): round r pairs x with
    key[r] - x (mod rows) and swaps the pair or not, by a coin that depends on the pair alone; each
    round is its own inverse, so the whole is a permutation for any number of rows. It costs what
    the batch costs. Sorting random keys costs a pass over all rows (under XLA on a CPU 0.6 s for
    a million, several times the pass of the fit itself).

    Parameters
    ----------
    place : int32 tensor of any shape, entries in [0, rows).
    rows : int
    seed : int32 [2]

    Returns
    -------
    int32 tensor of the shape of `place`.
    """
    bits = random_words([_SHUFFLE_ROUNDS, 2], seed)
    for r in range(_SHUFFLE_ROUNDS):
        key = tf.cast(bits[r, 0] % tf.constant(rows, tf.uint32), tf.int32)
        partner = key - place
        partner = tf.where(partner < 0, partner + rows, partner)
        pair = tf.cast(tf.maximum(place, partner), tf.uint32)
        place = tf.where(_coin(pair, bits[r, 1]), partner, place)
    return place


def _coin(value: tf.Tensor, salt: tf.Tensor) -> tf.Tensor:
    """A fair coin for each uint32 value: the finaliser of MurmurHash3 (Appleby), top bit."""
    h = tf.bitwise.bitwise_xor(value, salt)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(16, tf.uint32)))
    h = h * tf.constant(0x85EBCA6B, tf.uint32)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(13, tf.uint32)))
    h = h * tf.constant(0xC2B2AE35, tf.uint32)
    return tf.bitwise.right_shift(h, tf.constant(31, tf.uint32)) == tf.constant(1, tf.uint32)
