"""Bayesian Gaussian mixtures on TensorFlow Probability joint distributions."""

from bgmm_jd import native_log as _native_log

with _native_log.set_aside():
    import tensorflow as _tensorflow  # noqa: F401
    import tensorflow_probability as _tensorflow_probability  # noqa: F401

from bgmm_jd._version import __version__ as __version__
from bgmm_jd.comparison import compare
from bgmm_jd.conditionals import conditional, marginal
from bgmm_jd.disk_cache import keep_compiled
from bgmm_jd.fit import fit
from bgmm_jd.imputation import impute
from bgmm_jd.inference_data import to_inference_data
from bgmm_jd.occupancy import occupied_components
from bgmm_jd.plots import plot_density
from bgmm_jd.posterior import (
    Posterior,
    log_density,
    predict,
    predict_proba,
    relabel,
    sample_predictive,
)
from bgmm_jd.predictive import PredictiveMixture
from bgmm_jd.prior import mixture_prior, stick_breaking_prior
from bgmm_jd.selection import Selection, select
from bgmm_jd.status import Status
from bgmm_jd.sticks import StickBreaking

__all__ = [
    "Posterior",
    "PredictiveMixture",
    "Selection",
    "Status",
    "StickBreaking",
    "compare",
    "conditional",
    "fit",
    "impute",
    "keep_compiled",
    "log_density",
    "marginal",
    "mixture_prior",
    "occupied_components",
    "plot_density",
    "predict",
    "predict_proba",
    "relabel",
    "sample_predictive",
    "select",
    "stick_breaking_prior",
    "to_inference_data",
]
