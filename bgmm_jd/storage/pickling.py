"""How a posterior is pickled: as the bytes of a file, beside the code of a prior of the user's own.

TFP's joint distributions cannot be pickled, and so no posterior as it is.
"""

import copyreg
import functools
import pickle
from collections.abc import Callable
from typing import Any

from tensorflow_probability import distributions as tfd

from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage.encoding import decode, encode
from bgmm_jd.storage.prior_record import is_own


def restore(data: bytes, function: Callable[[], Any] | None) -> Posterior:
    """Return the posterior of the bytes of a file.

    Parameters
    ----------
    data : bytes
    function : of the prior's coroutine, if it is the user's own.
    """
    prior = None if function is None else _prior_of_function(function)
    return decode(data, prior, "the pickled posterior")


def register() -> None:
    """Tell pickle, and whatever builds on it, how a posterior is pickled."""
    copyreg.pickle(Posterior, _reduced)


def _reduced(posterior: Posterior) -> tuple[Callable[..., Posterior], tuple[Any, ...]]:
    function = _picklable_function(posterior.prior) if is_own(posterior.prior) else None
    return restore, (encode(posterior), function)


def _picklable_function(prior: tfd.JointDistributionCoroutine) -> Callable[[], Any]:
    try:
        pickle.dumps(prior.model)
        hash(prior.model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise pickle.PicklingError(
            "the posterior was fitted under a prior of your own whose coroutine cannot be pickled: "
            f"{error}. Define the function at the top of a module, or use bgmm_jd.save and "
            "bgmm_jd.load(path, prior=...)."
        ) from error
    return prior.model


@functools.lru_cache(maxsize=64)
def _prior_of_function(function: Callable[[], Any]) -> tfd.JointDistributionCoroutine:
    """Return one prior for each function, by which compiled programs are cached."""
    return tfd.JointDistributionCoroutine(function)
