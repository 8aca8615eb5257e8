"""A posterior as ArviZ knows it: `InferenceData` under arviz 0.23, `DataTree` under arviz 1.x.

Everything up to the labelled arrays is the same for both; only `_container` knows the line. The
line is told by the version of the installed package: arviz 1.x still answers to the name
`InferenceData`, with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bgmm_jd._version import __version__
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.model import covariances
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, SCALE_VARIABLES
from bgmm_jd.posterior.densities import log_densities, row_log_likelihood
from bgmm_jd.posterior.normal_mixtures import replicate_data
from bgmm_jd.posterior.posterior import (
    Posterior,
    draw_standardized,
    in_data_units,
    restart_posteriors,
)
from bgmm_jd.posterior.prediction import as_new_rows
from bgmm_jd.reporting.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.variational.labels import permute_components

if TYPE_CHECKING:  # arviz and xarray cost a second: they are imported when they are needed
    import xarray as xr
import datetime
import importlib.metadata

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

_PREDICTIVE_NUMBERS = 20_000_000  # at most, in posterior_predictive: 80 MB in float32

_DRAW = ("chain", "draw")
_DIMS = {"weights": ("component",), "means": ("component", "feature")}
_MATRIX = ("feature", "feature_bis")
# Of `precisions` or `scales`, whichever the prior has, and of matrices derived from them.
_SPREAD_DIMS = {
    "diag": ("component", "feature"),
    "full": ("component", *_MATRIX),
    "tied": _MATRIX,
    "spherical": ("component", "all_features"),  # of size 1
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
    """One group, before there is any xarray.

    variables : by name, the dimensions and the array, axis by axis.
    coords : of a dimension that does not count 0, 1, 2, ...
    """

    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    coords: Mapping[str, np.ndarray] = {}


def to_inference_data(
    posterior: Posterior, X: Any = None, draws: int = 1000, seed: int = 0, chains: str = "one"
) -> Any:
    """Draw from a posterior and hand the draws to ArviZ.

    ::

        idata = bgmm_jd.to_inference_data(posterior, X)
        az.summary(idata, kind="stats")
        az.loo(idata)

    Parameters
    ----------
    posterior : Posterior
    X : array-like [N, D], optional
        Rows to look at under the posterior: those of the fit for `az.loo`, or others. Cast to
        the dtype of the fit. Nothing but the groups marked (X) below needs it.
    draws : int
        S, the number of draws of each chain.
    seed : int
        Equal seeds give equal draws; those of the group `posterior` are the ones of
        `posterior.sample(draws, seed)`.
    chains : {"one", "restarts"}
        Whether the draws are one chain, or each restart of the fit is a chain of its own, with its
        components matched to the best. R-hat then tells whether the restarts agree; it is NaN
        where only one has settled, as of a fit with `init` or a `batch_size`, which starts once.

    Returns
    -------
    arviz.InferenceData (arviz 0.23) or xarray.DataTree (arviz 1.x), with the groups

    posterior
        The prior's own variables, by its names, in the units and dtype of X: `weights`
        [chain, draw, component], `means` and `precisions` or `scales`
        [chain, draw, component, feature], with [component, feature, feature_bis] in the full form
        of covariance, [feature, feature_bis] in the tied and [component, all_features], of one
        entry, in the spherical one; a variable `v` of the user's own with dims `v_dim_0`,
        `v_dim_1`, ... And whichever way the prior speaks of them `sds`, the standard deviations
        [component, feature], [feature] (tied) or [component] (spherical); in the matrix forms
        also `covariances` and `correlations`, with the dims of `precisions`.
    prior
        As many draws of `posterior.prior`, with the same variables, dims and units.
    sample_stats
        `lp` [chain, draw]: log joint density of the draw and the rows *of the fit*. `log_q`
        [chain, draw]: log density of the draw under the distribution that proposed it: the
        calibrated normal distribution, or the surrogate of a fit with `calibrate=False`. In nats,
        with all constants, with respect to the variables in the user's units.
    elbo_trace
        `elbo` [step]: the noisy estimate of each step of the fit, in nats for the whole data set.
    observed_data (X)
        `x` [obs, feature].
    log_likelihood (X)
        `x` [chain, draw, obs]: log p(x_n given theta_s), the label summed out, in nats per row
        and the units of X. S * N numbers: for very many rows pass fewer draws, or some of the rows.
        Each row counts once, whatever its `sample_weight` in the fit: `compare` counts weights.
    posterior_predictive (X)
        `x` [chain, draw, obs, feature]: for each draw a new data set of N rows under the
        parameters of that draw. Where that would be more than 2e7 numbers, only every second
        draw has one, or every third, ..., as the coordinate `draw` says; at least one has.

    Notes
    -----
    The draws are those of `Posterior.sample`, the same ones in `posterior`, `sample_stats`,
    `log_likelihood` and `posterior_predictive`. They are one chain in random order: there is no
    Markov chain that could fail to mix, so R-hat and effective sample size say nothing about
    them; the attribute `khat` does. `az.summary(idata, kind="stats")` leaves these out; without
    `kind` the column `r_hat` is NaN, and arviz 0.23 logs a line that R-hat needs two chains.

    `lp - log_q` are the log importance weights of the draws. Where the fit was calibrated they
    have been used already, as far as the number of rows allows: the draws stand for the posterior
    as they are, for `az.loo` too. For a fit with `calibrate=False` and X its rows, arviz 1.x takes
    both in `az.loo_approximate_posterior(idata, log_p=stats["lp"], log_q=stats["log_q"])`, with
    `stats = idata["sample_stats"]`.

    All groups have attributes with the library, the versions and the time; `posterior` and the
    root also `elbo`, `elbo_se`, `khat`, `status`, `calibration`, `covariance`, `K` and `batch_size`
    of the fit.

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real array with D columns, if `draws` is no positive integer, if
        `chains` is neither, or if
        the prior has a variable with the name of a dimension or of a derived variable.
    """
    draws, seed = as_count(draws, "draws"), as_seed(seed)
    if chains not in ("one", "restarts"):
        raise ValueError(f"chains must be 'one' or 'restarts'; got {chains!r}.")
    rows = None if X is None else as_new_rows(posterior, X)
    members = [posterior] if chains == "one" else restart_posteriors(posterior)
    groups = _groups(posterior, members, rows, draws, seed)
    library, fit = _library_attributes(), _fit_attributes(posterior)
    own = {"posterior": library | fit}
    datasets = {name: _dataset(group, own.get(name, library)) for name, group in groups.items()}
    return _container(datasets, library | fit)


def _groups(
    posterior: Posterior, members: list[Posterior], rows: np.ndarray | None, draws: int, seed: int
) -> dict[str, Group]:
    """All groups; each member is one chain."""
    sampled = [draw_standardized(member, draws, seed) for member in members]
    theta = _stack([in_data_units(m, s.theta) for m, s in zip(members, sampled, strict=True)])
    stats = _stack([log_densities(m, s)._asdict() for m, s in zip(members, sampled, strict=True)])
    prior = {name: v[np.newaxis] for name, v in _prior_draws(posterior, draws, seed).items()}
    groups = {
        "posterior": _parameters(posterior, theta),
        "prior": _parameters(posterior, prior),
        "sample_stats": Group(
            {"lp": (_DRAW, stats["log_joint"]), "log_q": (_DRAW, stats["log_q"])}
        ),
        "elbo_trace": Group({"elbo": (("step",), posterior.elbo_trace.copy())}),
    }
    if rows is None:
        return groups
    likelihood = np.stack([row_log_likelihood(posterior, s, rows) for s in sampled])
    kept = np.arange(0, draws, max(1, -(-likelihood.size * posterior.D // _PREDICTIVE_NUMBERS)))
    rng = np.random.default_rng([seed, 4])
    root = covariances.covariance_factors(theta, posterior.covariance)
    replicated = np.stack(
        [
            replicate_data(
                theta["weights"][c, kept], theta["means"][c, kept], root[c, kept], len(rows), rng
            )
            for c in range(len(members))
        ]
    )
    return groups | {
        "observed_data": Group({"x": (("obs", "feature"), rows)}),
        "log_likelihood": Group({"x": ((*_DRAW, "obs"), likelihood)}),
        "posterior_predictive": Group(
            {"x": ((*_DRAW, "obs", "feature"), replicated)}, {"draw": kept}
        ),
    }


def _stack(chains: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name [S, ...] of each chain as arrays by name [chain, S, ...]."""
    return {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}


def _parameters(posterior: Posterior, theta: Mapping[str, np.ndarray]) -> Group:
    """Draws by name [chain, S, ...], with the derived `sds`."""
    taken = sorted(_RESERVED & theta.keys())
    if taken:
        raise ValueError(
            f"the prior's variable '{taken[0]}' has a name that means something else in ArviZ's "
            f"groups, as {sorted(_RESERVED)} do. Give it another name and fit again."
        )
    form = posterior.covariance
    matrix = _SPREAD_DIMS[form]
    dims = _DIMS | dict.fromkeys(SCALE_VARIABLES, matrix)
    variables = {}
    for name, values in theta.items():
        generic = tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2))
        variables[name] = (_DRAW + dims.get(name, generic), values)
    variables["sds"] = (_DRAW + _SDS_DIMS[form], covariances.standard_deviations(theta, form))
    if form in MATRIX_FORMS:
        variables["covariances"] = (_DRAW + matrix, covariances.covariance_matrices(theta))
        variables["correlations"] = (_DRAW + matrix, covariances.correlation_matrices(theta))
    return Group(variables)


def _prior_draws(posterior: Posterior, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Draws of the prior by name [S, ...]: units, order of components and dtype of the posterior's.

    The order matters for a prior that tells the components apart.
    """
    sampled = posterior.prior.sample(draws, seed=stateless_seed(seed, salt="prior"))._asdict()
    arranged = permute_components(posterior.problem.model, sampled, posterior.approximation.order)
    return {name: v.numpy().astype(posterior.dtype) for name, v in arranged.items()}


def _library_attributes() -> dict[str, str]:
    """What made the groups, and when; the names are those of ArviZ's schema where it has one."""
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
    """How the fit went, as plain values, which netCDF keeps."""
    return {
        "elbo": posterior.elbo,
        "elbo_se": posterior.elbo_se,
        "khat": posterior.khat,
        "status": posterior.status.name,
        "calibration": posterior.calibration,
        "covariance": posterior.covariance,
        "K": posterior.K,
        "batch_size": posterior.batch_size,
    }


def _dataset(group: Group, attributes: Mapping[str, Any]) -> xr.Dataset:
    """The group with coordinates that count from 0."""
    import xarray as xr

    coords = {
        dim: np.arange(size)
        for dims, array in group.variables.values()
        for dim, size in zip(dims, array.shape, strict=True)
    }
    return xr.Dataset(dict(group.variables), coords | dict(group.coords), dict(attributes))


def _container(datasets: Mapping[str, xr.Dataset], attributes: Mapping[str, Any]) -> Any:
    """All groups in what the installed ArviZ takes for its functions."""
    if arviz_major_version() < 1:
        return import_arviz().InferenceData(attrs=attributes, **datasets)
    import xarray as xr

    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **datasets})
