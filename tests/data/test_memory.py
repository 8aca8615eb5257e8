"""What preparing rows for a fit takes of memory, in a process of its own."""

import subprocess
import sys

import pytest

# 128 MiB of rows. What is made of them is kept, as a fit keeps it: 1 for the standardised rows, and
# 1.125 for those dealt to slices, with weights.
PREPARE = """
import sys
import numpy as np
import tensorflow as tf
from bgmm_jd.data.rows import as_shared_tensors, deal_to_slices
from bgmm_jd.data.standardize import standardize

def peak():  # not `ru_maxrss`, which begins with what the parent process has
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

dtype, units = sys.argv[1:]
size = 2**27 // (8 * np.dtype(dtype).itemsize)
X = np.random.default_rng(0).standard_normal((size, 8), dtype)
standardize(X[:1000], units=units)
as_shared_tensors(deal_to_slices(standardize(X[:1000]).rows, 127, 1, 8))
before = peak()
data = standardize(X, units=units)
rows = as_shared_tensors(deal_to_slices(data.rows, 127, 1, -(-size // 127), transposed=True))
print((peak() - before) / X.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("dtype", "units"),
    [
        ("float32", "columns"),
        pytest.param("float32", "upper", marks=pytest.mark.slow),
        pytest.param("float64", "columns", marks=pytest.mark.slow),
    ],
)
def test_prepared_rows_take_two_and_a_half_times_x_at_most(dtype, units):
    """Whole float64 copies of float32 rows, as one of them was before, would take 2 X more each."""
    run = [sys.executable, "-W", "ignore", "-c", PREPARE, dtype, units]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 2.0 < float(done.stdout.split()[-1]) < 2.5
