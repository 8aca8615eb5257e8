"""Draws from a fit, in internal units: of the mean-field surrogate and of the calibrated posterior.

Calibrated draws come from the calibrated normal distribution, a little widened, and are resampled
by Pareto-smoothed importance weights, so that what is left of its error is corrected too.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd import placed, quadratic
from bgmm_jd.calibrate import (
    MEAN_DRAWS,
    MOST_GRADIENTS,
    Gradient,
    Normal,
    calibrate,
    gradient_of_log_joint,
    normal_of,
    shifted,
)
from bgmm_jd.compiled import compiled, in_chunks
from bgmm_jd.coordinates import flatten, unflatten
from bgmm_jd.curvature import information, is_by_component
from bgmm_jd.data import Data, sample
from bgmm_jd.draws import stateless_seed
from bgmm_jd.importance import KHAT_LIMIT, resample, smooth
from bgmm_jd.objective import Model, log_joint
from bgmm_jd.rows import Rows, to_tensors
from bgmm_jd.spare import Spare, log_prob, spare_of
from bgmm_jd.surrogate import Values, joint_inside, named, without_roots
from bgmm_jd.units import Units, as_tensors

# Draws of the proposal for each one that is kept: nearly all are then different.
_PROPOSALS = 3
_FEWEST_PROPOSALS = 200  # fewer have no tail that could be smoothed
# The proposal is wider than the posterior by this over sqrt(P): the weights stay bounded where
# the posterior's tails are heavier than normal, and about a quarter of their worth is lost.
_WIDER = 0.4
# Of proposals, that have a spare component at a row: see `placed`. The others are the mean field's.
_PLACED = 0.5
_KHAT_DRAWS = 1_000
_DIGITS_DRAWS = 20
# 0.5 is where draws begin to be in doubt.
_REFINE_ABOVE = 0.3
_REFINEMENTS = 3
# A full covariance of more parameters takes minutes of eigenvalues, and the draws of the first
# steps of an averaged one, at 2 P points each, the time of their gradients.
_MOST_AVERAGED = 500
_MOST_PARAMETERS = 3_000
_CURVATURE_DRAWS = 24
_MOST_AT_ONCE = 512
_CHUNK = 2**21  # numbers in the largest array of one call
# The most numbers (draws x rows x components x features) that weighting or an averaged curvature
# may take: some ten seconds.
_AFFORDABLE = 2**32
# The most products (rows x P^2) that the curvature at the mean may take, some ten seconds, and the
# most rows: of so many its sds are good to 1 % even for a component with 2 % of the rows.
_PRODUCTS = 2**37
_CURVATURE_ROWS = 2**18
# With so many rows the posterior is so nearly normal that the mean field has its mean.
_NORMAL_ROWS = 100_000
_SHIFT_DRAWS = 16
_MOMENT_DRAWS = 10_000  # of the surrogate, whose means are then good to 0.01 sds

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


def can_weigh(inside: Inside, draws: int) -> bool:
    """Whether the log joint density of that many draws is within reach."""
    return draws * inside.numbers <= _AFFORDABLE


def with_calibration(inside: Inside, surrogate: Draws, seed: int) -> tuple[Inside, float]:
    """The same with the distribution to draw from, and the k-hat of that.

    Parameters
    ----------
    surrogate : draws of the mean-field surrogate, whose k-hat it is if there is no other.
    """
    found = with_normal(inside, seed)
    if found.normal is None:
        return inside, khat_of(inside, surrogate)
    return refine(found, seed)


def with_normal(inside: Inside, seed: int) -> Inside:
    """The same with its calibrated distribution, starting from the surrogate's moments.

    The curvature is averaged over the distribution where that is within reach, and taken at the
    mean where it is not, as with many parameters or very many rows. Beyond 3,000 parameters there
    is none, nor for so many where the prior's support ties components together.
    """
    draws = mean_field(inside, _MOMENT_DRAWS, seed)
    points = _points(inside, draws)
    mean, sd = points.mean(axis=0), points.std(axis=0)
    units, rng = inside.tensor_units, np.random.default_rng(seed)
    spare = spare_of(inside.model, inside.values, units, mean, draws.theta, inside.data, rng)
    inside, beside = inside._replace(spare=spare), points[:MEAN_DRAWS]
    at = inside.informed
    P = len(mean[at])
    if P * len(mean) <= _MOST_AVERAGED**2 and can_weigh(inside, 2 * P * _CURVATURE_DRAWS):
        start = Normal(mean[at], np.diag(sd[at]))
        most = min(MOST_GRADIENTS, _AFFORDABLE // inside.numbers)
        normal = calibrate(_gradient(inside, beside), start, rng, most)
        return inside._replace(calibration=AVERAGED, normal=normal, weigh=True)
    if len(mean) <= _MOST_PARAMETERS and is_by_component(inside.model, units, mean):
        normal = _normal_at_the_mean(inside, beside, mean, sd, rng)
        return inside._replace(calibration=AT_THE_MEAN, normal=normal, weigh=True)
    return inside._replace(spare=None)


def can_expand(inside: Inside, margin: float = 1.0) -> bool:
    """Whether the likelihood may be a matrix product: see `quadratic.has_digits`."""
    if inside.data.rows.missing is not None:
        return False
    theta = mean_field(inside, _DIGITS_DRAWS, seed=0).theta
    precisions = quadratic.precisions_by_feature(theta, inside.model.covariance).numpy()
    means = theta["means"].numpy()
    return quadratic.has_digits(precisions, means, inside.data.dtype, margin)


def _gradient(inside: Inside, beside: np.ndarray) -> Gradient:
    """Of the log joint density, by the informed coordinates.

    Parameters
    ----------
    beside : points of the mean field [S, P], whose other coordinates are used.
    """
    expanded = can_expand(inside)
    at_once = points_at_once(inside, expanded)
    gradient = gradient_of_log_joint(
        inside.model,
        to_tensors(inside.data.rows),
        inside.tensor_units,
        at_once,
        expanded,
        inside.execution,
    )
    if inside.spare is None:
        return gradient
    informed = inside.spare.informed

    def of_informed(points: np.ndarray) -> np.ndarray:
        draws, together, _ = points.shape
        size = max(1, at_once // together)  # more would be whole in memory at once
        found = []
        for first in range(0, draws, size):
            some = slice(first, min(first + size, draws))
            whole = np.repeat(beside[some, np.newaxis], together, axis=1)
            whole[..., informed] = points[some]
            found.append(gradient(whole)[..., informed])
        return np.concatenate(found)

    return of_informed


def _normal_at_the_mean(
    inside: Inside,
    beside: np.ndarray,
    mean: np.ndarray,
    sd: np.ndarray,
    rng: np.random.Generator,
) -> Normal:
    """From the curvature at the surrogate's mean; of a sample of the rows if there are too many."""
    most = min(_CURVATURE_ROWS, _PRODUCTS // len(mean) ** 2)
    data = inside.data if inside.data.shape[0] <= most else sample(inside.data, most, rng)
    found = information(inside.model, data.rows, inside.tensor_units, mean, sd, inside.execution)
    at = inside.informed
    normal = normal_of(mean[at], sd[at], found[at][:, at])
    if inside.data.total < _NORMAL_ROWS and can_weigh(inside, _SHIFT_DRAWS):
        normal = shifted(_gradient(inside, beside), normal, _SHIFT_DRAWS, rng)
    return normal


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
        return Draws(without_roots(model.sites, named(model.sites, draws)), log_q)

    # A graph, not XLA, which would compile anew for each number of draws.
    return compiled(draws, "eager" if eager else "graph")


def proposal(inside: Inside, n: int, rng: np.random.Generator, to_weigh: bool = True) -> Draws:
    """Draws of the calibrated normal distribution; of the surrogate if there is none.

    Parameters
    ----------
    to_weigh : whether to widen the normal distribution, for weights that stay bounded.
    """
    if inside.normal is None:
        return mean_field(inside, n, int(rng.integers(2**31)))
    points, log_q = _normal_points(inside.normal, n, rng, to_weigh)
    if inside.spare is not None:
        share = _PLACED if to_weigh and len(inside.spare.rows) else 0.0
        return _beside_spare(inside, inside.spare, points, log_q, share, rng)
    theta, volume = _unflatten(inside, points)
    return Draws(theta, _as(inside, log_q) - volume)


def _normal_points(
    normal: Normal, n: int, rng: np.random.Generator, to_weigh: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, P] and their log density [n]."""
    P = len(normal.mean)
    wider = 1.0 + _WIDER / math.sqrt(P) if to_weigh else 1.0
    z = rng.standard_normal((n, P))
    log_volume = np.linalg.slogdet(wider * normal.factor)[1]
    log_q = -0.5 * (z**2).sum(axis=1) - 0.5 * P * math.log(2.0 * math.pi) - log_volume
    return normal.mean + wider * z @ normal.factor.T, log_q


def _beside_spare(
    inside: Inside,
    spare: Spare,
    points: np.ndarray,
    log_q: np.ndarray,
    share: float,
    rng: np.random.Generator,
) -> Draws:
    """Points of the informed coordinates with the others from the mean field.

    Parameters
    ----------
    share : of the draws that have a spare component at one of the rows.
    """
    model, units, n = inside.model, inside.tensor_units, len(points)
    whole = _points(inside, mean_field(inside, n, int(rng.integers(2**31))))
    whole[:, spare.informed] = points
    choice = placed.choose(spare, n, share, rng)
    if share:
        whole[:, spare.places] = placed.break_sticks(spare, choice, n, rng)[:, spare.breaks]
    theta, _ = _unflatten(inside, whole)
    gain = np.zeros(n)
    if share:
        form, means = model.covariance, inside.values["means"]
        arrays = {name: v.numpy().astype(np.float64) for name, v in theta.items()}
        with np.errstate(invalid="ignore", over="ignore"):  # a draw out of range gets no weight
            arrays["means"] = placed.put(spare, choice, arrays, form, means, rng)
            gain = placed.log_gain(spare, arrays, form, means, share)
        theta["means"] = _as(inside, arrays["means"])
    # The volume where the draws are: weights below the least have been raised to it, which a
    # bijector that remembers where they came from would not see.
    raised = tf.nest.map_structure(tf.identity, theta)
    _, volume = unflatten(model.sites, flatten(model.sites, raised, units), units)
    beside = log_prob(model, inside.values, units, theta, spare)
    return Draws(theta, _as(inside, log_q + gain) + beside - volume)


def _unflatten(inside: Inside, points: np.ndarray) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    sites = inside.model.sites
    theta, volume = unflatten(sites, _as(inside, points), inside.tensor_units)
    return without_roots(sites, theta), volume


def _as(inside: Inside, numbers: np.ndarray) -> tf.Tensor:
    """In the dtype of the fit."""
    return tf.constant(numbers.astype(inside.data.dtype))


def _points(inside: Inside, draws: Draws) -> np.ndarray:
    """Draws as points [S, P], in float64."""
    points = flatten(inside.model.sites, draws.theta, inside.tensor_units).numpy()
    return points.astype(np.float64)


class Weighted(NamedTuple):
    """Draws of the proposal with their smoothed weights [S], and the k-hat of these."""

    draws: Draws
    weights: np.ndarray
    khat: float


def weighted(inside: Inside, n: int, rng: np.random.Generator) -> Weighted:
    """Proposals for n draws, weighted by the log joint density of all rows."""
    return _weigh(inside, proposal(inside, max(_PROPOSALS * n, _FEWEST_PROPOSALS), rng))


def _weigh(inside: Inside, draws: Draws) -> Weighted:
    log_ratio = log_joint_of(inside, draws) - draws.log_q.numpy()
    possible = np.isfinite(log_ratio)
    # A draw out of the dtype's range gets a weight of nothing.
    log_ratio[~possible] = np.min(log_ratio[possible], initial=0.0) - 100.0
    return Weighted(draws, *smooth(log_ratio))


def khat_of(inside: Inside, draws: Draws) -> float:
    """The k-hat of any draws with their own log density; NaN where it is out of reach."""
    if len(draws.log_q) < _FEWEST_PROPOSALS or not can_weigh(inside, len(draws.log_q)):
        return math.nan
    return _weigh(inside, draws).khat


def refine(inside: Inside, seed: int) -> tuple[Inside, float]:
    """The distribution to draw from, and its k-hat.

    Where the posterior is skew, a normal distribution with its moments, which the weighted draws
    tell, covers it better than one with the curvature at its centre. Where it is far from normal
    in any coordinates, as with components that hold no rows, the surrogate itself may be the
    better one. The lowest k-hat decides.
    """
    rng = np.random.default_rng([seed, 1])  # not the draws of the calibration again
    if not can_weigh(inside, _PROPOSALS * _KHAT_DRAWS):
        return inside._replace(weigh=False), math.nan  # of unknown worth
    found = weighted(inside, _KHAT_DRAWS, rng)
    if inside.calibration == AT_THE_MEAN:
        # Weights in so many dimensions, if bad, are worse than none.
        return inside._replace(weigh=found.khat < KHAT_LIMIT), found.khat
    choices = [(found.khat, inside)]
    for _ in range(_REFINEMENTS):
        best = min(khat for khat, _ in choices)
        # A round that was no better is the last, if what there is will do.
        if found.khat < _REFINE_ABOVE or best < min(found.khat, KHAT_LIMIT):
            break
        normal = _matching(inside, found)
        if normal is None:
            break
        inside = inside._replace(normal=normal)
        found = weighted(inside, 2 * _KHAT_DRAWS, rng)
        choices.append((found.khat, inside))
    khat, chosen = min(choices, key=lambda choice: choice[0])
    if khat > KHAT_LIMIT:
        surrogate = inside._replace(normal=None)
        choices.append((weighted(surrogate, _KHAT_DRAWS, rng).khat, surrogate))
        khat, chosen = min(choices, key=lambda choice: choice[0])
    return chosen, khat


def _matching(inside: Inside, found: Weighted) -> Normal | None:
    """The normal distribution with the moments of weighted draws; None if they are too few.

    A covariance of P parameters from n draws has a noise that gives log weights a variance of
    P^2 / 2 n. That must not be more than what they have.
    """
    points = _points(inside, found.draws)[:, inside.informed]
    effective = 1.0 / (found.weights**2).sum()
    spread = math.log(len(points) / effective)  # of weights that are log-normal
    if points.shape[1] ** 2 / (2.0 * effective) > spread:
        return None
    mean = found.weights @ points
    centred = points - mean
    covariance = (centred.T * found.weights) @ centred
    try:
        return Normal(mean, np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        return None


def calibrated(inside: Inside, n: int, seed: int) -> Draws:
    """Draws of the calibrated posterior; unweighted where weights are out of reach."""
    rng = np.random.default_rng([seed, 2])
    if not (inside.weigh and can_weigh(inside, _PROPOSALS * n)):
        return proposal(inside, n, rng, to_weigh=False)
    found = weighted(inside, n, rng)
    chosen = resample(found.weights, n, rng)
    return Draws(
        {name: tf.gather(v, chosen) for name, v in found.draws.theta.items()},
        tf.gather(found.draws.log_q, chosen),
    )


def log_joint_of(inside: Inside, draws: Draws) -> np.ndarray:
    """Log joint density of draws and all rows, in internal units, in float64: [S]."""
    units, rows = inside.tensor_units, to_tensors(inside.data.rows)
    points = flatten(inside.model.sites, draws.theta, units).numpy()
    program = _log_joint_program(inside.model, inside.data.shape[0], inside.execution)
    return in_chunks(lambda part: program(part, rows, units), points, points_at_once(inside))


@functools.lru_cache(maxsize=32)
def _log_joint_program(model: Model, rows: int, execution: str) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def density(points: tf.Tensor, rows: Rows, units: Units) -> tf.Tensor:
        theta, _ = unflatten(model.sites, points, units)
        return log_joint(model, theta, units, rows, accumulate=tf.float64)

    return compiled(density, execution)
