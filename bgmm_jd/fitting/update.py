"""`update`: the posterior after more rows, with the posterior before them as their prior."""

import math
import time
import warnings
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from bgmm_jd.backend.process_state import CALLER, runs_tensorflow
from bgmm_jd.calibration.importance_sampling import draw_weighted
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.calibration.sequential import most_rows, updated_normal
from bgmm_jd.data.rows import AbsentRows
from bgmm_jd.data.standardize import Data, standardize_new_rows
from bgmm_jd.data.validation import as_seed, as_weights
from bgmm_jd.optimization.single_run import read_only_copy
from bgmm_jd.optimization.status import Status, StatusWarning
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.variational.approximation import (
    Approximation,
    Calibration,
    MultivariateNormal,
    Problem,
)
from bgmm_jd.variational.parameters import VariationalParameters, parameters_from_moments
from bgmm_jd.variational.points import draws_at_points

# The normal distribution replaces the posterior for good: below it k-hat calls it reliable.
_MOST_KHAT = 0.5
_INSTEAD = "Fit all rows instead: bgmm_jd.fit(all_rows, K, start=posterior)."


@runs_tensorflow
def update(posterior: Posterior, X: Any, *, sample_weight: Any = None, seed: int = 0) -> Posterior:
    """Return the posterior after more rows, without the rows before them.

    The calibrated normal distribution of the posterior, N(m, C) in unconstrained coordinates, is
    the prior of the new rows. Where the posterior is close to normal that is accurate; where
    clusters overlap, errors add up from update to update, and `update` refuses. The fit of all rows
    with `bgmm_jd.fit(all_rows, K, start=posterior)` is accurate in any case.

    ::

        posterior = bgmm_jd.fit(first_day, K=3, finish="none")
        posterior = bgmm_jd.update(posterior, second_day)

    Parameters
    ----------
    posterior : Posterior
        With the status CONVERGED, a calibration, no empty component, and a k-hat of its normal
        distribution below 0.5. That is `posterior.khat` after `fit(..., finish="none")` or
        `update`; after another `finish` it is computed from the rows of the fit. It is not known
        after a fit to a source, whose posterior cannot be updated.
    X : array-like or data frame [N, D]
        The new rows, as for `predict`. They should be of the same clusters: new ones are not looked
        for.
    sample_weight : array-like [N], optional
        The power of the likelihood of each of them: see `fit`.
    seed : int
        Equal seeds give equal results.

    Returns
    -------
    Posterior
        Given all rows so far, with draws of a normal distribution (`method` is "normal"). Its k-hat
        is that of this step. No rows are kept, as after `save(..., keep_rows=False)`: predictions,
        densities, imputation and plots work, and `compare` and `occupied_components`, which need
        the rows of the fit, raise an error that says so. `elbo` and `log_evidence` are NaN,
        `restarts` is empty, and `surrogate` has the moments of the draws. `prior` is still that of
        the first fit.

    Raises
    ------
    ValueError, TypeError
        If the posterior is not as above, or X does not match it, or has more rows than are
        affordable at a time.

    Warns
    -----
    StatusWarning, a RuntimeWarning
        If the result has a k-hat above 0.7, and so the status KHAT_TOO_HIGH.
    """
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior must be a Posterior; got {type(posterior).__name__}.")
    begun, seed = time.perf_counter(), as_seed(seed)
    problem = _problem_of_new_rows(posterior, X, sample_weight)
    calibration = _calibration_to_pass_on(posterior)
    _check_size(problem, len(calibration.normal.mean))
    _check_khat(posterior, seed)
    normal, khat = updated_normal(problem, posterior.approximation.params, calibration.normal, seed)
    approximation = Approximation(
        problem=_without_rows(posterior.problem, problem.data),
        params=_surrogate_of(problem, normal, seed),
        order=posterior.approximation.order,
        calibration=calibration._replace(normal=normal, is_weighted=False),
    )
    status = Status.KHAT_TOO_HIGH if khat > KHAT_LIMIT else Status.CONVERGED
    if not status.good:
        warnings.warn(f"{status} {_INSTEAD}", StatusWarning, stacklevel=CALLER)
    seconds = MappingProxyType({"update": time.perf_counter() - begun})
    return _updated(posterior, approximation, status, khat, problem.data.shape[0], seconds)


def _problem_of_new_rows(posterior: Posterior, X: Any, sample_weight: Any) -> Problem:
    """Return the problem of the new rows in the units of the fit."""
    values = as_new_rows(posterior, X)
    weight = as_weights(sample_weight, len(values), values.dtype)
    if weight is not None:
        values, weight = values[weight > 0], weight[weight > 0].astype(values.dtype)
    rows = standardize_new_rows(values, posterior.problem.data)
    data = posterior.problem.data._replace(
        kept_rows=rows._replace(weight=weight), sampling_fraction=1.0
    )
    return posterior.problem.on(data)


def _without_rows(before: Problem, new: Data) -> Problem:
    """Return the problem of all rows so far, of which none is kept."""
    N = before.data.shape[0] + new.shape[0]
    absent = AbsentRows(N=N, D=new.shape[1], type=new.dtype.name)
    return before.on(before.data._replace(kept_rows=absent))


def _calibration_to_pass_on(posterior: Posterior) -> Calibration:
    """Return the calibration, or raise if its normal distribution is not that of the posterior."""
    if posterior.status is not Status.CONVERGED:
        raise ValueError(
            "update needs a posterior with the status CONVERGED; got "
            f"{posterior.status.name}. {_INSTEAD}"
        )
    calibration = posterior.approximation.calibration
    if calibration is None:
        raise ValueError(
            "update passes the calibrated normal distribution on, and this posterior has none: it "
            f"was fitted with calibrate=False, or has too many parameters. {_INSTEAD}"
        )
    if calibration.empty is not None:
        raise ValueError(
            "update needs a posterior in which every component holds rows, because one that is "
            f"empty is not normal; got one with empty components. {_INSTEAD} Or use a smaller K."
        )
    return calibration


def _check_size(problem: Problem, P: int) -> None:
    N, most = problem.data.shape[0], most_rows(problem, P)
    if most < N:
        raise ValueError(
            f"X must have at most {most:,} rows, for which the draws of an update are affordable; "
            f"got {N:,}. Update with parts of X, one after the other. Or fit all rows: "
            "bgmm_jd.fit(all_rows, K, start=posterior)."
        )


def _check_khat(posterior: Posterior, seed: int) -> None:
    """Raise unless the k-hat of the normal distribution is known and below 0.5."""
    khat = posterior.khat
    if posterior.method not in ("importance", "normal"):  # it is that of something else
        settings = posterior.settings.calibration
        alone = replace(posterior.approximation, proposal=None, bank=None)
        khat = draw_weighted(alone, settings.khat_draws, np.random.default_rng([seed, 1])).khat
    if not khat < _MOST_KHAT:
        found = "it is not known" if math.isnan(khat) else f"got {khat:.2f}"
        raise ValueError(
            "update needs a posterior that is close to normal, with a k-hat of its normal "
            f"distribution below {_MOST_KHAT}; {found}. {_INSTEAD}"
        )


def _surrogate_of(problem: Problem, normal: MultivariateNormal, seed: int) -> VariationalParameters:
    """Return the parameters of the surrogate with the moments of a normal distribution."""
    draws, rng = problem.settings.calibration.moment_draws, np.random.default_rng([seed, 2])
    z = rng.standard_normal((draws, len(normal.mean)))
    theta, _ = draws_at_points(problem, normal.mean + z @ normal.factor.T)
    arrays = {name: np.asarray(v, np.float64) for name, v in theta.items()}
    moments = {name: (v.mean(axis=0), v.std(axis=0)) for name, v in arrays.items()}
    return read_only_copy(parameters_from_moments(problem.standardized_model, moments))


def _updated(
    posterior: Posterior,
    approximation: Approximation,
    status: Status,
    khat: float,
    rows: int,
    seconds: MappingProxyType[str, float],
) -> Posterior:
    """Return the posterior with a new approximation, and without what is not known of it."""
    trace = np.empty(0)
    trace.setflags(write=False)
    return replace(
        posterior,
        elbo=math.nan,
        elbo_se=math.nan,
        log_evidence=math.nan,
        log_evidence_se=math.nan,
        khat=khat,
        elbo_trace=trace,
        status=status,
        batch_size=rows,
        restarts=(),
        modes=(Mode(math.nan, math.nan, math.nan, khat, 1),),
        seconds=seconds,
        provenance=None,
        approximation=approximation,
    )
