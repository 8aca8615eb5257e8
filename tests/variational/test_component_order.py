"""The order of the components in the output: what decides it, and that noise does not change it."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from small_problems import overlapping_start

from bgmm_jd.data.units import as_standardization_tensors
from bgmm_jd.model.quadratic_likelihood import precision_diagonals
from bgmm_jd.variational.component_order import (
    Summaries,
    component_summaries,
    order_components,
)
from bgmm_jd.variational.parameters import as_parameter_tensors
from bgmm_jd.variational.surrogate import surrogate_in_data_units


def summaries(means, log_variances=None, weights=None, sd=0.02):
    """Return summaries with one sd for all; by default, all variances and weights are equal.

    Weights stand with a minus, as `component_summaries` returns them.
    """
    K = len(means)
    columns = [means, [[0.0]] * K if log_variances is None else log_variances]
    columns.append(-np.array([1.0 / K] * K if weights is None else weights))
    mean = [np.reshape(np.array(v, float), (K, -1)) for v in columns]
    return [Summaries(v, np.full(v.shape, sd)) for v in mean]


def permuted(found, order):
    return [Summaries(mean[order], sd[order]) for mean, sd in found]


# Each in the order of output.
EMPTY_BETWEEN_OTHERS = summaries([[-1.0], [0.2], [1.0]], weights=[0.6, 0.0, 0.4])
EMPTY_BETWEEN_OTHERS[0].sd[1] = 2.0
CASES = {
    # The first feature has two means 0.01 apart, the second none closer than 4.
    "second feature": summaries([[-2.01, -4.0], [2.0, 0.0], [-2.00, 4.0]]),
    "widest gap": summaries([[0.5, -1.0], [-0.5, 1.0]]),
    "features with a constant sum": summaries([[-1.0, 1.0], [0.0, 0.0], [1.5, -1.5]]),
    "two by two": summaries([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]),
    "one centre, two widths": summaries([[0.0, 0.0], [0.0, 0.0]], [[-2.0, -1.0], [1.0, 1.0]]),
    "one centre of three": summaries([[-2.0], [-2.0], [2.0]], [[-1.0], [1.0], [-1.0]]),
    "weights": summaries([[0.0], [0.0]], weights=[0.8, 0.2]),
    "empty component between others": EMPTY_BETWEEN_OTHERS,
}


@pytest.mark.parametrize("name", CASES)
def test_order_depends_neither_on_the_labels_given_nor_on_noise(name):
    """With noise of a tenth of a posterior sd; nearest to a limit is a gap of nine of its sds."""
    found = CASES[name]
    rng = np.random.default_rng(0)
    for order in itertools.permutations(range(len(found[0].mean))):
        for _ in range(10):
            noisy = [Summaries(rng.normal(mean, 0.1 * sd), sd) for mean, sd in found]
            labels = order_components(permuted(noisy, list(order)))
            np.testing.assert_array_equal(np.array(order)[labels], range(len(order)))


def test_order_of_components_that_nothing_tells_apart_is_that_of_the_first_feature():
    """All differences are below three sds."""
    found = summaries([[0.01], [0.0], [-0.01]])
    np.testing.assert_array_equal(order_components(found), [2, 1, 0])


def test_single_component_has_the_label_0():
    np.testing.assert_array_equal(order_components(summaries([[0.0, 1.0]])), [0])


@pytest.mark.parametrize("form", ["diag", "full", "tied", "spherical"])
def test_summaries_are_moments_of_draws_in_the_units_of_rows(form):
    """Of 10,000 draws, in the sds of columns; z = 5.

    The standard error of a relative sd r is about r sqrt((1 + 2 r^2) / (2 S)): below 1 % of it for
    r below 0.7.
    """
    start = overlapping_start(form)
    problem, units = start.problem, start.problem.data.standardization
    found = component_summaries(problem.model.sites, start.params, units)
    assert len(found) == (2 if form == "tied" else 3)
    model = problem.model.standardized(as_standardization_tensors(units, tf.float64))
    surrogate = surrogate_in_data_units(model, as_parameter_tensors(start.params))
    theta = surrogate.sample(10_000, seed=(0, 1))._asdict()
    means = (theta["means"].numpy() - units.shift) / units.column_scale
    np.testing.assert_array_less(
        np.abs(means.mean(axis=0) - found[0].mean), 5 * means.std(axis=0) / 100
    )
    weights = theta["weights"].numpy()
    np.testing.assert_array_less(
        np.abs(weights.mean(axis=0) + found[-1].mean[:, 0]), 5 * weights.std(axis=0) / 100
    )
    if form == "tied":
        return
    precisions = precision_diagonals(theta, form).numpy() * units.column_scale**2
    precisions = precisions[..., :1] if form == "spherical" else precisions
    relative = precisions.std(axis=0) / precisions.mean(axis=0)
    assert relative.max() < 0.7
    np.testing.assert_allclose(found[1].sd, relative, rtol=0.05)
    error = np.abs(np.log(precisions.mean(axis=0)) + found[1].mean)
    np.testing.assert_array_less(error, 5 * relative / 100)
