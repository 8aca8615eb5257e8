"""An opt-in cache of compiled programs on disk, so that later processes need not compile them.

The cache is TensorFlow's own. TensorFlow reads its folder from an environment variable, once, when
it starts. The cache holds machine code: whoever can write to the folder can run any program as the
user who reads it. The folder must therefore belong to the user.
"""

import hashlib
import os
import platform
import stat
from pathlib import Path

import tensorflow as tf
from tensorflow.python.eager import context

_FLAGS_VARIABLE = "TF_XLA_FLAGS"
_CACHE_FLAG = "--tf_xla_persistent_cache_directory="


def keep_compiled(folder: str | os.PathLike[str]) -> None:
    """Store compiled programs in a folder, and reuse those that are already there.

    Call it before TensorFlow runs anything, such as a fit or a prior; it applies to the whole
    process. The first fit of each later process then takes about two fifths less time.

    Parameters
    ----------
    folder : path
        Created with access for the user only if it does not exist. It gets a subfolder for each
        version of TensorFlow and each type of processor; all of them may be deleted at any time.

    Raises
    ------
    ValueError
        If the folder, which will hold machine code, does not belong to the user or others may
        write to it; or if its path has blanks.
    RuntimeError
        If TensorFlow has already started without this cache.
    """
    path = Path(folder).expanduser().absolute()
    inner = path / _platform_name()
    if " " in str(path):
        raise ValueError(
            "folder must have no blanks in its path, because TensorFlow splits its flags there; "
            f"got {path}. Try another folder."
        )
    flags = os.environ.get(_FLAGS_VARIABLE, "").split()
    if f"{_CACHE_FLAG}{inner}" in flags:
        return
    if tensorflow_has_started():
        raise RuntimeError(
            "keep_compiled must be called before TensorFlow starts, but TensorFlow has started. "
            "Call it right after the imports."
        )
    for part in (path, inner):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ownership(part)
    others = [flag for flag in flags if not flag.startswith(_CACHE_FLAG)]
    os.environ[_FLAGS_VARIABLE] = " ".join([*others, f"{_CACHE_FLAG}{inner}"])


def is_enabled() -> bool:
    """Return whether compiled programs are stored on disk."""
    return _CACHE_FLAG in os.environ.get(_FLAGS_VARIABLE, "")


def tensorflow_has_started() -> bool:
    """Return whether TensorFlow's runtime has started, after which it reads no more flags.

    This reads a private attribute of TensorFlow, because every public function that could answer
    would itself start the runtime.
    """
    return context.context()._context_handle is not None


def _check_ownership(folder: Path) -> None:
    status = folder.stat()
    if not hasattr(os, "getuid"):  # Windows: permissions are inherited from the user's own folders
        return
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(
            "folder must belong to you and be writable by nobody else, because it holds programs; "
            f"got {folder} with mode {stat.filemode(status.st_mode)}. "
            f"Try `chmod go-w {folder}`, or another folder."
        )


def _platform_name() -> str:
    """Return a name for the version of TensorFlow and the features of the processor.

    A compiled program is valid for one combination of the two.
    """
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features"))} or lines)
    digest = hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()
    return f"tensorflow-{tf.__version__}-{digest[:12]}"
