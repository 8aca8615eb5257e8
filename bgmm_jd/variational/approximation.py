"""What is fitted, and what approximates its posterior: two values, each complete.

A `Problem` is all that is known before the first step: model, rows, execution and settings. An
`Approximation` is what a fit makes of it: the parameters of the surrogate, the order of the
components and the calibration.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import Standardization
from bgmm_jd.settings import Settings
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.padding import CompiledForm, compiled_form
from bgmm_jd.variational.parameters import VariationalParameters, as_parameter_tensors
from bgmm_jd.variational.structure import Model, StandardizedModel
from bgmm_jd.variational.surrogate import by_name, standardized_surrogate

MEAN_FIELD, AVERAGED, AT_THE_MEAN = "mean field", "averaged curvature", "curvature at the mean"


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A model and the rows that it is fitted to.

    Attributes
    ----------
    model : Model
        Compiled programs are kept by it.
    prior_standardization : Standardization
        Between standardised units and those of `model.prior`, as tensors in the dtype of the fit.
        The identity for the default prior, which is in standardised units itself; otherwise that of
        `data`.
    data : Data
        Rows in standardised units.
    execution : {"xla", "graph", "eager"}
    settings : Settings
    """

    model: Model
    prior_standardization: Standardization
    data: Data
    execution: str
    settings: Settings

    @functools.cached_property
    def standardized_model(self) -> StandardizedModel:
        """Return the model in standardised units, for use outside of compiled programs."""
        return self.model.standardized(self.prior_standardization)

    @functools.cached_property
    def compiled_form(self) -> CompiledForm:
        """Return what the programs of the problem are compiled for and called with, made once."""
        settings = self.settings.padding
        return compiled_form(self.model, self.prior_standardization, self.data, settings)

    @property
    def numbers_per_row(self) -> int:
        """Return the entries that a row adds to the largest array of one draw's likelihood.

        K D, but K D^2 where missing entries of a row need a covariance matrix of their own.
        """
        D = self.data.shape[1]
        by_pattern = not self.data.is_complete and self.model.has_covariance_matrices
        return self.model.K * (D * D if by_pattern else D)

    def on(self, data: Data) -> "Problem":
        """Return the same problem for other rows in the same units, such as a subsample."""
        return replace(self, data=data)


class Draws(NamedTuple):
    """Draws of a proposal.

    theta : by name [S, ...], in standardised units.
    points : [S, P], the same in unconstrained coordinates; an array in the dtype of the fit.
    log_q : [S], the log density of the proposal over theta, in nats.
    """

    theta: Mapping[str, tf.Tensor]
    points: np.ndarray
    log_q: tf.Tensor


def take_draws(draws: Draws, chosen: np.ndarray) -> Draws:
    """Return the chosen draws, in that order."""
    theta = {name: tf.gather(v, chosen) for name, v in draws.theta.items()}
    return Draws(theta, draws.points[chosen], tf.gather(draws.log_q, chosen))


class MultivariateNormal(NamedTuple):
    """N(mean, factor factor^T) over P unconstrained coordinates: arrays [P] and [P, P]."""

    mean: np.ndarray
    factor: np.ndarray


class StudentMixture(NamedTuple):
    """A mixture of M multivariate Student t distributions over P coordinates.

    weights [M], means [M, P], factors [M, P, P] : lower Cholesky factors of the scale matrices.
    df : degrees of freedom of all of them.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    df: float


class Centre(NamedTuple):
    """Mean and standard deviation of draws in one labelling: [P] each."""

    mean: np.ndarray
    sd: np.ndarray


class Region(NamedTuple):
    """The part of the posterior that is nearer to one mode than to the others.

    centres : of all modes, in coordinates with log ratios of the weights.
    chosen : which of them.
    share : posterior probability of the part.
    """

    centres: tuple[Centre, ...]
    chosen: int
    share: float


class Proposal(NamedTuple):
    """What the draws of the whole posterior are proposed by, in coordinates with log ratios.

    mixture : StudentMixture
    efficiency : effective draws for each draw of it.
    region : the only part that is drawn from; None for all of the posterior.
    """

    mixture: StudentMixture
    efficiency: float
    region: Region | None = None


class Mixing(NamedTuple):
    """How well Markov chains have mixed, in the worst coordinate (Vehtari et al. 2021).

    rhat : rank-normalised split R-hat; NaN where a coordinate does not vary.
    effective : the smaller of the bulk and tail effective sample sizes; NaN likewise.
    """

    rhat: float
    effective: float


class Bank(NamedTuple):
    """Draws that are kept, in coordinates with log ratios and one labelling.

    Those that Markov chains have made, or, in a file without the rows of the fit, weighted draws
    that have been resampled.

    points [S, P] : chain after chain, each of the same length; in random order if `chains` is 1.
    chains : their number; 1 where draws of several modes are together.
    mode [S] : the number of the mode that a draw belongs to.
    mixing : of the chains of the mode where they have mixed worst; None without chains.
    chosen : the only mode that is drawn from; None for all.
    """

    points: np.ndarray
    chains: int
    mode: np.ndarray
    mixing: Mixing | None
    chosen: int | None = None


class EmptyComponents(NamedTuple):
    """What keeps its mean-field distribution, because the rows do not inform it.

    components [K], breaks [K - 1] : bool, the empty components, and the breaks of the stick of
        weights that only concern them.
    places : of these breaks among the P coordinates of a point.
    informed : the places of all other coordinates, which the rows inform.
    beta [K - 1, 2] : parameters (a, b) of each break under the mean field.
    rows [M, D], probability [M] : rows onto which an empty component may be moved in a proposal,
        see `relocation`. Empty if the mean field of the means is not normal.
    """

    components: np.ndarray
    breaks: np.ndarray
    places: np.ndarray
    informed: np.ndarray
    beta: np.ndarray
    rows: np.ndarray
    probability: np.ndarray


def informed_coordinates(empty: EmptyComponents | None) -> slice | np.ndarray:
    """Return the places, in a point [P], of the coordinates that the rows inform."""
    return slice(None) if empty is None else empty.informed


class Calibration(NamedTuple):
    """The distribution that has the dependence between parameters, which a mean field lacks.

    kind : where the dependence comes from, AVERAGED or AT_THE_MEAN.
    normal : over the coordinates that the rows inform.
    empty : what stays as the mean field has it; None where the normal has all coordinates.
    is_weighted : whether draws are corrected by importance weights.
    """

    kind: str
    normal: MultivariateNormal
    empty: EmptyComponents | None
    is_weighted: bool

    @property
    def informed(self) -> slice | np.ndarray:
        """Return the places of the coordinates of `normal` in a point [P]."""
        return informed_coordinates(self.empty)


@dataclass(frozen=True, kw_only=True, eq=False)
class Approximation:
    """An approximate posterior, in standardised units.

    Attributes
    ----------
    problem : Problem
    params : VariationalParameters
        Of the mean-field surrogate.
    order : int array [K]
        The fitted labels of the components, in the order of output.
    calibration : Calibration, optional
        None where draws come from the surrogate as it is.
    proposal : Proposal, optional
        Of draws of the whole posterior, all of its modes; None where there is none.
    bank : Bank, optional
        Draws that are kept, from which all calibrated draws then come; None where draws are made
        anew.
    """

    problem: Problem
    params: VariationalParameters
    order: np.ndarray
    calibration: Calibration | None = None
    proposal: Proposal | None = None
    bank: Bank | None = None


def draw_mean_field(problem: Problem, params: VariationalParameters, n: int, seed: int) -> Draws:
    """Draw from the mean-field surrogate."""
    theta, points, log_q = _draw_and_flatten(problem, params, n, seed)
    return Draws(theta, problem.compiled_form.crop(points.numpy()), log_q)


def sample_mean_field(
    problem: Problem, params: VariationalParameters, n: int, seed: int
) -> tuple[Mapping[str, tf.Tensor], tf.Tensor]:
    """Draw from the mean-field surrogate, without points: theta [n, ...] and its log density."""
    theta, _, log_q = _draw_and_flatten(problem, params, n, seed)
    return theta, log_q


def _draw_and_flatten(
    problem: Problem, params: VariationalParameters, n: int, seed: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    form = problem.compiled_form
    program = _mean_field_program(form.model, problem.execution == "eager")
    theta, points, log_q = program(
        as_parameter_tensors(form.pad_parameters(params)),
        form.values,
        tf.constant(n),
        stateless_seed(seed),
    )
    return form.crop_draws(theta), points, log_q


@functools.lru_cache(maxsize=32)
def _mean_field_program(
    model: Model, eager: bool
) -> Callable[..., tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]]:
    def draw(
        params: VariationalParameters,
        standardization: Standardization,
        n: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        standardized = model.standardized(standardization)
        surrogate = standardized_surrogate(standardized, params)
        draws, log_q = surrogate.experimental_sample_and_log_prob(n, seed=seed)
        theta = by_name(standardized, draws)
        # `tf.identity` defeats TFP's bijector cache, which would return the points that the draws
        # were made of instead of inverting the draws themselves.
        points = flatten(standardized, tf.nest.map_structure(tf.identity, theta))
        return theta, points, log_q

    # A graph, not XLA, which would compile anew for each number of draws.
    return compiled(draw, "eager" if eager else "graph")
