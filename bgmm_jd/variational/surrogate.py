"""From the structure of a prior to a surrogate of the same structure, and back to values.

The prior coroutine is walked once. Each variable that it yields becomes a `Site`: its name, its
shape and the trainable member that stands for it in the surrogate. A site whose family has a
trainable twin gets that twin; any other gets a Normal pushed through the variable's own bijector
from the real line to its support.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import offset
from bgmm_jd.data.units import MATRICES, Affine, Unit, Units, affine, to_internal
from bgmm_jd.distributions import wishart
from bgmm_jd.model.covariance_forms import is_by_component, root_name, unit_of
from bgmm_jd.variational.families import FIXED, NORMAL, TWINS, Family, Parameters

SHAPERS = tfd.Independent | tfd.Sample  # they only shape what they are wrapped around
Values = Mapping[str, Parameters]  # site name -> parameter name -> tensor, array or variable


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
    unit: Unit = Unit.NONE
    by_component: bool = False
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
        site = _site(name, distribution, draw, unit_of(name, covariance))
        found.append(site._replace(by_component=is_by_component(name, covariance)))
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
            if site.bijector is None or type(_innermost(distribution)) in TWINS:
                continue
            other = distribution.experimental_default_event_space_bijector()
            for one, two in ((site.bijector, other), (other, site.bijector)):
                if not _leads_into(one, two, site):
                    raise ValueError(
                        f"prior's variable '{site.name}' must have a support that does not depend "
                        "on other variables. Use a family with a fixed one, such as HalfNormal, "
                        "whose scale depends on them."
                    )


def _leads_into(one: tfb.Bijector, two: tfb.Bijector, site: Site) -> bool:
    """Whether values that one map makes are among those of the other."""
    shape = one.inverse_event_shape(site.shape)
    made = (one.forward(tf.fill(shape, tf.constant(x, site.dtype))) for x in (-3.0, 3.0))
    return all(np.isfinite(two.inverse(values)).all() for values in made)


def _site(name: str, distribution: tfd.Distribution, draw: tf.Tensor, unit: Unit) -> Site:
    shape = tuple(distribution.event_shape)
    kind = type(_innermost(distribution))
    if kind in (tfd.Deterministic, tfd.VectorDeterministic):
        if distribution.variables:
            raise ValueError(
                f"prior's variable '{name}' must not be fixed by a tf.Variable, as the first value "
                "would be kept. Use a constant, and another prior for another one."
            )
        return Site(name, shape, FIXED, unit, fixed=draw.numpy())
    family = _twin(distribution, unit)
    if family is not None:
        return Site(name, shape, family, unit)
    bijector = distribution.experimental_default_event_space_bijector()
    if bijector is None:
        raise ValueError(
            f"prior's variable '{name}' ({type(distribution).__name__}) has no map from the real "
            "line to its support. Use a continuous distribution."
        )
    if _changes_nothing(bijector, shape, distribution.dtype):
        bijector = tfb.Identity()  # however deep TFP has wrapped it
    return Site(name, shape, NORMAL, unit, bijector=bijector, dtype=distribution.dtype)


def _twin(distribution: tfd.Distribution, unit: Unit) -> Family | None:
    """The family of the distribution's trainable twin, if it has one."""
    innermost = _innermost(distribution)
    family = TWINS.get(type(innermost))
    # In other units a variable may leave its family (means ~ Gamma, say), and a Wishart may be one
    # of factors.
    if family is None or unit not in family.units:
        return None
    return None if getattr(innermost, "input_output_cholesky", False) else family


def _changes_nothing(bijector: tfb.Bijector, shape: tuple[int, ...], dtype: tf.DType) -> bool:
    if tuple(bijector.inverse_event_shape(shape)) != shape:
        return False
    points = np.linspace(-2.0, 3.0, max(1, int(np.prod(shape)))).reshape(shape)
    points = points.astype(dtype.as_numpy_dtype)
    return np.array_equal(bijector.forward(tf.constant(points)), points)


def _innermost(distribution: tfd.Distribution) -> tfd.Distribution:
    """What `Independent` and `Sample` are wrapped around."""
    while isinstance(distribution, SHAPERS):
        distribution = distribution.distribution
    return distribution


def start_values(
    sites: tuple[Site, ...], moments: Mapping[str, tuple[Any, Any]], units: Units, dtype: Any
) -> Values:
    """Parameters whose means and standard deviations are those given, in internal units.

    Parameters
    ----------
    moments : variable name -> (mean, standard deviation), each of the variable's shape.
    """
    values = {}
    for site in sites:
        mean, sd = (tf.convert_to_tensor(m, dtype) for m in moments[site.name])
        if site.bijector is not None:
            mean, sd = _unconstrain(_to_internal(site, units), mean, sd)
            if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
                raise ValueError(
                    f"prior's variable '{site.name}' has no density at the values that X suggests "
                    "to start from. Widen its support, or check the units of the prior."
                )
        values[site.name] = site.family.start(mean, sd)
    return values


def _unconstrain(
    bijector: tfb.Bijector, mean: tf.Tensor, sd: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Location and scale on the real line; only a start, so a finite difference will do."""
    loc = bijector.inverse(mean)
    if loc.shape == mean.shape:
        above, below = (tf.abs(bijector.inverse(mean + way * sd) - loc) for way in (1.0, -1.0))
        # Where the support ends within an sd, by the other side, or else by some spread.
        one_side = tf.where(tf.math.is_finite(above), above, below)
        return loc, tf.where(tf.math.is_finite(one_side), one_side, 1.0)
    # One spread for all coordinates of a vector: that which keeps the volume, of entries that vary.
    volume = bijector.inverse_log_det_jacobian(mean, event_ndims=len(mean.shape))
    size = tf.cast(tf.size(loc), mean.dtype)
    log_sd = tf.reduce_mean(tf.math.log(sd[sd > 0.0]))
    return loc, tf.exp(log_sd + volume / size) * tf.ones_like(loc)


def joint(sites: tuple[Site, ...], values: Values, units: Units) -> tfd.JointDistributionCoroutine:
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
            member.experimental_sample_and_log_prob(sample_shape, seed=offset(seed, across=i))
            for i, member in enumerate(self._members())
        ]
        draws, log_probs = zip(*pairs, strict=True)
        return draws, tf.add_n(log_probs)


def named(sites: tuple[Site, ...], draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """The draws of `joint_inside` by name."""
    return dict(zip((site.name for site in sites), draws, strict=True))


def with_roots(sites: tuple[Site, ...], draws: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
    """The draws of `joint_in_training` by name: the matrices of roots, and these beside them."""
    theta = named(sites, draws)
    for site in sites:
        if site.family.root_coordinates is not None:
            root = theta[site.name]
            theta[root_name(site.name)] = root
            theta[site.name] = wishart.outer(root, site.shape[-1])
    return theta


def without_roots(sites: tuple[Site, ...], theta: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The variables of the model alone, to leave a compiled program."""
    return {site.name: theta[site.name] for site in sites}


def joint_inside(sites: tuple[Site, ...], values: Values, units: Units) -> IndependentMembers:
    """The surrogate in internal units, to draw from.

    Parameters
    ----------
    values : parameters, as tensors.
    """
    return IndependentMembers(
        lambda: [_member(site, values[site.name], units, user=False) for site in sites]
    )


def joint_in_training(
    sites: tuple[Site, ...], values: Values, units: Units, step_seed: Callable[[], tf.Tensor]
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
        moving = map_values(lambda _, v: tf.convert_to_tensor(v), sites, values)
        still = map_values(lambda _, v: tf.stop_gradient(v), sites, moving)
        seed = step_seed()
        return [
            StickTheLanding(
                _member(site, moving[site.name], units, user=False, training=True),
                _member(site, still[site.name], units, user=False, training=True),
                offset(seed, across=i),
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
    site: Site, parameters: Parameters, units: Units, user: bool, training: bool = False
) -> tfd.Distribution:
    build = site.family.in_training if training else site.family.distribution
    change = affine(site.unit, units)
    if site.fixed is not None:
        value = tf.convert_to_tensor(site.fixed, dtype=units.scale.dtype)
        parameters = {"value": to_internal(site.unit, value, units)}
    if site.bijector is None:
        if user and change is not None and site.family.change_units is not None:
            parameters = site.family.change_units(parameters, change)
        return _over_event(build(parameters), site.shape, site.name)
    base = build(parameters)
    base = tfd.Independent(base, reinterpreted_batch_ndims=len(base.batch_shape))
    bijector = _to_user(site, units) if user else _to_internal(site, units)
    return tfd.TransformedDistribution(base, bijector, name=site.name)


def _over_event(
    distribution: tfd.Distribution, shape: tuple[int, ...], name: str
) -> tfd.Distribution:
    wrapped = len(shape) - len(distribution.event_shape)
    return tfd.Independent(distribution, reinterpreted_batch_ndims=wrapped, name=name)


def is_normal(site: Site) -> bool:
    """Whether the member is a Normal distribution of the variable itself."""
    return site.family is NORMAL and (site.bijector is None or _is_affine(site))


def _is_affine(site: Site) -> bool:
    """Whether the variable is unrestricted, so that its internal units can be trained in."""
    return isinstance(site.bijector, tfb.Identity)


def _to_user(site: Site, units: Units) -> tfb.Bijector:
    change = affine(site.unit, units)
    if change is None or not _is_affine(site):
        return _in_dtype(site, units.scale.dtype)
    return _affine(site, change)


def _to_internal(site: Site, units: Units) -> tfb.Bijector:
    change = affine(site.unit, units)
    bijector = _in_dtype(site, units.scale.dtype)
    if change is None or _is_affine(site):
        return bijector
    return tfb.Chain([tfb.Invert(_affine(site, change)), bijector])


def _in_dtype(site: Site, dtype: tf.DType) -> tfb.Bijector:
    return site.bijector if site.dtype == dtype else InDtype(site.bijector, site.dtype)


class InDtype(tfb.Bijector):
    """A bijector with numbers of one dtype in it, for points of another.

    The prior's dtype is TFP's own where the user did not ask, and that of the fit is X's.
    """

    def __init__(self, bijector: tfb.Bijector, dtype: tf.DType):
        self._inner, self._of_inner = bijector, dtype
        super().__init__(
            forward_min_event_ndims=bijector.forward_min_event_ndims,
            inverse_min_event_ndims=bijector.inverse_min_event_ndims,
            parameters={"bijector": bijector, "dtype": dtype},
            validate_args=False,
            name=bijector.name,
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._inner.forward(tf.cast(x, self._of_inner)), x.dtype)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._inner.inverse(tf.cast(y, self._of_inner)), y.dtype)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        ndims = self.forward_min_event_ndims
        inner = tf.cast(x, self._of_inner)
        return tf.cast(self._inner.forward_log_det_jacobian(inner, event_ndims=ndims), x.dtype)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._inner.forward_event_shape(shape)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._inner.inverse_event_shape(shape)


class ScaleMatrix(tfb.Bijector):
    """Multiply a symmetric or a lower triangular matrix [D, D], entry by entry.

    `tfb.Scale` would count the volume of all D^2 entries, as if they were free.
    """

    def __init__(self, factor: tf.Tensor, log_volume: tf.Tensor):
        self._factor, self._log_volume = factor, log_volume
        super().__init__(
            forward_min_event_ndims=2,
            is_constant_jacobian=True,
            parameters={"factor": factor, "log_volume": log_volume},
            validate_args=False,
            name="scale_matrix",
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return x * self._factor

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return y / self._factor

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return self._log_volume


def _affine(site: Site, change: Affine) -> tfb.Bijector:
    if site.unit in MATRICES:
        return ScaleMatrix(change.factor, change.log_volume)
    scale = tfb.Scale(change.factor)
    return scale if change.shift is None else tfb.Chain([tfb.Shift(change.shift), scale])


def coordinate_map(site: Site, units: Units) -> tfb.Bijector:
    """From a whole real space to the variable in internal units, in one batch dimension."""
    return site.family.coordinates() if site.bijector is None else _to_internal(site, units)


def map_values(function: Callable[..., Any], sites: tuple[Site, ...], *values: Values) -> Values:
    """Apply `function(constraint, leaf, ...)` to every parameter of the surrogate."""
    return {
        site.name: {
            name: function(constraint, *(v[site.name][name] for v in values))
            for name, constraint in site.family.constraints.items()
        }
        for site in sites
    }


def variables(sites: tuple[Site, ...], dtype: Any) -> Values:
    """A `tfp.util.TransformedVariable` for each parameter, to be assigned a start."""
    return {
        site.name: {
            name: tfp.util.TransformedVariable(tf.ones(shape, dtype), site.family.constraints[name])
            for name, shape in _parameter_shapes(site).items()
        }
        for site in sites
    }


def _parameter_shapes(site: Site) -> Mapping[str, tuple[int, ...]]:
    if site.bijector is None:
        return site.family.shapes(site.shape)
    return site.family.shapes(tuple(site.bijector.inverse_event_shape(site.shape)))


def natural_gradient(sites: tuple[Site, ...], values: Values, gradient: Values) -> Values:
    """Inverse Fisher information of the surrogate times the gradient, site by site.

    Parameters
    ----------
    values : parameters (constrained).
    gradient : derivatives by the unconstrained parameters, and so is what comes back.
    """
    return {s.name: s.family.natural(values[s.name], gradient[s.name]) for s in sites}
