"""Several starts: which is the best, which came to the same, and which need not go on."""

import numpy as np
import pytest
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.optimization import convergence, single_run
from bgmm_jd.optimization.restarts import compare_runs, matching_run
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.labels import permute_parameters
from bgmm_jd.variational.structure import model_of

MODEL = model_of(bgmm_jd.mixture_prior(2, 1, dtype="float64"))
SWAPPED = np.array([1, 0])


def values(by=0.0, scale=1.0):
    """A settled surrogate, its first mean moved by sds, and the sd of that scaled."""
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
    return RunResult(values(**moved), np.full(steps, elbo), elbo, status)


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
def test_met_is_within_a_small_part_of_every_sd(moved, expected):
    """0.15 sds of the mean, and of the log of the sd itself."""
    lead = a_run()
    assert matching_run(MODEL, [lead], values(**moved), 1.0) is (lead if expected else None)


def test_met_is_wider_for_a_sample_of_the_rows():
    lead = a_run()
    assert matching_run(MODEL, [lead], values(by=1.0), 1.0) is None
    assert matching_run(MODEL, [lead], values(by=1.0), 10.0) is lead
    assert matching_run(MODEL, [lead], values(by=2.0), 10.0) is None
    # No sd is off by a factor of more than exp(1/2).
    assert matching_run(MODEL, [lead], values(scale=1.6), 10.0) is lead
    assert matching_run(MODEL, [lead], values(scale=1.7), 10.0) is None
    assert matching_run(MODEL, [lead], values(scale=0.6), 10.0) is None


def test_met_is_of_settled_runs_only():
    assert matching_run(MODEL, [], values(), 1.0) is None
    assert matching_run(MODEL, [a_run(status=Status.STEP_LIMIT)], values(), 1.0) is None
    assert matching_run(MODEL, [a_run(status=Status.DIVERGED, scale=0.0)], values(), 1.0) is None
    assert (
        matching_run(MODEL, [a_run()._replace(joined=True)], values(), 1.0) is None
    )  # or errors add up
    second = a_run(by=10.0)
    assert matching_run(MODEL, [a_run(), second], values(by=10.05), 1.0) is second


def test_labels_may_differ_where_they_mean_nothing():
    lead = a_run()
    assert matching_run(MODEL, [lead], swapped(MODEL, values()), 1.0) is lead


@pytest.mark.parametrize(
    "prior",
    [
        bgmm_jd.mixture_prior(2, 1, mean_loc=[[-1.0], [2.0]], dtype="float64"),
        bgmm_jd.stick_breaking_prior(2, 1, dtype="float64"),
    ],
)
def test_labels_must_agree_where_they_mean_something(prior):
    """A prior that tells components apart, and broken sticks: another order is another optimum."""
    model, found = model_of(prior), values()
    if model.is_stick_breaking:
        found["weights"] = {"concentration": np.array([[40.0, 60.0]])}
    lead = RunResult(found, np.zeros(160), -100.0, Status.CONVERGED)
    assert matching_run(model, [lead], found, 1.0) is lead
    other = {"weights": found["weights"]} | {
        name: {key: v[SWAPPED] for key, v in found[name].items()}
        for name in ("means", "precisions")
    }
    assert matching_run(model, [lead], other, 1.0) is None


def test_the_best_has_the_highest_elbo_of_those_that_settled():
    runs = [
        a_run(elbo=-100.0, by=20.0),
        a_run(elbo=-90.0),
        a_run(elbo=-80.0, status=Status.STEP_LIMIT, by=9.0),
    ]
    best, ends = compare_runs(MODEL, runs)
    assert best is runs[1]
    assert [end.agrees for end in ends] == [False, True, False]
    assert [end.steps for end in ends] == [160] * 3


def test_what_agrees_is_told_in_the_order_of_the_best():
    lead = a_run()
    other = RunResult(swapped(MODEL, values(by=0.3)), np.zeros(40), -101.0, Status.CONVERGED)
    _, ends = compare_runs(MODEL, [lead, other])
    assert ends[1].agrees
    np.testing.assert_array_equal(ends[1].order, SWAPPED)


def test_another_labelling_is_another_optimum_where_the_prior_tells_components_apart():
    model = model_of(bgmm_jd.mixture_prior(2, 2, mean_loc=[[-1.0], [1.0]]))
    other = RunResult(swapped(model, values(by=0.3)), np.zeros(40), -101.0, Status.CONVERGED)
    _, ends = compare_runs(model, [a_run(), other])
    assert [end.agrees for end in ends] == [True, False]
    np.testing.assert_array_equal(ends[1].order, [0, 1])


def test_of_equal_runs_the_best_is_the_one_that_settled_itself():
    late = a_run()._replace(joined=True)
    best, _ = compare_runs(MODEL, [late, a_run()])
    assert not best.joined


def test_a_start_may_join_one_that_is_not_the_best():
    """It is a rival then, as that one is, and no further from it than that."""
    rival = a_run(elbo=-91.0, by=20.0)
    late = a_run(elbo=-91.0, by=20.1)._replace(joined=True)
    best, ends = compare_runs(MODEL, [rival, late, a_run(elbo=-90.0)])
    assert best.elbo == -90.0
    assert [end.agrees for end in ends] == [False, False, True]
    assert [end.elbo for end in ends] == [-91.0, -91.0, -90.0]


def two_clusters():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2)) + np.repeat([[-4.0, 0.0], [4.0, 0.0]], 200, axis=0)
    return X.astype(np.float32)


def test_a_run_ends_where_another_has_settled():
    """With values of its own, the evidence of the other, and its own trace."""
    inside = problem_of(standardize(two_clusters()), 2, "diag", None, "xla")
    begin = start_at(inside, None, 1, [0, 0])
    plan = single_run.schedule(begin, equal_batches(400, 400))

    def quiet(stand):
        pass

    lead = single_run.optimize(begin, plan, stateless_seed(3), 20_000, quiet)
    found = single_run.optimize(
        begin,
        plan,
        stateless_seed(4),
        20_000,
        quiet,
        lambda values: matching_run(inside.model, [lead], values, 1.0),
    )
    assert found.status is Status.CONVERGED
    assert found.elbo == lead.elbo
    assert found.joined
    assert not lead.joined
    assert 20 <= len(found.elbos) < len(lead.elbos)
    here, there = (
        convergence.parameter_moments(begin.model.sites, r.values) for r in (lead, found)
    )
    apart = np.abs(convergence.standardized_difference(here, there)).max()
    assert 0.0 < apart < 0.15


def test_starts_that_end_early_change_nothing_but_the_time():
    """The best is the first that came there, and the others tell that they agree."""
    X = two_clusters()
    alone, several = (bgmm_jd.fit(X, 2, restarts=n) for n in (1, 4))
    for one, other in zip(
        convergence.parameter_moments(alone.inside.model.sites, alone.inside.values),
        convergence.parameter_moments(several.inside.model.sites, several.inside.values),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert [r.agrees for r in several.restarts] == [True] * 4
    assert len({r.elbo for r in several.restarts}) == 1
    # The median of noisy steps, in the units of X, as the elbo of the fit is.
    assert several.restarts[0].elbo == pytest.approx(several.elbo, abs=1.0)
    first, *others = (r.steps for r in several.restarts)
    assert min(others) < first


@pytest.mark.parametrize("options", [{"batch_size": 100}, {"optimizer": "adam"}], ids=str)
def test_starts_of_other_paths_join_too(options):
    posterior = bgmm_jd.fit(two_clusters(), 2, restarts=2, **options)
    assert posterior.status is Status.CONVERGED
    first, second = posterior.restarts
    assert second.agrees
    assert second.elbo == first.elbo
    assert second.steps < first.steps


@pytest.mark.parametrize(
    "told",
    [{"mean_loc": [[5.0, 0.0], [-5.0, 0.0]], "mean_scale": 2.0}, {"weight_concentration": [20, 2]}],
    ids=["means", "weights"],
)
def test_labels_are_those_of_a_prior_that_tells_components_apart(told):
    """Its first component is the cluster on the right, which is the heavier one, for all starts."""
    X = two_clusters()[:-100] * [-1.0, 1.0]  # 200 rows on the right, 100 on the left
    posterior = bgmm_jd.fit(X, 2, prior=bgmm_jd.mixture_prior(2, 2, **told))
    assert posterior.status is Status.CONVERGED
    assert all(r.agrees for r in posterior.restarts)
    theta = posterior.sample(100)
    assert (theta["means"][:, 0, 0] > 2.0).all()
    assert (theta["weights"][:, 0] > 0.5).all()


def test_means_that_the_prior_fixes_are_the_labels():
    Root = tfd.JointDistributionCoroutine.Root
    where = np.array([[4.0, 0.0], [-4.0, 0.0]], np.float32)

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet([1.0, 1.0], name="weights"))
        yield Root(tfd.Independent(tfd.Deterministic(where), 2, name="means"))
        gamma = tfd.Gamma(np.full((2, 2), 2.0, np.float32), 2.0)
        yield Root(tfd.Independent(gamma, 2, name="precisions"))

    X = two_clusters()[:300]  # 200 rows of the second, 100 of the first
    posterior = bgmm_jd.fit(X, 2, prior=prior)
    assert posterior.status is Status.CONVERGED
    assert all(r.agrees for r in posterior.restarts)
    theta = posterior.sample(400)
    # There and back through centred and scaled units.
    np.testing.assert_allclose(theta["means"], np.broadcast_to(where, (400, 2, 2)), atol=1e-6)
    # All rows are told apart: Dirichlet(101, 201), whose sd is 0.027. Four of its errors of a mean.
    np.testing.assert_allclose(theta["weights"].mean(axis=0), [101 / 302, 201 / 302], atol=0.0054)
