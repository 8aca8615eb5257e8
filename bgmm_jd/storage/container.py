"""Named arrays and a text as the bytes of a netCDF4 file that ends with a checksum.

Nothing of a file that was cut short or altered is read, not even by the HDF5 library.
"""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import h5py
import numpy as np

from bgmm_jd.storage.checksum import with_checksum, without_checksum

_HDF5 = b"\x89HDF\r\n\x1a\n"  # the first bytes of any HDF5 file
_TEXT = "structure"  # the variable that holds the text
_AXIS = "size_"  # the names of dimensions, with their sizes


class Contents(NamedTuple):
    """What a file holds.

    text : str
    arrays : of numbers, by name; none has an axis of length 0.
    """

    text: str
    arrays: Mapping[str, np.ndarray]


def to_bytes(contents: Contents, attributes: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file, the same for the same contents.

    Parameters
    ----------
    contents : Contents
    attributes : strings and numbers for a reader who looks at the file. They are not read again.
    """
    import h5netcdf  # late: it takes long to import, and only saving needs it

    held = io.BytesIO()
    text = np.frombuffer(contents.text.encode(), "S1")
    # Where HDF5 tracks the order in which objects were made, it notes the time too.
    with h5netcdf.File(held, "w", track_order=False) as file:
        file.attrs.update(attributes)
        for name, array in {_TEXT: text, **contents.arrays}.items():
            dims = _dimensions(array.shape)
            for dim, size in zip(dims, array.shape, strict=True):
                if dim not in file.dimensions:
                    file.dimensions[dim] = size
            file.create_variable(name, dims, array.dtype, data=array)
    return with_checksum(held.getvalue())


def _dimensions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the axes of an array: xarray needs distinct ones for equal sizes."""
    before = [shape[:axis].count(size) for axis, size in enumerate(shape)]
    pairs = zip(shape, before, strict=True)
    return tuple(f"{_AXIS}{size}" + (f"_{number}" if number else "") for size, number in pairs)


def from_bytes(data: bytes) -> Contents:
    """Return what the bytes of a file hold.

    Raises
    ------
    ValueError
        If they are no such file, or have been changed.
    """
    if not data.startswith(_HDF5):
        raise ValueError("it is not a netCDF4 file")
    body = without_checksum(data)
    with _readable(data) as file:
        return _contents(file, len(body))


@contextmanager
def _readable(data: bytes) -> Iterator[h5py.File]:
    """Open a file whose checksum is right."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    except ValueError:
        raise
    except Exception as error:  # HDF5 reports a file that was made wrong in any of ten ways
        raise ValueError(f"HDF5 cannot read it: {error}") from error


def _contents(file: h5py.File, size: int) -> Contents:
    variables = {name: _plain_variable(file, name) for name in file if not name.startswith(_AXIS)}
    declared = sum(math.prod(v.shape) * v.dtype.itemsize for v in variables.values())
    if declared > size:
        raise ValueError(f"its arrays claim {declared:,} bytes, and it has {size:,}")
    arrays = {name: np.asarray(variable[()]) for name, variable in variables.items()}
    if _TEXT not in arrays:
        raise ValueError(f"it has no variable {_TEXT!r}")
    return Contents(arrays.pop(_TEXT).tobytes().decode(), arrays)


def _plain_variable(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a variable whose numbers are in the file itself, one after the other, or raise.

    So they are written; others may take numbers from other files, or decompress to any size.
    """
    is_hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
    found = file[name] if is_hard else None
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "Siuf":
        raise ValueError(f"{name!r} in it is not an array of numbers")
    if found.chunks is not None or found.is_virtual or found.external:
        raise ValueError(f"the numbers of {name!r} are not stored in it as they are")
    return found
