"""Several fits of the same rows beside each other, and the choice among them.

Two yardsticks answer two questions. The evidence (log marginal likelihood) asks which number and
form of components the rows support; it pays for every parameter, and with many rows from such a
mixture it chooses the right K. Leave-one-out cross-validation asks how well new rows are predicted;
a component too many hardly costs it anything. The table has both, and is ordered by the first.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd import sampling
from bgmm_jd.arviz_line import arviz_line, import_arviz
from bgmm_jd.covariance import check_covariance
from bgmm_jd.data import as_count, as_rows, as_seed, as_weights, to_rows
from bgmm_jd.fit import fit
from bgmm_jd.labels import is_exchangeable
from bgmm_jd.posterior import Posterior, new_rows, row_log_likelihood
from bgmm_jd.prior import check_prior
from bgmm_jd.progress import reporter
from bgmm_jd.status import Status

if TYPE_CHECKING:  # pandas and xarray are imported when they are needed, as arviz is
    import pandas as pd

_NUMBERS = 20_000_000  # at most, draws x rows, in the log likelihood: 80 MB in float32
_FEWEST_DRAWS = 100  # fewer have no tail that could be smoothed
_KHAT_LIMIT = 0.7  # Vehtari et al. 2024
_SAME_ROWS = 1e-3  # sds of a column: more than any rounding, less than any other data set

# What az.loo says of single rows, which the columns `warning` and `pareto_k_max` tell; of a single
# row, whose value is the sum; and what pandas 3 says of the inside of az.compare in arviz 0.23.
_TOLD_IN_THE_TABLE = (
    "Estimated shape parameter of Pareto distribution is greater than",
    "The point-wise LOO is the same with the sum LOO",
    "The inplace keyword in DataFrame.sort_values is deprecated",
)


class _Loo(NamedTuple):
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


_UNKNOWN = _Loo(math.nan, math.nan, math.nan, math.nan, True, np.empty(0), None)


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
    draws, seed = _check_draws(draws), as_seed(seed)
    rows = {name: _rows_of_fit(name, posterior, X) for name, posterior in fits.items()}
    _check_weights(fits)
    loos = {name: _leave_one_out(fits[name], rows[name], draws, seed) for name in fits}
    return _table(fits, loos)


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


def _check_draws(draws: Any) -> int:
    draws = as_count(draws, "draws")
    if draws < _FEWEST_DRAWS:
        raise ValueError(
            f"draws must be at least {_FEWEST_DRAWS}, or their largest importance weights cannot "
            f"be smoothed; got {draws}."
        )
    return draws


def _rows_of_fit(name: Any, posterior: Posterior, X: Any) -> np.ndarray:
    """X in the dtype of the fit, if these are the rows it was fitted to."""
    rows, data = new_rows(posterior, X), posterior.inside.data
    if len(rows) != data.shape[0]:
        raise ValueError(
            f"posteriors[{name!r}] was fitted to {data.shape[0]} rows; X has {len(rows)}. Pass the "
            "rows of the fits, without those of weight 0, and compare fits of the same rows only."
        )
    apart = np.abs(to_rows(rows, data.units).values - data.rows.values).max(axis=1)
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
        here, there = (fits[n].inside.data.rows.weight for n in (first, name))
        if (here is None) != (there is None) or (here is not None and not np.allclose(here, there)):
            raise ValueError(
                f"posteriors[{first!r}] and posteriors[{name!r}] were fitted with different "
                "weights of the rows. Compare fits with the same sample_weight only."
            )


def _leave_one_out(posterior: Posterior, rows: np.ndarray, draws: int, seed: int) -> _Loo:
    """Leave each row out in turn, by importance weights."""
    counts = _counts(posterior, rows)
    if counts is None:
        return _UNKNOWN
    draws = min(draws, max(_FEWEST_DRAWS, _NUMBERS // max(1, counts.sum())))
    # Draws of a surrogate are not draws of the posterior, and leave-one-out must know. So their
    # smoothed weights p / q are used up first: three times as many are drawn as are kept, and
    # resampled, which leaves az.loo with what it is made for. For a calibrated fit these are the
    # draws of `Posterior.sample`, for any other the surrogate's own. The alternative multiplies
    # p / q into the weights of each row (Magnusson et al. 2019, `az.loo_approximate_posterior`);
    # arviz 0.23 has it not, and its p_loo is against the mean over the surrogate.
    inside = posterior.inside
    if not posterior.calibrated:
        inside = inside._replace(weigh=True)
    sampled = sampling.calibrated(inside, draws, seed)
    kept = _thinned(sampled.log_q.numpy())
    if _tail(len(kept)) <= _most_copies(draws):  # which could all be one draw's
        return _UNKNOWN
    likelihood = row_log_likelihood(posterior, sampled, rows)[kept].repeat(counts, axis=1)
    loo = _of_likelihood(likelihood, sampled.theta["weights"].numpy()[kept])
    return loo._replace(bad=loo.bad or len(kept) < draws)


def _thinned(draws: np.ndarray) -> np.ndarray:
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


def _of_likelihood(likelihood: np.ndarray, weights: np.ndarray) -> _Loo:
    """Leave-one-out by ArviZ, from the log likelihood [S, N] and any parameter [S, K]."""
    if not (likelihood.size and np.isfinite(likelihood).all()):
        return _UNKNOWN
    with _quiet():
        return _read(import_arviz().loo(_container(likelihood, weights), pointwise=True, **_nats()))


def _nats() -> dict[str, str]:
    """What keeps arviz 0.23 from the scale that its settings may name; 1.x has but one."""
    return {"scale": "log"} if arviz_line() < 1 else {}


def _counts(posterior: Posterior, rows: np.ndarray) -> np.ndarray | None:
    """How often each row is left out: int [N]; None where its weight is no whole number.

    A row of weight 2 counts twice, and one of the two is left out at a time. A row of which nothing
    is observed says nothing.
    """
    weight = posterior.inside.data.rows.weight
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
    if arviz_line() < 1:
        return import_arviz().InferenceData(**datasets)
    return xr.DataTree.from_dict(datasets)


def _read(found: Any) -> _Loo:
    """The parts of an `ELPDData`, which have other names in each of ArviZ's lines."""
    k = np.nan_to_num(found.pareto_k.to_numpy(), nan=np.inf, posinf=np.inf)
    if arviz_line() < 1:
        elpd, p, rows = found.elpd_loo, found.p_loo, found.loo_i
    else:
        elpd, p, rows = found.elpd, found.p, found.elpd_i
        found = copy(found)
        found.log_weights = None  # draws x rows
    return _Loo(
        float(elpd),
        float(found.se),
        float(p),
        float(k.max()),
        bool(k.max() > found.good_k),
        rows.to_numpy().astype(np.float64),
        found,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that the table tells in its own way; all others pass."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for message in _TOLD_IN_THE_TABLE:
            warnings.filterwarnings("ignore", message)
        yield


def _table(fits: Mapping[Any, Posterior], loos: Mapping[Any, _Loo]) -> "pd.DataFrame":
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


def _row(posterior: Posterior, loo: _Loo) -> dict[str, Any]:
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
        "warning": bool(loo.bad or posterior.khat > _KHAT_LIMIT),
        "status": posterior.status.name,
    }


def _log_relabellings(posterior: Posterior) -> float:
    """log K!, or 0 where the prior tells the components apart."""
    return math.lgamma(posterior.K + 1) if is_exchangeable(posterior.inside.model) else 0.0


def _differences(loos: list[_Loo]) -> "pd.DataFrame":
    """Columns `elpd_diff`, `dse`, `rank` and `weight` by `az.compare`, a row for each fit."""
    import pandas as pd

    known = {str(i): loo for i, loo in enumerate(loos) if loo.elpd_data is not None}
    blank = {"elpd_diff": math.nan, "dse": math.nan, "rank": len(known), "weight": 0.0}
    result = pd.DataFrame(blank, index=[str(i) for i in range(len(loos))])
    if known:
        exact: dict[str, Any] = {} if arviz_line() < 1 else {"round_to": "none"}
        with _quiet():
            found = import_arviz().compare(_levelled(known), method="stacking", **exact)
        if arviz_line() < 1:  # which counts from the best to the others
            found["elpd_diff"] = 0.0 - found["elpd_diff"]
        result.update(found[list(blank)])
    return result.astype({"rank": int})


def _levelled(loos: Mapping[str, _Loo]) -> dict[str, Any]:
    """The same with each row's value in relation to that of the fit which has it highest.

    ArviZ's stacking takes exp of each value. That is the density of a row, in whatever units X
    has, and out of the range of a float for many features or odd units. The weights and the
    differences between fits do not change when all of them are divided by the same.
    """
    highest = np.max([loo.rows for loo in loos.values()], axis=0)
    name = "loo_i" if arviz_line() < 1 else "elpd_i"
    levelled = {}
    for key, loo in loos.items():
        levelled[key] = loo.elpd_data.copy() if arviz_line() < 1 else copy(loo.elpd_data)
        setattr(levelled[key], name, getattr(loo.elpd_data, name).copy(data=loo.rows - highest))
    return levelled


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
Prior = Callable[[int, int, str], tfd.JointDistributionCoroutine]


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
        `prior(K, D, covariance)` makes the prior of each fit, as `bgmm_jd.mixture_prior` does: one
        prior has the shapes of one combination only. Without it, that of `fit`.
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
    weight = as_weights(options.get("sample_weight"), len(X))
    counted = X if weight is None else X[weight > 0]
    combinations = list(product(_check_numbers(K, len(counted)), _check_forms(covariance)))
    priors = _priors(prior, combinations, X.shape[1])
    _check_options(options, combinations)
    options["seed"], draws = as_seed(seed), _check_draws(draws)

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
) -> dict[Form, tuple[Posterior, _Loo]]:
    """Each fit with its leave-one-out; Ctrl-C ends it with what is complete, if anything is.

    Parameters
    ----------
    counted : the rows of X whose weight is not zero.
    """
    found: dict[Form, tuple[Posterior, _Loo]] = {}
    try:
        with reporter(progress) as report:
            for key, prior in priors.items():
                report(_tell(key, len(priors), {k: fit.elbo for k, (fit, _) in found.items()}))
                posterior = _fit_one(X, key, prior, options)
                rows = new_rows(posterior, counted)
                found[key] = posterior, _leave_one_out(posterior, rows, draws, options["seed"])
    except KeyboardInterrupt:
        if not found:
            raise
    return found


def _check_numbers(K: Any, N: int) -> list[int]:
    numbers = list(dict.fromkeys(as_count(k, "K") for k in _several(K)))
    if not numbers:
        raise ValueError(f"K must have at least one number of components; got {K!r}.")
    if max(numbers) > N:
        raise ValueError(f"X must have at least K={max(numbers)} rows; got {N}. Use a smaller K.")
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
    made = {(K, form): prior(K, D, form) for K, form in combinations}
    for (K, form), one in made.items():
        found = check_prior(one, K, D, form)
        if found != form:
            raise ValueError(f"prior({K}, {D}, {form!r}) made a prior of the form {found!r}.")
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


def _selection(found: Mapping[Form, tuple[Posterior, _Loo]]) -> Selection:
    table = _table(
        {_name(key): posterior for key, (posterior, _) in found.items()},
        {_name(key): loo for key, (_, loo) in found.items()},
    )
    posteriors = {key: posterior for key, (posterior, _) in found.items()}
    best = next(key for key in found if _name(key) == table.index[0])
    return Selection(table=table, posteriors=MappingProxyType(posteriors), best=posteriors[best])
