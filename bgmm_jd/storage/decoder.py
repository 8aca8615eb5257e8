"""From a tree of JSON and named arrays to a value: see `type_hints`."""

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bgmm_jd.storage.type_hints import (
    DTYPES,
    KINDS,
    StandIns,
    alternatives,
    describe,
    field_hints,
    is_record,
    stored_dtype,
    tuple_members,
)

_NOT_FINITE = ("nan", "inf", "-inf")  # JSON has no such numbers


class DecodingError(ValueError):
    """A tree that does not have the form that the type hints demand."""


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Make values of trees and their arrays.

    stand_ins : by type.
    arrays : by name.
    """

    stand_ins: StandIns
    arrays: Mapping[str, np.ndarray]

    def value(self, tree: Any, hint: Any, path: str) -> Any:
        """Return the value of a tree.

        Parameters
        ----------
        tree : as `Encoder.tree` returned it.
        hint : type hint.
        path : the name of the value in errors.

        Raises
        ------
        DecodingError
            If the tree does not have the form that the hint demands.
        """
        if hint in self.stand_ins:
            stand_in = self.stand_ins[hint]
            return stand_in.restore(self.value(tree, stand_in.hint, path))
        origin = typing.get_origin(hint)
        if origin in (types.UnionType, typing.Union):
            return self._alternative(tree, hint, path)
        if origin is typing.Literal:
            return _checked(tree, tree in typing.get_args(hint), hint, path)
        if origin is tuple:
            _checked(tree, isinstance(tree, list), hint, path)
            members = tuple_members(hint, len(tree))
            _checked(tree, len(tree) == len(members), hint, path)
            pairs = enumerate(zip(tree, members, strict=True))
            return tuple(self.value(v, member, f"{path}.{i}") for i, (v, member) in pairs)
        if origin is not None and issubclass(origin, Mapping):
            _checked(tree, isinstance(tree, dict), hint, path)
            member = typing.get_args(hint)[1]
            return {name: self.value(v, member, f"{path}.{name}") for name, v in tree.items()}
        if hint in (Any, np.ndarray, bytes):
            return self._array(tree, hint, path)
        return self._record(tree, hint, path) if is_record(hint) else _scalar(tree, hint, path)

    def _alternative(self, tree: Any, hint: Any, path: str) -> Any:
        if tree is None:
            return _checked(None, type(None) in typing.get_args(hint), hint, path)
        options = alternatives(hint)
        if len(options) == 1:
            return self.value(tree, options[0], path)
        by_name = {option.__name__: option for option in options}
        _checked(tree, isinstance(tree, dict) and len(tree) == 1, hint, path)
        ((name, inner),) = tree.items()
        _checked(name, name in by_name, hint, path)
        return self.value(inner, by_name[name], path)

    def _record(self, tree: Any, hint: Any, path: str) -> Any:
        """Return a NamedTuple or a dataclass; a field that it lacks has its default."""
        _checked(tree, isinstance(tree, dict), hint, path)
        fields = field_hints(hint)
        unknown = sorted(tree.keys() - fields.keys())
        if unknown:
            raise DecodingError(f"{path or hint.__name__} has the unknown field {unknown[0]!r}")
        values = {
            name: self.value(tree[name], member, f"{path}.{name}" if path else name)
            for name, member in fields.items()
            if name in tree
        }
        try:
            return hint(**values)
        except TypeError as error:
            raise DecodingError(f"{path or hint.__name__} is not complete: {error}") from error

    def _array(self, tree: Any, hint: Any, path: str) -> Any:
        if tree is None and hint is Any:
            return None
        kinds = [KINDS[hint]] if hint in KINDS else ["array", "tensor"]
        _checked(tree, isinstance(tree, dict), hint, path)
        kind = next((kind for kind in kinds if kind in tree), None)
        _checked(tree, kind is not None, hint, path)
        array = _restored(self.arrays, tree, str(tree[kind]), path)
        if kind == "bytes":
            return array.tobytes()
        if kind == "tensor":
            return tf.constant(array)
        array.setflags(write=False)
        return array


def _restored(arrays: Mapping[str, np.ndarray], tree: Any, name: str, path: str) -> np.ndarray:
    """Return the array that a tree refers to, in the layout that it had."""
    dtype, shape, axes = (tree.get(key) for key in ("dtype", "shape", "axes"))
    if not (_are_counts(shape) and _are_counts(axes) and dtype in DTYPES):
        raise DecodingError(f"{path} has no dtype, shape and axes that are known")
    if sorted(axes) != list(range(len(shape))):
        raise DecodingError(f"{path} has {len(shape)} axes, and not {axes}")
    if 0 in shape:
        return np.zeros(shape, dtype)
    stored = [shape[axis] for axis in axes]
    array = arrays.get(name)
    has_form = array is not None and list(array.shape) == stored
    if array is None or not has_form or array.dtype.name != stored_dtype(dtype):
        raise DecodingError(f"{path} must be a {dtype} array of shape {shape}, and is not")
    if dtype == "bool" and array.max() > 1:
        raise DecodingError(f"{path} must be true or false everywhere, and is not")
    return array.view(dtype).transpose(np.argsort(axes).astype(int))


def _are_counts(tree: Any) -> bool:
    return isinstance(tree, list) and all(type(count) is int and count >= 0 for count in tree)


def _scalar(tree: Any, hint: Any, path: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        _checked(tree, isinstance(tree, str) and tree in hint.__members__, hint, path)
        return hint[tree]
    if hint is float:
        is_number = type(tree) in (int, float) or (type(tree) is str and tree in _NOT_FINITE)
        return float(_checked(tree, is_number, hint, path))
    return _checked(tree, type(tree) is hint, hint, path)


def _checked(tree: Any, is_sound: bool, hint: Any, path: str) -> Any:
    if not is_sound:
        raise DecodingError(f"{path or 'the posterior'} must be {describe(hint)}, and is not")
    return tree
