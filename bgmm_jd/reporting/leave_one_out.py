"""Leave-one-out cross-validation of one fit, by ArviZ, under either of its lines."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.calibration import importance_sampling
from bgmm_jd.posterior.densities import row_log_likelihood
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.arviz_version import arviz_major_version, import_arviz

_NUMBERS = 20_000_000  # at most, draws x rows, in the log likelihood: 80 MB in float32
FEWEST_DRAWS = 100  # fewer have no tail that could be smoothed

# What az.loo says of single rows, which the columns `warning` and `pareto_k_max` tell; of a single
# row, whose value is the sum; and what pandas 3 says of the inside of az.compare in arviz 0.23.
_TOLD_IN_THE_TABLE = (
    "Estimated shape parameter of Pareto distribution is greater than",
    "The point-wise LOO is the same with the sum LOO",
    "The inplace keyword in DataFrame.sort_values is deprecated",
)


class Loo(NamedTuple):
    """Leave-one-out of one fit.

    elpd, se, p : of all rows together, in nats.
    k_max : the largest Pareto k of the rows.
    bad : whether a row's Pareto k is above what that number of draws allows.
    rows [N] : the log predictive density of each row under the posterior of the others.
    elpd_data : all of it as arviz made it.
    """

    elpd: float
    se: float
    p: float
    k_max: float
    bad: bool
    rows: np.ndarray
    elpd_data: Any


UNKNOWN_LOO = Loo(math.nan, math.nan, math.nan, math.nan, True, np.empty(0), None)


def leave_one_out(posterior: Posterior, rows: np.ndarray, draws: int, seed: int) -> Loo:
    """Leave each row out in turn, by importance weights."""
    counts = _counts(posterior, rows)
    if counts is None:
        return UNKNOWN_LOO
    draws = min(draws, max(FEWEST_DRAWS, _NUMBERS // max(1, counts.sum())))
    # Draws of a surrogate are not draws of the posterior, and leave-one-out must know. So their
    # smoothed weights p / q are used up first: three times as many are drawn as are kept, and
    # resampled, which leaves az.loo with what it is made for. For a calibrated fit these are the
    # draws of `Posterior.sample`, for any other the surrogate's own. The alternative multiplies
    # p / q into the weights of each row (Magnusson et al. 2019, `az.loo_approximate_posterior`);
    # arviz 0.23 has it not, and its p_loo is against the mean over the surrogate.
    weighted = None if posterior.calibrated else True
    sampled = importance_sampling.draw_calibrated(
        posterior.approximation, draws, seed, weighted=weighted
    )
    kept = limit_copies(sampled.log_q.numpy())
    if _tail(len(kept)) <= _most_copies(draws):  # which could all be one draw's
        return UNKNOWN_LOO
    likelihood = row_log_likelihood(posterior, sampled, rows)[kept].repeat(counts, axis=1)
    loo = loo_from_likelihood(likelihood, sampled.theta["weights"].numpy()[kept])
    return loo._replace(bad=loo.bad or len(kept) < draws)


def limit_copies(draws: np.ndarray) -> np.ndarray:
    """Indices of the draws [S], no draw more often than `_most_copies`.

    Where one draw has so much weight little can be told; but arviz 1.x tells nothing at all of a
    row whose largest weights are all one draw's. Weights that can be trusted are not touched.
    """
    _, which, copies = np.unique(draws, return_inverse=True, return_counts=True)
    order = np.argsort(which, kind="stable")
    number = np.arange(len(draws)) - np.repeat(np.cumsum(copies) - copies, copies)
    return np.sort(order[number < _most_copies(len(draws))])


def _most_copies(draws: int) -> int:
    """sqrt(S): where Ionides (2008, *Truncated importance sampling*) cuts weights off."""
    return math.isqrt(draws)


def _tail(draws: int) -> float:
    """How many of the largest weights are smoothed (Vehtari et al. 2024)."""
    return min(draws / 5.0, 3.0 * math.sqrt(draws))


def loo_from_likelihood(likelihood: np.ndarray, weights: np.ndarray) -> Loo:
    """Leave-one-out by ArviZ, from the log likelihood [S, N] and any parameter [S, K]."""
    if not (likelihood.size and np.isfinite(likelihood).all()):
        return UNKNOWN_LOO
    with suppress_known_warnings():
        return _read(import_arviz().loo(_container(likelihood, weights), pointwise=True, **_nats()))


def _nats() -> dict[str, str]:
    """What keeps arviz 0.23 from the scale that its settings may name; 1.x has but one."""
    return {"scale": "log"} if arviz_major_version() < 1 else {}


def _counts(posterior: Posterior, rows: np.ndarray) -> np.ndarray | None:
    """How often each row is left out: int [N]; None where its weight is no whole number.

    A row of weight 2 counts twice, and one of the two is left out at a time. A row of which nothing
    is observed says nothing.
    """
    weight = posterior.problem.data.rows.weight
    counts = np.ones(len(rows), int) if weight is None else np.rint(weight).astype(int)
    if weight is not None and not np.array_equal(counts, weight):
        return None
    return np.where(np.isnan(rows).all(axis=1), 0, counts)


def _container(likelihood: np.ndarray, weights: np.ndarray) -> Any:
    """No more than leave-one-out asks for, as the installed ArviZ takes it."""
    import xarray as xr

    draw = ("chain", "draw")
    datasets = {
        "posterior": xr.Dataset({"weights": ((*draw, "component"), weights[np.newaxis])}),
        "log_likelihood": xr.Dataset({"x": ((*draw, "obs"), likelihood[np.newaxis])}),
    }
    if arviz_major_version() < 1:
        return import_arviz().InferenceData(**datasets)
    return xr.DataTree.from_dict(datasets)


def _read(found: Any) -> Loo:
    """The parts of an `ELPDData`, which have other names in each of ArviZ's lines."""
    k = np.nan_to_num(found.pareto_k.to_numpy(), nan=np.inf, posinf=np.inf)
    if arviz_major_version() < 1:
        elpd, p, rows = found.elpd_loo, found.p_loo, found.loo_i
    else:
        elpd, p, rows = found.elpd, found.p, found.elpd_i
        found = copy(found)
        found.log_weights = None  # draws x rows
    return Loo(
        float(elpd),
        float(found.se),
        float(p),
        float(k.max()),
        bool(k.max() > found.good_k),
        rows.to_numpy().astype(np.float64),
        found,
    )


@contextmanager
def suppress_known_warnings() -> Iterator[None]:
    """Without the warnings that the table tells in its own way; all others pass."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for message in _TOLD_IN_THE_TABLE:
            warnings.filterwarnings("ignore", message)
        yield
