"""Several starts: which is the best, which reached the same optimum, and which may end early."""

import itertools

import numpy as np
import pytest
from builders import problem_for, started
from small_problems import two_groups, two_large_clusters
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.optimization.convergence import parameter_moments
from bgmm_jd.optimization.restarts import (
    compare_runs,
    distinct_optima,
    join_connected,
    matching_run,
)
from bgmm_jd.optimization.single_run import RunResult, read_only_copy
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import OptimizationSettings
from bgmm_jd.variational.labels import permute_parameters
from bgmm_jd.variational.structure import model_of

MODEL = model_of(bgmm_jd.mixture_prior(2, 1, dtype="float64"))
SWAPPED = np.array([1, 0])
CENTRES = np.array([[-4.0, 0.0], [4.0, 0.0]])  # of `two_large_clusters`
SETTINGS = OptimizationSettings()


def params(by=0.0, scale=1.0):
    """Return a converged surrogate with its first mean moved by sds, and the sd of that scaled."""
    return {
        "weights": {"concentration": np.array([40.0, 60.0])},
        "means": {
            "loc": np.array([[-1.0 + by * 0.1], [2.0]]),
            "scale": np.array([[0.1 * scale], [0.2]]),
        },
        "precisions": {
            "concentration": np.array([[20.0], [30.0]]),
            "mean": np.array([[1.0], [4.0]]),
        },
    }


def a_run(status=Status.CONVERGED, elbo=-100.0, steps=160, **moved):
    return RunResult(params(**moved), np.full(steps, elbo), elbo, status)


def match(runs, there, sd_ratio=1.0, model=MODEL):
    return matching_run(model, runs, there, SETTINGS, sd_ratio)


def swapped(model, found):
    return permute_parameters(model.sites, found, SWAPPED)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({}, True),
        ({"by": 0.1}, True),
        ({"by": -0.1}, True),
        ({"by": 0.2}, False),
        ({"scale": 1.1}, True),
        ({"scale": 1.2}, False),
        ({"scale": 0.8}, False),
    ],
)
def test_matching_run_is_within_a_small_part_of_every_sd(moved, expected):
    """0.15 sds of the mean, and 0.15 of the log of the sd itself."""
    lead = a_run()
    assert match([lead], params(**moved)) is (lead if expected else None)


def test_tolerance_of_a_match_is_wider_for_a_subsample():
    lead = a_run()
    assert match([lead], params(by=1.0)) is None
    assert match([lead], params(by=1.0), 10.0) is lead
    assert match([lead], params(by=2.0), 10.0) is None
    # No sd is off by a factor of more than exp(1/2).
    assert match([lead], params(scale=1.6), 10.0) is lead
    assert match([lead], params(scale=1.7), 10.0) is None
    assert match([lead], params(scale=0.6), 10.0) is None


def test_matching_run_has_converged_by_itself():
    assert match([], params()) is None
    assert match([a_run(status=Status.STEP_LIMIT)], params()) is None
    assert match([a_run(status=Status.DIVERGED, scale=0.0)], params()) is None
    # One that joined another is skipped, otherwise the tolerances would add up.
    assert match([a_run()._replace(joined=True)], params()) is None
    second = a_run(by=10.0)
    assert match([a_run(), second], params(by=10.05)) is second


def test_matching_run_may_have_other_labels_under_an_exchangeable_prior():
    lead = a_run()
    assert match([lead], swapped(MODEL, params())) is lead


@pytest.mark.parametrize(
    "prior",
    [
        bgmm_jd.mixture_prior(2, 1, mean_loc=[[-1.0], [2.0]], dtype="float64"),
        bgmm_jd.stick_breaking_prior(2, 1, dtype="float64"),
    ],
)
def test_matching_run_must_have_equal_labels_where_they_have_a_meaning(prior):
    """Under a prior that distinguishes components and under a stick-breaking prior."""
    model, found = model_of(prior), params()
    if model.is_stick_breaking:
        found["weights"] = {"concentration": np.array([[40.0, 60.0]])}
    lead = RunResult(found, np.zeros(160), -100.0, Status.CONVERGED)
    assert match([lead], found, model=model) is lead
    other = {"weights": found["weights"]} | {
        name: {key: v[SWAPPED] for key, v in found[name].items()}
        for name in ("means", "precisions")
    }
    assert match([lead], other, model=model) is None


def test_best_run_has_the_highest_elbo_of_those_that_converged():
    runs = [
        a_run(elbo=-100.0, by=20.0),
        a_run(elbo=-90.0),
        a_run(elbo=-80.0, status=Status.STEP_LIMIT, by=9.0),
    ]
    best, ends = compare_runs(MODEL, runs, SETTINGS)
    assert best is runs[1]
    assert [end.agrees for end in ends] == [False, True, False]
    assert [end.steps for end in ends] == [160] * 3


def test_labels_of_a_restart_are_matched_to_the_best():
    lead = a_run()
    other = RunResult(swapped(MODEL, params(by=0.3)), np.zeros(40), -101.0, Status.CONVERGED)
    _, ends = compare_runs(MODEL, [lead, other], SETTINGS)
    assert ends[1].agrees
    np.testing.assert_array_equal(ends[1].order, SWAPPED)


def test_restart_with_other_labels_does_not_agree_where_the_prior_distinguishes_components():
    model = model_of(bgmm_jd.mixture_prior(2, 2, mean_loc=[[-1.0], [1.0]]))
    other = RunResult(swapped(model, params(by=0.3)), np.zeros(40), -101.0, Status.CONVERGED)
    _, ends = compare_runs(model, [a_run(), other], SETTINGS)
    assert [end.agrees for end in ends] == [True, False]
    np.testing.assert_array_equal(ends[1].order, [0, 1])


def test_best_of_equal_runs_is_the_one_that_converged_itself():
    late = a_run()._replace(joined=True)
    best, _ = compare_runs(MODEL, [late, a_run()], SETTINGS)
    assert not best.joined


def test_run_may_join_one_that_is_not_the_best():
    """It is then a rival of the best, as that one is."""
    rival = a_run(elbo=-91.0, by=20.0)
    late = a_run(elbo=-91.0, by=20.1)._replace(joined=True)
    best, ends = compare_runs(MODEL, [rival, late, a_run(elbo=-90.0)], SETTINGS)
    assert best.elbo == -90.0
    assert [end.agrees for end in ends] == [False, False, True]
    assert [end.elbo for end in ends] == [-91.0, -91.0, -90.0]


def test_starts_that_end_early_do_not_change_the_best():
    """The best is the first that converged there, and the others agree with it.

    Given means make a run for each restart; without them, clear clusters have a single run.
    """
    X = two_large_clusters()
    alone, several = (bgmm_jd.fit(X, 2, restarts=n, init=CENTRES) for n in (1, 4))
    moments = [
        parameter_moments(posterior.problem.model.sites, posterior.approximation.params)
        for posterior in (alone, several)
    ]
    for one, other in zip(*moments, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [r.agrees for r in several.restarts] == [True] * 4
    assert len({r.elbo for r in several.restarts}) == 1
    # The median over noisy steps; both are in the units of X.
    assert several.restarts[0].elbo == pytest.approx(several.elbo, abs=1.0)
    first, *others = (r.steps for r in several.restarts)
    assert min(others) < first


@pytest.mark.parametrize("options", [{"batch_size": 100}, {"optimizer": "adam"}], ids=str)
def test_starts_on_batches_and_by_adam_end_early_too(options):
    posterior = bgmm_jd.fit(two_large_clusters(), 2, restarts=2, init=CENTRES, **options)
    assert posterior.status is Status.CONVERGED
    first, second = posterior.restarts
    assert second.agrees
    assert second.elbo == first.elbo
    assert second.steps < first.steps


@pytest.mark.parametrize(
    "arguments",
    [{"mean_loc": [[5.0, 0.0], [-5.0, 0.0]], "mean_scale": 2.0}, {"weight_concentration": [20, 2]}],
    ids=["means", "weights"],
)
def test_labels_of_all_starts_are_those_of_a_prior_that_distinguishes_components(arguments):
    """Its first component is the cluster on the right, which is the larger one."""
    X = two_large_clusters()[:-100] * [-1.0, 1.0]  # 200 rows on the right, 100 on the left
    posterior = bgmm_jd.fit(X, 2, prior=bgmm_jd.mixture_prior(2, 2, **arguments))
    assert posterior.status is Status.CONVERGED
    assert all(r.agrees for r in posterior.restarts)
    theta = posterior.sample(100)
    assert (theta["means"][:, 0, 0] > 2.0).all()
    assert (theta["weights"][:, 0] > 0.5).all()


def test_means_that_the_prior_fixes_determine_the_labels():
    Root = tfd.JointDistributionCoroutine.Root
    fixed = np.array([[4.0, 0.0], [-4.0, 0.0]], np.float32)

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet([1.0, 1.0], name="weights"))
        yield Root(tfd.Independent(tfd.Deterministic(fixed), 2, name="means"))
        gamma = tfd.Gamma(np.full((2, 2), 2.0, np.float32), 2.0)
        yield Root(tfd.Independent(gamma, 2, name="precisions"))

    X = two_large_clusters()[:300]  # 200 rows of the second, 100 of the first
    posterior = bgmm_jd.fit(X, 2, prior=prior)
    assert posterior.status is Status.CONVERGED
    assert all(r.agrees for r in posterior.restarts)
    theta = posterior.sample(400)
    # They are converted to standardised units and back.
    np.testing.assert_allclose(theta["means"], np.broadcast_to(fixed, (400, 2, 2)), atol=1e-6)
    # All rows have a certain label: Dirichlet(101, 201), whose sd is 0.027. Four standard errors of
    # the mean of 400 draws.
    np.testing.assert_allclose(theta["weights"].mean(axis=0), [101 / 302, 201 / 302], atol=0.0054)


@pytest.fixture(scope="module")
def two_runs():
    """Return a problem, a run near its optimum, and one 0.7 sds away with the labels swapped."""
    approximation = started(problem_for(two_groups(64), 2, execution="graph"))
    problem, near = approximation.problem, read_only_copy(approximation.params)
    means = near["means"]
    aside = {**near, "means": means | {"loc": means["loc"] + 0.7 * means["scale"]}}
    runs = [
        RunResult(found, np.zeros(steps), elbo, Status.CONVERGED)
        for found, elbo, steps in ((near, -1.0, 20), (swapped(problem.model, aside), -2.0, 40))
    ]
    return problem, *runs


@pytest.mark.parametrize("better", [0, 1])
def test_of_runs_without_a_valley_between_them_the_lower_has_joined_the_higher(two_runs, better):
    """Whichever was first; with its own trace."""
    problem, *runs = two_runs
    found = join_connected(problem, runs if better == 0 else runs[::-1])
    higher, lower = found[better], found[1 - better]
    assert higher is runs[0]
    assert lower.joined
    assert lower.params is higher.params
    assert (lower.elbo, len(lower.elbos)) == (higher.elbo, 40)


def test_run_behind_a_valley_is_one_of_its_own():
    """Its labels are those of the other run, but the prior prefers one of the two orders."""
    prior = bgmm_jd.mixture_prior(2, 2, mean_loc=[[-3.0] * 2, [6.0] * 2], dtype="float64")
    approximation = started(problem_for(two_groups(64), 2, prior=prior, execution="graph"))
    problem, found = approximation.problem, read_only_copy(approximation.params)
    runs = [
        RunResult(params, np.zeros(20), elbo, Status.CONVERGED)
        for params, elbo in ((found, -1.0), (swapped(problem.model, found), -2.0))
    ]
    assert join_connected(problem, runs) == runs


def test_run_that_had_joined_a_lower_one_joins_the_higher_with_it(two_runs):
    problem, near, aside = two_runs
    before = RunResult(swapped(problem.model, aside.params), np.zeros(60), aside.elbo, aside.status)
    found = join_connected(problem, [aside, before._replace(joined=True), near])
    assert found[2] is near
    assert all(run.joined and run.params is near.params for run in found[:2])
    assert [run.elbo for run in found] == [near.elbo] * 3
    _, restarts = compare_runs(problem.model, found, SETTINGS)
    assert all(restart.agrees for restart in restarts)
    assert len(distinct_optima(problem.model, found, [1, 1, 1], SETTINGS)) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_best_of_three_runs_without_a_valley_is_joined_by_the_others(two_runs, order):
    problem, near, aside = two_runs
    means = near.params["means"]
    between = near.params | {"means": means | {"loc": means["loc"] + 0.3 * means["scale"]}}
    runs = [near, aside, RunResult(between, np.zeros(30), -1.5, Status.CONVERGED)]
    found = join_connected(problem, [runs[i] for i in order])
    assert all(run.params is near.params for run in found)
    assert [run.joined for run in found] == [i != 0 for i in order]


@pytest.mark.parametrize("change", [{"joined": True}, {"status": Status.STEP_LIMIT}])
def test_only_runs_that_converged_by_themselves_join(two_runs, change):
    problem, near, aside = two_runs
    for runs in ([near, aside._replace(**change)], [aside._replace(**change), near]):
        assert join_connected(problem, runs) == runs
