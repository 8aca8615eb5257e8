"""The posterior: draws, predictions and densities from a fit, as a value that does not change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.calibration import importance_sampling
from bgmm_jd.calibration.calibrate import calibrate_approximation
from bgmm_jd.data import units
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.model import covariances
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.variational.approximation import MEAN_FIELD, Approximation, Draws, draw_mean_field
from bgmm_jd.variational.labels import (
    as_permutation,
    is_permutable,
    permute_components,
    permute_parameters,
)
from bgmm_jd.variational.surrogate import surrogate_in_data_units

PREDICTIVE_DRAWS = 200


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Posterior:
    """A fitted surrogate posterior of a Gaussian mixture.

    Attributes
    ----------
    prior : tfd.JointDistributionCoroutine
        In the user's units.
    K, D : int
        Numbers of components and of features.
    covariance : str
        The form of the components' covariances.
    missing : str or None
        What NaN meant in the fit, and so means in predictions.
    elbo : float
        Evidence lower bound in nats for the whole data set, all constants kept, in the user's
        units; higher is better. Estimated anew after the fit, with standard error `elbo_se`,
        which is NaN where Ctrl-C came before that.
    khat : float
        Of the draws' distribution against the exact posterior, before weighting: below 0.5 the
        draws can be trusted, above 0.7 they cannot. NaN where it was out of reach.
    elbo_trace : array [steps]
        The noisy estimate of each step, of the same quantity.
    status : Status
        What became of the fit; its text is advice.
    batch_size : int
        The most rows that a step read.
    restarts : tuple of Restart
        How each start ended; `agrees` says which came to the solution that was kept. A later one
        ends as soon as it is at the optimum of an earlier one, whose elbo it is given. Elbos are
        in the user's units, from the noisy ones of steps; parameters are in internal units.
    """

    prior: tfd.JointDistributionCoroutine
    K: int
    D: int
    covariance: str
    missing: str | None
    elbo: float
    elbo_se: float
    khat: float
    elbo_trace: np.ndarray
    status: Status
    batch_size: int
    restarts: tuple[Restart, ...]
    inside: Approximation = field(repr=False)

    @property
    def dtype(self) -> np.dtype:
        """That of X."""
        return self.inside.data.dtype

    @property
    def calibrated(self) -> bool:
        """Whether draws are of the calibrated posterior, or of the mean-field surrogate."""
        return self.calibration != MEAN_FIELD

    @property
    def calibration(self) -> str:
        """Where the draws' dependence between parameters comes from.

        "averaged curvature", over the posterior; "curvature at the mean", a cheaper form for more
        than 500 parameters or very many rows; or "mean field", none.
        """
        return self.inside.calibration

    @property
    def surrogate(self) -> tfd.JointDistributionCoroutine:
        """The trained surrogate: the prior's names, order and shapes, in the user's units.

        Its components are in the order of the draws, unless `relabel` has moved components whose
        weights have no parameters of their own, as under `stick_breaking_prior`.
        """
        tensors = units.as_standardization_tensors(self.inside.data.standardization, self.dtype)
        sites, values = self.inside.model.sites, self.inside.values
        if is_permutable(sites):
            values = permute_parameters(sites, values, self.inside.order)
        return surrogate_in_data_units(sites, values, tensors)

    def sample(self, n: int, seed: int = 0, calibrate: bool | None = None) -> dict[str, np.ndarray]:
        """Draw from the posterior.

        Parameters
        ----------
        n : int
        seed : int
            Equal seeds give equal draws.
        calibrate : bool, optional
            Whether to draw from the calibrated posterior, or from the mean-field surrogate; by
            default the former where the fit was calibrated.

        Returns
        -------
        dict of arrays [n, ...] by the prior's names, in the units and dtype of X.
        """
        return in_data_units(self, draw_standardized(self, as_count(n, "n"), seed, calibrate).theta)

    def __repr__(self) -> str:
        rows = self.inside.data.shape[0]
        agreeing = sum(restart.agrees for restart in self.restarts)
        return (
            f"<Posterior: {self.K} components, {self.covariance} covariance, "
            f"{rows:,} rows x {self.D} features, "
            f"elbo {self.elbo:.2f} +/- {self.elbo_se:.2f} nats, "
            f"{self.calibration}, k-hat {self.khat:.2f}, "
            f"{agreeing} of {len(self.restarts)} starts agree; {self.status}>"
        )


def relabel(posterior: Posterior, order: Any) -> Posterior:
    """The same posterior with its components in another order.

    Parameters
    ----------
    order : "weights" or sequence of int [K]
        "weights" puts the largest component first; a permutation lists the present labels in the
        order wanted.

    Raises
    ------
    ValueError
        If `order` is neither.
    """
    inside = posterior.inside
    if isinstance(order, str):
        if order != "weights":
            raise ValueError(f"order must be 'weights' or a permutation; got {order!r}.")
        order = np.argsort(-posterior.sample(PREDICTIVE_DRAWS)["weights"].mean(axis=0))
    chosen = inside.order[as_permutation(order, posterior.K)]
    return replace(posterior, inside=inside._replace(order=chosen))


def restart_posteriors(posterior: Posterior) -> list[Posterior]:
    """The posterior as each restart that settled found it, components matched to the best.

    One that ended where an earlier one had settled is within 0.15 sds of it, maybe no nearer.
    """
    found = []
    for restart in posterior.restarts:
        if restart.status is Status.CONVERGED:
            order = restart.order[posterior.inside.order]
            inside = posterior.inside._replace(values=restart.values, order=order)
            if posterior.calibrated:
                draws = draw_mean_field(inside, PREDICTIVE_DRAWS, seed=0)
                inside, _ = calibrate_approximation(inside, draws, seed=0)
            found.append(replace(posterior, inside=inside))
    return found or [posterior]


def draw_standardized(
    posterior: Posterior, n: int, seed: int, calibrate: bool | None = None
) -> Draws:
    """Draws in internal units, with the log density there of the distribution they came from.

    Raises
    ------
    ValueError
        If calibrated draws are asked of a fit that was not calibrated.
    """
    inside = posterior.inside
    if calibrate is None:
        calibrate = posterior.calibrated
    if calibrate and not posterior.calibrated:
        raise ValueError("calibrated draws need a fit with calibrate=True; this one has none.")
    seed = as_seed(seed)
    source = importance_sampling.draw_calibrated if calibrate else draw_mean_field
    return source(inside, n, seed)


def in_data_units(posterior: Posterior, theta: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Draws in the user's units and order, as arrays in the dtype of X."""
    exact = in_data_units_exactly(posterior, theta)
    return {name: np.asarray(v, posterior.dtype) for name, v in exact.items()}


def in_data_units_exactly(
    posterior: Posterior, theta: Mapping[str, tf.Tensor]
) -> dict[str, np.ndarray]:
    """The same in float64: far from zero, float32 has no digits to spare."""
    inside = posterior.inside
    where, unit = inside.data.standardization, inside.model.units
    arranged = permute_components(inside.model.sites, theta, inside.order)
    return {
        name: np.asarray(units.unstandardize(unit[name], v.numpy().astype(np.float64), where))
        for name, v in arranged.items()
    }


def draw_components(posterior: Posterior, draws: int, seed: int) -> ComponentDraws:
    """Draws of all components; those of `posterior.sample(draws, seed)`."""
    theta = in_data_units_exactly(posterior, draw_standardized(posterior, draws, seed).theta)
    matrices = covariances.component_covariances(theta, posterior.covariance)
    return ComponentDraws(theta["weights"], theta["means"], matrices)
