"""Leave-one-out cross-validation of fits of a source, by a sample of its rows.

The difference estimator (Magnusson et al. 2020): a cheap density is read of all rows, and what
leave-one-out differs from it is averaged over the sample.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bgmm_jd.data.source import Source
from bgmm_jd.posterior.densities import DrawnMixtures, drawn_mixtures, likelihood_blocks
from bgmm_jd.posterior.draws import draw_standardized
from bgmm_jd.posterior.new_rows import NewRows, check_source, results_of_source
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.leave_one_out import Loo, leave_one_out
from bgmm_jd.sources.sample import census_with_sample

if TYPE_CHECKING:
    import pandas as pd


class DensitySums(NamedTuple):
    """Sums over all N rows of the log densities a [F] that fits give a row, in nats.

    total [F] : of a.
    covariance [F, F] : of a over the rows.
    """

    rows: int
    total: np.ndarray
    covariance: np.ndarray


class SampledLoo(NamedTuple):
    """Leave-one-out of several fits of the same N rows.

    loos : by the names of the fits; sums are estimates for all rows, `pointwise` is of the sample.
    sums : of the densities of all rows.
    error [n, F] : leave-one-out of the sampled rows less their densities; NaN of a fit for which
        it is not known.
    """

    loos: dict[Any, Loo]
    sums: DensitySums
    error: np.ndarray

    def columns(self) -> "dict[str, pd.Series]":
        """Return the columns of `compare` that follow from the sample, by the names of the fits."""
        import pandas as pd

        elpd = np.array([loo.elpd for loo in self.loos.values()])
        best = 0 if np.isnan(elpd).all() else int(np.nanargmax(elpd))
        variance, shared = np.diag(self.sums.covariance), self.sums.covariance[best]
        of_differences = np.maximum(variance - 2.0 * shared + variance[best], 0.0)
        order = np.argsort(np.argsort(-np.nan_to_num(elpd, nan=-np.inf), kind="stable"))
        found = {
            "elpd_diff": elpd - elpd[best],
            "dse": np.where(np.isnan(elpd), np.nan, np.sqrt(self.sums.rows * of_differences)),
            "rank": order,
            "subsampling_se": self._sampling_error(self.error),
            "subsampling_dse": self._sampling_error(self.error - self.error[:, [best]]),
        }
        index = pd.Index(list(self.loos), tupleize_cols=False)
        return {name: pd.Series(column, index) for name, column in found.items()}

    def _sampling_error(self, error: np.ndarray) -> np.ndarray:
        """Return the standard error of N times the mean of a sample without replacement: [F]."""
        n, N = len(error), self.sums.rows
        return N * math.sqrt((1.0 - n / N) / n) * error.std(axis=0, ddof=1)


def sampled_leave_one_out(
    fits: Mapping[Any, Posterior], source: Source, draws: int, seed: int, rows: int
) -> SampledLoo:
    """Estimate leave-one-out of fits of the rows of a source, which is read twice.

    Parameters
    ----------
    fits : by name.
    source : Source
    draws, seed : as in `leave_one_out`.
    rows : number of rows of the sample, at least 2.

    Raises
    ------
    ValueError
        If the source has weights, or other columns or another number of rows than the fits.
    """
    if source.is_weighted or rows < 2:
        raise ValueError(
            "compare needs a source without weights, and a sample of at least 2 of its rows; got "
            f"rows={rows}{' and weights' if source.is_weighted else ''}."
        )
    for posterior in fits.values():
        check_source(posterior, source, None)
    census = census_with_sample(source, rows, seed)
    for name, posterior in fits.items():
        N = posterior.problem.data.shape[0]
        if census.rows != N:
            raise ValueError(
                f"X must be the rows of the fits; posteriors[{name!r}] was fitted to {N} rows, and "
                f"X has {census.rows}."
            )
    mixtures = tuple(_at_the_mean(posterior, seed) for posterior in fits.values())
    sums = _sums_over(next(iter(fits.values())), source, mixtures)
    sample = census.sample.values
    density = _densities(NewRows(sample, 0), mixtures=mixtures)
    loos, error = {}, np.empty(density.shape)
    for number, (name, posterior) in enumerate(fits.items()):
        loo = _loo_of_sample(posterior, sample, draws, seed)
        known = loo.elpd_data is not None
        error[:, number] = loo.pointwise - density[:, number] if known else math.nan
        loos[name] = loo._replace(
            elpd=float(sums.total[number] + sums.rows * error[:, number].mean()),
            se=float(np.sqrt(sums.rows * sums.covariance[number, number])) if known else math.nan,
            p=loo.p * sums.rows / len(sample),
        )
    return SampledLoo(loos, sums, error)


def _loo_of_sample(posterior: Posterior, sample: np.ndarray, draws: int, seed: int) -> Loo:
    rows = as_new_rows(posterior, sample)
    return leave_one_out(posterior, rows, draws, seed, np.ones(len(rows), int))


def _at_the_mean(posterior: Posterior, seed: int) -> DrawnMixtures:
    """Return the mixture whose parameters are the means of draws, as the only draw."""
    mixtures = drawn_mixtures(posterior, draw_standardized(posterior, PREDICTIVE_DRAWS, seed))
    theta = {
        name: v.mean(axis=0, keepdims=True, dtype=np.float64).astype(v.dtype)
        for name, v in mixtures.theta.items()
    }
    return mixtures._replace(theta=theta)


def _densities(rows: NewRows, *, mixtures: tuple[DrawnMixtures, ...]) -> np.ndarray:
    """Return the log density of each row under each mixture: [n, F], float64."""
    found = np.empty((len(rows.values), len(mixtures)))
    for column, mixture in zip(found.T, mixtures, strict=True):
        values = rows.values.astype(mixture.data.dtype, copy=False)
        for part, block in likelihood_blocks(mixture, values):
            column[part] = block[0]
    return found


def _sums_over(
    posterior: Posterior, source: Source, mixtures: tuple[DrawnMixtures, ...]
) -> DensitySums:
    """Read all rows once, and sum their densities about those of the first block."""
    of_rows = functools.partial(_densities, mixtures=mixtures)
    F = len(mixtures)
    rows, centre = 0, np.zeros(F)
    total, products = np.zeros(F), np.zeros((F, F))
    for block in results_of_source(posterior, source, of_rows, numbers_per_row=F):
        centre = centre if rows else block.mean(axis=0)
        with np.errstate(invalid="ignore"):  # of a fit that has diverged, infinity less infinity
            apart = block - centre
        rows, total, products = (
            rows + len(block),
            total + apart.sum(axis=0),
            products + apart.T @ apart,
        )
    mean = total / rows
    covariance = products / rows - np.outer(mean, mean)
    return DensitySums(rows, total + rows * centre, covariance)
