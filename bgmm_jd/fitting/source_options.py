"""Options of a fit that its rows do not allow, because they are not in memory, or are."""

from typing import Any

from bgmm_jd.fitting.given_rows import GivenRows
from bgmm_jd.fitting.initial_values import Init, Memberships


def check_options_of_source(batch_size: Any, finish: str) -> None:
    """Raise for options that need all rows in memory."""
    if batch_size != "auto":
        raise ValueError(
            f"batch_size must be 'auto' for rows that are read from a source; got {batch_size!r}. "
            "Leave it out, or fit an array in memory, such as bgmm_jd.sample_rows(source, n)."
        )
    if finish == "hmc":
        raise ValueError(
            "finish='hmc' needs all rows in memory, and X is a source. Leave it out, or fit an "
            "array, such as bgmm_jd.sample_rows(source, n)."
        )


def check_init_of_source(init: Init | None, rows: GivenRows) -> None:
    """Raise for labels or probabilities of rows that are not all in memory."""
    if isinstance(init, Memberships) and not rows.are_in_memory:
        raise ValueError(
            "init must be means [K, D] or a posterior for rows that are read from a source; got a "
            "label or probabilities for each row."
        )
