"""What a fit was made with, so that it can be made again."""

from typing import NamedTuple


class Provenance(NamedTuple):
    """The call of a fit, and what ran it.

    call : Python, such as "bgmm_jd.fit(X, K=2, covariance='full', seed=0)". X and other arguments
        that are no numbers or texts stand for themselves, and defaults are left out.
    versions : of the libraries and of Python.
    """

    call: str
    versions: tuple[str, ...]
