"""The surrogate posterior: the prior's names, shapes and order, with independent members."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import offset_seed
from bgmm_jd.data.units import standardize_value
from bgmm_jd.distributions.wishart import product_with_transpose
from bgmm_jd.model.covariance_forms import cholesky_name
from bgmm_jd.variational.coordinates import bijector_to_standardized
from bgmm_jd.variational.family import Parameters
from bgmm_jd.variational.members import (
    joint_distribution,
    members_in_data_units,
    over_variable,
)
from bgmm_jd.variational.parameters import VariationalParameters, map_parameters
from bgmm_jd.variational.structure import Site, StandardizedModel


def surrogate_in_data_units(
    model: StandardizedModel, params: VariationalParameters
) -> tfd.JointDistributionCoroutine:
    """Make the surrogate in the units of X.

    Parameters
    ----------
    model : bound to the standardization of the data.
    params : in standardised units, as tensors.
    """
    return joint_distribution(members_in_data_units(model, params))


class IndependentMembers(tfd.JointDistributionCoroutine):
    """A joint distribution of members that are independent and reparameterised.

    TFP runs any model once more before it draws, to find out what its members have in common, and
    thus traces all draws twice. For these members the answer is known.

    Parameters
    ----------
    members : function that makes them, called at each use.
    """

    def __init__(self, members: Callable[[], list[tfd.Distribution]]):
        def model():  # type: ignore[no-untyped-def]
            for member in members():
                yield self.Root(member)

        super().__init__(model)
        self._members = members

    @property
    def reparameterization_type(self) -> Any:
        """Return the type that all members have."""
        return tfd.FULLY_REPARAMETERIZED

    def experimental_sample_and_log_prob(
        self, sample_shape: Any = (), seed: Any = None
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Draw [*sample_shape, ...] from each member, and return the joint log density too."""
        pairs = [
            member.experimental_sample_and_log_prob(sample_shape, seed=offset_seed(seed, across=i))
            for i, member in enumerate(self._members())
        ]
        draws, log_probs = zip(*pairs, strict=True)
        return draws, tf.add_n(log_probs)


def standardized_surrogate(
    model: StandardizedModel, params: VariationalParameters
) -> IndependentMembers:
    """Make the surrogate in standardised units, to draw from.

    Parameters
    ----------
    params : as tensors.
    """
    return IndependentMembers(
        lambda: [_member(site, params[site.name], site.family.distribution) for site in model.sites]
    )


def by_name(model: StandardizedModel, draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """Name the draws of `standardized_surrogate`."""
    return dict(zip((site.name for site in model.sites), draws, strict=True))


def with_cholesky(model: StandardizedModel, draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """Name the draws of `training_surrogate`, and add matrices to the Cholesky factors drawn."""
    theta = by_name(model, draws)
    for site in model.sites:
        if site.family.has_cholesky:
            factor = theta[site.name]
            theta[cholesky_name(site.name)] = factor
            theta[site.name] = product_with_transpose(factor, site.shape[-1])
    return theta


def without_cholesky(
    model: StandardizedModel, theta: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Return the variables of the model alone, without Cholesky factors beside them."""
    return {site.name: theta[site.name] for site in model.sites}


def training_surrogate(
    model: StandardizedModel,
    params: VariationalParameters,
    step_seed: Callable[[], tf.Tensor],
) -> IndependentMembers:
    """Make the surrogate in standardised units with a gradient of low variance.

    Draws come in antithetic pairs, those of matrices as their lower Cholesky factors, from which
    `with_cholesky` makes a theta. The density is that of `StickTheLanding`.

    Parameters
    ----------
    params : as tensors or variables.
    step_seed : function
        The seed [2] of the present step. Draws come from it and not from the seed that TFP passes,
        which TFP splits differently under XLA than outside it.
    """

    def members() -> list[tfd.Distribution]:
        # Read at every use, because the variables move from step to step.
        moving = map_parameters(lambda _, v: tf.convert_to_tensor(v), model.sites, params)
        still = map_parameters(lambda _, v: tf.stop_gradient(v), model.sites, moving)
        seed = step_seed()
        return [
            StickTheLanding(
                _member(site, moving[site.name], site.family.training_distribution),
                _member(site, still[site.name], site.family.training_distribution),
                offset_seed(seed, across=i),
            )
            for i, site in enumerate(model.sites)
        ]

    return IndependentMembers(members)


class StickTheLanding(tfd.Distribution):
    """A distribution whose log density has no gradient in its own parameters, only in its draws.

    The elbo's gradient contains the mean of d log q(z; v) / dv over z ~ q, which is zero while its
    noise is not. Without it the gradient has no variance at all where the surrogate is exact
    (Roeder, Wu and Duvenaud 2017, *Sticking the landing*).

    Parameters
    ----------
    moving : the member that is trained; draws come from it.
    still : the same member with its parameters held constant; densities come from it.
    seed : int32 [2], of the draws.
    """

    def __init__(self, moving: tfd.Distribution, still: tfd.Distribution, seed: tf.Tensor):
        # TFP takes the variable's name from here.
        parameters = {**locals(), "name": moving.name}
        self._moving, self._still, self._own_seed = moving, still, seed
        super().__init__(
            dtype=moving.dtype,
            reparameterization_type=moving.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=moving.name,
        )

    def _batch_shape(self) -> tf.TensorShape:
        return self._moving.batch_shape

    def _event_shape(self) -> tf.TensorShape:
        return self._moving.event_shape

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self._moving.sample(n, seed=self._own_seed)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        return self._still.log_prob(x)


def _member(
    site: Site, parameters: Parameters, make: Callable[[Parameters], tfd.Distribution]
) -> tfd.Distribution:
    """Make the member of one variable in standardised units."""
    distribution = make(_with_fixed_value(site, parameters))
    bijector = None if site.bijector is None else bijector_to_standardized(site)
    return over_variable(distribution, site.name, site.shape, bijector)


def _with_fixed_value(site: Site, parameters: Parameters) -> Parameters:
    """Return the parameters, or the value of a variable that the prior fixes."""
    if site.fixed is None:
        return parameters
    standardization = site.bound_standardization
    value = tf.convert_to_tensor(site.fixed, dtype=standardization.scale.dtype)
    return {"value": standardize_value(site.transformation, value, standardization)}
