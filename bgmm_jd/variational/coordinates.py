"""All variables of the model as one point in unconstrained coordinates, and back."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from bgmm_jd.data.units import (
    MATRIX_TRANSFORMATIONS,
    AffineMap,
    Standardization,
    affine_map,
    standardize_value,
)
from bgmm_jd.distributions.bijectors import InDtype, ScaleMatrix
from bgmm_jd.model.covariance_forms import SCALE_VARIABLES, cholesky_name
from bgmm_jd.variational.structure import Model, Site, is_unrestricted


def bijector_to_data_units(site: Site, units: Standardization) -> tfb.Bijector:
    """Map the real line to a variable without a twin, in the units of X."""
    change = affine_map(site.unit, units)
    if change is None or not is_unrestricted(site):
        return _in_dtype(site, units.scale.dtype)
    return _affine(site, change)


def bijector_to_standardized(site: Site, units: Standardization) -> tfb.Bijector:
    """Map the real line to a variable without a twin, in standardised units."""
    change = affine_map(site.unit, units)
    bijector = _in_dtype(site, units.scale.dtype)
    if change is None or is_unrestricted(site):
        return bijector
    return tfb.Chain([tfb.Invert(_affine(site, change)), bijector])


def _in_dtype(site: Site, dtype: tf.DType) -> tfb.Bijector:
    return site.bijector if site.dtype == dtype else InDtype(site.bijector, site.dtype)


def _affine(site: Site, change: AffineMap) -> tfb.Bijector:
    if site.unit in MATRIX_TRANSFORMATIONS:
        return ScaleMatrix(change.factor, change.log_det_jacobian)
    scale = tfb.Scale(change.factor)
    return scale if change.shift is None else tfb.Chain([tfb.Shift(change.shift), scale])


def coordinate_map(site: Site, units: Standardization) -> tfb.Bijector:
    """From a whole real space to the variable in internal units, in one batch dimension."""
    return (
        site.family.coordinates()
        if site.bijector is None
        else bijector_to_standardized(site, units)
    )


class CoordinateLayout(NamedTuple):
    """Where the coordinates of a point [P] belong.

    own [K, m] : to each component, in the same order.
    shared [s] : to the covariance that all components share.
    weights : to the weights.
    """

    size: int
    own: np.ndarray
    shared: np.ndarray
    weights: np.ndarray


def coordinate_layout(model: Model, units: Standardization) -> CoordinateLayout:
    """Find the coordinates of each component."""
    K, first = model.K, 0
    own, shared, weights = [np.empty((K, 0), int)], [np.empty(0, int)], np.empty(0, int)
    for site in model.sites:
        if site.fixed is not None:
            continue
        shape = tuple(coordinate_map(site, units).inverse_event_shape(site.shape))
        places = first + np.arange(int(np.prod(shape)))
        first += len(places)
        if site.name == "weights":
            weights = places
        elif site.has_component_axis:
            own.append(places.reshape(K, -1))
        elif site.name in SCALE_VARIABLES:
            shared.append(places)
    return CoordinateLayout(first, np.concatenate(own, axis=1), np.concatenate(shared), weights)


def components_are_separate(model: Model, units: Standardization, mean: np.ndarray) -> bool:
    """Whether each component's variables depend on its own coordinates alone.

    They do not under a support that ties components together, such as ascending means.
    """
    own = [site for site in model.sites if site.has_component_axis and site.fixed is None]
    own = [site for site in own if site.name != "weights"]
    for site in own:
        shape = coordinate_map(site, units).inverse_event_shape(site.shape)
        if len(shape) == 0 or shape[0] != model.K:
            return False
    moved = np.stack([mean, mean])
    moved[1, coordinate_layout(model, units).own[0]] += 1.0
    theta, _ = unflatten(model.sites, tf.constant(moved, units.scale.dtype), units)
    return all(np.array_equal(theta[s.name][0, 1:], theta[s.name][1, 1:]) for s in own)


def flatten(
    sites: tuple[Site, ...], theta: Mapping[str, tf.Tensor], units: Standardization
) -> tf.Tensor:
    """Draws in internal units [S, ...] as points [S, P]."""
    parts = [
        coordinate_map(site, units).inverse(theta[site.name])
        for site in sites
        if site.fixed is None
    ]
    return tf.concat([tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts], axis=1)


def unflatten(
    sites: tuple[Site, ...], points: tf.Tensor, units: Standardization
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Points [S, P] as draws in internal units, with log |d theta / d point| [S].

    Beside matrices that are made of their roots there are these (`covariance.root_name`).
    """
    theta: dict[str, tf.Tensor] = {}
    volume = tf.zeros([], points.dtype)
    first = 0
    for site in sites:
        if site.fixed is not None:
            value = standardize_value(site.unit, tf.constant(site.fixed, points.dtype), units)
            theta[site.name] = tf.broadcast_to(value, (tf.shape(points)[0], *site.shape))
            continue
        bijector = coordinate_map(site, units)
        shape = tuple(bijector.inverse_event_shape(site.shape))
        size = int(np.prod(shape))
        part = tf.reshape(points[:, first : first + size], (-1, *shape))
        theta[site.name] = bijector.forward(part)
        if site.family.cholesky_coordinates is not None:
            theta[cholesky_name(site.name)] = site.family.cholesky_coordinates().forward(part)
        volume += bijector.forward_log_det_jacobian(part, event_ndims=len(shape))
        first += size
    return theta, volume
