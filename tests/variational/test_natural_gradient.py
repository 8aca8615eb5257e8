"""The step along the natural gradient, and its limits; the families' own are in test_families."""

import numpy as np
import pytest
import tensorflow as tf
from known_priors import PRIORS, random_params, standardized_model

from bgmm_jd.variational.natural_gradient import (
    StepSize,
    natural_gradient,
    natural_step,
)


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


def test_long_steps_of_numbers_are_clipped_and_infinite_ones_not_taken():
    """Locations to sds, logs to a number."""
    model = standardized_model(PRIORS["published"], "diag")
    params = random_params(model)
    gradient = tf.nest.map_structure(lambda v: 1e9 * tf.ones_like(v), params)
    broken = np.full(params["weights"]["concentration"].shape, np.nan)
    gradient["weights"] = {"concentration": tf.constant(broken)}
    size = StepSize(rate=1.0, longest_loc=2.0, longest_log=0.1)
    step = natural_step(model.sites, params, gradient, size)
    np.testing.assert_array_equal(step["weights"]["concentration"], 0.0)
    np.testing.assert_allclose(step["means"]["loc"], -2.0 * params["means"]["scale"], rtol=1e-15)
    np.testing.assert_array_equal(step["means"]["scale"], -0.1 + 0 * params["means"]["scale"])
    np.testing.assert_array_equal(
        step["precisions"]["mean"], -0.1 + 0 * params["precisions"]["mean"]
    )


@pytest.mark.parametrize("size_of_gradient", [1e-9, 1e9])
def test_steps_of_matrix_families_keep_their_direction_and_are_no_longer_than_the_limit(
    size_of_gradient,
):
    """Locations in Mahalanobis distance, Cholesky factors C by T in dC = C T."""
    model = standardized_model(PRIORS["full"], "full")
    params, noise = random_params(model), random_params(model, seed=1)
    gradient = tf.nest.map_structure(lambda v: size_of_gradient * v, noise)
    size = StepSize(rate=0.7, longest_loc=2.0, longest_log=0.1)
    step = natural_step(model.sites, params, gradient, size)
    direction = natural_gradient(model.sites, params, gradient)
    for site, name, limit in (
        ("means", "loc", 2.0),
        ("means", "scale_tril", 0.1),
        ("precisions", "mean_tril", 0.1),
    ):
        taken, wanted = (np.asarray(v[site][name]) for v in (step, direction))
        tril = np.asarray(params[site]["mean_tril" if site == "precisions" else "scale_tril"])
        D = tril.shape[-1]
        if name == "loc":
            whole = np.linalg.solve(tril, -0.7 * wanted[..., np.newaxis])
        else:
            # On the diagonal the step is that of log C_ii.
            change = np.where(np.eye(D) > 0, tril * wanted, wanted)
            whole = -0.7 * np.linalg.solve(tril, change)
            whole = whole + np.eye(D) * whole * (
                np.sqrt(2.0) - 1.0
            )  # T_ii has twice the information
        length = np.sqrt((whole**2).sum(axis=(-2, -1)))
        factor = np.minimum(1.0, limit * np.sqrt(D) / length)
        assert np.all(factor == 1.0) if size_of_gradient < 1.0 else np.all(factor < 1.0)
        factor = factor.reshape(*factor.shape, *[1] * (wanted.ndim - factor.ndim))
        np.testing.assert_allclose(taken, -0.7 * factor * wanted, rtol=1e-9)
    np.testing.assert_array_less(np.abs(step["precisions"]["excess"]), 0.1 * (1 + 1e-12))
