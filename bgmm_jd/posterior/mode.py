"""One of the solutions that the runs of a fit converged to."""

from typing import NamedTuple

from bgmm_jd.variational.approximation import Region


class Mode(NamedTuple):
    """One of the solutions that runs converged to.

    Attributes
    ----------
    share : float
        Posterior probability of being nearer to it than to the others; NaN if it is not known.
    log_evidence : float
        Of that part of the posterior, in nats and the units of X; NaN if it is not known.
    elbo : float
        Of the surrogate there, from the noisy ones of steps.
    khat : float
        Of the importance weights of its draws; NaN if it is not known.
    starts : int
        Number of starts that led to it.
    region : Region, or None
        The part of the posterior that `at_mode` draws from; None if it is not known.
    """

    share: float
    log_evidence: float
    elbo: float
    khat: float
    starts: int
    region: Region | None = None
