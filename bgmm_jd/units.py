"""From centred and scaled units to the user's, for rows and for each variable of the model."""

from collections.abc import Mapping
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


class Affine(NamedTuple):
    """How one variable goes to the user's units: `user = shift + factor * internal`.

    `shift` is None where the variable has none, as a precision does.
    """

    shift: Any
    factor: Any


def of_variable(name: str, units: Units) -> Affine | None:
    """The change of units of the variable of that name; None for one without units of X.

    A mean moves with the data; a standard deviation scales with it; a precision scales with the
    inverse square. Hyperparameters of the user's own stay as they are.
    """
    if name == "means":
        return Affine(units.shift, units.scale)
    if name == "scales":
        return Affine(None, units.scale)
    if name == "precisions":
        return Affine(None, units.scale**-2)
    return None


def to_user(name: str, value: Any, units: Units) -> Any:
    """A value (draws, say) of the variable of that name, in the user's units."""
    change = of_variable(name, units)
    if change is None:
        return value
    scaled = value * change.factor
    return scaled if change.shift is None else scaled + change.shift


def to_internal(name: str, value: Any, units: Units) -> Any:
    """The inverse of `to_user`."""
    change = of_variable(name, units)
    if change is None:
        return value
    return (value if change.shift is None else value - change.shift) / change.factor


def log_volume(shapes: Mapping[str, tuple[int, ...]], units: Units) -> Any:
    """log |d user / d internal| over the given variables, in nats: what a density gains inside."""
    total = 0.0
    for name, shape in shapes.items():
        change = of_variable(name, units)
        if change is not None:
            total += np.prod(shape[:-1]) * _sum_log(change.factor)
    return total


def _sum_log(factor: Any) -> Any:
    if tf.is_tensor(factor):
        return tf.reduce_sum(tf.math.log(factor))
    return np.log(factor).sum()
