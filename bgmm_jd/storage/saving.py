"""`save` and `load`: a posterior in a file."""

import os

from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage.encoding import decode, encode
from bgmm_jd.storage.files import as_path, write_whole
from bgmm_jd.storage.without_rows import without_rows


@runs_tensorflow
def save(posterior: Posterior, path: str | os.PathLike[str], *, keep_rows: bool = True) -> None:
    """Write a posterior to a file, from which `load` makes the same posterior again.

    ::

        bgmm_jd.save(posterior, "mixture.nc")
        posterior = bgmm_jd.load("mixture.nc")

    Draws, predictions, comparisons and exports of the loaded posterior are equal to those of the
    saved one bit by bit, on the same machine with the same versions.

    Parameters
    ----------
    posterior : Posterior
    path : str or os.PathLike
        A netCDF4 file. An existing file is replaced at once when the new one is complete; if that
        fails, it stays as it was.
    keep_rows : bool
        Whether the file holds the rows of the fit, standardised, with their weights and missing
        entries. Importance weights are computed from the rows, and so is whatever depends on them.
        Without rows, the file has 4,000 draws of the posterior instead where its draws are
        weighted (`posterior.method` is "mixture" or "importance"), and `sample` draws from these,
        each as often as every other. `predict`, `log_density`, `conditional`, `impute` and the
        plots of given rows work as before, and `to_inference_data` leaves out the
        group `sample_stats`. `compare`, `occupied_components` and, after a calibrated fit,
        `to_inference_data(..., chains="restarts")` need the rows, and raise a ValueError that says
        so.

    Raises
    ------
    TypeError
        If an argument is not of its type.
    OSError
        If the folder does not exist, the path is a folder, or the file cannot be written.

    Notes
    -----
    The file has no code. A prior of `mixture_prior`, `stick_breaking_prior` or `default_prior` is
    made again of its arguments. Of a coroutine of your own it keeps a few draws with their log
    density, by which `load` recognises it.

    `pickle`, joblib and Dask take a posterior too, as the bytes of such a file. A coroutine of your
    own must then be a function of a module, which pickle finds by its name.
    """
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior must be a Posterior; got {type(posterior).__name__}.")
    if not isinstance(keep_rows, bool):
        raise TypeError(f"keep_rows must be True or False; got {keep_rows!r}.")
    target = as_path(path)
    write_whole(target, encode(posterior if keep_rows else without_rows(posterior)))


@runs_tensorflow
def load(
    path: str | os.PathLike[str], prior: tfd.JointDistributionCoroutine | None = None
) -> Posterior:
    """Read the posterior that `save` has written.

    Parameters
    ----------
    path : str or os.PathLike
    prior : tfd.JointDistributionCoroutine, optional
        The prior of the fit, if it was a coroutine of your own; otherwise it must be left out.

    Returns
    -------
    Posterior

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file was not written by `save`, is damaged, or is of a newer version; if it needs
        `prior`, or `prior` has other variables or another log density than that of the fit.
    TypeError
        If an argument is not of its type.
    """
    source = as_path(path)
    if not isinstance(prior, tfd.JointDistributionCoroutine | None):
        raise TypeError(
            f"prior must be a tfd.JointDistributionCoroutine; got {type(prior).__name__}."
        )
    return decode(source.read_bytes(), prior, str(source))
