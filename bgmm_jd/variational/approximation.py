"""What a posterior is made of, in internal units; its mean-field draws, and their densities."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled, in_chunks
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration.averaged_curvature import Normal
from bgmm_jd.calibration.empty_components import Spare
from bgmm_jd.data.rows import Rows, to_tensors
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import Units, as_tensors
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.log_joint import Model, log_joint
from bgmm_jd.variational.surrogate import Values, joint_inside, named

_DIGITS_DRAWS = 20
# Nats of a log joint density that rounding may take if it is the same in all rows and features, as
# that of a coefficient is: far less than what importance weights differ by.
_ROUNDING = 0.05
_MOST_TERMS = 2**24  # numbers in the terms of all rows, which each call makes anew
_MOST_AT_ONCE = 512
_CHUNK = 2**21  # numbers in the largest array of one call
# The most numbers (draws x rows x components x features) that weighting or an averaged curvature
# may take: some ten seconds.
_AFFORDABLE = 2**32

MEAN_FIELD, AVERAGED, AT_THE_MEAN = "mean field", "averaged curvature", "curvature at the mean"


class Draws(NamedTuple):
    """Draws in internal units: `theta` by name [S, ...], and their log density `log_q` [S]."""

    theta: Mapping[str, tf.Tensor]
    log_q: tf.Tensor


class Inside(NamedTuple):
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
    prior_units: Units
    data: Data
    execution: str
    values: Values
    order: np.ndarray
    calibration: str = MEAN_FIELD
    normal: Normal | None = None
    spare: Spare | None = None
    weigh: bool = False

    @property
    def tensor_units(self) -> Units:
        """`prior_units` in the dtype of the fit."""
        return as_tensors(self.prior_units, self.data.dtype)

    @property
    def informed(self) -> Any:
        """The places of the coordinates of `normal` in a point [P]."""
        return slice(None) if self.spare is None else self.spare.informed

    @property
    def numbers(self) -> int:
        """In the largest array that the likelihood of one draw makes."""
        N, D = self.data.shape
        by_row = D if self.data.rows.missing is None or not self.model.matrices else D * D
        return self.model.components * N * by_row


def points_at_once(inside: Inside, expanded: bool = False) -> int:
    """How many points [P] a call on all rows takes."""
    by_feature = inside.data.shape[1] if expanded else 1
    most = by_feature * _CHUNK // inside.numbers
    return int(np.clip(most, 1, _MOST_AT_ONCE))


def most_draws(inside: Inside) -> int:
    """The most draws whose log joint density is within reach."""
    return _AFFORDABLE // inside.numbers


def can_expand(
    inside: Inside, tolerance: float = quadratic_likelihood.TOLERANCE, theta: Theta | None = None
) -> bool:
    """Whether the likelihood may be a matrix product: see `quadratic.has_digits`.

    Parameters
    ----------
    theta : the draws in question; without them, some of the mean field.
    """
    if inside.data.rows.missing is not None:
        return False
    if theta is None:
        theta = mean_field(inside, _DIGITS_DRAWS, seed=0).theta
    precisions = quadratic_likelihood.precisions_by_feature(theta, inside.model.covariance).numpy()
    means = theta["means"].numpy()
    return quadratic_likelihood.has_digits(precisions, means, inside.data.dtype, tolerance)


def mean_field(inside: Inside, n: int, seed: int) -> Draws:
    """Draws of the mean-field surrogate."""
    values = {
        site: {name: tf.convert_to_tensor(v) for name, v in parameters.items()}
        for site, parameters in inside.values.items()
    }
    program = _mean_field_program(inside.model, inside.execution == "eager")
    return program(values, inside.tensor_units, tf.constant(n), stateless_seed(seed))


@functools.lru_cache(maxsize=32)
def _mean_field_program(model: Model, eager: bool) -> Callable[..., Draws]:
    def draws(values: Values, units: Units, n: tf.Tensor, seed: tf.Tensor) -> Draws:
        surrogate = joint_inside(model.sites, values, units)
        draws, log_q = surrogate.experimental_sample_and_log_prob(n, seed=seed)
        return Draws(named(model.sites, draws), log_q)

    # A graph, not XLA, which would compile anew for each number of draws.
    return compiled(draws, "eager" if eager else "graph")


def points_of(inside: Inside, draws: Draws) -> np.ndarray:
    """Draws as points [S, P], in float64."""
    points = flatten(inside.model.sites, draws.theta, inside.tensor_units).numpy()
    return points.astype(np.float64)


def log_joint_of(inside: Inside, draws: Draws) -> np.ndarray:
    """Log joint density of draws and all rows, in internal units, in float64: [S]."""
    units, rows = inside.tensor_units, to_tensors(inside.data.rows)
    # Of the draws as they are, and not of the points that a bijector may remember they came from.
    theta = tf.nest.map_structure(tf.identity, draws.theta)
    points = flatten(inside.model.sites, theta, units).numpy()
    expanded = has_room(inside) and can_expand(inside, _rounding(inside), theta)
    at_once = points_at_once(inside, expanded)
    program = _log_joint_program(inside.model, inside.data.shape[0], expanded, inside.execution)
    return in_chunks(lambda part: program(part, rows, units), points, at_once)


def has_room(inside: Inside) -> bool:
    """Whether the terms of all rows may be in memory at once."""
    N, D = inside.data.shape
    return N * quadratic_likelihood.number_of_terms(D, inside.model.covariance) <= _MOST_TERMS


def _rounding(inside: Inside) -> float:
    """What it may take of a row, in nats."""
    return _ROUNDING / (inside.data.total * inside.data.shape[1])


@functools.lru_cache(maxsize=32)
def _log_joint_program(
    model: Model, rows: int, expanded: bool, execution: str
) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def density(points: tf.Tensor, rows: Rows, units: Units) -> tf.Tensor:
        theta, _ = unflatten(model.sites, points, units)
        return log_joint(model, theta, units, rows, accumulate=tf.float64, expanded=expanded)

    return compiled(density, execution)
