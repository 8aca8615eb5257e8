"""Rows in float64 under a prior in float32, in which the smallest weights underflow."""

import re
import warnings

import numpy as np
import pytest
from emptying_priors import CENTRES, K_MAX, D, emptying_prior, four_clusters

import bgmm_jd
from bgmm_jd.optimization.status import Status

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("execution", ["graph", "xla"])
@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_float64_rows_under_a_float32_prior_reach_the_optimum_of_float32_rows(name, execution):
    """The prior's dtype has no weight below 1e-38.

    Both fits begin with the largest clusters first and eight empty components, and both converge.
    The difference of their elbos is within five standard errors, plus what a converged fit may
    be below the optimum.
    """
    prior = emptying_prior(name)
    far = 40.0 + np.arange(K_MAX - 4)[:, np.newaxis] * np.ones(D)
    init = np.concatenate([CENTRES[::-1], far])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(str(Status.KHAT_TOO_HIGH)), RuntimeWarning)
        wide, narrow = (
            bgmm_jd.fit(
                four_clusters().astype(dtype),
                K_MAX,
                prior=prior,
                init=init,
                execution=execution,
                progress=False,
            )
            for dtype in (np.float64, np.float32)
        )
    assert wide.restarts[0].status is narrow.restarts[0].status is Status.CONVERGED
    allowed = 5.0 * np.hypot(wide.elbo_se, narrow.elbo_se) + 0.05
    assert abs(wide.elbo - narrow.elbo) < allowed
