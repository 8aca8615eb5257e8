"""X at the door: checks, dtype, shift and scale, and the rows of each minibatch."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.random import offset, random_words
from bgmm_jd.data.rows import Missing, Rows
from bgmm_jd.data.units import Units

# Rounds of the swap-or-not shuffle. Each round sends a row to one of two places by a coin flip;
# after 24 the batch that a row falls in is independent of its place in X for every practical N.
_SHUFFLE_ROUNDS = 24


class Data(NamedTuple):
    """Rows ready for the fit, in centred and scaled units.

    rows : arrays in the dtype of the fit.
    units : how to go back.
    share : of a sample of the rows, the part that it is of them.
    """

    rows: Rows
    units: Units
    share: float = 1.0

    @property
    def dtype(self) -> np.dtype:
        """That of the fit."""
        return self.rows.values.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.rows.values.shape

    @property
    def total(self) -> float:
        """How many rows they are worth: N, or the sum of the row weights."""
        weight = self.rows.weight
        return float(self.shape[0] if weight is None else weight.sum(dtype=np.float64))

    @property
    def log_volume(self) -> float:
        """log |d user / d internal| of all rows, in nats: what their log density loses."""
        by_row = row_log_volume(self.rows, self.units)
        weight = self.rows.weight
        return float(by_row.sum() if weight is None else by_row @ weight.astype(np.float64))


def as_rows(
    X: Any, features: int | None = None, missing: bool = False, name: str = "X"
) -> np.ndarray:
    """Return X as a finite real [N, D] array; float32 and float64 are kept.

    Parameters
    ----------
    X : array-like of real numbers, shape [N, D]
        Integers and booleans are converted to the smallest of float32 and float64 that NumPy
        promotes them to.
    features : int, optional
        The number of columns that X must have.
    missing : bool
        Whether NaN, and a masked entry, means that an entry is missing; otherwise it is an error.
    name : str
        Of the argument, for messages.

    Raises
    ------
    TypeError
        If X is sparse, or holds anything but real numbers.
    ValueError
        If X is not two-dimensional, is empty, holds infinity (or NaN, unless `missing`), or has
        another number of columns than `features`.
    """
    if hasattr(X, "toarray") or type(X).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name} must be a dense array; got the sparse {type(X).__name__}. "
            f"Try {name}.toarray()."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        if not missing:
            raise ValueError(f"{name} must have no masked entries. {_advice(name)}")
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
    array = _as_real(X, name)
    if array.ndim != 2:
        column = f"{name}.reshape(-1, 1) makes a single column"
        hint = column if array.ndim < 2 else "flatten each row"
        raise ValueError(
            f"{name} must be two-dimensional [N, D]; got shape {array.shape}. Try: {hint}."
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one row and one column; got shape {array.shape}."
        )
    if features is not None and array.shape[1] != features:
        as_which = "as the fit had" if name == "X" else "as X has"
        raise ValueError(f"{name} must have {features} columns, {as_which}; got {array.shape[1]}.")
    _check_finite(array, missing, name)
    return array


def _advice(name: str) -> str:
    """What to do about missing entries."""
    if name != "X":
        return "Fill the values in."
    return (
        "Drop such rows, fill the values in, or pass missing='sum_out' to fit, which sums them out."
    )


def _as_real(X: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of shape [N, D]; its rows differ in length ({error})."
        ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers; got dtype {array.dtype}. "
            f"Select the numeric columns, or convert with {name}.astype(float)."
        )
    if array.dtype in (np.float32, np.float64):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    # Not longdouble: TensorFlow has no such type.
    wider = np.result_type(array.dtype, np.float32)
    with np.errstate(over="ignore"):  # what float64 cannot hold is told as infinity
        return array.astype(np.float32 if wider == np.float32 else np.float64)


def _check_finite(array: np.ndarray, missing: bool, name: str) -> None:
    finite = ~np.isinf(array) if missing else np.isfinite(array)
    if finite.all():
        return
    column = int(np.flatnonzero(~finite.all(axis=0))[0])
    row = int(np.flatnonzero(~finite[:, column])[0])
    advice = _advice(name) if np.isnan(array[row, column]) else "Drop such rows, or mend them."
    raise ValueError(
        f"{name} must be finite; column {column} has {array[row, column]} (first in row {row}). "
        f"{advice}"
    )


def check_missing(missing: Any) -> bool:
    """Whether NaN is a missing entry: what the argument `missing` of a fit says, or raise."""
    if missing not in (None, "sum_out"):
        raise ValueError(f"missing must be None or 'sum_out'; got {missing!r}.")
    return missing is not None


def as_weights(sample_weight: Any, rows: int, dtype: np.dtype) -> np.ndarray | None:
    """Return row weights as a float64 array [N], or None for none or all ones.

    Parameters
    ----------
    dtype : of the fit; what is zero in it is zero.

    Raises
    ------
    TypeError, ValueError
        If they are not N finite numbers of zero or more, or are all zero.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight must hold real numbers; got dtype {weight.dtype}.")
    if weight.shape != (rows,):
        raise ValueError(
            f"sample_weight must have one weight for each of the {rows} rows of X; got shape "
            f"{weight.shape}."
        )
    weight = weight.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise ValueError(
            f"sample_weight must be finite and not negative; got {weight[bad[0]]} in row {bad[0]}."
        )
    with np.errstate(over="ignore", under="ignore"):
        weight = np.where(weight.astype(dtype) > 0, weight, 0.0)
    if not weight.any():
        raise ValueError(f"sample_weight must have a positive weight; all are zero in {dtype}.")
    return None if (weight == 1).all() else weight


def check_rows(N: int, K: int, weighted: bool) -> None:
    """Raise if there are fewer rows than components.

    Parameters
    ----------
    N : rows that count.
    weighted : whether those are the ones of positive weight.
    """
    if N < K:
        rows = "rows of positive weight" if weighted else "rows"
        raise ValueError(f"X must have at least K={K} {rows}; got {N}. Use a smaller K.")


def as_columns(columns: Any, D: int, name: str) -> tuple[int, ...]:
    """Return distinct column numbers from 0 to D - 1, at least one, or raise."""
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        raise TypeError(f"{name} must be a sequence of column numbers; got {columns!r}.")
    found = tuple(columns)
    for column in found:
        if isinstance(column, bool | np.bool_) or not isinstance(column, int | np.integer):
            raise TypeError(f"{name} must name columns by integers; got {column!r}.")
        if not 0 <= column < D:
            raise ValueError(f"{name} must be columns from 0 to {D - 1}; got {column}.")
    if not found:
        raise ValueError(f"{name} must name at least one column from 0 to {D - 1}; got none.")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must name each column once; got {found}.")
    return tuple(int(column) for column in found)


def as_count(value: Any, name: str, most: int | None = None) -> int:
    """Return a positive integer no greater than `most`, or raise with the argument's name."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 1 or (most is not None and value > most):
        span = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be {span}; got {value}.")
    return int(value)


def as_seed(value: Any) -> int:
    """Return a non-negative integer, or raise."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"seed must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 0:
        raise ValueError(f"seed must not be negative; got {value}.")
    return int(value)


def centre_and_scale(X: np.ndarray, weight: np.ndarray | None = None, common: bool = False) -> Data:
    """Centre each column and divide it by its standard deviation, so that float32 is enough.

    A sum over a million float32 rows loses the digits that matter when the data lie far from
    zero or are badly scaled; the moments themselves are therefore taken in float64. A constant
    column is only centred. Rows of weight 0 are left out.

    Parameters
    ----------
    X : [N, D]; NaN is a missing entry, and is not counted.
    weight : [N], optional
        By which each row counts.
    common : bool
        Whether all columns are divided by one number, the root mean square of their standard
        deviations, as a covariance that is the same in all directions needs.

    Raises
    ------
    ValueError
        If a column holds nothing but NaN, or its spread is so large or small that its square
        leaves the range of the dtype.
    """
    if weight is not None:
        X, weight = X[weight > 0], weight[weight > 0]
    empty = np.isnan(X).all(axis=0)
    if empty.any():
        column = int(np.flatnonzero(empty)[0])
        raise ValueError(f"X's column {column} has no value at all. Drop the column.")
    low, high = (np.asarray(f(X, axis=0), np.float64) for f in (np.nanmin, np.nanmax))
    with np.errstate(all="ignore"):
        spread = high - low
        step = np.where(spread > 0, spread, 1.0)
        unit = (np.asarray(X, np.float64) - low) / step  # in [0, 1]: no square can overflow
        mean, sd = _moments(unit, weight)
        scale = np.where(spread > 0, step * sd, 1.0)
        shift = np.where(spread > 0, low + step * mean, low)
        if common and (spread > 0).any():
            largest = scale[spread > 0].max()
            square = np.mean((scale[spread > 0] / largest) ** 2)
            scale = np.full_like(scale, largest * np.sqrt(square))
        precision = 1.0 / (scale * scale)
    _check_range(scale, precision, X.dtype)
    units = Units(shift, scale)
    rows = to_rows(X, units)
    return Data(rows if weight is None else rows._replace(weight=_in_range(weight, X.dtype)), units)


def _in_range(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Row weights in the dtype of the fit; their sum is to be a float of it too."""
    if not weight.sum() < np.finfo(dtype).max:
        raise ValueError(
            f"sample_weight has the sum {weight.sum():.3g}, outside the range of {dtype}. Use "
            "smaller weights."
        )
    return weight.astype(dtype)


def sample(data: Data, most: int, rng: np.random.Generator) -> Data:
    """At most so many of the rows, drawn without replacement, each standing for several."""
    N = data.shape[0]
    chosen = np.sort(rng.choice(N, min(most, N), replace=False))
    rows, missing = data.rows, data.rows.missing
    weight = np.ones(len(chosen)) if rows.weight is None else rows.weight[chosen]
    weight = (weight * (data.total / weight.sum(dtype=np.float64))).astype(data.dtype)
    if missing is not None:
        missing = missing._replace(pattern=missing.pattern[chosen])
    return data._replace(
        rows=Rows(rows.values[chosen], weight, missing), share=data.share * len(chosen) / N
    )


def _moments(unit: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and sd of each column, of the entries that are there."""
    if weight is None and not np.isnan(unit).any():
        return unit.mean(axis=0), unit.std(axis=0)
    there = ~np.isnan(unit)
    share = there if weight is None else there * weight[:, np.newaxis]
    count = share.sum(axis=0)
    filled = np.where(there, unit, 0.0)
    mean = (share * filled).sum(axis=0) / count
    return mean, np.sqrt((share * np.where(there, filled - mean, 0.0) ** 2).sum(axis=0) / count)


def _check_range(scale: np.ndarray, precision: np.ndarray, dtype: np.dtype) -> None:
    limits = np.finfo(dtype)
    # A thousandfold margin: components are narrower than the whole column.
    bad = ~((precision < limits.max / 1e6) & (precision > limits.tiny * 1e6))
    if bad.any():
        column = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"X's column {column} has standard deviation {scale[column]:.3g}, whose square is "
            f"outside the range of {dtype}. Rescale the column, or pass float64."
        )


def to_units(X: np.ndarray, units: Units) -> np.ndarray:
    """Centre and scale new rows by the units of a fit; the dtype of X is kept.

    What the dtype cannot hold is infinite.
    """
    with np.errstate(over="ignore"):
        return ((np.asarray(X, np.float64) - units.shift) / units.scale).astype(X.dtype)


def to_rows(X: np.ndarray, units: Units) -> Rows:
    """Centred and scaled rows, NaN told from what is observed."""
    values = to_units(X, units)
    absent = np.isnan(values)
    if not absent.any():
        return Rows(values)
    patterns, pattern = np.unique(~absent, axis=0, return_inverse=True)
    missing = Missing(patterns.astype(values.dtype), pattern.reshape(-1).astype(np.int32))
    return Rows(np.where(absent, values.dtype.type(0), values), missing=missing)


def row_log_volume(rows: Rows, units: Units) -> np.ndarray:
    """log |d user / d internal| of the observed entries of each row, in nats: float64 [N]."""
    logs = np.log(units.scale)
    if rows.missing is None:
        return np.full(len(rows.values), logs.sum())
    return (rows.missing.observed.astype(np.float64) @ logs)[rows.missing.pattern]


@dataclass(frozen=True)
class Batches:
    """How an epoch is cut: `count` batches of `size` rows or one fewer, every row once.

    The batches are as equal as can be, so that none is a noisy remnant: with the batch's sum
    multiplied by `count`, each row has the same weight, and the mean over an epoch's batches is
    exactly the full sum whether or not the size divides N.
    """

    rows: int
    size: int
    count: int


def cut_batches(rows: int, batch_size: int) -> Batches:
    """Cut `rows` into the fewest batches of at most `batch_size` rows, as equal as can be."""
    count = math.ceil(rows / batch_size)
    return Batches(rows=rows, size=math.ceil(rows / count), count=count)


def batch_indices(
    batches: Batches, step: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Row numbers of the batch of one step, drawn from that step's reshuffled epoch.

    Parameters
    ----------
    batches : Batches
    step : int32 scalar, counted from 0 over the whole run.
    seed : int32 [2], the same for the whole run; each epoch takes one to itself (`draws.offset`).

    Returns
    -------
    indices : int32 [size], rows of X.
    weight : bool [size], False for the one filling entry of a batch that is a row short.
    """
    epoch, batch = step // batches.count, step % batches.count
    # Balanced cut: the first `longer` batches have `size` rows, the others one fewer.
    longer = batches.rows - batches.count * (batches.size - 1)
    first = batch * batches.size - tf.maximum(batch - longer, 0)
    place = first + tf.range(batches.size)
    real = tf.range(batches.size) < batches.size - tf.cast(batch >= longer, tf.int32)
    place = tf.where(real, place, 0)
    return shuffle(place, batches.rows, offset(seed, epoch)), real


def shuffle(place: tf.Tensor, rows: int, seed: tf.Tensor) -> tf.Tensor:
    """Send places 0..rows-1 through a random permutation, without making the whole of it.

    The swap-or-not shuffle of Hoang, Morris and Rogaway (CRYPTO 2012): round r pairs x with
    key[r] - x (mod rows) and swaps the pair or not, by a coin that depends on the pair alone; each
    round is its own inverse, so the whole is a permutation for any number of rows. It costs what
    the batch costs. Sorting random keys costs a pass over all rows (under XLA on a CPU 0.6 s for
    a million, several times the pass of the fit itself).

    Parameters
    ----------
    place : int32 tensor of any shape, entries in [0, rows).
    rows : int
    seed : int32 [2]

    Returns
    -------
    int32 tensor of the shape of `place`.
    """
    bits = random_words([_SHUFFLE_ROUNDS, 2], seed)
    for r in range(_SHUFFLE_ROUNDS):
        key = tf.cast(bits[r, 0] % tf.constant(rows, tf.uint32), tf.int32)
        partner = key - place
        partner = tf.where(partner < 0, partner + rows, partner)
        pair = tf.cast(tf.maximum(place, partner), tf.uint32)
        place = tf.where(_coin(pair, bits[r, 1]), partner, place)
    return place


def _coin(value: tf.Tensor, salt: tf.Tensor) -> tf.Tensor:
    """A fair coin for each uint32 value: the finaliser of MurmurHash3 (Appleby), top bit."""
    h = tf.bitwise.bitwise_xor(value, salt)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(16, tf.uint32)))
    h = h * tf.constant(0x85EBCA6B, tf.uint32)
    h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(13, tf.uint32)))
    h = h * tf.constant(0xC2B2AE35, tf.uint32)
    return tf.bitwise.right_shift(h, tf.constant(31, tf.uint32)) == tf.constant(1, tf.uint32)
