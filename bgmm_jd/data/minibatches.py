"""Which rows each step of a minibatch loop reads."""

import math
from dataclasses import dataclass

import tensorflow as tf

from bgmm_jd.backend.random import offset_seed, random_words

# Rounds of the swap-or-not shuffle. In each round a coin decides which of two positions a row goes
# to; after 24 the batch of a row is independent of its position in X for every practical N.
_SHUFFLE_ROUNDS = 24


@dataclass(frozen=True)
class Batches:
    """Divide the N rows of an epoch into `count` batches of `size` rows or one fewer.

    Every row is in one batch. The batches are as equal as possible, so that none is a small, noisy
    remainder: with the sum over a batch multiplied by `count`, each row has the same weight, and
    the mean over an epoch's batches is exactly the sum over all rows, whether or not the batch size
    divides N.
    """

    N: int
    size: int
    count: int


def equal_batches(N: int, batch_size: int) -> Batches:
    """Divide N rows into the fewest batches of at most `batch_size` rows, as equal as possible."""
    count = math.ceil(N / batch_size)
    return Batches(N=N, size=math.ceil(N / count), count=count)


def batch_indices(
    batches: Batches, step: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the row numbers of one step's batch, in a random order that each epoch draws anew.

    Parameters
    ----------
    batches : Batches
    step : int32 scalar, counted from 0 over the whole run.
    seed : int32 [2], the same for the whole run; `random.offset_seed` derives one for each epoch.

    Returns
    -------
    indices : int32 [size], rows of X.
    real : bool [size], False for the padding entry of a batch with one row fewer.
    """
    epoch, batch = step // batches.count, step % batches.count
    # The first `longer` batches have `size` rows, the others one fewer.
    longer = batches.N - batches.count * (batches.size - 1)
    first = batch * batches.size - tf.maximum(batch - longer, 0)
    position = first + tf.range(batches.size)
    real = tf.range(batches.size) < batches.size - tf.cast(batch >= longer, tf.int32)
    position = tf.where(real, position, 0)
    return permute(position, batches.N, offset_seed(seed, epoch)), real


def permute(position: tf.Tensor, N: int, seed: tf.Tensor) -> tf.Tensor:
    """Apply a random permutation of 0, ..., N - 1 to some numbers, without generating all of it.

    This is the swap-or-not shuffle of Hoang, Morris and Rogaway (CRYPTO 2012): round r pairs x with
    key[r] - x (mod N), and swaps the pair or not by a coin that depends on the pair alone. Each
    round is its own inverse, so that the composition is a permutation for any N. The cost is
    proportional to the size of the batch. Sorting random keys would cost a pass over all rows
    (under XLA on a CPU 0.6 s for a million, several times as long as the pass of the fit itself).

    Parameters
    ----------
    position : int32 tensor of any shape, entries in [0, N).
    N : int
    seed : int32 [2]

    Returns
    -------
    int32 tensor of the shape of `position`.
    """
    bits = random_words([_SHUFFLE_ROUNDS, 2], seed)
    for r in range(_SHUFFLE_ROUNDS):
        key = tf.cast(bits[r, 0] % tf.constant(N, tf.uint32), tf.int32)
        partner = key - position
        partner = tf.where(partner < 0, partner + N, partner)
        pair = tf.cast(tf.maximum(position, partner), tf.uint32)
        position = tf.where(_coin(pair, bits[r, 1]), partner, position)
    return position


def _coin(value: tf.Tensor, salt: tf.Tensor) -> tf.Tensor:
    """Return a fair coin for each uint32 value, by MurmurHash3's finaliser (Appleby), top bit."""
    h = tf.bitwise.bitwise_xor(value, salt)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(16, tf.uint32)))
    h = h * tf.constant(0x85EBCA6B, tf.uint32)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(13, tf.uint32)))
    h = h * tf.constant(0xC2B2AE35, tf.uint32)
    return tf.bitwise.right_shift(h, tf.constant(31, tf.uint32)) == tf.constant(1, tf.uint32)
