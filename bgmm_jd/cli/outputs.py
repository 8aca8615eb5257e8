"""The files that the commands write."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bgmm_jd.cli.table import BadInput

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
    """Write a file, and say so."""
    try:
        save(path)
    except OSError as error:  # a full disk, a file that is open elsewhere
        raise BadInput(f"cannot write {path}: {error}") from None
    print(f"Wrote {path} ({what})", flush=True)
