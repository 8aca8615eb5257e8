"""The structure of a model: each variable of the prior, and its member of the surrogate."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.units import Transformation
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, has_component_axis, transformation_of
from bgmm_jd.variational.families import FIXED, MATCHING_FAMILY, NORMAL, STICK_BREAKING, Family

SHAPE_WRAPPERS = tfd.Independent | tfd.Sample  # they only shape what they are wrapped around


class Site(NamedTuple):
    """One variable of the model.

    name, shape : of the variable in the prior.
    family : the member of the surrogate.
    unit : what the variable is measured in.
    by_component : whether it has one entry for each component, along its first axis.
    bijector : for a member without a twin, the map from the real line to the variable's support,
        in the user's units; None for a twin.
    dtype : of the numbers in that map, which is the prior's.
    fixed : the only value of a variable that the prior fixes, in the user's units, or None.
    """

    name: str
    shape: tuple[int, ...]
    family: Family
    unit: Transformation = Transformation.NONE
    has_component_axis: bool = False
    bijector: tfb.Bijector | None = None
    dtype: tf.DType | None = None
    fixed: np.ndarray | None = None


@functools.lru_cache(maxsize=64)
def sites_of(prior: tfd.JointDistributionCoroutine, covariance: str = "diag") -> tuple[Site, ...]:
    """Walk the coroutine once and name each variable's member of the surrogate.

    Parameters
    ----------
    covariance : the form that `precisions` or `scales` have.

    Raises
    ------
    ValueError
        If a variable is discrete, is fixed by others that are not, or has a support that depends
        on others.
    """
    distributions, draws = prior.sample_distributions(seed=(0, 0))
    found = []
    for name, distribution, draw in zip(distributions._fields, distributions, draws, strict=True):
        site = _site(name, distribution, draw, transformation_of(name, covariance))
        found.append(site._replace(has_component_axis=has_component_axis(name, covariance)))
    _check_fixed(prior, found)
    _check_supports(prior, found)
    return tuple(found)


def _check_fixed(prior: tfd.JointDistributionCoroutine, sites: list[Site]) -> None:
    """Whether each variable that is fixed is so in another draw too."""
    if all(site.fixed is None for site in sites):
        return
    for site, other in zip(sites, prior.sample(seed=(0, 1)), strict=True):
        if site.fixed is not None and not np.array_equal(site.fixed, other):
            raise ValueError(
                f"prior's variable '{site.name}' must not be fixed by other variables."
            )


def _check_supports(prior: tfd.JointDistributionCoroutine, sites: list[Site]) -> None:
    """Whether the map from the real line to each support is one to the support in other draws."""
    if all(site.bijector is None for site in sites):
        return
    for seed in ((0, 1), (0, 2)):
        distributions, _ = prior.sample_distributions(seed=seed)
        for site, distribution in zip(sites, distributions, strict=True):
            if site.bijector is None or type(_unwrap(distribution)) in MATCHING_FAMILY:
                continue
            other = distribution.experimental_default_event_space_bijector()
            for one, two in ((site.bijector, other), (other, site.bijector)):
                if not _maps_into_support(one, two, site):
                    raise ValueError(
                        f"prior's variable '{site.name}' must have a support that does not depend "
                        "on other variables. Use a family with a fixed one, such as HalfNormal, "
                        "whose scale depends on them."
                    )


def _maps_into_support(one: tfb.Bijector, two: tfb.Bijector, site: Site) -> bool:
    """Whether values that one map makes are among those of the other."""
    shape = one.inverse_event_shape(site.shape)
    made = (one.forward(tf.fill(shape, tf.constant(x, site.dtype))) for x in (-3.0, 3.0))
    return all(np.isfinite(two.inverse(values)).all() for values in made)


def _site(name: str, distribution: tfd.Distribution, draw: tf.Tensor, unit: Transformation) -> Site:
    shape = tuple(distribution.event_shape)
    kind = type(_unwrap(distribution))
    if kind in (tfd.Deterministic, tfd.VectorDeterministic):
        if distribution.variables:
            raise ValueError(
                f"prior's variable '{name}' must not be fixed by a tf.Variable, as the first value "
                "would be kept. Use a constant, and another prior for another one."
            )
        return Site(name, shape, FIXED, unit, fixed=draw.numpy())
    family = _matching_family(distribution, unit)
    if family is not None:
        return Site(name, shape, family, unit)
    bijector = distribution.experimental_default_event_space_bijector()
    if bijector is None:
        raise ValueError(
            f"prior's variable '{name}' ({type(distribution).__name__}) has no map from the real "
            "line to its support. Use a continuous distribution."
        )
    if _is_identity(bijector, shape, distribution.dtype):
        bijector = tfb.Identity()  # however deep TFP has wrapped it
    return Site(name, shape, NORMAL, unit, bijector=bijector, dtype=distribution.dtype)


def _matching_family(distribution: tfd.Distribution, unit: Transformation) -> Family | None:
    """The family of the distribution's trainable twin, if it has one."""
    innermost = _unwrap(distribution)
    family = MATCHING_FAMILY.get(type(innermost))
    # In other units a variable may leave its family (means ~ Gamma, say), and a Wishart may be one
    # of factors.
    if family is None or unit not in family.units:
        return None
    return None if getattr(innermost, "input_output_cholesky", False) else family


def _is_identity(bijector: tfb.Bijector, shape: tuple[int, ...], dtype: tf.DType) -> bool:
    if tuple(bijector.inverse_event_shape(shape)) != shape:
        return False
    points = np.linspace(-2.0, 3.0, max(1, int(np.prod(shape)))).reshape(shape)
    points = points.astype(dtype.as_numpy_dtype)
    return np.array_equal(bijector.forward(tf.constant(points)), points)


def _unwrap(distribution: tfd.Distribution) -> tfd.Distribution:
    """What `Independent` and `Sample` are wrapped around."""
    while isinstance(distribution, SHAPE_WRAPPERS):
        distribution = distribution.distribution
    return distribution


def is_normal(site: Site) -> bool:
    """Whether the member is a Normal distribution of the variable itself."""
    return site.family is NORMAL and (site.bijector is None or is_unrestricted(site))


def is_unrestricted(site: Site) -> bool:
    """Whether the variable is unrestricted, so that its internal units can be trained in."""
    return isinstance(site.bijector, tfb.Identity)


@dataclass(frozen=True, eq=False)
class Model:
    """What a program is made for: the prior, the form of covariance, the site of each variable.

    One object for each prior and form (`model_of`), by which compiled programs are kept.
    """

    prior: tfd.JointDistributionCoroutine
    covariance: str
    sites: tuple[Site, ...]

    @property
    def K(self) -> int:
        """The number of components."""
        return self.site("weights").shape[0]

    def site(self, name: str) -> Site:
        """That of one variable."""
        return next(site for site in self.sites if site.name == name)

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """That the prior reads."""
        return self.prior.variables

    @property
    def is_stick_breaking(self) -> bool:
        """Whether the weights are those of a stick-breaking prior, which are not exchangeable."""
        return any(site.family is STICK_BREAKING for site in self.sites)

    @property
    def has_covariance_matrices(self) -> bool:
        """Whether a covariance is a matrix."""
        return self.covariance in MATRIX_FORMS

    @property
    def units(self) -> dict[str, Transformation]:
        """What each variable is measured in, by name."""
        return {site.name: site.unit for site in self.sites}

    @property
    def densities(self) -> list[tuple[Transformation, tuple[int, ...]]]:
        """Unit and shape of each variable that has a density."""
        return [(site.unit, site.shape) for site in self.sites if site.fixed is None]


def model_of(prior: tfd.JointDistributionCoroutine, covariance: str = "diag") -> Model:
    """The model of a prior whose `precisions` or `scales` are of that form."""
    return _model_of(prior, covariance)


@functools.lru_cache(maxsize=64)
def _model_of(prior: tfd.JointDistributionCoroutine, covariance: str) -> Model:
    return Model(prior, covariance, sites_of(prior, covariance))
