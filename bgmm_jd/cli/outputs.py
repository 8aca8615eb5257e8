"""The files that the commands write."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bgmm_jd.cli.messages import errors_of_input, say, tell
from bgmm_jd.cli.table import BadInput

_CHUNK = 2**20  # bytes
_FIGURES = (".png", ".pdf", ".svg")


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file of the same name with another ending."""
    return path.parent / (path.stem + ending)


def check_outputs(outputs: Iterable[Path], sources: Iterable[Path] = ()) -> None:
    """Check before any computation that its results can be written, over no input."""
    outputs = list(outputs)
    for path in outputs:
        parent = path.parent
        if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
            raise BadInput(f"cannot write {path}: its directory must exist and be writable.")
    taken = [path.resolve() for path in (*outputs, *sources)]
    if len(set(taken)) != len(taken):
        raise BadInput("the files to read and to write must all be different files.")


def check_figure(path: Path) -> None:
    """Check that a figure has a format that can be written."""
    if path.suffix.lower() not in _FIGURES:
        raise BadInput(f"cannot write {path}: its name must end in {_FIGURES}.")


def write(save: Callable[[Path], Any], path: Path, what: str) -> None:
    """Write a file, which takes the place of an older one when it is complete, and say so."""
    target = Path(os.path.realpath(path))  # a link stays one, to the new file
    try:
        if target.exists() and not target.is_file():  # a device, which nothing can replace
            save(path)
        else:
            _replace(save, target)
    except OSError as error:  # a full disk, a file that is open elsewhere
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None
    tell(f"Wrote {path} ({what})")


def _replace(save: Callable[[Path], Any], target: Path) -> None:
    """Save to a file beside the target, which then takes its place at once."""
    beside = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    try:
        save(beside)
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except OSError as error:
        text = (error.strerror or str(error)).replace(str(beside), str(target))
        raise OSError(error.errno, text) from error
    finally:
        beside.unlink(missing_ok=True)


def write_netcdf(idata: Any, path: Path, what: str) -> None:
    """Write an InferenceData or a DataTree, as `write` does.

    Room for it is made sure of beforehand: HDF5 may crash the process where it cannot write all of
    a file.
    """

    def save(target: Path) -> None:
        _fill(target, _size_of(idata))
        idata.to_netcdf(target)

    write(save, path, what)


def _size_of(idata: Any) -> int:
    """Return the number of bytes of the arrays of an InferenceData or a DataTree."""
    is_tree = hasattr(idata, "nbytes")
    return int(idata.nbytes if is_tree else sum(group.nbytes for group in idata.values()))


def _fill(target: Path, size: int) -> None:
    """Write at least so many bytes, which the file itself is to replace."""
    with open(target, "wb") as file:
        for _ in range(1 + -(-size // _CHUNK)):  # one for what netCDF says of the arrays
            file.write(bytes(_CHUNK))
        file.flush()
        os.fsync(file.fileno())  # some file systems notice only then


def write_figure(draw: Callable[[], Any], path: Path, what: str) -> None:
    """Write the figure of pyplot's that `draw` returns; say why there is none if it cannot."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")  # which opens no window
    try:
        with errors_of_input():
            figure = draw()
    except BadInput as error:
        say(f"note: no figure: {error}")
    else:
        write(figure.savefig, path, what)
        pyplot.close(figure)
