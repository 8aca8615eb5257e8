"""Fits of many rows, which end with accelerated passes over all of them."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting import search
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import AVERAGED, MEAN_FIELD
from bgmm_jd.variational.labels import match_labels

pytestmark = pytest.mark.slow

LARGE = 21_000
CENTRES = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, -2.0]])


def large_rows(weights=False):
    rng = np.random.default_rng(8)
    label = rng.choice(3, LARGE, p=[0.5, 0.3, 0.2])
    X = CENTRES[label] + rng.normal(size=(LARGE, 2)) * [1.0, 0.6]
    X = X.astype(np.float32)
    return (X, rng.choice([0.0, 1.0, 3.0], LARGE)) if weights else X


def moments_of_draws(posterior):
    """Return means and sds of all parameters, components in the order of `CENTRES`: [P] each."""
    theta = posterior.sample(4_000, seed=1)
    order = match_labels(CENTRES, theta["means"].mean(axis=0))
    parts = [theta["weights"][:, order], theta["means"][:, order], theta["precisions"][:, order]]
    flat = np.concatenate([np.reshape(p, (len(p), -1)).astype(np.float64) for p in parts], axis=1)
    return flat.mean(axis=0), flat.std(axis=0)


@pytest.fixture(scope="module")
def large():
    return bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")


def test_large_fit_is_that_of_all_rows_in_every_step(large):
    """Means within 0.1 sd, of which the noise of 4,000 draws of each is 0.02; sds within 5 %.

    The relative noise of an sd of 4,000 draws is 1.1 %, of two 1.6 %; the largest of 15 is beyond
    5 % once in a hundred. Weighted draws have somewhat more noise; the seed is fixed.
    """
    assert large.status is Status.CONVERGED
    assert large.calibration == AVERAGED  # affordable: 14 parameters, 126,000 numbers
    whole = bgmm_jd.fit(
        large_rows(), 3, batch_size=LARGE, restarts=1, progress=False, execution="graph"
    )
    assert whole.batch_size == LARGE > large.batch_size
    (mean, sd), (whole_mean, whole_sd) = moments_of_draws(large), moments_of_draws(whole)
    assert np.abs((mean - whole_mean) / whole_sd).max() < 0.1
    assert np.abs(np.log(sd / whole_sd)).max() < 0.05
    # Five standard errors of both, of which one has 5 degrees of freedom: once in 250 or less.
    assert abs(large.elbo - whole.elbo) < 5 * np.hypot(large.elbo_se, whole.elbo_se) + 0.02


def test_interrupted_start_of_a_large_fit_is_reported(monkeypatch):
    """Even if it is at the optimum of another: the starts after it did not begin."""
    starts, optimize = [], search.optimize

    def second_is_interrupted(*arguments):
        starts.append(optimize(*arguments))
        return starts[-1]._replace(status=Status.INTERRUPTED) if len(starts) == 2 else starts[-1]

    monkeypatch.setattr(search, "optimize", second_is_interrupted)
    options = {"init": CENTRES, "restarts": 4, "progress": False, "execution": "graph"}
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(large_rows(), 3, **options)
    assert posterior.status is Status.INTERRUPTED
    assert len(posterior.restarts) == 2


@pytest.mark.parametrize(("max_steps", "passes_allowed"), [(100, 200), (50_000, 500)])
def test_fit_passes_the_limit_of_passes_that_max_steps_implies(
    monkeypatch, max_steps, passes_allowed
):
    def stopped(problem, start, seed, report, elbos_before, limit, *state):
        raise InterruptedError(limit)

    monkeypatch.setattr(search, "optimize_full_data", stopped)
    with pytest.raises(InterruptedError, match=f"^{passes_allowed}$"):
        bgmm_jd.fit(large_rows(), 3, restarts=1, max_steps=max_steps, execution="graph")


def test_parameters_of_a_large_fit_cannot_be_written(large):
    with pytest.raises(ValueError, match="read-only"):
        large.restarts[0].params["means"]["loc"][0] = 9.0


def test_equal_seeds_give_equal_large_fits(large):
    again = bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")
    assert again.elbo == large.elbo
    for name, v in large.sample(20, seed=3).items():
        np.testing.assert_array_equal(again.sample(20, seed=3)[name], v)


def test_row_weights_of_a_large_fit_are_repeated_rows():
    """Rows of weight 3 and 0 against their copies, which are other rows in other slices.

    The posteriors are equal: means within 0.1 sd, as above.
    """
    X, weight = large_rows(weights=True)
    X, weight = np.concatenate([X, X]), np.concatenate([weight, weight])
    repeated = np.repeat(X, weight.astype(int), axis=0)
    options = {"K": 3, "progress": False, "execution": "graph", "calibrate": False}
    found = bgmm_jd.fit(X, sample_weight=weight, **options)
    assert found.problem.data.shape[0] > 20_000
    copies = bgmm_jd.fit(repeated, **options)
    for posterior in (found, copies):
        assert posterior.calibration == MEAN_FIELD
        assert posterior.status in (Status.CONVERGED, Status.KHAT_TOO_HIGH)
    (mean, sd), (other, other_sd) = moments_of_draws(found), moments_of_draws(copies)
    assert np.abs((mean - other) / other_sd).max() < 0.1
    assert np.abs(np.log(sd / other_sd)).max() < 0.05
