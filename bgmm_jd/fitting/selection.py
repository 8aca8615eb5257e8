"""`select`: fit several numbers of components and forms of covariance, and choose the best."""

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.process_state import CALLER, runs_tensorflow
from bgmm_jd.data.far_rows import FarRowsWarning, warn_of_very_far_rows
from bgmm_jd.data.frames import column_names
from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.ties import FewValuesWarning, warn_of_ties
from bgmm_jd.data.validation import (
    as_count,
    as_missing_flag,
    as_rows,
    as_seed,
    as_weights,
    check_rows,
)
from bgmm_jd.fitting.fit import fit
from bgmm_jd.fitting.fit_cache import FitCache, open_cache
from bgmm_jd.fitting.progress import Progress, Reporter, as_callback
from bgmm_jd.fitting.progress_display import Display, Place, display
from bgmm_jd.model.covariance_forms import CovarianceForm, check_covariance
from bgmm_jd.model.prior_checks import PriorFunction, prior_of_function
from bgmm_jd.optimization.status import Status, StatusWarning
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.comparison import as_draw_count, comparison_table
from bgmm_jd.reporting.leave_one_out import Loo, leave_one_out
from bgmm_jd.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

Combination = tuple[int, CovarianceForm]  # K and covariance

# Columns of the table that are printed.
_SHOWN = ["log_evidence", "log_evidence_se", "elpd_loo", "se", "khat", "status"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Selection:
    """Fits of the same rows, and the best of them.

    Attributes
    ----------
    table : pandas.DataFrame
        The table of `compare`, with names such as "4 diag"; the best first.
    posteriors : mapping of (K, covariance) to Posterior
        In the order in which they were fitted.
    best : Posterior
        The one with the highest `log_evidence`.
    """

    table: "pd.DataFrame"
    posteriors: Mapping[Combination, Posterior]
    best: Posterior

    def __getstate__(self) -> dict[str, Any]:
        # A read-only view cannot be pickled. `best` is one of the posteriors, in a copy too.
        return {**self.__dict__, "posteriors": dict(self.posteriors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, posteriors=MappingProxyType(state["posteriors"]))

    def __repr__(self) -> str:
        return f"<Selection: {self._title}\n{self.table[_SHOWN].to_string()}>"

    def _repr_html_(self) -> str:
        return f"<div><strong>Selection</strong>: {self._title}{self.table[_SHOWN].to_html()}</div>"

    @property
    def _title(self) -> str:
        title = f"the best of {len(self.posteriors)} fits is {self.table.index[0]}"
        tried = sorted({K for K, _ in self.posteriors})
        fewest, most, best = tried[0], tried[-1], self.best.K
        if fewest < most == best:
            return f"{title}, with the most components that were tried: try more"
        if 1 < fewest == best < most:
            return f"{title}, with the fewest components that were tried: try fewer"
        return title


@runs_tensorflow
def select(
    X: Any,
    K: int | Iterable[int] = range(1, 9),
    covariance: CovarianceForm | Iterable[CovarianceForm] = ("diag",),
    *,
    prior: PriorFunction | None = None,
    draws: int = 1000,
    progress: bool | None = None,
    callback: Callable[[Progress], None] | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Selection:
    """Fit every combination of K and covariance, and choose the one with the highest evidence.

    ::

        selection = bgmm_jd.select(X, K=range(1, 7))
        selection.table
        selection.best

    Parameters
    ----------
    X : array-like or data frame [N, D] of finite real numbers
        A `np.memmap` is fitted as an array, of any size: leave-one-out needs all rows in memory. Of
        a source pass a sample, from `bgmm_jd.sample_rows`.
    K : int or several
        Numbers of components, each at most N. If the best is the largest of them, try larger ones.
    covariance : str or several
        Forms of the components' covariances: see `fit`.
    prior : callable, optional
        `prior(K, D, covariance=...)` makes the prior of each fit, as `bgmm_jd.mixture_prior` does.
        A function is needed because one prior has the shapes of one combination only. Without it,
        the default prior of `fit`.
    draws : int
        Number of draws of each fit for leave-one-out: see `compare`.
    progress : bool, optional
        Whether to show the progress of the sweep and of the present fit: see `fit`. By default only
        on a terminal.
    callback : callable, optional
        Called with the progress of each fit, whose `K` and `covariance` name the fit: see `fit`.
        `KeyboardInterrupt` raised in it ends the sweep as Ctrl-C does.
    seed : int
        The seed of every fit and of the draws.
    cache : str or os.PathLike, optional
        A folder in which each complete fit is kept, rows included, and from which it is read when
        the same fit is asked for again: after a sweep that was killed, or with more K. The result
        is the same as without. Fits of other rows, options, seeds or versions have files of their
        own there. The folder is made if it does not exist.
    **options
        Other arguments of `fit`, used for every fit: `batch_size`, `restarts`, `settings`, ...

    Returns
    -------
    Selection

    Raises
    ------
    ValueError, TypeError
        For bad input, before the first fit.
    OSError
        If a file of the `cache` cannot be read or written.
    KeyboardInterrupt
        At Ctrl-C before the first fit is complete.

    Warns
    -----
    RuntimeWarning
        If the best fit ended with any status but CONVERGED; the column `status` has those of the
        others. Also if Ctrl-C ended the sweep: the complete fits are kept.
    UserWarning
        If a column has very few distinct values: see `fit`.

    Notes
    -----
    The best fit has the highest evidence, `log_evidence` in the table of `compare`. The highest
    `elpd_loo` does not determine the number of components: with a superfluous one the predictions
    stay the same, and their noise decides. The evidence penalises superfluous parameters. It
    depends on the prior, which should therefore express what is known: under a prior much wider
    than the data, fewer components are selected than the rows can distinguish.

    Where the evidence is out of reach, as with many parameters, its lower bound takes its place:
    see `compare`. The more the components overlap, the lower it is; this too favours fewer
    components.
    """
    if isinstance(X, np.memmap):
        X = np.asarray(X)  # otherwise `fit` would read a large one as a source
    names = column_names(X)
    rows = as_rows(X, missing=as_missing_flag(options.get("missing")))
    weight = as_weights(options.get("sample_weight"), len(rows), rows.dtype)
    weighted_rows = rows if weight is None else rows[weight > 0]
    numbers = _as_component_counts(K)
    check_rows(len(weighted_rows), max(numbers), weight is not None)
    combinations = list(product(numbers, _as_forms(covariance)))
    priors = _make_priors(prior, combinations, rows.shape[1])
    _check_options(options, combinations)
    if max(numbers) > 1:
        warn_of_ties(weighted_rows, names, stacklevel=CALLER)
    robust = (options.get("settings") or Settings()).robust_moments
    standardized = standardize(rows, weight, settings=robust)
    places = np.arange(len(rows)) if weight is None else np.flatnonzero(weight)
    warn_of_very_far_rows(standardized, places, robust.very_far, names, stacklevel=CALLER)
    options["seed"], draws = as_seed(seed), as_draw_count(draws)
    callback = as_callback(callback)

    kept = None
    if cache is not None:
        of_all = options | {"X": rows, "feature_names": names, "sample_weight": weight}
        kept = open_cache(cache, of_all)
    with display(progress) as shown:
        found = _sweep(X, weighted_rows, priors, draws, shown, callback, options, kept)
    selection = _selection(found)
    if len(found) < len(combinations):
        warnings.warn(
            f"The sweep was interrupted: the best is that of {len(found)} fits out of "
            f"{len(combinations)}.",
            RuntimeWarning,
            stacklevel=CALLER,
        )
    best = selection.best
    if not best.status.good:
        name = _name(best.K, best.covariance)
        warnings.warn(f"Best fit ({name}): {best.status}", StatusWarning, stacklevel=CALLER)
    return selection


def _sweep(
    X: Any,
    weighted_rows: np.ndarray,
    priors: Mapping[Combination, tfd.JointDistributionCoroutine | None],
    draws: int,
    shown: Display,
    callback: Reporter | None,
    options: Mapping[str, Any],
    cache: FitCache | None,
) -> dict[Combination, tuple[Posterior, Loo]]:
    """Return each fit with its leave-one-out results.

    Ctrl-C ends the sweep and keeps the complete fits, if there are any.

    Parameters
    ----------
    X : as the user passed it, with the names of its columns.
    weighted_rows : the rows of X whose weight is not zero.
    """
    found: dict[Combination, tuple[Posterior, Loo]] = {}
    begun = time.perf_counter()
    try:
        for key, prior in priors.items():
            seconds = time.perf_counter() - begun
            place = Place(f"K={key[0]}, {key[1]}", len(found), len(priors), seconds)
            report = _reporter_of_one(shown, callback, place)
            make = functools.partial(_fit_one, X, key, prior, report, options)
            posterior = make() if cache is None else cache.fit_of(*key, prior, make)
            rows = as_new_rows(posterior, weighted_rows)
            found[key] = posterior, leave_one_out(posterior, rows, draws, options["seed"])
    except KeyboardInterrupt:
        if not found:
            raise
    return found


def _reporter_of_one(shown: Display, callback: Reporter | None, place: Place) -> Reporter:
    """Return what a fit of the sweep reports to."""

    def report(progress: Progress) -> None:
        shown.show(progress, place)
        if callback is not None:
            callback(progress)

    return report


def _as_component_counts(K: Any) -> list[int]:
    numbers = list(dict.fromkeys(as_count(k, "K") for k in _as_iterable(K)))
    if not numbers:
        raise ValueError(f"K must have at least one number of components; got {K!r}.")
    return numbers


def _as_forms(covariance: Any) -> list[CovarianceForm]:
    forms = list(dict.fromkeys(_as_iterable(covariance)))
    if not forms:
        raise ValueError(f"covariance must name at least one form; got {covariance!r}.")
    for form in forms:
        check_covariance(form)
    return forms


def _as_iterable(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _make_priors(
    prior: Any, combinations: list[Combination], D: int
) -> dict[Combination, tfd.JointDistributionCoroutine | None]:
    """Return the prior of each combination; None for the default prior of `fit`."""
    if prior is None:
        return dict.fromkeys(combinations)
    if not callable(prior):
        raise TypeError(
            "prior must be a function of K, D and covariance that makes the prior of each fit, as "
            f"bgmm_jd.mixture_prior does; got {type(prior).__name__}, which has one K only."
        )
    return {(K, form): prior_of_function(prior, K, D, form) for K, form in combinations}


def _check_options(options: Mapping[str, Any], combinations: list[Combination]) -> None:
    if options.get("checkpoint") is not None:
        raise ValueError(
            "checkpoint is of one fit; use cache=, a folder in which select keeps complete fits."
        )
    for name in ("init", "start"):
        given = options.get(name)
        if given is not None and len({K for K, _ in combinations}) > 1:
            raise ValueError(f"{name} is of one K only; pass that K alone, or leave {name} out.")
        if isinstance(given, Posterior) and len(combinations) > 1:
            raise ValueError(
                f"{name} is a posterior of one form of covariance only; pass that form alone, or "
                f"its labels: init=bgmm_jd.predict({name}, X)."
            )


def _name(K: int, form: str) -> str:
    """Return the name of a combination in the table."""
    return f"{K} {form}"


def _fit_one(
    X: Any,
    key: Combination,
    prior: tfd.JointDistributionCoroutine | None,
    report: Reporter,
    options: Mapping[str, Any],
) -> Posterior:
    """Fit one combination without a warning of its status, which the table shows.

    An interrupted fit ends the sweep.
    """
    K, form = key
    with warnings.catch_warnings():
        # `select` warns of the rows, and of the status of the best fit.
        for seen in (FewValuesWarning, FarRowsWarning, StatusWarning):
            warnings.simplefilter("ignore", seen)
        posterior = fit(
            X, K, covariance=form, prior=prior, progress=False, callback=report, **options
        )
    if posterior.status is Status.INTERRUPTED:  # `fit` has caught Ctrl-C
        raise KeyboardInterrupt
    return posterior


def _selection(found: Mapping[Combination, tuple[Posterior, Loo]]) -> Selection:
    table = comparison_table(
        {_name(*key): posterior for key, (posterior, _) in found.items()},
        {_name(*key): loo for key, (_, loo) in found.items()},
    )
    posteriors = {key: posterior for key, (posterior, _) in found.items()}
    best = next(key for key in found if _name(*key) == table.index[0])
    return Selection(table=table, posteriors=MappingProxyType(posteriors), best=posteriors[best])
