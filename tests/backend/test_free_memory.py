"""Memory that has been freed is given back to the system."""

import platform

import numpy as np
import pytest
from resident_memory import resident

from bgmm_jd.backend.free_memory import return_free_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps nothing")
def test_freed_memory_is_given_back():
    """Of 3,000 arrays of 62 KiB, the last holds the end of the heap: 183 MiB."""
    arrays = [np.ones(8_000) for _ in range(3_000)]
    last = arrays.pop()
    arrays.clear()
    before = resident()
    return_free_memory()
    assert last.sum() == 8_000
    assert resident() < before - 100.0
