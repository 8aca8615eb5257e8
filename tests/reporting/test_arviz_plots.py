"""The plots of ArviZ that the documentation shows, on what `to_inference_data` returns."""

import dataclasses

import numpy as np
import pytest
from figures import fit_of_groups, groups
from matplotlib import pyplot

from bgmm_jd.reporting.inference_data import import_arviz, to_inference_data

pytestmark = [
    pytest.mark.contract,
    # ArviZ and its plots call functions of matplotlib, NumPy and xarray that are to go.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
az = import_arviz()
OLD = az.__version__.startswith("0.")
NAMES = ("length", "waiting")


@pytest.fixture(scope="module")
def idata():
    posterior = dataclasses.replace(
        fit_of_groups(2), feature_names=NAMES, component_names=("short", "long")
    )
    return to_inference_data(posterior, groups(60, 2), draws=200, seed=1)


def texts():
    """Return all words of the figures that are open."""
    found = [pyplot.figure(number).findobj(pyplot.Text) for number in pyplot.get_fignums()]
    return " ".join(text.get_text() for texts in found for text in texts)


def test_forest_names_features_and_components(idata):
    az.plot_forest(idata, var_names=["means"])
    shown = texts()
    assert all(name in shown for name in (*NAMES, "short", "long"))


def test_predictive_check_is_drawn(idata):
    if OLD:
        assert np.size(az.plot_ppc(idata, flatten=["obs"], num_pp_samples=20)) == 2
    else:
        az.plot_ppc_dist(idata.sel(feature="length"), num_samples=20)
    assert len(pyplot.get_fignums()) == 1


def test_prior_predictive_check_is_drawn(idata):
    if OLD:
        az.plot_ppc(idata, group="prior", flatten=["obs"], num_pp_samples=20)
    else:
        az.plot_ppc_dist(idata, group="prior_predictive", num_samples=20)
    assert len(pyplot.get_fignums()) == 1


def test_loo_pit_of_a_feature_is_drawn(idata):
    one = idata.sel(feature="waiting")
    if OLD:
        az.plot_loo_pit(one, y="x", ecdf=True)
    else:
        az.plot_loo_pit(one, var_names=["x"])
    assert len(pyplot.get_fignums()) == 1


@pytest.mark.skipif(OLD, reason="arviz 0.23 has no plots of prior sensitivity")
def test_prior_sensitivity_of_each_weight_is_drawn(idata):
    az.plot_psense_dist(idata, var_names=["weights"])
    shown = texts()
    assert all(name in shown for name in ("short", "long"))
