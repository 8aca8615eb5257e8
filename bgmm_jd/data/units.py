"""From centred and scaled units to the user's, for rows and for each variable of the model."""

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Units(NamedTuple):
    """The user's units: `x = shift + scale * z` for the centred and scaled rows `z`.

    Both have shape [D] and `scale` is positive: float64 arrays outside the compiled loop, tensors
    in the dtype of the fit inside it.
    """

    shift: Any
    scale: Any


def unit(features: int) -> Units:
    """The units in which nothing changes."""
    return Units(np.zeros(features), np.ones(features))


def as_tensors(units: Units, dtype: Any) -> Units:
    """The same as tensors."""
    return Units(*(tf.convert_to_tensor(np.asarray(v), dtype) for v in units))


class Unit(enum.Enum):
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


MATRICES = (Unit.SCALE_MATRIX, Unit.PRECISION_MATRIX)


class Affine(NamedTuple):
    """How one variable goes to the user's units: `user = shift + factor * internal`.

    `shift` is None where the variable has none, as a precision does. `log_volume` is
    log |d user / d internal| of the last axes of the variable: of a vector of features, of the
    single number of a COMMON one, or of the free entries of a matrix.
    """

    shift: Any
    factor: Any
    log_volume: Any


def affine(unit: Unit, units: Units) -> Affine | None:
    """The change of units of a variable; None for one without units of X."""
    if unit is Unit.NONE:
        return None
    scale = units.scale
    features = scale.shape[0]
    logs = _log(scale)
    total = _sum(logs)
    if unit is Unit.LOCATION:
        return Affine(units.shift, scale, total)
    if unit is Unit.SCALE:
        return Affine(None, scale, total)
    if unit is Unit.PRECISION:
        return Affine(None, scale**-2, -2.0 * total)
    if unit is Unit.COMMON_SCALE:
        return Affine(None, scale[:1], logs[0])
    if unit is Unit.COMMON_PRECISION:
        return Affine(None, scale[:1] ** -2, -2.0 * logs[0])
    if unit is Unit.SCALE_MATRIX:  # row d has d + 1 free entries
        free = np.arange(1, features + 1)
        return Affine(None, scale[:, None], _sum(logs * free.astype(_dtype(scale))))
    # A symmetric matrix: X -> F X F has the Jacobian |F|^(D + 1) (Muirhead 1982, theorem 2.1.6).
    inverse = 1.0 / scale
    return Affine(None, inverse[:, None] * inverse, -(features + 1.0) * total)


def to_user(unit: Unit, value: Any, units: Units) -> Any:
    """A value (draws, say) of a variable, in the user's units."""
    change = affine(unit, units)
    if change is None:
        return value
    scaled = value * change.factor
    return scaled if change.shift is None else scaled + change.shift


def root_to_user(unit: Unit, root: Any, units: Units) -> Any:
    """The lower Cholesky factor of what `to_user` makes of a matrix: X -> F X F, root -> F root.

    Of a precision matrix, or of one that has no units of X.
    """
    return root / units.scale[:, None] if unit is Unit.PRECISION_MATRIX else root


def to_internal(unit: Unit, value: Any, units: Units) -> Any:
    """The inverse of `to_user`."""
    change = affine(unit, units)
    if change is None:
        return value
    return (value if change.shift is None else value - change.shift) / change.factor


def log_volume(variables: Iterable[tuple[Unit, tuple[int, ...]]], units: Units) -> Any:
    """log |d user / d internal| over variables (unit, shape), in nats: what a density gains."""
    total = 0.0
    for unit, shape in variables:
        change = affine(unit, units)
        if change is not None:
            own = 2 if unit in MATRICES else 1
            total += np.prod(shape[: len(shape) - own]) * change.log_volume
    return total


def _log(x: Any) -> Any:
    return tf.math.log(x) if tf.is_tensor(x) else np.log(x)


def _sum(x: Any) -> Any:
    return tf.reduce_sum(x) if tf.is_tensor(x) else x.sum()


def _dtype(x: Any) -> Any:
    return x.dtype.as_numpy_dtype if tf.is_tensor(x) else x.dtype
