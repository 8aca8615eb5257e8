"""From the structure of a prior to a surrogate of the same structure, and back to values.

The prior coroutine is walked once. Each variable that it yields becomes a `Site`: its name, its
shape and the trainable member that stands for it in the surrogate. A site whose family has a
trainable twin gets that twin; any other gets a Normal pushed through the variable's own bijector
from the real line to its support.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import offset_seed
from bgmm_jd.data.units import Standardization, affine_map, standardize_value
from bgmm_jd.distributions import wishart
from bgmm_jd.model.covariance_forms import cholesky_name
from bgmm_jd.variational.coordinates import bijector_to_data_units, bijector_to_standardized
from bgmm_jd.variational.families import Parameters
from bgmm_jd.variational.parameters import VariationalParameters, map_parameters
from bgmm_jd.variational.structure import Site


def surrogate_in_data_units(
    sites: tuple[Site, ...], values: VariationalParameters, units: Standardization
) -> tfd.JointDistributionCoroutine:
    """The surrogate in the user's units: the prior's names, order and shapes, all independent.

    Parameters
    ----------
    values : parameters in internal units, as tensors.
    units : the user's units.
    """
    Root = tfd.JointDistributionCoroutine.Root

    def surrogate():
        for site in sites:
            yield Root(_member(site, values[site.name], units, user=True))

    return tfd.JointDistributionCoroutine(surrogate)


class IndependentMembers(tfd.JointDistributionCoroutine):
    """A joint distribution of members that know nothing of each other, all reparameterized.

    Before it draws, TFP runs any model once more, to learn what its members have in common, and so
    traces all draws twice. Here that is known.

    Parameters
    ----------
    members : called for them at each use.
    """

    def __init__(self, members: Callable[[], list[tfd.Distribution]]):
        def model():
            for member in members():
                yield self.Root(member)

        super().__init__(model)
        self._members = members

    @property
    def reparameterization_type(self) -> Any:
        """That of all its members."""
        return tfd.FULLY_REPARAMETERIZED

    def experimental_sample_and_log_prob(self, sample_shape=(), seed=None):
        """Draws [*sample_shape, ...] of each member, in a tuple, and their joint log density."""
        pairs = [
            member.experimental_sample_and_log_prob(sample_shape, seed=offset_seed(seed, across=i))
            for i, member in enumerate(self._members())
        ]
        draws, log_probs = zip(*pairs, strict=True)
        return draws, tf.add_n(log_probs)


def by_name(sites: tuple[Site, ...], draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """The draws of `joint_inside` by name."""
    return dict(zip((site.name for site in sites), draws, strict=True))


def with_cholesky(sites: tuple[Site, ...], draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """The draws of `joint_in_training` by name: the matrices of roots, and these beside them."""
    theta = by_name(sites, draws)
    for site in sites:
        if site.family.cholesky_coordinates is not None:
            root = theta[site.name]
            theta[cholesky_name(site.name)] = root
            theta[site.name] = wishart.product_with_transpose(root, site.shape[-1])
    return theta


def without_cholesky(
    sites: tuple[Site, ...], theta: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The variables of the model alone, to leave a compiled program."""
    return {site.name: theta[site.name] for site in sites}


def standardized_surrogate(
    sites: tuple[Site, ...], values: VariationalParameters, units: Standardization
) -> IndependentMembers:
    """The surrogate in internal units, to draw from.

    Parameters
    ----------
    values : parameters, as tensors.
    """
    return IndependentMembers(
        lambda: [_member(site, values[site.name], units, user=False) for site in sites]
    )


def training_surrogate(
    sites: tuple[Site, ...],
    values: VariationalParameters,
    units: Standardization,
    step_seed: Callable[[], tf.Tensor],
) -> IndependentMembers:
    """The surrogate in internal units, made for a quiet gradient.

    Draws come in mirrored pairs, those of matrices as their lower Cholesky factors: `with_roots`
    makes a theta of them. The density is that of `StickTheLanding`.

    Parameters
    ----------
    step_seed : the seed [2] of the step at hand. Draws come from it and not from the seed that
        TFP passes, which it splits by other means under XLA than outside it.
    """

    def members():
        # Read at every use: the variables move from step to step.
        moving = map_parameters(lambda _, v: tf.convert_to_tensor(v), sites, values)
        still = map_parameters(lambda _, v: tf.stop_gradient(v), sites, moving)
        seed = step_seed()
        return [
            StickTheLanding(
                _member(site, moving[site.name], units, user=False, training=True),
                _member(site, still[site.name], units, user=False, training=True),
                offset_seed(seed, across=i),
            )
            for i, site in enumerate(sites)
        ]

    return IndependentMembers(members)


class StickTheLanding(tfd.Distribution):
    """A distribution whose log density has no gradient in its own parameters, only in its draws.

    The elbo's gradient contains the mean of d log q(z; v) / dv over z ~ q, which is zero while its
    noise is not. Left out, what remains has no variance at all where the surrogate is exact
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

    def _batch_shape(self):
        return self._moving.batch_shape

    def _event_shape(self):
        return self._moving.event_shape

    def _sample_n(self, n, seed=None):
        return self._moving.sample(n, seed=self._own_seed)

    def _log_prob(self, x):
        return self._still.log_prob(x)


def _member(
    site: Site, parameters: Parameters, units: Standardization, user: bool, training: bool = False
) -> tfd.Distribution:
    build = site.family.training_distribution if training else site.family.distribution
    change = affine_map(site.unit, units)
    if site.fixed is not None:
        value = tf.convert_to_tensor(site.fixed, dtype=units.scale.dtype)
        parameters = {"value": standardize_value(site.unit, value, units)}
    if site.bijector is None:
        if user and change is not None and site.family.change_units is not None:
            parameters = site.family.change_units(parameters, change)
        return _over_event(build(parameters), site.shape, site.name)
    base = build(parameters)
    base = tfd.Independent(base, reinterpreted_batch_ndims=len(base.batch_shape))
    bijector = (
        bijector_to_data_units(site, units) if user else bijector_to_standardized(site, units)
    )
    return tfd.TransformedDistribution(base, bijector, name=site.name)


def _over_event(
    distribution: tfd.Distribution, shape: tuple[int, ...], name: str
) -> tfd.Distribution:
    wrapped = len(shape) - len(distribution.event_shape)
    return tfd.Independent(distribution, reinterpreted_batch_ndims=wrapped, name=name)
