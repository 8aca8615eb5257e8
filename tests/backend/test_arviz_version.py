"""The version of ArviZ is recognised, and its import is late and quiet."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz

pytestmark = pytest.mark.contract


def test_major_version_is_that_of_the_installed_package():
    assert str(arviz_major_version()) == importlib.metadata.version("arviz").split(".")[0]
    assert import_arviz().__name__ == "arviz"


def test_arviz_is_imported_late_and_without_its_daily_notice(tmp_path):
    """`import bgmm_jd` works without ArviZ, whose notice is no error where warnings are errors.

    Its absence is simulated, because TensorFlow itself imports matplotlib where it is installed.
    """
    program = """
import sys, warnings
absent = ["arviz", "arviz_base", "arviz_stats", "xarray", "h5netcdf", "matplotlib"]
sys.modules.update(dict.fromkeys(absent))
import bgmm_jd, bgmm_jd.backend.arviz_version
for name in absent:
    del sys.modules[name]
warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib 3.8 with a newer pyparsing
bgmm_jd.backend.arviz_version.import_arviz()
"""
    # With an empty cache directory the notice has not been given today.
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
