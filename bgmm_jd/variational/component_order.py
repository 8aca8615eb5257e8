"""The order of the components in the output, the same from seed to seed.

Components that can be permuted are sorted by the first summary of their posterior that tells them
apart: a feature's mean, else a log variance, else the weight.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.units import Standardization
from bgmm_jd.model.covariance_forms import SCALE_VARIABLES
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Site

# Posterior sds of a difference beyond which two components are apart: sampling error of a single
# difference exceeds it once in 370, and two fits of the same rows differ by a tenth of an sd.
_SDS_APART = 3.0
# Of columns whose gaps are equal but for noise, such as two features with a constant sum, the first
# is taken: one with at least this fraction of the widest gap.
_FRACTION_OF_WIDEST = 0.9


class Summaries(NamedTuple):
    """Summaries of each component's posterior that can be compared with each other.

    mean, sd : [K, F]
    """

    mean: np.ndarray
    sd: np.ndarray


def order_components(summaries: Sequence[Summaries]) -> np.ndarray:
    """Return labels [K] in ascending order of the summaries that tell components apart.

    Two components are apart in a column if it differs by more than three posterior sds. The column
    with the most such pairs is sorted, or, of several, the first whose narrowest gap between such
    pairs is at least 0.9 of the widest. Components that it does not tell apart are sorted among
    themselves in the same way.

    Parameters
    ----------
    summaries : by precedence: the second is read only for components that the first does not tell
        apart, and so on.
    """
    return np.array(_sorted_labels(list(range(len(summaries[0].mean))), summaries))


def _sorted_labels(labels: list[int], summaries: Sequence[Summaries]) -> list[int]:
    if len(labels) == 1:
        return labels
    for mean, sd in summaries:
        found = _best_column(mean[labels], sd[labels])
        if found is not None:
            column, is_apart = found
            break
    else:  # nothing tells them apart
        first = summaries[0].mean[labels, 0]
        return [labels[i] for i in np.argsort(first, kind="stable")]
    rank = np.argsort(mean[labels, column], kind="stable")
    runs = _runs_not_apart(rank, is_apart)
    return [k for run in runs for k in _sorted_labels([labels[i] for i in run], summaries)]


def _best_column(mean: np.ndarray, sd: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return a column and which components [K, K] are apart in it; None if none are in any."""
    distance = np.abs(mean[:, np.newaxis] - mean)
    is_apart = distance > _SDS_APART * np.hypot(sd[:, np.newaxis], sd)
    pairs = is_apart.sum(axis=(0, 1))
    if not pairs.any():
        return None
    gap = np.where(is_apart, distance, np.inf).min(axis=(0, 1))
    gap[pairs < pairs.max()] = 0.0
    column = int(np.argmax(gap >= _FRACTION_OF_WIDEST * gap.max()))
    return column, is_apart[..., column]


def _runs_not_apart(rank: np.ndarray, is_apart: np.ndarray) -> list[list[int]]:
    """Cut ranked components into runs of which no two are apart."""
    runs: list[list[int]] = []
    for i in rank:
        if runs and not is_apart[i, runs[-1]].any():
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def component_summaries(
    sites: tuple[Site, ...], params: VariationalParameters, standardization: Standardization
) -> list[Summaries]:
    """Return the means, the log variances and the weights with a minus, by precedence.

    Means and variances are those of the columns of X in their standard deviations, even if rows are
    whitened; log variances are up to a constant, and of a matrix those of each feature given the
    others. A tied covariance matrix belongs to no component. Of weights, the largest comes first,
    so that an empty component follows others that its vague mean does not tell apart from it.

    Parameters
    ----------
    params : in standardised units.
    """
    by_name = {site.name: site for site in sites}
    scale = next(by_name[name] for name in SCALE_VARIABLES if name in by_name)
    mixing = standardization.to_scaled_columns
    if mixing is None:
        mixing = np.eye(len(standardization.scale))
    found = [_means(by_name["means"], params, mixing)]
    if scale.has_component_axis:
        found.append(_log_variances(scale, params, mixing))
    mean, sd = _moments(by_name["weights"], params)
    return [*found, Summaries(-mean[:, np.newaxis], sd[:, np.newaxis])]


def _moments(site: Site, params: VariationalParameters) -> tuple[np.ndarray, np.ndarray]:
    """Return means and sds in float64; of a variable with a bijector, those of its coordinates."""
    return site.family.moments({k: np.asarray(v, np.float64) for k, v in params[site.name].items()})


def _means(site: Site, params: VariationalParameters, mixing: np.ndarray) -> Summaries:
    mean, sd = _moments(site, params)
    if not site.is_normal:
        return Summaries(mean, sd)
    # The sds are only a measure of noise: correlations between features are left out.
    return Summaries(mean @ mixing.T, np.sqrt(sd**2 @ mixing.T**2))


def _log_variances(site: Site, params: VariationalParameters, mixing: np.ndarray) -> Summaries:
    """Return log variances, or coordinates that increase with them."""
    mean, sd = _moments(site, params)
    sign = -1.0 if site.name == "precisions" else 1.0
    if site.bijector is not None:
        K = len(mean)
        return Summaries(sign * np.reshape(mean, (K, -1)), np.reshape(sd, (K, -1)))
    if site.family.has_cholesky:
        # Of a Wishart, every quadratic form has the same relative sd.
        relative = _diagonals(sd) / _diagonals(mean)
        inverse = np.linalg.inv(mixing)
        mean = _diagonals(inverse.T @ mean @ inverse)
    else:
        relative = sd / mean
    return Summaries(sign * np.log(mean), relative)


def _diagonals(matrices: np.ndarray) -> np.ndarray:
    return np.diagonal(matrices, axis1=-2, axis2=-1)
