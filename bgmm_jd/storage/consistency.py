"""Checks that the parts of a posterior that was read fit together.

The checksum finds damage, and the types of the fields find values of a wrong kind. These checks
find a file that was made wrong on purpose, before an array of a wrong shape ends in an obscure
error.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bgmm_jd.backend.execution import EXECUTIONS
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.validation import as_missing_flag
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.variational.approximation import Approximation, Calibration
from bgmm_jd.variational.coordinates import coordinate_shape
from bgmm_jd.variational.labels import as_permutation
from bgmm_jd.variational.parameters import VariationalParameters, parameter_shapes
from bgmm_jd.variational.structure import StandardizedModel


def check_consistency(posterior: Posterior) -> None:
    """Raise ValueError unless names are known and the shapes of all parts fit together."""
    K, D, problem = posterior.K, posterior.D, posterior.problem
    as_missing_flag(posterior.missing)
    _check("covariance", posterior.covariance in FORMS)
    _check("execution", problem.execution in EXECUTIONS)
    _check("K", problem.model.K == K)
    _check("form of covariance", problem.model.covariance == posterior.covariance)
    for names, count in ((posterior.feature_names, D), (posterior.component_names, K)):
        _check("names", names is None or len(names) == count)
    _check_data(problem.data, D)
    _check_approximation(posterior.approximation, K, D)
    model = problem.standardized_model
    for restart in posterior.restarts:
        _check_parameters(model, restart.params)
        as_permutation(restart.order, K)
    P = _number_of_coordinates(model, log_ratios=True)
    regions = [mode.region for mode in posterior.modes]
    if posterior.approximation.proposal is not None:
        regions.append(posterior.approximation.proposal.region)
    for region in regions:
        if region is not None:
            _check("region", 0 <= region.chosen < len(region.centres))
            for centre in region.centres:
                _check("centre", centre.mean.shape == centre.sd.shape == (P,))


def _check_data(data: Data, D: int) -> None:
    units = data.standardization
    scale = units.scale.shape
    _check("columns", data.shape[1] == D and data.dtype.name in ("float32", "float64"))
    _check("standardization", units.shift.shape == (D,) and scale in ((D,), (D, D)))
    _check("inverse", scale == (D,) if units.inverse is None else units.inverse.shape == (D, D))
    _check("unread columns", data.unread is None or data.unread.shape == (D,))
    if isinstance(data.kept_rows, Rows):
        _check_rows(data.kept_rows)


def _check_rows(rows: Rows) -> None:
    N, D = rows.values.shape
    _check("weight", rows.weight is None or rows.weight.shape == (N,))
    if rows.missing is not None:
        observed, pattern = rows.missing
        _check("pattern", observed.shape[1:] == (D,) and pattern.shape == (N,))
        _check("pattern", pattern.min() >= 0 and pattern.max() < len(observed))


def _check_approximation(approximation: Approximation, K: int, D: int) -> None:
    model = approximation.problem.standardized_model
    P = _number_of_coordinates(model, log_ratios=True)
    shift, scale, _ = approximation.problem.prior_standardization
    _check("prior_standardization", shift.shape == (D,) and scale.shape in ((D,), (D, D)))
    _check_parameters(model, approximation.params)
    as_permutation(approximation.order, K)
    if approximation.calibration is not None:
        _check_calibration(approximation.calibration, _number_of_coordinates(model))
    if approximation.proposal is not None:
        weights, means, factors, _ = approximation.proposal.mixture
        M = len(weights)
        _check("mixture", means.shape == (M, P) and factors.shape == (M, P, P))
    if approximation.bank is not None:
        points, chains, number, *_ = approximation.bank
        _check("bank", points.shape[1:] == (P,) and number.shape == points.shape[:1])
        _check("chains", chains > 0 and len(points) > 0 and len(points) % chains == 0)


def _check_calibration(calibration: Calibration, P: int) -> None:
    n = P if calibration.empty is None else len(calibration.empty.informed)
    _check("normal", calibration.normal.mean.shape == (n,))
    _check("normal", calibration.normal.factor.shape == (n, n))
    if calibration.empty is not None:
        places = np.concatenate([calibration.empty.informed, calibration.empty.places])
        _check("places", len(places) == 0 or (places.min() >= 0 and places.max() < P))


def _number_of_coordinates(model: StandardizedModel, log_ratios: bool = False) -> int:
    return sum(math.prod(coordinate_shape(site, log_ratios)) for site in model.free_sites)


def _check_parameters(model: StandardizedModel, params: VariationalParameters) -> None:
    expected = {site.name: dict(parameter_shapes(site)) for site in model.sites}
    _check("parameters", _shapes(params) == expected)


def _shapes(params: VariationalParameters) -> Mapping[str, Any]:
    return {
        site: {name: tuple(np.shape(v)) for name, v in parameters.items()}
        for site, parameters in params.items()
    }


def _check(part: str, is_sound: bool) -> None:
    if not is_sound:
        raise ValueError(f"its {part} does not fit the rest")
