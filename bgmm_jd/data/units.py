"""The change from standardised units to those of X, for rows and each variable of the model."""

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Standardization(NamedTuple):
    """Shift and scale of the columns of X: `x = shift + scale * z` for standardised rows `z`.

    Both have shape [D], and `scale` is positive. They are float64 arrays outside compiled
    functions, and tensors in the dtype of the fit inside them.
    """

    shift: Any
    scale: Any


def identity_standardization(features: int) -> Standardization:
    """Return the standardisation that changes nothing: shift 0 and scale 1."""
    return Standardization(np.zeros(features), np.ones(features))


def as_standardization_tensors(standardization: Standardization, dtype: Any) -> Standardization:
    """Return shift and scale as tensors."""
    return Standardization(*(tf.convert_to_tensor(np.asarray(v), dtype) for v in standardization))


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


MATRIX_TRANSFORMATIONS = (Transformation.SCALE_MATRIX, Transformation.PRECISION_MATRIX)


class AffineMap(NamedTuple):
    """How a variable changes from standardised units to those of X: `x = shift + factor * z`.

    `shift` is None for variables without one, such as precisions. `log_det_jacobian` is
    log |dx / dz| for the last axes of the variable: for a vector of features, for the single number
    of a COMMON variable, or for the free entries of a matrix.
    """

    shift: Any
    factor: Any
    log_det_jacobian: Any


def affine_map(
    transformation: Transformation, standardization: Standardization
) -> AffineMap | None:
    """Return the change of units of a variable; None if it does not depend on the units of X."""
    if transformation is Transformation.NONE:
        return None
    scale = standardization.scale
    features = scale.shape[0]
    logs = _log(scale)
    total = _sum(logs)
    if transformation is Transformation.LOCATION:
        return AffineMap(standardization.shift, scale, total)
    if transformation is Transformation.SCALE:
        return AffineMap(None, scale, total)
    if transformation is Transformation.PRECISION:
        return AffineMap(None, scale**-2, -2.0 * total)
    if transformation is Transformation.COMMON_SCALE:
        return AffineMap(None, scale[:1], logs[0])
    if transformation is Transformation.COMMON_PRECISION:
        return AffineMap(None, scale[:1] ** -2, -2.0 * logs[0])
    if transformation is Transformation.SCALE_MATRIX:  # row d has d + 1 free entries
        free = np.arange(1, features + 1)
        return AffineMap(None, scale[:, None], _sum(logs * free.astype(_dtype(scale))))
    # A symmetric matrix: X -> F X F has the Jacobian |F|^(D + 1) (Muirhead 1982, theorem 2.1.6).
    inverse = 1.0 / scale
    return AffineMap(None, inverse[:, None] * inverse, -(features + 1.0) * total)


def unstandardize(
    transformation: Transformation, value: Any, standardization: Standardization
) -> Any:
    """Convert values of a variable, such as draws, from standardised units to those of X."""
    change = affine_map(transformation, standardization)
    if change is None:
        return value
    scaled = value * change.factor
    return scaled if change.shift is None else scaled + change.shift


def unstandardize_cholesky(
    transformation: Transformation, root: Any, standardization: Standardization
) -> Any:
    """Convert the lower Cholesky factor of a variable's matrix to the units of X.

    `unstandardize` takes a precision matrix P to F P F with F = diag(1 / scale), and so the factor
    of P is multiplied by F. A matrix that does not depend on the units of X keeps its factor.
    """
    return (
        root / standardization.scale[:, None]
        if transformation is Transformation.PRECISION_MATRIX
        else root
    )


def standardize_value(
    transformation: Transformation, value: Any, standardization: Standardization
) -> Any:
    """Convert values of a variable from the units of X to standardised units."""
    change = affine_map(transformation, standardization)
    if change is None:
        return value
    return (value if change.shift is None else value - change.shift) / change.factor


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
            own = 2 if transformation in MATRIX_TRANSFORMATIONS else 1
            total += np.prod(shape[: len(shape) - own]) * change.log_det_jacobian
    return total


def _log(x: Any) -> Any:
    return tf.math.log(x) if tf.is_tensor(x) else np.log(x)


def _sum(x: Any) -> Any:
    return tf.reduce_sum(x) if tf.is_tensor(x) else x.sum()


def _dtype(x: Any) -> Any:
    return x.dtype.as_numpy_dtype if tf.is_tensor(x) else x.dtype
