"""The trainable members of a surrogate: one family of distributions each.

A family knows its parameters and their constraints, how to make the distribution, how to start from
a mean and a standard deviation, how its parameters change to the units of X, and its natural
gradient. For a precision [K, D] with a Gamma prior, say, `GAMMA` says that the surrogate has the
parameters `concentration` and `mean`, both [K, D] and trained in logs; that
`GAMMA.distribution(parameters)` is the member of the surrogate; and that the inverse Fisher
information of the two log parameters is diagonal.

Positive parameters are trained in log coordinates, where the curvature of the elbo does not change
with the number of rows. A Gamma is trained in the logs of its concentration and its mean, which are
orthogonal: their Fisher information is diagonal.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.numerics import inverse_of_lower_triangular
from bgmm_jd.data.affine_maps import AffineMap
from bgmm_jd.data.units import Transformation
from bgmm_jd.distributions import stick_breaking
from bgmm_jd.distributions.bijectors import StickCoordinates
from bgmm_jd.distributions.dirichlet import AntitheticDirichlet, Dirichlet
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.distributions.gamma import AntitheticGamma, Gamma
from bgmm_jd.distributions.normal import AntitheticNormal, Normal
from bgmm_jd.distributions.standard_gamma import trigamma_excess
from bgmm_jd.variational.family import Family, Parameters, Shape, as_elementwise
from bgmm_jd.variational.matrix_families import MultivariateNormalFamily, WishartFamily


class NormalFamily(Family):
    """Normal distributions, by `loc` and `scale`."""

    constraints: ClassVar = {"loc": tfb.Identity(), "scale": tfb.Exp()}
    transformations: ClassVar = tuple(Transformation)

    def coordinates(self) -> tfb.Bijector:
        """Take the variable itself as its coordinate."""
        return tfb.Identity()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make Normal(loc, scale)."""
        return Normal(p["loc"], p["scale"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make Normal(loc, scale) with draws in pairs that are symmetric about loc."""
        return AntitheticNormal(p["loc"], p["scale"])

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return the moments, which are the parameters."""
        return {"loc": mean, "scale": sd}

    def from_factor(self, mean: tf.Tensor, factor: tf.Tensor) -> Parameters:
        """Return the sd of each entry given the others: the mean field of least divergence."""
        inverse = inverse_of_lower_triangular(factor)
        return {"loc": mean, "scale": 1.0 / tf.norm(inverse, axis=-2)}

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the parameters, which are the moments."""
        return p["loc"], p["scale"]

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Apply the affine map to loc, and its factor to scale."""
        factor = as_elementwise(to_data_units).factor
        return {"loc": to_data_units.forward(p["loc"]), "scale": p["scale"] * factor}

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Use the Fisher information of (loc, log scale), diag(1 / scale^2, 2)."""
        return {"loc": p["scale"] ** 2 * gradient["loc"], "scale": 0.5 * gradient["scale"]}


class GammaFamily(Family):
    """Gamma distributions, by `concentration` and `mean`."""

    constraints: ClassVar = {"concentration": tfb.Exp(), "mean": tfb.Exp()}
    transformations: ClassVar = (
        Transformation.NONE,
        Transformation.SCALE,
        Transformation.PRECISION,
        Transformation.COMMON_SCALE,
        Transformation.COMMON_PRECISION,
    )

    def coordinates(self) -> tfb.Bijector:
        """Take the log of the variable as its coordinate."""
        return tfb.Exp()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make Gamma(concentration, rate = concentration / mean)."""
        return Gamma(**self.tfp_parameters(p))

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same, from normal draws in antithetic pairs."""
        return AntitheticGamma(**self.tfp_parameters(p))

    def tfp_parameters(self, p: Parameters) -> Parameters:
        """Return the concentration and the rate, concentration / mean."""
        return {"concentration": p["concentration"], "rate": p["concentration"] / p["mean"]}

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return concentration = (mean / sd)^2."""
        return {"concentration": (mean / sd) ** 2, "mean": mean}

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the mean, and the sd mean / sqrt(concentration)."""
        return p["mean"], p["mean"] / p["concentration"] ** 0.5

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Scale the mean; the concentration has no unit."""
        return {**p, "mean": to_data_units.forward(p["mean"])}

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Use the Fisher information of (log a, log mean), diag(a^2 trigamma(a) - a, a)."""
        a = tf.convert_to_tensor(p["concentration"])
        return {
            "concentration": gradient["concentration"] / trigamma_excess(a),
            "mean": gradient["mean"] / a,
        }


class DirichletFamily(Family):
    """Dirichlet distributions of proportions, by `concentration`."""

    constraints: ClassVar = {"concentration": tfb.Exp()}
    transformations: ClassVar = (Transformation.NONE,)

    def coordinates(self) -> tfb.Bijector:
        """Use logits of broken sticks: they are independent, and logs of ratios are not."""
        return StickCoordinates()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make Dirichlet(concentration)."""
        return Dirichlet(p["concentration"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same, from normal draws in antithetic pairs."""
        return AntitheticDirichlet(p["concentration"])

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Solve var[k] = mean[k] (1 - mean[k]) / (total + 1) for the total, on average over k."""
        if mean.shape[-1] == 1:
            return {"concentration": tf.ones_like(mean)}
        variances = tf.reduce_sum(mean * (1.0 - mean), axis=-1, keepdims=True)
        total = variances / tf.reduce_sum(sd**2, axis=-1, keepdims=True) - 1.0
        return {"concentration": mean * tf.maximum(total, 1.0)}

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the mean and the sd, with var[k] = mean[k] (1 - mean[k]) / (total + 1)."""
        total = p["concentration"].sum(axis=-1, keepdims=True)
        mean = p["concentration"] / total
        return mean, (mean * (1.0 - mean) / (total + 1.0)) ** 0.5

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Use the Fisher information of c, diag(trigamma(c)) - trigamma(sum c) 1 1^T.

        It is inverted by Sherman and Morrison's formula, in log coordinates. With trigamma(c) =
        (c + e(c)) / c^2 and u(c) = c - 1 / trigamma(c) = c e(c) / (c + e(c)), the denominator
        1 - trigamma(sum c) sum 1 / trigamma(c) is trigamma(sum c) (sum u(c) - u(sum c)). That form
        is free of the cancellation that leaves no digit in float32 at a total of a million.
        """
        c = tf.convert_to_tensor(p["concentration"])
        total = tf.reduce_sum(self._counted(c), axis=-1, keepdims=True)
        e, e_total = trigamma_excess(c), trigamma_excess(total)
        u, u_total = self._counted(c * e / (c + e)), total * e_total / (total + e_total)
        slope = gradient["concentration"]
        weighted = tf.reduce_sum(self._counted(slope * c / (c + e)), axis=-1, keepdims=True)
        # One component: a point mass whose concentration has no gradient and no information.
        common = tf.math.divide_no_nan(weighted, tf.reduce_sum(u, -1, keepdims=True) - u_total)
        return {"concentration": self._counted((slope + c * common) / (c + e))}

    def _counted(self, values: tf.Tensor) -> tf.Tensor:
        """Return the values [..., K], with 0 for components that do not count: here none."""
        return values


class StickBreakingFamily(DirichletFamily):
    """Stick-breaking distributions of proportions: each break is a Dirichlet of two.

    `moments` are those of the breaks, in the shape of `concentration` [..., K - 1, 2]: the
    proportions have converged when the breaks have.
    """

    def parameter_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Return the shape of a pair (a, b) for each of K - 1 breaks."""
        return {"concentration": (*shape[:-1], shape[-1] - 1, 2)}

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make StickBreaking(concentration)."""
        return stick_breaking.StickBreaking(p["concentration"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same, from normal draws in antithetic pairs."""
        return stick_breaking.AntitheticStickBreaking(p["concentration"])

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Give each break the mean of its proportions, and the total of the rows it divides.

        That total is the Dirichlet's, times the proportion of the stick that is left.
        """
        dirichlet = super().from_moments(mean, sd)["concentration"]
        total = tf.reduce_sum(dirichlet, axis=-1, keepdims=True)
        rest = tf.cumsum(mean, axis=-1, reverse=True)[..., :-1]
        broken = mean[..., :-1] / rest
        pair = tf.stack([broken, 1.0 - broken], axis=-1)
        return {"concentration": 0.5 + (rest * total)[..., tf.newaxis] * pair}


class FixedFamily(Family):
    """Variables that the prior fixes: nothing to train, and no coordinates."""

    constraints: ClassVar = {}
    transformations: ClassVar = tuple(Transformation)

    def coordinates(self) -> tfb.Bijector:
        """Return the identity, which nothing uses: a fixed variable has no coordinates."""
        return tfb.Identity()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make a point mass."""
        return tfd.Deterministic(p["value"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make a point mass."""
        return tfd.Deterministic(p["value"])

    def tfp_parameters(self, p: Parameters) -> Parameters:
        """Return the value, which TFP calls `loc`."""
        return {"loc": p["value"]}

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return an empty mapping: there are no parameters."""
        return {}

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return empty arrays: no entry varies."""
        return np.zeros(0), np.ones(0)

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Convert the value to the units of X."""
        return {"value": to_data_units.forward(p["value"])}

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Return an empty mapping: there are no parameters."""
        return {}


NORMAL = NormalFamily()
MULTIVARIATE_NORMAL = MultivariateNormalFamily()
GAMMA = GammaFamily()
DIRICHLET = DirichletFamily()
STICK_BREAKING = StickBreakingFamily()
WISHART = WishartFamily()
FIXED = FixedFamily()

# The family of a distribution in the prior -> the member of the surrogate. Exact types only: a
# subclass may mean something else.
MATCHING_FAMILY: dict[type, Family] = {
    tfd.Normal: NORMAL,
    tfd.MultivariateNormalTriL: MULTIVARIATE_NORMAL,
    tfd.MultivariateNormalFullCovariance: MULTIVARIATE_NORMAL,
    tfd.MultivariateNormalLinearOperator: MULTIVARIATE_NORMAL,
    tfd.Gamma: GAMMA,
    tfd.Dirichlet: DIRICHLET,
    stick_breaking.StickBreaking: STICK_BREAKING,
    tfd.WishartTriL: WISHART,
    ExchangeableWishart: WISHART,
}
