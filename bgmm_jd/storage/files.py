"""Files that are written whole or not at all."""

import os
import secrets
import shutil
from pathlib import Path
from typing import Any


def as_path(path: Any, name: str = "path") -> Path:
    """Return a path, the argument of that name, as a `Path`, or raise TypeError."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(
            f"{name} must be a str or an os.PathLike of one; got {type(path).__name__}."
        )
    return Path(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write bytes to a file beside the target, which then takes its place at once.

    Whatever goes wrong, the target is as it was before, and nothing is left beside it; only where
    the process is killed (SIGKILL) or the machine stops, a file `.*.tmp` may stay, to be deleted.

    Raises
    ------
    OSError
        If the folder does not exist, the target is no regular file, or it cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays one, to the new file
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; make it first.")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it.")
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file; give the name of one.")
    beside = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a crash soon after may leave the new name without data
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except OSError as error:
        raise type(error)(error.errno, f"{path} cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
