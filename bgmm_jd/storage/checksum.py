"""A checksum at the end of a file: nothing of one that was cut short or altered is read.

Programs for the kind of file that stands before it read the file as any other: they do not look
beyond its last object.
"""

import hashlib

_MARK = b"bgmm_jd\n"  # before the checksum, at the end
_DIGEST = hashlib.sha256
_TAIL = len(_MARK) + _DIGEST().digest_size


def with_checksum(body: bytes) -> bytes:
    """Return the bytes of a file, followed by their checksum."""
    return body + _MARK + _DIGEST(body).digest()


def without_checksum(data: bytes) -> memoryview:
    """Return the bytes before the checksum.

    Raises
    ------
    ValueError
        If there is none, or it is not that of the bytes.
    """
    body = memoryview(data)[:-_TAIL]
    if data[-_TAIL : -_DIGEST().digest_size] != _MARK:
        raise ValueError(
            "it does not end as such a file does: it is cut short, or is of another program"
        )
    if _DIGEST(body).digest() != data[-_DIGEST().digest_size :]:
        raise ValueError("its checksum is not that of its contents: it is damaged or was altered")
    return body
