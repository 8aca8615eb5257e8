"""How much a file may grow when it is read: a small one may claim to hold any number of values."""

import zlib
from pathlib import Path

from bgmm_jd.cli.table import BadInput

# Bytes up to which anything is read, and how many times as long as the file the rest may be: gzip
# makes tables 3 to 30 times shorter, and a file of equal bytes 1,000 times.
PLAIN = 2**28
GROWTH = 100
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def check_growth(path: Path, stored: int, claimed: int) -> None:
    """Raise BadInput if a file is too short for what it claims to hold.

    Parameters
    ----------
    stored, claimed : bytes of the file, and in memory.
    """
    if claimed > max(PLAIN, GROWTH * stored):
        raise BadInput(
            f"cannot read {path}: it has {stored:,} bytes, and what it holds would take "
            f"{claimed:,} or more. If that is right, decompress it, or write it as CSV."
        )


def decompressed(path: Path, data: bytes) -> bytes:
    """Return what the bytes of a gzip file hold, or raise BadInput before it fills the memory.

    Raises
    ------
    EOFError, zlib.error
        If it is damaged.
    """
    most = max(PLAIN, GROWTH * len(data))
    parts: list[bytes] = []
    size, rest = 0, data
    while rest.strip(b"\0"):  # of one gzip file after the other, and zeros that may follow
        member = zlib.decompressobj(_GZIP_WINDOW)
        parts.append(member.decompress(rest, most + 1 - size))
        size += len(parts[-1])
        check_growth(path, len(data), size)
        if not member.eof:
            raise EOFError("it ends before its end-of-stream marker")
        rest = member.unused_data
    return b"".join(parts)
