"""A user's own prior: which form of covariance it has, and what is refused."""

import numpy as np
import pytest
from known_covariances import D, K, Root, either_scale_variable, every_form, prior_of
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.model.prior_checks import prior_covariance_form


def joint(*distributions):
    """Make a coroutine of independent variables."""

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


def wishart(name, *shape):
    """Make a distribution of matrices, with any axes before the last two."""
    law = tfd.WishartTriL(np.full(shape[:-2], shape[-1] + 2.0), np.eye(shape[-1]))
    return tfd.Independent(law, len(shape) - 2, name=name)


WEIGHTS, MEANS, PRECISIONS = (
    dirichlet("weights", K),
    normal("means", K, D),
    gamma("precisions", K, D),
)


# --- The form of covariance ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "own",
    [
        joint(WEIGHTS, MEANS, PRECISIONS),
        joint(gamma("scales", K, D), MEANS, WEIGHTS),
        joint(normal("anything"), PRECISIONS, MEANS, WEIGHTS),
    ],
    ids=["precisions", "scales in another order", "a hyperparameter"],
)
def test_prior_over_vectors_is_diag_whatever_its_order_and_hyperparameters(own):
    assert prior_covariance_form(own, K, D) == "diag"


@pytest.mark.parametrize("wanted", FORMS)
@either_scale_variable
@every_form
def test_form_is_that_of_the_shape_and_any_other_asked_for_is_refused(form, name, wanted):
    """But "diag" is the default, and accepts any form."""
    own = prior_of(form, name)
    if wanted in (form, "diag"):
        assert prior_covariance_form(own, K, D, wanted) == form
    else:
        message = rf"covariance='{wanted}' needs a prior whose '{name}' has .*which is '{form}'"
        with pytest.raises(ValueError, match=message):
            prior_covariance_form(own, K, D, wanted)


@either_scale_variable
def test_covariance_decides_where_the_shape_fits_several_forms(name):
    """[K, 1] is [K, D] of one feature; [2, 2] is [K, D] and [D, D]."""
    column, square = prior_of("diag", name, 2, 1), prior_of("diag", name, 2, 2)
    assert prior_covariance_form(column, 2, 1) == "diag"
    assert prior_covariance_form(column, 2, 1, "spherical") == "spherical"
    assert prior_covariance_form(square, 2, 2) == "diag"
    with pytest.raises(ValueError, match="covariance='full'"):
        prior_covariance_form(square, 2, 2, "full")


@either_scale_variable
def test_matrices_are_not_taken_for_numbers_where_the_shape_fits_both(name):
    """A prior over matrices [D, D] is none over [K, D] numbers, which it would make negative."""
    own = prior_of("tied", name, 2, 2)
    assert prior_covariance_form(own, 2, 2) == "tied"
    assert prior_covariance_form(own, 2, 2, "tied") == "tied"


def test_matrices_of_positive_numbers_are_still_matrices():
    """Features of a negative correlation: a precision matrix without a negative entry."""
    scale = np.array([[1.0, 0.95], [0.95, 1.0]]) / 20
    matrices = tfd.WishartTriL(np.float64(20), np.linalg.cholesky(scale), name="precisions")
    own = joint(dirichlet("weights", 2), normal("means", 2, 2), matrices)
    assert prior_covariance_form(own, 2, 2) == "tied"


@either_scale_variable
def test_numbers_are_not_taken_for_a_matrix_where_the_shape_fits_both(name):
    """A prior over [K, D] numbers is none over matrices [D, D], which it would make asymmetric."""
    with pytest.raises(ValueError, match=r"covariance='tied'.*'diag'"):
        prior_covariance_form(prior_of("diag", name, 2, 2), 2, 2, "tied")


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_vague_prior_whose_draws_underflow_is_accepted(form):
    """Gamma(0.001, 0.001), as BUGS has it: most draws are zero in float32."""
    vague = mixture_prior(K, D, covariance=form, precision_concentration=1e-3, precision_rate=1e-3)
    assert prior_covariance_form(vague, K, D, form) == form


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (joint(MEANS, PRECISIONS), "'weights'"),
        (joint(WEIGHTS, PRECISIONS), "'means'"),
        (joint(WEIGHTS, MEANS), "one of 'precisions' and 'scales'"),
        (joint(WEIGHTS, MEANS, normal("sd", K, D)), r"it has \['means', 'sd', 'weights'\]"),
        (
            joint(WEIGHTS, MEANS, PRECISIONS, gamma("scales", K, D)),
            "one of 'precisions' and 'scales'",
        ),
        (
            joint(WEIGHTS, MEANS, wishart("precisions", D, D), wishart("scales", K, D, D)),
            "one of 'precisions' and 'scales'",
        ),
        (joint(dirichlet("weights", K + 1), MEANS, PRECISIONS), r"'weights'.*\[2\].*has \[3\]"),
        (joint(WEIGHTS, normal("means", D, K), PRECISIONS), r"'means'.*\[2, 3\].*has \[3, 2\]"),
        (joint(WEIGHTS, normal("means", K), PRECISIONS), r"'means'.*\[2, 3\].*has \[2\]"),
        # Shapes of matrices, and no matrices that could be covariances.
        (joint(WEIGHTS, MEANS, gamma("precisions", K, D, D)), r"'precisions'.*symmetric"),
        (joint(WEIGHTS, MEANS, gamma("precisions", D, D)), r"'precisions'.*symmetric"),
        (joint(WEIGHTS, MEANS, gamma("scales", K, D, D)), r"'scales'.*lower triangular"),
        (
            joint(WEIGHTS, MEANS, gamma("scales", D)),
            r"'scales'.*\[K, D\].*\[K, 1\].*\[D, D\].*\[K, D, D\].*K=2.*3 columns.*has \[3\]",
        ),
        (joint(WEIGHTS, MEANS, gamma("scales", D, K)), r"'scales'.*has \[3, 2\]"),
        (joint(WEIGHTS, MEANS, gamma("scales", K, D, D, 1)), r"'scales'.*has \[2, 3, 3, 1\]"),
        (
            joint(WEIGHTS, MEANS, wishart("precisions", K, D + 1, D + 1)),
            r"\[K, D, D\] \(full\).*\[2, 4, 4\]",
        ),
        (
            joint(WEIGHTS, MEANS, wishart("precisions", K + 1, D, D)),
            r"\[K, D, D\] \(full\).*\[3, 3, 3\]",
        ),
        (
            joint(WEIGHTS, MEANS, wishart("precisions", D - 1, D - 1)),
            r"\[D, D\] \(tied\).*\[2, 2\]",
        ),
        (joint(WEIGHTS, MEANS, gamma("precisions", K)), r"\[K, 1\] \(spherical\).*\[2\]"),
        (joint(WEIGHTS, MEANS, gamma("precisions", D)), r"\[K, 1\] \(spherical\).*\[3\]"),
        (joint(WEIGHTS, MEANS, gamma("precisions", K, D - 1)), r"\[K, D\].*\[2, 2\]"),
        (
            joint(WEIGHTS, tfd.Normal(np.zeros((K, D)), 1.0, name="means"), PRECISIONS),
            r"'means'.*batch shape \[\].*tfd.Independent",
        ),
    ],
    ids=[
        "no weights",
        "no means",
        "neither precisions nor scales",
        "another name",
        "precisions and scales",
        "matrices as precisions and scales",
        "weights too long",
        "means transposed",
        "means flat",
        "precisions as matrices",
        "precisions as one matrix",
        "scales as matrices",
        "scales flat",
        "scales transposed",
        "scales of too many axes",
        "matrices of another D",
        "matrices of another K",
        "one matrix of another D",
        "one precision for each component without an axis",
        "one precision for each feature",
        "precisions of another D",
        "a batch shape",
    ],
)
def test_prior_with_other_variables_or_shapes_is_refused(own, message):
    with pytest.raises(ValueError, match=message):
        prior_covariance_form(own, K, D)


def test_prior_that_vectorizes_itself_is_refused():
    @tfd.JointDistributionCoroutineAutoBatched
    def own():
        yield from (WEIGHTS, MEANS, PRECISIONS)

    with pytest.raises(ValueError, match=r"plain tfd.JointDistributionCoroutine.*AutoBatched"):
        prior_covariance_form(own, K, D)


@pytest.mark.parametrize(
    "own",
    [WEIGHTS, "diag", {"weights": WEIGHTS}, lambda: None],
    ids=["a distribution", "text", "a mapping", "a function"],
)
def test_anything_but_a_coroutine_is_refused(own):
    with pytest.raises(TypeError, match=r"must be a tfd\.JointDistributionCoroutine; got"):
        prior_covariance_form(own, K, D)


def test_prior_of_another_k_or_d_is_refused():
    found = mixture_prior(K, D)
    with pytest.raises(ValueError, match=r"'weights' must have shape \[3\] for K=3"):
        prior_covariance_form(found, K + 1, D)
    with pytest.raises(ValueError, match=r"'means' must have shape \[2, 5\].*5 columns"):
        prior_covariance_form(found, K, 5)


@pytest.mark.parametrize(
    ("forgotten", "shapes"),
    [
        ("weights", ""),
        # Of the others broadcasting makes a density of shape [3] all the same.
        ("means", r".*shape \[3, 2, 3\]; they have \[2, 3\]"),
        ("precisions", r".*shape \[3, 2, 3\]; they have \[2, 3\]"),
        ("width", r".*shape \[3\]; they have \[\]"),
    ],
)
def test_variable_without_root_is_refused_by_name(forgotten, shapes):
    @tfd.JointDistributionCoroutine
    def own():
        for distribution in (WEIGHTS, MEANS, PRECISIONS, gamma("width")):
            yield distribution if distribution.name == forgotten else Root(distribution)

    advice = rf"variable '{forgotten}'.*no other variable in tfd\.JointDistributionCoroutine\.Root"
    with pytest.raises(ValueError, match=advice + shapes):
        prior_covariance_form(own, K, D)


@pytest.mark.parametrize("features", [D, D + 1], ids=["as many draws", "another number"])
def test_variable_without_new_axes_for_the_one_it_depends_on_is_refused(features):
    """Three draws of a width fit along the axis of three features, and not along that of four."""

    @tfd.JointDistributionCoroutine
    def own():
        width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
        yield Root(WEIGHTS)
        yield Root(normal("means", K, features))
        scale = width * np.ones((K, features))
        yield tfd.Independent(tfd.HalfNormal(scale), 2, name="scales")

    with pytest.raises(ValueError, match=r"several draws at once.*v\[\.\.\., tf\.newaxis\]"):
        prior_covariance_form(own, K, features)


@pytest.mark.parametrize("family", [tfd.Gamma, tfd.Normal])
def test_names_that_no_graph_accepts_are_refused(family):
    """TensorFlow names modules and scopes after distributions, and accepts no Greek letters."""

    @tfd.JointDistributionCoroutine
    def own():
        alpha = family(np.float64(3.0), 1.0, name="\N{GREEK SMALL LETTER ALPHA}")
        yield tfd.JointDistributionCoroutine.Root(alpha)

    with pytest.raises(ValueError, match=r"Spell out Greek letters, as in 'alpha'"):
        prior_covariance_form(own, 2, 2)
