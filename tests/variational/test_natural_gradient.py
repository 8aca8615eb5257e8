"""The step along the natural gradient, and its limits; the families' own are in test_families."""

import numpy as np
import pytest
import tensorflow as tf
from known_priors import PRIORS, random_params, standardized_model

from bgmm_jd.variational.natural_gradient import (
    StepSize,
    cholesky_step_scale,
    natural_gradient,
    natural_step,
)

TRIL = np.array([[2.0, 0.0, 0.0], [0.7, 0.3, 0.0], [-20.0, 4.0, 30.0]])


def test_natural_gradient_is_that_of_each_sites_family(model):
    params, gradient = random_params(model), random_params(model, seed=1)
    found = natural_gradient(model.sites, params, gradient)
    assert list(found) == [s.name for s in model.sites]
    for site in model.sites:
        expected = site.family.natural_gradient(params[site.name], gradient[site.name])
        for name in site.family.constraints:
            np.testing.assert_array_equal(found[site.name][name], expected[name])


def test_step_is_minus_the_rate_times_the_natural_gradient_where_it_is_short(model):
    params, gradient = random_params(model), random_params(model, seed=1)
    size = StepSize(rate=0.3, longest_loc=np.inf, longest_log=np.inf)
    step = natural_step(model.sites, params, gradient, size)
    direction = natural_gradient(model.sites, params, gradient)
    for one, other in zip(tf.nest.flatten(step), tf.nest.flatten(direction), strict=True):
        np.testing.assert_allclose(one, -0.3 * np.asarray(other), rtol=1e-15)


def test_long_steps_are_clipped_and_infinite_ones_not_taken():
    """Locations to sds, logs to a number, the entries of a Cholesky factor to their scale."""
    model = standardized_model(PRIORS["full"], "full")
    params = random_params(model)
    gradient = tf.nest.map_structure(lambda v: 1e6 * tf.ones_like(v), params)
    broken = np.full(params["weights"]["concentration"].shape, np.nan)
    gradient["weights"] = {"concentration": tf.constant(broken)}
    gradient["means"] = {"loc": 1e9 * gradient["means"]["loc"], "scale": gradient["means"]["scale"]}
    size = StepSize(rate=1.0, longest_loc=2.0, longest_log=0.1)
    step = natural_step(model.sites, params, gradient, size)
    np.testing.assert_array_equal(step["weights"]["concentration"], 0.0)
    np.testing.assert_allclose(step["means"]["loc"], -2.0 * params["means"]["scale"], rtol=1e-15)
    np.testing.assert_array_equal(step["means"]["scale"], -0.1 + 0 * params["means"]["scale"])
    np.testing.assert_array_equal(np.abs(step["precisions"]["excess"]), 0.1)
    reach = 0.1 * cholesky_step_scale(params["precisions"]["mean_tril"])
    assert np.all(np.abs(step["precisions"]["mean_tril"]) <= reach)


def test_step_scale_of_a_cholesky_factor_is_one_on_the_diagonal_and_its_rows_length_below():
    """A log diagonal by 1; a row turned by its own length."""
    scale = cholesky_step_scale(tf.constant(TRIL)).numpy()
    np.testing.assert_array_equal(np.diagonal(scale), 1)
    for i, j in [(1, 0), (2, 0), (2, 1)]:
        assert scale[i, j] == pytest.approx(np.linalg.norm(TRIL[i]), rel=1e-14)
    assert np.all(np.isfinite(scale))
