"""All variables of the model as one point in unconstrained coordinates, and back."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from bgmm_jd.data.affine_maps import AffineMap, Elementwise
from bgmm_jd.data.units import standardize_value
from bgmm_jd.distributions.bijectors import ChangeOfUnits, InDtype, LogRatios
from bgmm_jd.model.covariance_forms import SCALE_VARIABLES, cholesky_name
from bgmm_jd.variational.structure import Site, StandardizedModel


def bijector_to_data_units(site: Site) -> tfb.Bijector:
    """Map the real line to a variable that has a bijector of its own, in the prior's units."""
    dtype = site.bound_standardization.scale.dtype
    return site.bijector if site.dtype == dtype else InDtype(site.bijector, site.dtype)


def bijector_to_standardized(site: Site) -> tfb.Bijector:
    """Map the real line to a variable that has a bijector of its own, in standardised units.

    A variable without bounds has standardised coordinates, and others have those of the prior.
    """
    change, bijector = site.affine_map, bijector_to_data_units(site)
    if change is None or site.is_unrestricted:
        return bijector
    return tfb.Chain([tfb.Invert(_to_prior_units(change)), bijector])


def _to_prior_units(change: AffineMap) -> tfb.Bijector:
    """Map standardised units to the prior's."""
    if not isinstance(change, Elementwise) or change.event_ndims > 0:
        return ChangeOfUnits(change)
    scale = tfb.Scale(change.factor)
    return scale if change.shift is None else tfb.Chain([tfb.Shift(change.shift), scale])


def coordinate_map(site: Site, log_ratios: bool = False) -> tfb.Bijector:
    """Map a whole real space to the variable in standardised units, with one batch dimension.

    Parameters
    ----------
    log_ratios : whether the weights have log ratios as coordinates, which permutations of the
        components map linearly, whatever their family has.
    """
    if log_ratios and site.name == "weights":
        return LogRatios()
    return site.family.coordinates() if site.bijector is None else bijector_to_standardized(site)


def coordinate_shape(site: Site, log_ratios: bool = False) -> tuple[int, ...]:
    """Return the shape that the coordinates of one draw of the variable have."""
    if log_ratios and site.name == "weights":
        return (site.shape[0] - 1,)
    bijector = site.family.coordinates() if site.bijector is None else site.bijector
    return tuple(bijector.inverse_event_shape(site.shape))


def flatten(
    model: StandardizedModel, theta: Mapping[str, tf.Tensor], log_ratios: bool = False
) -> tf.Tensor:
    """Return draws in standardised units [S, ...] as points [S, P]: see `coordinate_map`."""
    parts = [
        coordinate_map(site, log_ratios).inverse(theta[site.name]) for site in model.free_sites
    ]
    return tf.concat([tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts], axis=1)


def unflatten(
    model: StandardizedModel, points: tf.Tensor, log_ratios: bool = False
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Return points [S, P] as draws in standardised units, and log |d theta / d point| [S].

    Matrices that are made of their Cholesky factors have these beside them, under their
    `cholesky_name`.
    """
    theta: dict[str, tf.Tensor] = {}
    log_det_jacobian = tf.zeros([], points.dtype)
    first = 0
    for site in model.sites:
        if site.fixed is not None:
            value = tf.constant(site.fixed, points.dtype)
            value = standardize_value(site.transformation, value, site.bound_standardization)
            theta[site.name] = tf.broadcast_to(value, (tf.shape(points)[0], *site.shape))
            continue
        bijector = coordinate_map(site, log_ratios)
        shape = coordinate_shape(site, log_ratios)
        size = int(np.prod(shape))
        part = tf.reshape(points[:, first : first + size], (-1, *shape))
        theta[site.name] = bijector.forward(part)
        if site.family.has_cholesky:
            theta[cholesky_name(site.name)] = site.family.cholesky_coordinates().forward(part)
        log_det_jacobian += bijector.forward_log_det_jacobian(part, event_ndims=len(shape))
        first += size
    return theta, log_det_jacobian


class CoordinateLayout(NamedTuple):
    """What the coordinates of a point [P] belong to.

    size : P.
    own [K, m] : coordinates of each component's own variables, in the same order.
    shared [s] : of the covariance that all components share.
    weights : of the weights.
    """

    size: int
    own: np.ndarray
    shared: np.ndarray
    weights: np.ndarray


def coordinate_layout(model: StandardizedModel, log_ratios: bool = False) -> CoordinateLayout:
    """Find the coordinates of each component, of what components share, and of the weights."""
    first = 0
    own, shared, weights = [np.empty((model.K, 0), int)], [np.empty(0, int)], np.empty(0, int)
    for site in model.free_sites:
        places = first + np.arange(int(np.prod(coordinate_shape(site, log_ratios))))
        first += len(places)
        if site.name == "weights":
            weights = places
        elif site.has_component_axis:
            own.append(places.reshape(model.K, -1))
        elif site.name in SCALE_VARIABLES:
            shared.append(places)
    return CoordinateLayout(first, np.concatenate(own, axis=1), np.concatenate(shared), weights)
