"""Small fits of all kinds, each made once, to be saved and loaded."""

import functools
import warnings
from dataclasses import replace

import numpy as np
import own_priors
import pandas as pd
import pytest
from builders import QUICK, two_groups_of_unlike_scale
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.settings import ChainSettings, FullDataSettings, OptimizationSettings, Settings
from bgmm_jd.variational.approximation import Centre, Region

ROWS = two_groups_of_unlike_scale(60).astype(np.float32)
OWN_PRIOR = tfd.JointDistributionCoroutine(own_priors.two_components)
# Chains too short to mix: they are saved as any others.
SHORT_CHAINS = Settings(chains=ChainSettings(warm_up=(1,), first_step=1e-3, moves=5, most_moves=5))
# A subsample, and then passes over all rows.
TWO_PHASES = Settings(
    optimization=OptimizationSettings(
        full_batch_rows=20, full_batch_numbers=20, subsample_rows=40, subsample_rows_per_component=1
    ),
    full_data=FullDataSettings(slices=7),
)


def incomplete_rows() -> np.ndarray:
    X = ROWS.copy()
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    return X


@functools.cache
def fit_of(kind: str) -> Posterior:
    """Return the fit of a kind, without a warning of what is wrong with its draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return MAKERS[kind]()


def fit(X=ROWS, K=2, **options) -> Posterior:
    return bgmm_jd.fit(X, K, **QUICK | options)


def relabelled_frame() -> Posterior:
    frame = pd.DataFrame(ROWS, columns=["length", "width \u03b1"])
    return bgmm_jd.relabel(fit(frame, covariance="full"), [1, 0], names=["two", "one"])


def with_two_modes() -> Posterior:
    """Return draws of a mixture proposal, cut into the parts nearer to one of two centres."""
    posterior = fit_of("mixture")
    mode = posterior.modes[0]
    centre = mode.region.centres[0]
    centres = (centre, Centre(centre.mean + centre.sd, centre.sd))
    modes = tuple(
        Mode(0.5, mode.log_evidence, mode.elbo, mode.khat, 1, Region(centres, number, 0.5))
        for number in range(2)
    )
    return replace(posterior, modes=modes)


MAKERS = {
    "mixture": lambda: fit(finish="auto"),
    "two modes": with_two_modes,
    "one of two modes": lambda: fit_of("two modes").at_mode(1),
    "chains": lambda: fit(finish="hmc", settings=SHORT_CHAINS),
    "frame, full, relabelled": relabelled_frame,
    "tied, float64": lambda: fit(ROWS.astype(np.float64), covariance="tied"),
    "spherical, mean field": lambda: fit(covariance="spherical", calibrate=False),
    "missing, weights": lambda: fit(
        incomplete_rows(), missing="marginalize", sample_weight=np.arange(60) % 4 / 2
    ),
    "sticks, empty": lambda: fit(K=4, prior=bgmm_jd.stick_breaking_prior(4, 2, mean_scale=50.0)),
    "mixture prior": lambda: fit(
        prior=bgmm_jd.mixture_prior(2, 2, mean_loc=[50.0, 0.0], mean_scale=[100.0, 1.0])
    ),
    "own prior": lambda: fit(prior=OWN_PRIOR),
    "many rows": lambda: fit(settings=TWO_PHASES),
}
SLOW = {"tied, float64", "many rows"}
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in MAKERS]


def own_prior_of(kind: str) -> tfd.JointDistributionCoroutine | None:
    """Return the prior that has to be passed to load a fit of a kind."""
    return OWN_PRIOR if kind == "own prior" else None


def group_names(idata) -> list[str]:
    """Return the names of the groups of an `InferenceData` or a `DataTree`."""
    groups = idata.groups() if callable(idata.groups) else idata.groups
    return [name.strip("/") for name in groups if name != "/"]
