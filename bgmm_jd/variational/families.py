"""The trainable members of a surrogate: one family of distributions each.

A family knows its parameters and their constraints, how to make the distribution, how to start
from a mean and a standard deviation, how it moves to the user's units, and its natural gradient.

Positive parameters are trained in log coordinates, where the curvature of the elbo does not
change with the number of rows; a Gamma is trained in the logs of its concentration and its mean,
which are orthogonal: their Fisher information is diagonal.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.units import AffineMap, Transformation
from bgmm_jd.distributions import bijectors, stick_breaking, wishart
from bgmm_jd.distributions.dirichlet import AntitheticDirichlet, Dirichlet
from bgmm_jd.distributions.gamma import AntitheticGamma, Gamma
from bgmm_jd.distributions.normal import AntitheticNormal, Normal
from bgmm_jd.distributions.standard_gamma import trigamma_excess

Parameters = Mapping[str, Any]  # by name, in the constrained space: tensors or variables
Shape = tuple[int, ...]


class Family(NamedTuple):
    """One family of distributions as a member of a surrogate.

    constraints : parameter name -> bijector from the real line.
    shapes : shape of the variable -> parameter name -> shape.
    coordinates : bijector from a whole real space to the variable, in which its posterior is close
        to normal.
    distribution : parameters -> distribution over the last axes.
    in_training : the same, with draws in mirrored pairs; instead of matrices, their lower Cholesky
        factors.
    start : mean, standard deviation (elementwise, of the variable) -> parameters.
    moments : parameters, as arrays -> mean, standard deviation (elementwise).
    units : what its variables may be measured in: the family is closed under no other changes.
    change_units : parameters, Affine -> parameters; None where there are no units to change.
    natural : parameters, gradients by unconstrained parameter -> natural gradient, likewise.
    root_coordinates : of positive definite matrices, `coordinates` as far as the lower Cholesky
        factors; None of any other variable.
    """

    constraints: Mapping[str, tfb.Bijector]
    shapes: Callable[[Shape], Mapping[str, Shape]]
    coordinates: Callable[[], tfb.Bijector]
    distribution: Callable[[Parameters], tfd.Distribution]
    training_distribution: Callable[[Parameters], tfd.Distribution]
    start: Callable[[tf.Tensor, tf.Tensor], Parameters]
    moments: Callable[[Parameters], tuple[Any, Any]]
    units: Sequence[Transformation]
    change_units: Callable[[Parameters, AffineMap], Parameters] | None
    natural: Callable[[Parameters, Parameters], Parameters]
    cholesky_coordinates: Callable[[], tfb.Bijector] | None = None


def _alike(*names: str) -> Callable[[Shape], Mapping[str, Shape]]:
    """Parameters of the variable's own shape."""
    return lambda shape: dict.fromkeys(names, shape)


def _normal_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    return {"loc": mean, "scale": sd}


def _normal_units(p: Parameters, change: AffineMap) -> Parameters:
    loc = p["loc"] * change.factor
    shifted = loc if change.shift is None else loc + change.shift
    return {"loc": shifted, "scale": p["scale"] * change.factor}


def _normal_natural(p: Parameters, g: Parameters) -> Parameters:
    """Fisher information of (loc, log scale): diag(1 / scale^2, 2)."""
    return {"loc": p["scale"] ** 2 * g["loc"], "scale": 0.5 * g["scale"]}


NORMAL = Family(
    constraints={"loc": tfb.Identity(), "scale": tfb.Exp()},
    shapes=_alike("loc", "scale"),
    coordinates=tfb.Identity,
    distribution=lambda p: Normal(p["loc"], p["scale"]),
    training_distribution=lambda p: AntitheticNormal(p["loc"], p["scale"]),
    start=_normal_start,
    moments=lambda p: (p["loc"], p["scale"]),
    units=tuple(Transformation),
    change_units=_normal_units,
    natural=_normal_natural,
)


def _gamma_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    return {"concentration": (mean / sd) ** 2, "mean": mean}


def _gamma_natural(p: Parameters, g: Parameters) -> Parameters:
    """Fisher information of (log a, log mean): diag(a^2 trigamma(a) - a, a)."""
    a = tf.convert_to_tensor(p["concentration"])
    return {"concentration": g["concentration"] / trigamma_excess(a), "mean": g["mean"] / a}


GAMMA = Family(
    constraints={"concentration": tfb.Exp(), "mean": tfb.Exp()},
    shapes=_alike("concentration", "mean"),
    coordinates=tfb.Exp,
    distribution=lambda p: Gamma(p["concentration"], p["concentration"] / p["mean"]),
    training_distribution=lambda p: AntitheticGamma(
        p["concentration"], p["concentration"] / p["mean"]
    ),
    start=_gamma_start,
    moments=lambda p: (p["mean"], p["mean"] / p["concentration"] ** 0.5),
    units=(
        Transformation.NONE,
        Transformation.SCALE,
        Transformation.PRECISION,
        Transformation.COMMON_SCALE,
        Transformation.COMMON_PRECISION,
    ),
    change_units=lambda p, change: {**p, "mean": p["mean"] * change.factor},
    natural=_gamma_natural,
)


def _dirichlet_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    """var[k] = mean[k] (1 - mean[k]) / (total + 1): the total that fits on average."""
    if mean.shape[-1] == 1:
        return {"concentration": tf.ones_like(mean)}
    spread = tf.reduce_sum(mean * (1.0 - mean), axis=-1, keepdims=True)
    total = spread / tf.reduce_sum(sd**2, axis=-1, keepdims=True) - 1.0
    return {"concentration": mean * tf.maximum(total, 1.0)}


def _dirichlet_moments(p: Parameters) -> tuple[Any, Any]:
    total = p["concentration"].sum(axis=-1, keepdims=True)
    mean = p["concentration"] / total
    return mean, (mean * (1.0 - mean) / (total + 1.0)) ** 0.5


def _dirichlet_natural(p: Parameters, g: Parameters) -> Parameters:
    """Fisher information of c: diag(trigamma(c)) - trigamma(sum c) 1 1^T.

    Inverted by Sherman and Morrison's formula, in log coordinates. With trigamma(c) =
    (c + e(c)) / c^2 and u(c) = c - 1 / trigamma(c) = c e(c) / (c + e(c)), the denominator
    1 - trigamma(sum c) sum 1 / trigamma(c) is trigamma(sum c) (sum u(c) - u(sum c)): free of
    the cancellation that leaves no digit of it in float32 at a total of a million.
    """
    c = tf.convert_to_tensor(p["concentration"])
    total = tf.reduce_sum(c, axis=-1, keepdims=True)
    e, e_total = trigamma_excess(c), trigamma_excess(total)
    u, u_total = c * e / (c + e), total * e_total / (total + e_total)
    gradient = g["concentration"]
    pulled = tf.reduce_sum(gradient * c / (c + e), axis=-1, keepdims=True)
    # One component: a point mass whose concentration has no gradient and no information.
    common = tf.math.divide_no_nan(pulled, tf.reduce_sum(u, -1, keepdims=True) - u_total)
    return {"concentration": (gradient + c * common) / (c + e)}


DIRICHLET = Family(
    constraints={"concentration": tfb.Exp()},
    shapes=_alike("concentration"),
    # Independent of each other, as logs of ratios are not.
    coordinates=bijectors.StickCoordinates,
    distribution=lambda p: Dirichlet(p["concentration"]),
    training_distribution=lambda p: AntitheticDirichlet(p["concentration"]),
    start=_dirichlet_start,
    moments=_dirichlet_moments,
    units=(Transformation.NONE,),  # proportions
    change_units=None,
    natural=_dirichlet_natural,
)


def _sticks_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    """Each stick has the mean that the proportions have, and is worth the rows that reach it."""
    total = tf.reduce_sum(_dirichlet_start(mean, sd)["concentration"], axis=-1, keepdims=True)
    rest = tf.cumsum(mean, axis=-1, reverse=True)[..., :-1]
    broken = mean[..., :-1] / rest
    pair = tf.stack([broken, 1.0 - broken], axis=-1)
    return {"concentration": 0.5 + (rest * total)[..., tf.newaxis] * pair}


STICK_BREAKING = Family(
    constraints={"concentration": tfb.Exp()},
    shapes=lambda shape: {"concentration": (*shape[:-1], shape[-1] - 1, 2)},
    coordinates=bijectors.StickCoordinates,
    distribution=lambda p: stick_breaking.StickBreaking(p["concentration"]),
    training_distribution=lambda p: stick_breaking.AntitheticStickBreaking(p["concentration"]),
    start=_sticks_start,
    moments=_dirichlet_moments,  # of the sticks: they have settled when these have
    units=(Transformation.NONE,),
    change_units=None,
    natural=_dirichlet_natural,  # each stick is a Dirichlet of two
)


def _degrees(p: Parameters) -> Any:
    return p["excess"] + (p["mean_tril"].shape[-1] - 1.0)


def _wishart_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    """var[d, d] = 2 mean[d, d]^2 / df: the df that fits on average."""
    relative = tf.linalg.diag_part(sd) / tf.linalg.diag_part(mean)
    df = 2.0 / tf.reduce_mean(relative**2, axis=-1)
    return {
        "excess": tf.maximum(df - (mean.shape[-1] - 1.0), 1.0),
        "mean_tril": tf.linalg.cholesky(mean),
    }


def _wishart_moments(p: Parameters) -> tuple[Any, Any]:
    """var[i, j] = (mean[i, j]^2 + mean[i, i] mean[j, j]) / df."""
    mean = p["mean_tril"] @ p["mean_tril"].swapaxes(-1, -2)
    diagonal = np.diagonal(mean, axis1=-2, axis2=-1)
    square = mean**2 + diagonal[..., :, np.newaxis] * diagonal[..., np.newaxis, :]
    return mean, (square / _degrees(p)[..., np.newaxis, np.newaxis]) ** 0.5


def _wishart_units(p: Parameters, change: AffineMap) -> Parameters:
    # X -> F X F with F diagonal; the factor of the entries is F F^T.
    diagonal = tf.sqrt(tf.linalg.diag_part(change.factor))
    return {**p, "mean_tril": diagonal[:, tf.newaxis] * p["mean_tril"]}


def _wishart_natural(p: Parameters, g: Parameters) -> Parameters:
    excess, tril = wishart.wishart_natural_gradient(
        _degrees(p), p["mean_tril"], g["excess"], g["mean_tril"]
    )
    return {"excess": excess, "mean_tril": tril}


WISHART = Family(
    constraints={"excess": tfb.Exp(), "mean_tril": tfb.TransformDiagonal(tfb.Exp())},
    shapes=lambda shape: {"excess": shape[:-2], "mean_tril": shape},
    coordinates=bijectors.matrix_coordinates,
    cholesky_coordinates=bijectors.cholesky_coordinates,
    distribution=lambda p: wishart.Wishart(_degrees(p), p["mean_tril"]),
    training_distribution=lambda p: wishart.AntitheticWishart(
        _degrees(p), p["mean_tril"], input_output_cholesky=True
    ),
    start=_wishart_start,
    moments=_wishart_moments,
    units=(Transformation.NONE, Transformation.PRECISION_MATRIX),
    change_units=_wishart_units,
    natural=_wishart_natural,
)


def _fixed_units(p: Parameters, change: AffineMap) -> Parameters:
    value = p["value"] * change.factor
    return {"value": value if change.shift is None else value + change.shift}


def _point(p: Parameters) -> tfd.Distribution:
    return tfd.Deterministic(p["value"])


# A variable that the prior leaves no choice: nothing to train, no coordinates.
FIXED = Family(
    constraints={},
    shapes=_alike(),
    coordinates=tfb.Identity,
    distribution=_point,
    training_distribution=_point,
    start=lambda mean, sd: {},
    moments=lambda p: (np.zeros(0), np.ones(0)),
    units=tuple(Transformation),
    change_units=_fixed_units,
    natural=lambda p, g: {},
)

# The family of a distribution in the prior -> the member of the surrogate. Exact types only: a
# subclass may mean something else.
MATCHING_FAMILY: dict[type, Family] = {
    tfd.Normal: NORMAL,
    tfd.Gamma: GAMMA,
    tfd.Dirichlet: DIRICHLET,
    stick_breaking.StickBreaking: STICK_BREAKING,
    tfd.WishartTriL: WISHART,
}
