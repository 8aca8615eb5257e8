"""`python -m bgmm_jd`: fits of two well-known data sets."""

from pathlib import Path

import bgmm_jd
from bgmm_jd import datasets
from bgmm_jd.cli.fit_command import Outputs, fit_table
from bgmm_jd.cli.messages import tell
from bgmm_jd.cli.table import BadInput, Table


def demonstrate(directory: Path) -> bool:
    """Fit the data sets, write their files, and return whether both fits are good."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the directory {directory}: {error.strerror}.") from None
    good = True
    for example in (datasets.three_clusters(), datasets.old_faithful()):
        stem = directory / example.title.lower().replace(" ", "_")
        outputs = Outputs(stem.with_suffix(".nc"), stem.with_suffix(".png"), None)
        outputs.check()
        table = Table(example.X, example.columns)
        status = fit_table(example.title, table, example.K, {}, outputs)
        tell()
        good = good and status.good
        if status is bgmm_jd.Status.INTERRUPTED:
            break
    return good
