"""Products and Cholesky factors of many small matrices, as sums that XLA fuses.

On a CPU, XLA calls a routine for each matrix of a batch of products, and decomposes a batch in a
loop over columns whose steps it does not fuse. Written as sums, a product of 2,048 matrices of six
rows takes a fourth of the time, and its gradient a tenth; a decomposition takes a tenth. Without a
graph there is nothing to fuse, and TensorFlow's own operations are used: see decision 18.
"""

from __future__ import annotations

import tensorflow as tf

_MOST_SUMMED = 8  # rows and columns up to which a sum is faster than calls
_MOST_WRITTEN_OUT = 16  # rows up to which a decomposition takes about as long to compile as a loop


def product_with_own_transpose(root: tf.Tensor) -> tf.Tensor:
    """Return R R^T of matrices R [..., D, M]: [..., D, D]."""
    if not _are_small(root, _MOST_SUMMED):
        return tf.matmul(root, root, transpose_b=True)
    return tf.reduce_sum(root[..., :, tf.newaxis, :] * root[..., tf.newaxis, :, :], axis=-1)


def product_with_vector(matrix: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Return A b of matrices A [..., D, M] and vectors b [..., M]: [..., D]."""
    return tf.reduce_sum(matrix * vector[..., tf.newaxis, :], axis=-1)


def cholesky(matrix: tf.Tensor) -> tf.Tensor:
    """Return the lower Cholesky factors of symmetric matrices [..., D, D].

    In a graph, a factor has NaN where its matrix is not positive definite.
    """
    if not _are_small(matrix, _MOST_WRITTEN_OUT):
        return tf.linalg.cholesky(matrix)
    # The mean of both halves, so that the gradient is symmetric too.
    left = 0.5 * (matrix + tf.linalg.matrix_transpose(matrix))
    columns = []
    for j in range(matrix.shape[-1]):
        column = left[..., 0] / tf.sqrt(left[..., :1, 0])
        columns.append(tf.pad(column, [*[[0, 0]] * (len(matrix.shape) - 2), [j, 0]]))
        below = column[..., 1:]
        left = left[..., 1:, 1:] - below[..., :, tf.newaxis] * below[..., tf.newaxis, :]
    return tf.stack(columns, axis=-1)


def _are_small(matrices: tf.Tensor, most: int) -> bool:
    """Return whether matrices of a graph are known to have no more rows or columns than that."""
    if tf.executing_eagerly() or matrices.shape.rank is None:
        return False
    return all(size is not None and size <= most for size in matrices.shape[-2:])
