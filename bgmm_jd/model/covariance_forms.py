"""The forms that the components' covariances can have: shapes, axes and units of the variables."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from bgmm_jd.data.standardize import Units
from bgmm_jd.data.units import Transformation

CovarianceForm = Literal["diag", "full", "tied", "spherical"]
FORMS: tuple[CovarianceForm, ...] = get_args(CovarianceForm)
MATRIX_FORMS: tuple[CovarianceForm, ...] = ("full", "tied")

# A prior has one of these two variables for the scales of its components.
SCALE_VARIABLES = ("precisions", "scales")

_TRANSFORMATIONS = {
    "precisions": {
        "diag": Transformation.PRECISION,
        "full": Transformation.PRECISION_MATRIX,
        "tied": Transformation.PRECISION_MATRIX,
        "spherical": Transformation.COMMON_PRECISION,
    },
    "scales": {
        "diag": Transformation.SCALE,
        "full": Transformation.SCALE_MATRIX,
        "tied": Transformation.SCALE_MATRIX,
        "spherical": Transformation.COMMON_SCALE,
    },
}


def check_covariance(covariance: str, name: str = "covariance") -> None:
    """Raise unless `covariance`, the argument of that name, is the name of a form."""
    if covariance not in FORMS:
        raise ValueError(f"{name} must be one of {FORMS}; got {covariance!r}.")


def scale_shape(form: str, K: int, D: int) -> tuple[int, ...]:
    """Return the shape of `precisions` or `scales` under a form."""
    return {"diag": (K, D), "full": (K, D, D), "tied": (D, D), "spherical": (K, 1)}[form]


def forms_with_shape(shape: tuple[int, ...], K: int, D: int) -> list[CovarianceForm]:
    """List the forms whose `precisions` or `scales` have a shape; [2, 2] fits two if K = D = 2."""
    return [form for form in FORMS if scale_shape(form, K, D) == shape]


def fits_form(name: str, draws: np.ndarray, form: str) -> bool:
    """Return whether draws of `precisions` or `scales` have the values that a form needs.

    These are positive numbers; in a matrix form, positive definite matrices for `precisions` and
    lower triangular ones with a positive diagonal for `scales`.
    """
    if form not in MATRIX_FORMS:
        return bool((draws > 0).all())
    if name == "scales":
        diagonal = np.diagonal(draws, axis1=-2, axis2=-1)
        return bool(np.array_equal(draws, np.tril(draws)) and (diagonal > 0).all())
    sd = np.sqrt(np.abs(np.diagonal(draws, axis1=-2, axis2=-1)))
    rounding = 1e-4 * sd[..., :, np.newaxis] * sd[..., np.newaxis, :]
    symmetric = (np.abs(draws - draws.swapaxes(-1, -2)) <= rounding).all()
    return bool(symmetric and (np.linalg.eigvalsh(draws) > 0).all())


def scale_variable(theta: Mapping[str, object]) -> str:
    """Return which of `precisions` and `scales` is among the variables."""
    return next(name for name in SCALE_VARIABLES if name in theta)


def cholesky_name(name: str) -> str:
    """Return the name, in a theta, of the lower Cholesky factors of a variable's matrices.

    A theta has this entry where the factors are known already. Under XLA on a CPU a Cholesky
    decomposition and its gradient take longer than everything else that is done with a matrix.
    """
    return f"{name}, cholesky"


def transformation_of(name: str, form: str) -> Transformation:
    """Return how a variable changes with the units of X; NONE for a user's own hyperparameters."""
    if name == "means":
        return Transformation.LOCATION
    return _TRANSFORMATIONS[name][form] if name in SCALE_VARIABLES else Transformation.NONE


def units_of_rows(form: str, variable: str = "precisions", complete: bool = True) -> Units:
    """Return the units in which rows are fitted under a form of covariance: see `standardize`.

    Complete rows are whitened for a matrix form, in which every linear map of the features is
    another mixture of the same form. The map is triangular such that it takes triangular factors of
    `variable` to triangular ones. Rows with missing entries keep their columns apart.
    """
    if form == "spherical":
        return "common"
    if form in MATRIX_FORMS and complete:
        return "upper" if variable == "precisions" else "lower"
    return "columns"


def has_component_axis(name: str, form: str) -> bool:
    """Return whether a variable has one entry for each component, along its first axis."""
    return name in ("weights", "means") or (name in SCALE_VARIABLES and form != "tied")
