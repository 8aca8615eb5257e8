"""The memory of this process, on Linux."""

import mmap
from pathlib import Path


def resident() -> float:
    """Return the resident memory of the process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE / 2**20
