"""The scikit-learn estimator: the results of `fit`, and its behaviour within scikit-learn."""

import importlib
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.sklearn import BayesianGaussianMixture

QUICK = {"execution": "graph", "finish": "none", "calibrate": False, "restarts": 1}
N = 64


def estimator(**options):
    return BayesianGaussianMixture(**{"n_components": 2, "random_state": 0, **QUICK, **options})


@pytest.fixture(scope="module")
def X():
    return two_groups(N)


@pytest.fixture(scope="module", params=FORMS)
def model(request, X):
    return estimator(covariance_type=request.param).fit(X)


@pytest.fixture(scope="module")
def diag(X):
    return estimator(covariance_type="diag").fit(X)


# --- Import ---------------------------------------------------------------------------------------


def test_import_without_scikit_learn_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    monkeypatch.delitem(sys.modules, "bgmm_jd.sklearn")
    with pytest.raises(ImportError, match=r"pip install 'bgmm_jd\[sklearn\]'"):
        importlib.import_module("bgmm_jd.sklearn")


# --- Results --------------------------------------------------------------------------------------


@pytest.mark.contract
def test_estimator_returns_the_results_of_fit_with_the_same_seed(X):
    model = estimator(covariance_type="diag", random_state=3, draws=50).fit(X)
    posterior = bgmm_jd.fit(X, 2, seed=3, **QUICK)
    of_draws = {"draws": 50, "seed": 3}
    assert model.lower_bound_ == posterior.elbo
    assert (model.seed_, model.converged_) == (3, True)
    assert model.n_iter_ == posterior.restarts[0].steps
    np.testing.assert_array_equal(
        model.predict_proba(X), bgmm_jd.predict_proba(posterior, X, **of_draws)
    )
    np.testing.assert_array_equal(model.predict(X), bgmm_jd.predict(posterior, X, **of_draws))
    np.testing.assert_array_equal(
        model.score_samples(X), bgmm_jd.log_density(posterior, X, **of_draws)
    )


def test_attributes_are_posterior_means_over_draws(model):
    drawn = model.posterior_.sample(model.draws, seed=model.seed_)
    form, precisions = model.covariance_type, drawn["precisions"]
    covariances = np.linalg.inv(precisions) if form in ("full", "tied") else 1.0 / precisions
    if form == "spherical":
        covariances = covariances[..., 0]
    np.testing.assert_allclose(model.weights_, drawn["weights"].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.means_, drawn["means"].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.covariances_, covariances.mean(axis=0), rtol=1e-10)


def test_information_criteria_are_those_of_a_gaussian_mixture_at_the_posterior_means(model, X):
    """scikit-learn's own formulas; they also need the attributes to have its shapes."""
    reference = GaussianMixture(2, covariance_type=model.covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        setattr(reference, name, getattr(model, name))
    assert model.bic(X) == pytest.approx(reference.bic(X), rel=1e-10)
    assert model.aic(X) == pytest.approx(reference.aic(X), rel=1e-10)


def test_precisions_are_the_inverses_of_the_covariances(model):
    if model.covariance_type in ("full", "tied"):
        expected = np.linalg.inv(model.covariances_)
    else:
        expected = 1.0 / model.covariances_
    np.testing.assert_allclose(model.precisions_, expected, rtol=1e-10, atol=1e-12)


def test_information_criterion_integrates_missing_entries_out(X):
    holes = X.copy()
    holes[:5, 0], holes[3:9, 1] = np.nan, np.nan  # rows 3 and 4 have no entry at all
    model = estimator(missing="marginalize").fit(holes)
    likelihood = 0.0
    for row in holes:
        seen = np.flatnonzero(~np.isnan(row))
        if not len(seen):
            continue
        densities = [
            multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).pdf(row[seen])
            for mean, covariance in zip(model.means_, model.covariances_, strict=True)
        ]
        likelihood += np.log(model.weights_ @ densities)
    free = 1 + 4 + 6  # weights, means, covariances
    assert model.aic(holes) == pytest.approx(-2.0 * likelihood + 2.0 * free, rel=1e-10)
    assert np.isfinite(model.predict_proba(holes)).all()


def test_information_criterion_does_not_count_constant_columns(X):
    model = estimator(covariance_type="spherical").fit(np.column_stack([X, np.full(N, 7.0)]))
    with_column = model.aic(np.column_stack([X, np.full(N, 7.0)]))
    reference = GaussianMixture(2, covariance_type="spherical")
    reference.weights_, reference.means_ = model.weights_, model.means_[:, :2]
    reference.precisions_cholesky_ = model.precisions_cholesky_
    assert with_column == pytest.approx(reference.aic(X), rel=1e-10)


def test_sampled_rows_are_those_of_the_predictive_distribution_with_their_components(diag):
    rows, labels = diag.sample(400)
    np.testing.assert_array_equal(
        rows, bgmm_jd.sample_predictive(diag.posterior_, 400, seed=diag.random_state)
    )
    assert set(labels) == {0, 1}
    np.testing.assert_array_equal(labels, diag.predict(rows))  # the groups are 9 sds apart


def test_fit_predict_is_fit_and_then_predict(diag, X):
    np.testing.assert_array_equal(estimator(covariance_type="diag").fit_predict(X), diag.predict(X))


def test_score_is_the_weighted_mean_of_score_samples(diag, X):
    by_row = diag.score_samples(X)
    weight = np.where(np.arange(N) < 10, 3.0, 1.0)
    assert diag.score(X) == pytest.approx(by_row.mean(), rel=1e-12)
    repeated = np.append(np.repeat(by_row[:10], 3), by_row[10:])
    assert diag.score(X, sample_weight=weight) == pytest.approx(repeated.mean(), rel=1e-12)


def test_rows_of_weight_zero_are_left_out_of_the_score_wherever_they_are(diag, X):
    far = np.vstack([X, [[1e200, 0.0]]])
    weight = np.append(np.ones(N), 0.0)
    assert diag.score(far, sample_weight=weight) == pytest.approx(diag.score(X), rel=1e-12)


# --- Parameters -----------------------------------------------------------------------------------


def test_random_state_object_gives_another_seed_at_each_fit(X):
    model = estimator(covariance_type="diag", random_state=np.random.RandomState(5))
    seeds = [model.fit(X).seed_ for _ in range(2)]
    other = np.random.RandomState(5).randint(np.iinfo(np.int32).max, size=2)
    assert seeds == other.tolist()


@pytest.mark.contract
def test_clone_keeps_the_prior_itself():
    """By which compiled programs are found."""
    prior = bgmm_jd.mixture_prior(2, 2)
    model = estimator(prior=prior, init=[[0.0, 0.0], [1.0, 1.0]])
    twin = clone(model)
    assert twin is not model
    assert twin.prior is model.prior is prior
    assert twin.init == model.init
    assert twin.init is not model.init
    assert twin.get_params().keys() == model.get_params().keys()


def test_coroutine_determines_the_form_of_the_covariance(X):
    prior = bgmm_jd.mixture_prior(2, 2, covariance="tied", mean_scale=10.0)
    model = estimator(prior=prior).fit(X)
    assert model.covariances_.shape == (2, 2)
    assert model.posterior_.covariance == "tied"


def test_search_over_components_makes_the_prior_of_each_fit(X):
    calls = []

    def prior(K, D, covariance):
        calls.append((K, D, covariance))
        return bgmm_jd.mixture_prior(K, D, covariance=covariance, mean_scale=10.0)

    model = estimator(prior=prior, covariance_type="diag")
    search = GridSearchCV(
        model, {"n_components": [1, 2]}, cv=KFold(2, shuffle=True, random_state=0)
    )
    search.fit(X)
    assert calls == [(1, 2, "diag")] * 2 + [(2, 2, "diag")] * 3
    assert search.best_params_ == {"n_components": 2}
    assert search.best_estimator_.means_.shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components must be at least 1"),
        ({"n_components": 2.0}, TypeError, "n_components must be an integer"),
        ({"covariance_type": "round"}, ValueError, "covariance_type must be one of .*'round'"),
        ({"draws": 0}, ValueError, "draws must be at least 1"),
        ({"missing": "drop"}, ValueError, "missing must be None or 'marginalize'"),
        ({"n_components": 65}, ValueError, "minimum of 65 is required"),
        ({"random_state": "0"}, ValueError, "cannot be used to seed"),
        ({"finish": "never"}, ValueError, "finish must be one of"),
    ],
)
def test_bad_parameter_is_an_error_at_fit(options, error, message, X):
    with pytest.raises(error, match=message):
        estimator(**options).fit(X)


def test_nan_is_an_error_that_names_the_option_which_admits_it(diag, X):
    holes = np.where(np.arange(2) < 1, np.nan, X)
    with pytest.raises(ValueError, match=r"contains NaN.*missing='marginalize'"):
        estimator().fit(holes)
    with pytest.raises(ValueError, match=r"contains NaN.*missing='marginalize'"):
        diag.predict(holes)


@pytest.mark.parametrize("missing", [None, "marginalize"])
def test_tag_says_whether_nan_is_allowed(missing):
    assert get_tags(estimator(missing=missing)).input_tags.allow_nan is (missing is not None)


# --- Within scikit-learn --------------------------------------------------------------------------


@pytest.mark.contract
def test_pipeline_with_data_frames_names_the_features_of_the_posterior(X):
    frame = pd.DataFrame(X, columns=["length", "wait"])
    pipeline = make_pipeline(StandardScaler(), estimator(covariance_type="diag"))
    pipeline.set_output(transform="pandas").fit(frame)
    model = pipeline[-1]
    assert model.feature_names_in_.tolist() == ["length", "wait"]
    assert model.posterior_.feature_names == ("length", "wait")
    assert np.isfinite(pipeline.score(frame))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["wait", "length"]])


def test_float32_is_the_dtype_of_the_fit(X):
    model = estimator(covariance_type="diag").fit(X.astype(np.float32))
    assert model.posterior_.dtype == np.float32
    assert model.score_samples(X).dtype == np.float32
    assert model.sample(3)[0].dtype == np.float32


@pytest.mark.contract
def test_metadata_routing_passes_weights_to_fit_and_score(X):
    weight = np.random.default_rng(0).uniform(0.5, 2.0, N)
    split = KFold(2, shuffle=True, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = estimator(covariance_type="diag")
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(model, X, cv=split, params={"sample_weight": weight})["test_score"]
    for score, (train, test) in zip(found, split.split(X), strict=True):
        own = estimator(covariance_type="diag").fit(X[train], sample_weight=weight[train])
        assert score == pytest.approx(own.score(X[test], sample_weight=weight[test]), rel=1e-12)


# --- Fits that end badly --------------------------------------------------------------------------


@pytest.mark.contract
def test_status_that_is_not_good_is_a_convergence_warning(X):
    with pytest.warns(ConvergenceWarning, match="step limit") as record:
        model = estimator(covariance_type="diag", max_steps=20).fit(X)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert model.converged_ is False
    assert model.posterior_.status is bgmm_jd.Status.STEP_LIMIT


def test_interrupt_keeps_what_was_reached_and_is_raised(X, interrupt_in_third_block):
    model = estimator(covariance_type="diag")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.posterior_.status is bgmm_jd.Status.INTERRUPTED
    assert not model.converged_
    assert np.isfinite(model.means_).all()


@pytest.mark.parametrize("prior", [None, bgmm_jd.mixture_prior])
def test_fitted_estimator_is_pickled(X, prior):
    model = estimator(covariance_type="diag", prior=prior).fit(X)
    found = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    assert found.get_params() == model.get_params()
