"""Which of ArviZ's two lines is installed, and how to import it quietly, when it is needed."""

import warnings
from importlib.metadata import version
from typing import Any


def arviz_major_version() -> int:
    """0 for arviz 0.23 with its `InferenceData`, 1 for arviz 1.x, built on `xarray.DataTree`.

    By the version: arviz 1.x still answers to the name `InferenceData`, with a warning.
    """
    return int(version("arviz").split(".")[0])


def import_arviz() -> Any:
    """Import ArviZ without its daily notice.

    Once a day arviz 0.23 warns on import that version 1 is different. That is for those who call
    ArviZ, and this library has read it; where warnings are errors, it would end the import.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz
    return arviz
