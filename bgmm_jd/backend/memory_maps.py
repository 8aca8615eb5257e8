"""Memory maps of the process, of which Linux allows a limited number.

XLA keeps each kernel that it has compiled in several maps of its own until the process ends: 160
maps for a program of 40 sums over 64 x 33 numbers (counted once). At the limit LLVM ends the
process, with "Unable to allocate section memory" or a segmentation fault.
"""

import warnings
from pathlib import Path

from bgmm_jd.backend.execution import Execution

MAPS = Path("/proc/self/maps")
LIMIT = Path("/proc/sys/vm/max_map_count")
# Programs for a new shape take 600 to 3,000 maps, and the usual limit is 65,530.
_LARGEST_SHARE = 0.8


class MemoryMapsWarning(RuntimeWarning):
    """The process has so many memory maps that further compiled programs could end it."""


def within_memory_maps(execution: Execution, *, stacklevel: int) -> Execution:
    """Return the mode of execution, or "graph" where XLA could end the process.

    With a `MemoryMapsWarning`. Where the system does not tell, as outside Linux, it is the mode
    that is given.

    Parameters
    ----------
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    if execution != "xla":
        return execution
    try:
        used, limit = MAPS.read_bytes().count(b"\n"), int(LIMIT.read_text())
    except (OSError, ValueError):
        return execution
    if used <= _LARGEST_SHARE * limit:
        return execution
    warnings.warn(
        f"This process has {used:,} memory maps, nearly all of them of compiled programs, and the "
        f"system allows {limit:,}; at that number XLA ends the process. The fit runs with "
        "execution='graph', which takes several times as long. Go on in a new process, or raise "
        "the limit as root: sysctl -w vm.max_map_count=1000000.",
        MemoryMapsWarning,
        stacklevel=stacklevel + 1,
    )
    return "graph"
