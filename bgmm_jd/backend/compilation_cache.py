"""Compiled programs kept on disk, so that the next process does not compile them again. Opt-in.

The cache is TensorFlow's own, which is told where it is by an environment variable that it reads
once, when it starts. What is in it is machine code: whoever can write to the folder can run
anything as the user who reads it. So the folder must be the user's own.
"""

import hashlib
import os
import platform
import stat
from pathlib import Path

import tensorflow as tf
from tensorflow.python.eager import context

_VARIABLE = "TF_XLA_FLAGS"
_FLAG = "--tf_xla_persistent_cache_directory="


def keep_compiled(folder: str | os.PathLike[str]) -> None:
    """Keep compiled programs in a folder, and use those that are there.

    Call it before anything of TensorFlow's runs, a fit or a prior: it is for the whole process.
    The first fit of every later process is then about two fifths shorter.

    Parameters
    ----------
    folder : path
        Made for the user alone if it does not exist. Each version of TensorFlow and each kind of
        processor has a folder of its own in it; all may be deleted at any time.

    Raises
    ------
    ValueError
        If others than the user may write to the folder: it is going to hold machine code.
    RuntimeError
        If TensorFlow has started without it.
    """
    path = Path(folder).expanduser().absolute()
    inner = path / _platform_name()
    if " " in str(path):
        raise ValueError(f"folder must have no blanks in its path, for TensorFlow; got {path}.")
    flags = os.environ.get(_VARIABLE, "").split()
    if f"{_FLAG}{inner}" in flags:
        return
    if _has_started():
        raise RuntimeError(
            "keep_compiled must be called before TensorFlow starts, and it has. Call it right "
            "after the imports."
        )
    for part in (path, inner):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ownership(part)
    others = [flag for flag in flags if not flag.startswith(_FLAG)]
    os.environ[_VARIABLE] = " ".join([*others, f"{_FLAG}{inner}"])


def is_enabled() -> bool:
    """Whether programs are kept on disk."""
    return _FLAG in os.environ.get(_VARIABLE, "")


def _check_ownership(folder: Path) -> None:
    found = folder.stat()
    if not hasattr(os, "getuid"):  # Windows, whose permissions are inherited from the user's own
        return
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(
            f"folder must belong to you and be writable by nobody else, as it holds programs; got "
            f"{folder} with mode {stat.filemode(found.st_mode)}. Try `chmod go-w {folder}`, or "
            "another folder."
        )


def _has_started() -> bool:
    """Private, as all that is public and could tell would start it."""
    return context.context()._context_handle is not None


def _platform_name() -> str:
    """A name for what programs are compiled by and for: TensorFlow and the processor's features."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features"))} or lines)
    digest = hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()
    return f"tensorflow-{tf.__version__}-{digest[:12]}"
