"""Programs of the padded form give what those of the problem itself give."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started

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
