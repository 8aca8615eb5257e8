"""Programs of the padded form give what those of the problem itself give."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.model.weakly_informative_prior import weakly_informative_prior
from bgmm_jd.optimization import svi
from bgmm_jd.optimization.single_run import schedule_for
from bgmm_jd.settings import PaddingSettings, Settings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import as_parameter_tensors
from bgmm_jd.variational.surrogate import standardized_surrogate
from bgmm_jd.variational.tempered import TemperedDensity

FORMS = ["diag", "full", "tied", "spherical"]
# Each size and likelihood with one form by column and one by matrix, and the other two by hand.
SOME_FORMS = [
    "diag",
    "full",
    pytest.param("tied", marks=pytest.mark.slow),
    pytest.param("spherical", marks=pytest.mark.slow),
]
UNPADDED = Settings(padding=PaddingSettings(numbers=0))


def both(form, K, N=90, D=2, dtype=np.float64, has_weights=False, has_missing=False, **options):
    """Return the start of a fit, whose problem is padded, and the same problem unpadded."""
    rng = np.random.default_rng(K)
    X = (rng.normal(size=(N, D)) + 5.0 * rng.integers(0, 3, (N, 1))).astype(dtype)
    if has_missing:
        X[::7, 0] = np.nan
    weight = rng.uniform(0.5, 2.0, N) if has_weights else None
    approximation = started(problem_for(X, K, form, weight=weight, execution="graph", **options))
    return approximation, replace(approximation.problem, settings=UNPADDED)


def compare_density_and_slope(form, options):
    statistics = options.get("statistics")
    own = {name: v for name, v in options.items() if name != "statistics"}
    approximation, unpadded = both(form, 3, **own)
    points = draw_mean_field(unpadded, approximation.params, 6, seed=1).points
    found, expected = (
        TemperedDensity(p, 0.7, statistics=statistics).density(points)
        for p in (approximation.problem, unpadded)
    )
    # Sums of 90 rows and 20 coordinates, some thousand nats, in the dtype of the rows.
    rounding = 1e4 * np.finfo(unpadded.data.dtype).eps
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rounding, atol=100.0 * rounding)


@pytest.mark.parametrize("form", FORMS)
def test_density_and_slope_of_three_components(form):
    compare_density_and_slope(form, {})


@pytest.mark.parametrize("form", SOME_FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": np.float32},
        {"has_weights": True},
        {"has_missing": True},
        {"statistics": tf.float64, "has_weights": True},
    ],
    ids=["float32", "weights", "missing", "statistics"],
)
def test_density_and_slope_under_every_likelihood(form, options):
    compare_density_and_slope(form, options)


@pytest.mark.parametrize("form", FORMS)
def test_steps_move_active_components_only(form):
    approximation, _ = both(form, 3)
    problem = approximation.problem
    compiled = problem.compiled_form
    schedule = schedule_for(problem, equal_batches(90, 90))
    before = compiled.pad_parameters(approximation.params)
    block = svi.program(compiled.model, schedule).run(
        compiled.rows, compiled.values, before, stateless_seed(1), 0, StepSize(1.0, 1.0, 0.1)
    )
    for site in problem.model.sites:
        for name, start in before[site.name].items():
            end = block.params[site.name][name]
            assert np.isfinite(end).all()
            if site.has_component_axis:
                np.testing.assert_allclose(end[3:], start[3:], rtol=1e-12)
                assert (end[:3] != start[:3]).any()


@pytest.mark.parametrize("form", SOME_FORMS)
@pytest.mark.parametrize("K", [1, 8])
def test_density_and_slope_are_those_of_the_problem(form, K):
    approximation, unpadded = both(form, K)
    problem = approximation.problem
    assert problem.compiled_form.size == (96, 4 if K < 8 else 8)
    assert unpadded.compiled_form.size == (90, K)
    points = draw_mean_field(unpadded, approximation.params, 6, seed=1).points
    found, expected = (TemperedDensity(p, 0.7).density(points) for p in (problem, unpadded))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)


def prior_with_other_values(form, K, D=2):
    """Return a prior whose components differ, but for those that share a matrix."""
    rng = np.random.default_rng(5)
    own = {"tied": ((), (D,)), "spherical": ((K, 1), (K, 1)), "full": ((K,), (K, D))}
    shape, rate_shape = own.get(form, ((K, D), (K, D)))
    return bgmm_jd.mixture_prior(
        K,
        D,
        covariance=form,
        mean_loc=rng.normal(size=(K, D)),
        mean_scale=rng.uniform(1.0, 9.0, (K, D)),
        precision_concentration=rng.uniform(1.0, 3.0, shape),
        precision_rate=rng.uniform(1.0, 3.0, rate_shape),
        weight_concentration=rng.uniform(0.5, 3.0, K),
        dtype="float64",
    )


@pytest.mark.parametrize(
    ("form", "K"),
    [*((form, 3) for form in FORMS), ("diag", 1), pytest.param("full", 1, marks=pytest.mark.slow)],
)
def test_values_of_mixture_prior_are_arguments_of_the_programs(form, K):
    """Fits in the units of X, under priors with other values and other K, share a model."""
    forms = []
    for prior in (
        prior_with_other_values(form, K),
        bgmm_jd.mixture_prior(K, 2, covariance=form, dtype="float64"),
    ):
        approximation, unpadded = both(form, K, prior=prior)
        problem = approximation.problem
        assert problem.compiled_form.size == (96, 4)
        assert unpadded.compiled_form.size == (90, K)
        points = draw_mean_field(unpadded, approximation.params, 6, seed=1).points
        found, expected = (TemperedDensity(p, 0.7).density(points) for p in (problem, unpadded))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)
        forms.append(problem.compiled_form)
    assert forms[0].model is forms[1].model


@pytest.mark.parametrize(
    ("form", "K"),
    [*((form, 3) for form in FORMS), ("diag", 1), pytest.param("full", 1, marks=pytest.mark.slow)],
)
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
    prior = bgmm_jd.stick_breaking_prior(3, 2, dtype="float64")
    form = both("diag", 3, prior=prior)[0].problem.compiled_form
    assert form.size == (96, 3)


def test_prior_of_other_units_is_not_padded():
    """The default prior of rows with location 0 and scale 1 is no constant for other rows."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    standard = weakly_informative_prior(2, 2, "diag", "float64")
    problem = problem_for(10.0 * rows + 3.0, 2, "diag", prior=standard)
    assert problem.compiled_form.size == (64, 2)


def test_sizes_may_be_those_of_the_problem():
    rows = np.random.default_rng(0).normal(size=(40, 2))
    settings = Settings(padding=PaddingSettings(fewest_rows=0))
    assert problem_for(rows, 2, settings=settings).compiled_form.size == (40, 4)
    settings = Settings(padding=PaddingSettings(components=(1, 4)))
    assert problem_for(rows, 1, settings=settings).compiled_form.size == (64, 1)
