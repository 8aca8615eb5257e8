"""A sweep over numbers of components and forms of covariance, and the choice among the fits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tensorflow_probability import distributions as tfd

from bgmm_jd.data.validation import as_count, as_rows, as_seed, as_weights, check_rows
from bgmm_jd.fitting.fit import fit
from bgmm_jd.fitting.progress import reporter
from bgmm_jd.model.covariance_forms import check_covariance
from bgmm_jd.model.prior_checks import prior_covariance_form
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.comparison import check_draws, comparison_table
from bgmm_jd.reporting.leave_one_out import Loo, leave_one_out

if TYPE_CHECKING:
    import pandas as pd
import re
import warnings

import numpy as np


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Selection:
    """Fits of the same rows, and the best of them.

    Attributes
    ----------
    table : pandas.DataFrame
        As `compare` makes it, with names such as "4 diag"; the best first.
    posteriors : mapping of (K, covariance) to Posterior
        In the order in which they were fitted.
    best : Posterior
        The one with the highest `log_evidence`.
    """

    table: "pd.DataFrame"
    posteriors: Mapping[tuple[int, str], Posterior]
    best: Posterior

    def __repr__(self) -> str:
        return f"<Selection: the best of {len(self.posteriors)} is {self.best}>"


Form = tuple[int, str]  # K and covariance
Prior = Callable[..., tfd.JointDistributionCoroutine]  # of K, D and the keyword covariance


def select(
    X: Any,
    K: int | Iterable[int] = range(1, 9),
    covariance: str | Iterable[str] = ("diag",),
    *,
    prior: Prior | None = None,
    draws: int = 1000,
    progress: bool | None = None,
    seed: int = 0,
    **options: Any,
) -> Selection:
    """Fit every combination of K and covariance, and say which the rows support best.

    ::

        selection = bgmm_jd.select(X, K=range(1, 7))
        selection.table
        selection.best

    Parameters
    ----------
    X : array-like [N, D] of finite real numbers
    K : int or several
        Numbers of components, each at most N. If the best is the largest of them, try larger ones.
    covariance : str or several
        Forms of the components' covariances, as `fit` knows them.
    prior : callable, optional
        `prior(K, D, covariance=...)` makes the prior of each fit, as `bgmm_jd.mixture_prior` does:
        one prior has the shapes of one combination only. Without it, that of `fit`.
    draws : int
        Of each fit, for the leave-one-out: see `compare`.
    progress : bool, optional
        Whether to show a line that names the present fit; by default only on a terminal.
    seed : int
        Of every fit, and of the draws.
    **options
        Handed on to every `fit`: `batch_size`, `restarts`, `max_steps`, `calibrate`, ...

    Returns
    -------
    Selection

    Raises
    ------
    ValueError, TypeError
        For bad input, before the first fit.
    KeyboardInterrupt
        At Ctrl-C while not one fit is complete.

    Warns
    -----
    RuntimeWarning
        If the best fit ended in any state but a good one; what became of the others is in the
        column `status`. And if Ctrl-C ended the sweep: the fits that were complete are kept.

    Notes
    -----
    The best is the one with the highest evidence, `log_evidence` in the table of `compare`. The
    highest `elpd_loo` would be no rule for the number of components: with one too many the
    predictions stay the same, and chance decides. The evidence tells such fits apart by the
    parameters that they waste. It needs a prior that means what it says: with one much wider than
    the data's spread, fewer components win than the rows can tell apart.

    The bound lies below the evidence, the more so the more the components overlap; this too favours
    fewer components.
    """
    X = as_rows(X, missing=options.get("missing") is not None)
    weight = as_weights(options.get("sample_weight"), len(X), X.dtype)
    counted = X if weight is None else X[weight > 0]
    numbers = _check_numbers(K)
    check_rows(len(counted), max(numbers), weight is not None)
    combinations = list(product(numbers, _check_forms(covariance)))
    priors = _priors(prior, combinations, X.shape[1])
    _check_options(options, combinations)
    options["seed"], draws = as_seed(seed), check_draws(draws)

    found = _sweep(X, counted, priors, draws, progress, options)
    selection = _selection(found)
    if len(found) < len(combinations):
        warnings.warn(
            f"The sweep was interrupted: the best is that of {len(found)} fits out of "
            f"{len(combinations)}.",
            RuntimeWarning,
            stacklevel=2,
        )
    best = selection.best
    if not best.status.good:
        name = _name((best.K, best.covariance))
        warnings.warn(f"Of the best fit, {name}: {best.status}", RuntimeWarning, stacklevel=2)
    return selection


def _sweep(
    X: np.ndarray,
    counted: np.ndarray,
    priors: Mapping[Form, tfd.JointDistributionCoroutine | None],
    draws: int,
    progress: bool | None,
    options: Mapping[str, Any],
) -> dict[Form, tuple[Posterior, Loo]]:
    """Each fit with its leave-one-out; Ctrl-C ends it with what is complete, if anything is.

    Parameters
    ----------
    counted : the rows of X whose weight is not zero.
    """
    found: dict[Form, tuple[Posterior, Loo]] = {}
    try:
        with reporter(progress) as report:
            for key, prior in priors.items():
                report(_tell(key, len(priors), {k: fit.elbo for k, (fit, _) in found.items()}))
                posterior = _fit_one(X, key, prior, options)
                rows = as_new_rows(posterior, counted)
                found[key] = posterior, leave_one_out(posterior, rows, draws, options["seed"])
    except KeyboardInterrupt:
        if not found:
            raise
    return found


def _check_numbers(K: Any) -> list[int]:
    numbers = list(dict.fromkeys(as_count(k, "K") for k in _several(K)))
    if not numbers:
        raise ValueError(f"K must have at least one number of components; got {K!r}.")
    return numbers


def _check_forms(covariance: Any) -> list[str]:
    forms = list(dict.fromkeys(_several(covariance)))
    if not forms:
        raise ValueError(f"covariance must name at least one form; got {covariance!r}.")
    for form in forms:
        check_covariance(form)
    return forms


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _priors(
    prior: Any, combinations: list[Form], D: int
) -> dict[Form, tfd.JointDistributionCoroutine | None]:
    if prior is None:
        return dict.fromkeys(combinations)
    if not callable(prior):
        raise TypeError(
            "prior must be a function of K, D and covariance that makes the prior of each fit, as "
            f"bgmm_jd.mixture_prior does; got {type(prior).__name__}, which has one K only."
        )
    made = {(K, form): prior(K, D, covariance=form) for K, form in combinations}
    for (K, form), one in made.items():
        found = prior_covariance_form(one, K, D, form)
        if found != form:
            raise ValueError(
                f"prior({K}, {D}, covariance={form!r}) made a prior of the form {found!r}."
            )
    return made


def _check_options(options: Mapping[str, Any], combinations: list[Form]) -> None:
    if options.get("init") is not None and len({K for K, _ in combinations}) > 1:
        raise ValueError("init has the means of one K only; select it with that K, or leave it.")


def _name(key: Form) -> str:
    return f"{key[0]} {key[1]}"


def _tell(key: Form, total: int, elbos: Mapping[Form, float]) -> str:
    text = f"fit {len(elbos) + 1} of {total}: K={key[0]}, {key[1]}"
    if not elbos:
        return text
    best = max(elbos, key=lambda key: elbos[key])
    return f"{text}; highest elbo so far {elbos[best]:,.2f}, of {_name(best)}"


def _fit_one(
    X: np.ndarray,
    key: Form,
    prior: tfd.JointDistributionCoroutine | None,
    options: Mapping[str, Any],
) -> Posterior:
    """One fit, its status told in the table; an incomplete one ends the sweep."""
    K, form = key
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _ADVICE, RuntimeWarning)
        posterior = fit(X, K, covariance=form, prior=prior, progress=False, **options)
    if posterior.status is Status.INTERRUPTED:  # fit takes Ctrl-C for its own
        raise KeyboardInterrupt
    return posterior


# Any status as `fit` warns of it.
_ADVICE = "|".join(re.escape(str(status)) for status in Status)


def _selection(found: Mapping[Form, tuple[Posterior, Loo]]) -> Selection:
    table = comparison_table(
        {_name(key): posterior for key, (posterior, _) in found.items()},
        {_name(key): loo for key, (_, loo) in found.items()},
    )
    posteriors = {key: posterior for key, (posterior, _) in found.items()}
    best = next(key for key in found if _name(key) == table.index[0])
    return Selection(table=table, posteriors=MappingProxyType(posteriors), best=posteriors[best])
