"""Priors: densities against scipy, defaults in the data's units, what is refused at the door."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.data.units import Standardization, log_det_jacobian, unstandardize
from bgmm_jd.distributions.stick_breaking import StickBreaking
from bgmm_jd.model import prior_checks, prior_summaries, priors
from bgmm_jd.model.covariance_forms import (
    FORMS,
    MATRIX_FORMS,
    fits_form,
    scale_shape,
    transformation_of,
)
from bgmm_jd.model.priors import stick_breaking_prior

K, D = 3, 2
Root = tfd.JointDistributionCoroutine.Root


def joint(*distributions):
    """A coroutine of independent variables."""

    def model():
        for distribution in distributions:
            yield Root(distribution)

    return tfd.JointDistributionCoroutine(model)


def normal(name, *shape):
    return tfd.Independent(tfd.Normal(np.zeros(shape), 1.0), len(shape), name=name)


def gamma(name, *shape):
    return tfd.Independent(tfd.Gamma(np.full(shape, 2.0), 1.0), len(shape), name=name)


def dirichlet(name, size):
    return tfd.Dirichlet(np.full(size, 2.0), name=name)


# --- The published model's prior --------------------------------------------------------------


MAKERS = {"mixture": mixture_prior, "sticks": stick_breaking_prior}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_structure(dtype, form, maker):
    found = MAKERS[maker](K, D, covariance=form, dtype=dtype)
    spread = scale_shape(form, K, D)
    assert isinstance(found, tfd.JointDistributionCoroutine)
    assert prior_checks.variable_shapes(found) == {
        "weights": (K,),
        "means": (K, D),
        "precisions": spread,
    }
    draws = found.sample(5, seed=(0, 0))
    assert draws._fields == ("weights", "means", "precisions")
    assert [v.dtype for v in draws] == [dtype] * 3
    assert [v.shape for v in draws] == [(5, K), (5, K, D), (5, *spread)]
    assert found.log_prob(draws).shape == [5]
    assert prior_checks.check_prior(found, K, D) == form
    assert prior_checks.check_prior(found, K, D, form) == form


@pytest.mark.parametrize("maker", MAKERS)
def test_of_one_component_the_weight_is_one(maker):
    found = MAKERS[maker](1, D, dtype="float64")
    prior_checks.check_prior(found, 1, D)
    theta = found.sample(5, seed=(0, 0))
    assert theta._fields == ("weights", "means", "precisions")
    np.testing.assert_array_equal(theta.weights, np.ones((5, 1)))
    law = stats.norm.logpdf(theta.means) + stats.gamma(5.0, scale=0.2).logpdf(theta.precisions)
    np.testing.assert_allclose(found.log_prob(theta), law.sum(axis=(1, 2)), rtol=1e-13)


def scipy_log_density(theta, mean_loc, mean_scale, c, r, weight):
    return (
        stats.dirichlet(np.broadcast_to(weight, K)).logpdf(theta["weights"])
        + stats.norm(mean_loc, mean_scale).logpdf(theta["means"]).sum()
        + stats.gamma(c, scale=1 / np.asarray(r)).logpdf(theta["precisions"]).sum()
    )


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ({}, (0.0, 1.0, 5.0, 5.0, 2.0)),  # as published
        (
            {
                "mean_loc": [1.0, -2.0],
                "mean_scale": [[1.0], [2.0], [3.0]],
                "precision_concentration": np.arange(1, 7).reshape(K, D),
                "precision_rate": [0.5, 7.0],
                "weight_concentration": [0.5, 1.0, 9.0],
            },
            ([1.0, -2.0], [[1.0], [2.0], [3.0]], [[1, 2], [3, 4], [5, 6]], [0.5, 7], [0.5, 1, 9]),
        ),
    ],
    ids=["published", "each its own"],
)
def test_density(arguments, values):
    found = mixture_prior(K, D, dtype="float64", **arguments)
    rng = np.random.default_rng(0)
    theta = {
        "weights": rng.dirichlet(np.ones(K)),
        "means": rng.normal(size=(K, D)),
        "precisions": rng.gamma(2.0, size=(K, D)),
    }
    # 15 terms of a few nats each, in float64.
    np.testing.assert_allclose(
        found.log_prob(**theta), scipy_log_density(theta, *values), rtol=1e-13, atol=1e-13
    )


RATE = np.array([0.5, 7.0])


def test_density_of_a_precision_for_each_component():
    found = mixture_prior(
        K,
        D,
        "spherical",
        precision_concentration=[[1.0], [2.0], [3.0]],
        precision_rate=[[0.5], [7.0], [2.0]],
        dtype="float64",
    )
    theta = found.sample(4, seed=(0, 0))
    law = stats.gamma([[1.0], [2.0], [3.0]], scale=1 / np.array([[0.5], [7.0], [2.0]]))
    expected = stats.dirichlet(np.full(K, 2.0)).logpdf(theta.weights.numpy().T)
    expected += stats.norm.logpdf(theta.means).sum(axis=(1, 2))
    expected += law.logpdf(theta.precisions).sum(axis=(1, 2))
    np.testing.assert_allclose(found.log_prob(theta), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_density_of_precision_matrices(form):
    """Wishart(2 a + D - 1, diag(1 / (2 b))), by scipy."""
    a = np.array([1.0, 2.0, 3.0]) if form == "full" else np.array(2.0)
    b = np.outer([1.0, 2.0, 4.0], RATE) if form == "full" else RATE
    found = mixture_prior(K, D, form, precision_concentration=a, precision_rate=b, dtype="float64")
    theta = found.sample(4, seed=(0, 0))
    expected = stats.dirichlet(np.full(K, 2.0)).logpdf(theta.weights.numpy().T)
    expected += stats.norm.logpdf(theta.means).sum(axis=(1, 2))
    matrices = theta.precisions.numpy().reshape(4, -1, D, D)
    for k, (df, rate) in enumerate(zip(np.ravel(2 * a + D - 1), b.reshape(-1, D), strict=True)):
        law = stats.wishart(df, np.diag(0.5 / rate))
        expected += [law.logpdf(matrix) for matrix in matrices[:, k]]
    np.testing.assert_allclose(found.log_prob(theta), expected, rtol=1e-10)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_inverse_variances_have_one_law_in_every_form(form):
    """Of each feature Gamma(a, b), the inverse of a diagonal entry of the covariance matrix.

    Two tests of level 1e-6.
    """
    found = mixture_prior(
        K, D, form, precision_concentration=2.5, precision_rate=RATE, dtype="float64"
    )
    draws = found.sample(4000, seed=(1, 2)).precisions.numpy()
    matrix = draws[:, 0] if form == "full" else draws
    for d in range(D):
        variance = np.linalg.inv(matrix)[:, d, d]
        law = stats.gamma(2.5, scale=1 / RATE[d])
        assert stats.kstest(1 / variance, law.cdf).pvalue > 1e-6


def test_density_of_a_stick_breaking_prior():
    """The sticks are Beta(1, concentration); a density of the first K - 1 proportions."""
    found = stick_breaking_prior(K, D, 0.7, dtype="float64")
    assert isinstance(found.sample_distributions(seed=(0, 0))[0].weights, StickBreaking)
    theta = found.sample(4, seed=(0, 0))
    w = theta.weights.numpy()
    rest = np.stack([np.ones(4), 1 - w[:, 0]], axis=1)
    expected = (stats.beta(1.0, 0.7).logpdf(w[:, :2] / rest) - np.log(rest)).sum(axis=1)
    expected += stats.norm.logpdf(theta.means).sum(axis=(1, 2))
    expected += stats.gamma(5.0, scale=0.2).logpdf(theta.precisions).sum(axis=(1, 2))
    np.testing.assert_allclose(found.log_prob(theta), expected, rtol=1e-10)


def test_equal_arguments_give_the_same_object():
    """As a program is compiled for a prior, by identity."""
    first = mixture_prior(K, D)
    assert mixture_prior(np.int64(K), D, mean_loc=np.zeros((1, D)), mean_scale=1) is first
    assert mixture_prior(K, D, weight_concentration=[2.0] * K, dtype=np.float32) is first
    others = [
        mixture_prior(K, D, mean_loc=1.0),
        mixture_prior(K, D, mean_scale=2.0),
        mixture_prior(K, D, precision_concentration=6.0),
        mixture_prior(K, D, precision_rate=6.0),
        mixture_prior(K, D, weight_concentration=3.0),
        mixture_prior(K, D, dtype="float64"),
        mixture_prior(D, K),
        *(mixture_prior(K, D, form) for form in FORMS if form != "diag"),
        stick_breaking_prior(K, D),
        stick_breaking_prior(K, D, 2.0),
        stick_breaking_prior(K, D, covariance="full"),
    ]
    assert len({id(p) for p in [first, *others]}) == 14
    assert stick_breaking_prior(K, D, np.float32(1), "full") is others[-1]


@pytest.mark.parametrize("name", ["K", "D"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_sizes_that_are_refused(name, value, error):
    with pytest.raises(error, match=f"^{name} must be"):
        mixture_prior(**{"K": K, "D": D, name: value})
    sticks = {"K": "K_max", "D": "D"}
    with pytest.raises(error, match=f"^{sticks[name]} must be"):
        stick_breaking_prior(**{"K_max": K, "D": D, sticks[name]: value})


POSITIVE = ["mean_scale", "precision_concentration", "precision_rate", "weight_concentration"]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, [1.0, 1.0, 0.0]])
def test_values_that_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and positive"):
        mixture_prior(3, 3, **{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_concentration_of_sticks_must_be_positive(value):
    with pytest.raises(ValueError, match="concentration must be finite and positive"):
        stick_breaking_prior(3, 2, value)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_a_matrix_that_no_wishart_of_tfp_can_be_is_refused(form):
    """TFP has none of fewer than D degrees of freedom: the argument is named, and its limit."""
    mixture_prior(K, D, form, precision_concentration=0.5)
    with pytest.raises(ValueError, match=r"precision_concentration must be .*0\.5"):
        mixture_prior(K, D, form, precision_concentration=0.4)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_location_must_be_finite(value):
    with pytest.raises(ValueError, match="mean_loc must be finite"):
        mixture_prior(K, D, mean_loc=value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mean_loc", (K,)), ("mean_scale", (K, D, 1)), ("weight_concentration", (D,))],
)
def test_values_that_do_not_broadcast(name, shape):
    with pytest.raises(ValueError, match=f"{name} must broadcast to shape"):
        mixture_prior(K, D, **{name: np.ones(shape)})


@pytest.mark.parametrize(
    ("form", "name", "shape", "expected"),
    [
        ("full", "precision_concentration", (K, D), [K]),
        ("full", "precision_rate", (K, D, D), [K, D]),
        ("tied", "precision_concentration", (D,), []),
        ("tied", "precision_rate", (K, D), [D]),
        ("spherical", "precision_concentration", (K, D), [K, 1]),
        ("spherical", "precision_rate", (D,), [K, 1]),
    ],
)
def test_values_that_do_not_broadcast_in_other_forms(form, name, shape, expected):
    message = rf"{name} must broadcast to shape \{str(expected)[:-1]}\]"
    with pytest.raises(ValueError, match=message):
        mixture_prior(K, D, form, **{name: np.ones(shape)})


@pytest.mark.parametrize("value", ["full", [[1.0], [1.0, 2.0]]])
def test_values_that_are_no_numbers(value):
    with pytest.raises(TypeError, match="concentration must be a number or an array of them"):
        stick_breaking_prior(K, D, value)


def test_a_concentration_of_sticks_is_one_number():
    with pytest.raises(ValueError, match=r"concentration must broadcast to shape \[\]"):
        stick_breaking_prior(3, 2, np.ones(2))


def test_forms_and_dtypes_that_are_not_known():
    with pytest.raises(ValueError, match=r"covariance must be one of .*got 'round'"):
        mixture_prior(K, D, covariance="round")
    with pytest.raises(ValueError, match="float32 or float64; got 'float16'"):
        mixture_prior(K, D, dtype="float16")


# --- The default prior ------------------------------------------------------------------------


def test_default_prior_moves_with_the_units():
    """Of draws in other units, the density inside less the log of the change of volume."""
    where = Standardization(np.array([5000.0, -3.0]), np.array([1000.0, 0.5]))
    inside = priors.default_prior(K, D, "diag", "float64")
    theta = inside.sample(4, seed=(1, 2))
    moved = theta._replace(
        means=where.shift + where.scale * theta.means, precisions=theta.precisions / where.scale**2
    )
    log_det_jacobian = K * np.log(where.scale).sum() - 2 * K * np.log(where.scale).sum()
    found = priors.default_prior(K, D, "diag", "float64", where).log_prob(moved)
    # means - 5000 loses 5 eps relative to the scale.
    np.testing.assert_allclose(found, inside.log_prob(theta) - log_det_jacobian, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_default_prior_of_each_form_moves_with_the_units(form):
    """As above, by the changes of units that test_units holds to their Jacobians."""
    scale = [30.0, 30.0] if form == "spherical" else [1000.0, 0.5]
    where = Standardization(np.array([150.0, -3.0]), np.array(scale))
    inside = priors.default_prior(K, D, form, "float64")
    theta = inside.sample(4, seed=(1, 2))
    units = {name: transformation_of(name, form) for name in theta._fields}
    moved = {
        name: unstandardize(units[name], v.numpy(), where) for name, v in theta._asdict().items()
    }
    volume = log_det_jacobian([(units[n], tuple(v.shape[1:])) for n, v in moved.items()], where)
    found = priors.default_prior(K, D, form, "float64", where).log_prob(**moved)
    # TFP's Wishart goes by the Cholesky factor of what may be nearly singular.
    np.testing.assert_allclose(found, inside.log_prob(theta) - volume, rtol=1e-9, atol=1e-9)


def test_default_prior_is_weak():
    """In data with sd 1: means reach 2 sds, precisions from far below to far above K^(2/D)."""
    draws = priors.default_prior(K, D, "diag", "float64").sample(4000, seed=(1, 2))
    low, high = np.quantile(draws.precisions, (0.05, 0.95))
    assert low < K ** (2 / D) < high / 5
    # The standard error of an sd from 24,000 draws is 0.5 %; 4.9 of them: a false alarm of 1e-6.
    np.testing.assert_allclose(np.std(draws.means), 2.0, rtol=4.9 * 0.005)


# --- A user's own prior at the door -----------------------------------------------------------

WEIGHTS, MEANS, PRECISIONS = (
    dirichlet("weights", K),
    normal("means", K, D),
    gamma("precisions", K, D),
)


@pytest.mark.parametrize(
    "own",
    [
        joint(WEIGHTS, MEANS, PRECISIONS),
        joint(gamma("scales", K, D), MEANS, WEIGHTS),
        joint(normal("anything"), PRECISIONS, MEANS, WEIGHTS),
    ],
    ids=["precisions", "scales in another order", "a hyperparameter"],
)
def test_priors_that_are_taken(own):
    assert prior_checks.check_prior(own, K, D) == "diag"


def wishart(name, *batch):
    law = tfd.WishartTriL(np.full(batch, 4.0), np.eye(D))
    return tfd.Independent(law, len(batch), name=name)


def lower(name, *batch):
    """Lower triangular matrices with a positive diagonal."""
    base = tfd.MultivariateNormalDiag(np.zeros((*batch, 3)), np.ones(3))
    matrices = tfd.TransformedDistribution(base, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None))
    return tfd.Independent(matrices, len(batch), name=name)


@pytest.mark.parametrize(
    ("spread", "form"),
    [
        (wishart("precisions", K), "full"),
        (wishart("precisions"), "tied"),
        (gamma("precisions", K, 1), "spherical"),
        (lower("scales", K), "full"),
        (lower("scales"), "tied"),
        (gamma("scales", K, 1), "spherical"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_shape_says_the_form(spread, form):
    own = joint(WEIGHTS, MEANS, spread)
    assert prior_checks.check_prior(own, K, D) == prior_checks.check_prior(own, K, D, form) == form
    for other in set(FORMS) - {form, "diag"}:
        with pytest.raises(ValueError, match=rf"covariance='{other}' needs .*which is '{form}'"):
            prior_checks.check_prior(own, K, D, other)


def test_matrices_are_symmetric_to_the_rounding_of_their_diagonal():
    """As inverses of nearly diagonal matrices are in float32, whatever is left off the diagonal."""
    own = np.float32([[[2.0, 1e-7], [1.2e-7, 3.0]]])
    assert fits_form("precisions", own, "full")
    assert not fits_form("precisions", own + np.float32([[0.0, 0.1], [0.0, 0.0]]), "full")


def test_the_form_decides_where_a_shape_fits_two():
    two = dirichlet("weights", 2), normal("means", 2, 2)
    vectors, matrix = joint(*two, gamma("precisions", 2, 2)), joint(*two, wishart("precisions"))
    assert prior_checks.check_prior(vectors, 2, 2) == "diag"
    assert prior_checks.check_prior(matrix, 2, 2, "tied") == "tied"
    one = joint(dirichlet("weights", K), normal("means", K, 1), gamma("precisions", K, 1))
    assert prior_checks.check_prior(one, K, 1) == "diag"
    assert prior_checks.check_prior(one, K, 1, "spherical") == "spherical"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (joint(MEANS, PRECISIONS), "'weights'"),
        (joint(WEIGHTS, PRECISIONS), "'means'"),
        (joint(WEIGHTS, MEANS), "'precisions'"),
        (joint(WEIGHTS, MEANS, normal("sd", K, D)), r"it has \['means', 'sd', 'weights'\]"),
        (joint(WEIGHTS, MEANS, PRECISIONS, gamma("scales", K, D)), "one of 'precisions'"),
        (joint(dirichlet("weights", K + 1), MEANS, PRECISIONS), r"'weights'.*\[3\].*has \[4\]"),
        (joint(WEIGHTS, normal("means", D, K), PRECISIONS), r"'means'.*\[3, 2\].*has \[2, 3\]"),
        (joint(WEIGHTS, normal("means", K), PRECISIONS), r"'means'.*\[3, 2\].*has \[3\]"),
        # Shapes of matrices, and no matrices that could be covariances.
        (joint(WEIGHTS, MEANS, gamma("precisions", K, D, D)), r"'precisions'.*symmetric"),
        (joint(WEIGHTS, MEANS, gamma("precisions", D, D)), r"'precisions'.*symmetric"),
        (joint(WEIGHTS, MEANS, gamma("scales", K, D, D)), r"'scales'.*lower triangular"),
        (
            joint(WEIGHTS, MEANS, gamma("scales", D)),
            r"'scales'.*\[K, D\].*\[K, 1\].*\[D, D\].*\[K, D, D\].*K=3.*2 columns.*has \[2\]",
        ),
        (joint(WEIGHTS, MEANS, gamma("scales", D, K)), r"'scales'.*has \[2, 3\]"),
        (joint(WEIGHTS, MEANS, gamma("scales", K, D, D, 1)), r"'scales'.*has \[3, 2, 2, 1\]"),
        (
            joint(WEIGHTS, tfd.Normal(np.zeros((K, D)), 1.0, name="means"), PRECISIONS),
            r"'means'.*batch shape \[\].*tfd.Independent",
        ),
    ],
    ids=[
        "no weights",
        "no means",
        "no spread",
        "another name",
        "two spreads",
        "weights too long",
        "means transposed",
        "means flat",
        "precisions as matrices",
        "precisions as one matrix",
        "scales as matrices",
        "scales flat",
        "scales transposed",
        "scales of too many axes",
        "a batch shape",
    ],
)
def test_priors_that_are_refused(own, message):
    with pytest.raises(ValueError, match=message):
        prior_checks.check_prior(own, K, D)


def test_a_prior_that_vectorizes_itself_is_refused():
    @tfd.JointDistributionCoroutineAutoBatched
    def own():
        yield from (WEIGHTS, MEANS, PRECISIONS)

    with pytest.raises(ValueError, match=r"AutoBatched.*plain tfd.JointDistributionCoroutine"):
        prior_checks.check_prior(own, K, D)


@pytest.mark.parametrize(
    "own",
    [WEIGHTS, "diag", {"weights": WEIGHTS}, lambda: None],
    ids=["a distribution", "text", "a mapping", "a function"],
)
def test_anything_but_a_coroutine_is_refused(own):
    with pytest.raises(TypeError, match=r"must be a tfd\.JointDistributionCoroutine; got"):
        prior_checks.check_prior(own, K, D)


def test_another_k_or_d_is_refused():
    found = mixture_prior(K, D)
    with pytest.raises(ValueError, match=r"'weights' must have shape \[4\] for K=4"):
        prior_checks.check_prior(found, K + 1, D)
    with pytest.raises(ValueError, match=r"'means' must have shape \[3, 5\].*5 columns"):
        prior_checks.check_prior(found, K, 5)


# --- Where variables that the data do not start begin -----------------------------------------


def test_prior_moments():
    """The median, and a tenth of the interquartile range / 1.349, of 200 draws.

    The asymptotic standard errors of a sample median and quartile are sqrt(p (1 - p) / n) / f;
    6 of them for each of 8 entries is a false alarm of 1e-7 or so.
    """
    laws = [stats.norm(3.0, 2.0), stats.gamma(2.0, scale=0.2), stats.cauchy(1.0, 0.5)]
    own = joint(
        tfd.Independent(tfd.Normal(np.full((2, 2), 3.0), 2.0), 2, name="a"),
        tfd.Sample(tfd.Gamma(np.float64(2.0), 5.0), 3, name="b"),
        tfd.Cauchy(np.float64(1.0), 0.5, name="c"),
    )
    found = prior_summaries.prior_moments(own)
    for (name, shape), law in zip([("a", (2, 2)), ("b", (3,)), ("c", ())], laws, strict=True):
        middle, spread = found[name]
        assert middle.shape == spread.shape == shape
        low, median, high = law.ppf([0.25, 0.5, 0.75])
        n = prior_summaries._PRIOR_DRAWS
        assert np.all(np.abs(middle - median) < 6 * 0.5 / np.sqrt(n) / law.pdf(median))
        error = np.sqrt(3 / 16 / n) * (1 / law.pdf(low) + 1 / law.pdf(high))
        assert np.all(np.abs(13.49 * spread - (high - low)) < 6 * error)


def test_prior_moments_are_the_same_each_time():
    found = [prior_summaries.prior_moments(mixture_prior(K, D)) for _ in range(2)]
    tf.nest.map_structure(np.testing.assert_array_equal, *found)
