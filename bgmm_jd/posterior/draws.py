"""Draws of a posterior, in standardised units and in those of X."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.importance_sampling import draw_calibrated
from bgmm_jd.data.units import unstandardize
from bgmm_jd.data.validation import as_seed
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_variable
from bgmm_jd.model.covariances import component_covariances
from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.sampling.draws import draw_whole, draws_by_chain, has_whole_posterior
from bgmm_jd.variational.approximation import Draws, draw_mean_field
from bgmm_jd.variational.labels import permute_components

if TYPE_CHECKING:
    from bgmm_jd.posterior.posterior import Posterior


def draw_standardized(
    posterior: Posterior, n: int, seed: int, calibrate: bool | None = None
) -> Draws:
    """Draw in standardised units, with the log density of the distribution that was drawn from."""
    if calibrate is None:
        calibrate = posterior.calibrated
    if calibrate and not posterior.calibrated:
        raise ValueError(
            "calibrated draws need a calibrated fit; this one was fitted with calibrate=False, has "
            "too many parameters, or ended early. Use calibrate=False for draws of the surrogate."
        )
    seed = as_seed(seed)
    if calibrate and has_whole_posterior(posterior.approximation):
        return draw_whole(posterior.approximation, n, seed)
    if calibrate:
        return draw_calibrated(posterior.approximation, n, seed)
    return draw_mean_field(posterior.problem, posterior.approximation.params, n, seed)


def draw_mixtures(posterior: Posterior, n: int, seed: int) -> Draws:
    """Draw as `draw_standardized` does, for what needs mixtures and not only numbers.

    Raises
    ------
    ValueError
        If a parameter of a draw is not finite, or a variance not positive.
    """
    draws = draw_standardized(posterior, n, seed)
    invalid = n - int(np.count_nonzero(are_mixtures(draws.theta, posterior.covariance)))
    if invalid:
        raise ValueError(
            f"the posterior must have finite parameters and positive variances; {invalid} of its "
            f"{n} draws have not. The fit ended as follows. {posterior.status}"
        )
    return draws


def are_mixtures(theta: Mapping[str, tf.Tensor], covariance: str) -> np.ndarray:
    """Return for each draw whether its parameters are finite and its variances positive: [S]."""
    scale = np.asarray(theta[scale_variable(theta)])
    if covariance in MATRIX_FORMS:
        scale = np.diagonal(scale, axis1=-2, axis2=-1)
    valid = _for_all(scale > 0.0)
    for values in theta.values():
        valid &= _for_all(np.isfinite(values))
    return valid


def _for_all(holds: np.ndarray) -> np.ndarray:
    """Return for each draw whether something holds for all its numbers: [S]."""
    return np.logical_and.reduce(holds.reshape(len(holds), -1), axis=1)


def draws_of_chains(posterior: Posterior, n: int, fewest: int) -> list[Draws]:
    """Return draws of each Markov chain in standardised units, thinned to n in all.

    But at least `fewest` of each chain, if it is as long.
    """
    bank = posterior.approximation.bank
    if bank is None:
        raise RuntimeError("The posterior has no Markov chains.")
    return draws_by_chain(posterior.problem, bank, max(fewest, -(-n // bank.chains)))


def in_data_units(posterior: Posterior, theta: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return draws in the units of X and the order of output, as arrays in the dtype of X."""
    exact = in_data_units_exactly(posterior, theta)
    return {name: np.asarray(v, posterior.dtype) for name, v in exact.items()}


def in_data_units_exactly(
    posterior: Posterior, theta: Mapping[str, tf.Tensor]
) -> dict[str, np.ndarray]:
    """Return draws in the units of X and the order of output, in float64.

    Far from zero float32 has no digits to spare.
    """
    problem = posterior.problem
    permuted = permute_components(problem.model, theta, posterior.approximation.order)
    return {
        site.name: np.asarray(
            unstandardize(
                site.transformation,
                permuted[site.name].numpy().astype(np.float64),
                problem.data.standardization,
            )
        )
        for site in problem.model.sites
    }


def draw_components(posterior: Posterior, draws: int, seed: int) -> ComponentDraws:
    """Draw all components in the units of X; the draws are those of `posterior.sample`.

    Raises
    ------
    ValueError
        As `draw_mixtures` does.
    """
    theta = in_data_units_exactly(posterior, draw_mixtures(posterior, draws, seed).theta)
    matrices = component_covariances(theta, posterior.covariance)
    return ComponentDraws(theta["weights"], theta["means"], matrices)
