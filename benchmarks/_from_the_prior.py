"""Data sets drawn from the model's own prior, and what does not depend on the labels of components.

With exact posteriors the parameters that generated the rows rank among the posterior's draws as one
more draw would: their rank is uniform (Cook, Gelman and Rubin 2006; Talts et al. 2018).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

D = 2
POINTS = {"log p(centre)": (0.0, 0.0), "log p(side)": (2.0, -1.0)}

Theta = Mapping[str, np.ndarray]  # weights [S, K], means [S, K, D] and precisions


def truth_and_rows(
    prior: Any, rows: int, seed: int, index: int, form: str = "diag"
) -> tuple[Theta, np.ndarray]:
    """Draw parameters from the prior, as one draw, and rows [N, D] given them."""
    drawn = prior.sample(1, seed=(seed, index))._asdict()
    theta = {name: np.asarray(v, np.float64) for name, v in drawn.items()}
    rng = np.random.default_rng([seed, index])
    ends = np.cumsum(theta["weights"][0])[:-1]
    label = (rng.random(rows)[:, np.newaxis] > ends).sum(axis=1)
    root = np.linalg.cholesky(np.linalg.inv(precision_matrices(theta, form)[0]))
    noise = np.einsum("nde,ne->nd", root[label], rng.standard_normal((rows, D)))
    return theta, (theta["means"][0][label] + noise).astype(np.float32)


def precision_matrices(theta: Theta, form: str) -> np.ndarray:
    """Return the precision matrices [S, K, D, D] of draws in any form of covariance."""
    precisions, K = np.asarray(theta["precisions"], np.float64), theta["weights"].shape[1]
    if form == "full":
        return precisions
    if form == "tied":
        return np.repeat(precisions[:, np.newaxis], K, axis=1)
    return precisions[..., np.newaxis] * np.eye(D)


def quantities(theta: Theta, form: str = "diag") -> dict[str, np.ndarray]:
    """Return functions of draws, [S] each, that are invariant to the labels of the components.

    The largest weight; means, variances and (where components have one) the correlation of the
    whole mixture; its log density at two points; the largest distance between means.
    """
    weights, means = (np.asarray(theta[v], np.float64) for v in ("weights", "means"))
    precisions = precision_matrices(theta, form)
    found = {"max weight": weights.max(axis=1)}
    mean, covariance = mixture_moments(weights, means, np.linalg.inv(precisions))
    for d in range(D):
        found[f"mean {d + 1}"] = mean[:, d]
        found[f"variance {d + 1}"] = covariance[:, d, d]
    for name, point in POINTS.items():
        found[name] = log_density(weights, means, precisions, np.array(point))
    apart = np.linalg.norm(means[:, :, np.newaxis] - means[:, np.newaxis], axis=-1)
    found["distance"] = apart.max(axis=(1, 2))
    if form in ("full", "tied"):
        variances = np.prod(np.diagonal(covariance, axis1=1, axis2=2), axis=1)
        found["correlation"] = covariance[:, 0, 1] / np.sqrt(variances)
    return found


def mixture_moments(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [S, D] and covariance [S, D, D] of each draw's mixture."""
    mean = np.einsum("sk,skd->sd", weights, means)
    second = covariances + means[..., np.newaxis] * means[..., np.newaxis, :]
    squared = mean[:, :, np.newaxis] * mean[:, np.newaxis]
    return mean, np.einsum("sk,skde->sde", weights, second) - squared


def log_density(
    weights: np.ndarray, means: np.ndarray, precisions: np.ndarray, point: np.ndarray
) -> np.ndarray:
    """Return log p(point given theta), with the label marginalised: [S]."""
    away = point - means
    squares = np.einsum("skd,skde,ske->sk", away, precisions, away)
    log_det = np.linalg.slogdet(precisions)[1]
    log_normal = 0.5 * (log_det - D * math.log(2.0 * math.pi) - squares)
    return np.logaddexp.reduce(np.log(weights) + log_normal, axis=1)
