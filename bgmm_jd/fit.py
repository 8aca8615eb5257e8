"""`fit`: from rows to a posterior. The wiring, the stop, the status."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd import calibrate as calibration
from bgmm_jd import initial, sampling, settle, svi, units
from bgmm_jd.compiled import EXECUTIONS
from bgmm_jd.coordinates import flatten
from bgmm_jd.data import Data, as_count, as_rows, centre_and_scale, cut_batches, to_units
from bgmm_jd.draws import stateless_seed
from bgmm_jd.objective import Model
from bgmm_jd.posterior import Posterior
from bgmm_jd.prior import check_covariance, check_prior, default_prior, prior_moments
from bgmm_jd.progress import Report, reporter
from bgmm_jd.sampling import Inside
from bgmm_jd.status import Status
from bgmm_jd.surrogate import Values, sites_of, start_values
from bgmm_jd.svi import Block, Schedule

# Up to here a step on all rows costs about what a step on a few hundred costs, and has no noise
# from the choice of rows.
_FULL_BATCH_ROWS = 20_000
_AUTO_BATCH = 8_192
_DRAWS = 8  # per step
_BLOCK_STEPS = 20  # at least; whole epochs
_LONGEST_BLOCK = 4_000
_ELBO_BUDGET = 2**23  # draws x rows x features
_FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS = 32, 500
_KHAT_DRAWS = 1_000
_START_DRAWS = 500
_TOLERANCE = 0.05  # posterior sds between the halves of the iterates


class Run(NamedTuple):
    """How the optimization went; `elbos` has the noisy estimate of each step."""

    values: Values
    elbos: np.ndarray
    status: Status


def fit(
    X: Any,
    K: int,
    *,
    covariance: str = "diag",
    prior: tfd.JointDistributionCoroutine | None = None,
    batch_size: int | str = "auto",
    seed: int = 0,
    progress: bool | None = None,
    execution: str = "xla",
    init: Any = None,
    max_steps: int = 20_000,
    calibrate: bool = True,
) -> Posterior:
    """Fit a Bayesian Gaussian mixture by stochastic variational inference.

    Parameters
    ----------
    X : array-like [N, D] of finite real numbers
        float32 and float64 are kept, and are the dtype of the fit; anything else is converted.
    K : int
        Number of components, at most N.
    covariance : {"diag"}
    prior : tfd.JointDistributionCoroutine, optional
        With variables `weights` [K], `means` [K, D] and `precisions` or `scales` [K, D], in the
        units of X. Without it, weakly informative values in the data's own units
        (`bgmm_jd.prior.default_prior`).
    batch_size : int or "auto"
        The most rows that a step reads, from 1 to N.
    seed : int
        The same seed, machine and versions give the same result.
    progress : bool, optional
        Whether to show a line of progress; by default only on a terminal.
    execution : {"xla", "graph", "eager"}
        How the loop runs. All three follow the same path to float tolerance; "eager" is for
        looking into it with a debugger.
    init : array-like [K, D], optional
        Means to start from, in the units of X; components keep their order. Without it,
        k-means++ on a subsample, components ordered by their first feature.
    max_steps : int
        Limit of steps, for a fit that does not settle.

    Returns
    -------
    Posterior

    Raises
    ------
    ValueError, TypeError
        For bad input, before anything is compiled.

    Warns
    -----
    RuntimeWarning
        If the fit ended in any state but a good one; `posterior.status` has the advice.

    Notes
    -----
    Ctrl-C ends the fit and keeps what it has, with `Status.INTERRUPTED`.
    """
    X = as_rows(X)
    N, D = X.shape
    K = as_count(K, "K")
    if N < K:
        raise ValueError(f"X must have at least K={K} rows; got {N}. Use a smaller K.")
    check_covariance(covariance)
    if prior is not None:
        check_prior(prior, K, D)
    batch_size = _check_batch_size(batch_size, N)
    seed = _check_seed(seed)
    if execution not in EXECUTIONS:
        raise ValueError(f"execution must be one of {EXECUTIONS}; got {execution!r}.")
    max_steps = as_count(max_steps, "max_steps")
    start_means = None if init is None else _check_init(init, K, D)

    data = centre_and_scale(X)
    inside = _prepare(data, K, covariance, prior, start_means, seed, execution)
    batches = cut_batches(N, batch_size)
    schedule = Schedule(batches, _DRAWS, _block_steps(batches.count), X.dtype.name, execution)
    with reporter(progress) as report:
        run = _settle(inside, schedule, seed, max_steps, report)
    inside = inside._replace(values=run.values)
    if calibrate and run.status is not Status.DIVERGED:
        inside = _calibrated(inside, seed)
    elbo, elbo_se = _elbo(inside, seed)
    posterior = Posterior(
        prior=prior or default_prior(K, D, covariance, X.dtype, data.units),
        K=K,
        D=D,
        covariance=covariance,
        elbo=elbo,
        elbo_se=elbo_se,
        khat=_khat(inside, seed),
        elbo_trace=run.elbos,
        status=run.status,
        batch_size=batches.size,
        inside=inside,
    )
    if not posterior.status.good:
        warnings.warn(str(run.status), RuntimeWarning, stacklevel=2)
    return posterior


def _check_batch_size(batch_size: Any, N: int) -> int:
    if isinstance(batch_size, str):
        if batch_size != "auto":
            raise ValueError(f"batch_size must be 'auto' or an integer; got {batch_size!r}.")
        return N if N <= _FULL_BATCH_ROWS else _AUTO_BATCH
    return as_count(batch_size, "batch_size", most=N)


def _check_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be an integer; got {seed!r}.")
    if seed < 0:
        raise ValueError(f"seed must not be negative; got {seed}.")
    return int(seed)


def _check_init(init: Any, K: int, D: int) -> np.ndarray:
    means = as_rows(init, D)
    if len(means) != K:
        raise ValueError(f"init must have one row for each of K={K} components; got {len(means)}.")
    return means


def _prepare(
    data: Data,
    K: int,
    covariance: str,
    prior: tfd.JointDistributionCoroutine | None,
    init: np.ndarray | None,
    seed: int,
    execution: str,
) -> Inside:
    """The model inside and the values it starts from."""
    D, dtype = data.rows.shape[1], data.rows.dtype
    # The default prior is a constant in internal units: one program serves all data of a shape.
    prior_units = units.unit(D) if prior is None else data.units
    model_prior = prior or default_prior(K, D, covariance, dtype)
    model = Model(model_prior, sites_of(model_prior))
    centres = None if init is None else to_units(init, data.units)
    clusters = initial.cluster(data.rows, K, np.random.default_rng(seed), centres)
    moments = prior_moments(model_prior) | initial.moments(clusters)
    start = start_values(model.sites, moments, units.as_tensors(prior_units, dtype), dtype)
    return Inside(model, prior_units, data, execution, start)


def _block_steps(batches: int) -> int:
    """Steps in a block: whole epochs, so that each row has had its turn equally often."""
    epochs = -(-_BLOCK_STEPS // batches)
    return min(epochs * batches, _LONGEST_BLOCK)


def _rate(batches: int) -> float:
    """Step size: a full natural-gradient step on all rows; on a batch, its share of one.

    The share makes an epoch's progress the same for any batch size; a quarter of it leaves the
    iterates of the last epochs within a fraction of a posterior sd of their mean.
    """
    return 1.0 if batches == 1 else 0.25 / batches


def _settle(
    inside: Inside, schedule: Schedule, seed: int, max_steps: int, report: Callable[[Report], None]
) -> Run:
    """Run blocks of steps until the parameters have settled."""
    sites, scale = inside.model.sites, inside.data.units.scale
    rows, values = tf.constant(inside.data.rows), inside.values
    blocks: list[Values] = []
    elbos: list[np.ndarray] = []
    status = Status.STEP_LIMIT
    program = svi.program(inside.model.prior, schedule)
    run_seed, rate = stateless_seed(seed), _rate(schedule.batches.count)
    try:
        for first in range(0, max_steps, schedule.steps):
            block = program.run(rows, inside.prior_units, values, run_seed, first, rate)
            elbos.append(-block.losses - len(rows) * np.log(scale).sum())
            if not _finite(block):
                status = Status.DIVERGED
                break
            values = block.values
            blocks.append(block.average)
            drift = settle.drift(sites, blocks)
            report(Report(first + schedule.steps, max_steps, float(elbos[-1].mean()), drift))
            if drift < _TOLERANCE:
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    final = settle.average(sites, settle.cloud(blocks)) if blocks else values
    return Run(_frozen_values(final), _frozen(np.concatenate([*elbos, []])), status)


def _calibrated(inside: Inside, seed: int) -> Inside:
    """Recover the dependence that the mean-field surrogate lacks."""
    draws = sampling.mean_field(inside, _START_DRAWS, seed)
    points = flatten(inside.model.sites, draws.theta, inside.tensor_units).numpy()
    start = calibration.Normal(
        points.mean(axis=0, dtype=np.float64), np.diag(points.std(axis=0, dtype=np.float64))
    )
    gradient = calibration.gradient_of_log_joint(
        inside.model.prior,
        tf.constant(inside.data.rows),
        inside.tensor_units,
        sampling.points_at_once(inside),
        inside.execution,
    )
    normal = calibration.calibrate(gradient, start, np.random.default_rng(seed))
    return inside._replace(normal=normal)


def _elbo(inside: Inside, seed: int) -> tuple[float, float]:
    """The elbo of the surrogate estimated anew, and its standard error; in the user's units."""
    N, D = inside.data.rows.shape
    S = int(np.clip(_ELBO_BUDGET // (N * D), _FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS))
    draws = sampling.mean_field(inside, S, seed)
    log_ratio = sampling.log_joint_of(inside, draws) - draws.log_q.numpy()
    rows = N * np.log(inside.data.units.scale).sum()
    return float(log_ratio.mean() - rows), float(log_ratio.std(ddof=1) / np.sqrt(S))


def _khat(inside: Inside, seed: int) -> float:
    if not sampling.can_weight(inside, _KHAT_DRAWS):
        return np.nan
    return sampling.weighted(inside, _KHAT_DRAWS, np.random.default_rng(seed)).khat


def _finite(block: Block) -> bool:
    return all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(block.average))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _frozen_values(values: Values) -> Values:
    return tf.nest.map_structure(lambda v: _frozen(np.array(v)), values)
