"""All variables of the model as one point in unconstrained coordinates, and back."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bgmm_jd.data.units import Units, to_internal
from bgmm_jd.model.covariance_forms import root_name
from bgmm_jd.variational.surrogate import Site, coordinate_map


def flatten(sites: tuple[Site, ...], theta: Mapping[str, tf.Tensor], units: Units) -> tf.Tensor:
    """Draws in internal units [S, ...] as points [S, P]."""
    parts = [
        coordinate_map(site, units).inverse(theta[site.name])
        for site in sites
        if site.fixed is None
    ]
    return tf.concat([tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts], axis=1)


def unflatten(
    sites: tuple[Site, ...], points: tf.Tensor, units: Units
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Points [S, P] as draws in internal units, with log |d theta / d point| [S].

    Beside matrices that are made of their roots there are these (`covariance.root_name`).
    """
    theta: dict[str, tf.Tensor] = {}
    volume = tf.zeros([], points.dtype)
    first = 0
    for site in sites:
        if site.fixed is not None:
            value = to_internal(site.unit, tf.constant(site.fixed, points.dtype), units)
            theta[site.name] = tf.broadcast_to(value, (tf.shape(points)[0], *site.shape))
            continue
        bijector = coordinate_map(site, units)
        shape = tuple(bijector.inverse_event_shape(site.shape))
        size = int(np.prod(shape))
        part = tf.reshape(points[:, first : first + size], (-1, *shape))
        theta[site.name] = bijector.forward(part)
        if site.family.root_coordinates is not None:
            theta[root_name(site.name)] = site.family.root_coordinates().forward(part)
        volume += bijector.forward_log_det_jacobian(part, event_ndims=len(shape))
        first += size
    return theta, volume
