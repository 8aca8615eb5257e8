"""A table that compares several fits of the same rows.

It has two criteria, which answer two questions. The evidence (log marginal likelihood) says which
number and form of components the rows support. It penalises every parameter, and with many rows
from such a mixture it selects the right K. Leave-one-out cross-validation says how well new rows
are predicted, and hardly penalises a superfluous component. The table is sorted by the evidence.
"""

import math
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.source import Source
from bgmm_jd.data.standardize import standardize_new_rows
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.fitted_rows import fitted_rows
from bgmm_jd.reporting.leave_one_out import (
    FEWEST_DRAWS,
    Loo,
    leave_one_out,
    suppress_known_warnings,
)
from bgmm_jd.reporting.sampled_leave_one_out import sampled_leave_one_out

if TYPE_CHECKING:  # pandas is imported when it is needed, as arviz is
    import pandas as pd

_SAME_ROWS = 1e-3  # sds of a column: more than rounding, less than the differences of other data

_COLUMNS = (
    "K",
    "covariance",
    "log_evidence",
    "log_evidence_se",
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


@runs_tensorflow
def compare(
    posteriors: Mapping[Any, Posterior],
    X: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    rows: int = 2000,
) -> "pd.DataFrame":
    """Compare fits of the same rows that differ in K, covariance or prior.

    ::

        bgmm_jd.compare({"two": bgmm_jd.fit(X, 2), "three": bgmm_jd.fit(X, 3)}, X)

    Parameters
    ----------
    posteriors : mapping of names to Posterior
    X : array-like, data frame or source of rows [N, D], optional
        The rows that all of them were fitted to; by default those that the first of them has kept.
        A source (`table`, `batches`) is read twice, and leave-one-out is computed for a sample of
        its rows: see the notes.
    draws : int
        S, the number of draws of each fit, at least 100. S * N numbers are kept in memory. For more
        than 20,000 rows S is therefore reduced to 2e7 / N, but not below 100.
    seed : int
        Equal seeds give equal tables.
    rows : int
        Number of rows of a source that are sampled, at least 2.

    Returns
    -------
    pandas.DataFrame
        One row for each fit, sorted by `log_evidence`, the best first. The names of the columns are
        the usual ones, and for leave-one-out those of ArviZ. All that have a unit are in nats:

        K, covariance
            Number and form of the components.
        log_evidence, log_evidence_se
            Log marginal likelihood and its standard error. Where the error is NaN it is out of
            reach, and `log_evidence` is the lower bound `posterior.evidence_bound`.
        elbo, elbo_se
            Evidence lower bound of the fit and its Monte Carlo standard error.
        elbo_diff
            `elbo` minus the highest in the table: zero or negative.
        elpd_loo, se
            Expected log pointwise predictive density by leave-one-out cross-validation (`az.loo`),
            and its standard error over rows.
        p_loo
            Effective number of parameters.
        elpd_diff, dse
            `elpd_loo` minus the highest in the table, zero or negative, and its standard error.
        rank
            Rank by `elpd_loo`, from 0, as in ArviZ.
        weight
            Weight of the fit in the combination of predictive distributions that predicts best
            (stacking, Yao et al. 2018). The weights sum to 1.
        khat
            Pareto k-hat of the fit: whether its draws are reliable.
        pareto_k_max
            Largest Pareto k of the rows: whether leaving a row out can be estimated from draws of
            the posterior with it.
        warning
            True where `elpd_loo` is not reliable: the Pareto k of a row is above
            min(1 - 1 / log10(S), 0.7), or `khat` is above 0.7 (with Markov chains: they have
            not mixed), or a single draw has more than
            sqrt(S) times the average weight. `elpd_loo` is NaN where a few draws have nearly all
            the weight.
        status
            Name of the fit's `Status`.
        subsampling_se, subsampling_dse
            Of a source only: what the sample of its rows adds to the errors of `elpd_loo` and
            `elpd_diff`, beside `se` and `dse`.

    Raises
    ------
    ValueError, TypeError
        If `posteriors` is not a mapping of names to `Posterior`, or is empty, if X is not what each
        of them was fitted to, or if `draws` or `seed` is out of range. All of this is checked
        before any draw is made.

    Notes
    -----
    The evidence, and so the order of the table, depends on the width of the prior, as any Bayes
    factor does. The predictions hardly depend on it. If the two disagree by much, check the prior
    first.

    An `elpd_diff` within one or two `dse` of zero is no evidence of a difference, and one of less
    than 4 nats is small however small `dse` is (Sivula et al. 2020). With a dozen fits or more,
    arviz 1.x warns if the best could be the best by chance. The comparison takes about 0.7 ms for
    each row and fit, and a third of that with arviz 0.23.

    A row whose `sample_weight` is a whole number counts that many times, and one of these copies is
    left out at a time. For other weights leave-one-out is not defined, and for weights that stand
    for more than 200,000 copies its memory is not affordable: its columns are NaN.

    Of a source of N rows, n are drawn without replacement, and leave-one-out is computed for these.
    The others enter by the log density a_i at the posterior mean, which is read of all rows
    (the difference estimator; Magnusson et al. 2020, *Leave-one-out cross-validation for Bayesian
    model comparison in large data*)::

        elpd_loo = sum over all rows of a_i + N / n * sum over the sample of (loo_i - a_i)

    Its error by the sample, `subsampling_se`, is N sqrt((1 - n / N) / n) sd(loo_i - a_i). `se` and
    `dse` are those of the a_i, `p_loo` and `weight` those of the sample. That the fits are of the
    rows of the source is known by their number and columns only. Weighted sources are refused.
    """
    fits = _as_posteriors(posteriors)
    draws, seed = as_draw_count(draws), as_seed(seed)
    if isinstance(X, Source):
        return _compared_on_sample(fits, X, draws, seed, as_count(rows, "rows"))
    X = fitted_rows(next(iter(fits.values()))) if X is None else X
    of_fit = {name: _as_rows_of_fit(name, posterior, X) for name, posterior in fits.items()}
    _check_same_weights(fits)
    loos = {name: leave_one_out(fits[name], of_fit[name], draws, seed) for name in fits}
    return comparison_table(fits, loos)


def _compared_on_sample(
    fits: Mapping[Any, Posterior], source: Source, draws: int, seed: int, rows: int
) -> "pd.DataFrame":
    """Return the table of fits of the rows of a source, by leave-one-out of a sample of them."""
    found = sampled_leave_one_out(fits, source, draws, seed, rows)
    table = comparison_table(fits, found.loos)
    for name, column in found.columns().items():
        table[name] = column.reindex(table.index)
    return table


def _as_posteriors(posteriors: Any) -> dict[Any, Posterior]:
    """Return a dict of one or more posteriors, or raise."""
    if not isinstance(posteriors, Mapping):
        raise TypeError(
            "posteriors must be a mapping of names to posteriors, such as "
            f"{{'two': bgmm_jd.fit(X, 2)}}; got {type(posteriors).__name__}."
        )
    if not posteriors:
        raise ValueError("posteriors must have at least one posterior, but it is empty.")
    for name, posterior in posteriors.items():
        if not isinstance(posterior, Posterior):
            raise TypeError(
                f"posteriors[{name!r}] must be a Posterior, as bgmm_jd.fit returns it; "
                f"got {type(posterior).__name__}."
            )
    return dict(posteriors)


def as_draw_count(draws: Any) -> int:
    """Return a number of draws that is large enough for leave-one-out, or raise."""
    draws = as_count(draws, "draws")
    if draws < FEWEST_DRAWS:
        raise ValueError(
            f"draws must be at least {FEWEST_DRAWS}, so that the largest importance weights can be "
            f"smoothed; got {draws}."
        )
    return draws


def _as_rows_of_fit(name: Any, posterior: Posterior, X: Any) -> np.ndarray:
    """Return X in the dtype of the fit, or raise if the fit was to other rows."""
    rows, data = as_new_rows(posterior, X), posterior.problem.data
    if len(rows) != data.shape[0]:
        raise ValueError(
            f"posteriors[{name!r}] was fitted to {data.shape[0]} rows; X has {len(rows)}. Pass the "
            "rows of the fits, without those of weight 0, and compare fits of the same rows only."
        )
    standardized = standardize_new_rows(rows, data)
    differences = np.abs(standardized.values - data.rows.values).max(axis=1)
    if differences.max() > _SAME_ROWS:
        raise ValueError(
            f"posteriors[{name!r}] was fitted to other rows than X (row {differences.argmax()} "
            "differs most). Pass the rows of the fits, in their order."
        )
    return rows


def _check_same_weights(fits: Mapping[Any, Posterior]) -> None:
    """Raise if the fits differ in their row weights, which makes them fits of different data."""
    first, *others = fits
    for name in others:
        a, b = (fits[n].problem.data.rows.weight for n in (first, name))
        if (a is None) != (b is None) or (a is not None and not np.allclose(a, b)):
            raise ValueError(
                f"posteriors[{first!r}] and posteriors[{name!r}] were fitted with different "
                "weights of the rows. Compare only fits with the same sample_weight."
            )


def comparison_table(fits: Mapping[Any, Posterior], loos: Mapping[Any, Loo]) -> "pd.DataFrame":
    """Return the table of `compare` from the fits and the leave-one-out estimates of each."""
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


def _row(posterior: Posterior, loo: Loo) -> dict[str, Any]:
    """Return the columns that do not depend on the other fits."""
    return {
        "K": posterior.K,
        "covariance": posterior.covariance,
        "log_evidence": evidence_or_bound(posterior),
        "log_evidence_se": posterior.log_evidence_se,
        "elbo": posterior.elbo,
        "elbo_se": posterior.elbo_se,
        "elpd_loo": loo.elpd,
        "se": loo.se,
        "p_loo": loo.p,
        "khat": posterior.khat,
        "pareto_k_max": loo.k_max,
        "warning": bool(loo.warning or not posterior.is_reliable),
        "status": posterior.status.name,
    }


def evidence_or_bound(posterior: Posterior) -> float:
    """Return the log evidence, or its lower bound where it is out of reach."""
    known = math.isfinite(posterior.log_evidence)
    return posterior.log_evidence if known else posterior.evidence_bound


def _differences(loos: list[Loo]) -> "pd.DataFrame":
    """Return the columns `elpd_diff`, `dse`, `rank` and `weight` of `az.compare`."""
    import pandas as pd

    known = {str(i): loo for i, loo in enumerate(loos) if loo.elpd_data is not None}
    unknown = {"elpd_diff": math.nan, "dse": math.nan, "rank": len(known), "weight": 0.0}
    result = pd.DataFrame(unknown, index=[str(i) for i in range(len(loos))])
    if known:
        exact: dict[str, Any] = {} if arviz_major_version() < 1 else {"round_to": "none"}
        with suppress_known_warnings():
            found = import_arviz().compare(_relative_to_best_fit(known), method="stacking", **exact)
        if arviz_major_version() < 1:  # there the difference is that of the best fit to the others
            found["elpd_diff"] = 0.0 - found["elpd_diff"]
        result.update(found[list(unknown)])
    return result.astype({"rank": int})


def _relative_to_best_fit(loos: Mapping[str, Loo]) -> dict[str, Any]:
    """Return the ELPDData with each row's value relative to the highest among the fits.

    ArviZ's stacking takes the exponential of each value. It is the density of a row in the units of
    X, which can be out of the range of floats for many features or unusual units. Dividing the
    densities of a row by a constant does not change the weights and the differences between fits.
    """
    highest = np.max([loo.pointwise for loo in loos.values()], axis=0)
    name = "loo_i" if arviz_major_version() < 1 else "elpd_i"
    relative = {}
    for key, loo in loos.items():
        elpd_data = loo.elpd_data.copy() if arviz_major_version() < 1 else copy(loo.elpd_data)
        pointwise = getattr(loo.elpd_data, name).copy(data=loo.pointwise - highest)
        setattr(elpd_data, name, pointwise)
        relative[key] = elpd_data
    return relative
