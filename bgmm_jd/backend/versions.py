"""The versions that the numbers of a fit depend on."""

import platform
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bgmm_jd._version import __version__


def library_versions() -> Mapping[str, str]:
    """Return the versions of this library and of those that it computes with, by name."""
    return {
        "bgmm_jd": __version__,
        "tensorflow": tf.__version__,
        "tensorflow_probability": tfp.__version__,
        "numpy": np.__version__,
    }


def all_versions() -> tuple[str, ...]:
    """Return these and the version of Python, each as a name and a number."""
    libraries = (f"{name} {version}" for name, version in library_versions().items())
    return *libraries, f"Python {platform.python_version()}"
