"""The bytes of a file: they come back, and whatever is changed in them is found."""

import hashlib
import io
import time

import h5py
import numpy as np
import pytest
import xarray as xr

from bgmm_jd.storage.container import Contents, from_bytes, to_bytes

ARRAYS = {
    "params.means.loc": np.arange(6.0).reshape(2, 3),
    "square": np.eye(3),
    "number": np.asarray(3),
    "strange \u03b1": np.array([np.nan, np.inf, -0.0], np.float32),
}
DATA = to_bytes(Contents("\u00e9{}", ARRAYS), {"K": 3, "elbo": np.nan, "title": "a \u03b1"})


def with_checksum(make):
    """Return the bytes of an HDF5 file that a function fills, with a right checksum."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        make(file)
    body = held.getvalue()
    return body + b"bgmm_jd\n" + hashlib.sha256(body).digest()


def test_contents_come_back():
    text, arrays = from_bytes(DATA)
    assert text == "\u00e9{}"
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].tobytes() == array.tobytes()
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)


def test_equal_contents_have_equal_bytes():
    """Whatever the time: those of `DATA` were written a second ago, or more."""
    time.sleep(1.1)
    attributes = {"K": 3, "elbo": np.nan, "title": "a \u03b1"}
    assert to_bytes(Contents("\u00e9{}", dict(ARRAYS)), attributes) == DATA


def test_other_programs_read_the_file(tmp_path):
    (tmp_path / "file.nc").write_bytes(DATA)
    with xr.open_dataset(tmp_path / "file.nc", engine="h5netcdf") as found:
        np.testing.assert_array_equal(found["params.means.loc"], ARRAYS["params.means.loc"])
        np.testing.assert_array_equal(found["square"], np.eye(3))
        assert found.attrs["title"] == "a \u03b1"
        assert found.attrs["K"] == 3


def test_every_one_of_500_changes_of_a_byte_is_found():
    rng = np.random.default_rng(0)
    for place in rng.integers(len(DATA), size=500):
        changed = bytearray(DATA)
        changed[place] ^= int(rng.integers(1, 256))
        with pytest.raises(ValueError, match=r"not a netCDF4 file|does not end|checksum"):
            from_bytes(bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 40, 100, len(DATA) // 2, len(DATA) - 1])
def test_file_that_was_cut_short_is_refused(length):
    with pytest.raises(ValueError, match=r"not a netCDF4 file|does not end"):
        from_bytes(DATA[:length])


def test_file_that_was_continued_is_refused():
    with pytest.raises(ValueError, match="does not end"):
        from_bytes(DATA + b"\0")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "no variable 'structure'"),
        (lambda file: file.create_dataset("a", (10**13,), "f8"), "claim 80,000,000,000,000 bytes"),
        (lambda file: file.create_dataset("a", (99,), "f8", chunks=(9,), compression=1), "as they"),
        (
            lambda file: file.create_dataset("a", (9,), "u1", external=[("/dev/zero", 0, 9)]),
            "as they",
        ),
        (lambda file: file.__setitem__("a", h5py.ExternalLink("other.nc", "a")), "not an array"),
        (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "not an array"),
        (lambda file: file.create_group("a"), "not an array"),
        (lambda file: file.create_dataset("a", data=["x"]), "not an array"),
        (lambda file: file.create_dataset("a", data=np.zeros(2, "f4,i4")), "not an array"),
    ],
)
def test_file_that_was_made_to_be_wrong_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        from_bytes(with_checksum(make))


def test_garbage_with_a_right_checksum_is_refused():
    body = b"\x89HDF\r\n\x1a\n" + bytes(range(256))
    with pytest.raises(ValueError, match="HDF5 cannot read it"):
        from_bytes(body + b"bgmm_jd\n" + hashlib.sha256(body).digest())
