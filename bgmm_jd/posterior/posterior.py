"""The posterior: draws, predictions and densities from a fit, as a value that does not change."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.execution import alone
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.calibration.calibrate import with_calibration
from bgmm_jd.data import units
from bgmm_jd.data.rows import Missing, Rows, weights
from bgmm_jd.data.standardize import (
    as_count,
    as_rows,
    as_seed,
    check_missing,
    row_log_volume,
    to_rows,
)
from bgmm_jd.model import covariances as covariances_module
from bgmm_jd.model import likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import MEAN_FIELD, Draws, Inside, log_joint_of, mean_field
from bgmm_jd.variational.labels import arrange, arrange_values, can_arrange, check_permutation
from bgmm_jd.variational.surrogate import joint

_PREDICTIVE_DRAWS = 200
_CHUNK = 2**23  # numbers in the largest intermediate array of a prediction: 32 MiB in float32


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
    inside: Inside = field(repr=False)

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
        tensors = units.as_tensors(self.inside.data.units, self.dtype)
        sites, values = self.inside.model.sites, self.inside.values
        if can_arrange(sites):
            values = arrange_values(sites, values, self.inside.order)
        return joint(sites, values, tensors)

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
        return to_user(self, draw(self, as_count(n, "n"), seed, calibrate).theta)

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
        order = np.argsort(-posterior.sample(_PREDICTIVE_DRAWS)["weights"].mean(axis=0))
    chosen = inside.order[check_permutation(order, posterior.K)]
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
                draws = mean_field(inside, _PREDICTIVE_DRAWS, seed=0)
                inside, _ = with_calibration(inside, draws, seed=0)
            found.append(replace(posterior, inside=inside))
    return found or [posterior]


def draw(posterior: Posterior, n: int, seed: int, calibrate: bool | None = None) -> Draws:
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
    source = importance_sampling.calibrated if calibrate else mean_field
    return source(inside, n, seed)


def to_user(posterior: Posterior, theta: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Draws in the user's units and order, as arrays in the dtype of X."""
    exact = _to_user_exactly(posterior, theta)
    return {name: np.asarray(v, posterior.dtype) for name, v in exact.items()}


def _to_user_exactly(posterior: Posterior, theta: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """The same in float64: far from zero, float32 has no digits to spare."""
    inside = posterior.inside
    where, unit = inside.data.units, inside.model.units
    arranged = arrange(inside.model.sites, theta, inside.order)
    return {
        name: np.asarray(units.to_user(unit[name], v.numpy().astype(np.float64), where))
        for name, v in arranged.items()
    }


class Components(NamedTuple):
    """Draws of the components in the units of X, whatever the form of the covariance: float64.

    weights [S, K], means [S, K, D], covariances [S, K, D, D]
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def component_draws(posterior: Posterior, draws: int, seed: int) -> Components:
    """Draws of all components; those of `posterior.sample(draws, seed)`."""
    theta = _to_user_exactly(posterior, draw(posterior, draws, seed).theta)
    matrices = covariances_module.by_component(theta, posterior.covariance)
    return Components(theta["weights"], theta["means"], matrices)


class LogDensities(NamedTuple):
    """Of draws, in nats and in the user's units: arrays [S]."""

    log_joint: np.ndarray
    log_q: np.ndarray


def log_densities(posterior: Posterior, draws: Draws) -> LogDensities:
    """Log joint density of each draw with all the rows of the fit, and log q of the draw."""
    inside = posterior.inside
    volume = units.log_volume(inside.model.volumes, inside.data.units)
    log_joint = log_joint_of(inside, draws) - inside.data.log_volume - volume
    return LogDensities(log_joint, draws.log_q.numpy().astype(np.float64) - volume)


def row_log_likelihood(posterior: Posterior, draws: Draws, X: np.ndarray) -> np.ndarray:
    """log p(x_n given theta_s), the label summed out, in nats and the user's units: [S, N]."""
    result = np.empty((len(draws.log_q), len(X)), posterior.dtype)
    for part, block in _likelihood_blocks(posterior, draws, X):
        result[:, part] = block
    return result


def _likelihood_blocks(
    posterior: Posterior, draws: Draws, X: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """The same of some rows at a time; -inf for a row whose distance squared is no number."""
    where = posterior.inside.data.units
    rows = to_rows(X, where)
    volume = row_log_volume(rows, where).astype(posterior.dtype)
    for part, block in over_rows(posterior, likelihood.row_log_likelihood, draws.theta, rows):
        # Beyond the dtype's range infinities may have cancelled.
        yield part, np.where(np.isnan(block), -np.inf, block) - volume[part]


def over_rows(
    posterior: Posterior, function: Callable[..., tf.Tensor], theta: Theta, rows: Rows
) -> Iterator[tuple[slice, np.ndarray]]:
    """Call a function of `mixture` on any number of draws and rows, some rows at a time.

    As a graph, not under XLA, which would compile anew for each of these numbers.
    """
    covariance = posterior.covariance
    ranks = tuple((name, len(v.shape)) for name, v in theta.items())
    incomplete = rows.missing is not None
    program = _program(function, covariance, ranks, posterior.dtype.name, incomplete)
    by_row = int(tf.size(theta["means"])) * (posterior.D if incomplete else 1)
    size = max(1, _CHUNK // by_row)
    for first in range(0, len(rows.values), size):
        part = slice(first, first + size)
        missing: tuple[np.ndarray, ...] = ()
        if rows.missing is not None:
            own, pattern = np.unique(rows.missing.pattern[part], return_inverse=True)
            missing = (rows.missing.observed[own], pattern.astype(np.int32))
        yield part, program(dict(theta), rows.values[part], *missing).numpy()


@functools.lru_cache(maxsize=32)
def _program(
    function: Callable[..., tf.Tensor],
    covariance: str,
    ranks: tuple[tuple[str, int], ...],
    dtype: str,
    incomplete: bool,
) -> Callable[..., tf.Tensor]:
    theta = {name: tf.TensorSpec([None] * rank, dtype) for name, rank in ranks}
    values = tf.TensorSpec([None, None], dtype)
    missing = [values, tf.TensorSpec([None], tf.int32)] if incomplete else []

    def call(theta: Theta, values: tf.Tensor, *missing: tf.Tensor) -> tf.Tensor:
        rows = Rows(values, missing=Missing(*missing) if missing else None)
        return function(theta, rows, covariance)

    signature = [theta, values, *missing]
    return tf.function(alone(call), input_signature=signature, autograph=False)


def log_density(
    posterior: Posterior, X: Any, draws: int = _PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Log of the posterior predictive density of each row, in nats per row and the units of X.

    ::

        log p(x) = log (1/S) sum_s p(x given theta_s)

    averaged over draws, not a plug-in at the posterior mean, which is too narrow.

    Parameters
    ----------
    X : array-like [N, D]
    draws : int
        S, how many draws to average over.

    Returns
    -------
    array [N], in the dtype of the fit; -inf for a row so far away that its dtype has no number for
    the square of the distance.
    """
    X = new_rows(posterior, X)
    chosen = draw(posterior, as_count(draws, "draws"), seed)
    result = np.empty(len(X), posterior.dtype)
    for part, block in _likelihood_blocks(posterior, chosen, X):
        result[part] = logsumexp(block, axis=0) - np.log(len(block))
    return result


def predict_proba(
    posterior: Posterior, X: Any, draws: int = _PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Posterior probability of each component for each row, averaged over draws.

    Returns
    -------
    array [N, K], rows summing to 1.

    Raises
    ------
    ValueError
        If a row is so far from all components that its density in each is zero, even as a
        logarithm: beyond some 1e19 sds in float32.
    """
    X = new_rows(posterior, X)
    rows = to_rows(X, posterior.inside.data.units)
    theta = draw(posterior, as_count(draws, "draws"), seed).theta
    result = np.empty((len(X), posterior.K), posterior.dtype)
    for part, block in over_rows(posterior, likelihood.responsibilities, theta, rows):
        result[part] = block.mean(axis=0).T
    lost = np.flatnonzero(~np.isfinite(result).all(axis=1))
    if len(lost):
        raise ValueError(
            f"X's row {lost[0]}, {X[lost[0]].tolist()}, is so far from all components that its "
            "density cannot be told from zero. Drop such rows, or check their units."
        )
    return result[:, posterior.inside.order]


def expected_counts(posterior: Posterior, theta: Theta) -> np.ndarray:
    """Expected number of the fit's rows in each component, by their weights: [K], float64.

    Parameters
    ----------
    theta : draws to average over, in internal units.
    """
    rows = posterior.inside.data.rows
    weight = weights(rows)
    total = np.zeros(posterior.K)
    for part, block in over_rows(posterior, likelihood.responsibilities, theta, rows):
        total += block.mean(axis=0) @ weight[part]
    return total[posterior.inside.order]


def predict(
    posterior: Posterior, X: Any, draws: int = _PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """The most probable component of each row: int array [N]; see `predict_proba`."""
    return predict_proba(posterior, X, draws, seed).argmax(axis=1)


def sample_predictive(posterior: Posterior, n: int, seed: int = 0) -> np.ndarray:
    """Draw new rows, each under parameters drawn anew from the posterior.

    Returns
    -------
    array [n, D], in the units and dtype of X.
    """
    n = as_count(n, "n")
    theta = _to_user_exactly(posterior, draw(posterior, n, seed).theta)
    rng = np.random.default_rng([seed, 1])
    below = np.cumsum(theta["weights"], axis=1)
    label = (rng.random((n, 1)) * below[:, -1:] >= below).sum(axis=1)
    pick = (np.arange(n), label)
    z = rng.standard_normal((n, posterior.D))
    root = covariances_module.roots(theta, posterior.covariance)
    return (theta["means"][pick] + covariances_module.noise(root[pick], z)).astype(posterior.dtype)


def new_rows(posterior: Posterior, X: Any) -> np.ndarray:
    """X at the door of a prediction, in the dtype of the fit."""
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is told as infinity
        missing = check_missing(posterior.missing)
        rows = as_rows(X, posterior.D, missing).astype(posterior.dtype)
        return as_rows(rows, missing=missing)
