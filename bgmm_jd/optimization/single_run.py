"""One run of the optimizer: from a start until the parameters have settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.data.minibatches import Batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.optimization import convergence, svi
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import Approximation
from bgmm_jd.variational.evaluation import statistics_are_accurate
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model

# Nats of a row's log density that the rounding of a step may take: its sign changes with the draws,
# and so the averaged parameters see little of it.
_ROUNDING = 1e-3
# Precisions may grow from the start by so much; to find out later costs a compilation.
_MARGIN = 4.0
_ASKED_AFTER = 64  # blocks, whether digits are left: a run that loses them may never settle
_DRAWS = 8  # per step
_FEWEST_DRAWS = 2  # one and its mirror image: enough to find where the optimum is
_BLOCK_STEPS = 20  # at least; whole epochs
_LONGEST_BLOCK = 4_000
_STARTING_BLOCKS = 3
_FULL_RATE_BLOCKS = 12
TOLERANCE = 0.05  # posterior sds between the halves of the iterates
_SUBSAMPLE_TOLERANCE = (
    0.15  # of a sample of the rows, whose optimum is only where the passes over all begin
)


class RunResult(NamedTuple):
    """How a run went, in internal units.

    values : the parameters it settled at, as arrays that cannot be written.
    elbos [steps] : the noisy elbo of each step.
    elbo : their median over the blocks that were averaged.
    joined : whether it ended where an earlier run had settled, before it had settled itself. Its
        elbo is then that of the other.
    """

    values: VariationalParameters
    elbos: np.ndarray
    elbo: float
    status: Status
    joined: bool = False


class RunProgress(NamedTuple):
    """Where a run stands after a block: steps taken, the block's elbo, the drift in sds."""

    steps: int
    elbo: float
    drift: float


def schedule(inside: Approximation, batches: Batches, optimizer: str = "natural") -> svi.Schedule:
    """What to compile: blocks of whole epochs, so that each row has its turn equally often."""
    epochs = -(-_BLOCK_STEPS // batches.count)
    steps = min(epochs * batches.count, _LONGEST_BLOCK)
    draws = _DRAWS if subsample_sd_ratio(inside) == 1.0 else _FEWEST_DRAWS
    dtype = inside.data.dtype.name
    return svi.Schedule(batches, draws, steps, dtype, inside.execution, optimizer)


def subsample_sd_ratio(inside: Approximation) -> float:
    """How much wider the posterior of the rows at hand is than that of the rows they stand for.

    Of a sample of the rows, an optimum is as good as the sample: it is found to so many sds.
    """
    return inside.data.sampling_fraction**-0.5


def step_size(inside: Approximation, plan: svi.Schedule, blocks: int) -> StepSize:
    """How far the steps of the next block go.

    A full natural-gradient step on all rows; on a batch, its share of one, which makes an epoch's
    progress the same for any batch size; a quarter of that leaves the iterates of the last epochs
    within a fraction of a posterior sd of their mean. A run that has not settled in its first
    blocks has a reason, noise or a posterior far from the surrogate's family; steps then become
    shorter as 1 / time, as Robbins and Monro (1951) have it.

    The first steps from a poor start overshoot: a location may move by 0.3 of the spread that its
    component's rows have, some sqrt(N / K) posterior sds. Once near, no honest step is longer than
    an sd, and a longer one is a draw in a corner of the prior.
    """
    batches = plan.batches.count
    share = 1.0 if batches == 1 or plan.optimizer == "adam" else 0.25 / batches
    rate = share / max(1.0, blocks / _FULL_RATE_BLOCKS)
    if blocks < _STARTING_BLOCKS:
        spread = (inside.data.total_weight / inside.model.K) ** 0.5
        return StepSize(rate, max(1.0, 0.3 * spread), 0.3)
    return StepSize(rate, subsample_sd_ratio(inside), 0.1)


def optimize(
    inside: Approximation,
    plan: svi.Schedule,
    seed: tf.Tensor,
    max_steps: int,
    report: Callable[[RunProgress], None],
    met: Callable[[VariationalParameters], RunResult | None] = lambda values: None,
) -> RunResult:
    """Run blocks of steps from `inside.values` until they have settled, or to the limit.

    In steps on all rows the likelihood is a matrix product as long as digits allow, whatever the
    plan says of that. Ctrl-C ends the run and keeps what it has.

    Parameters
    ----------
    met : the settled run at whose optimum some values are. To settle there once more would tell
        nothing new, and the run ends.
    """
    rows, values = as_row_tensors(inside.data.rows), inside.values
    blocks: list[VariationalParameters] = []
    elbos: list[np.ndarray] = []
    status = Status.STEP_LIMIT
    memory: tuple[Any, ...] = ()
    try:
        # Of a batch, whose columns would be made anew in each step, it is the slower one.
        use_statistics = plan.batches.count == 1 and statistics_are_accurate(
            inside, _ROUNDING / _MARGIN
        )
        plan = plan._replace(use_statistics=use_statistics)
        program = svi.program(inside.model, plan)
        for first in range(0, max_steps, plan.steps):
            stride = step_size(inside, plan, len(blocks))
            block = program.run(rows, inside.prior_units, values, seed, first, stride, memory)
            if not _finite(block):
                if not plan.use_statistics:
                    status = Status.DIVERGED
                    break
                plan, program = _exact(inside.model, plan)
                values, blocks, memory = inside.values, [], ()
                continue
            values, memory = block.values, block.memory
            blocks.append(block.average)
            elbos.append(-block.losses)
            if not convergence.is_check_due(len(blocks)):
                continue
            drift = convergence.drift(inside.model.sites, blocks)
            report(RunProgress(first + plan.steps, float(elbos[-1].mean()), drift))
            there = met(
                convergence.average_parameters(inside.model.sites, convergence.second_half(blocks))
            )
            if there is not None:
                ended = _ended(inside, values, blocks, elbos, there.status)
                return ended._replace(elbo=there.elbo, joined=True)
            settled = drift < _tolerance(inside)
            asked = plan.use_statistics and (settled or len(blocks) % _ASKED_AFTER == 0)
            if asked and not statistics_are_accurate(inside._replace(values=values), _ROUNDING):
                plan, program = _exact(inside.model, plan)
                blocks = blocks[-1:]
            elif settled:
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return _ended(inside, values, blocks, elbos, status)


def _exact(model: Model, plan: svi.Schedule) -> tuple[svi.Schedule, svi.Program]:
    """With differences before squares, where components have become too narrow for others."""
    plan = plan._replace(use_statistics=False)
    return plan, svi.program(model, plan)


def _tolerance(inside: Approximation) -> float:
    sd_ratio = subsample_sd_ratio(inside)
    return TOLERANCE if sd_ratio == 1.0 else max(_SUBSAMPLE_TOLERANCE, TOLERANCE * sd_ratio)


def _ended(inside, values, blocks, elbos, status) -> RunResult:
    if not blocks:
        return RunResult(read_only_copy(values), np.empty(0), -np.inf, status)
    cloud = convergence.second_half(blocks)
    trace = np.concatenate(elbos)
    trace.setflags(write=False)
    # The median: one draw in a corner of the prior would outweigh all others in a mean.
    elbo = float(np.median(np.concatenate(elbos[-len(cloud) :])))
    return RunResult(
        read_only_copy(convergence.average_parameters(inside.model.sites, cloud)),
        trace,
        elbo,
        status,
    )


def _finite(block: svi.Block) -> bool:
    return all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(block.average))


def read_only_copy(values: VariationalParameters) -> VariationalParameters:
    """A copy that cannot be written to."""

    def copy(leaf):
        array = np.array(leaf)
        array.setflags(write=False)
        return array

    return tf.nest.map_structure(copy, values)
