"""Digests: equal values share one, and others do not."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.fitting.identity import differences, digest_of, identity_of
from bgmm_jd.settings import CalibrationSettings, Settings

EYE = np.eye(3)
OTHERS = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    (1,),
    (1, 1),
    ((1,), 1),
    {"a": 1},
    {"b": 1},
    np.array(1),
    np.array([1]),
    np.array([1.0]),
    np.array([1.0], np.float32),
    EYE,
    EYE[:2],
    EYE.reshape(9),
    -EYE,
    pd.DataFrame(EYE, columns=["a", "b", "c"]),
    pd.DataFrame(EYE, columns=["a", "b", "d"]),
    Settings(),
    Settings(calibration=CalibrationSettings(khat_draws=4_000)),
    bgmm_jd.mixture_prior(2, 2),
    bgmm_jd.mixture_prior(2, 2, mean_scale=2.0),
]


def test_digests_of_values_that_differ_differ():
    digests = [digest_of(value) for value in OTHERS]
    assert all(one != other for one, other in itertools.combinations(digests, 2))


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(EYE),
        np.hstack([EYE, EYE])[:, :3],
        tf.eye(3, dtype=tf.float64),
    ],
    ids=["by columns", "a part", "tensor"],
)
def test_array_has_one_digest_in_any_layout(same):
    assert digest_of(same) == digest_of(EYE)


def test_equal_values_made_twice_share_a_digest():
    assert digest_of(Settings()) == digest_of(Settings())
    assert digest_of({"a": EYE, "b": 1}) == digest_of({"b": 1, "a": EYE.copy()})


def test_rows_are_read_in_parts_to_the_same_digest():
    """60 MB, of which 16 MiB are read at a time; the layout decides on none of the parts."""
    rows = np.random.default_rng(0).normal(size=(1_000_000, 8))
    assert digest_of(rows) == digest_of(np.asfortranarray(rows))
    changed = rows.copy()
    changed[-1, -1] += 1.0
    assert digest_of(changed) != digest_of(rows)


@pytest.mark.parametrize("value", [object(), [object()], np.array([None])])
def test_value_of_an_unknown_kind_is_an_error_with_its_name(value):
    with pytest.raises(TypeError, match=r"init cannot be recognised in a later call.*object"):
        identity_of({"init": value})


def test_identities_differ_by_name():
    file = identity_of({"K": 2, "X": EYE, "seed": 0})
    call = identity_of({"K": 3, "X": -EYE, "seed": 0})
    assert differences(file, file) == []
    assert differences(file, call) == ["K=2 and not 3", "another X"]
    later = {**file, "new": "1"}
    assert differences(file, later) == ["new=nothing and not 1"]
    assert differences(later, file) == ["new=1 and not nothing"]


def test_posterior_has_the_digest_of_its_result_whatever_it_took():
    rows = np.random.default_rng(0).normal(size=(30, 1))
    posterior = bgmm_jd.fit(rows, 1, execution="graph", finish="none", progress=False)
    again = replace(posterior, seconds={"search": 100.0}, provenance=None)
    assert digest_of(again) == digest_of(posterior)
    assert digest_of(replace(posterior, elbo=posterior.elbo + 1.0)) != digest_of(posterior)
