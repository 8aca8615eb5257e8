"""A posterior that was saved and loaded is the same, bit by bit, in whatever is done with it."""

import functools
import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import own_priors
import pytest
import xarray as xr
from equal_values import assert_same
from fits import (
    KINDS,
    MAKERS,
    OWN_PRIOR,
    ROWS,
    fit_of,
    group_names,
    incomplete_rows,
    own_prior_of,
)
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.settings import Settings
from bgmm_jd.storage.encoding import decode, encode

# arviz 0.23 gives this notice at its first import of a day.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:\s*ArviZ is undergoing a major refactor:FutureWarning"
)


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """Return a posterior, and the same after it was saved and loaded."""
    path = tmp_path_factory.mktemp("saved") / "posterior.nc"
    posterior = fit_of(request.param)
    bgmm_jd.save(posterior, path)
    return posterior, bgmm_jd.load(path, prior=own_prior_of(request.param))


def assert_equal_draws(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].tobytes() == other[name].tobytes(), name


def test_every_field_survives(pair):
    saved, loaded = pair
    assert_same(saved, loaded)
    assert repr(loaded) == repr(saved)


def test_loaded_posterior_is_saved_to_the_same_bytes(pair):
    saved, loaded = pair
    assert encode(loaded) == encode(saved)


def test_draws_are_equal(pair):
    saved, loaded = pair
    for n, seed in ((1, 0), (300, 5)):
        assert_equal_draws(saved.sample(n, seed=seed), loaded.sample(n, seed=seed))
    mean_field = [one.sample(20, calibrate=False) for one in pair]
    assert_equal_draws(*mean_field)
    assert saved.evidence_bound == loaded.evidence_bound
    assert saved.summary(draws=50).equals(loaded.summary(draws=50))


def test_predictions_are_equal(pair):
    X = incomplete_rows() if pair[0].missing else ROWS
    for function in (bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density):
        saved, loaded = (function(one, X, draws=20) for one in pair)
        assert saved.tobytes() == loaded.tobytes()
    saved, loaded = (bgmm_jd.occupied_components(one, draws=20) for one in pair)
    assert saved.tobytes() == loaded.tobytes()
    saved, loaded = (bgmm_jd.sample_predictive(one, 20) for one in pair)
    assert saved.tobytes() == loaded.tobytes()


@pytest.mark.parametrize("kind", ["mixture", "spherical, mean field"])
def test_comparison_is_equal(kind):
    saved = fit_of(kind)
    loaded = decode(encode(saved), None, "it")
    tables = [bgmm_jd.compare({"fit": one}, ROWS, draws=100) for one in (saved, loaded)]
    assert tables[0].equals(tables[1])


# The chains of this fit are shorter than they are many, which ArviZ 1.x finds odd.
@pytest.mark.filterwarnings("ignore:Found chain dimension to be longer:UserWarning")
@pytest.mark.contract
@pytest.mark.parametrize("kind", ["chains", "frame, full, relabelled", "own prior"])
def test_inference_data_is_equal(kind):
    saved = fit_of(kind)
    loaded = decode(encode(saved), own_prior_of(kind), "it")
    one, other = (bgmm_jd.to_inference_data(p, ROWS, draws=10) for p in (saved, loaded))
    groups = group_names(one)
    assert "sample_stats" in groups
    for group in groups:
        found = [xr.Dataset(idata[group].data_vars, idata[group].coords) for idata in (one, other)]
        xr.testing.assert_identical(*found)


def test_every_setting_survives():
    settings = Settings()
    changed = replace(
        settings,
        **{
            part.name: replace(
                getattr(settings, part.name),
                **{
                    f.name: getattr(getattr(settings, part.name), f.name) + 1
                    for f in fields(getattr(settings, part.name))
                    if type(getattr(getattr(settings, part.name), f.name)) in (int, float)
                },
            )
            for part in fields(settings)
        },
    )
    posterior = fit_of("mixture prior")
    problem = replace(posterior.problem, settings=changed)
    approximation = replace(posterior.approximation, problem=problem)
    loaded = decode(encode(replace(posterior, approximation=approximation)), None, "it")
    assert loaded.settings == changed != settings


def test_components_of_another_order_and_modes_are_drawn_from_after_loading():
    saved = fit_of("two modes")
    loaded = decode(encode(saved), None, "it")
    for number in range(2):
        draws = [one.at_mode(number).sample(50) for one in (saved, loaded)]
        assert_equal_draws(*draws)
    draws = [bgmm_jd.relabel(one, "weights").sample(50) for one in (saved, loaded)]
    assert_equal_draws(*draws)


def test_seconds_cannot_be_changed():
    loaded = decode(encode(fit_of("mixture")), None, "it")
    with pytest.raises(TypeError, match="does not support item assignment"):
        loaded.seconds["search"] = 0.0


# --- Priors of the user's own ---------------------------------------------------------------------


def test_own_prior_is_needed_and_has_to_be_the_same(tmp_path):
    bgmm_jd.save(fit_of("own prior"), tmp_path / "own.nc")
    with pytest.raises(ValueError, match=r"a prior of your own.*Pass the same coroutine"):
        bgmm_jd.load(tmp_path / "own.nc")
    wider = tfd.JointDistributionCoroutine(functools.partial(own_priors.two_components, 6.0))
    with pytest.raises(ValueError, match="prior must have the log density of the fit's"):
        bgmm_jd.load(tmp_path / "own.nc", prior=wider)
    with pytest.raises(ValueError, match="prior must have the variables of the fit"):
        bgmm_jd.load(tmp_path / "own.nc", prior=bgmm_jd.mixture_prior(2, 2))
    with pytest.raises(TypeError, match="JointDistributionCoroutine; got function"):
        bgmm_jd.load(tmp_path / "own.nc", prior=own_priors.two_components)
    again = tfd.JointDistributionCoroutine(own_priors.two_components)
    assert bgmm_jd.load(tmp_path / "own.nc", prior=again).prior is again


def test_prior_that_is_in_the_file_must_not_be_passed(tmp_path):
    bgmm_jd.save(fit_of("mixture prior"), tmp_path / "posterior.nc")
    with pytest.raises(ValueError, match="prior must be left out"):
        bgmm_jd.load(tmp_path / "posterior.nc", prior=OWN_PRIOR)


# --- Arguments and files --------------------------------------------------------------------------


def test_arguments_of_other_types_are_errors(tmp_path):
    with pytest.raises(TypeError, match="posterior must be a Posterior; got dict"):
        bgmm_jd.save({}, tmp_path / "x.nc")
    with pytest.raises(TypeError, match="path must be a str"):
        bgmm_jd.save(fit_of("mixture"), 3)
    with pytest.raises(TypeError, match="keep_rows must be True or False; got 'no'"):
        bgmm_jd.save(fit_of("mixture"), tmp_path / "x.nc", keep_rows="no")
    with pytest.raises(TypeError, match="path must be a str"):
        bgmm_jd.load(b"x.nc")
    assert os.listdir(tmp_path) == []


def test_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.nc"):
        bgmm_jd.load(tmp_path / "absent.nc")
    with pytest.raises(IsADirectoryError):
        bgmm_jd.load(str(tmp_path))


def test_file_of_something_else_is_an_error(tmp_path):
    (tmp_path / "text.nc").write_text("no netCDF")
    with pytest.raises(ValueError, match=r"text\.nc cannot be loaded: it is not a netCDF4 file"):
        bgmm_jd.load(tmp_path / "text.nc")
    xr.Dataset({"x": ("n", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"other\.nc cannot be loaded: it does not end as"):
        bgmm_jd.load(tmp_path / "other.nc")


def test_every_one_of_500_changes_of_a_byte_is_an_error(tmp_path):
    path = tmp_path / "posterior.nc"
    bgmm_jd.save(fit_of("mixture"), path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=500):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"posterior\.nc cannot be loaded: it"):
            bgmm_jd.load(path)


# --- Another process ------------------------------------------------------------------------------


def results_of(posterior, X, kind):
    """Return a digest of draws and predictions, and of a few kinds of exports and comparisons."""
    parts = [*posterior.sample(100, seed=3).values(), bgmm_jd.log_density(posterior, X, draws=20)]
    if kind in EXPORTED:
        idata = bgmm_jd.to_inference_data(posterior, X, draws=10)
        arrays = [idata[group][name] for group in group_names(idata) for name in idata[group]]
        parts += [array.to_numpy() for array in arrays]
        parts += [bgmm_jd.compare({"fit": posterior}, X, draws=100).to_numpy().astype(str)]
    digest = hashlib.sha256(repr(posterior).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


EXPORTED = ("mixture", "own prior")
OTHER_PROCESS = """
import json, pickle, sys, warnings
import numpy as np

with open("posteriors.pickle", "rb") as file:
    pickled = pickle.load(file)
import bgmm_jd
from fits import own_prior_of
from test_saving import results_of

warnings.simplefilter("ignore")  # as `fit_of` does
found = {}
for number, (kind, posterior) in enumerate(pickled.items()):
    loaded = bgmm_jd.load(f"{number}.nc", prior=own_prior_of(kind))
    X = np.load(f"{number}.npy")
    found[kind] = [results_of(one, X, kind) for one in (loaded, posterior)]
print(json.dumps(found))
"""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.slow
def test_all_kinds_are_the_same_in_another_process_and_folder(tmp_path):
    """Also what was pickled, which is read before the library is imported."""
    posteriors = {kind: fit_of(kind) for kind in MAKERS}
    (tmp_path / "posteriors.pickle").write_bytes(pickle.dumps(posteriors))
    expected = {}
    for number, (kind, posterior) in enumerate(posteriors.items()):
        X = incomplete_rows() if posterior.missing else ROWS
        np.save(tmp_path / f"{number}.npy", X)
        bgmm_jd.save(posterior, tmp_path / f"{number}.nc")
        expected[kind] = [results_of(posterior, X, kind)] * 2
    here = Path(__file__).parent
    paths = [Path(bgmm_jd.__file__).parents[1], here, here.parent]
    found = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) == expected
