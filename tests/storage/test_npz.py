"""The bytes of an npz file: they come back, and whatever is changed in them is found."""

import io
import zipfile

import numpy as np
import pytest

from bgmm_jd.storage.checksum import with_checksum
from bgmm_jd.storage.container import Contents
from bgmm_jd.storage.npz import from_npz, to_npz

ARRAYS = {
    "state.runs.0.params.means.loc": np.arange(6.0).reshape(2, 3),
    "number": np.asarray(3),
    "file": np.array([True, False]),
    "strange \u03b1": np.array([np.nan, np.inf, -0.0], np.float32),
}
DATA = to_npz(Contents("\u00e9{}", ARRAYS))


def test_contents_come_back():
    text, arrays = from_npz(DATA)
    assert text == "\u00e9{}"
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].tobytes() == array.tobytes()
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)


def test_equal_contents_have_equal_bytes():
    assert to_npz(Contents("\u00e9{}", dict(ARRAYS))) == DATA


def test_numpy_reads_the_file(tmp_path):
    (tmp_path / "file.npz").write_bytes(DATA)
    with np.load(tmp_path / "file.npz", allow_pickle=False) as found:
        assert set(found.files) == {"structure", *ARRAYS}
        np.testing.assert_array_equal(found["number"], 3)


def test_every_one_of_200_changes_of_a_byte_is_found():
    rng = np.random.default_rng(0)
    for place in rng.integers(len(DATA), size=200):
        changed = bytearray(DATA)
        changed[place] ^= 1 + rng.integers(255)
        with pytest.raises(ValueError, match=r"npz file|checksum|does not end"):
            from_npz(bytes(changed))


def test_file_that_is_cut_short_anywhere_is_refused():
    for length in range(0, len(DATA), 37):
        with pytest.raises(ValueError, match=r"npz file|does not end"):
            from_npz(DATA[:length])


def test_arrays_of_objects_are_neither_written_nor_read():
    with pytest.raises(ValueError, match="Object arrays"):
        to_npz(Contents("", {"a": np.array([None])}))
    held = io.BytesIO()
    np.savez(held, structure=np.array([None]))
    with pytest.raises(ValueError, match="Object arrays"):
        from_npz(with_checksum(held.getvalue()))


def test_file_without_a_text_or_of_another_kind_is_refused():
    held = io.BytesIO()
    np.savez(held, a=np.eye(2))
    with pytest.raises(ValueError, match="no array 'structure'"):
        from_npz(with_checksum(held.getvalue()))
    with pytest.raises(ValueError, match="it is not an npz file"):
        from_npz(with_checksum(b"PK\x03\x04 and nothing that belongs to it"))


def with_member(data, compression=zipfile.ZIP_STORED):
    """Return the bytes of an npz file with a right checksum, whose only array has these bytes."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", compression) as archive:
        archive.writestr("structure.npy", data)
    return with_checksum(held.getvalue())


def npy_header(shape):
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        held, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return held.getvalue()


@pytest.mark.parametrize("shape", [(10**15,), (10**9, 10**9, 10**9), (3,)])
def test_array_that_claims_another_size_than_it_has_is_refused(shape):
    with pytest.raises(ValueError, match="claims an array"):
        from_npz(with_member(npy_header(shape) + b"{}"))


def test_array_that_is_compressed_is_refused():
    data = with_member(npy_header((10**7,)) + bytes(10**7), zipfile.ZIP_DEFLATED)
    assert len(data) < 10**5
    with pytest.raises(ValueError, match="is compressed"):
        from_npz(data)


def test_header_that_is_none_is_refused():
    for data in (b"", b"no header", b"\x93NUMPY\x03\x00\xff\xff\xff\x7f"):
        with pytest.raises(ValueError, match=r"magic|header of another version|npz file"):
            from_npz(with_member(data))
