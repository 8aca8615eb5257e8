"""How wide the components are, from draws of `precisions` or `scales` in any form: NumPy arrays.

Each function takes draws by name with any leading axes [...], and where it matters the form of
the covariance.
"""

from collections.abc import Mapping

import numpy as np

from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_variable

Arrays = Mapping[str, np.ndarray]


def covariance_matrices(theta: Arrays) -> np.ndarray:
    """Covariance matrices of a matrix form: [..., K, D, D] ("full") or [..., D, D] ("tied")."""
    if "scales" in theta:
        lower = theta["scales"]
        return lower @ lower.swapaxes(-1, -2)
    inverse = np.linalg.inv(theta["precisions"])
    return (inverse + inverse.swapaxes(-1, -2)) / 2.0


def standard_deviations(theta: Arrays, form: str) -> np.ndarray:
    """Standard deviations of the features.

    [..., K, D] ("diag", "full"), [..., D] ("tied") or [..., K] ("spherical").
    """
    if form in MATRIX_FORMS:
        return np.sqrt(np.diagonal(covariance_matrices(theta), axis1=-2, axis2=-1))
    if "scales" in theta:
        found = theta["scales"].copy()
    else:
        with np.errstate(divide="ignore"):  # a prior with much mass near 0 can draw a 0
            found = theta["precisions"] ** -0.5
    return found[..., 0] if form == "spherical" else found


def correlation_matrices(theta: Arrays) -> np.ndarray:
    """Correlation matrices, of the shape of `covariances`."""
    matrices = covariance_matrices(theta)
    sd = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))
    found = matrices / (sd[..., :, np.newaxis] * sd[..., np.newaxis, :])
    return np.clip(found, -1.0, 1.0)  # rounding goes beyond


def component_covariances(theta: Arrays, form: str) -> np.ndarray:
    """Covariance matrices of all components, whatever the form: [..., K, D, D]."""
    means = theta["means"]
    shape = (*means.shape, means.shape[-1])
    if form == "tied":
        return np.broadcast_to(covariance_matrices(theta)[..., np.newaxis, :, :], shape)
    if form == "full":
        return covariance_matrices(theta)
    sd = standard_deviations(theta, form)
    sd = sd[..., np.newaxis] if form == "spherical" else sd
    return np.broadcast_to(sd**2, means.shape)[..., np.newaxis] * np.eye(means.shape[-1])


def covariance_factors(theta: Arrays, form: str) -> np.ndarray:
    """What makes noise of standard normal numbers, see `noise`.

    Standard deviations [..., K, D], or lower Cholesky factors of covariances [..., K, D, D].
    """
    means = theta["means"]
    if form in MATRIX_FORMS:
        found = theta.get("scales")
        if found is None:
            found = np.linalg.cholesky(covariance_matrices(theta))
        found = found[..., np.newaxis, :, :] if form == "tied" else found
        return np.broadcast_to(found, (*means.shape, means.shape[-1]))
    sd = standard_deviations(theta, form)
    return np.broadcast_to(sd[..., np.newaxis] if form == "spherical" else sd, means.shape)


def correlated_noise(root: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Standard normal numbers z [..., D] with the spread of a root [..., D] or [..., D, D]."""
    return root * z if root.ndim == z.ndim else np.einsum("...ij,...j->...i", root, z)


def selected_precisions(
    theta: Arrays, form: str, draws: np.ndarray, components: np.ndarray
) -> np.ndarray:
    """Precision matrices of some components of some draws, whatever the form: [Q, D, D]."""
    name = scale_variable(theta)
    value = theta[name][draws] if form == "tied" else theta[name][draws, components]
    if form not in MATRIX_FORMS:
        value = value if name == "precisions" else value**-2.0
        return diagonal_matrices(np.broadcast_to(value, (len(draws), theta["means"].shape[-1])))
    return value if name == "precisions" else np.linalg.inv(value @ value.swapaxes(1, 2))


def diagonal_matrices(values: np.ndarray) -> np.ndarray:
    """Diagonal matrices [..., D, D] of their diagonals [..., D]."""
    return values[..., np.newaxis] * np.eye(values.shape[-1])
