"""Small numerical building blocks of TensorFlow programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def polynomial(coefficients: Sequence[Any], x: tf.Tensor) -> tf.Tensor:
    """sum_k coefficients[k] x^k, by Horner's rule.

    The coefficients are one constant in the graph: one each would be a tenth more of operations to
    trace in a draw and its density.
    """
    descending = tf.constant(coefficients[::-1], x.dtype)
    return tf.math.polyval(tf.unstack(descending, num=len(coefficients)), x)
