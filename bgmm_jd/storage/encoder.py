"""From a value to a tree of JSON and named arrays: see `type_hints`."""

import dataclasses
import enum
import math
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


@dataclasses.dataclass
class Encoder:
    """Make trees of values, and collect their arrays by name.

    stand_ins : by type.
    arrays : what has been collected so far; without axes of length 0.
    """

    stand_ins: StandIns
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def tree(self, value: Any, hint: Any, path: str) -> Any:
        """Return the tree of a value.

        Parameters
        ----------
        value : of the type that the hint says.
        hint : type hint.
        path : the name of the value in errors and of its array.

        Raises
        ------
        TypeError
            If the value is not of that type, or of one that cannot be saved.
        """
        if hint in self.stand_ins:
            stand_in = self.stand_ins[hint]
            return self.tree(stand_in.save(value), stand_in.hint, path)
        origin = typing.get_origin(hint)
        if origin in (types.UnionType, typing.Union):
            return self._alternative(value, hint, path)
        if origin is typing.Literal:
            return self._checked(value, value in typing.get_args(hint), hint, path)
        if origin is tuple:
            members = tuple_members(hint, len(value))
            pairs = zip(value, members, strict=True)
            return [self.tree(v, member, f"{path}.{i}") for i, (v, member) in enumerate(pairs)]
        if origin is not None and issubclass(origin, Mapping):
            member = typing.get_args(hint)[1]
            return {name: self.tree(v, member, f"{path}.{name}") for name, v in value.items()}
        if hint in (Any, np.ndarray, bytes):
            return self._array(value, hint, path)
        self._checked(value, isinstance(value, _accepted(hint)), hint, path)
        if is_record(hint):
            return {
                name: self.tree(getattr(value, name), member, f"{path}.{name}" if path else name)
                for name, member in field_hints(hint).items()
            }
        return _encode_scalar(value, hint)

    def _alternative(self, value: Any, hint: Any, path: str) -> Any:
        if value is None:
            return None
        options = alternatives(hint)
        if len(options) == 1:
            return self.tree(value, options[0], path)
        kind = type(value)
        self._checked(value, kind in options, hint, path)
        return {kind.__name__: self.tree(value, kind, path)}

    def _array(self, value: Any, hint: Any, path: str) -> Any:
        """Return the reference to an array, whose layout in memory decides how sums are rounded."""
        if value is None and hint is Any:
            return None
        kind, array = _as_array(value)
        self._checked(value, hint is Any or kind == KINDS[hint], hint, path)
        self._checked(value, array.dtype.name in DTYPES, hint, path)
        axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        # In HDF5 a slash would be a group, and a NUL the end of the name.
        name = path.replace("/", "_").replace("\0", "_")
        while name in self.arrays:
            name += "_"
        if array.size:
            stored = np.array(array.transpose(axes), order="C")
            self.arrays[name] = stored.view(stored_dtype(array.dtype.name))
        return {
            kind: name,
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "axes": axes,
        }

    def _checked(self, value: Any, is_sound: bool, hint: Any, path: str) -> Any:
        if not is_sound:
            raise TypeError(
                f"{path or 'the value'} must be {describe(hint)} to be saved; "
                f"got {type(value).__name__}."
            )
        return value


def _as_array(value: Any) -> tuple[str, np.ndarray]:
    if isinstance(value, bytes):
        return "bytes", np.frombuffer(value, np.uint8)
    if isinstance(value, tf.Tensor):
        return "tensor", value.numpy() if value.shape.rank else np.asarray(value.numpy())
    return "array", value if isinstance(value, np.ndarray) else np.asarray(value, object)


def _encode_scalar(value: Any, hint: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if hint is bool:
        return bool(value)
    if hint is int:
        return int(value)
    if hint is float:
        return float(value) if math.isfinite(value) else str(float(value))
    return str(value)


def _accepted(hint: Any) -> Any:
    """Return the types that a value may have: numbers of NumPy count as numbers."""
    numbers = {bool: (bool, np.bool_), int: (int, np.integer)}
    return numbers.get(hint, (int, float, np.number) if hint is float else hint)
