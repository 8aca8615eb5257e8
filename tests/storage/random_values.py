"""Strategies of hypothesis for values of all types that are saved, by their type hints."""

import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from bgmm_jd.storage.type_hints import DTYPES, field_hints


def random_array(seed: int) -> np.ndarray:
    """Return an array of any dtype, shape and order of axes; some with an axis of length 0."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, 5, rng.integers(4)) + (rng.random() < 0.9)
    array = np.asarray(100.0 * rng.random(shape)).astype(rng.choice(DTYPES))
    return np.transpose(array, rng.permutation(array.ndim))


ARRAYS = st.integers(0, 2**32 - 1).map(random_array)
SCALARS = {
    float: st.floats(),
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    str: st.text(max_size=6),
    bytes: st.binary(max_size=5),
    np.ndarray: ARRAYS,
    Any: st.none() | ARRAYS | ARRAYS.map(tf.constant),
    type(None): st.none(),
}


def values_of(hint: Any) -> st.SearchStrategy:
    """Return a strategy for values of the type that a hint says."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[1:] == (...,):
        return st.lists(values_of(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, args))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(SCALARS[str], values_of(args[1]), max_size=2)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    return st.builds(hint, **{name: values_of(part) for name, part in field_hints(hint).items()})
