"""Affine maps of vectors and matrices, for arrays and for tensors alike.

Each map has `forward`, from standardised values `z` to values `x` in other units; `inverse`, and
`inverted`, the map that goes back; the `log_det_jacobian`, log |dx / dz| of one vector of features,
of one number, or of the free entries of one matrix; and `event_ndims`, the number of trailing axes
that it maps together.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Elementwise(NamedTuple):
    """x = shift + factor * z, entry by entry; `shift` is None for variables without one.

    event_ndims : 0 where entries are free; 2 for a matrix whose free entries are fewer.
    """

    shift: Any
    factor: Any
    log_det_jacobian: Any
    event_ndims: int = 0

    def forward(self, z: Any) -> Any:
        """Return x."""
        scaled = z * self.factor
        return scaled if self.shift is None else scaled + self.shift

    def inverse(self, x: Any) -> Any:
        """Return z."""
        return (x if self.shift is None else x - self.shift) / self.factor

    def inverted(self) -> "Elementwise":
        """Return the map from x to z."""
        shift = None if self.shift is None else -self.shift / self.factor
        return Elementwise(shift, 1.0 / self.factor, -self.log_det_jacobian, self.event_ndims)


class LinearMap(NamedTuple):
    """x = shift + matrix @ z, for vectors z [..., D], or matrices [..., D, D] without a shift.

    event_ndims : 1 for vectors, 2 for matrices, which are lower triangular, as `matrix` is.
    """

    shift: Any
    matrix: Any
    inverse_matrix: Any
    log_det_jacobian: Any
    event_ndims: int = 1

    def forward(self, z: Any) -> Any:
        """Return x."""
        product = self._times(self.matrix, z)
        return product if self.shift is None else product + self.shift

    def inverse(self, x: Any) -> Any:
        """Return z."""
        return self._times(self.inverse_matrix, x if self.shift is None else x - self.shift)

    def inverted(self) -> "LinearMap":
        """Return the map from x to z."""
        shift = None if self.shift is None else self._times(self.inverse_matrix, -self.shift)
        return LinearMap(
            shift, self.inverse_matrix, self.matrix, -self.log_det_jacobian, self.event_ndims
        )

    def _times(self, matrix: Any, value: Any) -> Any:
        if self.event_ndims == 2:
            return matrix_product(matrix, value)
        return matrix_product(value, transpose(matrix))


class Congruence(NamedTuple):
    """x = matrix @ z @ matrix^T, for symmetric matrices z [..., D, D]."""

    matrix: Any
    inverse_matrix: Any
    log_det_jacobian: Any
    event_ndims: int = 2

    def forward(self, z: Any) -> Any:
        """Return x."""
        return _congruent(self.matrix, z)

    def inverse(self, x: Any) -> Any:
        """Return z."""
        return _congruent(self.inverse_matrix, x)

    def inverted(self) -> "Congruence":
        """Return the map from x to z."""
        return Congruence(
            self.inverse_matrix, self.matrix, -self.log_det_jacobian, self.event_ndims
        )


AffineMap = Elementwise | LinearMap | Congruence


def forward_cholesky(change: AffineMap, root: Any) -> Any:
    """Return the lower Cholesky factor of x where z = root @ root^T is a symmetric matrix.

    The matrix of a `Congruence` has to be lower triangular; the factor of an `Elementwise` is here
    the outer product of a vector with itself.
    """
    if isinstance(change, Congruence):
        return matrix_product(change.matrix, root)
    if isinstance(change, Elementwise):
        return diagonal_part(change.factor)[:, None] ** 0.5 * root
    raise TypeError("A map of vectors or of factors has no symmetric matrices.")


def matrix_product(a: Any, b: Any) -> Any:
    """Return a @ b, of arrays or tensors; a single vector counts as a row."""
    if not (tf.is_tensor(a) or tf.is_tensor(b)):
        return np.matmul(a, b)
    return tf.matmul(a, b) if len(a.shape) > 1 else tf.linalg.matvec(b, a, transpose_a=True)


def diagonal_part(x: Any) -> Any:
    """Return the diagonal of a matrix."""
    return tf.linalg.diag_part(x) if tf.is_tensor(x) else np.diagonal(x)


def transpose(x: Any) -> Any:
    """Return the transposed matrix [D, D]."""
    return tf.transpose(x) if tf.is_tensor(x) else x.T


def _congruent(matrix: Any, z: Any) -> Any:
    return matrix_product(matrix_product(matrix, z), transpose(matrix))
