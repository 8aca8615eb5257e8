"""Distributions and coordinates of K components of which only some are active.

A program that is compiled for K components also serves fewer: the others are inactive. An inactive
component has values like any other, but no log density, no weight and no Jacobian, so that nothing
depends on it. Which components are active, 1 or 0 each, is a tensor [K], and so may change from
call to call.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.distributions.bijectors import StickCoordinates
from bgmm_jd.distributions.dirichlet import Dirichlet
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart


def where_active(active: tf.Tensor, values: tf.Tensor, other: float = 0.0) -> tf.Tensor:
    """Return values [..., K], with `other` in place of those of inactive components."""
    return tf.where(active > 0.0, values, tf.constant(other, values.dtype))


class ActiveComponents(tfd.Distribution):
    """A distribution whose batch of K components has a density for the active ones only.

    Parameters
    ----------
    distribution : of batch shape [K, ...].
    active : tensor [K]
    """

    def __init__(self, distribution: tfd.Distribution, active: tf.Tensor) -> None:
        parameters = dict(locals())
        self._distribution, self._active = distribution, active
        super().__init__(
            dtype=distribution.dtype,
            reparameterization_type=distribution.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=distribution.name,
        )

    @property
    def distribution(self) -> tfd.Distribution:
        """Return the distribution of all components."""
        return self._distribution

    def _batch_shape(self) -> tf.TensorShape:
        return self._distribution.batch_shape

    def _event_shape(self) -> tf.TensorShape:
        return self._distribution.event_shape

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self._distribution.sample(n, seed=seed)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        axes = len(self._distribution.batch_shape)
        active = tf.reshape(self._active, [-1] + [1] * (axes - 1))
        return where_active(active, self._distribution.log_prob(x))


class ActiveDirichlet(Dirichlet):
    """A Dirichlet distribution of the active proportions; the others are `LEAST_PROPORTION`.

    Parameters
    ----------
    concentration : tensor [..., K]
        Of inactive components, any positive numbers.
    active : tensor [K]
    """

    def __init__(
        self, concentration: Any, active: tf.Tensor, name: str = "ActiveDirichlet"
    ) -> None:
        parameters = dict(locals())
        self._active = active
        super().__init__(concentration, name=name)
        self._parameters = parameters  # as TFP asks of a subclass with a constructor of its own

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        concentration = super()._parameter_properties(dtype, num_classes)["concentration"]
        return {
            "concentration": concentration,
            "active": tfp.util.ParameterProperties(event_ndims=1),
        }

    def _counted(self, values: tf.Tensor, other: float = 0.0) -> tf.Tensor:
        return where_active(self._active, values, other)


class AntitheticActiveDirichlet(ActiveDirichlet):
    """Draw antithetic pairs from an `ActiveDirichlet`, made from normal draws x and -x."""

    _antithetic = True


class ActiveExchangeableWishart(ExchangeableWishart):
    """An `ExchangeableWishart` of the active matrices, to evaluate and not to draw from.

    Parameters
    ----------
    active : tensor [K]
    floor : scalar tensor
    log_constant : scalar tensor
        That of the distribution of the active matrices alone: `ExchangeableWishart.log_constant`.
    others
        As in `ExchangeableWishart`.
    """

    def __init__(
        self,
        active: tf.Tensor,
        covariance_factor: Any,
        df: float,
        scale_df: float,
        scale_mean: float,
        floor: tf.Tensor,
        log_constant: tf.Tensor,
        input_output_cholesky: bool = False,
        name: str = "ActiveExchangeableWishart",
    ) -> None:
        parameters = dict(locals())
        super().__init__(
            active.shape[0],
            covariance_factor,
            df,
            scale_df,
            scale_mean,
            0.0,
            input_output_cholesky,
            name,
        )
        self._floor, self._active, self._active_constant = floor, active, log_constant
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        factor = super()._parameter_properties(dtype, num_classes)["covariance_factor"]
        scalar = tfp.util.ParameterProperties(event_ndims=0)
        return {
            "active": tfp.util.ParameterProperties(event_ndims=1),
            "covariance_factor": factor,
            "floor": scalar,
            "log_constant": scalar,
        }

    def log_constant(self) -> tf.Tensor:
        """Return the constant that was given."""
        return self._active_constant

    def _count(self) -> tf.Tensor:
        return tf.reduce_sum(self._active)

    def _sum(self, values: tf.Tensor, axis: int = -1) -> tf.Tensor:
        active = tf.reshape(self._active, [-1] + [1] * (-axis - 1))
        return tf.reduce_sum(where_active(active, values), axis=axis)


class ActiveSticks(StickCoordinates):
    """`StickCoordinates` of the active proportions: the breaks of others have no Jacobian.

    The last active proportion takes what is left, so its own break, which comes next, must be a
    large number, such as `CLOSED`.

    Parameters
    ----------
    active : tensor [K]
        1 for the first components and 0 for all that follow.
    """

    CLOSED = 100.0  # in float32 sigmoid(100) is 1, and what is left of the stick exp(-100)

    def __init__(self, active: tf.Tensor) -> None:
        super().__init__(name="active_sticks")
        self._active = active

    def _by_break(self, values: tf.Tensor) -> tf.Tensor:
        return where_active(self._active[1:], values)


class ActiveCoordinates(tfb.Bijector):
    """A bijector of each of K components, with the Jacobian of the active ones.

    Parameters
    ----------
    bijector : from a vector of coordinates, or from each of them, to a component's variable.
    active : tensor [K]
    ndims : int
        Number of axes of a component's variable.
    """

    def __init__(self, bijector: tfb.Bijector, active: tf.Tensor, ndims: int) -> None:
        self._bijector, self._active = bijector, active
        super().__init__(
            forward_min_event_ndims=2,
            inverse_min_event_ndims=ndims + 1,
            parameters={"bijector": bijector, "active": active, "ndims": ndims},
            validate_args=False,
            name="active_coordinates",
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return self._bijector.forward(x)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return self._bijector.inverse(y)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        by_component = self._bijector.forward_log_det_jacobian(x, event_ndims=1)
        by_component = tf.broadcast_to(by_component, tf.shape(x)[:-1])  # a constant has no axes
        return tf.reduce_sum(where_active(self._active, by_component), axis=-1)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.forward_event_shape(shape)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.inverse_event_shape(shape)
