"""Adam, against its paper, across blocks and executions, and against the natural gradient."""

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.optimization import convergence, optimizers, svi
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.natural_gradient import StepSize

pytestmark = pytest.mark.slow

N = 90
STEP = StepSize(rate=1.0, longest_loc=3.0, longest_log=0.3)


def start():
    return started(problem_for(two_groups(N), 2))


def block(begin, steps, first=0, params=None, opt_state=(), execution="graph"):
    """Return `steps` steps of Adam on batches, after `first` earlier ones."""
    problem, batches = begin.problem, equal_batches(N, 40)
    schedule = svi.Schedule(batches, 4, steps, "float64", execution, "adam")
    program = svi.program(problem.model, schedule)
    params = begin.params if params is None else params
    seed = stateless_seed(1)
    return program.run(
        as_row_tensors(problem.data.rows),
        problem.prior_standardization,
        params,
        seed,
        first,
        STEP,
        opt_state,
    )


def assert_same(one, other):
    """In float64, a dozen steps differ by rounding alone, 1e-16 a step times sums of 90 rows."""
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("execution", ["xla", "eager"])
def test_all_executions_of_adam_follow_one_path(execution):
    begin = start()
    ours, theirs = block(begin, 6), block(begin, 6, execution=execution)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    assert_same(ours.params, theirs.params)
    assert_same(ours.opt_state, theirs.opt_state)


def test_moments_are_passed_from_block_to_block():
    """Two blocks of 6 steps are one of 12; without the moments they are not."""
    begin = start()
    whole, early = block(begin, 12), block(begin, 6)
    late = block(begin, 6, 6, early.params, early.opt_state)
    np.testing.assert_allclose(np.concatenate([early.losses, late.losses]), whole.losses, rtol=1e-9)
    assert_same(late.params, whole.params)
    assert_same(late.opt_state, whole.opt_state)
    forgetful = block(begin, 6, 6, early.params)
    assert np.abs(forgetful.losses[1:] - late.losses[1:]).max() > 1e-3


def test_run_starts_with_zero_moments():
    """A program keeps its variables between runs, but not the moments of an earlier run."""
    begin = start()
    first = block(begin, 6)
    block(begin, 6, 6, first.params, first.opt_state)
    again = block(begin, 6)
    np.testing.assert_array_equal(again.losses, first.losses)


def test_steps_of_adam_are_those_of_the_paper():
    """Against algorithm 1 of Kingma and Ba 2015 in NumPy, on arbitrary gradients."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 3)) * [1e-3, 1.0, 1e3]
    held, step = tf.Variable(np.ones(3)), tf.Variable(0)
    moments = [optimizers.AdamMoments(*(tf.Variable(np.zeros(3)) for _ in range(2)))]
    size = StepSize(tf.constant(0.5, tf.float64), None, None)
    adam = optimizers.Adam([held], moments, size, step)
    x, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        adam.apply_gradients([(tf.constant(g), held)])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        scale = np.sqrt(v / (1 - 0.999**t)) + 1e-8
        x = x - 0.5 * optimizers.ADAM_STEP * (m / (1 - 0.9**t)) / scale
        np.testing.assert_allclose(held.numpy(), x, rtol=1e-12)
    assert int(step) == 5
    adam.apply_gradients([(tf.constant([np.nan, np.inf, 1.0], tf.float64), held)])
    assert np.isfinite(held.numpy()).all()


@pytest.mark.parametrize(("covariance", "parameters"), [("diag", 9), ("full", 11)])
def test_both_optimizers_find_one_optimum(covariance, parameters):
    """Within the tolerance of both: 0.05 sds between the halves of the iterates.

    The mean of the iterates is nearer to the optimum than its halves are to each other, so that
    two runs are within 0.1.
    """
    options = {"restarts": 1, "calibrate": False, "progress": False, "execution": "graph"}
    options["covariance"] = covariance
    X = np.repeat([[-4.0, 0.0], [4.0, 0.0]], 100, axis=0)
    X = X + np.random.default_rng(1).standard_normal((200, 2))
    one, other = (bgmm_jd.fit(X, 2, optimizer=o, **options) for o in optimizers.OPTIMIZERS)
    assert one.status is other.status is Status.CONVERGED
    sites = one.problem.model.sites
    here, there = (
        convergence.parameter_moments(sites, posterior.approximation.params)
        for posterior in (one, other)
    )
    assert np.abs((here[0] - there[0]) / here[1]).max() < 0.1
    assert np.abs(np.log(here[1] / there[1])).max() < 0.1
    # Five standard errors, and the cost of 0.1 sds of each parameter: at most 0.1^2 / 2 each.
    error = np.hypot(one.elbo_se, other.elbo_se)
    assert abs(one.elbo - other.elbo) < 5 * error + parameters * 0.1**2


@pytest.mark.parametrize("optimizer", ["sgd", "Adam", None, ""])
def test_unknown_optimizer_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"optimizer must be one of \('natural', 'adam'\); got"):
        bgmm_jd.fit(two_groups(N), 2, optimizer=optimizer)
