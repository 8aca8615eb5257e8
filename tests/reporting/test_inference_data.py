"""The groups of `to_inference_data`, recomputed with NumPy and SciPy from the draws themselves.

Statistical tests raise a false alarm with probability 1e-6 each; the seeds are fixed.
"""

import dataclasses
import datetime
import importlib.metadata
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import xarray as xr
from builders import QUICK, with_memory
from matplotlib.text import Text
from scipy import special, stats

import bgmm_jd
from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.reporting.inference_data import check_variable_names, to_inference_data
from bgmm_jd.reporting.names import name_coordinates

pytestmark = pytest.mark.contract

tfd = tfp.distributions

FALSE_ALARM = 1e-6
Z_ALARM = stats.norm.isf(FALSE_ALARM / 2)
S, SEED = 1000, 5
ARVIZ = importlib.metadata.version("arviz")
OLD = arviz_major_version() == 0

# Far from zero, with columns of very different scale, so that a mistake in the units shows.
CENTRES = np.array([[150.0, -0.02], [210.0, 0.01]])
SPREADS = np.array([[10.0, 0.004], [5.0, 0.009]])
# All entries differ, so that a mistake in the axes shows.
PRIOR = {
    "mean_loc": np.array([[160.0, 0.0], [200.0, 0.02]]),
    "mean_scale": np.array([[50.0, 0.05], [40.0, 0.03]]),
    "precision_concentration": np.array([[2.0, 1.5], [1.8, 2.2]]),
    "precision_rate": np.array([[100.0, 5e-5], [60.0, 9e-5]]),
    "weight_concentration": np.array([2.0, 3.0]),
}

WITHOUT_X = {"posterior", "prior", "sample_stats", "log_prior", "elbo_trace"}
PREDICTIVE = ("posterior_predictive", "prior_predictive")
WITH_X = WITHOUT_X | {"observed_data", "log_likelihood", *PREDICTIVE}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    label = rng.permutation(np.repeat([0, 1], [120, 180]))
    return CENTRES[label] + SPREADS[label] * rng.standard_normal((300, 2))


def fit(rows, **options):
    """Fit under one prior object, so that both fits share their compiled programs."""
    prior = bgmm_jd.mixture_prior(2, 2, dtype="float64", **PRIOR)
    return bgmm_jd.fit(rows, 2, prior=prior, progress=False, **options)


@pytest.fixture(scope="module")
def posterior(rows):
    return fit(rows)


@pytest.fixture(scope="module")
def mean_field(rows):
    return fit(rows, calibrate=False)


@pytest.fixture(scope="module")
def idata(posterior, rows):
    return to_inference_data(posterior, rows, draws=S, seed=SEED)


@pytest.fixture(scope="module")
def own(rows):
    """A posterior in float32 under a prior of the user's own.

    The quality of the fit does not matter: one eager step avoids the compilation.
    """
    Root = tfd.JointDistributionCoroutine.Root
    centre = CENTRES.mean(axis=0).astype(np.float32)

    def model():
        width = yield Root(tfd.Gamma(2.0, 1.0, name="width"))
        scales = tfd.LogNormal(np.log(SPREADS).astype(np.float32), 1.0)
        yield Root(tfd.Independent(scales, 2, name="scales"))
        yield Root(tfd.Sample(tfd.Normal(0.0, 1.0), 3, name="extra"))
        means = tfd.Normal(centre, width[..., tf.newaxis] * np.float32([50, 0.05]))
        yield tfd.Independent(tfd.Sample(means, []), 1, name="centre")
        yield Root(tfd.Independent(tfd.Normal(np.tile(centre, (2, 1)), 100.0), 2, name="means"))
        yield Root(tfd.Dirichlet([2.0, 2.0], name="weights"))

    with pytest.warns(RuntimeWarning, match="step limit"):
        return bgmm_jd.fit(
            rows.astype(np.float32),
            2,
            prior=tfd.JointDistributionCoroutine(model),
            progress=False,
            execution="eager",
            max_steps=1,
            restarts=1,
            calibrate=False,
        )


def groups_of(idata):
    return set(idata.groups() if OLD else idata.children)


def dataset(idata, group):
    return idata[group] if OLD else idata[group].to_dataset()


def values(idata, group, name):
    return idata[group][name].to_numpy()


def theta_of(idata, group="posterior"):
    """Return the draws of the one chain, by name."""
    return {name: v.to_numpy()[0] for name, v in dataset(idata, group).items()}


def log_prior_by_variable(theta):
    """Return the log density of each variable under `PRIOR`, in the units of X: [S]."""
    means = stats.norm(PRIOR["mean_loc"], PRIOR["mean_scale"])
    precisions = stats.gamma(PRIOR["precision_concentration"], scale=1 / PRIOR["precision_rate"])
    return {
        "weights": stats.dirichlet(PRIOR["weight_concentration"]).logpdf(theta["weights"].T),
        "means": means.logpdf(theta["means"]).sum(axis=(1, 2)),
        "precisions": precisions.logpdf(theta["precisions"]).sum(axis=(1, 2)),
    }


def log_prior(theta):
    """Return the log density of draws under `PRIOR`, in the units of X: [S]."""
    return sum(log_prior_by_variable(theta).values())


def row_log_likelihood(theta, rows):
    """Return log p(x_n given theta_s): [S, N]."""
    sds = theta["precisions"] ** -0.5
    each = stats.norm.logpdf(rows[:, np.newaxis], theta["means"][:, np.newaxis], sds[:, np.newaxis])
    return special.logsumexp(each.sum(axis=-1), b=theta["weights"][:, np.newaxis], axis=-1)


def test_groups_depend_on_whether_rows_are_given(posterior, idata):
    assert type(idata) is (import_arviz().InferenceData if OLD else xr.DataTree)
    assert groups_of(idata) == WITH_X
    assert groups_of(to_inference_data(posterior, draws=100)) == WITHOUT_X


@pytest.mark.parametrize(
    ("group", "name", "dims", "shape"),
    [
        *[
            (group, name, ("chain", "draw", *dims), (1, S, *[2] * len(dims)))
            for group in ("posterior", "prior")
            for name, dims in [
                ("weights", ["component"]),
                ("means", ["component", "feature"]),
                ("precisions", ["component", "feature"]),
                ("sds", ["component", "feature"]),
            ]
        ],
        ("sample_stats", "lp", ("chain", "draw"), (1, S)),
        ("sample_stats", "log_q", ("chain", "draw"), (1, S)),
        ("log_prior", "means", ("chain", "draw"), (1, S)),
        ("observed_data", "x", ("obs", "feature"), (300, 2)),
        ("log_likelihood", "x", ("chain", "draw", "obs"), (1, S, 300)),
        *[
            (group, "x", ("chain", "draw", "obs", "feature"), (1, S, 300, 2))
            for group in PREDICTIVE
        ],
    ],
)
def test_arrays_have_their_dims_and_coords(idata, group, name, dims, shape):
    array = idata[group][name]
    assert array.dims == dims
    assert array.shape == shape  # one chain, whatever the number of draws
    assert array.dtype == np.float64
    assert set(array.coords) == set(dims)
    for dim, size in zip(dims, shape, strict=True):
        np.testing.assert_array_equal(array[dim], np.arange(size))


def test_posterior_and_prior_have_the_same_variables(idata):
    for group in ("posterior", "prior"):
        assert list(dataset(idata, group)) == ["weights", "means", "precisions", "sds"]


def test_posterior_has_the_draws_of_sample_and_their_sds(posterior, idata):
    theta = theta_of(idata)
    for name, draws in posterior.sample(S, seed=SEED).items():
        np.testing.assert_array_equal(theta[name], draws)
    for group in ("posterior", "prior"):
        theta = theta_of(idata, group)
        np.testing.assert_allclose(theta["sds"] ** -2, theta["precisions"], rtol=1e-14)


def test_lp_is_the_log_joint_density_of_the_draws_in_the_units_of_x(idata, rows):
    theta = theta_of(idata)
    expected = log_prior(theta) + row_log_likelihood(theta, rows).sum(axis=1)
    # 300 rows of a few nats in float64, in standardised units: 1e-9 nats is a wide margin.
    np.testing.assert_allclose(values(idata, "sample_stats", "lp")[0], expected, atol=1e-8, rtol=0)


def test_log_prior_is_that_of_each_variable_in_the_units_of_x(idata):
    expected = log_prior_by_variable(theta_of(idata))
    assert set(dataset(idata, "log_prior")) == set(expected)
    for name, density in expected.items():
        # Far from overflow, with sums of four terms: 1e-9 nats is a wide margin in float64.
        found = values(idata, "log_prior", name)[0]
        np.testing.assert_allclose(found, density, atol=1e-9, rtol=0)


def test_log_prior_and_log_likelihood_of_the_rows_of_the_fit_add_up_to_lp(idata):
    prior = sum(v.to_numpy() for v in dataset(idata, "log_prior").values())
    likelihood = values(idata, "log_likelihood", "x").sum(axis=-1)
    lp = values(idata, "sample_stats", "lp")
    np.testing.assert_allclose(prior + likelihood, lp, atol=1e-8, rtol=0)


def test_log_q_of_a_mean_field_is_its_density_and_gives_its_elbo(mean_field):
    idata = to_inference_data(mean_field, draws=S, seed=SEED)
    theta = {name: tf.constant(v) for name, v in theta_of(idata).items() if name != "sds"}
    expected = mean_field.surrogate.log_prob(**theta).numpy()
    found = values(idata, "sample_stats", "log_q")[0]
    # An affine map between the units rounds means near 200 with posterior sds near 1 to 1e-13.
    np.testing.assert_allclose(found, expected, atol=1e-8, rtol=0)
    ratio = values(idata, "sample_stats", "lp")[0] - found
    error = np.hypot(mean_field.elbo_se, ratio.std(ddof=1) / np.sqrt(S))
    assert abs(ratio.mean() - mean_field.elbo) < Z_ALARM * error


def test_log_q_of_a_calibrated_fit_is_normalised(posterior, mean_field, idata, rows):
    """With `lp` it gives the same evidence as the mean-field draws.

    Draws of the posterior average q / joint to 1 / evidence, draws of q average joint / q to
    the evidence. The second estimate does not use `sample_stats`.
    """
    found = dataset(idata, "sample_stats")
    of_posterior = np.exp((found["log_q"] - found["lp"]).to_numpy()[0] + posterior.elbo)
    theta = mean_field.sample(S, seed=SEED)
    log_q = mean_field.surrogate.log_prob(**theta).numpy()
    log_joint = log_prior(theta) + row_log_likelihood(theta, rows).sum(axis=1)
    of_q = np.exp(log_joint - log_q - posterior.elbo)
    error = np.hypot(*(v.std(ddof=1) / v.mean() / np.sqrt(S) for v in (of_posterior, of_q)))
    assert abs(np.log(of_posterior.mean()) + np.log(of_q.mean())) < Z_ALARM * error


def test_log_likelihood_is_that_of_the_draws(idata, rows):
    expected = row_log_likelihood(theta_of(idata), rows)
    found = values(idata, "log_likelihood", "x")[0]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=1e-10)


def test_other_rows_have_the_same_draws_and_lp(posterior, idata):
    """Integers are converted to the dtype of the fit."""
    new = np.array([[150, 0], [210, 0], [180, 0]])
    other = to_inference_data(posterior, new, draws=S, seed=SEED)
    xr.testing.assert_equal(dataset(other, "posterior"), dataset(idata, "posterior"))
    xr.testing.assert_equal(dataset(other, "sample_stats"), dataset(idata, "sample_stats"))
    expected = row_log_likelihood(theta_of(idata), new.astype(float))
    found = values(other, "log_likelihood", "x")[0]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=1e-10)
    assert values(other, "observed_data", "x").dtype == np.float64


def test_relabelling_permutes_components_but_not_densities(posterior, idata, rows):
    other = to_inference_data(bgmm_jd.relabel(posterior, [1, 0]), rows, draws=S, seed=SEED)
    for group in ("posterior", "prior"):
        moved = dataset(idata, group).isel(component=[1, 0])
        for name in moved:
            np.testing.assert_array_equal(dataset(other, group)[name], moved[name])
    for group in ("sample_stats", "log_prior", "log_likelihood"):
        xr.testing.assert_equal(dataset(other, group), dataset(idata, group))


def test_observed_data_is_a_copy(posterior, rows):
    mine = rows.copy()
    idata = to_inference_data(posterior, mine, draws=100)
    mine[:] = 0
    np.testing.assert_array_equal(values(idata, "observed_data", "x"), rows)


def test_elbo_trace_is_that_of_the_fit(posterior, idata):
    trace = idata["elbo_trace"]["elbo"]
    assert trace.dims == ("step",)
    np.testing.assert_array_equal(trace, posterior.elbo_trace)
    np.testing.assert_array_equal(trace["step"], np.arange(len(posterior.elbo_trace)))


def data_set_errors(idata, predictive):
    """Return mean of each data set minus that of its parameters, in standard errors: [S, D]."""
    kept = idata[predictive]["draw"].to_numpy()
    theta = theta_of(idata, predictive.removesuffix("_predictive"))
    theta = {name: v[kept] for name, v in theta.items()}
    x = values(idata, predictive, "x")[0]
    w = theta["weights"][..., np.newaxis]
    mean = (w * theta["means"]).sum(axis=1)
    variance = (w * (theta["means"] ** 2 + theta["sds"] ** 2)).sum(axis=1) - mean**2
    return (x.mean(axis=1) - mean) / np.sqrt(variance / x.shape[1])


@pytest.mark.parametrize("predictive", PREDICTIVE)
def test_predictive_data_sets_come_from_their_own_draw(idata, predictive):
    """Under the parameters of another draw the squared errors would be at least twice as large."""
    for column in data_set_errors(idata, predictive).T:
        assert stats.chi2(S).sf((column**2).sum()) > FALSE_ALARM
        assert stats.chi2(S).cdf((column**2).sum()) > FALSE_ALARM


def test_predictive_draws_are_thinned_to_the_memory_budget(posterior, idata, rows):
    bounded = with_memory(posterior, posterior_predictive=300 * rows.size)
    thin = to_inference_data(bounded, rows, draws=S, seed=SEED)
    for predictive in PREDICTIVE:
        kept = thin[predictive]["draw"].to_numpy()
        np.testing.assert_array_equal(kept, np.arange(0, S, 4))
        assert values(thin, predictive, "x").shape == (1, 250, 300, 2)
        # The coordinate `draw` is that of the parameters.
        for column in data_set_errors(thin, predictive).T:
            assert stats.chi2(len(kept)).sf((column**2).sum()) > FALSE_ALARM
    for group in ("posterior", "sample_stats", "log_likelihood"):
        xr.testing.assert_equal(dataset(thin, group), dataset(idata, group))

    bounded = with_memory(posterior, posterior_predictive=rows.size - 1)
    least = to_inference_data(bounded, rows, draws=S, seed=SEED)
    for predictive in PREDICTIVE:
        assert values(least, predictive, "x").shape == (1, 1, 300, 2)


def test_prior_draws_follow_the_prior_in_the_units_of_x(idata):
    """Ten tests of level 1e-6."""
    theta = theta_of(idata, "prior")
    c = PRIOR["weight_concentration"]
    assert stats.kstest(theta["weights"][:, 0], stats.beta(*c).cdf).pvalue > FALSE_ALARM
    np.testing.assert_allclose(theta["weights"].sum(axis=1), 1, rtol=1e-12)
    for k, d in np.ndindex(2, 2):
        mean = stats.norm(PRIOR["mean_loc"][k, d], PRIOR["mean_scale"][k, d])
        rate = PRIOR["precision_rate"][k, d]
        precision = stats.gamma(PRIOR["precision_concentration"][k, d], scale=1 / rate)
        assert stats.kstest(theta["means"][:, k, d], mean.cdf).pvalue > FALSE_ALARM
        assert stats.kstest(theta["precisions"][:, k, d], precision.cdf).pvalue > FALSE_ALARM


def test_summary_has_the_means_of_all_variables(idata, caplog, capfd):
    az = import_arviz()
    table = az.summary(idata, kind="stats", round_to="none")
    expected = {
        f"{name}[{', '.join(map(str, index))}]": draws[:, *index].mean()
        for name, draws in theta_of(idata).items()
        for index in np.ndindex(draws.shape[1:])
    }
    assert set(table.index) == set(expected)
    for row, mean in expected.items():
        assert table.loc[row, "mean"] == pytest.approx(mean, rel=1e-12)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_r_hat_of_one_chain_is_nan(idata):
    table = import_arviz().summary(idata)
    assert len(table) == 14
    assert table["r_hat"].astype(float).isna().all()


def test_loo_agrees_with_plain_importance_weights(idata):
    """The two differ only in the smoothing of the largest weights.

    That is no more than the standard errors of the plain estimate, summed over the rows.
    """
    loo = import_arviz().loo(idata)
    elpd, p = (loo["elpd_loo"], loo["p_loo"]) if OLD else (loo.elpd, loo.p)
    likelihood = values(idata, "log_likelihood", "x")[0]
    lppd = (special.logsumexp(likelihood, axis=0) - np.log(S)).sum()
    assert elpd == pytest.approx(lppd - p, rel=1e-10)
    inverse = np.exp(likelihood.max(axis=0) - likelihood)
    plain = likelihood.max(axis=0) - np.log(inverse.mean(axis=0))
    error = inverse.std(axis=0, ddof=1) / inverse.mean(axis=0) / np.sqrt(S)
    assert abs(elpd - plain.sum()) < error.sum()
    # Nine parameters that 300 rows determine well, and the prior hardly at all.
    assert 4.5 < p < 18


@pytest.mark.skipif(OLD, reason="arviz 0.23 has no loo_approximate_posterior")
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_loo_approximate_posterior_runs_as_the_docstring_says(mean_field, rows):
    """The weights of the mean field may be near their limit."""
    idata = to_inference_data(mean_field, rows, draws=S, seed=SEED)
    found = idata["sample_stats"]
    az = import_arviz()
    loo = az.loo_approximate_posterior(idata, log_p=found["lp"], log_q=found["log_q"])
    assert loo.n_data_points == 300
    assert np.isfinite(loo.elpd)


@pytest.mark.skipif(OLD, reason="arviz 0.23 has no psense_summary")
def test_prior_sensitivity_runs_as_the_docstring_says(idata):
    """300 rows determine the parameters far better than the prior does."""
    az = import_arviz()
    assert set(az.psense(idata, group="prior")) == {"weights", "means", "precisions", "sds"}
    mine = idata["posterior"].to_dataset().rename(component="k")
    table = az.psense_summary(idata.assign(posterior=xr.DataTree(mine)))
    assert len(table) == 14
    assert (table["likelihood"] > table["prior"]).all()


def test_netcdf_returns_identical_groups(idata, tmp_path):
    az = import_arviz()
    path = str(tmp_path / "idata.nc")
    idata.to_netcdf(path)
    back = az.from_netcdf(path)
    if not OLD:
        back.load()
    assert groups_of(back) == WITH_X
    assert dict(back.attrs) == dict(idata.attrs)
    for group in WITH_X:
        # Equal values, dims, coords, names and attributes.
        xr.testing.assert_identical(dataset(back, group).load(), dataset(idata, group))
    xr.testing.assert_equal(
        az.summary(back, kind="stats").to_xarray(), az.summary(idata, kind="stats").to_xarray()
    )
    assert repr(az.loo(back)) == repr(az.loo(idata))
    for group in WITH_X if OLD else ():
        back[group].close()
    if not OLD:
        back.close()


def test_coordinates_are_the_names_of_features_and_components(posterior, rows, tmp_path):
    named = dataclasses.replace(posterior, feature_names=("length", "width"))
    named = bgmm_jd.relabel(named, names=["small", "large"])
    container = to_inference_data(named, rows, draws=20, seed=SEED)
    container.to_netcdf(tmp_path / "named.nc")
    for found in (container, import_arviz().from_netcdf(tmp_path / "named.nc")):
        means = found["posterior"]["means"]
        assert means.coords["component"].to_numpy().tolist() == ["small", "large"]
        assert found["prior"]["means"].coords["feature"].to_numpy().tolist() == ["length", "width"]
        one = means.sel(component="large", feature="width").to_numpy()
        np.testing.assert_array_equal(one[0], named.sample(20, seed=SEED)["means"][:, 1, 1])
        x = found["observed_data"]["x"].sel(feature="width")
        np.testing.assert_array_equal(x.to_numpy(), rows[:, 1])
    summary = import_arviz().summary(container, var_names=["means"], kind="stats")
    assert summary.index[1] == "means[small, width]"


def test_plots_of_arviz_show_the_names_of_features_and_components(posterior):
    named = dataclasses.replace(posterior, feature_names=("length", "width"))
    named = bgmm_jd.relabel(named, names=["small", "large"])
    import_arviz().plot_forest(to_inference_data(named, draws=200), var_names=["means"])
    figure = plt.gcf()
    figure.canvas.draw()
    shown = " ".join(text.get_text() for text in figure.findobj(Text))
    plt.close(figure)
    assert {"length", "width", "small", "large"} <= set(re.findall(r"[a-z]+", shown))


def test_matrices_have_the_names_of_features_in_both_dimensions():
    names = SimpleNamespace(feature_names=("a", "b"), component_names=None)
    found = name_coordinates(names)
    assert {dim: array.tolist() for dim, array in found.items()} == {
        "feature": ["a", "b"],
        "feature_bis": ["a", "b"],
    }


def test_groups_have_attributes_of_library_and_fit(posterior, idata):
    library = {
        "creation_library": "bgmm_jd",
        "inference_library": "bgmm_jd",
        "inference_library_version": bgmm_jd.__version__,
        "tensorflow_version": tf.__version__,
        "tensorflow_probability_version": importlib.metadata.version("tensorflow-probability"),
        "numpy_version": np.__version__,
        "arviz_version": ARVIZ,
    }
    fit = {
        "elbo": posterior.elbo,
        "elbo_se": posterior.elbo_se,
        "khat": posterior.khat,
        "status": "CONVERGED",
        "calibration": "averaged curvature",
        "covariance": "diag",
        "K": 2,
        "batch_size": 300,
    }
    all_attributes = [idata.attrs, *(idata[group].attrs for group in WITH_X)]
    for attributes in all_attributes:
        assert library.items() <= attributes.items()
        created = datetime.datetime.fromisoformat(attributes["created_at"])
        age = datetime.datetime.now(datetime.UTC) - created
        assert datetime.timedelta(0) <= age < datetime.timedelta(hours=1)
        assert {type(v) for v in attributes.values()} <= {str, int, float}
    for attributes in (idata.attrs, idata["posterior"].attrs):
        assert fit.items() <= attributes.items()


def test_variables_of_an_own_prior_keep_names_and_shapes(own, rows):
    """Variables that are not part of a mixture have generic dims."""
    idata = to_inference_data(own, rows, draws=20)
    names = ["width", "scales", "extra", "centre", "means", "weights", "sds"]
    for group in ("posterior", "prior"):
        found = dataset(idata, group)
        assert list(found) == names
        assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}
        assert found["width"].dims == ("chain", "draw")
        assert found["extra"].dims == ("chain", "draw", "extra_dim_0")
        assert found["extra"].shape == (1, 20, 3)
        assert found["centre"].dims == ("chain", "draw", "centre_dim_0")
        assert found["scales"].dims == ("chain", "draw", "component", "feature")
        assert found["sds"].dims == found["scales"].dims
        np.testing.assert_array_equal(found["sds"], found["scales"])
    densities = dataset(idata, "log_prior")
    assert list(densities) == names[:-1]
    assert {v.dims for v in densities.values()} == {("chain", "draw")}
    theta = theta_of(idata)
    sd = theta["width"][:, np.newaxis] * np.array([50, 0.05])  # of `centre`, which depends on it
    expected = stats.norm(CENTRES.mean(axis=0), sd).logpdf(theta["centre"]).sum(axis=1)
    # Float32 rounds `centre`, relative to its sd, by 2e-5 at most for a width above 0.02, and the
    # log density by a few times the distance in sds as much.
    np.testing.assert_allclose(densities["centre"][0], expected, rtol=1e-3, atol=1e-3)
    theta["precisions"] = theta["scales"].astype(float) ** -2
    expected = row_log_likelihood(theta, rows)
    # float32 draws of means at 200 with sds near 5: the change of units alone rounds by 2e-5 nats
    # times the distance in sds, whose square is a few hundred at most.
    found = values(idata, "log_likelihood", "x")[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert values(idata, "observed_data", "x").dtype == np.float32
    for predictive in PREDICTIVE:
        assert values(idata, predictive, "x").dtype == np.float32
    assert idata["posterior"].attrs["status"] == "STEP_LIMIT"
    table = import_arviz().summary(idata, kind="stats")
    assert {"width", "extra[2]", "centre[1]", "scales[1, 1]"} <= set(table.index)


def test_equal_seeds_give_equal_draws_in_all_groups(posterior, idata, rows):
    again = to_inference_data(posterior, rows, draws=S, seed=SEED)
    for group in WITH_X:
        xr.testing.assert_equal(dataset(again, group), dataset(idata, group))
    other = to_inference_data(posterior, rows, draws=S, seed=SEED + 1)
    drawn = [("posterior", "means"), ("prior", "means"), *[(group, "x") for group in PREDICTIVE]]
    for group, name in drawn:
        assert not np.isin(values(other, group, name), values(idata, group, name)).any()


def test_prior_and_posterior_draws_are_independent(idata):
    """They do not share random numbers: 4 correlations of level 1e-6."""
    prior, after = (theta_of(idata, group)["means"] for group in ("prior", "posterior"))
    for k, d in np.ndindex(2, 2):
        assert stats.pearsonr(prior[:, k, d], after[:, k, d]).pvalue > FALSE_ALARM


def test_to_inference_data_prints_nothing(posterior, rows, capfd):
    to_inference_data(posterior, rows, draws=100)
    assert capfd.readouterr() == ("", "")


def test_bad_rows_for_inference_data_are_refused(posterior, rows):
    with pytest.raises(ValueError, match="must have 2 columns"):
        to_inference_data(posterior, rows[:, :1])
    with pytest.raises(ValueError, match="finite"):
        to_inference_data(posterior, np.where(rows > 200, np.nan, rows))


@pytest.mark.parametrize(("draws", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_bad_numbers_of_draws_are_errors(posterior, draws, error):
    with pytest.raises(error, match="draws must be"):
        to_inference_data(posterior, draws=draws)


def test_bad_chains_are_an_error(posterior):
    with pytest.raises(ValueError, match="chains must be 'auto', 'one' or 'restarts'; got 'two'"):
        to_inference_data(posterior, chains="two")


def test_a_variable_with_the_name_of_a_dimension_is_an_error():
    check_variable_names(["weights", "means", "own"])
    with pytest.raises(ValueError, match=r"variable 'component'.*another name"):
        check_variable_names(["weights", "component"])


@pytest.mark.parametrize("draws", [1, 2, 10])
def test_inference_data_can_have_few_draws(posterior, rows, draws):
    idata = to_inference_data(posterior, rows, draws=draws)
    assert values(idata, "log_likelihood", "x").shape == (1, draws, 300)
    assert values(idata, "posterior_predictive", "x").shape == (1, draws, 300, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_columns_have_finite_sds_and_rows_though_their_precisions_are_singular(dtype):
    """The precisions are of 1e9, and differ by 1 % in float64, by rounding in float32."""
    column = np.random.default_rng(0).normal(size=(40, 1)) + 8.0 * (np.arange(40)[:, None] % 2)
    X = np.repeat(column, 2, axis=1).astype(dtype)
    idata = to_inference_data(bgmm_jd.fit(X, 2, covariance="full", **QUICK), X, draws=20)
    for name in ("sds", "covariances", "correlations"):
        values = idata["posterior"][name].values
        assert values.dtype == dtype
        assert np.isfinite(values).all()
    assert np.isfinite(idata["posterior_predictive"]["x"].values).all()
