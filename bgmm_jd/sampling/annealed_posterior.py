"""The posterior by particles from the prior, where no proposal for all of it is good enough.

With components to spare a posterior has many modes that are close to each other, and no optimum
tells their shape. Particles that begin at the prior find them in proportion to their probability
(see `annealing`). Several independent groups are compared; if there were too few particles, the
groups differ.
"""

from collections.abc import Sequence

import numpy as np

from bgmm_jd.model.quadratic_likelihood import number_of_statistics
from bgmm_jd.sampling.annealing import Annealed, anneal
from bgmm_jd.sampling.bridge import evidence_of_mode
from bgmm_jd.sampling.chain_modes import ModeDraws
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import evidence_of_groups, with_error_of_other
from bgmm_jd.sampling.modes import draws_at_modes
from bgmm_jd.sampling.moved_groups import Moves, as_one_mode, move_groups, posterior_of_groups
from bgmm_jd.sampling.relabelling import Labels, TooManyLabellings, align, centre_of, labels_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Approximation, Centre, Problem
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.tempered import TemperedDensity

_HOPE = 4.0  # times the effective draws that there are may come of twice as many groups


def may_anneal(problem: Problem) -> bool:
    """Return whether particles from the prior are affordable, and have labels that can be matched.

    Not under a stick-breaking prior, where each labelling has a density of its own, nor where the
    support ties components together.
    """
    N, D = problem.data.shape
    statistics = number_of_statistics(D, problem.model.covariance)
    numbers = N * max(problem.model.K * statistics, problem.numbers_per_row)
    if numbers > problem.settings.annealing.most_numbers or problem.model.is_stick_breaking:
        return False
    return problem.model.has_separate_components


def draw_annealed(
    target: TemperedDensity,
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    khat: float,
    seed: int,
) -> WholePosterior | None:
    """Return draws of the whole posterior, and its evidence.

    By bridge sampling, or by the particles themselves where that is out of reach. Of groups that do
    not agree it has the error that both show. None where draws are out of the dtype's range, or
    have too many labellings.

    Parameters
    ----------
    target : the posterior density.
    approximation : at the best optimum.
    rivals : parameters at the other optima that may have a share in the posterior.
    khat : of the importance weights of the best proposal.
    seed : int
    """
    problem = target.problem
    labels, rng = labels_of(problem), np.random.default_rng([seed, 7])
    few = problem.settings.proposal.mode_draws
    try:
        modes = draws_at_modes(approximation, rivals, labels, rng, few)
        centres = tuple(centre_of(draws) for draws in modes)
        drawn, log_evidence = _until_sound(target, centres[0], labels, rng)
    except (FloatingPointError, TooManyLabellings, np.linalg.LinAlgError):
        return None
    evidence = evidence_of_mode(problem, labels, drawn, [drawn.centre], rng)
    of_groups = evidence_of_groups(log_evidence)
    if not np.isfinite(evidence.log):
        evidence = of_groups
    elif not is_sound(drawn.mixing, problem.settings.chains):
        evidence = with_error_of_other(evidence, of_groups)
    return posterior_of_groups(drawn, evidence, khat, centres, True, labels, rng)


def _until_sound(
    target: TemperedDensity, centre: Centre, labels: Labels, rng: np.random.Generator
) -> tuple[ModeDraws, np.ndarray]:
    """Return the points of groups, and the log evidence that each of them estimates.

    Of so many that they agree, or of as many as there may be or may help.
    """
    settings, chains = target.problem.settings.annealing, target.problem.settings.chains
    points: list[np.ndarray] = []
    log_evidence: list[np.ndarray] = []
    while True:
        found = new_groups(target, centre, labels, rng)
        points.append(found.points)
        log_evidence.append(found.log_evidence)
        drawn = as_one_mode(np.concatenate(points), settings.kept_moves)
        is_last = len(drawn.points) + settings.groups > settings.most_groups
        estimates = np.concatenate(log_evidence)
        is_known = bool(np.isfinite(evidence_of_groups(estimates).log))
        is_hopeless = not is_known and _HOPE * drawn.mixing.effective < chains.fewest_effective
        if is_sound(drawn.mixing, chains) or is_hopeless or is_last:
            return drawn, estimates


def new_groups(
    target: TemperedDensity, centre: Centre, labels: Labels, rng: np.random.Generator
) -> Annealed:
    """Return new groups after their last moves, in coordinates with log ratios.

    Their components are in the order that is nearest to the centre of the best optimum, and then to
    that of all points: components to spare are where the optimum has none.
    """
    settings = target.problem.settings.annealing
    moves = Moves(
        settings.warm_up,
        settings.kept_moves,
        settings.leapfrogs,
        settings.first_step,
        settings.acceptance,
    )
    start = anneal(target, rng, settings, settings.groups)
    if start.points.shape[1] == 0:
        raise FloatingPointError("No particles have come from the prior to the posterior.")
    points = move_groups(target, start.points, moves, rng)
    flat = align(points.reshape(-1, points.shape[-1]), centre, labels)
    aligned = align(flat, centre_of(flat), labels)
    return start._replace(points=aligned.reshape(points.shape))
