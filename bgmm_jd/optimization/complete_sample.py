"""Rows for the search for starts: a subsample without missing entries, in two metrics."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.data.rows import Rows, row_weights
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.partitions import inverse_root

_NORMAL_ITERATIONS = 5  # of EM for one normal distribution of rows with missing entries
_RIDGE = 1e-6  # added to the variances that conditional distributions are computed from


class CompleteSample(NamedTuple):
    """Rows in float64: values [n, D], weight [n], and the weight of all rows."""

    values: np.ndarray
    weight: np.ndarray
    total: float


class LinearUnits(NamedTuple):
    """x = shift + z @ factor, of z in the units of EM and x in standardised units."""

    shift: np.ndarray
    factor: np.ndarray


def complete_sample(rows: Rows, most: int, rng: np.random.Generator) -> CompleteSample:
    """Draw at most `most` rows, and fill in their missing entries for the search only.

    An entry is drawn from its conditional distribution under one normal distribution of all rows.
    A conditional mean in its place would put the rows of a pattern into one plane, and a
    component could collapse onto that. Rows without any entry are left out.
    """
    weight = row_weights(rows)
    there = weight > 0.0
    if rows.missing is not None:
        there &= rows.missing.observed.any(axis=1)[rows.missing.pattern]
    kept = np.flatnonzero(there)
    total = weight[kept].sum()
    if len(kept) > most:
        kept = np.sort(rng.choice(kept, most, replace=False))
    values = rows.values[kept].astype(np.float64)
    if rows.missing is not None:
        values = _filled(values, rows.missing.observed > 0, rows.missing.pattern[kept], rng)
    return CompleteSample(values, weight[kept], float(total))


def _filled(
    values: np.ndarray, observed: np.ndarray, pattern: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the rows with missing entries drawn under one normal distribution, fitted by EM."""
    D = values.shape[1]
    filled = values.copy()
    mean, covariance = np.zeros(D), np.eye(D)  # of standardised columns
    members = [(observed[p], np.flatnonzero(pattern == p)) for p in np.unique(pattern)]
    members = [(there, own) for there, own in members if not there.all()]
    for _ in range(_NORMAL_ITERATIONS):
        spread = np.zeros((D, D))
        for there, own in members:
            slope, rest = _regression(covariance, there)
            filled[np.ix_(own, ~there)] = (
                mean[~there] + (values[own][:, there] - mean[there]) @ slope
            )
            spread[np.ix_(~there, ~there)] += len(own) * rest
        mean = filled.mean(axis=0)
        deviation = filled - mean
        covariance = (deviation.T @ deviation + spread) / len(values)
    for there, own in members:
        _, rest = _regression(covariance, there)
        noise = rng.standard_normal((len(own), len(rest)))
        filled[np.ix_(own, ~there)] += noise @ np.linalg.cholesky(rest).T
    return filled


def _regression(covariance: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes [observed, missing], and the covariance of the missing entries given others."""
    ridged = covariance + _RIDGE * np.eye(len(covariance))
    across = ridged[np.ix_(there, ~there)]
    slope = np.linalg.solve(ridged[np.ix_(there, there)], across)
    return slope, ridged[np.ix_(~there, ~there)] - across.T @ slope


def units_and_metrics(
    sample: CompleteSample, form: str, columns: np.ndarray | None
) -> tuple[LinearUnits, list[np.ndarray]]:
    """Return the units of EM, and the rows [n, D] in these units and in another metric.

    Parameters
    ----------
    columns : [D, D], optional
        As in `find_starts`.
    """
    values = sample.values
    D = values.shape[1]
    same = LinearUnits(np.zeros(D), np.eye(D))
    if columns is not None:
        return same, [values, values @ columns.T]
    if D == 1:
        return same, [values]
    moments = robust_moments(values, sample.weight)
    root = inverse_root(moments.scatter)
    whitened = (values - moments.location) @ root
    if form in MATRIX_FORMS:
        return LinearUnits(moments.location, np.linalg.inv(root)), [whitened, values]
    return same, [values, whitened]
