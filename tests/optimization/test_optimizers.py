"""Adam beside the natural gradient: one path, one memory from block to block, one optimum."""

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.optimization import convergence, optimizers, svi
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.natural_gradient import StepSize

pytestmark = pytest.mark.slow

N = 90
STRIDE = StepSize(rate=1.0, longest_loc=3.0, longest_log=0.3)


def rows(N=N):
    rng = np.random.default_rng(3)
    return rng.normal(size=(N, 2)) + np.where(rng.random((N, 1)) < 0.4, 6.0, -3.0)


def started():
    return start_at(problem_of(standardize(rows()), 2, "diag", None, "xla"), None, 1, [0, 0])


def block(inside, steps, first=0, values=None, memory=(), execution="graph", batch_size=40):
    batches = equal_batches(N, batch_size)
    schedule = svi.Schedule(batches, 4, steps, "float64", execution, "adam")
    program = svi.program(inside.model, schedule)
    data = as_row_tensors(inside.data.rows)
    values = inside.values if values is None else values
    seed = stateless_seed(1)
    return program.run(data, inside.prior_units, values, seed, first, STRIDE, memory)


def assert_same(one, other):
    """In float64, a dozen steps apart by rounding alone, 1e-16 a step times sums of 90 rows."""
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("execution", ["xla", "eager"])
def test_executions_follow_one_path(execution):
    inside = started()
    ours, theirs = block(inside, 6), block(inside, 6, execution=execution)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    assert_same(ours.values, theirs.values)
    assert_same(ours.memory, theirs.memory)


def test_memory_goes_from_block_to_block():
    """Two blocks of 6 steps are one of 12; without the memory they are not."""
    inside = started()
    whole, early = block(inside, 12), block(inside, 6)
    late = block(inside, 6, 6, early.values, early.memory)
    np.testing.assert_allclose(np.concatenate([early.losses, late.losses]), whole.losses, rtol=1e-9)
    assert_same(late.values, whole.values)
    assert_same(late.memory, whole.memory)
    forgetful = block(inside, 6, 6, early.values)
    assert np.abs(forgetful.losses[1:] - late.losses[1:]).max() > 1e-3


def test_a_program_starts_without_memory():
    """The variables of a program outlive a run; what an earlier one remembered is gone."""
    inside = started()
    first = block(inside, 6)
    block(inside, 6, 6, first.values, first.memory)
    again = block(inside, 6)
    np.testing.assert_array_equal(again.losses, first.losses)


def test_steps_are_those_of_the_paper():
    """Against Adam in NumPy, on gradients that are made up: Kingma and Ba 2015, algorithm 1."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 3)) * [1e-3, 1.0, 1e3]
    held, step = tf.Variable(np.ones(3)), tf.Variable(0)
    memory = [optimizers.AdamMoments(*(tf.Variable(np.zeros(3)) for _ in range(2)))]
    stride = StepSize(tf.constant(0.5, tf.float64), None, None)
    adam = optimizers.Adam([held], memory, stride, step)
    x, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        adam.apply_gradients([(tf.constant(g), held)])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 0.5 * optimizers._ADAM_RATE * (m / (1 - 0.9**t)) / (
            np.sqrt(v / (1 - 0.999**t)) + 1e-8
        )
        np.testing.assert_allclose(held.numpy(), x, rtol=1e-12)
    assert int(step) == 5
    adam.apply_gradients([(tf.constant([np.nan, np.inf, 1.0], tf.float64), held)])
    assert np.isfinite(held.numpy()).all()


@pytest.mark.parametrize(("covariance", "parameters"), [("diag", 9), ("full", 11)])
def test_both_find_one_optimum(covariance, parameters):
    """On small data, within what both call settled: 0.05 sds between the halves of the iterates.

    Each mean of the iterates is nearer to the optimum than its halves are to each other, so that
    two runs are within 0.1.
    """
    settings = {"restarts": 1, "calibrate": False, "progress": False, "execution": "graph"}
    settings["covariance"] = covariance
    X = np.repeat([[-4.0, 0.0], [4.0, 0.0]], 100, axis=0)
    X = X + np.random.default_rng(1).standard_normal((200, 2))
    one, other = (bgmm_jd.fit(X, 2, optimizer=o, **settings) for o in optimizers.OPTIMIZERS)
    assert one.status is other.status is Status.CONVERGED
    sites = one.inside.model.sites
    here, there = (convergence.parameter_moments(sites, p.inside.values) for p in (one, other))
    assert np.abs((here[0] - there[0]) / here[1]).max() < 0.1
    assert np.abs(np.log(here[1] / there[1])).max() < 0.1
    # Five standard errors, and what 0.1 sds of each parameter cost at most: 0.1^2 / 2 each.
    error = np.hypot(one.elbo_se, other.elbo_se)
    assert abs(one.elbo - other.elbo) < 5 * error + parameters * 0.1**2


@pytest.mark.parametrize("optimizer", ["sgd", "Adam", None, ""])
def test_an_unknown_optimizer_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"optimizer must be one of \('natural', 'adam'\); got"):
        bgmm_jd.fit(rows(), 2, optimizer=optimizer)
