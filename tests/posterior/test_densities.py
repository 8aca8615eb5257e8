"""Log densities of draws under the default prior, which is in standardised units, in those of X."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_problems import overlapping_start

from bgmm_jd.data.units import unstandardize
from bgmm_jd.fitting.default_prior import prior_in_data_units
from bgmm_jd.posterior.densities import log_densities, log_prior_densities, row_log_likelihood
from bgmm_jd.variational.approximation import draw_mean_field


def stand_in(problem):
    """Return what the densities need of a posterior."""
    return SimpleNamespace(
        problem=problem,
        settings=problem.settings,
        covariance=problem.model.covariance,
        dtype=problem.data.dtype,
        D=problem.data.shape[1],
    )


@pytest.fixture(scope="module", params=["diag", "full", "tied", "spherical"])
def drawn(request):
    """A surrogate in float64, and draws of it."""
    approximation = overlapping_start(request.param)
    draws = draw_mean_field(approximation.problem, approximation.params, 20, seed=0)
    return approximation.problem, draws


def test_log_prior_of_each_variable_is_that_of_the_prior_in_the_units_of_x(drawn):
    problem, draws = drawn
    model, data = problem.model, problem.data
    prior = prior_in_data_units(data, model.K, model.covariance, problem.settings.default_prior)
    theta = {
        site.name: unstandardize(
            site.transformation, draws.theta[site.name].numpy(), data.standardization
        )
        for site in model.sites
    }
    expected = prior.log_prob_parts(**theta)._asdict()
    found = log_prior_densities(stand_in(problem), draws)
    assert set(found) == set(expected)
    for name, density in found.items():
        # Precision matrices in the units of X are inverted again in float64.
        np.testing.assert_allclose(density, expected[name], rtol=1e-8, atol=1e-8)


def test_log_prior_and_log_likelihood_add_up_to_the_log_joint(drawn):
    problem, draws = drawn
    posterior = stand_in(problem)
    shift, scale, _ = problem.data.standardization
    z = problem.data.rows.values
    X = shift + (z * scale if scale.ndim == 1 else z @ scale.T)
    likelihood = row_log_likelihood(posterior, draws, X).sum(axis=1)
    found = sum(log_prior_densities(posterior, draws).values()) + likelihood
    # 300 rows, each rounded when it is put into the units of X and back.
    np.testing.assert_allclose(found, log_densities(posterior, draws).log_joint, rtol=1e-9)
