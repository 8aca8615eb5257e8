"""The support of a distribution of the prior, as a map to it from the real line."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.distributions.bijectors import LogRatios

# They add axes to the distribution they wrap. TFP makes their base classes where that distribution
# is no composite tensor.
SHAPE_WRAPPERS = (tfd.Independent.__bases__[0], tfd.Sample.__bases__[0])
_PROPORTIONS = (tfd.Dirichlet, tfd.RelaxedOneHotCategorical)
_FAR, _NEARLY = 1e36, 1e30  # float32 can hold both, and the reciprocal of the second


def unwrap(distribution: tfd.Distribution) -> tfd.Distribution:
    """Return the distribution inside `Independent` and `Sample`."""
    while isinstance(distribution, SHAPE_WRAPPERS):
        distribution = distribution.distribution
    return distribution


def event_space_bijector(distribution: tfd.Distribution, draw: tf.Tensor) -> tfb.Bijector | None:
    """Return the map from the real line to the support, with static shapes; None if there is none.

    Positive numbers have their logarithms as coordinates, which a change of units only shifts. In
    TFP's own, the inverse of softplus or that of its reciprocal, the posterior of a variance far
    from 1 is nearly one of the variance itself, and a normal distribution reaches below zero.

    A `tfb.Reshape` without `event_shape_in` knows the shape of its own values only.
    """
    if isinstance(unwrap(distribution), _PROPORTIONS):
        # The same map as their own SoftmaxCentered, which TFP 0.25 cannot make under NumPy 2.4: it
        # calls np.reshape(newshape=).
        return LogRatios()
    bijector = _through_wrappers(distribution)
    if bijector is None or bijector.inverse_event_shape(draw.shape).is_fully_defined():
        return bijector
    shape = bijector.inverse(draw).shape
    return tfb.Chain([bijector, tfb.Reshape(shape, event_shape_in=shape)])


def _through_wrappers(distribution: tfd.Distribution) -> tfb.Bijector | None:
    """Return the map of the wrapped distribution, with the axes where its parameters have them.

    The map that TFP 0.25 makes for a `tfd.Sample` of a `tfd.Independent` sums its log-det-Jacobian
    over the wrong axes.
    """
    if not isinstance(distribution, SHAPE_WRAPPERS):
        bijector = distribution.experimental_default_event_space_bijector()
        return tfb.Exp() if _is_positive(distribution, bijector) else bijector
    wrapped = distribution.distribution
    bijector = _through_wrappers(wrapped)
    batch_ndims = wrapped.batch_shape.rank
    if bijector is None or isinstance(distribution, tfd.Independent) or batch_ndims == 0:
        return bijector  # its parameters have the last axes
    # Sample has put its axes between the parameters' batch axes and the event's.
    sample_ndims = distribution.event_shape.rank - wrapped.event_shape.rank
    into = bijector.inverse_event_shape(wrapped.event_shape).rank
    return tfb.Chain(
        [
            tfb.Invert(_sample_axes_first(batch_ndims, sample_ndims, wrapped.event_shape.rank)),
            bijector,
            _sample_axes_first(batch_ndims, sample_ndims, into),
        ]
    )


def _is_positive(distribution: tfd.Distribution, bijector: tfb.Bijector | None) -> bool:
    """Return whether the support is all positive numbers, each by itself."""
    if bijector is None or distribution.event_shape.rank != 0:
        return False
    far = np.reshape([-_FAR, _FAR], [2] + [1] * distribution.batch_shape.rank)
    ends = np.sort(bijector.forward(tf.constant(far, distribution.dtype)), axis=0)
    return bool((abs(ends[0]) < 1.0 / _NEARLY).all() and (ends[1] > _NEARLY).all())


def _sample_axes_first(batch_ndims: int, sample_ndims: int, event_ndims: int) -> tfb.Transpose:
    """Return the map from axes [batch, sample, event] to [sample, batch, event]."""
    outer = batch_ndims + sample_ndims
    return tfb.Transpose(
        [*range(batch_ndims, outer), *range(batch_ndims), *range(outer, outer + event_ndims)]
    )
