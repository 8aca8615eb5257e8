"""What a posterior is made of, in internal units; its mean-field draws, and their densities."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import Standardization, as_standardization_tensors
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model
from bgmm_jd.variational.surrogate import by_name, standardized_surrogate

MEAN_FIELD, AVERAGED, AT_THE_MEAN = "mean field", "averaged curvature", "curvature at the mean"


class Draws(NamedTuple):
    """Draws in internal units: `theta` by name [S, ...], and their log density `log_q` [S]."""

    theta: Mapping[str, tf.Tensor]
    log_q: tf.Tensor


class MultivariateNormal(NamedTuple):
    """N(mean, factor factor^T) over P unconstrained coordinates: arrays [P] and [P, P]."""

    mean: np.ndarray
    factor: np.ndarray


class EmptyComponents(NamedTuple):
    """What stays as the mean field has it.

    components [K], breaks [K - 1] : bool.
    places : of these breaks among the P coordinates of a point.
    informed : the places of all coordinates that do not stay.
    pairs [K - 1, 2] : (a, b) of each break under the mean field.
    rows [M, D], chance [M] : what an empty component may be put at: see `placed`. No rows if the
        mean field of the means is not normal.
    """

    components: np.ndarray
    breaks: np.ndarray
    places: np.ndarray
    informed: np.ndarray
    pairs: np.ndarray
    rows: np.ndarray
    chance: np.ndarray


class Approximation(NamedTuple):
    """What a posterior is made of, in internal units.

    prior_units : the units that `model.prior` speaks in (internal ones for the default prior).
    values : parameters of the surrogate.
    order : the labels [K] of the components, in the order in which they leave.
    calibration : where the dependence between parameters comes from.
    normal : the calibrated distribution; None where there is none or the surrogate is the better
        proposal.
    spare : the coordinates that it leaves to the mean field; None where it has all.
    weigh : whether draws are to be corrected by importance weights, if there are not too many
        rows for that.
    """

    model: Model
    prior_units: Standardization
    data: Data
    execution: str
    values: VariationalParameters
    order: np.ndarray
    calibration: str = MEAN_FIELD
    normal: MultivariateNormal | None = None
    spare: EmptyComponents | None = None
    weigh: bool = False

    @property
    def standardization(self) -> Standardization:
        """`prior_units` in the dtype of the fit."""
        return as_standardization_tensors(self.prior_units, self.data.dtype)

    @property
    def informed(self) -> Any:
        """The places of the coordinates of `normal` in a point [P]."""
        return slice(None) if self.spare is None else self.spare.informed

    @property
    def numbers(self) -> int:
        """In the largest array that the likelihood of one draw makes."""
        N, D = self.data.shape
        by_row = (
            D if self.data.rows.missing is None or not self.model.has_covariance_matrices else D * D
        )
        return self.model.K * N * by_row


def draw_mean_field(inside: Approximation, n: int, seed: int) -> Draws:
    """Draws of the mean-field surrogate."""
    values = {
        site: {name: tf.convert_to_tensor(v) for name, v in parameters.items()}
        for site, parameters in inside.values.items()
    }
    program = _mean_field_program(inside.model, inside.execution == "eager")
    return program(values, inside.standardization, tf.constant(n), stateless_seed(seed))


@functools.lru_cache(maxsize=32)
def _mean_field_program(model: Model, eager: bool) -> Callable[..., Draws]:
    def draws(
        values: VariationalParameters, units: Standardization, n: tf.Tensor, seed: tf.Tensor
    ) -> Draws:
        surrogate = standardized_surrogate(model.sites, values, units)
        draws, log_q = surrogate.experimental_sample_and_log_prob(n, seed=seed)
        return Draws(by_name(model.sites, draws), log_q)

    # A graph, not XLA, which would compile anew for each number of draws.
    return compiled(draws, "eager" if eager else "graph")


def points_of(inside: Approximation, draws: Draws) -> np.ndarray:
    """Draws as points [S, P], in float64."""
    points = flatten(inside.model.sites, draws.theta, inside.standardization).numpy()
    return points.astype(np.float64)
