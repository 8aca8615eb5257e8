"""Leave-one-out cross-validation of one fit, by ArviZ in either version."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.backend.numerics import block_size
from bgmm_jd.calibration.importance_sampling import draw_calibrated
from bgmm_jd.posterior.densities import row_log_likelihood
from bgmm_jd.posterior.draws import are_mixtures, draw_standardized
from bgmm_jd.posterior.posterior import Posterior

FEWEST_DRAWS = 100  # fewer have no tail that could be smoothed

# In order: az.loo on single rows, which the columns `warning` and `pareto_k_max` report; az.loo on
# data of a single row, whose pointwise value is the sum; and pandas 3 on az.compare of arviz 0.23.
_KNOWN_WARNINGS = (
    "Estimated shape parameter of Pareto distribution is greater than",
    "The point-wise LOO is the same with the sum LOO",
    "The inplace keyword in DataFrame.sort_values is deprecated",
)


class Loo(NamedTuple):
    """The leave-one-out estimates of one fit.

    elpd, se, p : sums over all rows, in nats.
    k_max : the largest Pareto k of the rows.
    warning : whether a row's Pareto k is too large for that number of draws.
    pointwise [N] : log predictive density of each row under the posterior of the others.
    elpd_data : the object that ArviZ returned.
    """

    elpd: float
    se: float
    p: float
    k_max: float
    warning: bool
    pointwise: np.ndarray
    elpd_data: Any


UNKNOWN_LOO = Loo(math.nan, math.nan, math.nan, math.nan, True, np.empty(0), None)


def leave_one_out(
    posterior: Posterior,
    X: np.ndarray,
    draws: int,
    seed: int,
    counts: np.ndarray | None = None,
) -> Loo:
    """Estimate the log predictive density of each row of the fit under the posterior of the others.

    Returns `UNKNOWN_LOO` where row weights are not whole numbers, or stand for more copies of rows
    than the memory budget allows, where a few draws have nearly all the importance weight, or where
    a log likelihood is not finite.

    Parameters
    ----------
    posterior : Posterior
    X : array [N, D]
        The rows of the fit, or some of them.
    draws : int
        S. Fewer are taken where S x N numbers exceed the budget `leave_one_out` of the settings.
    seed : int
    counts : int [N], optional
        How often each row counts; by default by the weights of the fit, whose rows X then are.
    """
    counts = _counts(posterior, X) if counts is None else counts
    budget = posterior.settings.memory.leave_one_out
    if counts is None or (counts.sum() - len(X)) * FEWEST_DRAWS > budget:
        return UNKNOWN_LOO
    affordable = block_size(max(1, counts.sum()), budget)
    draws = min(draws, max(FEWEST_DRAWS, affordable))
    # az.loo is made for draws of the posterior, and draws of a surrogate are not. So they are
    # resampled by their smoothed weights p / q: three times as many are drawn as are kept. For a
    # calibrated fit these are the draws of `Posterior.sample`, for any other the surrogate's own,
    # resampled. The alternative multiplies p / q into the weights of each row (Magnusson et al.
    # 2019, `az.loo_approximate_posterior`); arviz 0.23 does not have it, and its p_loo is relative
    # to the mean over the surrogate.
    if posterior.calibrated:
        sampled = draw_standardized(posterior, draws, seed)
    else:
        sampled = draw_calibrated(posterior.approximation, draws, seed, weighted=True)
    if not are_mixtures(sampled.theta, posterior.covariance).all():
        return UNKNOWN_LOO
    kept = limit_copies(sampled.points)
    if _tail_size(len(kept)) <= _most_copies(draws):  # the tail could be copies of one draw
        return UNKNOWN_LOO
    likelihood = row_log_likelihood(posterior, sampled, X)[kept].repeat(counts, axis=1)
    loo = loo_from_likelihood(likelihood, sampled.theta["weights"].numpy()[kept])
    return loo._replace(warning=loo.warning or len(kept) < draws)


def limit_copies(draws: np.ndarray) -> np.ndarray:
    """Return the indices of draws [S, ...], with no draw more than sqrt(S) times.

    A draw with more copies than that means that little is known. But arviz 1.x gives no result for
    a row if all its tail weights belong to copies of one draw. Reliable weights are not affected.
    """
    _, which, copies = np.unique(draws, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()  # NumPy 2.0.0 gives it another shape
    order = np.argsort(which, kind="stable")
    number_of_copy = np.arange(len(draws)) - np.repeat(np.cumsum(copies) - copies, copies)
    return np.sort(order[number_of_copy < _most_copies(len(draws))])


def _most_copies(draws: int) -> int:
    """Return sqrt(S), where Ionides (2008, *Truncated importance sampling*) truncates weights."""
    return math.isqrt(draws)


def _tail_size(draws: int) -> float:
    """Return how many of the largest weights are smoothed (Vehtari et al. 2024)."""
    return min(draws / 5.0, 3.0 * math.sqrt(draws))


def loo_from_likelihood(likelihood: np.ndarray, weights: np.ndarray) -> Loo:
    """Compute leave-one-out by ArviZ.

    Parameters
    ----------
    likelihood : array [S, N]
        log p(x_n given theta_s).
    weights : array [S, K]
        Any parameter of the draws: ArviZ requires a posterior group, but does not use its values
        where there is a single chain.
    """
    if not (likelihood.size and np.isfinite(likelihood).all()):
        return UNKNOWN_LOO
    with suppress_known_warnings():
        idata = _as_container(likelihood, weights)
        return _as_loo(import_arviz().loo(idata, pointwise=True, **_scale_option()))


def _scale_option() -> dict[str, str]:
    """Return the option for nats: arviz 0.23 has a setting for another scale, 1.x has no other."""
    return {"scale": "log"} if arviz_major_version() < 1 else {}


def _counts(posterior: Posterior, X: np.ndarray) -> np.ndarray | None:
    """Return how often each row is left out: int [N]; None if a weight is not a whole number.

    A row of weight 2 counts twice, and one of the two is left out at a time. A row without any
    observed entry does not count.
    """
    weight = posterior.problem.data.rows.weight
    counts = np.ones(len(X), int) if weight is None else np.rint(weight).astype(int)
    if weight is not None and not np.array_equal(counts, weight):
        return None
    return np.where(np.isnan(X).all(axis=1), 0, counts)


def _as_container(likelihood: np.ndarray, weights: np.ndarray) -> Any:
    """Return the two groups that leave-one-out needs, in the installed ArviZ's container."""
    import xarray as xr

    draw = ("chain", "draw")
    datasets = {
        "posterior": xr.Dataset({"weights": ((*draw, "component"), weights[np.newaxis])}),
        "log_likelihood": xr.Dataset({"x": ((*draw, "obs"), likelihood[np.newaxis])}),
    }
    if arviz_major_version() < 1:
        return import_arviz().InferenceData(**datasets)
    return xr.DataTree.from_dict(datasets)


def _as_loo(elpd_data: Any) -> Loo:
    """Read the parts of an `ELPDData`, whose names depend on the version of ArviZ."""
    k = np.nan_to_num(elpd_data.pareto_k.to_numpy(), nan=np.inf, posinf=np.inf)
    if arviz_major_version() < 1:
        elpd, p, pointwise = elpd_data.elpd_loo, elpd_data.p_loo, elpd_data.loo_i
    else:
        elpd, p, pointwise = elpd_data.elpd, elpd_data.p, elpd_data.elpd_i
        elpd_data = copy(elpd_data)
        elpd_data.log_weights = None  # draws x rows
    return Loo(
        elpd=float(elpd),
        se=float(elpd_data.se),
        p=float(p),
        k_max=float(k.max()),
        warning=bool(k.max() > elpd_data.good_k),
        pointwise=pointwise.to_numpy().astype(np.float64),
        elpd_data=elpd_data,
    )


@contextmanager
def suppress_known_warnings() -> Iterator[None]:
    """Suppress the warnings that the comparison table reports in its own way, and no others."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield
