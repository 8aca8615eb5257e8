"""The walk through the prior: the site of each variable, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
from known_priors import ONE, PRIORS, STANDARDIZATION, D, K, Root, own_prior, prior_of
from scipy.special import softmax
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.data.units import Transformation
from bgmm_jd.model.covariance_forms import FORMS, transformation_of
from bgmm_jd.variational.families import (
    DIRICHLET,
    FIXED,
    GAMMA,
    MULTIVARIATE_NORMAL,
    NORMAL,
    STICK_BREAKING,
    WISHART,
)
from bgmm_jd.variational.structure import model_of, sites_of

# --- Sites ------------------------------------------------------------------------------------


def families_of(prior):
    return {site.name: site.family for site in sites_of(prior)}


def test_sites_have_the_names_order_and_shapes_of_the_prior(prior, model):
    assert tuple(site.name for site in model.sites) == prior.event_shape._fields
    assert [site.shape for site in model.sites] == [tuple(shape) for shape in prior.event_shape]


def test_published_prior_keeps_its_families():
    sites = sites_of(PRIORS["published"])
    assert [s.family for s in sites] == [DIRICHLET, NORMAL, GAMMA]
    assert all(s.bijector is None and s.fixed is None for s in sites)


@pytest.mark.parametrize("form", FORMS)
def test_form_determines_family_transformation_and_component_axis_of_precisions(form):
    """Matrices have a Wishart, and correlated means; a tied covariance belongs to no component."""
    sites = sites_of(mixture_prior(K, D, covariance=form), form)
    matrices = form in ("full", "tied")
    of_means, of_scales = (MULTIVARIATE_NORMAL, WISHART) if matrices else (NORMAL, GAMMA)
    assert [s.family for s in sites] == [DIRICHLET, of_means, of_scales]
    of_precisions = transformation_of("precisions", form)
    assert [s.transformation for s in sites] == [
        Transformation.NONE,
        Transformation.LOCATION,
        of_precisions,
    ]
    assert [s.has_component_axis for s in sites] == [True, True, form != "tied"]
    assert all(s.bijector is None and s.fixed is None for s in sites)


MATRIX = np.array([[2.0, 0.3], [0.3, 0.5]])
MULTIVARIATE = {
    "by a factor": tfd.MultivariateNormalTriL([1.0, 2.0], np.linalg.cholesky(MATRIX)),
    "by a covariance": tfd.MultivariateNormalFullCovariance(np.zeros(2), MATRIX),
    "by an operator": tfd.MultivariateNormalLinearOperator(
        np.zeros(2), tf.linalg.LinearOperatorLowerTriangular(np.linalg.cholesky(MATRIX))
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MULTIVARIATE)
def test_multivariate_normal_means_keep_their_family_in_every_form(kind, form):
    (site,) = sites_of(prior_of(means=tfd.Sample(MULTIVARIATE[kind], K)), form)
    assert site.family is MULTIVARIATE_NORMAL
    assert site.bijector is None
    assert site.shape == (K, D)
    assert site.is_normal


@pytest.mark.contract
@pytest.mark.parametrize(
    "proportions",
    [
        tfd.Dirichlet(np.ones((K, D))),
        tfd.RelaxedOneHotCategorical(np.float64(1.0), probs=np.ones((K, D))),
    ],
    ids=["Dirichlet", "relaxed one-hot"],
)
def test_proportions_outside_their_family_are_a_softmax_of_normal_variables(proportions):
    """By a map of this library: under NumPy 2.4 TFP 0.25 cannot make its own."""
    (site,) = sites_of(prior_of(precisions=tfd.Independent(proportions, 1)))
    assert site.family is NORMAL
    y = np.random.default_rng(0).normal(size=(K, D - 1))
    expected = softmax(np.column_stack([y, np.zeros(K)]), axis=1)
    np.testing.assert_allclose(site.bijector.forward(y), expected, rtol=1e-12)


def test_multivariate_normal_hyperparameter_keeps_its_family():
    (site,) = sites_of(prior_of(hyper=MULTIVARIATE["by a factor"]))
    assert site.family is MULTIVARIATE_NORMAL
    assert site.transformation is Transformation.NONE


@pytest.mark.parametrize("form", FORMS)
def test_normal_means_are_multivariate_in_the_matrix_forms_alone(form):
    means, other = sites_of(
        prior_of(means=tfd.Normal(0 * ONE, ONE), other=tfd.Normal(ONE, 1)), form
    )
    matrices = form in ("full", "tied")
    assert means.family is (MULTIVARIATE_NORMAL if matrices else NORMAL)
    assert other.family is NORMAL
    assert means.is_normal


def test_subclass_of_a_multivariate_normal_gets_a_bijector():
    """It may mean something else than its family."""

    class Other(tfd.MultivariateNormalTriL):
        pass

    (site,) = sites_of(prior_of(hyper=Other(np.zeros(2), np.eye(2))))
    assert site.family is NORMAL
    assert site.bijector is not None


def test_stick_breaking_prior_keeps_stick_breaking_weights():
    assert families_of(PRIORS["sticks"]) == {
        "weights": STICK_BREAKING,
        "means": NORMAL,
        "precisions": GAMMA,
    }


def test_form_decides_where_a_shape_fits_two_forms():
    """[2, 2] is two features of two components, or one matrix for both."""
    prior = mixture_prior(2, 2, covariance="tied", dtype="float64")
    found = {form: sites_of(prior, form)[2] for form in ("diag", "tied")}
    assert [site.transformation for site in found.values()] == [
        Transformation.PRECISION,
        Transformation.PRECISION_MATRIX,
    ]
    assert [site.has_component_axis for site in found.values()] == [True, False]


def test_sites_of_a_users_own_prior():
    assert families_of(own_prior) == {
        "scales": NORMAL,
        "width": GAMMA,
        "means": NORMAL,
        "fixed": FIXED,
        "extra": NORMAL,
        "weights": DIRICHLET,
    }
    sites = sites_of(own_prior)
    bijectors = {s.name: s.bijector for s in sites}
    assert {name for name, b in bijectors.items() if b is not None} == {"scales", "means"}
    assert isinstance(bijectors["means"], tfb.Identity)
    assert {s.name for s in sites if s.has_component_axis} == {"scales", "means", "weights"}
    changing = {
        s.name: s.transformation for s in sites if s.transformation is not Transformation.NONE
    }
    assert changing == {"scales": Transformation.SCALE, "means": Transformation.LOCATION}


def test_subclass_of_a_family_gets_a_bijector():
    """It may mean something else than its family."""

    class Other(tfd.Normal):
        pass

    (site,) = sites_of(prior_of(means=Other(0 * ONE, ONE)))
    assert site.bijector is not None


def test_support_of_fixed_size_whose_bijector_depends_on_others_is_accepted():
    """A scale that other variables determine may be in the map from the real line."""

    @tfd.JointDistributionCoroutine
    def prior():
        width = yield Root(tfd.HalfNormal(np.float64(5.0), name="width"))
        yield tfd.Sample(tfd.LogNormal(np.float64(0.0), width), 2, name="scales")
        base = tfd.Sample(tfd.HalfNormal(np.float64(1.0)), 2)
        yield tfd.TransformedDistribution(base, tfb.Scale(width[..., tf.newaxis]), name="others")

    assert len(sites_of(prior)) == 3


# --- Refused priors ---------------------------------------------------------------------------


def test_discrete_variable_is_refused():
    with pytest.raises(ValueError, match=r"'label' .*Use a continuous distribution"):
        sites_of(prior_of(label=tfd.Categorical(logits=np.zeros(3))))


def test_variable_fixed_by_others_is_refused():
    @tfd.JointDistributionCoroutine
    def prior():
        width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
        yield tfd.Deterministic(2.0 * width, name="twice")

    with pytest.raises(ValueError, match="'twice' must not be a deterministic function of other"):
        sites_of(prior)


def test_variable_fixed_by_a_tensorflow_variable_is_refused():
    where = tf.Variable(np.zeros(3))
    with pytest.raises(ValueError, match=r"'means' must not be fixed by a tf\.Variable"):
        sites_of(prior_of(means=tfd.Independent(tfd.Deterministic(where), 1)))


def test_support_that_depends_on_other_variables_is_refused():
    @tfd.JointDistributionCoroutine
    def prior():
        top = yield Root(tfd.HalfNormal(np.float64(5.0), name="top"))
        yield tfd.Sample(tfd.Uniform(np.float64(0.0), top), 2, name="scales")

    with pytest.raises(ValueError, match="'scales' must have a support that does not depend"):
        sites_of(prior)


# --- Models -----------------------------------------------------------------------------------


def test_model_has_the_number_of_components_and_the_variables_with_a_density():
    assert model_of(PRIORS["published"]).K == K
    model = model_of(own_prior)
    assert model.K == K
    assert model.transformations_and_shapes == [  # all but the fixed one
        (Transformation.SCALE, (K, D)),
        (Transformation.NONE, ()),
        (Transformation.LOCATION, (K, D)),
        (Transformation.NONE, (4,)),
        (Transformation.NONE, (K,)),
    ]


def test_prior_has_one_model_per_form():
    """Compiled programs are kept by the model."""
    published = PRIORS["published"]
    assert model_of(published) is model_of(published, "diag")
    tied = mixture_prior(2, 2, covariance="tied")
    assert model_of(tied, "tied") is model_of(tied, "tied")
    assert model_of(tied, "tied") is not model_of(tied, "diag")


def test_standardization_is_bound_in_the_standardized_model_alone():
    model = model_of(own_prior)
    standardized = model.standardized(STANDARDIZATION)
    assert standardized.dtype == tf.float64
    for site, bound in zip(model.sites, standardized.sites, strict=True):
        assert bound.bound_standardization is STANDARDIZATION
        with pytest.raises(RuntimeError, match=f"'{site.name}' is of a model that is not"):
            _ = site.bound_standardization
