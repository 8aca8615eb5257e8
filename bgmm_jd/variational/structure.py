"""The structure of a model: each variable of the prior, and the member of the surrogate for it.

The prior coroutine is walked once. Each variable that it yields becomes a `Site`: its name, its
shape and the family of the trainable member that replaces it in the surrogate. A variable whose own
family is trainable keeps that family; any other becomes a normal variable pushed through its own
bijector from the real line to its support.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.affine_maps import AffineMap
from bgmm_jd.data.units import (
    Standardization,
    Transformation,
    affine_map,
    log_det_jacobian,
)
from bgmm_jd.model.covariance_forms import (
    MATRIX_FORMS,
    has_component_axis,
    transformation_of,
)
from bgmm_jd.model.per_prior import variables_of_prior
from bgmm_jd.model.prior_draws import draw_prior, is_independent
from bgmm_jd.variational.families import (
    FIXED,
    MATCHING_FAMILY,
    MULTIVARIATE_NORMAL,
    NORMAL,
    STICK_BREAKING,
)
from bgmm_jd.variational.family import Family
from bgmm_jd.variational.supports import event_space_bijector, unwrap


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """One variable of the model.

    Attributes
    ----------
    name, shape : str, tuple of int
        Of the variable in the prior.
    family : Family
        Of its member in the surrogate.
    transformation : Transformation
        How the variable changes with the units of X.
    has_component_axis : bool
        Whether it has one entry for each component, along its first axis.
    bijector : tfb.Bijector, optional
        For a variable whose own family is not trainable, the map from the real line to its support,
        in the units of the prior.
    dtype : tf.DType, optional
        Of the numbers inside that map, which is the prior's.
    fixed : array, optional
        The only value of a variable that the prior fixes, in the units of the prior.
    standardization : Standardization, optional
        Between standardised units and those of the prior, as tensors in the dtype of the fit; None
        until `Model.standardized` binds it.
    links_components : bool
        Whether a coordinate of one component moves others too, as those of ascending means do.
    """

    name: str
    shape: tuple[int, ...]
    family: Family
    transformation: Transformation = Transformation.NONE
    has_component_axis: bool = False
    bijector: tfb.Bijector | None = None
    dtype: tf.DType | None = None
    fixed: np.ndarray | None = None
    standardization: Standardization | None = None
    links_components: bool = False

    @property
    def bound_standardization(self) -> Standardization:
        """Return the standardisation that was bound to the site."""
        if self.standardization is None:
            raise RuntimeError(f"The site '{self.name}' is of a model that is not standardised.")
        return self.standardization

    @property
    def affine_map(self) -> AffineMap | None:
        """Return the map from standardised units to the prior's; None without units of X."""
        return affine_map(self.transformation, self.bound_standardization)

    @property
    def is_unrestricted(self) -> bool:
        """Return whether the variable is any real number, so that it can be trained as it is."""
        return isinstance(self.bijector, tfb.Identity)

    @property
    def is_normal(self) -> bool:
        """Return whether the member is a normal distribution of the variable itself."""
        unrestricted = self.bijector is None or self.is_unrestricted
        return self.family is MULTIVARIATE_NORMAL or (self.family is NORMAL and unrestricted)


@dataclass(frozen=True, eq=False)
class Model:
    """The prior, the form of covariance and the site of each variable.

    There is one object for each prior and form (`model_of`): compiled programs are kept by it.
    """

    prior: tfd.JointDistributionCoroutine
    covariance: str
    sites: tuple[Site, ...]

    @property
    def K(self) -> int:
        """Return the number of components."""
        return self.site("weights").shape[0]

    def site(self, name: str) -> Site:
        """Return the site of one variable."""
        return next(site for site in self.sites if site.name == name)

    @property
    def free_sites(self) -> tuple[Site, ...]:
        """Return the sites that the prior does not fix, which have coordinates and a density."""
        return tuple(site for site in self.sites if site.fixed is None)

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Return the TensorFlow variables that the prior reads."""
        return variables_of_prior(self.prior)

    @property
    def is_stick_breaking(self) -> bool:
        """Return whether the weights have a stick-breaking prior, which is not exchangeable."""
        return any(site.family is STICK_BREAKING for site in self.sites)

    @property
    def has_separate_components(self) -> bool:
        """Return whether each component's variables depend on its own coordinates alone.

        They do not under a support that ties components together, such as that of ascending means.
        """
        return not any(site.links_components for site in self.free_sites)

    @property
    def has_covariance_matrices(self) -> bool:
        """Return whether a component's covariance is a matrix and not a vector of variances."""
        return self.covariance in MATRIX_FORMS

    @property
    def transformations_and_shapes(self) -> list[tuple[Transformation, tuple[int, ...]]]:
        """Return the transformation and the shape of each variable that has a density."""
        return [(site.transformation, site.shape) for site in self.free_sites]

    def standardized(self, standardization: Standardization) -> "StandardizedModel":
        """Bind the standardization through which the prior is read.

        Parameters
        ----------
        standardization : of tensors in the dtype of the fit. They are arguments of the compiled
            programs, so that one program serves all data sets of a shape.
        """
        sites = tuple(replace(site, standardization=standardization) for site in self.sites)
        return StandardizedModel(self.prior, self.covariance, sites, standardization)


@dataclass(frozen=True, eq=False)
class StandardizedModel(Model):
    """A model whose variables are in standardised units, and how they go to those of the prior.

    Attributes
    ----------
    standardization : Standardization
    active : tensor [K], optional
        1 for active components and 0 for others, see `padded_model`; None if all are active.
    """

    standardization: Standardization
    active: tf.Tensor | None = None

    @property
    def dtype(self) -> tf.DType:
        """Return the dtype of the fit."""
        return self.standardization.scale.dtype

    def log_det_jacobian(self) -> Any:
        """Return log |dx / dz| in nats, for x in the units of the prior and z standardised.

        Over all variables that have a density, of the active components.
        """
        own = [s for s in self.free_sites if s.has_component_axis]
        shared = [(s.transformation, s.shape) for s in self.free_sites if not s.has_component_axis]
        of_one = [(s.transformation, s.shape[1:]) for s in own]
        components = self.K if self.active is None else tf.reduce_sum(self.active)
        return components * log_det_jacobian(of_one, self.standardization) + log_det_jacobian(
            shared, self.standardization
        )


def model_of(prior: tfd.JointDistributionCoroutine, covariance: str = "diag") -> Model:
    """Return the model of a prior whose `precisions` or `scales` are of that form."""
    return _model_of(prior, covariance)  # one cache entry, however the arguments are passed


@functools.lru_cache(maxsize=64)
def _model_of(prior: tfd.JointDistributionCoroutine, covariance: str) -> Model:
    return Model(prior, covariance, sites_of(prior, covariance))


@functools.lru_cache(maxsize=64)
def sites_of(prior: tfd.JointDistributionCoroutine, covariance: str = "diag") -> tuple[Site, ...]:
    """Walk the coroutine once and find each variable's member of the surrogate.

    Parameters
    ----------
    prior : tfd.JointDistributionCoroutine
    covariance : str
        The form that `precisions` or `scales` have.

    Raises
    ------
    ValueError
        If a variable is discrete, is fixed by others that are not, or has a support that depends
        on others.
    """
    found = []
    for name, distribution, draw in _walk(prior):
        site = _site(name, distribution, draw, covariance)
        has_axis = has_component_axis(name, covariance)
        links = has_axis and _links_components(site)
        found.append(replace(site, has_component_axis=has_axis, links_components=links))
    _check_fixed(prior, found)
    _check_supports(prior, found)
    return tuple(found)


def _walk(prior: tfd.JointDistributionCoroutine) -> list[tuple[str, tfd.Distribution, tf.Tensor]]:
    """Return the name, the distribution and a draw of each variable."""
    if is_independent(prior):
        draws = draw_prior(prior, 1, seed=(0, 0))
        return [(member.name, member, draws[member.name][0]) for member in prior.model.members]
    distributions, draws = prior.sample_distributions(seed=(0, 0))
    return list(zip(distributions._fields, distributions, draws, strict=True))


def _check_fixed(prior: tfd.JointDistributionCoroutine, sites: list[Site]) -> None:
    """Check that each fixed variable has the same value in another draw."""
    if is_independent(prior) or all(site.fixed is None for site in sites):
        return
    for site, other in zip(sites, prior.sample(seed=(0, 1)), strict=True):
        if site.fixed is not None and not np.array_equal(site.fixed, other):
            raise ValueError(
                f"prior's variable '{site.name}' must not be a deterministic function of other "
                "variables. Use a constant, or give it a distribution."
            )


def _check_supports(prior: tfd.JointDistributionCoroutine, sites: list[Site]) -> None:
    """Check that no support depends on other variables, by the bijectors of three prior draws."""
    if is_independent(prior) or all(site.bijector is None for site in sites):
        return
    for seed in ((0, 1), (0, 2)):
        distributions, draws = prior.sample_distributions(seed=seed)
        for site, distribution, draw in zip(sites, distributions, draws, strict=True):
            if site.bijector is None or type(unwrap(distribution)) in MATCHING_FAMILY:
                continue
            other = event_space_bijector(distribution, draw)
            for one, two in ((site.bijector, other), (other, site.bijector)):
                if not _maps_into_support(one, two, site):
                    raise ValueError(
                        f"prior's variable '{site.name}' must have a support that does not depend "
                        "on other variables. Use a family with a fixed support, such as "
                        "HalfNormal, whose scale depends on them."
                    )


def _maps_into_support(one: tfb.Bijector, two: tfb.Bijector, site: Site) -> bool:
    """Return whether values that the first bijector makes are in the range of the second."""
    shape = one.inverse_event_shape(site.shape)
    made = (one.forward(tf.fill(shape, tf.constant(x, site.dtype))) for x in (-3.0, 3.0))
    return all(np.isfinite(two.inverse(values)).all() for values in made)


def _site(name: str, distribution: tfd.Distribution, draw: tf.Tensor, covariance: str) -> Site:
    shape = tuple(draw.shape)  # the static event shape of a reshaped distribution may be unknown
    transformation = transformation_of(name, covariance)
    kind = type(unwrap(distribution))
    if kind in (tfd.Deterministic, tfd.VectorDeterministic):
        if distribution.variables:
            raise ValueError(
                f"prior's variable '{name}' must not be fixed by a tf.Variable, because its first "
                "value would be kept. Use a constant, and another prior for another value."
            )
        return Site(
            name=name, shape=shape, family=FIXED, transformation=transformation, fixed=draw.numpy()
        )
    family = _matching_family(distribution, transformation)
    if family is NORMAL and name == "means" and covariance in MATRIX_FORMS:
        # Within a component with a covariance matrix the means of the features are correlated, and
        # in whitened coordinates they are so even where the prior has them independent.
        family = MULTIVARIATE_NORMAL
    if family is not None:
        return Site(name=name, shape=shape, family=family, transformation=transformation)
    bijector = event_space_bijector(distribution, draw)
    if bijector is None:
        raise ValueError(
            f"prior's variable '{name}' ({type(distribution).__name__}) has no map from the real "
            "line to its support. Use a continuous distribution."
        )
    if _is_identity(bijector, shape, distribution.dtype):
        bijector = tfb.Identity()  # however deep TFP has wrapped it
    return Site(
        name=name,
        shape=shape,
        family=NORMAL,
        transformation=transformation,
        bijector=bijector,
        dtype=distribution.dtype,
    )


def _matching_family(
    distribution: tfd.Distribution, transformation: Transformation
) -> Family | None:
    """Return the distribution's own family if it is trainable and stays itself in other units."""
    innermost = unwrap(distribution)
    family = MATCHING_FAMILY.get(type(innermost))
    # In other units a variable may leave its family (means ~ Gamma, for example).
    if family is None or transformation not in family.transformations:
        return None
    # A Wishart distribution may be one of Cholesky factors instead of matrices.
    return None if getattr(innermost, "input_output_cholesky", False) else family


def _links_components(site: Site) -> bool:
    """Return whether a coordinate of one component moves other components of a variable too.

    Weights are left out: their sum links them in any coordinates.
    """
    if site.bijector is None or site.name == "weights":
        return False
    K, shape = site.shape[0], tuple(site.bijector.inverse_event_shape(site.shape))
    if shape[:1] != (K,):
        return True
    points = np.zeros((K + 1, *shape))
    points[np.arange(K), np.arange(K)] = 1.0  # row k moves component k, and the last row none
    values = site.bijector.forward(tf.constant(points, site.dtype)).numpy()
    others = ~np.eye(K, dtype=bool)
    unmoved = np.broadcast_to(values[-1], values[:-1].shape)
    return not np.allclose(values[:-1][others], unmoved[others], rtol=1e-3, atol=0.0)


def _is_identity(bijector: tfb.Bijector, shape: tuple[int, ...], dtype: tf.DType) -> bool:
    if tuple(bijector.inverse_event_shape(shape)) != shape:
        return False
    points = np.linspace(-2.0, 3.0, max(1, int(np.prod(shape)))).reshape(shape)
    points = points.astype(dtype.as_numpy_dtype)
    return np.array_equal(bijector.forward(tf.constant(points)), points)
