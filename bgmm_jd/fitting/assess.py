"""Assessment of the fitted surrogate: elbo, calibration, all modes, log evidence and k-hat."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration.calibrate import with_calibration, with_refined_calibration
from bgmm_jd.calibration.importance_sampling import surrogate_khat
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.fitting.progress import Progress, Reporter
from bgmm_jd.fitting.search import SearchPlan, SearchResult
from bgmm_jd.optimization.full_data import full_data_elbo
from bgmm_jd.optimization.restarts import Optimum
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.sampling.annealed_posterior import draw_annealed, may_anneal
from bgmm_jd.sampling.chain_posterior import accurate_density, are_affordable, draw_chains
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import OUT_OF_REACH, Evidence, log_labellings_of_surrogate
from bgmm_jd.sampling.population import draw_population
from bgmm_jd.sampling.whole_posterior import (
    Attempt,
    WholePosterior,
    attempt_plainly,
    find_whole_posterior,
    may_adapt,
)
from bgmm_jd.variational.approximation import (
    Approximation,
    Draws,
    Problem,
    Region,
    draw_mean_field,
)
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.parameters import VariationalParameters

_ERRORS = 3.0  # standard errors by which an estimate and a bound may be wrong


@dataclass(kw_only=True)
class Assessment:
    """What is known of a fit, in standardised units; NaN where a number is not known.

    elbo, elbo_se : the evidence lower bound and its standard error.
    evidence : by importance weights, or by bridge sampling with chains.
    bound : a lower bound of the log evidence, by the surrogate, less three standard errors; it is
        only looked at where draws are not those of a proposal.
    khat : of the best proposal.
    status : Status
    modes : tuple of Mode
    whole : what draws from the whole posterior; None where it is out of reach.
    seconds : what each part took.
    """

    elbo: float
    status: Status
    elbo_se: float = np.nan
    evidence: Evidence = OUT_OF_REACH
    bound: float = -np.inf
    khat: float = np.nan
    modes: tuple[Mode, ...] = ()
    whole: WholePosterior | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note the seconds that a part takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begun


def assess(
    approximation: Approximation,
    found: SearchResult,
    plan: SearchPlan,
    finish: str | None,
    report: Reporter,
) -> tuple[Approximation, Assessment]:
    """Estimate the elbo of the fitted surrogate, calibrate it, and find the whole posterior.

    Ctrl-C keeps what is known by then.

    Parameters
    ----------
    finish : {"auto", "hmc", "none", None}
        "auto" finds the whole posterior, "hmc" by Markov chains in any case, "none" only
        calibrates, and None does not calibrate.
    """
    best = found.best
    known = Assessment(elbo=best.elbo, status=best.status, modes=_modes_of(found.optima))
    try:
        report(Progress(phase="elbo"))
        draws = draw_mean_field(
            approximation.problem, approximation.params, _elbo_draws(approximation), plan.seed
        )
        known.elbo, known.elbo_se = elbo_of_surrogate(approximation, draws, plan)
        if not np.isfinite(known.elbo) or _mostly_out_of_range(draws):
            known.status = Status.DIVERGED
        if known.status is Status.DIVERGED:
            return approximation, known
        if finish is None:
            known.khat = surrogate_khat(approximation, draws, plan.seed)
            return approximation, known
        report(Progress(phase="calibration"))
        near = _near_optima(approximation.problem, found)
        with known.timed("calibration"):
            approximation = with_calibration(approximation, plan.seed)
        attempt = None
        if finish == "auto" and len(near) == 1:
            with known.timed("whole posterior"):
                attempt = attempt_plainly(approximation, plan.seed)
        if attempt is not None and attempt.posterior is not None:
            return _adopted(approximation, attempt.posterior, near, known), known
        with known.timed("calibration"):
            approximation, known.khat = with_refined_calibration(approximation, draws, plan.seed)
        if finish == "none":
            return approximation, known
        report(Progress(phase="whole posterior"))
        with known.timed("whole posterior"):
            approximation = _with_whole_posterior(approximation, near, known, plan.seed, attempt)
        if finish == "hmc" or _needs_chains(approximation.problem, known, len(near)):
            report(Progress(phase="chains"))
            with known.timed("chains"):
                known.bound = _evidence_bound(approximation, known, draws)
                approximation = _with_chains(
                    approximation, near, known, plan.seed, is_asked=finish == "hmc"
                )
    except KeyboardInterrupt:
        known.status = Status.INTERRUPTED
    return approximation, known


def _mostly_out_of_range(draws: Draws) -> bool:
    """Return whether most draws have coordinates that are not finite, as that of a precision of 0.

    A few may under a sparse prior, whose weights can be too small for the dtype.
    """
    return bool(np.isfinite(draws.points).all(axis=1).mean() < 0.5)


def _modes_of(optima: Sequence[Optimum]) -> tuple[Mode, ...]:
    """Return the optima as modes of which no more is known."""
    return tuple(Mode(np.nan, np.nan, one.elbo, np.nan, one.starts) for one in optima)


def _near_optima(problem: Problem, found: SearchResult) -> list[Optimum]:
    """Return the optima that may have a share in the posterior, the best first."""
    nats = problem.settings.proposal.mode_nats
    if not may_adapt(problem):  # only optima that would make the draws wrong count
        nats = problem.settings.optimization.rival_nats
    near = [one for one in found.optima if found.best.elbo - one.elbo < nats]
    if found.best.status is not Status.CONVERGED:  # the best run is not among the optima
        near.insert(0, Optimum(found.best.params, found.best.elbo, 0))
    return near


def _with_whole_posterior(
    approximation: Approximation,
    near: list[Optimum],
    known: Assessment,
    seed: int,
    attempt: Attempt | None,
) -> Approximation:
    """Return the approximation with a proposal for all modes, where that is within reach."""
    rivals = [one.params for one in near[1:]]
    whole = find_whole_posterior(approximation, rivals, known.khat, seed, attempt)
    return approximation if whole is None else _adopted(approximation, whole, near, known)


def _needs_chains(problem: Problem, known: Assessment, optima: int) -> bool:
    """Return whether draws are of one of several optima, or weights poor, and chains affordable.

    Weights with a k-hat between `above_khat` and 0.7 are reliable (Vehtari et al. 2024), and poor
    only if too few draws are effective.
    """
    if not are_affordable(problem):
        return False
    if optima > 1 and (known.whole is None or not known.whole.has_shares):
        return True
    if known.khat <= problem.settings.chains.above_khat:
        return False
    proposal = None if known.whole is None else known.whole.proposal
    most_per_draw = problem.settings.proposal.most_per_draw
    is_efficient = proposal is not None and proposal.efficiency * most_per_draw >= 1.0
    return known.khat > KHAT_LIMIT or not is_efficient


def _with_chains(
    approximation: Approximation,
    near: list[Optimum],
    known: Assessment,
    seed: int,
    is_asked: bool,
) -> Approximation:
    """Return the approximation with draws of Markov chains, where these are better or asked for.

    Independent groups of draws are moved first, which can tell how probable each mode is. Groups
    that disagree, and tell an evidence all the same, take the place of chains that have not mixed.
    """
    problem, rivals = approximation.problem, [one.params for one in near[1:]]
    unsound: WholePosterior | None = None
    if not is_asked:
        for groups in _moved_groups(approximation, rivals, known, seed):
            if groups is None or _misses_the_optimum(groups, known):
                continue
            if _is_sound(groups, known, problem):
                return _adopted(approximation, groups, near, known)
            unsound = groups
    whole = draw_chains(approximation, rivals, known.whole, known.khat, seed)
    if unsound is not None and not (whole is not None and _has_mixed(whole, problem)):
        whole = unsound
    if whole is None or not (is_asked or _is_better(whole, known, problem)):
        return approximation
    return _adopted(approximation, whole, near, known)


def _moved_groups(
    approximation: Approximation,
    rivals: list[VariationalParameters],
    known: Assessment,
    seed: int,
) -> Iterator[WholePosterior | None]:
    """Yield draws of a proposal for all modes that are moved, and then particles from the prior.

    Each where it is within reach.
    """
    target, whole = accurate_density(approximation), known.whole
    if whole is not None and whole.proposal is not None:
        yield draw_population(target, whole, whole.proposal.mixture, seed)
    if may_anneal(approximation.problem):
        yield draw_annealed(target, approximation, rivals, known.khat, seed)


def _misses_the_optimum(groups: WholePosterior, known: Assessment) -> bool:
    """Return whether the evidence of groups is below a lower bound of it, or not known.

    They may agree on a part of the posterior without the narrow mode at which the surrogate is.
    """
    evidence = groups.evidence
    return not evidence.log + _ERRORS * evidence.se >= known.bound


def _evidence_bound(approximation: Approximation, known: Assessment, draws: Draws) -> float:
    """Return a lower bound of the log evidence, all labellings counted, less its error."""
    added = log_labellings_of_surrogate(approximation.problem, approximation.params, draws)
    return known.elbo + added - _ERRORS * known.elbo_se


def _is_better(whole: WholePosterior, known: Assessment, problem: Problem) -> bool:
    """Return whether draws of chains are better than what importance weights have made."""
    return known.khat > KHAT_LIMIT or _is_sound(whole, known, problem)


def _is_sound(whole: WholePosterior, known: Assessment, problem: Problem) -> bool:
    """Return whether chains have mixed, and tell the evidence where it was known without them."""
    has_evidence = bool(np.isfinite(whole.evidence.log))
    return _has_mixed(whole, problem) and (known.whole is None or has_evidence)


def _has_mixed(whole: WholePosterior, problem: Problem) -> bool:
    """Return whether there are chains, or groups compared as chains are, and they have mixed."""
    mixing = None if whole.bank is None else whole.bank.mixing
    return mixing is not None and is_sound(mixing, problem.settings.chains)


def _adopted(
    approximation: Approximation, whole: WholePosterior, near: list[Optimum], known: Assessment
) -> Approximation:
    """Return the approximation with what draws from all modes, and note what is known of it."""
    known.whole, known.khat = whole, whole.khat
    known.evidence = whole.evidence
    known.modes = _ranked_modes(near, whole) if whole.has_shares else _modes_of(near)
    return replace(approximation, proposal=whole.proposal, bank=whole.bank)


def _ranked_modes(optima: list[Optimum], whole: WholePosterior) -> tuple[Mode, ...]:
    """Return the modes with their shares of the posterior, the largest first."""
    modes = []
    for number, one in enumerate(optima):
        share = float(whole.shares[number])
        log_share = -np.inf if share == 0.0 else np.log(share)
        evidence = float(whole.evidence.log + log_share)
        region = Region(whole.centres, number, share)
        modes.append(
            Mode(share, evidence, one.elbo, float(whole.khats[number]), one.starts, region)
        )
    return tuple(sorted(modes, key=lambda mode: -mode.share))


def _elbo_draws(approximation: Approximation) -> int:
    N, D = approximation.problem.data.shape
    settings = approximation.problem.settings.assessment
    wanted = settings.elbo_numbers // (N * D)
    return int(np.clip(wanted, settings.fewest_elbo_draws, settings.most_elbo_draws))


def elbo_of_surrogate(
    approximation: Approximation, draws: Draws, plan: SearchPlan
) -> tuple[float, float]:
    """Estimate the elbo anew, and return it with its standard error; in standardised units.

    Parameters
    ----------
    draws : of the surrogate. Many rows are read in passes instead, which have their own draws.
    """
    problem = approximation.problem
    if plan.batch_size is None:
        return full_data_elbo(problem, approximation.params, stateless_seed(plan.seed, "elbo"))
    log_ratio = log_joint_of_draws(problem, draws) - draws.log_q.numpy()
    with np.errstate(all="ignore"):  # of what is not finite, or too large to be added up
        elbo = float(log_ratio.mean())
    if not np.isfinite(elbo):  # the status will be DIVERGED
        return elbo, np.nan
    return elbo, float(log_ratio.std(ddof=1) / len(log_ratio) ** 0.5)
