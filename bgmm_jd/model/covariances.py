"""Covariances, standard deviations and correlations of draws in any form, as NumPy arrays.

The functions take draws of the parameters by name, with any leading axes [...], and the form of
covariance where the result depends on it.
"""

from collections.abc import Mapping

import numpy as np

from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_variable

Arrays = Mapping[str, np.ndarray]


def covariance_matrices(theta: Arrays) -> np.ndarray:
    """Return the covariances of a matrix form: [..., K, D, D] ("full") or [..., D, D] ("tied")."""
    if "scales" in theta:
        factor = theta["scales"]
        return factor @ factor.swapaxes(-1, -2)
    inverse = np.linalg.inv(theta["precisions"])
    return (inverse + inverse.swapaxes(-1, -2)) / 2.0


def standard_deviations(theta: Arrays, form: str) -> np.ndarray:
    """Return the standard deviations of the features within a component.

    Their shape is [..., K, D] ("diag", "full"), [..., D] ("tied") or [..., K] ("spherical").
    """
    if form in MATRIX_FORMS:
        return np.sqrt(np.diagonal(covariance_matrices(theta), axis1=-2, axis2=-1))
    if "scales" in theta:
        sd = theta["scales"].copy()
    else:
        with np.errstate(divide="ignore"):  # a prior with much mass near 0 can draw a 0
            sd = theta["precisions"] ** -0.5
    return sd[..., 0] if form == "spherical" else sd


def correlation_matrices(theta: Arrays) -> np.ndarray:
    """Return the correlations of a matrix form, in the shape of `covariance_matrices`."""
    matrices = covariance_matrices(theta)
    sd = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))
    correlations = matrices / (sd[..., :, np.newaxis] * sd[..., np.newaxis, :])
    return np.clip(correlations, -1.0, 1.0)  # rounding can exceed 1


def component_covariances(theta: Arrays, form: str) -> np.ndarray:
    """Return the covariance matrix of each component in any form: [..., K, D, D]."""
    if form == "full":
        return covariance_matrices(theta)
    if form == "tied":
        return _for_each_component(covariance_matrices(theta), theta)
    return diagonal_matrices(component_sds(theta, form) ** 2)


def component_sds(theta: Arrays, form: str) -> np.ndarray:
    """Return the standard deviations of each component in any form: [..., K, D]."""
    sd = standard_deviations(theta, form)
    if form == "spherical":
        sd = sd[..., np.newaxis]
    elif form == "tied":
        sd = sd[..., np.newaxis, :]
    return np.broadcast_to(sd, theta["means"].shape)


def covariance_factors(theta: Arrays, form: str) -> np.ndarray:
    """Return the factors that give normal noise the covariance of each component.

    They are standard deviations [..., K, D] or, in a matrix form, lower Cholesky factors of the
    covariances [..., K, D, D]; see `correlated_noise`.
    """
    if form not in MATRIX_FORMS:
        return component_sds(theta, form)
    if "scales" in theta:
        factors = theta["scales"]
    else:
        factors = np.linalg.cholesky(covariance_matrices(theta))
    return _for_each_component(factors, theta) if form == "tied" else factors


def _for_each_component(matrices: np.ndarray, theta: Arrays) -> np.ndarray:
    """Repeat the matrices [..., D, D] that components share: [..., K, D, D]."""
    means = theta["means"]
    return np.broadcast_to(matrices[..., np.newaxis, :, :], (*means.shape, means.shape[-1]))


def correlated_noise(factor: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Multiply standard normal numbers z [..., D] by a factor [..., D] or [..., D, D]."""
    return factor * z if factor.ndim == z.ndim else np.einsum("...ij,...j->...i", factor, z)


def selected_precisions(
    theta: Arrays, form: str, draws: np.ndarray, components: np.ndarray
) -> np.ndarray:
    """Return the precision matrices of some components of some draws in any form: [Q, D, D].

    Parameters
    ----------
    theta : with one leading axis, of draws.
    draws, components : [Q], the draw and the component of each matrix.
    """
    name = scale_variable(theta)
    value = theta[name][draws] if form == "tied" else theta[name][draws, components]
    if form not in MATRIX_FORMS:
        value = value if name == "precisions" else value**-2.0
        return diagonal_matrices(np.broadcast_to(value, (len(draws), theta["means"].shape[-1])))
    return value if name == "precisions" else np.linalg.inv(value @ value.swapaxes(1, 2))


def diagonal_matrices(diagonals: np.ndarray) -> np.ndarray:
    """Make matrices [..., D, D] from their diagonals [..., D]."""
    return diagonals[..., np.newaxis] * np.eye(diagonals.shape[-1])
