"""The whole posterior: a proposal that covers all modes, the log evidence and k-hat.

Where one optimum was found and the calibrated normal distribution fits it well, a single t
distribution of the same moments is the proposal. Otherwise it is a mixture, which begins with draws
at each optimum and with the particles of a scout, and is adapted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.sampling.evidence import Evidence, evidence_of_weights
from bgmm_jd.sampling.modes import draws_at_modes, shares_of_modes
from bgmm_jd.sampling.proposal import (
    Cloud,
    Weighted,
    adapt,
    degrees_of_freedom,
    joined,
    propose,
    refitted_to_draws,
)
from bgmm_jd.sampling.relabelling import (
    Labels,
    TooManyLabellings,
    align,
    centre_of,
    labels_of,
)
from bgmm_jd.sampling.scout import density_for_moves, is_affordable, scout
from bgmm_jd.sampling.student_mixture import single_member
from bgmm_jd.settings import ProposalSettings
from bgmm_jd.variational.approximation import (
    Approximation,
    Bank,
    Calibration,
    Centre,
    Problem,
    Proposal,
    StudentMixture,
)
from bgmm_jd.variational.coordinates import coordinate_layout
from bgmm_jd.variational.evaluation import affordable_draws
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.points import as_log_ratios
from bgmm_jd.variational.tempered import TemperedDensity


class WholePosterior(NamedTuple):
    """What makes draws of the whole posterior, and what is known of it.

    proposal : Proposal; None where there is a bank.
    evidence : in standardised units.
    khat : of the importance weights of the best proposal.
    centres : of the modes, in coordinates with log ratios.
    shares, khats [J] : of the modes.
    is_scouted : whether a scout has looked for modes that no start found.
    bank : Bank of draws that chains have made; None where draws are proposed.
    """

    proposal: Proposal | None
    evidence: Evidence
    khat: float
    centres: tuple[Centre, ...]
    shares: np.ndarray
    khats: np.ndarray
    is_scouted: bool
    bank: Bank | None = None

    @property
    def has_shares(self) -> bool:
        """Return whether the probability of each mode is known."""
        return bool(np.isfinite(self.shares).all())


# Draws at each mode, the labels, and the generator of random numbers that goes on from there.
_Begun = tuple[list[np.ndarray], Labels, np.random.Generator]


class Attempt(NamedTuple):
    """A first look at what one t distribution proposes.

    calibration : under which it was made.
    begun : draws at the mode, the labels, and the generator of random numbers.
    found : weighted draws of the t distribution.
    posterior : WholePosterior; None where the draws are not so good that no more is needed.
    """

    calibration: Calibration | None
    begun: _Begun
    found: Weighted
    posterior: WholePosterior | None


def find_whole_posterior(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    khat: float,
    seed: int,
    attempt: Attempt | None = None,
) -> WholePosterior | None:
    """Return a proposal for the whole posterior; None where that is out of reach.

    Parameters
    ----------
    approximation : calibrated, at the best optimum.
    rivals : parameters at the other optima that may have a share in the posterior.
    khat : of the calibrated normal distribution.
    seed : int
    attempt : Attempt, optional
        With these rivals, of which there are none, and this seed. It is gone on from if the
        calibration is still the same.
    """
    if attempt is not None and attempt.calibration is not approximation.calibration:
        attempt = None
    begun = _begin(approximation, rivals, seed) if attempt is None else attempt.begun
    if begun is None:
        return None
    problem, (modes, labels, rng) = approximation.problem, begun
    is_normal = _is_normal(approximation)
    try:
        first = None if attempt is None else attempt.found
        chosen = _plain_proposal(problem, modes, labels, khat, rng, first) if is_normal else None
        if chosen is None and may_adapt(problem):
            chosen = _adapted_proposal(density_for_moves(approximation), modes, labels, rng)
    except (TooManyLabellings, np.linalg.LinAlgError):  # or draws without a covariance matrix
        return None
    if chosen is None:
        return None
    if _has_empty_components(approximation) and chosen[1].khat > max(khat, KHAT_LIMIT):
        return None  # the mean field has their log weights, which no t distribution describes
    return _posterior_of(*chosen, modes, labels)


def attempt_plainly(approximation: Approximation, seed: int) -> Attempt | None:
    """Return what one t distribution proposes; None where it does not apply.

    Where half of its draws are effective, neither a better calibration nor a mixture would gain
    much.

    Parameters
    ----------
    approximation : calibrated, at the only optimum that may have a share in the posterior.
    seed : int
    """
    problem = approximation.problem
    if not _is_normal(approximation) or _is_small(problem):
        return None
    begun = _begin(approximation, (), seed)
    if begun is None:
        return None
    (modes, labels, rng), settings = begun, problem.settings.proposal
    try:
        mixture = _single_of(modes, labels, settings)
        found = propose(problem, mixture, labels, settings.draws, rng)
    except (TooManyLabellings, np.linalg.LinAlgError):
        return None
    is_good = found.khat < settings.khat and found.efficiency >= settings.plain_efficiency
    posterior = _posterior_of(mixture, found, False, modes, labels) if is_good else None
    return Attempt(approximation.calibration, begun, found, posterior)


def _single_of(
    modes: list[np.ndarray], labels: Labels, settings: ProposalSettings
) -> StudentMixture:
    """Return the t distribution with the moments of the draws at the first mode."""
    return single_member(modes[0], degrees_of_freedom(labels.layout.size, settings))


def _begin(
    approximation: Approximation, rivals: Sequence[VariationalParameters], seed: int
) -> _Begun | None:
    """Draw at each mode; None where the whole posterior is out of reach."""
    if not _is_within_reach(approximation):
        return None
    problem = approximation.problem
    labels, rng = labels_of(problem), np.random.default_rng([seed, 4])
    P, settings = labels.layout.size, problem.settings.proposal
    n = int(np.clip(10 * P**2, settings.mode_draws, settings.most_moment_draws))
    modes = draws_at_modes(approximation, rivals, labels, rng, n)
    if min(len(draws) for draws in modes) < settings.mode_draws / 2:
        return None  # most draws are out of the dtype's range
    return modes, labels, rng


def _posterior_of(
    mixture: StudentMixture,
    found: Weighted,
    is_scouted: bool,
    modes: list[np.ndarray],
    labels: Labels,
) -> WholePosterior:
    """Return what weighted draws of a mixture tell of the posterior."""
    centres = tuple(centre_of(draws) for draws in modes)
    return WholePosterior(
        Proposal(mixture, found.efficiency),
        evidence_of_weights(found.log_ratio, found.khat),
        found.khat,
        centres,
        *shares_of_modes(found, centres, labels),
        is_scouted,
    )


def _plain_proposal(
    problem: Problem,
    modes: list[np.ndarray],
    labels: Labels,
    khat: float,
    rng: np.random.Generator,
    first: Weighted | None,
) -> tuple[StudentMixture, Weighted, bool] | None:
    """Return a single t distribution, its weights and False; None where it may not be enough.

    Parameters
    ----------
    modes : draws at each mode.
    khat : of the calibrated normal distribution.
    first : draws of that t distribution that have been made.
    """
    settings = problem.settings.proposal
    is_doubtful = may_adapt(problem) and khat > settings.plain_khat
    if len(modes) > 1 or is_doubtful or _is_small(problem):
        return None
    mixture = _single_of(modes, labels, settings)
    limit = settings.khat if may_adapt(problem) else KHAT_LIMIT
    found = _final_weights(problem, mixture, labels, KHAT_LIMIT, rng, first)
    return (mixture, found, False) if found.khat < limit else None


def _adapted_proposal(
    posterior: TemperedDensity, modes: list[np.ndarray], labels: Labels, rng: np.random.Generator
) -> tuple[StudentMixture, Weighted, bool]:
    """Return a mixture adapted to the posterior, its weights, and whether a scout has helped."""
    problem, settings = posterior.problem, posterior.problem.settings.proposal
    sample = _scouted(posterior, centre_of(modes[0]), labels, rng)
    cloud = Cloud(sample, np.concatenate([draws[: settings.mode_draws] for draws in modes]))
    mixture = adapt(posterior, cloud, labels, rng, settings)
    return *best_of_refits(problem, mixture, labels, rng), len(sample) > 0


def best_of_refits(
    problem: Problem, mixture: StudentMixture, labels: Labels, rng: np.random.Generator
) -> tuple[StudentMixture, Weighted]:
    """Return the mixture, or a better one fitted to its draws, and weighted draws.

    Where the weights of the final draws are poor, the draws are so many that a fit to them is
    better than the mixture that proposed them. The lowest of several k-hats counts only with enough
    effective draws: of few, it may be low because the largest weights were missed.
    """
    settings = problem.settings.proposal
    found = [_final_weights(problem, mixture, labels, settings.khat, rng)]
    best = mixture, found[0]
    while best[1].khat >= settings.khat and len(found) <= settings.most_refits:
        mixture = refitted_to_draws(mixture, found, settings)
        found.append(_final_weights(problem, mixture, labels, settings.khat, rng))
        is_enough = found[-1].effective > settings.final_effective
        if is_enough and found[-1].khat < best[1].khat:
            best = mixture, found[-1]
    return best


def _is_within_reach(approximation: Approximation) -> bool:
    """Return whether draws of the whole posterior can be had by importance weights.

    Not without calibration, with too many parameters or rows, nor under a stick-breaking prior,
    where each labelling has another density, or a support that ties components together.
    """
    problem, model = approximation.problem, approximation.problem.standardized_model
    settings = problem.settings.proposal
    if approximation.calibration is None or problem.model.is_stick_breaking:
        return False
    P = coordinate_layout(model).size
    most = settings.most_coordinates
    if _is_normal(approximation):
        most = settings.most_plain_coordinates
    return (
        most >= P > 0
        and affordable_draws(problem) >= 4 * settings.draws
        and model.has_separate_components
    )


def may_adapt(problem: Problem) -> bool:
    """Return whether the parameters are few enough for a mixture over several modes."""
    P = coordinate_layout(problem.standardized_model).size
    return problem.settings.proposal.most_coordinates >= P


def _is_small(problem: Problem) -> bool:
    """Return whether rows are so few that other modes are looked for in any case."""
    numbers = problem.numbers_per_row * problem.data.shape[0]
    return may_adapt(problem) and numbers <= problem.settings.proposal.always_numbers


def _has_empty_components(approximation: Approximation) -> bool:
    calibration = approximation.calibration
    return calibration is not None and calibration.empty is not None


def _is_normal(approximation: Approximation) -> bool:
    """Return whether the calibrated distribution is a normal one of all coordinates."""
    return approximation.calibration is not None and not _has_empty_components(approximation)


def _scouted(
    posterior: TemperedDensity, centre: Centre, labels: Labels, rng: np.random.Generator
) -> np.ndarray:
    """Return the particles of a scout with the labels of a centre; none if it costs too much."""
    problem = posterior.problem
    if not is_affordable(problem):
        return np.empty((0, labels.layout.size))
    points = as_log_ratios(problem, scout(posterior, rng, problem.settings.scout))
    return align(points, centre, labels)


def _final_weights(
    problem: Problem,
    mixture: StudentMixture,
    labels: Labels,
    khat: float,
    rng: np.random.Generator,
    first: Weighted | None = None,
) -> Weighted:
    """Draw until enough draws are effective and their k-hat is low, or to a limit."""
    settings = problem.settings.proposal
    most = min(settings.most_final_draws, affordable_draws(problem) // 2)
    found = first or propose(problem, mixture, labels, settings.draws, rng)
    parts = [found]
    while len(found.weights) < most:
        is_good = found.effective > settings.final_effective and found.khat < khat
        is_poor = len(parts) > 1 and found.khat > KHAT_LIMIT
        if is_good or is_poor:
            break
        parts.append(propose(problem, mixture, labels, settings.draws, rng))
        found = joined(parts)
    return found
