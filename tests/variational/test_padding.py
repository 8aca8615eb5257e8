"""Programs of the padded form give what those of the problem itself give."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started

import bgmm_jd
from bgmm_jd.settings import PaddingSettings, Settings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.parameters import as_parameter_tensors
from bgmm_jd.variational.surrogate import standardized_surrogate
from bgmm_jd.variational.tempered import TemperedDensity

FORMS = ["diag", "full", "tied", "spherical"]
UNPADDED = Settings(padding=PaddingSettings(numbers=0))


def both(form, K, N=90, D=2, **options):
    """Return the start of a fit, whose problem is padded, and the same problem unpadded."""
    rng = np.random.default_rng(K)
    X = rng.normal(size=(N, D)) + 5.0 * rng.integers(0, 3, (N, 1))
    approximation = started(problem_for(X, K, form, execution="graph", **options))
    return approximation, replace(approximation.problem, settings=UNPADDED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("K", [1, 3, 8])
def test_density_and_slope_are_those_of_the_problem(form, K):
    approximation, unpadded = both(form, K)
    problem = approximation.problem
    assert problem.compiled_form.size == (96, 4 if K < 8 else 8)
    assert unpadded.compiled_form.size == (90, K)
    points = draw_mean_field(unpadded, approximation.params, 6, seed=1).points
    found, expected = (TemperedDensity(p, 0.7).density(points) for p in (problem, unpadded))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("K", [1, 3])
def test_draws_have_the_density_and_the_coordinates_of_the_problem(form, K):
    approximation, unpadded = both(form, K)
    draws = draw_mean_field(approximation.problem, approximation.params, 7, seed=2)
    model = unpadded.standardized_model
    surrogate = standardized_surrogate(model, as_parameter_tensors(approximation.params))
    theta = [draws.theta[site.name] for site in model.sites]
    assert [v.shape[1:] for v in theta] == [site.shape for site in model.sites]
    np.testing.assert_allclose(draws.log_q, surrogate.log_prob(*theta), rtol=1e-10)
    np.testing.assert_allclose(draws.points, flatten(model, draws.theta), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tf.reduce_sum(draws.theta["weights"], axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("N", "size"), [(10, 64), (64, 64), (65, 80), (97, 128), (161, 192), (193, 256), (272, 320)]
)
def test_rows_are_padded_to_the_next_of_a_few_sizes(N, size):
    approximation, _ = both("diag", 2, N=N)
    assert approximation.problem.compiled_form.size == (size, 4)


def test_large_problems_and_priors_of_ones_own_keep_their_components():
    form = both("full", 3, N=40, D=6)[0].problem.compiled_form  # 4 x 6 x 6 entries are small
    assert form.size == (64, 4)
    form = both("full", 3, N=40, D=9)[0].problem.compiled_form  # 4 x 9 x 9 are not
    assert form.size == (64, 3)
    form = both("diag", 3, N=9_000)[0].problem.compiled_form
    assert form.size == (9_000, 3)
    prior = bgmm_jd.mixture_prior(3, 2, dtype="float64")
    form = both("diag", 3, prior=prior)[0].problem.compiled_form
    assert form.size == (96, 3)
