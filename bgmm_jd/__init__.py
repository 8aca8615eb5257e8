"""Bayesian Gaussian mixtures on TensorFlow Probability joint distributions."""

from bgmm_jd.backend import collector as _collector
from bgmm_jd.backend import startup_log as _startup_log

with _startup_log.filter_startup_log(), _collector.collector_at_rest():
    import tensorflow as _tensorflow  # noqa: F401
    import tensorflow_probability as _tensorflow_probability  # noqa: F401

from bgmm_jd._version import __version__ as __version__
from bgmm_jd.backend.compilation_cache import keep_compiled
from bgmm_jd.distributions.stick_breaking import StickBreaking, dirichlet_process
from bgmm_jd.fitting.default_prior import default_prior
from bgmm_jd.fitting.fit import fit
from bgmm_jd.fitting.progress import Progress
from bgmm_jd.fitting.selection import Selection, select
from bgmm_jd.fitting.update import update
from bgmm_jd.model.priors import mixture_prior, stick_breaking_prior
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status, StatusWarning
from bgmm_jd.posterior.conditionals import conditional, marginal
from bgmm_jd.posterior.imputation import impute
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.posterior.occupancy import occupied_components
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import log_density, predict, predict_proba, sample_predictive
from bgmm_jd.posterior.predictive_mixture import PredictiveMixture
from bgmm_jd.posterior.relabel import relabel
from bgmm_jd.posterior.trainable import trainable_surrogate
from bgmm_jd.reporting.boundaries_plot import plot_boundaries
from bgmm_jd.reporting.classification_plot import plot_classification
from bgmm_jd.reporting.comparison import compare
from bgmm_jd.reporting.components_plot import plot_components
from bgmm_jd.reporting.density_plot import plot_density
from bgmm_jd.reporting.elbo_plot import plot_elbo
from bgmm_jd.reporting.inference_data import to_inference_data
from bgmm_jd.reporting.modes_plot import plot_modes
from bgmm_jd.reporting.report import report
from bgmm_jd.reporting.selection_plot import plot_selection
from bgmm_jd.reporting.uncertainty_plot import plot_uncertainty
from bgmm_jd.settings import Settings
from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.sample import sample_rows
from bgmm_jd.sources.table import table
from bgmm_jd.storage import pickling as _pickling
from bgmm_jd.storage.saving import load, save

_pickling.register()

__all__ = [  # noqa: RUF022  by section
    # Fit a mixture, or many.
    "fit",
    "select",
    "update",
    "Posterior",
    "Mode",
    "Restart",
    "Progress",
    "Selection",
    "Settings",
    "Status",
    "StatusWarning",
    # Rows that are not in memory.
    "table",
    "batches",
    "sample_rows",
    # Priors.
    "default_prior",
    "mixture_prior",
    "stick_breaking_prior",
    "dirichlet_process",
    "StickBreaking",
    # Use a posterior.
    "predict",
    "predict_proba",
    "log_density",
    "sample_predictive",
    "marginal",
    "conditional",
    "PredictiveMixture",
    "impute",
    "occupied_components",
    "relabel",
    "trainable_surrogate",
    # Report and compare.
    "to_inference_data",
    "compare",
    "report",
    # Plot.
    "plot_density",
    "plot_classification",
    "plot_uncertainty",
    "plot_boundaries",
    "plot_components",
    "plot_elbo",
    "plot_modes",
    "plot_selection",
    # Keep.
    "save",
    "load",
    # The process.
    "keep_compiled",
]
