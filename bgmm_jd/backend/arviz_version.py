"""Which of ArviZ's two versions is installed, and a quiet import of it when it is needed."""

import warnings
from importlib.metadata import version
from typing import Any


def arviz_major_version() -> int:
    """Return 0 for arviz 0.23 with its `InferenceData`, or 1 for arviz 1.x with `xarray.DataTree`.

    The number is read from the installed package: the presence of `InferenceData` does not
    distinguish the two, because arviz 1.x still has that name, with a warning.
    """
    return int(version("arviz").split(".")[0])


def import_arviz() -> Any:
    """Import ArviZ without the notice that it gives once a day.

    arviz 0.23 warns on import that version 1 is different. This library supports both, and where
    warnings are errors the notice would make the import fail.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz
    return arviz
