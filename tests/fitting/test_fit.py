"""The input of `fit`: bad input is refused before anything is compiled, unusual input is fitted."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.data.ties import FewValuesWarning
from bgmm_jd.optimization import svi

N, D, K = 40, 2, 2
Root = tfd.JointDistributionCoroutine.Root
GOOD = np.random.default_rng(0).normal(size=(N, D))
# A graph is made sooner than an XLA program, and a few steps of one start show whether the input
# can be fitted.
QUICK = {"execution": "graph", "restarts": 1, "max_steps": 60, "finish": "none"}


@pytest.fixture
def nothing_is_compiled(monkeypatch):
    def program(*arguments):
        raise AssertionError("bad input reached the compiled program")

    monkeypatch.setattr(svi, "program", program)


def with_value(value, row, column):
    X = GOOD.copy()
    X[row, column] = value
    return X


@pytest.mark.contract
@pytest.mark.usefixtures("nothing_is_compiled")
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (with_value(np.nan, 7, 1), ValueError, "column 1 has nan.*missing='marginalize'"),
        (with_value(np.inf, 7, 0), ValueError, "column 0 has inf"),
        (with_value(-np.inf, 7, 0), ValueError, "column 0 has -inf"),
        (GOOD[:, 0], ValueError, r"two-dimensional.*\(40,\).*reshape\(-1, 1\)"),
        (GOOD[np.newaxis], ValueError, r"two-dimensional.*\(1, 40, 2\)"),
        (3.0, ValueError, "two-dimensional"),
        (GOOD[:0], ValueError, "at least one row"),
        (GOOD[:, :0], ValueError, "at least one row and one column"),
        (GOOD.astype(complex), TypeError, "real numbers; got dtype complex128"),
        (GOOD.astype(object), TypeError, "real numbers; got dtype object"),
        (GOOD.astype(str), TypeError, r"real numbers; got dtype <U.*astype\(float\)"),
        ([["a", "b"]] * N, TypeError, "real numbers"),
        (None, TypeError, "real numbers"),
        (scipy.sparse.csr_matrix(GOOD), TypeError, r"dense.*toarray\(\)"),
        (scipy.sparse.coo_array(GOOD), TypeError, r"dense.*toarray\(\)"),
        (np.ma.masked_greater(GOOD, 1.0), ValueError, "masked.*missing='marginalize'"),
        ([[1.0, 2.0], [3.0]], ValueError, "differ in length"),
        (with_value(1e200, 7, 1), ValueError, r"column 1 .*outside the range.*Rescale"),
    ],
    ids=[
        "nan",
        "inf",
        "-inf",
        "1-D",
        "3-D",
        "a number",
        "no rows",
        "no columns",
        "complex",
        "object",
        "numbers as text",
        "text",
        "None",
        "sparse matrix",
        "sparse array",
        "masked",
        "ragged",
        "square out of range",
    ],
)
def test_bad_rows_for_fit_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        bgmm_jd.fit(X, K)


@pytest.mark.usefixtures("nothing_is_compiled")
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (with_value(np.inf, 7, 0), "column 0 has inf"),
        (np.stack([GOOD[:, 0], np.full(N, np.nan)], axis=1), "column 1 has no value at all"),
    ],
    ids=["inf", "a column of nan"],
)
def test_bad_rows_for_fit_are_refused_where_nan_means_missing(X, message):
    with pytest.raises(ValueError, match=message):
        bgmm_jd.fit(X, K, missing="marginalize")


def prior(**sizes):
    """Return a prior over variables of the given shapes."""

    def model():
        for name, shape in sizes.items():
            law = tfd.Normal if name == "means" else tfd.Gamma
            if name == "weights":
                yield Root(tfd.Dirichlet(np.full(shape, 2.0), name=name))
            else:
                yield Root(tfd.Independent(law(np.ones(shape), 1.0), len(shape), name=name))

    return tfd.JointDistributionCoroutine(model)


@pytest.mark.usefixtures("nothing_is_compiled")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"K": 0}, ValueError, "K must be at least 1; got 0"),
        ({"K": -1}, ValueError, "K must be at least 1; got -1"),
        ({"K": 2.5}, TypeError, r"K must be an integer; got 2\.5"),
        ({"K": 2.0}, TypeError, r"K must be an integer; got 2\.0"),
        ({"K": True}, TypeError, "K must be an integer; got True"),
        ({"K": "3"}, TypeError, "K must be an integer; got '3'"),
        ({"K": None}, TypeError, "K must be an integer; got None"),
        ({"K": N + 1}, ValueError, "at least K=41 rows; got 40. Use a smaller K"),
        ({"batch_size": 0}, ValueError, "batch_size must be from 1 to 40; got 0"),
        ({"batch_size": N + 1}, ValueError, "batch_size must be from 1 to 40; got 41"),
        ({"batch_size": "many"}, ValueError, "batch_size must be 'auto' or an integer"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"batch_size": None}, TypeError, "batch_size must be an integer"),
        ({"seed": -1}, ValueError, "seed must not be negative"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"seed": None}, TypeError, "seed must be an integer"),
        ({"covariance": "round"}, ValueError, "covariance must be one of"),
        ({"execution": "fast"}, ValueError, "execution must be one of"),
        ({"missing": "drop"}, ValueError, "missing must be None or 'marginalize'; got 'drop'"),
        ({"sample_weight": np.ones(N - 1)}, ValueError, r"each of the 40 rows.*got shape \(39,\)"),
        ({"sample_weight": -np.ones(N)}, ValueError, "not negative; got -1.0 in row 0"),
        ({"sample_weight": ["a"] * N}, TypeError, "sample_weight must hold real numbers"),
        (
            {"sample_weight": np.eye(N)[0]},
            ValueError,
            "at least K=2 rows of positive weight; got 1",
        ),
        ({"max_steps": 0}, ValueError, "max_steps must be at least 1"),
        ({"restarts": 0}, ValueError, "restarts must be at least 1"),
        ({"init": GOOD[:3]}, ValueError, "one row for each of K=2 components; got 3"),
        ({"init": GOOD[:2, :1]}, ValueError, "init must have 2 columns, as X has; got 1"),
        ({"init": [[np.nan, 0.0], [1.0, 2.0]]}, ValueError, "init must be finite.*Fill"),
        ({"init": GOOD[0]}, ValueError, r"init must be two-dimensional.*init\.reshape"),
        ({"prior": "diag"}, TypeError, "tfd.JointDistributionCoroutine; got str"),
        ({"prior": bgmm_jd.mixture_prior(3, D)}, ValueError, r"'weights'.*\[2\] for K=2"),
        ({"prior": bgmm_jd.mixture_prior(K, 3)}, ValueError, r"'means'.*\[2, 2\].*2 columns"),
        (
            {"prior": bgmm_jd.mixture_prior(K, D), "covariance": "full"},
            ValueError,
            r"covariance='full' needs .*\[2, 2, 2\].*'diag'",
        ),
        (
            {"prior": bgmm_jd.mixture_prior(K, D), "covariance": "tied"},
            ValueError,
            "'precisions'.*symmetric",
        ),
        ({"prior": prior(weights=2, means=(K, D))}, ValueError, "one of 'precisions'"),
        ({"prior": prior(means=(K, D), precisions=(K, D))}, ValueError, "variables 'weights'"),
        (
            {"prior": prior(weights=2, means=(K, D), precisions=(K, D), scales=(K, D))},
            ValueError,
            "one of 'precisions'",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_arguments_of_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        bgmm_jd.fit(GOOD, **{"K": K, **arguments})


@pytest.mark.usefixtures("nothing_is_compiled")
def test_start_outside_the_support_of_the_prior_is_refused():
    """Scales below 0.1 for clusters ten times as wide: the error names the variable."""

    def model():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        yield Root(tfd.Independent(tfd.Normal(np.zeros((K, D)), 1.0), 2, name="means"))
        yield Root(tfd.Independent(tfd.Uniform(np.zeros((K, D)), 0.1), 2, name="scales"))

    with pytest.raises(ValueError, match=r"'scales'"):
        bgmm_jd.fit(GOOD, K, prior=tfd.JointDistributionCoroutine(model))


@pytest.mark.parametrize("function", [bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density])
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((3, D + 1)), ValueError, "must have 2 columns.*got 3"),
        (np.ones((3, 1)), ValueError, "must have 2 columns.*got 1"),
        (np.ones(D), ValueError, "two-dimensional"),
        (np.full((3, D), np.nan), ValueError, "column 0 has nan"),
        (np.ones((3, D), complex), TypeError, "real numbers"),
        (scipy.sparse.csr_matrix(np.eye(D)), TypeError, "dense"),
    ],
    ids=["more columns", "fewer columns", "1-D", "nan", "complex", "sparse"],
)
def test_bad_rows_for_predictions_are_refused(two_clusters_posterior, function, X, error, message):
    with pytest.raises(error, match=message):
        function(two_clusters_posterior, X)


@pytest.mark.parametrize(("covariance", "options"), [("diag", {}), ("full", QUICK)])
def test_rows_out_of_range_have_density_zero_and_no_label(two_clusters, covariance, options):
    """Other formats code missing values by such numbers; here they give neither label nor NaN."""
    X = two_clusters.astype(np.float32)
    posterior = fit(X, covariance=covariance, calibrate=False, **options)
    far = np.array([[1.0, 2.0], [-3.4e38, 3.4e38], [9.97e36, 1.0]], np.float32)
    density = bgmm_jd.log_density(posterior, far)
    assert density.dtype == np.float32
    assert np.isfinite(density[0])
    np.testing.assert_array_equal(density[1:], -np.inf)
    for function in (bgmm_jd.predict, bgmm_jd.predict_proba):
        with pytest.raises(ValueError, match=r"row 1, .* so far from all components.*units"):
            function(posterior, far)


# --- Unusual input ------------------------------------------------------------------------------


def memory_map(X, path):
    np.save(path / "rows.npy", X)
    return np.load(path / "rows.npy", mmap_mode="r")


def fit(X, K=K, **options):
    """Fit, and check that the only warning is one of a status that is not good."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        warnings.simplefilter("ignore", FewValuesWarning)  # booleans have two values
        posterior = bgmm_jd.fit(X, K, progress=False, **options)
    messages = [str(w.message) for w in caught]
    assert messages == ([] if posterior.status.good else [str(posterior.status)])
    return posterior


def assert_sound(posterior, X, K):
    """Check that all results are finite, of the right shape, and agree with each other."""
    N, D = np.shape(X)
    assert posterior.status is not Status.DIVERGED
    assert np.isfinite([posterior.elbo, posterior.elbo_se]).all()
    assert np.isfinite(posterior.elbo_trace).all()
    theta = posterior.sample(50, seed=1)
    shapes = {"weights": (50, K), "means": (50, K, D), "precisions": (50, K, D)}
    assert {name: v.shape for name, v in theta.items()} == shapes
    for name, v in theta.items():
        assert v.dtype == posterior.dtype
        assert np.isfinite(v).all()
        assert name == "means" or (v > 0).all()
    # K float32 numbers, each rounded once or twice.
    np.testing.assert_allclose(theta["weights"].sum(axis=1), 1, rtol=2 * K * 1.2e-7)
    proba = bgmm_jd.predict_proba(posterior, X)
    assert proba.shape == (N, K)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(bgmm_jd.predict(posterior, X), proba.argmax(axis=1))
    assert np.isfinite(bgmm_jd.log_density(posterior, X)).all()
    new = bgmm_jd.sample_predictive(posterior, 20)
    assert new.shape == (20, D)
    assert np.isfinite(new).all()


@pytest.mark.contract
@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda X, path: X, np.float64),
        (lambda X, path: X.astype(np.float32), np.float32),
        (lambda X, path: np.asfortranarray(X), np.float64),
        (lambda X, path: memory_map(X, path), np.float64),
        (lambda X, path: X.tolist(), np.float64),
        (lambda X, path: X.astype(">f4"), np.float32),
        (lambda X, path: (10 * X).astype(np.int64), np.float64),
        (lambda X, path: (10 * X).astype(np.int8), np.float32),
        (lambda X, path: X > 0, np.float32),
        (lambda X, path: np.repeat(X[::4], 4, axis=0), np.float64),
        (lambda X, path: np.tile(X[:1], (N, 1)), np.float64),
        (lambda X, path: (1e6 + X).astype(np.float32), np.float32),
        (lambda X, path: (1e-6 * X).astype(np.float32), np.float32),
        (lambda X, path: 1e100 * X, np.float64),
    ],
    ids=[
        "float64",
        "float32",
        "Fortran order",
        "read-only memory map",
        "list",
        "big-endian",
        "integers",
        "small integers",
        "booleans",
        "duplicate rows",
        "all rows equal",
        "around 1e6 with spread 1, float32",
        "of size 1e-6, float32",
        "of size 1e100",
    ],
)
def test_unusual_rows_are_fitted_and_left_unchanged(two_clusters, make, dtype, tmp_path):
    X = make(two_clusters, tmp_path)
    before = np.array(X)
    posterior = fit(X)
    assert posterior.dtype == dtype
    assert_sound(posterior, X, K)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda X: X.astype(np.float32),
        lambda X: np.asfortranarray(X),
        lambda X: X.tolist(),
        lambda X: (1e6 + X).astype(np.float32) - np.float32(1e6),
    ],
    ids=["float32", "Fortran order", "list", "rounded to a 16th"],
)
def test_form_of_the_rows_does_not_change_the_posterior(two_clusters, two_clusters_posterior, make):
    """The same 40 rows, rounded in some cases: posterior means to a fifth of a posterior sd.

    A converged fit is within 0.05 sds, and the mean of 1,000 draws within 5 / sqrt(1000) = 0.16, of
    which the same seed removes the most.
    """
    found, expected = (
        posterior.sample(1000, seed=2)["means"]
        for posterior in (fit(make(two_clusters)), two_clusters_posterior)
    )
    apart = np.abs(found.mean(axis=0) - expected.mean(axis=0)) / expected.std(axis=0)
    assert np.all(apart < 0.2)


def test_rows_of_one_feature_are_fitted(two_clusters):
    X = two_clusters[:, :1]
    assert_sound(fit(X, **QUICK), X, K)


def test_constant_column_is_fitted_beside_one_that_is_not(two_clusters):
    X = two_clusters.copy()
    X[:, 1] = 7.0
    assert_sound(fit(X, **QUICK), X, K)


def test_as_many_components_as_rows_are_fitted():
    X = np.random.default_rng(0).normal(size=(4, 2))
    assert_sound(fit(X, 4, **QUICK), X, 4)


def test_single_row_is_fitted():
    X = np.array([[3.0, -1e6]])
    assert_sound(fit(X, 1, **QUICK), X, 1)


@pytest.mark.contract
@pytest.mark.parametrize("form", ["full", "tied", "spherical"])
def test_every_form_is_fitted_with_weights_and_missing_entries(two_clusters, form):
    X = two_clusters.copy()
    X[3, 0] = X[25, 1] = np.nan
    weight = np.where(np.arange(N) % 2, 1.5, 0.5)
    options = {"missing": "marginalize", "sample_weight": weight, "calibrate": False}
    posterior = fit(X, covariance=form, **options, **QUICK)
    theta = posterior.sample(50, seed=1)
    assert all(np.isfinite(v).all() for v in theta.values())
    assert {name: v.shape[1:] for name, v in theta.items()} == {
        "weights": (K,),
        "means": (K, D),
        "precisions": {"full": (K, D, D), "tied": (D, D), "spherical": (K, 1)}[form],
    }
    proba = bgmm_jd.predict_proba(posterior, X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(bgmm_jd.log_density(posterior, X)).all()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_any_batch_size_is_fitted(two_clusters, batch_size):
    """One of them does not divide N = 40."""
    assert_sound(fit(two_clusters, batch_size=batch_size, **QUICK), two_clusters, K)


@pytest.mark.contract
def test_prior_of_another_dtype_than_the_rows_is_fitted(two_clusters):
    """The default is float32 in TFP and float64 in NumPy, so users mix them unintentionally."""

    def model():
        yield Root(tfd.Independent(tfd.HalfCauchy(np.zeros((K, D), "f"), 2.0), 2, name="scales"))
        yield Root(tfd.Independent(tfd.Normal(np.zeros((K, D), "f"), 5.0), 2, name="means"))
        yield Root(tfd.Dirichlet([2.0, 2.0], name="weights"))

    posterior = fit(two_clusters, prior=tfd.JointDistributionCoroutine(model), **QUICK)
    assert posterior.dtype == np.float64
    assert set(posterior.sample(3)) == {"weights", "means", "scales"}
