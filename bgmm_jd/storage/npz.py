"""Named arrays and a text as the bytes of an npz file that ends with a checksum.

It is written in a few milliseconds, as a file that is written again and again has to be, and read
without pickle. `numpy.load` reads it too.
"""

import io
import math
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
        body = io.BytesIO(without_checksum(data))
        with zipfile.ZipFile(body) as archive:
            for member in archive.infolist():
                _check_member(archive, member, len(data))
        body.seek(0)
        with np.load(body, allow_pickle=False) as file:
            arrays: Mapping[str, np.ndarray] = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is not an npz file: {error}") from error
    if _TEXT not in arrays:
        raise ValueError(f"it has no array {_TEXT!r}")
    text = arrays[_TEXT].tobytes().decode()
    return Contents(text, {name: v for name, v in arrays.items() if name != _TEXT})


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> None:
    """Raise ValueError if an array is not stored as it is, or claims another size than it has.

    NumPy makes room for what an array claims before it reads its numbers.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
        raise ValueError(f"{member.filename!r} in it is compressed, or longer than the file")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):  # that of arrays of plain numbers
            raise ValueError(f"{member.filename!r} in it has a header of another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        has = member.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename!r} in it has no numbers: Object arrays are not read")
    if math.prod(shape) * dtype.itemsize != has:
        raise ValueError(
            f"{member.filename!r} in it claims an array {list(shape)} of {dtype}, and has {has:,} "
            "bytes"
        )
