"""The change from standardised units to those of X, for rows and each variable of the model."""

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.linalg import solve_triangular

from bgmm_jd.data.affine_maps import (
    AffineMap,
    Congruence,
    Elementwise,
    LinearMap,
    diagonal_part,
    forward_cholesky,
    transpose,
)


class Standardization(NamedTuple):
    """The change of units of rows: from standardised rows `z` to rows `x` in the units of X.

    Either each column has a scale of its own, `x = shift + scale * z`, or rows are whitened,
    `x = shift + scale @ z`. `whitening` makes the second kind.

    shift [D]
    scale : positive [D], or a triangular matrix [D, D] with a positive diagonal. It is upper
        triangular, so that the lower Cholesky factors of precision matrices stay lower triangular,
        unless the model has those of covariance matrices, for which it is lower triangular.
    inverse : [D, D], of a matrix; None beside a scale of each column.

    They are float64 arrays outside compiled functions, and tensors in the dtype of the fit inside
    them.
    """

    shift: Any
    scale: Any
    inverse: Any = None

    @property
    def column_scale(self) -> Any:
        """Return the scale of each column of X [D]: of a matrix S, the roots of diag(S S^T)."""
        if self.inverse is None:
            return self.scale
        return _sum(self.scale**2, axis=-1) ** 0.5

    @property
    def to_scaled_columns(self) -> Any:
        """Return the matrix M [D, D] from standardised rows z to columns in their scales, M z.

        None where rows are in these units already.
        """
        return None if self.inverse is None else self.scale / self.column_scale[:, None]

    @property
    def log_jacobian_by_column(self) -> Any:
        """Return the terms [D] whose sum is log |dx / dz| of a complete row.

        For whitened rows, a term is that of its column only if the column is uncorrelated with all
        others.
        """
        return _log(self.scale if self.inverse is None else diagonal_part(self.scale))


def whitening(shift: np.ndarray, scale: np.ndarray) -> Standardization:
    """Return the standardisation `x = shift + scale @ z` with a triangular matrix."""
    is_lower = not np.triu(scale, 1).any()
    inverse = solve_triangular(scale, np.eye(len(scale)), lower=is_lower)
    return Standardization(shift, scale, inverse)


def identity_standardization(features: int) -> Standardization:
    """Return the standardisation that changes nothing: shift 0 and scale 1."""
    return Standardization(np.zeros(features), np.ones(features))


def as_standardization_tensors(standardization: Standardization, dtype: Any) -> Standardization:
    """Return the numbers as tensors."""

    def tensor(value: Any) -> Any:
        return None if value is None else tf.convert_to_tensor(np.asarray(value), dtype)

    return Standardization(*map(tensor, standardization))


class Transformation(enum.Enum):
    """How a variable of the model changes with the units of X.

    The last axis of a variable, or the last two of a matrix, are features. A COMMON variable has a
    single number for all features instead, and therefore requires columns that share one scale.
    """

    NONE = "does not depend on the units of X"
    LOCATION = "shifts and scales with X"
    SCALE = "scales with X, as a standard deviation does"
    PRECISION = "scales with the inverse square of X"
    COMMON_SCALE = "one standard deviation for all features"
    COMMON_PRECISION = "one precision for all features"
    SCALE_MATRIX = "the lower Cholesky factor of a covariance matrix"
    PRECISION_MATRIX = "the inverse of a covariance matrix"


def affine_map(
    transformation: Transformation, standardization: Standardization
) -> AffineMap | None:
    """Return the change of units of a variable; None if it does not depend on the units of X.

    Raises
    ------
    ValueError
        If rows are whitened, and the variable has one number for each feature or for all.
    """
    if transformation is Transformation.NONE:
        return None
    if standardization.inverse is not None:
        return _map_of_whitened(transformation, standardization)
    scale = standardization.scale
    logs = _log(scale)
    total = _sum(logs)
    if transformation is Transformation.LOCATION:
        return Elementwise(standardization.shift, scale, total)
    if transformation is Transformation.SCALE:
        return Elementwise(None, scale, total)
    if transformation is Transformation.PRECISION:
        return Elementwise(None, scale**-2, -2.0 * total)
    if transformation is Transformation.COMMON_SCALE:
        return Elementwise(None, scale[:1], logs[0])
    if transformation is Transformation.COMMON_PRECISION:
        return Elementwise(None, scale[:1] ** -2, -2.0 * logs[0])
    if transformation is Transformation.SCALE_MATRIX:
        return Elementwise(None, scale[:, None], _jacobian_of_scale_matrix(logs), event_ndims=2)
    inverse = 1.0 / scale
    return Elementwise(
        None, inverse[:, None] * inverse, _jacobian_of_precision_matrix(logs), event_ndims=2
    )


def _map_of_whitened(transformation: Transformation, standardization: Standardization) -> AffineMap:
    shift, scale, inverse = standardization
    logs = _log(diagonal_part(scale))
    if transformation is Transformation.LOCATION:
        return LinearMap(shift, scale, inverse, _sum(logs))
    if transformation is Transformation.SCALE_MATRIX:
        return LinearMap(None, scale, inverse, _jacobian_of_scale_matrix(logs), event_ndims=2)
    if transformation is Transformation.PRECISION_MATRIX:
        jacobian = _jacobian_of_precision_matrix(logs)
        return Congruence(transpose(inverse), transpose(scale), jacobian)
    raise ValueError(f"A variable that {transformation.value} is not one of whitened rows.")


def _jacobian_of_scale_matrix(logs: Any) -> Any:
    """Return log |dx / dz| of a lower triangular matrix: row d has d + 1 free entries.

    Multiplying by a lower triangular matrix F has this Jacobian too: column j of the product has
    the factor prod_{i >= j} F_ii.
    """
    free = np.arange(1, logs.shape[0] + 1)
    return _sum(logs * free.astype(_dtype(logs)))


def _jacobian_of_precision_matrix(logs: Any) -> Any:
    """Return log |dx / dz|: X -> F X F^T has the Jacobian |F|^(D + 1) (Muirhead 1982, 2.1.6)."""
    return -(logs.shape[0] + 1.0) * _sum(logs)


def unstandardize(
    transformation: Transformation, value: Any, standardization: Standardization
) -> Any:
    """Convert values of a variable, such as draws, from standardised units to those of X."""
    change = affine_map(transformation, standardization)
    return value if change is None else change.forward(value)


def unstandardize_cholesky(
    transformation: Transformation, root: Any, standardization: Standardization
) -> Any:
    """Convert the lower Cholesky factor of a variable's matrix to the units of X.

    A matrix that does not depend on the units of X keeps its factor.
    """
    change = affine_map(transformation, standardization)
    return root if change is None else forward_cholesky(change, root)


def standardize_value(
    transformation: Transformation, value: Any, standardization: Standardization
) -> Any:
    """Convert values of a variable from the units of X to standardised units."""
    change = affine_map(transformation, standardization)
    return value if change is None else change.inverse(value)


def log_det_jacobian(
    variables: Iterable[tuple[Transformation, tuple[int, ...]]], standardization: Standardization
) -> Any:
    """Return log |dx / dz| over all variables, in nats, for x in the units of X and z standardised.

    A log density in standardised units is that in the units of X plus this.

    Parameters
    ----------
    variables : the transformation and the shape of each variable.
    """
    total = 0.0
    for transformation, shape in variables:
        change = affine_map(transformation, standardization)
        if change is not None:
            own = max(1, change.event_ndims)
            total += np.prod(shape[: len(shape) - own]) * change.log_det_jacobian
    return total


def _log(x: Any) -> Any:
    return tf.math.log(x) if tf.is_tensor(x) else np.log(x)


def _sum(x: Any, axis: int | None = None) -> Any:
    return tf.reduce_sum(x, axis=axis) if tf.is_tensor(x) else x.sum(axis=axis)


def _dtype(x: Any) -> Any:
    return x.dtype.as_numpy_dtype if tf.is_tensor(x) else x.dtype
