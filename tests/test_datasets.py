import pathlib

import numpy as np
import pytest

from bgmm_jd import datasets

REFERENCE = pathlib.Path(__file__).parent / "reference"


@pytest.mark.parametrize(
    ("example", "file", "skip"),
    [
        (datasets.three_clusters, "three_clusters.csv", 0),
        (datasets.old_faithful, "faithful_raw.csv", 1),
    ],
)
def test_rows_equal_the_reference_file_to_the_last_digit(example, file, skip):
    X = example().X
    expected = np.loadtxt(REFERENCE / file, delimiter=",", skiprows=skip).astype(X.dtype)
    np.testing.assert_array_equal(X, expected)


def test_three_clusters_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    datasets.three_clusters()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("example", [datasets.three_clusters, datasets.old_faithful])
def test_examples_name_each_column_and_have_more_rows_than_clusters(example):
    found = example()
    assert len(found.columns) == found.X.shape[1]
    assert 1 <= found.K <= len(found.X)
