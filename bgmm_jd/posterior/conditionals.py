"""Marginal and conditional distributions of some features, averaged over the posterior."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.validation import as_columns, as_count, as_real_array
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.posterior.predictive_mixture import PredictiveMixture, predictive_mixture


@runs_tensorflow
def marginal(
    posterior: Posterior,
    features: Sequence[int | str],
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
) -> PredictiveMixture:
    """Return the posterior predictive distribution of some features, marginal over the others.

    Parameters
    ----------
    posterior : Posterior
    features : sequence of int or str
        Columns of X, counted from 0, or their names if the fit was to a data frame, in the order in
        which the result should have them.
    draws : int
        S, the number of draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture, without a leading axis.

    Raises
    ------
    TypeError, ValueError
        If `features` is empty, names a column twice, or names something that is not a column of X.

    See Also
    --------
    conditional : the distribution given values of the other features.
    """
    columns = as_columns(features, posterior.D, "features", posterior.feature_names)
    return _predictive(posterior, (), np.zeros(0), columns, draws, seed)


@runs_tensorflow
def conditional(
    posterior: Posterior,
    given: Mapping[int | str, Any],
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
) -> PredictiveMixture:
    """Return the posterior predictive distribution of the other features, given values of some.

    This is mixture regression, the distribution of y in a new row whose x is known:

    ::

        p(y given x) = p(x, y) / p(x),   p(x, y) = (1/S) sum_s p(x, y given theta_s)
                     = sum_s sum_k pi_sk(x) N(y; m_sk(x), C_sk)
        pi_sk(x) proportional to w_sk N(x; mu_sk, S_sk), over s and k together

    Draws of the posterior under which x is more probable have a larger weight, because x is part
    of the new row and informs theta as a row of the data would. For the same draws, the
    `log_density` of y given x is therefore exactly that of x and y together, minus that of x. If x
    is instead a design variable, whose value does not inform theta, all draws should have the same
    weight. The difference is small unless the posterior of theta is wide near x.

    Parameters
    ----------
    posterior : Posterior
    given : mapping of int or str to number or array-like [M]
        The value or values of each given column of X, counted from 0 or by its name, in the units
        of X. All arrays must have the same length and are read row by row; scalars are repeated for
        all rows.
    draws : int
        S, the number of draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture of the columns that are not given, in ascending order. It has a leading axis
    [M] if any value is an array.

    Raises
    ------
    TypeError, ValueError
        If `given` is not a mapping from columns of X to finite numbers, names no column or all of
        them, or has arrays of different lengths. The methods of the result raise ValueError if a
        value is so far from all components that its density underflows to zero.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"given must be a mapping of columns to values, such as {{0: 1.5}}; got {given!r}."
        )
    columns = as_columns(given, posterior.D, "given", posterior.feature_names)
    wanted = tuple(column for column in range(posterior.D) if column not in columns)
    if not wanted:
        raise ValueError(
            f"given must leave at least one feature out; it names all {posterior.D}. Use "
            "log_density for the density of whole rows."
        )
    return _predictive(posterior, columns, _as_values(given), wanted, draws, seed)


def _predictive(
    posterior: Posterior,
    given: tuple[int, ...],
    values: np.ndarray,
    wanted: tuple[int, ...],
    draws: int,
    seed: int,
) -> PredictiveMixture:
    components = draw_components(posterior, as_count(draws, "draws"), seed)
    budget = posterior.settings.memory.mixture
    names = posterior.feature_names
    return predictive_mixture(components, given, values, wanted, names=names, budget=budget)


def _as_values(given: Mapping[int | str, Any]) -> np.ndarray:
    """Return the given values as an array [*M, g], or raise."""
    arrays = {column: _as_value(value, f"given[{column!r}]") for column, value in given.items()}
    lengths = {column: len(array) for column, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"given must have arrays of one length; got the lengths {lengths} by column."
        )
    return np.stack(np.broadcast_arrays(*arrays.values()), axis=-1)


def _as_value(value: Any, name: str) -> np.ndarray:
    """Return a finite number, or an array [M] of them, or raise."""
    array = as_real_array(value, name)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(
            f"{name} must be a number or an array [M] with M > 0; got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; it has NaN or infinity. Drop such values.")
    return array
