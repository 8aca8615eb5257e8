"""The inner names of `bgmm_jd` that benchmarks use; no other benchmark imports inner modules.

They are not part of the public interface, and may change in any version.
"""

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration.importance_sampling import draw_proposal, surrogate_khat
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.units import (
    Standardization,
    affine_map,
    as_standardization_tensors,
    identity_standardization,
    unstandardize,
)
from bgmm_jd.fitting import search
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, units_of_rows
from bgmm_jd.optimization import svi
from bgmm_jd.optimization.convergence import parameter_moments
from bgmm_jd.optimization.data_pass import PassPlan
from bgmm_jd.optimization.full_data import pass_evaluator, plan_passes
from bgmm_jd.optimization.initialization import start_at
from bgmm_jd.optimization.single_run import step_size
from bgmm_jd.posterior.draws import in_data_units
from bgmm_jd.variational.approximation import Approximation, Problem, draw_mean_field
from bgmm_jd.variational.labels import permute_parameters
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import VariationalParameters, unconstrained_arrays
from bgmm_jd.variational.surrogate import surrogate_in_data_units

__all__ = [
    "FORMS",
    "MATRIX_FORMS",
    "Approximation",
    "PassPlan",
    "Problem",
    "Standardization",
    "StepSize",
    "VariationalParameters",
    "affine_map",
    "as_row_tensors",
    "as_standardization_tensors",
    "compiled",
    "draw_mean_field",
    "draw_proposal",
    "equal_batches",
    "identity_standardization",
    "in_data_units",
    "parameter_moments",
    "pass_evaluator",
    "permute_parameters",
    "plan_passes",
    "problem_of",
    "search",
    "standardize",
    "start_at",
    "stateless_seed",
    "step_size",
    "surrogate_in_data_units",
    "surrogate_khat",
    "svi",
    "unconstrained_arrays",
    "units_of_rows",
    "unstandardize",
]
