"""Export of a posterior to ArviZ: `InferenceData` for arviz 0.23, `DataTree` for arviz 1.x.

All steps up to the labelled arrays are the same for both versions; they differ in `_as_container`
only.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bgmm_jd._version import __version__
from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, SCALE_VARIABLES
from bgmm_jd.model.covariances import (
    correlation_matrices,
    covariance_matrices,
    standard_deviations,
)
from bgmm_jd.model.prior_draws import draw_prior
from bgmm_jd.posterior.densities import log_densities, log_prior_densities, row_log_likelihood
from bgmm_jd.posterior.draws import draw_standardized, draws_of_chains, in_data_units_exactly
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.posterior.restart_posteriors import restart_posteriors
from bgmm_jd.reporting.names import name_coordinates
from bgmm_jd.reporting.replicated_data import replicated_data
from bgmm_jd.variational.approximation import Draws
from bgmm_jd.variational.labels import permute_components

if TYPE_CHECKING:  # arviz and xarray take a second to import: they are imported when needed
    import xarray as xr

Chains = Literal["auto", "one", "restarts"]

_FEWEST_PER_CHAIN = 100  # fewer have no R-hat
_DRAW = ("chain", "draw")
_MATRIX = ("feature", "feature_bis")
_DIMS = {"weights": ("component",), "means": ("component", "feature")}
# Of `precisions` or `scales`, whichever the prior has, and of matrices derived from them.
_SCALE_DIMS = {
    "diag": ("component", "feature"),
    "full": ("component", *_MATRIX),
    "tied": _MATRIX,
    "spherical": ("component", "all_features"),  # the second of size 1
}
_SDS_DIMS = {
    "diag": ("component", "feature"),
    "full": ("component", "feature"),
    "tied": ("feature",),
    "spherical": ("component",),
}
_DERIVED = ("sds", "covariances", "correlations")
_RESERVED = frozenset({"chain", "draw", "component", *_MATRIX, "all_features", *_DERIVED})


class Group(NamedTuple):
    """One group of arrays, before xarray is involved.

    variables : the dimensions and the array of each variable, by name.
    coords : the coordinates of dimensions that do not count 0, 1, 2, ...
    """

    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    coords: Mapping[str, np.ndarray] = MappingProxyType({})


@runs_tensorflow
def to_inference_data(
    posterior: Posterior,
    X: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    chains: Chains = "auto",
) -> Any:
    """Draw from a posterior, and return the draws in the container of ArviZ.

    ::

        idata = bgmm_jd.to_inference_data(posterior, X)
        az.summary(idata, kind="stats")
        az.loo(idata)

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D], optional
        Rows to evaluate under the posterior: those of the fit for `az.loo`, or others. They are
        converted to the dtype of the fit. Only the groups marked (X) below need them.
    draws : int
        S, the number of draws of each chain. Of C Markov chains each has S / C, but at least 100,
        if it is as long.
    seed : int
        Equal seeds give equal draws. Those of a single chain in the group `posterior` are those of
        `posterior.sample(draws, seed=seed)`.
    chains : {"auto", "one", "restarts"}
        "auto" returns the Markov chains of a fit that has them (`posterior.has_chains`),
        thinned evenly, and otherwise what "one" does: all draws as one chain.
        "restarts" returns each restart of the fit that
        converged as a chain of its own, with its components matched to those of the best. R-hat
        then says whether the restarts agree. It is NaN if only one of them converged, as where the
        search for starts has found a single optimum, and for a fit with `init` or a `batch_size`.

    Returns
    -------
    arviz.InferenceData (arviz 0.23) or xarray.DataTree (arviz 1.x), with the groups

    posterior
        The variables of the prior, under their names, in the units and dtype of X: `weights`
        [chain, draw, component], `means` [chain, draw, component, feature], and `precisions` or
        `scales` [chain, draw, component, feature], or [component, feature, feature_bis] for a full
        covariance, [feature, feature_bis] for a tied one and [component, all_features], with one
        entry, for a spherical one. A further variable `v` of the prior has the dims `v_dim_0`,
        `v_dim_1`, ... For any prior there are also `sds`, the standard deviations [component,
        feature], [feature] (tied) or [component] (spherical), and for full and tied covariances
        `covariances` and `correlations`, with the dims of `precisions`.
    prior
        As many draws of `posterior.prior`, with the same variables, dims and units.
    sample_stats
        `lp` [chain, draw]: log joint density of the draw and the rows *of the fit*. `log_q`
        [chain, draw]: log density of the draw under the distribution that proposed it, which is the
        calibrated normal distribution, or the surrogate for a fit with `calibrate=False`; not there
        for draws of Markov chains. In nats, with all constants, with respect to the variables in
        the units of X. Left out if the posterior was saved without the rows of the fit.
    log_prior
        Each variable of the prior that has a density, under its name [chain, draw]: the log density
        of the draw given the variables before it, summed over its entries, in nats and the units of
        X. The sum over the variables is the log prior density in `lp`. Variables that the prior
        fixes, and derived ones, are left out.
    elbo_trace
        `elbo` [step]: the noisy estimate of each step of the fit, in nats for the whole data set.
    observed_data (X)
        `x` [obs, feature].
    log_likelihood (X)
        `x` [chain, draw, obs]: log p(x_n given theta_s), the label summed out, in nats per row
        and the units of X. These are S * N numbers: for very many rows use fewer draws, or some of
        the rows. Each row counts once, whatever its `sample_weight` in the fit; `compare` takes
        the weights into account.
    posterior_predictive (X)
        `x` [chain, draw, obs, feature]: for each draw a new data set of N rows under the
        parameters of that draw. Where that would be more than 2e7 numbers, only every second draw
        has one, or every third, ..., as the coordinate `draw` says; at least one has.
    prior_predictive (X)
        `x` [chain, draw, obs, feature]: the same under the draws of the group `prior`. It has
        infinite entries where a draw has a variance beyond the range of the dtype, and is left out
        where a matrix that was drawn is singular in it.

    Notes
    -----
    The draws are those of `Posterior.sample`, the same ones in `posterior`, `sample_stats`,
    `log_prior`, `log_likelihood` and `posterior_predictive`. As one chain they are in random order.
    There is no Markov chain then that could fail to mix, and R-hat and the effective sample size
    say nothing about them; see the attribute `khat` instead. `az.summary(idata, kind="stats")`
    leaves these out. Without `kind` the column `r_hat` is NaN, and arviz 0.23 logs a line that
    R-hat needs two chains.

    `lp - log_q` are the log importance weights of the draws. For a calibrated fit they have already
    been applied by resampling, where the number of rows allows, and the draws represent the
    posterior without further weights, for `az.loo` too. For a fit with `calibrate=False`, and X its
    rows, arviz 1.x accepts both in
    `az.loo_approximate_posterior(idata, log_p=stats["lp"], log_q=stats["log_q"])`, with
    `stats = idata["sample_stats"]`.

    `az.psense` of arviz 1.x finds what it needs in `log_prior` and, for X the rows of the fit
    without `sample_weight`, in `log_likelihood`. `az.psense_summary` has a dimension `component`
    of its own: rename that of the group `posterior` first ::

        mine = idata["posterior"].to_dataset().rename(component="k")
        az.psense_summary(idata.assign(posterior=xarray.DataTree(mine)))

    The coordinates `feature` and `feature_bis` are `posterior.feature_names`, and `component` is
    `posterior.component_names`, where there are such names. All others count 0, 1, 2, ...

    All groups have attributes with the library, the versions and the time. `posterior` and the root
    also have `elbo`, `elbo_se`, `log_evidence`, `log_evidence_se`, `method`, `khat`, `status`,
    `calibration`, `covariance`, `K` and `batch_size` of the fit; those of Markov chains also have
    `rhat` and `effective`, the largest R-hat and the smallest effective sample size.

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real array with D columns, if `draws` is not a positive integer, if
        `chains` is none of the three, or if a variable of the prior has the name of a dimension or
        of a derived variable.
    """
    draws, seed = as_count(draws, "draws"), as_seed(seed)
    if chains not in get_args(Chains):
        raise ValueError(f"chains must be 'auto', 'one' or 'restarts'; got {chains!r}.")
    rows = None if X is None else as_new_rows(posterior, X)
    groups = _groups(posterior, _drawn(posterior, draws, seed, chains), rows, draws, seed)
    library, fit = _library_attributes(), _fit_attributes(posterior)
    own = {"posterior": library | fit}
    names = name_coordinates(posterior)
    datasets = {
        name: _dataset(group, names, own.get(name, library)) for name, group in groups.items()
    }
    return _as_container(datasets, library | fit)


def _drawn(
    posterior: Posterior, draws: int, seed: int, chains: Chains
) -> list[tuple[Posterior, Draws]]:
    """Return the draws of each chain, and the posterior that they are of."""
    if chains == "restarts":
        members = restart_posteriors(posterior)
    elif chains == "auto" and posterior.has_chains:
        return [(posterior, one) for one in draws_of_chains(posterior, draws, _FEWEST_PER_CHAIN)]
    else:
        members = [posterior]
    return [(member, draw_standardized(member, draws, seed)) for member in members]


def _groups(
    posterior: Posterior,
    drawn: list[tuple[Posterior, Draws]],
    rows: np.ndarray | None,
    draws: int,
    seed: int,
) -> dict[str, Group]:
    """Return all groups, with a chain for each member of `drawn`."""
    # In float64: a matrix that is nearly singular, as of equal columns, is singular in float32.
    theta = _stack([in_data_units_exactly(member, one.theta) for member, one in drawn])
    log_prior = _stack([log_prior_densities(member, one) for member, one in drawn])
    prior = {name: v[np.newaxis] for name, v in _prior_draws(posterior, draws, seed).items()}
    groups = {
        "posterior": _parameters(posterior, theta),
        "prior": _parameters(posterior, prior),
        **_sample_stats(drawn),
        "log_prior": Group({name: (_DRAW, values) for name, values in log_prior.items()}),
        "elbo_trace": Group({"elbo": (("step",), posterior.elbo_trace.copy())}),
    }
    if rows is None:
        return groups
    likelihood = np.stack([row_log_likelihood(posterior, one, rows) for _, one in drawn])
    return (
        groups
        | {
            "observed_data": Group({"x": (("obs", "feature"), rows)}),
            "log_likelihood": Group({"x": ((*_DRAW, "obs"), likelihood)}),
            "posterior_predictive": _predictive(posterior, theta, len(rows), (seed, 4)),
        }
        | _prior_predictive(posterior, prior, len(rows), seed)
    )


def _sample_stats(drawn: list[tuple[Posterior, Draws]]) -> dict[str, Group]:
    """Return the group of the log densities of draws, or nothing without the rows of the fit.

    With log q only where a distribution has proposed the draws.
    """
    if not drawn[0][0].problem.data.has_rows:
        return {}
    stats = _stack([log_densities(member, one)._asdict() for member, one in drawn])
    found = {"lp": (_DRAW, stats["log_joint"])}
    if not np.isnan(stats["log_q"]).all():
        found["log_q"] = (_DRAW, stats["log_q"])
    return {"sample_stats": Group(found)}


def _prior_predictive(
    posterior: Posterior, prior: Mapping[str, np.ndarray], N: int, seed: int
) -> dict[str, Group]:
    """Return the group of data sets under the prior, unless one of its matrices is singular."""
    try:
        return {"prior_predictive": _predictive(posterior, prior, N, (seed, 5))}
    except np.linalg.LinAlgError:
        return {}


def _predictive(
    posterior: Posterior, theta: Mapping[str, np.ndarray], N: int, seed: tuple[int, int]
) -> Group:
    """Return data sets of N rows under the draws [chain, S, ...], or under every second, ..."""
    found = replicated_data(posterior, theta, N, np.random.default_rng(seed))
    x = found.x.astype(posterior.dtype, copy=False)
    return Group({"x": ((*_DRAW, "obs", "feature"), x)}, {"draw": found.draw})


def _stack(chains: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack the arrays [S, ...] of each chain, by name, to arrays [chain, S, ...]."""
    return {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}


def _parameters(posterior: Posterior, theta: Mapping[str, np.ndarray]) -> Group:
    """Return the group of draws [chain, S, ...], by name, and of what is derived from them.

    In the dtype of X, whatever the draws have.
    """
    check_variable_names(theta)
    form = posterior.covariance
    scale_dims = _SCALE_DIMS[form]
    dims = _DIMS | dict.fromkeys(SCALE_VARIABLES, scale_dims)
    variables = {}
    for name, values in theta.items():
        generic = tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2))
        variables[name] = (_DRAW + dims.get(name, generic), values)
    variables["sds"] = (_DRAW + _SDS_DIMS[form], standard_deviations(theta, form))
    if form in MATRIX_FORMS:
        variables["covariances"] = (_DRAW + scale_dims, covariance_matrices(theta))
        variables["correlations"] = (_DRAW + scale_dims, correlation_matrices(theta))
    dtype = posterior.dtype
    return Group({name: (d, v.astype(dtype, copy=False)) for name, (d, v) in variables.items()})


def check_variable_names(names: Iterable[str]) -> None:
    """Raise if a variable of the prior has a name that the groups use for something else."""
    taken = sorted(_RESERVED.intersection(names))
    if taken:
        raise ValueError(
            f"the prior's variable '{taken[0]}' has the name of a dimension or of a derived "
            f"variable in ArviZ's groups: one of {sorted(_RESERVED)}. Give it another name and fit "
            "again."
        )


def _prior_draws(posterior: Posterior, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Draw from the prior, in the units, dtype and order of components of the posterior: [S, ...].

    The order matters for a prior that distinguishes the components.
    """
    sampled = draw_prior(posterior.prior, draws, stateless_seed(seed, salt="prior"))
    permuted = permute_components(posterior.problem.model, sampled, posterior.approximation.order)
    return {name: v.numpy().astype(posterior.dtype) for name, v in permuted.items()}


def _library_attributes() -> dict[str, str]:
    """Return versions and time, under the names of ArviZ's schema where it has one."""
    return {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "creation_library": "bgmm_jd",
        "creation_library_version": __version__,
        "creation_library_language": "Python",
        "inference_library": "bgmm_jd",
        "inference_library_version": __version__,
        "tensorflow_version": tf.__version__,
        "tensorflow_probability_version": tfp.__version__,
        "numpy_version": np.__version__,
        "arviz_version": importlib.metadata.version("arviz"),
    }


def _fit_attributes(posterior: Posterior) -> dict[str, str | int | float]:
    """Return the diagnosis of the fit as plain values, which netCDF can store."""
    mixing = {} if posterior.mixing is None else posterior.mixing._asdict()
    return mixing | {
        "elbo": posterior.elbo,
        "elbo_se": posterior.elbo_se,
        "log_evidence": posterior.log_evidence,
        "log_evidence_se": posterior.log_evidence_se,
        "method": posterior.method,
        "khat": posterior.khat,
        "status": posterior.status.name,
        "calibration": posterior.calibration,
        "covariance": posterior.covariance,
        "K": posterior.K,
        "batch_size": posterior.batch_size,
    }


def _dataset(
    group: Group, names: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Return the group as a data set, whose coordinates count from 0 unless they are given."""
    import xarray as xr

    coords = {
        dim: names.get(dim, np.arange(size))
        for dims, array in group.variables.values()
        for dim, size in zip(dims, array.shape, strict=True)
    }
    return xr.Dataset(dict(group.variables), coords | dict(group.coords), dict(attributes))


def _as_container(datasets: Mapping[str, xr.Dataset], attributes: Mapping[str, Any]) -> Any:
    """Return all groups in the container of the installed ArviZ."""
    if arviz_major_version() < 1:
        return import_arviz().InferenceData(attrs=attributes, **datasets)
    import xarray as xr

    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **datasets})
