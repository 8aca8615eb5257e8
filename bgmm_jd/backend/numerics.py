"""Polynomials, triangular inverses and factors, and blocks of work within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf


def polynomial(coefficients: Sequence[Any], x: tf.Tensor) -> tf.Tensor:
    """Evaluate sum_k coefficients[k] x^k by Horner's rule.

    The coefficients are one constant in the graph: separate constants would add a tenth to the
    operations that are traced for a draw and its density.

    Parameters
    ----------
    coefficients : sequence of float, or of sequences [M]
        In increasing powers. Sequences evaluate M polynomials at once.
    x : tensor [...], or [..., 1] for M polynomials

    Returns
    -------
    tensor [...], or [..., M]
    """
    descending = tf.constant(coefficients[::-1], x.dtype)
    return tf.math.polyval(tf.unstack(descending, num=len(coefficients)), x)


def inverse_of_lower_triangular(factor: tf.Tensor) -> tf.Tensor:
    """Return the inverses of lower triangular matrices [..., D, D].

    Elements above the diagonal are ignored, and are zero in the result. Where one matrix is applied
    to many right-hand sides, multiplying them by the inverse compiles a second faster under XLA
    than a triangular solve for each of them.
    """
    identity = tf.eye(tf.shape(factor)[-1], dtype=factor.dtype)
    return tf.linalg.triangular_solve(factor, tf.broadcast_to(identity, tf.shape(factor)))


def lower_factor(root: tf.Tensor) -> tf.Tensor:
    """Return the lower triangular C with a positive diagonal and C C^T = R R^T: [..., D, D].

    By a QR decomposition of R^T, which keeps the digits that the product would lose.
    """
    _, upper = tf.linalg.qr(tf.linalg.matrix_transpose(root))
    signs = tf.sign(tf.linalg.diag_part(upper))
    return tf.linalg.matrix_transpose(signs[..., tf.newaxis] * upper)


def block_size(numbers_each: int, budget: int) -> int:
    """Return how many items of `numbers_each` array entries fit into a budget, at least one."""
    return max(1, budget // numbers_each)


def blocks(count: int, numbers_each: int, budget: int) -> Iterator[slice]:
    """Cut `count` items into consecutive slices, each within a memory budget.

    Parameters
    ----------
    count : int
        Number of items.
    numbers_each : int
        Entries that each item adds to the largest array.
    budget : int
        Entries that the largest array may have. A slice of a single item may exceed it.
    """
    size = block_size(numbers_each, budget)
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
