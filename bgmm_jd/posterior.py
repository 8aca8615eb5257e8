"""The posterior: draws, predictions and densities from a fit, as a value that does not change."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture, sampling, units
from bgmm_jd.data import as_count, as_rows, as_seed, to_units
from bgmm_jd.labels import arrange, arrange_values, check_permutation
from bgmm_jd.mixture import Theta
from bgmm_jd.restarts import Restart
from bgmm_jd.status import Status
from bgmm_jd.surrogate import joint

_PREDICTIVE_DRAWS = 200
_CHUNK = 2**23  # numbers in the largest intermediate array of a prediction: 32 MiB in float32


@dataclass(frozen=True, kw_only=True, repr=False)
class Posterior:
    """A fitted surrogate posterior of a Gaussian mixture.

    Attributes
    ----------
    prior : tfd.JointDistributionCoroutine
        In the user's units.
    K, D : int
        Numbers of components and of features.
    covariance : str
    elbo : float
        Evidence lower bound in nats for the whole data set, all constants kept, in the user's
        units; higher is better. Estimated anew after the fit, with standard error `elbo_se`.
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
        How each start ended; `agrees` says which came to the solution that was kept.
    """

    prior: tfd.JointDistributionCoroutine
    K: int
    D: int
    covariance: str
    elbo: float
    elbo_se: float
    khat: float
    elbo_trace: np.ndarray
    status: Status
    batch_size: int
    restarts: tuple[Restart, ...]
    inside: sampling.Inside = field(repr=False)

    @property
    def dtype(self) -> np.dtype:
        """That of X."""
        return self.inside.data.rows.dtype

    @property
    def calibrated(self) -> bool:
        """Whether draws are of the calibrated posterior, or of the mean-field surrogate."""
        return self.inside.weigh

    @property
    def surrogate(self) -> tfd.JointDistributionCoroutine:
        """The trained surrogate: the prior's names, order and shapes, in the user's units."""
        tensors = units.as_tensors(self.inside.data.units, self.dtype)
        sites = self.inside.model.sites
        values = arrange_values(sites, self.inside.values, self.inside.order)
        return joint(sites, values, tensors, user=True)

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
        rows = len(self.inside.data.rows)
        agreeing = sum(restart.agrees for restart in self.restarts)
        return (
            f"<Posterior: {self.K} components, {rows:,} rows x {self.D} features, "
            f"elbo {self.elbo:.2f} +/- {self.elbo_se:.2f} nats, "
            f"{'calibrated' if self.calibrated else 'mean field'}, k-hat {self.khat:.2f}, "
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
    """The posterior as each restart that settled found it, components matched to the best."""
    found = []
    for restart in posterior.restarts:
        if restart.status is Status.CONVERGED:
            inside = posterior.inside._replace(values=restart.values)
            if inside.weigh:
                draws = sampling.mean_field(inside, _PREDICTIVE_DRAWS, seed=0)
                inside = sampling.with_normal(inside, draws, seed=0)
            found.append(replace(posterior, inside=inside))
    return found or [posterior]


def draw(posterior: Posterior, n: int, seed: int, calibrate: bool | None = None) -> sampling.Draws:
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
    source = sampling.calibrated if calibrate else sampling.mean_field
    return source(inside, n, seed)


def to_user(posterior: Posterior, theta: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Draws in the user's units and order, as arrays in the dtype of X.

    The change is computed in float64: far from zero, float32 has no digits to spare.
    """
    where = posterior.inside.data.units
    return {
        name: np.asarray(units.to_user(name, v.numpy().astype(np.float64), where), posterior.dtype)
        for name, v in arrange(theta, posterior.inside.order).items()
    }


class LogDensities(NamedTuple):
    """Of draws, in nats and in the user's units: arrays [S]."""

    log_joint: np.ndarray
    log_q: np.ndarray


def log_densities(posterior: Posterior, draws: sampling.Draws) -> LogDensities:
    """Log joint density of each draw with all the rows of the fit, and log q of the draw."""
    inside = posterior.inside
    volume = units.log_volume(inside.model.shapes, inside.data.units)
    rows = len(inside.data.rows) * np.log(inside.data.units.scale).sum()
    log_joint = sampling.log_joint_of(inside, draws) - rows - volume
    return LogDensities(log_joint, draws.log_q.numpy().astype(np.float64) - volume)


def row_log_likelihood(posterior: Posterior, draws: sampling.Draws, X: np.ndarray) -> np.ndarray:
    """log p(x_n given theta_s), the label summed out, in nats and the user's units: [S, N]."""
    rows = to_units(X, posterior.inside.data.units)
    result = np.empty((len(draws.log_q), len(rows)), posterior.dtype)
    for where, block in _likelihood_blocks(draws.theta, rows):
        result[:, where] = block
    return result - np.asarray(np.log(posterior.inside.data.units.scale).sum(), posterior.dtype)


def _likelihood_blocks(theta: Mapping[str, tf.Tensor], rows: np.ndarray):
    for where in _chunks(theta, len(rows)):
        yield where, _over_rows(mixture.row_log_likelihood, theta, rows[where])


def _chunks(theta: Mapping[str, tf.Tensor], rows: int):
    """Slices of rows whose arrays [S, K, D, rows] stay within bounds."""
    size = max(1, _CHUNK // int(tf.size(theta["means"])))
    return (slice(first, first + size) for first in range(0, rows, size))


def _over_rows(function: Callable[..., tf.Tensor], theta: Theta, rows: np.ndarray) -> np.ndarray:
    """Call a function of `mixture` on any number of draws and rows.

    As a graph, not under XLA, which would compile anew for each of these numbers.
    """
    names = tuple((name, len(v.shape)) for name, v in theta.items())
    return _program(function, names, rows.dtype.name)(dict(theta), tf.constant(rows)).numpy()


@functools.lru_cache(maxsize=32)
def _program(
    function: Callable[..., tf.Tensor], names: tuple[tuple[str, int], ...], dtype: str
) -> Callable[..., tf.Tensor]:
    theta = {name: tf.TensorSpec([None] * rank, dtype) for name, rank in names}
    return tf.function(function, input_signature=[theta, tf.TensorSpec([None, None], dtype)])


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
    array [N], in the dtype of the fit.
    """
    X = new_rows(posterior, X)
    likelihood = row_log_likelihood(posterior, draw(posterior, as_count(draws, "draws"), seed), X)
    largest = likelihood.max(axis=0)
    return largest + np.log(np.exp(likelihood - largest).mean(axis=0))


def predict_proba(
    posterior: Posterior, X: Any, draws: int = _PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Posterior probability of each component for each row, averaged over draws.

    Returns
    -------
    array [N, K], rows summing to 1.
    """
    X = new_rows(posterior, X)
    rows = to_units(X, posterior.inside.data.units)
    theta = dict(draw(posterior, as_count(draws, "draws"), seed).theta)
    result = np.empty((len(rows), posterior.K), posterior.dtype)
    for where in _chunks(theta, len(rows)):
        block = _over_rows(mixture.responsibilities, theta, rows[where])
        result[where] = block.mean(axis=0).T
    return result[:, posterior.inside.order]


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
    theta = {k: v.numpy() for k, v in draw(posterior, n, seed).theta.items()}
    rng = np.random.default_rng([seed, 1])
    below = np.cumsum(theta["weights"], axis=1)
    label = (rng.random((n, 1)) * below[:, -1:] >= below).sum(axis=1)
    pick = (np.arange(n), label)
    sd = mixture.precisions_of(theta)[pick] ** -0.5
    rows = theta["means"][pick] + sd * rng.standard_normal((n, posterior.D))
    where = posterior.inside.data.units
    return (where.shift + where.scale * rows).astype(posterior.dtype)


def new_rows(posterior: Posterior, X: Any) -> np.ndarray:
    """X at the door of a prediction, in the dtype of the fit."""
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is told as infinity
        return as_rows(as_rows(X, posterior.D).astype(posterior.dtype))
