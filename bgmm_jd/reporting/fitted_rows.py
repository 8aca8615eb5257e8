"""The rows of a fit, in the units of X."""

import numpy as np

from bgmm_jd.data.rows import observed_mask
from bgmm_jd.data.units import Transformation, unstandardize
from bgmm_jd.posterior.posterior import Posterior


def fitted_rows(posterior: Posterior) -> np.ndarray:
    """Return the rows that a posterior was fitted to, up to rounding, without those of weight 0.

    Returns
    -------
    array [N, D], in the dtype of the fit; NaN where a value is missing. A constant column that the
        fit has not read is complete.

    Raises
    ------
    ValueError
        If the posterior was saved without its rows.
    """
    data = posterior.problem.data
    rows = data.rows
    values = unstandardize(
        Transformation.LOCATION, rows.values.astype(np.float64), data.standardization
    )
    mask = observed_mask(rows)
    if mask is not None:
        unread = np.zeros(posterior.D, bool) if data.unread is None else data.unread
        values = np.where((np.asarray(mask) > 0) | unread, values, np.nan)
    return np.asarray(values, posterior.dtype)
