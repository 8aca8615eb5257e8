"""A folder of complete fits, so that a sweep that is repeated makes only those that it lacks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tensorflow_probability import distributions as tfd

from bgmm_jd.fitting.identity import digest_of, identity_of
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage.files import as_path
from bgmm_jd.storage.prior_record import is_own
from bgmm_jd.storage.saving import load, save


class FitCache(NamedTuple):
    """Where the fits of the same rows under the same options are kept.

    folder : Path
    arguments : those of `fit` that they share, by name.
    """

    folder: Path
    arguments: Mapping[str, Any]

    def fit_of(
        self,
        K: int,
        form: str,
        prior: tfd.JointDistributionCoroutine | None,
        make: Callable[[], Posterior],
    ) -> Posterior:
        """Return the fit of one combination: that in the folder, or else a new one, which is kept.

        Parameters
        ----------
        K, form, prior : of the fit.
        make : makes it.
        """
        own = {"K": K, "covariance": form, "prior": prior}
        digest = digest_of(identity_of({**self.arguments, **own}))
        path = self.folder / f"K{K}-{form}-{digest}.nc"
        if path.exists():
            return _loaded(path, prior if prior is not None and is_own(prior) else None)
        posterior = make()
        save(posterior, path)
        return posterior


def open_cache(cache: Any, arguments: Mapping[str, Any]) -> FitCache:
    """Return the cache in a folder, which is made if it does not exist.

    Raises
    ------
    TypeError
        If `cache` is no path, or an argument is of a kind by which no fit is recognised.
    OSError
        If the path is that of a file, or the folder cannot be made.
    """
    folder = as_path(cache, "cache")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cache must be a folder; {folder} is a file.")
    identity_of(arguments)  # so that one that has no digest is an error before the first fit
    folder.mkdir(parents=True, exist_ok=True)
    return FitCache(folder, arguments)


def _loaded(path: Path, own: tfd.JointDistributionCoroutine | None) -> Posterior:
    try:
        return load(path, prior=own)
    except ValueError as error:
        raise ValueError(f"{error} Delete the file, and select fits it again.") from error
