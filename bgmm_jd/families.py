"""The trainable members of a surrogate: one family of distributions each.

A family knows its parameters and their constraints, how to make the distribution, how to start
from a mean and a standard deviation, how it moves to the user's units, and its natural gradient.

Positive parameters are trained in log coordinates, where the curvature of the elbo does not
change with the number of rows; a Gamma is trained in the logs of its concentration and its mean,
which are orthogonal: their Fisher information is diagonal.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.draws import MirroredNormal, Normal
from bgmm_jd.gamma import Dirichlet, Gamma, MirroredDirichlet, MirroredGamma
from bgmm_jd.units import Affine

Parameters = Mapping[str, Any]  # by name, in the constrained space: tensors or variables


class Family(NamedTuple):
    """One family of distributions as a member of a surrogate.

    constraints : parameter name -> bijector from the real line.
    coordinates : bijector from a whole real space to the variable, in which its posterior is close
        to normal.
    distribution : parameters -> distribution over the last axes.
    in_training : the same, with draws in mirrored pairs.
    start : mean, standard deviation (elementwise, of the variable) -> parameters.
    moments : parameters, as arrays -> mean, standard deviation (elementwise).
    change_units : parameters, Affine -> parameters; None where the family is not closed under it.
    natural : parameters, gradients by unconstrained parameter -> natural gradient, likewise.
    """

    constraints: Mapping[str, tfb.Bijector]
    coordinates: Callable[[], tfb.Bijector]
    distribution: Callable[[Parameters], tfd.Distribution]
    in_training: Callable[[Parameters], tfd.Distribution]
    start: Callable[[tf.Tensor, tf.Tensor], Parameters]
    moments: Callable[[Parameters], tuple[Any, Any]]
    change_units: Callable[[Parameters, Affine], Parameters]
    natural: Callable[[Parameters, Parameters], Parameters]


class SimplexCoordinates(tfb.Bijector):
    """K - 1 real numbers y as K proportions: the softmax of (y, 0).

    Volume is measured as a Dirichlet density does, in the first K - 1 proportions: the Jacobian is
    the product of all K. `tfb.SoftmaxCentered` measures it along the simplex, which is steeper by
    sqrt(K), and fails under NumPy 2.4.
    """

    def __init__(self) -> None:
        super().__init__(
            forward_min_event_ndims=1, parameters={}, validate_args=False, name="simplex"
        )

    def _forward(self, y: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(_with_zero(y))

    def _inverse(self, x: tf.Tensor) -> tf.Tensor:
        log_x = tf.math.log(x)
        return log_x[..., :-1] - log_x[..., -1:]

    def _forward_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.log_softmax(_with_zero(y)), axis=-1)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] + 1)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] - 1)


def _with_zero(y: tf.Tensor) -> tf.Tensor:
    return tf.concat([y, tf.zeros_like(y[..., :1])], axis=-1)


# --- Normal ---------------------------------------------------------------------------------


def _normal_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    return {"loc": mean, "scale": sd}


def _normal_units(p: Parameters, change: Affine) -> Parameters:
    loc = p["loc"] * change.factor
    shifted = loc if change.shift is None else loc + change.shift
    return {"loc": shifted, "scale": p["scale"] * change.factor}


def _normal_natural(p: Parameters, g: Parameters) -> Parameters:
    """Fisher information of (loc, log scale): diag(1 / scale^2, 2)."""
    return {"loc": p["scale"] ** 2 * g["loc"], "scale": 0.5 * g["scale"]}


NORMAL = Family(
    constraints={"loc": tfb.Identity(), "scale": tfb.Exp()},
    coordinates=tfb.Identity,
    distribution=lambda p: Normal(p["loc"], p["scale"]),
    in_training=lambda p: MirroredNormal(p["loc"], p["scale"]),
    start=_normal_start,
    moments=lambda p: (p["loc"], p["scale"]),
    change_units=_normal_units,
    natural=_normal_natural,
)


# --- Gamma ----------------------------------------------------------------------------------


def _gamma_start(mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
    return {"concentration": (mean / sd) ** 2, "mean": mean}


def _gamma_natural(p: Parameters, g: Parameters) -> Parameters:
    """Fisher information of (log a, log mean): diag(a^2 trigamma(a) - a, a)."""
    a = tf.convert_to_tensor(p["concentration"])
    return {"concentration": g["concentration"] / trigamma_excess(a), "mean": g["mean"] / a}


GAMMA = Family(
    constraints={"concentration": tfb.Exp(), "mean": tfb.Exp()},
    coordinates=tfb.Exp,
    distribution=lambda p: Gamma(p["concentration"], p["concentration"] / p["mean"]),
    in_training=lambda p: MirroredGamma(p["concentration"], p["concentration"] / p["mean"]),
    start=_gamma_start,
    moments=lambda p: (p["mean"], p["mean"] / p["concentration"] ** 0.5),
    change_units=lambda p, change: {**p, "mean": p["mean"] * change.factor},
    natural=_gamma_natural,
)


# --- Dirichlet ------------------------------------------------------------------------------


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
    coordinates=SimplexCoordinates,
    distribution=lambda p: Dirichlet(p["concentration"]),
    in_training=lambda p: MirroredDirichlet(p["concentration"]),
    start=_dirichlet_start,
    moments=_dirichlet_moments,
    change_units=lambda p, change: p,  # proportions have no units
    natural=_dirichlet_natural,
)

# --- Fixed ----------------------------------------------------------------------------------


def _fixed_units(p: Parameters, change: Affine) -> Parameters:
    value = p["value"] * change.factor
    return {"value": value if change.shift is None else value + change.shift}


def _point(p: Parameters) -> tfd.Distribution:
    return tfd.Deterministic(p["value"])


# A variable that the prior leaves no choice: nothing to train, no coordinates.
FIXED = Family(
    constraints={},
    coordinates=tfb.Identity,
    distribution=_point,
    in_training=_point,
    start=lambda mean, sd: {},
    moments=lambda p: (np.zeros(0), np.ones(0)),
    change_units=_fixed_units,
    natural=lambda p, g: {},
)

# The family of a distribution in the prior -> the member of the surrogate. Exact types only: a
# subclass may mean something else.
TWINS: dict[type, Family] = {tfd.Normal: NORMAL, tfd.Gamma: GAMMA, tfd.Dirichlet: DIRICHLET}


_RAISE = 8.0


def trigamma_excess(a: tf.Tensor) -> tf.Tensor:
    """e(a) = a^2 trigamma(a) - a, from 1 at a = 0 to 1/2 at infinity, without cancellation.

    From 8 on by the asymptotic series of the trigamma function (Abramowitz and Stegun 1964,
    6.4.12), whose leading term cancels by hand; below, raised to it by trigamma(a) =
    trigamma(a + 1) + 1 / a^2 (6.4.6). No loop, so XLA fuses it.
    """
    raised = a + _RAISE
    steps = a[..., tf.newaxis] + tf.range(1.0, _RAISE, dtype=a.dtype)
    below = tf.reduce_sum(1.0 / steps**2, axis=-1)
    small = 1.0 - a + a**2 * (below + (raised + _excess_series(raised)) / raised**2)
    return tf.where(a < _RAISE, small, _excess_series(tf.maximum(a, _RAISE)))


def _excess_series(a: tf.Tensor) -> tf.Tensor:
    """1/2 + sum_j B_2j / a^(2j - 1), B_2j the Bernoulli numbers, for a >= 8."""
    x = 1.0 / a
    y = x * x
    return 0.5 + x * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * (5 / 66)))))
