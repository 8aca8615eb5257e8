"""From centred and scaled units to the user's, for rows and for each variable of the model."""

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Standardization(NamedTuple):
    """The user's units: `x = shift + scale * z` for the centred and scaled rows `z`.

    Both have shape [D] and `scale` is positive: float64 arrays outside the compiled loop, tensors
    in the dtype of the fit inside it.
    """

    shift: Any
    scale: Any


def identity_standardization(features: int) -> Standardization:
    """The units in which nothing changes."""
    return Standardization(np.zeros(features), np.ones(features))


def as_standardization_tensors(units: Standardization, dtype: Any) -> Standardization:
    """The same as tensors."""
    return Standardization(*(tf.convert_to_tensor(np.asarray(v), dtype) for v in units))


class Transformation(enum.Enum):
    """What a variable of the model is measured in, and so how it goes to other units.

    The last axes of a variable are features, except those of a COMMON one, which has a single
    number for all features and therefore needs columns that share one scale.
    """

    NONE = "has no unit of X"
    LOCATION = "moves and scales with X"
    SCALE = "scales with X, as a standard deviation does"
    PRECISION = "scales with the inverse square of X"
    COMMON_SCALE = "a standard deviation of all features"
    COMMON_PRECISION = "a precision of all features"
    SCALE_MATRIX = "the lower Cholesky factor of a covariance matrix"
    PRECISION_MATRIX = "the inverse of a covariance matrix"


MATRIX_TRANSFORMATIONS = (Transformation.SCALE_MATRIX, Transformation.PRECISION_MATRIX)


class AffineMap(NamedTuple):
    """How one variable goes to the user's units: `user = shift + factor * internal`.

    `shift` is None where the variable has none, as a precision does. `log_det_jacobian` is
    log |d user / d internal| of the last axes of the variable: of a vector of features, of the
    single number of a COMMON one, or of the free entries of a matrix.
    """

    shift: Any
    factor: Any
    log_det_jacobian: Any


def affine_map(unit: Transformation, units: Standardization) -> AffineMap | None:
    """The change of units of a variable; None for one without units of X."""
    if unit is Transformation.NONE:
        return None
    scale = units.scale
    features = scale.shape[0]
    logs = _log(scale)
    total = _sum(logs)
    if unit is Transformation.LOCATION:
        return AffineMap(units.shift, scale, total)
    if unit is Transformation.SCALE:
        return AffineMap(None, scale, total)
    if unit is Transformation.PRECISION:
        return AffineMap(None, scale**-2, -2.0 * total)
    if unit is Transformation.COMMON_SCALE:
        return AffineMap(None, scale[:1], logs[0])
    if unit is Transformation.COMMON_PRECISION:
        return AffineMap(None, scale[:1] ** -2, -2.0 * logs[0])
    if unit is Transformation.SCALE_MATRIX:  # row d has d + 1 free entries
        free = np.arange(1, features + 1)
        return AffineMap(None, scale[:, None], _sum(logs * free.astype(_dtype(scale))))
    # A symmetric matrix: X -> F X F has the Jacobian |F|^(D + 1) (Muirhead 1982, theorem 2.1.6).
    inverse = 1.0 / scale
    return AffineMap(None, inverse[:, None] * inverse, -(features + 1.0) * total)


def unstandardize(unit: Transformation, value: Any, units: Standardization) -> Any:
    """A value (draws, say) of a variable, in the user's units."""
    change = affine_map(unit, units)
    if change is None:
        return value
    scaled = value * change.factor
    return scaled if change.shift is None else scaled + change.shift


def unstandardize_cholesky(unit: Transformation, root: Any, units: Standardization) -> Any:
    """The lower Cholesky factor of what `to_user` makes of a matrix: X -> F X F, root -> F root.

    Of a precision matrix, or of one that has no units of X.
    """
    return root / units.scale[:, None] if unit is Transformation.PRECISION_MATRIX else root


def standardize_value(unit: Transformation, value: Any, units: Standardization) -> Any:
    """The inverse of `to_user`."""
    change = affine_map(unit, units)
    if change is None:
        return value
    return (value if change.shift is None else value - change.shift) / change.factor


def log_det_jacobian(
    variables: Iterable[tuple[Transformation, tuple[int, ...]]], units: Standardization
) -> Any:
    """log |d user / d internal| over variables (unit, shape), in nats: what a density gains."""
    total = 0.0
    for unit, shape in variables:
        change = affine_map(unit, units)
        if change is not None:
            own = 2 if unit in MATRIX_TRANSFORMATIONS else 1
            total += np.prod(shape[: len(shape) - own]) * change.log_det_jacobian
    return total


def _log(x: Any) -> Any:
    return tf.math.log(x) if tf.is_tensor(x) else np.log(x)


def _sum(x: Any) -> Any:
    return tf.reduce_sum(x) if tf.is_tensor(x) else x.sum()


def _dtype(x: Any) -> Any:
    return x.dtype.as_numpy_dtype if tf.is_tensor(x) else x.dtype
