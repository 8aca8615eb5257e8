"""The verdict: the evidence for and against a fit, combined into one status."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bgmm_jd.backend.process_state import CALLER
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.fitting.search import SearchResult
from bgmm_jd.model.prior_summaries import smallest_weight
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status, StatusWarning
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import expected_counts
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.settings import Settings
from bgmm_jd.variational.approximation import Mixing, sample_mean_field


def with_verdict(
    posterior: Posterior,
    found: SearchResult,
    whole: WholePosterior | None,
    is_interrupted: Callable[[], bool],
) -> Posterior:
    """Return the posterior with its verdict, and warn if that is not a good one.

    Parameters
    ----------
    whole : what the draws come from, if they come from all modes.
    is_interrupted : tells whether Ctrl-C was pressed since the draws were made.
    """
    converged = posterior.status is Status.CONVERGED
    is_asked = converged and whole is None  # draws of the whole posterior are right of it
    smallest = smallest_expected_count(posterior) if is_asked else np.inf
    status = decide_status(
        posterior.status,
        found.best.elbo,
        found.restarts,
        found.searches,
        posterior.khat,
        smallest,
        posterior.settings,
        tuple(whole.shares) if whole is not None and whole.has_shares else None,
        whole is not None and whole.is_scouted,
        posterior.mixing,
    )
    if is_interrupted():
        status = Status.INTERRUPTED
    if not status.good:
        warnings.warn(str(status), StatusWarning, stacklevel=CALLER + 1)
    return replace(posterior, status=status)


def smallest_expected_count(posterior: Posterior) -> float:
    """Return the expected number of rows of the smallest component.

    Of many rows, or those of a source, by its weight. Infinite under a prior that allows empty
    components, as a sparse or a stick-breaking one does.
    """
    problem, params = posterior.problem, posterior.approximation.params
    settings, total = posterior.settings.assessment, problem.data.total_weight
    allows_empty = smallest_weight(problem.model.prior) * total < settings.empty_by_prior
    if allows_empty or problem.model.is_stick_breaking:
        return np.inf
    most = posterior.settings.optimization.full_batch_rows
    if not problem.data.has_rows or problem.data.shape[0] > most:
        theta, _ = sample_mean_field(problem, params, settings.weight_draws, seed=0)
        return total * float(np.mean(theta["weights"], axis=0).min())
    theta, _ = sample_mean_field(problem, params, settings.count_draws, seed=0)
    return float(expected_counts(posterior, theta).min())


def decide_status(
    status: Status,
    best_elbo: float,
    restarts: tuple[Restart, ...],
    searches: int,
    khat: float,
    smallest_count: float,
    settings: Settings,
    shares: tuple[float, ...] | None = None,
    is_scouted: bool = False,
    mixing: Mixing | None = None,
) -> Status:
    """Return the most serious finding about a fit.

    Parameters
    ----------
    status : how optimisation and calibration ended.
    best_elbo, restarts : in the same units.
    searches : number of independent searches for starts.
    khat : NaN where it is not known.
    smallest_count : expected number of rows of the smallest component; infinite where it does not
        matter.
    shares : of the modes, where the draws come from all of them.
    is_scouted : whether a scout has looked for modes that no start found.
    mixing : of Markov chains, where these made the draws; k-hat then says nothing of them.
    """
    limits = settings.assessment
    if any(restart.status is Status.INTERRUPTED for restart in restarts):
        return Status.INTERRUPTED
    if status is not Status.CONVERGED:
        return status
    if mixing is not None and not is_sound(mixing, settings.chains):
        return Status.CHAINS_NOT_MIXED
    if mixing is None and khat > KHAT_LIMIT:
        return Status.KHAT_TOO_HIGH
    rival_nats = settings.optimization.rival_nats
    if shares is None and any(_is_rival(r, best_elbo, rival_nats) for r in restarts):
        return Status.ONE_OF_SEVERAL_MODES
    if smallest_count < limits.fewest_rows:
        return Status.COMPONENT_EMPTY
    if shares is not None and sum(share >= limits.least_share for share in shares) > 1:
        return Status.SEVERAL_MODES
    found_once = sum(r.starts for r in restarts if r.agrees) == 1
    if searches >= limits.fewest_searches and found_once and not is_scouted:
        return Status.RESTARTS_DISAGREE
    return Status.CONVERGED


def _is_rival(restart: Restart, best_elbo: float, rival_nats: float) -> bool:
    """Return whether a restart converged to another solution of similar evidence."""
    is_other = restart.status is Status.CONVERGED and not restart.agrees
    return is_other and best_elbo - restart.elbo < rival_nats
