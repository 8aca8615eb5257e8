"""`table`: rows in files or data sets, as a source for `fit`."""

import glob
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bgmm_jd.data.source import Source
from bgmm_jd.sources.columns import as_numbers, dtype_of_rows
from bgmm_jd.sources.pieces import Fragment, Partition, PieceRows
from bgmm_jd.sources.row_file import rows_of_memmap, rows_of_npy


def table(
    where: Any, *, columns: Sequence[str] | Sequence[int] | None = None, weight: Any = None
) -> Source:
    """Return rows in files or data sets as a source for `fit`, which reads them in each pass.

    ::

        source = bgmm_jd.table("rows.npy")
        source = bgmm_jd.table("survey/*.parquet", columns=["u", "g", "r"], weight="w")
        posterior = bgmm_jd.fit(source, K=5)

    Parameters
    ----------
    where : path, pyarrow.dataset.Dataset, Dask array or Dask data frame
        The path of a .npy file [N, D], of a parquet file or a folder of them, or a glob of parquet
        files, which are read in the order of their names. Parquet files and data sets of Arrow
        (and so Delta, Iceberg and object stores) need the extra `parquet`. A `np.memmap` may be
        passed too, or to `fit` itself.
    columns : sequence of str or int, optional
        The features, in order: names of columns, or numbers of those of an array. By default all
        columns but that of the weights. Names that are numbers, as in a Dask data frame that was
        made of an array, become strings.
    weight : str or int, optional
        The column of row weights, zero or more, which is none of the features: see `sample_weight`
        of `fit`.

    Returns
    -------
    Source
        Nothing but the numbers of rows and the types of columns has been read.

    Raises
    ------
    FileNotFoundError
        If there are no such files.
    TypeError, ValueError
        If there are no such columns, none are left for the features, or columns do not hold real
        numbers.
    ImportError
        If pyarrow is needed and not installed.

    Notes
    -----
    Rows in one text file, such as CSV, are best converted to parquet once.
    """
    if isinstance(where, np.memmap):
        if columns is not None or weight is not None:
            raise ValueError(
                "columns and weight need the path of the .npy file; got a memmap. For columns of "
                "it pass a view, where[:, columns]."
            )
        return rows_of_memmap(where)
    if isinstance(where, str | os.PathLike):
        path = os.path.expanduser(os.fspath(where))
        if path.endswith(".npy"):
            return rows_of_npy(path, columns, weight)
        return _rows_of_dataset(_dataset(path), columns, weight)
    if hasattr(where, "get_fragments"):
        return _rows_of_dataset(where, columns, weight)
    if type(where).__module__.partition(".")[0] in ("dask", "dask_expr"):
        is_array = hasattr(where, "chunks")
        return (_rows_of_dask_array if is_array else _rows_of_dask_frame)(where, columns, weight)
    raise TypeError(
        "where must be a path, a pyarrow.dataset.Dataset, a Dask array or data frame; got "
        f"{type(where).__name__}. Pass arrays and data frames in memory to fit themselves, and "
        "what yields batches to bgmm_jd.batches."
    )


def _as_names(found: Sequence[str], columns: Sequence[Any] | None, weight: Any) -> tuple[str, ...]:
    """Return the names of the features, or raise if one of them or the weight is not there."""
    names = tuple(c for c in found if c != weight) if columns is None else tuple(columns)
    lost = [c for c in (*names, *(() if weight is None else (weight,))) if c not in found]
    if lost or not names or weight in names or len(set(names)) < len(names):
        raise ValueError(
            f"columns and weight must be distinct names among {list(found)}; got columns "
            f"{list(names)} and weight {weight!r}."
        )
    return names


def _dataset(path: str) -> Any:
    """Open parquet files as a data set of Arrow."""
    try:
        import pyarrow.dataset as ds
    except ImportError as error:
        raise ImportError(
            f"{path} is read by pyarrow, which is not installed. Install bgmm_jd[parquet]. Paths "
            "that end in .npy need nothing else."
        ) from error
    found = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    if not found or not all(map(os.path.exists, found)):
        raise FileNotFoundError(f"where must be a path of existing files; there is none at {path}.")
    return ds.dataset(found[0] if len(found) == 1 else found, format="parquet")


def _rows_of_dataset(dataset: Any, columns: Sequence[Any] | None, weight: Any) -> Source:
    """Return the source of a data set of Arrow: one piece for each row group, or each file."""
    names = _as_names(dataset.schema.names, columns, weight)
    read = names if weight is None else (*names, weight)
    _check_are_numbers({name: dataset.schema.field(name).type for name in read})
    pieces = []
    for fragment in dataset.get_fragments():
        if hasattr(fragment, "split_by_row_group"):
            # `count_rows` of a row group is that of its whole file.
            for group in fragment.split_by_row_group():
                count = sum(info.num_rows for info in group.row_groups)
                pieces.append(Fragment(group, dataset.schema, count))
        else:
            pieces.append(Fragment(fragment, dataset.schema, fragment.count_rows()))
    types = {str(dataset.schema.field(name).type) for name in names}
    return _of_pieces(pieces, names, weight, np.float32 if types <= {"float"} else np.float64)


def _check_are_numbers(types: Mapping[str, Any]) -> None:
    """Raise if a column, whose type of Arrow is given by its name, does not hold real numbers."""
    import pyarrow as pa

    known = ("integer", "floating", "boolean", "decimal", "null")
    for name, found in types.items():
        if not any(getattr(pa.types, f"is_{kind}")(found) for kind in known):
            raise TypeError(
                f"columns must hold real numbers; {name!r} is of type {found}. Choose others by "
                "columns=, or convert them: text to numbers, a date to the time since another."
            )


def _rows_of_dask_frame(frame: Any, columns: Sequence[Any] | None, weight: Any) -> Source:
    """Return the source of a Dask data frame, whose partitions are counted once."""
    frame = frame.rename(columns=str)
    names = _as_names(tuple(frame.columns), columns, weight)
    read = list(names) if weight is None else [*names, weight]
    counts = frame.map_partitions(len).compute()
    delayed = frame[read].to_delayed()
    pieces = [Partition(*piece) for piece in zip(delayed, map(int, counts), strict=True)]
    is_float32 = set(frame.dtypes[list(names)]) == {np.dtype("f4")}
    return _of_pieces(pieces, names, weight, np.float32 if is_float32 else np.float64)


def _rows_of_dask_array(array: Any, columns: Sequence[Any] | None, weight: Any) -> Source:
    """Return the source of a Dask array [N, D]: one piece for each chunk of rows."""
    if array.ndim != 2 or any(np.isnan(chunk) for chunk in array.chunks[0]):
        raise ValueError(
            "where must be a Dask array [N, D] whose chunks of rows have known sizes; got chunks "
            f"{array.chunks}. Try where.compute_chunk_sizes()."
        )
    dtype = dtype_of_rows(array.dtype)
    whole = array.rechunk({1: -1})
    numbers, number = as_numbers(array.shape[1], columns, weight)
    delayed = whole.to_delayed()[:, 0]
    pieces = [Partition(*piece) for piece in zip(delayed, whole.chunks[0], strict=True)]
    names, weight_name = tuple(map(str, numbers)), None if number is None else str(number)
    return _of_pieces(pieces, names, weight_name, dtype, has_names=False)


def _of_pieces(
    pieces: Sequence[Any],
    names: tuple[str, ...],
    weight: str | None,
    dtype: DTypeLike,
    has_names: bool = True,
) -> PieceRows:
    count = sum(piece.count for piece in pieces)
    if not count:
        raise ValueError("where must have at least one row; it has none.")
    return PieceRows(
        pieces=tuple(pieces),
        columns=names,
        weight=weight,
        type=np.dtype(dtype).name,
        first=0,
        last=count,
        has_names=has_names,
    )
