"""Named arrays and a text as the bytes of an npz file that ends with a checksum.

It is written in a few milliseconds, as a file that is written again and again has to be, and read
without pickle. `numpy.load` reads it too.
"""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from bgmm_jd.storage.checksum import with_checksum, without_checksum
from bgmm_jd.storage.container import Contents

_ZIP = b"PK\x03\x04"  # the first bytes of a zip archive, which an npz file is
_TEXT = "structure"  # the array that holds the text


def to_npz(contents: Contents) -> bytes:
    """Return the bytes of a file, the same for the same contents."""
    arrays = {_TEXT: np.frombuffer(contents.text.encode(), np.uint8), **contents.arrays}
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return with_checksum(held.getvalue())


def from_npz(data: bytes) -> Contents:
    """Return what the bytes of a file hold.

    Raises
    ------
    ValueError
        If they are no such file, or have been changed.
    """
    if not data.startswith(_ZIP):
        raise ValueError("it is not an npz file")
    try:
        with np.load(io.BytesIO(without_checksum(data)), allow_pickle=False) as file:
            arrays: Mapping[str, np.ndarray] = {name: file[name] for name in file.files}
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is not an npz file: {error}") from error
    if _TEXT not in arrays:
        raise ValueError(f"it has no array {_TEXT!r}")
    text = arrays[_TEXT].tobytes().decode()
    return Contents(text, {name: v for name, v in arrays.items() if name != _TEXT})
