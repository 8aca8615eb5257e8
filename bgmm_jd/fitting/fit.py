"""`fit`: from rows to a posterior. The door, the wiring, the verdict."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.execution import EXECUTIONS
from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.calibration.calibrate import with_calibration
from bgmm_jd.calibration.importance_sampling import khat_of_surrogate
from bgmm_jd.data import units
from bgmm_jd.data.standardize import (
    Data,
    as_count,
    as_rows,
    as_seed,
    as_weights,
    centre_and_scale,
    check_missing,
    check_rows,
    cut_batches,
    sample,
    to_units,
)
from bgmm_jd.fitting.progress import Report, reporter
from bgmm_jd.fitting.verdict import RIVAL, verdict
from bgmm_jd.model.covariance_forms import check_covariance
from bgmm_jd.model.priors import check_prior, default_prior, prior_moments, smallest_weight
from bgmm_jd.optimization import full_data, initialization
from bgmm_jd.optimization.restarts import Restart, compare, component_means, met
from bgmm_jd.optimization.single_run import Run, Stand, coarseness, run, schedule
from bgmm_jd.optimization.status import Status
from bgmm_jd.optimization.svi import OPTIMIZERS, Schedule
from bgmm_jd.posterior.posterior import Posterior, expected_counts
from bgmm_jd.variational.approximation import Draws, Inside, log_joint_of, mean_field
from bgmm_jd.variational.labels import (
    are_told_apart,
    can_arrange,
    is_exchangeable,
    preferred,
    separated,
)
from bgmm_jd.variational.log_joint import model_of
from bgmm_jd.variational.surrogate import Values, start_values

# Up to here (rows, and rows x components x features) a step on all rows costs about what a step on
# a few hundred costs, and has no noise from the choice of rows.
_FULL_BATCH_ROWS = 20_000
_FULL_BATCH_NUMBERS = 2**18
# More are fitted in a sample first, then in a few passes over all.
_SAMPLE_ROWS = 4_096
_SAMPLE_ROWS_OF_COMPONENT = 200
# The limit of passes: at least so many, and one for so many steps of `max_steps`.
_PASSES, _STEPS_OF_PASS = 200, 100
_RESTARTS = 4
_FIRST_TRIALS = 8
# Clusters beyond those that seem needed, by turns, for starts under a stick-breaking prior: a fit
# empties some, but splits none.
_MORE_CLUSTERS = (0, 1)
_EMPTIEST_DRAWS, _WEIGHT_DRAWS = 16, 500
_EMPTY_BY_PRIOR = 0.05  # rows: a twentieth of what an occupied component has at least
_ELBO_BUDGET = 2**23  # draws x rows x features
_FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS = 32, 500


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
    plan = Plan(
        batch_size=_check_batch_size(batch_size, N, K, D),
        restarts=_check_restarts(restarts, batch_size, N, init is not None),
        init=None if init is None else _check_init(init, K, D),
        max_steps=as_count(max_steps, "max_steps"),
        optimizer=_check_choice(optimizer, "optimizer", OPTIMIZERS),
        seed=as_seed(seed),
    )
    _check_choice(execution, "execution", EXECUTIONS)

    data = centre_and_scale(X, weight, common=covariance == "spherical")
    inside = _prepare(data, K, covariance, prior, execution)
    with reporter(progress) as report:
        found = _optimum(inside, plan, report)
        inside = found.inside if plan.init is not None else _ordered(found.inside)
        report("calibrating ..." if calibrate else "estimating the elbo ...")
        inside, worth = _worth(inside, found.best, plan, calibrate)
    trace = found.best.elbos - data.log_volume
    trace.setflags(write=False)
    posterior = Posterior(
        prior=prior or default_prior(K, D, covariance, X.dtype, data.units),
        K=K,
        D=D,
        covariance=covariance,
        missing=missing,
        elbo=worth.elbo - data.log_volume,
        elbo_se=worth.elbo_se,
        khat=worth.khat,
        elbo_trace=trace,
        status=worth.status,
        batch_size=found.batch_size,
        restarts=tuple(r._replace(elbo=r.elbo - data.log_volume) for r in found.restarts),
        inside=inside,
    )
    return _judged(posterior, found)


class Plan(NamedTuple):
    """How to look for the optimum.

    batch_size : rows of a step; None to fit a sample of the rows, and then all in a few passes.
    init : means to start from, or None.
    """

    batch_size: int | None
    restarts: int
    init: np.ndarray | None
    max_steps: int
    optimizer: str
    seed: int


class Found(NamedTuple):
    """What the optimizer found: `inside` has the values of the best run."""

    inside: Inside
    best: Run
    restarts: tuple[Restart, ...]
    batch_size: int


def _optimum(inside: Inside, plan: Plan, report: Callable[[Report | str], None]) -> Found:
    """The best of several starts."""
    started = inside
    if plan.batch_size is None:
        most, rng = _sample_rows(inside.model.components), np.random.default_rng(plan.seed)
        started = inside._replace(data=sample(inside.data, most, rng))
    N = started.data.shape[0]
    batches = cut_batches(N, plan.batch_size or N)
    runs = _runs(started, plan, schedule(started, batches, plan.optimizer), report)
    if plan.batch_size is None:
        runs = _on_all_rows(inside, runs, coarseness(started), plan, report)
    best, restarts = compare(inside.model, runs)
    return Found(inside._replace(values=best.values), best, restarts, batches.size)


def _on_all_rows(
    inside: Inside,
    runs: list[Run],
    coarse: float,
    plan: Plan,
    report: Callable[[Report | str], None],
) -> list[Run]:
    """Runs of a sample of the rows, brought to the optima of all.

    The best, and with it those that came to the same; of the others those that the evidence of
    the sample does not rule out. What it rules out has settled on the sample only.
    """
    lead, ends = compare(inside.model, runs, coarse)
    rows, seed = inside.data.log_volume, stateless_seed(plan.seed, "passes")

    def tell(stand: Stand) -> None:
        report(Report(stand.steps, plan.max_steps, stand.elbo - rows, stand.drift, 1, 1))

    def polished(start: Run) -> Run:
        begin = inside._replace(values=start.values)
        most = max(_PASSES, plan.max_steps // _STEPS_OF_PASS)
        return full_data.polish(begin, seed, tell, start.elbos, most)

    if lead.status not in (Status.CONVERGED, Status.STEP_LIMIT):
        return runs
    whole = polished(lead)
    found = []
    for start, end in zip(runs, ends, strict=True):
        behind = lead.elbo - start.elbo
        if start is lead:
            found.append(whole)
        elif end.agrees and start.status is not Status.INTERRUPTED:
            found.append(whole._replace(elbos=start.elbos, joined=True))
        elif start.status is whole.status is Status.CONVERGED and behind < RIVAL * coarse**2:
            found.append(polished(start))
        else:
            given_up = Status.STEP_LIMIT if start.status is Status.CONVERGED else start.status
            found.append(start._replace(elbo=whole.elbo - behind, status=given_up))
    return found


def _judged(posterior: Posterior, found: Found) -> Posterior:
    """The same with its verdict, and a warning if that is not a good one."""
    emptiest = _emptiest(posterior) if posterior.status is Status.CONVERGED else np.inf
    status = verdict(posterior.status, found.best, found.restarts, posterior.khat, emptiest)
    posterior = replace(posterior, status=status)
    if not posterior.status.good:
        warnings.warn(str(posterior.status), RuntimeWarning, stacklevel=3)
    return posterior


def _check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}; got {value!r}.")
    return value


def _check_batch_size(batch_size: Any, N: int, K: int, D: int) -> int | None:
    if isinstance(batch_size, str):
        if batch_size != "auto":
            raise ValueError(f"batch_size must be 'auto' or an integer; got {batch_size!r}.")
        most = _sample_rows(K)
        if N * K * D <= _FULL_BATCH_NUMBERS:
            most = max(most, _FULL_BATCH_ROWS)
        return N if most >= N else None
    return as_count(batch_size, "batch_size", most=N)


def _sample_rows(K: int) -> int:
    return max(_SAMPLE_ROWS, K * _SAMPLE_ROWS_OF_COMPONENT)


def _check_restarts(restarts: Any, batch_size: Any, N: int, given: bool) -> int:
    if restarts is not None:
        return as_count(restarts, "restarts")
    return _RESTARTS if batch_size in ("auto", N) and not given else 1


def _check_init(init: Any, K: int, D: int) -> np.ndarray:
    means = as_rows(init, D, name="init")
    if len(means) != K:
        raise ValueError(f"init must have one row for each of K={K} components; got {len(means)}.")
    return means


def _prepare(
    data: Data,
    K: int,
    covariance: str,
    prior: tfd.JointDistributionCoroutine | None,
    execution: str,
) -> Inside:
    """The model inside, without values yet."""
    D, dtype = data.shape[1], data.dtype
    # The default prior is a constant in internal units: one program serves all data of a shape.
    prior_units = units.unit(D) if prior is None else data.units
    model_prior = prior or default_prior(K, D, covariance, dtype)
    model = model_of(model_prior, covariance)
    return Inside(model, prior_units, data, execution, values={}, order=np.arange(K))


def _start(inside: Inside, init: np.ndarray | None, trials: int, seed: list[int]) -> Inside:
    """The same with the values of one start, whose number is the last of the seed."""
    model, data = inside.model, inside.data
    centres = None if init is None else to_units(init, data.units)
    rng = np.random.default_rng(seed)
    if centres is None and model.breaks_sticks:
        more = _MORE_CLUSTERS[seed[-1] % len(_MORE_CLUSTERS)]
        clusters = initialization.cluster_as_needed(
            data.rows, model.components, model.covariance, rng, more
        )
    else:
        clusters = initialization.cluster(data.rows, model.components, rng, centres, trials)
    moments = prior_moments(model.prior) | initialization.moments(clusters, model.covariance)
    if centres is None and are_told_apart(model):
        moments = _as_preferred(inside, moments)
    values = start_values(model.sites, moments, inside.tensor_units, data.dtype)
    return inside._replace(values=values)


def _as_preferred(
    inside: Inside, moments: dict[str, initialization.Moments]
) -> dict[str, initialization.Moments]:
    """The same with the components in the places where the prior has them."""
    model, dtype = inside.model, inside.data.dtype
    centre = {name: np.asarray(mean, dtype) for name, (mean, _) in moments.items()}
    order = preferred(model, centre, inside.tensor_units)
    moving = {site.name for site in model.sites if site.by_component}
    return {
        name: (mean[order], sd[order]) if name in moving else (mean, sd)
        for name, (mean, sd) in moments.items()
    }


def _runs(
    inside: Inside, plan: Plan, blocks: Schedule, report: Callable[[Report | str], None]
) -> list[Run]:
    """One run for each start; Ctrl-C ends the one it meets, and the others do not begin."""
    rows = inside.data.log_volume
    runs: list[Run] = []

    def known(values: Values) -> Run | None:
        return met(inside.model, runs, values, coarseness(inside))

    for start in range(plan.restarts):
        # The first start is the best of several seedings, the others are to differ from it.
        trials = _FIRST_TRIALS if start == 0 else 1

        def tell(stand: Stand, start: int = start) -> None:
            elbo = stand.elbo - rows
            share = (stand.steps, plan.max_steps)
            report(Report(*share, elbo, stand.drift, start + 1, plan.restarts))

        begin = _start(inside, plan.init, trials, [plan.seed, start])
        draw_seed = fold_in(stateless_seed(plan.seed), start)
        runs.append(run(begin, blocks, draw_seed, plan.max_steps, tell, known))
        if runs[-1].status is Status.INTERRUPTED:
            break
    return runs


def _ordered(inside: Inside) -> Inside:
    """The same with its components in the order of `labels.separated`, where that is free.

    A prior that tells its components apart has given them their order.
    """
    sites = inside.model.sites
    if not (can_arrange(sites) and is_exchangeable(inside.model)):
        return inside
    means, _ = component_means(sites, inside.values)
    return inside._replace(order=separated(means))


class Worth(NamedTuple):
    """What the found surrogate is worth, in internal units; NaN where that is not known."""

    elbo: float
    elbo_se: float
    khat: float
    status: Status


def _worth(inside: Inside, best: Run, plan: Plan, calibrate: bool) -> tuple[Inside, Worth]:
    """What to draw from, and what that is worth; Ctrl-C keeps what is known by then."""
    worth = Worth(best.elbo, np.nan, np.nan, best.status)
    try:
        N, D = inside.data.shape
        draws = mean_field(inside, _elbo_draws(N, D), plan.seed)
        elbo, elbo_se = _elbo(inside, draws, plan)
        worth = worth._replace(elbo=elbo, elbo_se=elbo_se)
        if not np.isfinite(elbo):
            worth = worth._replace(status=Status.DIVERGED)
        if worth.status is Status.DIVERGED:
            return inside, worth
        if calibrate:
            inside, khat = with_calibration(inside, draws, plan.seed)
        else:
            khat = khat_of_surrogate(inside, draws, plan.seed)
        return inside, worth._replace(khat=khat)
    except KeyboardInterrupt:
        return inside, worth._replace(status=Status.INTERRUPTED)


def _emptiest(posterior: Posterior) -> float:
    """Expected number of rows of the smallest component; of very many rows, by its weight.

    Infinite under a prior that leaves components empty, as a sparse or a stick-breaking one does.
    """
    data = posterior.inside.data
    sparse = smallest_weight(posterior.inside.model.prior) * data.total < _EMPTY_BY_PRIOR
    if sparse or posterior.inside.model.breaks_sticks:
        return np.inf
    if data.shape[0] > _FULL_BATCH_ROWS:
        weights = mean_field(posterior.inside, _WEIGHT_DRAWS, seed=0).theta["weights"]
        return data.total * float(np.mean(weights, axis=0).min())
    few = mean_field(posterior.inside, _EMPTIEST_DRAWS, seed=0).theta
    return float(expected_counts(posterior, few).min())


def _elbo_draws(N: int, D: int) -> int:
    return int(np.clip(_ELBO_BUDGET // (N * D), _FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS))


def _elbo(inside: Inside, draws: Draws, plan: Plan) -> tuple[float, float]:
    """The elbo of the surrogate estimated anew, and its standard error; in internal units."""
    if plan.batch_size is None:
        return full_data.elbo(inside, stateless_seed(plan.seed, "elbo"))
    log_ratio = log_joint_of(inside, draws) - draws.log_q.numpy()
    return float(log_ratio.mean()), float(log_ratio.std(ddof=1) / len(log_ratio) ** 0.5)
