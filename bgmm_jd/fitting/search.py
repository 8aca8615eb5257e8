"""The search for the optimum: starts, restarts, and the second phase for many rows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.data import units
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.standardize import Data, standardize_values, subsample
from bgmm_jd.fitting.progress import Report
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.model.priors import default_prior
from bgmm_jd.optimization import full_data, initialization
from bgmm_jd.optimization.restarts import (
    RIVAL_NATS,
    Restart,
    compare_runs,
    component_means,
    matching_run,
)
from bgmm_jd.optimization.single_run import (
    RunProgress,
    RunResult,
    optimize,
    schedule,
    subsample_sd_ratio,
)
from bgmm_jd.optimization.status import Status
from bgmm_jd.optimization.svi import Schedule
from bgmm_jd.variational.approximation import Approximation
from bgmm_jd.variational.labels import (
    is_exchangeable,
    is_permutable,
    order_by_separation,
    order_preferred_by_prior,
    prior_distinguishes_components,
)
from bgmm_jd.variational.parameters import VariationalParameters, parameters_from_moments
from bgmm_jd.variational.structure import model_of

# Up to here (rows, and rows x components x features) a step on all rows costs about what a step on
# a few hundred costs, and has no noise from the choice of rows.
FULL_BATCH_ROWS = 20_000
FULL_BATCH_NUMBERS = 2**18
# More are fitted in a sample first, then in a few passes over all.
_SAMPLE_ROWS = 4_096
_SAMPLE_ROWS_OF_COMPONENT = 200
# The limit of passes: at least so many, and one for so many steps of `max_steps`.
_PASSES, _STEPS_OF_PASS = 200, 100
_FIRST_TRIALS = 8
# Clusters beyond those that seem needed, by turns, for starts under a stick-breaking prior: a fit
# empties some, but splits none.
_MORE_CLUSTERS = (0, 1)


class SearchPlan(NamedTuple):
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


class SearchResult(NamedTuple):
    """What the optimizer found: `inside` has the values of the best run."""

    inside: Approximation
    best: RunResult
    restarts: tuple[Restart, ...]
    batch_size: int


def find_optimum(
    inside: Approximation, plan: SearchPlan, report: Callable[[Report | str], None]
) -> SearchResult:
    """The best of several starts."""
    started = inside
    if plan.batch_size is None:
        most, rng = subsample_size(inside.model.K), np.random.default_rng(plan.seed)
        started = inside._replace(data=subsample(inside.data, most, rng))
    N = started.data.shape[0]
    batches = equal_batches(N, plan.batch_size or N)
    runs = _run_all_starts(started, plan, schedule(started, batches, plan.optimizer), report)
    if plan.batch_size is None:
        runs = _continue_on_all_rows(inside, runs, subsample_sd_ratio(started), plan, report)
    best, restarts = compare_runs(inside.model, runs)
    return SearchResult(inside._replace(values=best.values), best, restarts, batches.size)


def _continue_on_all_rows(
    inside: Approximation,
    runs: list[RunResult],
    sd_ratio: float,
    plan: SearchPlan,
    report: Callable[[Report | str], None],
) -> list[RunResult]:
    """Runs of a sample of the rows, brought to the optima of all.

    The best, and with it those that came to the same; of the others those that the evidence of
    the sample does not rule out. What it rules out has settled on the sample only.
    """
    lead, ends = compare_runs(inside.model, runs, sd_ratio)
    rows, seed = inside.data.log_det_jacobian, stateless_seed(plan.seed, "passes")

    def tell(stand: RunProgress) -> None:
        report(Report(stand.steps, plan.max_steps, stand.elbo - rows, stand.drift, 1, 1))

    def polished(start: RunResult) -> RunResult:
        begin = inside._replace(values=start.values)
        most = max(_PASSES, plan.max_steps // _STEPS_OF_PASS)
        return full_data.optimize_full_data(begin, seed, tell, start.elbos, most)

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
        elif start.status is whole.status is Status.CONVERGED and behind < RIVAL_NATS * sd_ratio**2:
            found.append(polished(start))
        else:
            given_up = Status.STEP_LIMIT if start.status is Status.CONVERGED else start.status
            found.append(start._replace(elbo=whole.elbo - behind, status=given_up))
    return found


def subsample_size(K: int) -> int:
    """Return the number of rows that the first phase of a fit of many rows reads."""
    return max(_SAMPLE_ROWS, K * _SAMPLE_ROWS_OF_COMPONENT)


def problem_of(
    data: Data,
    K: int,
    covariance: str,
    prior: tfd.JointDistributionCoroutine | None,
    execution: str,
) -> Approximation:
    """The model inside, without values yet."""
    D, dtype = data.shape[1], data.dtype
    # The default prior is a constant in internal units: one program serves all data of a shape.
    prior_units = units.identity_standardization(D) if prior is None else data.standardization
    model_prior = prior or default_prior(K, D, covariance, dtype)
    model = model_of(model_prior, covariance)
    return Approximation(model, prior_units, data, execution, values={}, order=np.arange(K))


def start_at(
    inside: Approximation, init: np.ndarray | None, trials: int, seed: list[int]
) -> Approximation:
    """The same with the values of one start, whose number is the last of the seed."""
    model, data = inside.model, inside.data
    centres = None if init is None else standardize_values(init, data.standardization)
    rng = np.random.default_rng(seed)
    if centres is None and model.is_stick_breaking:
        more = _MORE_CLUSTERS[seed[-1] % len(_MORE_CLUSTERS)]
        clusters = initialization.cluster_as_needed(data.rows, model.K, model.covariance, rng, more)
    else:
        clusters = initialization.cluster_rows(data.rows, model.K, rng, centres, trials)
    moments = prior_moments(model.prior) | initialization.moments_from_clusters(
        clusters, model.covariance
    )
    if centres is None and prior_distinguishes_components(model):
        moments = _in_preferred_order(inside, moments)
    values = parameters_from_moments(model.sites, moments, inside.standardization, data.dtype)
    return inside._replace(values=values)


def _in_preferred_order(
    inside: Approximation, moments: dict[str, initialization.MeanAndSd]
) -> dict[str, initialization.MeanAndSd]:
    """The same with the components in the places where the prior has them."""
    model, dtype = inside.model, inside.data.dtype
    centre = {name: np.asarray(mean, dtype) for name, (mean, _) in moments.items()}
    order = order_preferred_by_prior(model, centre, inside.standardization)
    moving = {site.name for site in model.sites if site.has_component_axis}
    return {
        name: (mean[order], sd[order]) if name in moving else (mean, sd)
        for name, (mean, sd) in moments.items()
    }


def _run_all_starts(
    inside: Approximation,
    plan: SearchPlan,
    blocks: Schedule,
    report: Callable[[Report | str], None],
) -> list[RunResult]:
    """One run for each start; Ctrl-C ends the one it meets, and the others do not begin."""
    rows = inside.data.log_det_jacobian
    runs: list[RunResult] = []

    def known(values: VariationalParameters) -> RunResult | None:
        return matching_run(inside.model, runs, values, subsample_sd_ratio(inside))

    for start in range(plan.restarts):
        # The first start is the best of several seedings, the others are to differ from it.
        trials = _FIRST_TRIALS if start == 0 else 1

        def tell(stand: RunProgress, start: int = start) -> None:
            elbo = stand.elbo - rows
            share = (stand.steps, plan.max_steps)
            report(Report(*share, elbo, stand.drift, start + 1, plan.restarts))

        begin = start_at(inside, plan.init, trials, [plan.seed, start])
        draw_seed = fold_in(stateless_seed(plan.seed), start)
        runs.append(optimize(begin, blocks, draw_seed, plan.max_steps, tell, known))
        if runs[-1].status is Status.INTERRUPTED:
            break
    return runs


def with_separated_order(inside: Approximation) -> Approximation:
    """The same with its components in the order of `labels.separated`, where that is free.

    A prior that tells its components apart has given them their order.
    """
    sites = inside.model.sites
    if not (is_permutable(sites) and is_exchangeable(inside.model)):
        return inside
    means, _ = component_means(sites, inside.values)
    return inside._replace(order=order_by_separation(means))
