"""`fit`: from rows to a posterior. The door, the wiring, the verdict."""

from typing import Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.execution import EXECUTIONS
from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.validation import (
    as_count,
    as_rows,
    as_seed,
    as_weights,
    check_missing,
    check_rows,
)
from bgmm_jd.fitting.assess import assess, with_verdict
from bgmm_jd.fitting.progress import reporter
from bgmm_jd.fitting.search import (
    FULL_BATCH_NUMBERS,
    FULL_BATCH_ROWS,
    SearchPlan,
    find_optimum,
    problem_of,
    subsample_size,
    with_separated_order,
)
from bgmm_jd.model.covariance_forms import check_covariance
from bgmm_jd.model.prior_checks import check_prior
from bgmm_jd.model.priors import default_prior
from bgmm_jd.optimization.optimizers import OPTIMIZERS
from bgmm_jd.posterior.posterior import Posterior

_RESTARTS = 4


def fit(
    X: Any,
    K: int,
    *,
    covariance: str = "diag",
    prior: tfd.JointDistributionCoroutine | None = None,
    sample_weight: Any = None,
    batch_size: int | str = "auto",
    seed: int = 0,
    progress: bool | None = None,
    execution: str = "xla",
    init: Any = None,
    restarts: int | None = None,
    max_steps: int = 20_000,
    calibrate: bool = True,
    missing: str | None = None,
    optimizer: str = "natural",
) -> Posterior:
    """Fit a Bayesian Gaussian mixture by stochastic variational inference.

    Parameters
    ----------
    X : array-like [N, D] of finite real numbers
        float32 and float64 are kept, and are the dtype of the fit; anything else is converted.
    K : int
        Number of components, at most N.
    covariance : {"diag", "full", "tied", "spherical"}
        The form of the components' covariances: a variance for each feature, a matrix for each
        component, one matrix for all components, one variance for each component.
    prior : tfd.JointDistributionCoroutine, optional
        In the units of X, with variables `weights` [K], `means` [K, D] and one of `precisions`
        and `scales`, whose shape says the form of the covariance: [K, D], [K, D, D] (full),
        [D, D] (tied) or [K, 1] (spherical); of two that fit, its values tell. `precisions`
        are inverse variances or matrices, `scales` standard deviations or the lower Cholesky
        factors of covariance matrices. Without it, weakly informative values in the data's own
        units (`bgmm_jd.prior.default_prior`).
    sample_weight : array-like [N], optional
        The power of each row's likelihood, zero or more: 2 counts a row twice, 0 leaves it out.
    batch_size : int or "auto"
        The most rows that a step of the minibatch loop reads, from 1 to N. "auto" reads all of up
        to 4,096 rows in every step, and of up to 20,000 if N K D is below 262,144. Of more it fits
        a sample of some thousands, each standing for many, and then goes over all rows in some
        fifteen accelerated passes, and twelve more or some dozens that are averaged.
    seed : int
        The same seed, machine and versions give the same result.
    progress : bool, optional
        Whether to show a line of progress; by default only on a terminal.
    execution : {"xla", "graph", "eager"}
        How the loop runs. All three follow the same path to float tolerance; "eager" is for
        looking into it with a debugger.
    init : array-like [K, D], optional
        Means to start from, in the units of X; components keep their order. Without it,
        k-means++ on a subsample; components are then in ascending order of the feature that tells
        them best apart.
    restarts : int, optional
        Number of starts, of which the one with the best elbo is kept; a later one ends where an
        earlier one has settled. By default 4, but 1 with `init` or a `batch_size` below N.
    max_steps : int
        Limit of steps of each start, for a fit that does not settle: whole epochs, 20 steps at
        least. Of passes over all rows a hundredth of that, or 200 if that is more.
    calibrate : bool
        Whether to recover the dependence between parameters that the mean-field surrogate lacks.
        Draws then come from the calibrated posterior; without it, from the surrogate. With more
        than 500 parameters, or very many rows, a cheaper form is used, and none beyond 3,000: see
        `posterior.calibration`.
    missing : {None, "sum_out"}
        What NaN in X means: an error, or a missing entry, which is summed out of the likelihood
        exactly, as though values were missing at random. `bgmm_jd.impute` fills them in.
    optimizer : {"natural", "adam"}
        The natural gradient of the surrogate, or Adam, which takes many more steps.

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
    X = as_rows(X, missing=check_missing(missing))
    weight = as_weights(sample_weight, len(X), X.dtype)
    N, D = len(X) if weight is None else int(np.count_nonzero(weight)), X.shape[1]
    K = as_count(K, "K")
    check_rows(N, K, weight is not None)
    check_covariance(covariance)
    if prior is not None:
        covariance = check_prior(prior, K, D, covariance)
    plan = SearchPlan(
        batch_size=_check_batch_size(batch_size, N, K, D),
        restarts=_check_restarts(restarts, batch_size, N, init is not None),
        init=None if init is None else _check_init(init, K, D),
        max_steps=as_count(max_steps, "max_steps"),
        optimizer=_check_choice(optimizer, "optimizer", OPTIMIZERS),
        seed=as_seed(seed),
    )
    _check_choice(execution, "execution", EXECUTIONS)

    data = standardize(X, weight, common=covariance == "spherical")
    inside = problem_of(data, K, covariance, prior, execution)
    with reporter(progress) as report:
        found = find_optimum(inside, plan, report)
        inside = found.inside if plan.init is not None else with_separated_order(found.inside)
        report("calibrating ..." if calibrate else "estimating the elbo ...")
        inside, worth = assess(inside, found.best, plan, calibrate)
    trace = found.best.elbos - data.log_det_jacobian
    trace.setflags(write=False)
    posterior = Posterior(
        prior=prior or default_prior(K, D, covariance, X.dtype, data.standardization),
        K=K,
        D=D,
        covariance=covariance,
        missing=missing,
        elbo=worth.elbo - data.log_det_jacobian,
        elbo_se=worth.elbo_se,
        khat=worth.khat,
        elbo_trace=trace,
        status=worth.status,
        batch_size=found.batch_size,
        restarts=tuple(r._replace(elbo=r.elbo - data.log_det_jacobian) for r in found.restarts),
        inside=inside,
    )
    return with_verdict(posterior, found)


def _check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}; got {value!r}.")
    return value


def _check_batch_size(batch_size: Any, N: int, K: int, D: int) -> int | None:
    if isinstance(batch_size, str):
        if batch_size != "auto":
            raise ValueError(f"batch_size must be 'auto' or an integer; got {batch_size!r}.")
        most = subsample_size(K)
        if N * K * D <= FULL_BATCH_NUMBERS:
            most = max(most, FULL_BATCH_ROWS)
        return N if most >= N else None
    return as_count(batch_size, "batch_size", most=N)


def _check_restarts(restarts: Any, batch_size: Any, N: int, given: bool) -> int:
    if restarts is not None:
        return as_count(restarts, "restarts")
    return _RESTARTS if batch_size in ("auto", N) and not given else 1


def _check_init(init: Any, K: int, D: int) -> np.ndarray:
    means = as_rows(init, D, name="init")
    if len(means) != K:
        raise ValueError(f"init must have one row for each of K={K} components; got {len(means)}.")
    return means
