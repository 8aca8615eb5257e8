"""`select` finds the number and the form of four clusters with covariances of each form."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.model.covariance_forms import FORMS

pytestmark = pytest.mark.slow

CENTRES = np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0], [0.0, -6.0]])
SIZES = np.array([350, 450, 550, 650])
SDS = np.array([[0.6, 1.4], [1.5, 0.7], [0.8, 1.6], [1.4, 0.5]])
CORRELATIONS = np.array([0.7, -0.6, 0.5, -0.7])
SETTINGS = {"draws": 100, "restarts": 2, "calibrate": False, "execution": "graph"}


def covariances(form: str) -> np.ndarray:
    """Return covariances [4, 2, 2] far from every simpler form.

    Sds differ by a factor of two, and correlations are at least 0.5.
    """
    sds = np.repeat(SDS[:, :1], 2, axis=1) if form == "spherical" else SDS
    full = np.einsum("ki,kj->kij", sds, sds)
    correlation = np.zeros(4) if form in ("spherical", "diag") else CORRELATIONS
    full[:, 0, 1] *= correlation
    full[:, 1, 0] *= correlation
    return np.repeat(full[:1], 4, axis=0) if form == "tied" else full


def rows_of(form: str) -> np.ndarray:
    """Return 2,000 rows of four clusters: [2000, 2]."""
    rng = np.random.default_rng(FORMS.index(form))
    parts = [
        rng.multivariate_normal(centre, covariance, size)
        for centre, covariance, size in zip(CENTRES, covariances(form), SIZES, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_select_finds_the_number_of_components(form):
    found = bgmm_jd.select(rows_of(form), (3, 4, 5), form, **SETTINGS)
    assert (found.best.K, found.best.covariance) == (4, form)


@pytest.mark.parametrize("form", FORMS)
def test_select_finds_the_simplest_form_that_fits(form):
    """A form with more parameters has a lower evidence, because it spreads its prior over them."""
    found = bgmm_jd.select(rows_of(form), 4, FORMS, **SETTINGS)
    assert found.best.covariance == form
