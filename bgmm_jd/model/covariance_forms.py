"""The forms that the covariance of a component can have, and the shape and unit each gives."""

from collections.abc import Mapping

import numpy as np

from bgmm_jd.data.units import Transformation

FORMS = ("diag", "full", "tied", "spherical")
MATRIX_FORMS = ("full", "tied")

# The variable of the prior that says how wide the components are, whichever it has.
SCALE_VARIABLES = ("precisions", "scales")

_UNITS = {
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


def check_covariance(covariance: str) -> None:
    """Raise unless `covariance` names a form that is known."""
    if covariance not in FORMS:
        raise ValueError(f"covariance must be one of {FORMS}; got {covariance!r}.")


def scale_shape(covariance: str, K: int, D: int) -> tuple[int, ...]:
    """The shape of `precisions` or `scales` in that form."""
    return {"diag": (K, D), "full": (K, D, D), "tied": (D, D), "spherical": (K, 1)}[covariance]


def forms_with_shape(shape: tuple[int, ...], K: int, D: int) -> list[str]:
    """The forms that a `precisions` or `scales` of that shape may have; [2, 2] has two."""
    return [form for form in FORMS if scale_shape(form, K, D) == shape]


def fits_form(name: str, draws: np.ndarray, form: str) -> bool:
    """Whether draws of `precisions` or `scales` can be what the form takes them for.

    Positive numbers, positive definite matrices or, for `scales` of a matrix form, lower
    triangular ones.
    """
    if form not in MATRIX_FORMS:
        return bool((draws > 0).all())
    if name == "scales":
        diagonal = np.diagonal(draws, axis1=-2, axis2=-1)
        return bool(np.array_equal(draws, np.tril(draws)) and (diagonal > 0).all())
    own = np.sqrt(np.abs(np.diagonal(draws, axis1=-2, axis2=-1)))
    rounding = 1e-4 * own[..., :, np.newaxis] * own[..., np.newaxis, :]
    symmetric = (np.abs(draws - draws.swapaxes(-1, -2)) <= rounding).all()
    return bool(symmetric and (np.linalg.eigvalsh(draws) > 0).all())


def scale_variable(theta: Mapping[str, object]) -> str:
    """Which of `precisions` and `scales` there is."""
    return next(name for name in SCALE_VARIABLES if name in theta)


def cholesky_name(name: str) -> str:
    """The name, in a theta, of the lower Cholesky factors of a variable's matrices.

    They are there where they are known. Under XLA on a CPU a decomposition and its gradient take
    longer than all else that is done with a matrix.
    """
    return f"{name}, root"


def transformation_of(name: str, covariance: str) -> Transformation:
    """What the variable of that name is measured in; hyperparameters of the user's own stay."""
    if name == "means":
        return Transformation.LOCATION
    return _UNITS[name][covariance] if name in SCALE_VARIABLES else Transformation.NONE


def has_component_axis(name: str, covariance: str) -> bool:
    """Whether the variable has one entry for each component, along its first axis."""
    return name in ("weights", "means") or (name in SCALE_VARIABLES and covariance != "tied")
