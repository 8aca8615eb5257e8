"""Writing that fails as on a full disk: no file of this process may grow beyond a size."""

import contextlib
import resource


@contextlib.contextmanager
def no_file_longer_than(size):
    """Let writes beyond a size fail with EFBIG; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
