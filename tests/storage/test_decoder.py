"""Values and their trees: random values of all types come back, and anything else is refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from equal_values import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_values import values_of

from bgmm_jd.data.standardize import Data
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.settings import Settings
from bgmm_jd.storage import container
from bgmm_jd.storage.container import Contents
from bgmm_jd.storage.decoder import Decoder, DecodingError
from bgmm_jd.storage.encoder import Encoder
from bgmm_jd.storage.type_hints import StandIn
from bgmm_jd.variational.approximation import Bank, Calibration, Proposal


class Part(NamedTuple):
    number: float
    counts: tuple[int, ...]
    pair: tuple[str, bool]


class OtherPart(NamedTuple):
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Part | None
    either: Part | OtherPart
    by_name: Mapping[str, Mapping[str, Any]]
    status: Status
    form: Literal["diag", "full"]
    array: np.ndarray
    added: int = 3


RECORDS = [Whole, Mode, Restart, Calibration, Proposal, Bank, Data, Settings]


def round_trip(value, hint):
    """Return a value after the way through the bytes of a file."""
    encoder = Encoder({})
    text = json.dumps(encoder.tree(value, hint, "top"), allow_nan=False)
    contents = container.from_bytes(container.to_bytes(Contents(text, encoder.arrays), {}))
    return Decoder({}, contents.arrays).value(json.loads(contents.text), hint, "top")


# 200 cases in all, the same in each run. `Settings` has many fields, and is slow to make.
@pytest.mark.parametrize("hint", RECORDS)
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_values_come_back(hint, data):
    value = data.draw(values_of(hint))
    assert_same(value, round_trip(value, hint))


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_in_memory_comes_back(order):
    """It decides in which order numbers are added, and so how sums are rounded."""
    array = np.asarray(np.arange(24.0).reshape(2, 3, 4), order=order)
    found = round_trip(array, np.ndarray)
    assert found.strides == array.strides
    assert not found.flags.writeable


def test_numbers_of_numpy_become_those_of_python():
    found = round_trip(Part(np.float32(0.1), (np.int64(2),), ("a", np.True_)), Part)
    assert found == (float(np.float32(0.1)), (2,), ("a", True))
    assert [type(v) for v in (found.number, found.counts[0], found.pair[1])] == [float, int, bool]


def test_names_of_arrays_do_not_collide():
    value = {
        "a": {"b.c": np.zeros(1)},
        "a.b": {"c": np.ones(1), "/": np.ones(2), "_": np.ones(3), "\0": np.ones(4)},
    }
    assert_same(value, round_trip(value, Mapping[str, Mapping[str, np.ndarray]]))


@settings(max_examples=5, derandomize=True, deadline=None)
@given(value=values_of(Whole))
def test_field_that_is_missing_has_its_default(value):
    encoder = Encoder({})
    tree = encoder.tree(value, Whole, "")
    del tree["added"]
    assert Decoder({}, encoder.arrays).value(tree, Whole, "").added == 3


def test_stand_in_is_saved_in_place_of_a_value():
    stand_ins = {
        complex: StandIn(tuple[float, float], lambda z: (z.real, z.imag), lambda p: complex(*p))
    }
    tree = Encoder(stand_ins).tree((1j, 2 + 0j), tuple[complex, ...], "")
    assert tree == [[0.0, 1.0], [2.0, 0.0]]
    assert Decoder(stand_ins, {}).value(tree, tuple[complex, ...], "") == (1j, 2 + 0j)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1.5, int),
        ("1", float),
        (1, str),
        (None, float),
        ("converged", Status),
        ("tied", Literal["diag", "full"]),
        ([1, 2], np.ndarray),
        (np.array(["a"]), np.ndarray),
        (np.array([1j]), Any),
        (object(), Any),
        (OtherPart(b""), Part),
        (3, Part | OtherPart),
    ],
)
def test_value_of_another_type_is_not_saved(value, hint):
    with pytest.raises(TypeError, match=r"^here must be .* to be saved; got "):
        Encoder({}).tree(value, hint, "here")


ARRAY = {"array": "a", "dtype": "float64", "shape": [2, 3], "axes": [0, 1]}
PART = {"number": 1.0, "counts": [], "pair": ["", True]}


@pytest.mark.parametrize(
    ("tree", "hint"),
    [
        ("x", float),
        (True, float),
        (None, float),
        (1.0, int),
        (True, int),
        (0, bool),
        (1, str),
        ("EXCELLENT", Status),
        (["CONVERGED"], Status),
        ("tied", Literal["diag", "full"]),
        ({}, tuple[int, ...]),
        ([1], tuple[int, int]),
        ([], Mapping[str, int]),
        ([], Part),
        ({"number": 1.0}, Part),
        ({**PART, "more": 1}, Part),
        ({"Status": PART}, Part | OtherPart),
        ({"Part": PART, "OtherPart": {}}, Part | OtherPart),
        (None, Part | OtherPart),
        (None, np.ndarray),
        ("a", np.ndarray),
        ({}, np.ndarray),
        ({"tensor": "a"} | {k: v for k, v in ARRAY.items() if k != "array"}, np.ndarray),
        (ARRAY | {"array": "b"}, np.ndarray),
        (ARRAY | {"array": ["a"]}, np.ndarray),
        (ARRAY | {"dtype": "float32"}, np.ndarray),
        (ARRAY | {"dtype": "object"}, np.ndarray),
        (ARRAY | {"dtype": []}, np.ndarray),
        (ARRAY | {"shape": [3, 2]}, np.ndarray),
        (ARRAY | {"shape": [-1, 3]}, np.ndarray),
        (ARRAY | {"shape": [2.0, 3]}, np.ndarray),
        (ARRAY | {"shape": None}, np.ndarray),
        (ARRAY | {"axes": [0, 0]}, np.ndarray),
        (ARRAY | {"axes": [0]}, np.ndarray),
        (ARRAY | {"array": "flags", "dtype": "bool", "shape": [1], "axes": [0]}, np.ndarray),
    ],
)
def test_tree_of_another_form_is_refused(tree, hint):
    arrays = {"a": np.zeros((2, 3)), "flags": np.array([2], np.uint8)}
    with pytest.raises(DecodingError, match=r"^here "):
        Decoder({}, arrays).value(tree, hint, "here")
