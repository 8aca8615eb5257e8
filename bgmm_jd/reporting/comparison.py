"""Several fits of the same rows beside each other.

Two yardsticks answer two questions. The evidence (log marginal likelihood) asks which number and
form of components the rows support; it pays for every parameter, and with many rows from such a
mixture it chooses the right K. Leave-one-out cross-validation asks how well new rows are predicted;
a component too many hardly costs it anything. The table has both, and is ordered by the first.
"""

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.reporting.leave_one_out import (
    FEWEST_DRAWS,
    Loo,
    leave_one_out,
    suppress_known_warnings,
)
from bgmm_jd.variational.labels import is_exchangeable

if TYPE_CHECKING:  # pandas and xarray are imported when they are needed, as arviz is
    import pandas as pd
import math

import numpy as np

_SAME_ROWS = 1e-3  # sds of a column: more than any rounding, less than any other data set


def compare(
    posteriors: Mapping[Any, Posterior], X: Any, draws: int = 1000, seed: int = 0
) -> "pd.DataFrame":
    """Compare fits of the same rows, with other K, covariance or prior.

    ::

        bgmm_jd.compare({"two": bgmm_jd.fit(X, 2), "three": bgmm_jd.fit(X, 3)}, X)

    Parameters
    ----------
    posteriors : mapping of names to Posterior
    X : array-like [N, D]
        The rows that all of them were fitted to.
    draws : int
        S, the number of draws of each fit, at least 100. S * N numbers are held at a time, and so
        for more than 20,000 rows there are fewer, 2e7 / N, but never fewer than 100.
    seed : int
        Equal seeds give equal tables.

    Returns
    -------
    pandas.DataFrame
        One row for each fit, the best first, by `log_evidence`. The names of the columns are the
        field's, those of leave-one-out ArviZ's; all in nats where they have a unit:

        K, covariance
            Of the fit.
        log_evidence
            `elbo` + log K!: the variational estimate of the log marginal likelihood. A surrogate
            covers one of the K! equal modes that relabelling makes; together they have K! times
            its mass (Bishop 2006, *Pattern Recognition and Machine Learning*, section 10.2.4).
            Just `elbo` where the prior tells the components apart.
        elbo, elbo_se
            Evidence lower bound of the fit and its Monte Carlo standard error.
        elbo_diff
            `elbo` less the highest in the table: zero or negative.
        elpd_loo, se
            Expected log pointwise predictive density by leave-one-out cross-validation (`az.loo`),
            and its standard error over rows.
        p_loo
            Effective number of parameters.
        elpd_diff, dse
            `elpd_loo` less the highest in the table, zero or negative, and its standard error.
        rank
            Place by `elpd_loo`, from 0, as ArviZ counts.
        weight
            Of the fit in the combination of predictive distributions that predicts best
            (stacking, Yao et al. 2018), summing to 1.
        khat
            Of the fit: whether its draws can be trusted.
        pareto_k_max
            The largest of the rows: whether leaving one out can be told from the draws with it.
        warning
            True where `elpd_loo` is not to be relied on: a row's Pareto k is above
            min(1 - 1 / log10(S), 0.7), or `khat` is above 0.7, or a single draw has the weight of
            more than sqrt(S). Where a few draws have nearly all of it `elpd_loo` is NaN.
        status
            Name of the fit's `Status`.

    Raises
    ------
    ValueError, TypeError
        If `posteriors` is no mapping of names to `Posterior`, or is empty, if X is not what each
        of them was fitted to, or if `draws` or `seed` is out of its range; before any work.

    Notes
    -----
    The evidence, and so the order, depends on how wide the prior is, as any Bayes factor does; the
    predictions hardly do. Where the two disagree by much, look at the prior first.

    `elpd_diff` within one or two `dse` of zero is no difference, and less than 4 nats is little
    however small `dse` is (Sivula et al. 2020). With a dozen fits or more, arviz 1.x warns if the
    best could be the best by chance. It takes some 0.7 ms for each row and fit, arviz 0.23 a third
    of that.

    Rows with a `sample_weight` of whole numbers count as often as that, and one at a time is left
    out. With any other weights there is no leave-one-out: its columns are NaN.
    """
    fits = _check_posteriors(posteriors)
    draws, seed = check_draws(draws), as_seed(seed)
    rows = {name: _rows_of_fit(name, posterior, X) for name, posterior in fits.items()}
    _check_weights(fits)
    loos = {name: leave_one_out(fits[name], rows[name], draws, seed) for name in fits}
    return comparison_table(fits, loos)


def _check_posteriors(posteriors: Any) -> dict[Any, Posterior]:
    if not isinstance(posteriors, Mapping):
        raise TypeError(
            "posteriors must be a mapping of names to posteriors, as {'two': bgmm_jd.fit(X, 2)}; "
            f"got {type(posteriors).__name__}."
        )
    if not posteriors:
        raise ValueError("posteriors must have at least one posterior; it is empty.")
    for name, posterior in posteriors.items():
        if not isinstance(posterior, Posterior):
            raise TypeError(
                f"posteriors[{name!r}] must be a Posterior, as bgmm_jd.fit returns; "
                f"got {type(posterior).__name__}."
            )
    return dict(posteriors)


def check_draws(draws: Any) -> int:
    """Return a number of draws that leave-one-out can do with, or raise."""
    draws = as_count(draws, "draws")
    if draws < FEWEST_DRAWS:
        raise ValueError(
            f"draws must be at least {FEWEST_DRAWS}, or their largest importance weights cannot "
            f"be smoothed; got {draws}."
        )
    return draws


def _rows_of_fit(name: Any, posterior: Posterior, X: Any) -> np.ndarray:
    """X in the dtype of the fit, if these are the rows it was fitted to."""
    rows, data = as_new_rows(posterior, X), posterior.problem.data
    if len(rows) != data.shape[0]:
        raise ValueError(
            f"posteriors[{name!r}] was fitted to {data.shape[0]} rows; X has {len(rows)}. Pass the "
            "rows of the fits, without those of weight 0, and compare fits of the same rows only."
        )
    apart = np.abs(as_standardized_rows(rows, data.standardization).values - data.rows.values).max(
        axis=1
    )
    if apart.max() > _SAME_ROWS:
        raise ValueError(
            f"posteriors[{name!r}] was fitted to other rows than X (row {apart.argmax()} is the "
            "most unlike). Pass the rows of the fits, in their order."
        )
    return rows


def _check_weights(fits: Mapping[Any, Posterior]) -> None:
    """Rows with other weights are other data."""
    first, *others = fits
    for name in others:
        here, there = (fits[n].problem.data.rows.weight for n in (first, name))
        if (here is None) != (there is None) or (here is not None and not np.allclose(here, there)):
            raise ValueError(
                f"posteriors[{first!r}] and posteriors[{name!r}] were fitted with different "
                "weights of the rows. Compare fits with the same sample_weight only."
            )


def comparison_table(fits: Mapping[Any, Posterior], loos: Mapping[Any, Loo]) -> "pd.DataFrame":
    """What `compare` returns, of fits and the leave-one-out of each."""
    import pandas as pd

    table = pd.DataFrame(
        [_row(fits[name], loos[name]) for name in fits],
        index=pd.Index(list(fits), tupleize_cols=False),
    )
    table["elbo_diff"] = table["elbo"] - table["elbo"].max()
    differences = _differences([loos[name] for name in fits])
    for column in ("elpd_diff", "dse", "rank", "weight"):
        table[column] = differences[column].to_numpy()
    return table[list(_COLUMNS)].sort_values("log_evidence", ascending=False, kind="stable")


_COLUMNS = (
    "K",
    "covariance",
    "log_evidence",
    "elbo",
    "elbo_se",
    "elbo_diff",
    "elpd_loo",
    "se",
    "p_loo",
    "elpd_diff",
    "dse",
    "rank",
    "weight",
    "khat",
    "pareto_k_max",
    "warning",
    "status",
)


def _row(posterior: Posterior, loo: Loo) -> dict[str, Any]:
    return {
        "K": posterior.K,
        "covariance": posterior.covariance,
        "log_evidence": posterior.elbo + _log_relabellings(posterior),
        "elbo": posterior.elbo,
        "elbo_se": posterior.elbo_se,
        "elpd_loo": loo.elpd,
        "se": loo.se,
        "p_loo": loo.p,
        "khat": posterior.khat,
        "pareto_k_max": loo.k_max,
        "warning": bool(loo.bad or posterior.khat > KHAT_LIMIT),
        "status": posterior.status.name,
    }


def _log_relabellings(posterior: Posterior) -> float:
    """log K!, or 0 where the prior tells the components apart."""
    return math.lgamma(posterior.K + 1) if is_exchangeable(posterior.problem.model) else 0.0


def _differences(loos: list[Loo]) -> "pd.DataFrame":
    """Columns `elpd_diff`, `dse`, `rank` and `weight` by `az.compare`, a row for each fit."""
    import pandas as pd

    known = {str(i): loo for i, loo in enumerate(loos) if loo.elpd_data is not None}
    blank = {"elpd_diff": math.nan, "dse": math.nan, "rank": len(known), "weight": 0.0}
    result = pd.DataFrame(blank, index=[str(i) for i in range(len(loos))])
    if known:
        exact: dict[str, Any] = {} if arviz_major_version() < 1 else {"round_to": "none"}
        with suppress_known_warnings():
            found = import_arviz().compare(_relative_to_best_fit(known), method="stacking", **exact)
        if arviz_major_version() < 1:  # which counts from the best to the others
            found["elpd_diff"] = 0.0 - found["elpd_diff"]
        result.update(found[list(blank)])
    return result.astype({"rank": int})


def _relative_to_best_fit(loos: Mapping[str, Loo]) -> dict[str, Any]:
    """The same with each row's value in relation to that of the fit which has it highest.

    ArviZ's stacking takes exp of each value. That is the density of a row, in whatever units X
    has, and out of the range of a float for many features or odd units. The weights and the
    differences between fits do not change when all of them are divided by the same.
    """
    highest = np.max([loo.rows for loo in loos.values()], axis=0)
    name = "loo_i" if arviz_major_version() < 1 else "elpd_i"
    levelled = {}
    for key, loo in loos.items():
        levelled[key] = loo.elpd_data.copy() if arviz_major_version() < 1 else copy(loo.elpd_data)
        setattr(levelled[key], name, getattr(loo.elpd_data, name).copy(data=loo.rows - highest))
    return levelled
