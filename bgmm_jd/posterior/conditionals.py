"""Some features by themselves, or given others: mixture regression, averaged over the posterior."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bgmm_jd.data.validation import as_columns, as_count
from bgmm_jd.posterior.posterior import Posterior, draw_components
from bgmm_jd.posterior.predictive_mixture import (
    PredictiveMixture,
    as_real_array,
    predictive_mixture,
)


def marginal(
    posterior: Posterior, features: Sequence[int], draws: int = 200, seed: int = 0
) -> PredictiveMixture:
    """The posterior predictive distribution of some of the features, the others summed out.

    Parameters
    ----------
    posterior : Posterior
    features : sequence of int
        Columns of X, counted from 0, in the order wanted.
    draws : int
        S, how many draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture, without a leading axis.

    Raises
    ------
    TypeError, ValueError
        If `features` are not columns of X, or name none, or one twice.

    See Also
    --------
    conditional : given values of the others.
    """
    columns = as_columns(features, posterior.D, "features")
    components = draw_components(posterior, as_count(draws, "draws"), seed)
    return predictive_mixture(components, (), np.zeros(0), columns)


def conditional(
    posterior: Posterior, given: Mapping[int, Any], draws: int = 200, seed: int = 0
) -> PredictiveMixture:
    """The posterior predictive distribution of the other features, given values of some.

    Mixture regression: the distribution of y in a new row whose x is known,

    ::

        p(y given x) = p(x, y) / p(x),   p(x, y) = (1/S) sum_s p(x, y given theta_s)
                     = sum_s sum_k pi_sk(x) N(y; m_sk(x), C_sk)
        pi_sk(x) proportional to w_sk N(x; mu_sk, S_sk), over s and k together

    A draw of the posterior under which x is more probable counts for more: x is a part of the new
    row, and tells about theta as a row of the data would. Hence, of the same draws,
    `log_density` of x and y together, less that of x, is exactly that of y given x.
    Where x is an input set from outside, that tells nothing about theta, each draw would count the
    same; the difference is small unless the rows of the fit left theta in doubt near x.

    Parameters
    ----------
    posterior : Posterior
    given : mapping of int to number or array-like [M]
        Column of X, counted from 0, to its value or values, in the units of X. Arrays have one
        length, and are read row by row; a scalar beside them counts for all rows.
    draws : int
        S, how many draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture of the columns not given, in ascending order; with a leading axis [M] if any
    value is an array.

    Raises
    ------
    TypeError, ValueError
        If `given` is not a mapping from columns of X to finite numbers, or names none or all of
        them, or its arrays differ in length. From the methods of the result, if a value is so far
        from all components that its density cannot be told from zero.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"given must be a mapping of columns to values, as {{0: 1.5}}; got {given!r}."
        )
    columns = as_columns(given, posterior.D, "given")
    wanted = tuple(column for column in range(posterior.D) if column not in columns)
    if not wanted:
        raise ValueError(f"given must leave a feature out; it names all {posterior.D}.")
    values = _as_values(given)
    components = draw_components(posterior, as_count(draws, "draws"), seed)
    return predictive_mixture(components, columns, values, wanted)


def _as_values(given: Mapping[int, Any]) -> np.ndarray:
    """Return the values given as an array [*M, g], or raise."""
    arrays = {column: _as_value(value, f"given[{column}]") for column, value in given.items()}
    lengths = {column: len(array) for column, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"given must have arrays of one length; got {lengths} by column.")
    return np.stack(np.broadcast_arrays(*arrays.values()), axis=-1)


def _as_value(value: Any, name: str) -> np.ndarray:
    """Return a finite number or a vector of them, or raise."""
    array = as_real_array(value, name)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be a number or an array [M]; got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; it holds NaN or infinity.")
    return array
