"""Read a parquet file, for which pyarrow is needed."""

from pathlib import Path

import pandas as pd

from bgmm_jd.cli.csv_numbers import numbers_of
from bgmm_jd.cli.size_limits import check_growth
from bgmm_jd.cli.table import BadInput, Sheet


def is_parquet(path: Path) -> bool:
    """Return whether a file is one, by its first bytes; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def read_parquet(path: Path) -> Sheet:
    """Read all columns of a parquet file, or raise BadInput."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BadInput(
            f"reading {path} needs pyarrow, which is not installed: pip install pyarrow."
        ) from None
    try:
        held = parquet.read_metadata(path)
        # Equal values take no room in the file; as numbers each takes 8 bytes.
        check_growth(path, path.stat().st_size, 8 * held.num_rows * held.num_columns)
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    frame = table.to_pandas(ignore_metadata=True)

    def numbers(d: int) -> pd.Series:
        column = frame.iloc[:, d]
        is_number = pd.api.types.is_numeric_dtype(column)
        return numbers_of(column if is_number else column.astype(str), ".")

    names = [str(name) for name in frame.columns]
    return Sheet(path, names, numbers, lambda row: f"row {row + 1}", [])
