"""X at the door, and the rows of each minibatch.

A statistical test raises a false alarm with probability 1e-6; the seeds are fixed.
"""

import itertools
import statistics

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from scipy import stats

from bgmm_jd.backend import random
from bgmm_jd.data import minibatches, standardize, validation
from bgmm_jd.data.units import Standardization

FALSE_ALARM = 1e-6


def memory_map(array, path):
    """The same array in a file that cannot be written to."""
    np.save(path / "rows.npy", array)
    return np.load(path / "rows.npy", mmap_mode="r")


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_column_that_is_not_finite_is_named(value, dtype):
    X = np.zeros((5, 4), dtype)
    X[1, 3] = X[4, 2] = X[3, 2] = value
    with pytest.raises(ValueError, match=f"column 2 has {value} .*row 3"):
        validation.as_rows(X)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), r"two-dimensional.*got shape \(\)"),
        ((7,), r"two-dimensional.*got shape \(7,\).*reshape\(-1, 1\)"),
        ((7, 2, 2), r"two-dimensional.*got shape \(7, 2, 2\)"),
        ((0, 3), r"at least one row.*got shape \(0, 3\)"),
        ((3, 0), r"at least one row and one column.*got shape \(3, 0\)"),
    ],
)
def test_shapes_that_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        validation.as_rows(np.ones(shape))


@pytest.mark.parametrize(
    "X",
    [
        np.ones((3, 2), complex),
        np.ones((3, 2), object),
        np.array([[1.0, None], [2.0, 3.0]]),
        np.array([["1.0", "2.0"]]),
        [[1.0, "two"]],
        np.array([["2020-01-01"]], "datetime64[D]"),
        np.ones((3, 2), "f4, f4"),
        None,
        "rows.csv",
        [[2**70]],
    ],
    ids=[
        "complex",
        "object",
        "None among numbers",
        "numbers as text",
        "text among numbers",
        "dates",
        "a record",
        "None",
        "text",
        "an integer beyond 64 bits",
    ],
)
def test_anything_but_real_numbers_is_refused(X):
    with pytest.raises(TypeError, match="must hold real numbers; got dtype"):
        validation.as_rows(X)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_are_refused(form, kind):
    X = getattr(scipy.sparse, f"{form}_{kind}")(np.eye(3))
    with pytest.raises(TypeError, match=rf"dense.*sparse {form}_{kind}.*toarray\(\)"):
        validation.as_rows(X)


def test_masked_entries_are_refused_and_a_mask_of_none_is_not():
    X = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(ValueError, match="masked"):
        validation.as_rows(X)
    np.testing.assert_array_equal(validation.as_rows(np.ma.array([[1.0, 2.0]])), [[1.0, 2.0]])


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="rows differ in length"):
        validation.as_rows([[1.0, 2.0], [3.0]])


def test_another_number_of_columns_is_refused():
    with pytest.raises(ValueError, match=r"must have 3 columns.*got 2"):
        validation.as_rows(np.ones((4, 2)), features=3)


@pytest.mark.parametrize("value", [0, -1, np.int64(-3)])
def test_counts_below_one_are_refused(value):
    with pytest.raises(ValueError, match=f"K must be at least 1; got {value}"):
        validation.as_count(value, "K")


@pytest.mark.parametrize("value", [2.5, 3.0, True, np.True_, "3", None, [3]])
def test_counts_that_are_no_integers_are_refused(value):
    with pytest.raises(TypeError, match="K must be an integer"):
        validation.as_count(value, "K")


def test_counts():
    assert validation.as_count(np.int32(3), "K") == 3
    assert type(validation.as_count(np.int32(3), "K")) is int
    assert validation.as_count(7, "batch_size", most=7) == 7
    with pytest.raises(ValueError, match="batch_size must be from 1 to 7; got 8"):
        validation.as_count(8, "batch_size", most=7)


# --- What is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        (">f4", "float32"),
        (">f8", "float64"),
        ("<f8", "float64"),
        ("float16", "float32"),
        ("longdouble", "float64"),
        ("bool", "float32"),
        ("int8", "float32"),
        ("uint16", "float32"),
        ("int32", "float64"),  # float32 has 24 bits
        ("int64", "float64"),
        (">i4", "float64"),
    ],
)
def test_dtypes(given, kept):
    X = np.array([[0, 1], [1, 0], [1, 1]]).astype(given)
    rows = validation.as_rows(X)
    assert rows.dtype == np.dtype(kept)  # in the machine's own byte order
    np.testing.assert_array_equal(rows, X)


def test_a_list_of_rows():
    np.testing.assert_array_equal(validation.as_rows([[1, 2], (3, 4)]), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("layout", ["C", "F", "every other row", "backwards", "memory map"])
def test_layouts_give_the_same_rows_and_leave_x_alone(layout, tmp_path):
    X = np.random.default_rng(0).normal(3.0, 2.0, (6, 3))
    given = {
        "C": lambda: X.copy(),
        "F": lambda: np.asfortranarray(X),
        "every other row": lambda: np.repeat(X, 2, axis=0)[::2],
        "backwards": lambda: X[::-1].copy()[::-1],
        "memory map": lambda: memory_map(X, tmp_path),
    }[layout]()
    found = standardize.standardize(validation.as_rows(given))
    expected = standardize.standardize(validation.as_rows(X.copy()))
    # Sums over another memory order round otherwise: 6 numbers, each half an ulp.
    np.testing.assert_allclose(found.rows.values, expected.rows.values, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(given, X)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_nothing_is_changed_in_place(dtype):
    X = np.arange(12).reshape(6, 2).astype(dtype)
    before = X.copy()
    standardize.standardize(validation.as_rows(X)).rows.values[:] = 7.0
    np.testing.assert_array_equal(X, before)


# --- Centre and scale -------------------------------------------------------------------------


EPS = np.finfo(np.float64).eps
NORMAL = np.random.default_rng(2).standard_normal((200, 2))


@pytest.mark.parametrize(
    "X",
    [
        NORMAL,
        NORMAL[:, :1],
        NORMAL.astype(np.float32),
        (1e6 + NORMAL).astype(np.float32),
        (1e-6 * NORMAL).astype(np.float32),
        (1e15 + NORMAL).round(),
        1e140 * NORMAL,
        1e-140 * NORMAL,
        np.float32(1e12) * NORMAL.astype(np.float32),
        np.where(np.arange(200) == 7, 1e9, NORMAL.T).T,
        NORMAL > 0,
        (10 * NORMAL).astype(np.int16),
    ],
    ids=[
        "normal",
        "one feature",
        "float32",
        "around 1e6",
        "of size 1e-6",
        "around 1e15",
        "of size 1e140",
        "of size 1e-140",
        "float32 of size 1e12",
        "an outlier",
        "booleans",
        "integers",
    ],
)
def test_centre_and_scale(X):
    """Against Python's statistics module, which computes with fractions."""
    X = validation.as_rows(X)
    found = standardize.standardize(X)
    columns = X.T.astype(np.float64).tolist()
    mean = np.array([statistics.mean(column) for column in columns])
    sd = np.array([statistics.pstdev(column) for column in columns])
    N, eps = len(X), np.finfo(X.dtype).eps
    # A float64 sum of N terms, and one rounding at the size of the mean.
    mean_error = 2 * EPS * np.abs(mean) + N * EPS * np.ptp(X, axis=0).astype(np.float64)
    assert np.all(np.abs(found.units.shift - mean) <= mean_error)
    np.testing.assert_allclose(found.units.scale, sd, rtol=N * EPS)
    assert found.dtype == found.rows.values.dtype == X.dtype
    assert found.shape == X.shape
    assert found.total == N
    assert found.rows.weight is found.rows.missing is None
    expected = (X - mean) / sd
    # One rounding to the dtype on top.
    allowed = (eps + 2 * N * EPS) * np.abs(expected) + 2 * mean_error / sd
    assert np.all(np.abs(found.rows.values - expected) <= allowed)
    np.testing.assert_array_equal(standardize.standardize_values(X, found.units), found.rows.values)
    # A sum of N equal numbers.
    np.testing.assert_allclose(
        found.log_det_jacobian, N * np.log(sd).sum(), rtol=N * EPS, atol=N * N * EPS
    )


@pytest.mark.parametrize("value", [0.0, 5.0, 1e30, -1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_is_only_centred(value, dtype):
    X = np.stack([np.arange(5.0), np.full(5, value)], axis=1).astype(dtype)
    found = standardize.standardize(X)
    assert found.units.shift[1] == X[0, 1]
    assert found.units.scale[1] == 1
    np.testing.assert_array_equal(found.rows.values[:, 1], 0)


def test_a_single_row_is_all_constant_columns():
    found = standardize.standardize(np.array([[3.0, -7.0]]))
    np.testing.assert_array_equal(found.rows.values, [[0.0, 0.0]])
    np.testing.assert_array_equal(found.units, [[3.0, -7.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([0.0, 1e30], np.float32),
        ([0.0, 1e-30], np.float32),
        ([0.0, 1e300], np.float64),
        ([0.0, 5e-324], np.float64),
        ([-1.7e308, 1.7e308], np.float64),  # the spread itself overflows
        ([0.0, 1.7e308], np.float64),
    ],
)
def test_a_spread_outside_the_range_of_the_dtype_is_refused(column, dtype):
    """Precisions are inverse squares of the spread: these would be zero or infinite."""
    X = np.stack([np.arange(2.0), column], axis=1).astype(dtype)
    with pytest.raises(ValueError, match=r"column 1 has .*outside the range of float"):
        standardize.standardize(X)


def test_a_number_too_large_for_float64_is_refused():
    large = np.longdouble(np.finfo(np.float64).max) * 2
    if not np.isfinite(large):
        pytest.skip("longdouble is float64 on this machine")
    with pytest.raises(ValueError, match="column 0 has inf"):
        validation.as_rows(np.array([[large]]))


# --- Row weights ------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(3).integers(0, 4, 200)


@pytest.mark.parametrize("given", [None, np.ones(5), [1] * 5, [True] * 5])
def test_weights_of_one_are_no_weights(given):
    assert validation.as_weights(given, 5, np.dtype("float64")) is None


@pytest.mark.parametrize("given", [[0, 2, 1], np.array([0, 2, 1], ">i4"), np.float32([0, 2, 1])])
def test_weights(given):
    found = validation.as_weights(given, 3, np.dtype("float64"))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["a", "b", "c"], TypeError, "real numbers; got dtype"),
        ([1.0, 2j, 1.0], TypeError, "real numbers; got dtype complex128"),
        ([1.0, 2.0], ValueError, r"each of the 3 rows.*got shape \(2,\)"),
        ([[1.0, 2.0, 3.0]], ValueError, r"got shape \(1, 3\)"),
        (2.0, ValueError, r"got shape \(\)"),
        ([1.0, -0.5, 1.0], ValueError, r"not negative; got -0.5 in row 1"),
        ([1.0, 1.0, np.nan], ValueError, r"finite.*got nan in row 2"),
        ([np.inf, 1.0, 1.0], ValueError, r"finite.*got inf in row 0"),
        ([0.0, 0.0, 0.0], ValueError, "all are zero"),
    ],
)
def test_weights_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        validation.as_weights(given, 3, np.dtype("float64"))


def test_integer_weights_are_rows_that_repeat():
    found = standardize.standardize(NORMAL, WEIGHT.astype(np.float64))
    repeated = standardize.standardize(np.repeat(NORMAL, WEIGHT, axis=0))
    # Sums of a few hundred numbers.
    np.testing.assert_allclose(found.units.shift, repeated.units.shift, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.units.scale, repeated.units.scale, rtol=1e-13)
    assert found.total == repeated.total == WEIGHT.sum()
    np.testing.assert_allclose(found.log_det_jacobian, repeated.log_det_jacobian, rtol=1e-12)
    # Rows of weight 0 are left out.
    np.testing.assert_array_equal(found.rows.weight, WEIGHT[WEIGHT > 0])
    expected = standardize.standardize_values(NORMAL[WEIGHT > 0], found.units)
    np.testing.assert_array_equal(found.rows.values, expected)


def test_rows_and_weights_are_in_the_dtype_of_x():
    found = standardize.standardize(NORMAL.astype(np.float32), WEIGHT.astype(np.float64))
    assert found.rows.values.dtype == found.rows.weight.dtype == found.dtype == np.float32


def test_weights_outside_the_range_of_the_dtype_are_refused():
    """As the squares of a column are: no infinity may come of them."""
    weight = np.full(len(NORMAL), 1e39)
    with pytest.raises(ValueError, match=r"sample_weight .*range of float32"):
        standardize.standardize(NORMAL.astype(np.float32), weight)


# --- Missing entries --------------------------------------------------------------------------


def with_missing(X=NORMAL, share=0.3):
    X = X.copy()
    X[np.random.default_rng(4).random(X.shape) < share] = np.nan
    return X


def test_nan_and_masked_entries_are_missing_where_that_is_said():
    X = np.array([[1.0, np.nan], [3.0, 4.0]])
    np.testing.assert_array_equal(validation.as_rows(X, missing=True), X)
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    found = validation.as_rows(masked, missing=True)
    np.testing.assert_array_equal(found, X)
    assert found.dtype == np.float64
    assert validation.as_rows(np.ma.masked_invalid(X.astype("f")), missing=True).dtype == np.float32


@pytest.mark.parametrize(
    "given", [[[1.0, np.nan]], np.ma.array([[1.0, 2.0]], mask=[[True, False]])]
)
def test_missing_entries_are_refused_with_advice(given):
    with pytest.raises(ValueError, match="missing='marginalize'"):
        validation.as_rows(given)


def test_infinity_is_never_a_missing_entry():
    with pytest.raises(ValueError, match=r"column 1 has inf \(first in row 0\)"):
        validation.as_rows([[np.nan, np.inf], [1.0, 2.0]], missing=True)


def test_a_column_without_any_value_is_refused():
    X = with_missing()
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="column 1 has no value at all"):
        standardize.standardize(X)
    X[5, 1] = 2.0
    weight = np.ones(len(X))
    weight[5] = 0.0
    with pytest.raises(ValueError, match="column 1 has no value at all"):
        standardize.standardize(X, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT.astype(np.float64)])
def test_moments_are_of_what_is_observed(weight):
    X = with_missing()
    found = standardize.standardize(X, weight)
    repeated = X if weight is None else np.repeat(X, WEIGHT, axis=0)
    np.testing.assert_allclose(found.units.shift, np.nanmean(repeated, axis=0), atol=1e-13)
    np.testing.assert_allclose(found.units.scale, np.nanstd(repeated, axis=0), rtol=1e-13)
    logs = np.log(found.units.scale)
    expected = (~np.isnan(repeated)).sum(axis=0) @ logs
    np.testing.assert_allclose(found.log_det_jacobian, expected, rtol=1e-12)


def test_rows_with_missing_entries():
    X = with_missing()
    X[3], X[4], X[5], X[6] = (np.nan, np.nan), (np.nan, 1.0), (1.0, np.nan), (1.0, 1.0)
    found = standardize.standardize(X)
    there = ~np.isnan(X)
    values, (observed, pattern) = found.rows.values, found.rows.missing
    np.testing.assert_array_equal(observed[pattern] > 0, there)
    np.testing.assert_array_equal(
        values[there], standardize.standardize_values(X, found.units)[there]
    )
    np.testing.assert_array_equal(values[~there], 0)
    assert len(observed) == 4  # each pattern once
    assert observed.dtype == X.dtype
    assert pattern.dtype == np.int32
    logs = np.log(found.units.scale)
    by_row = standardize.row_log_det_jacobian(found.rows, found.units)
    np.testing.assert_allclose(by_row, there @ logs, rtol=1e-14, atol=1e-15)


def test_rows_without_missing_entries_have_no_pattern():
    rows = standardize.as_standardized_rows(NORMAL, UNEQUAL)
    assert rows.missing is rows.weight is None
    np.testing.assert_array_equal(rows.values, standardize.standardize_values(NORMAL, UNEQUAL))
    by_row = standardize.row_log_det_jacobian(rows, UNEQUAL)
    np.testing.assert_allclose(by_row, np.full(len(NORMAL), np.log(UNEQUAL.scale).sum()))


# --- One scale for all columns ----------------------------------------------------------------

UNEQUAL = Standardization(np.array([3.0, -1.0]), np.array([10.0, 0.2]))


def test_a_common_scale_is_the_root_mean_square():
    X = UNEQUAL.shift + UNEQUAL.scale * NORMAL
    own, common = (
        standardize.standardize(X).units,
        standardize.standardize(X, common=True).units,
    )
    np.testing.assert_array_equal(common.shift, own.shift)
    expected = np.sqrt(np.mean(own.scale**2))
    np.testing.assert_allclose(common.scale, [expected, expected], rtol=1e-14)


def test_a_constant_column_has_no_part_in_a_common_scale():
    X = np.column_stack([NORMAL[:, :1], np.full(len(NORMAL), 5.0), 3 * NORMAL[:, 1:]])
    own, common = (
        standardize.standardize(X).units,
        standardize.standardize(X, common=True).units,
    )
    expected = np.sqrt((own.scale[0] ** 2 + own.scale[2] ** 2) / 2)
    np.testing.assert_allclose(common.scale, np.full(3, expected), rtol=1e-14)
    alone = standardize.standardize(np.full((4, 2), 7.0), common=True)
    np.testing.assert_array_equal(alone.units.scale, [1.0, 1.0])


@pytest.mark.parametrize("size", [1e140, 1e-140])
def test_a_common_scale_of_large_and_small_columns(size):
    """No square leaves the range on the way."""
    units = standardize.standardize(size * NORMAL, common=True).units
    expected = standardize.standardize(NORMAL, common=True).units.scale
    np.testing.assert_allclose(units.scale / size, expected, rtol=1e-12)


# --- Batches ----------------------------------------------------------------------------------

CUTS = [
    (1, 1),
    (2, 1),
    (7, 1),
    (7, 7),
    (7, 2),
    (7, 3),
    (7, 5),
    (7, 6),
    (10, 5),
    (10, 4),
    (1000, 64),
]


def epoch_of(batches, epoch, seed):
    """The rows of each batch of an epoch, by what the fit calls."""
    for step in range(epoch * batches.count, (epoch + 1) * batches.count):
        indices, real = minibatches.batch_indices(batches, tf.constant(step), tf.constant(seed))
        yield indices.numpy(), real.numpy()


@pytest.mark.parametrize(("N", "B"), CUTS)
def test_each_row_comes_once_an_epoch(N, B):
    batches = minibatches.equal_batches(N, B)
    for epoch in (0, 5):
        parts = list(epoch_of(batches, epoch, [3, 4]))
        assert all(len(indices) == batches.size <= B for indices, _ in parts)
        sizes = [int(real.sum()) for _, real in parts]
        assert max(sizes) - min(sizes) <= 1  # none is a noisy remnant
        rows = np.concatenate([indices[real] for indices, real in parts])
        np.testing.assert_array_equal(np.sort(rows), np.arange(N))
        # The filling entry is read as well, and so must be a row.
        assert all(indices.min() >= 0 and indices.max() < N for indices, _ in parts)


def test_every_cut_of_up_to_forty_rows():
    for N in range(1, 41):
        for B in range(1, N + 1):
            batches = minibatches.equal_batches(N, B)
            assert batches.rows == N
            assert batches.size <= B
            assert batches.count * (batches.size - 1) < N <= batches.count * batches.size
            assert batches.count == -(-N // B)  # the fewest


def test_epochs_and_seeds_differ():
    batches = minibatches.equal_batches(100, 60)
    orders = {
        tuple(np.concatenate([i for i, _ in epoch_of(batches, epoch, seed)]))
        for epoch in range(3)
        for seed in ([0, 0], [0, 1], [10, 0])
    }
    # Two permutations of 100 rows are equal with probability 1e-158.
    assert len(orders) == 9


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 31, 100, 1023, 4096, 100_003])
def test_shuffle_is_a_permutation(N):
    for seed in ([0, 0], [1, 2], [-5, 2**31 - 1]):
        order = minibatches.permute(tf.range(N), N, tf.constant(seed, tf.int32))
        assert order.dtype == tf.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(N))


def test_shuffle_of_some_places_is_a_part_of_the_order():
    seed = tf.constant([11, -7])
    every = minibatches.permute(tf.range(1000), 1000, seed)
    np.testing.assert_array_equal(
        minibatches.permute(tf.range(300, 400), 1000, seed), every[300:400]
    )


def test_batches_are_the_same_in_every_mode():
    batches = minibatches.equal_batches(1003, 130)

    def batch(step, seed):
        return minibatches.batch_indices(batches, step, seed)

    # The last of the second epoch, which has a filling entry.
    arguments = tf.constant(2 * batches.count - 1), tf.constant([11, -7])
    eager = batch(*arguments)
    for function in (tf.function(batch), tf.function(batch, jit_compile=True)):
        for found, expected in zip(function(*arguments), eager, strict=True):
            np.testing.assert_array_equal(found, expected)


def orders(N, count):
    """[count, N] shuffles by successive epochs' seeds, as the fit takes them."""

    @tf.function(jit_compile=True)
    def run():
        seed = tf.constant([5, 6], tf.int32)
        return tf.map_fn(
            lambda epoch: minibatches.permute(tf.range(N), N, random.offset_seed(seed, epoch)),
            tf.range(count),
        )

    return run().numpy()


@pytest.mark.parametrize("N", [4, 5])
def test_every_order_of_few_rows_is_equally_likely(N):
    found = orders(N, 12_000)
    every = list(itertools.permutations(range(N)))
    counts = [np.sum((found == order).all(axis=1)) for order in every]
    assert sum(counts) == len(found)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_where_a_row_goes_is_uniform_and_tells_nothing_of_its_neighbour():
    N = 12
    found = orders(N, 12_000)
    first, second = found[:, 3], found[:, 4]
    # All pairs of different places are equally likely.
    pairs = np.zeros((N, N), int)
    np.add.at(pairs, (first, second), 1)
    assert stats.chisquare(pairs[~np.eye(N, dtype=bool)]).pvalue > FALSE_ALARM
