"""What may be saved, by the type hints of fields: records, alternatives and arrays.

What a field holds is said by the code and never by the file. `Encoder` makes a tree of JSON of a
value, beside named arrays, by walking through the hints, and `Decoder` reads a tree by the same
hints: it has no names of classes but those of the alternatives that a hint lists. A new field of a
NamedTuple or a dataclass is therefore saved without a word here, and one without a type that can be
saved is an error.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")
KINDS = {np.ndarray: "array", bytes: "bytes"}  # what a tree calls an array; "tensor" is the third


class StandIn(NamedTuple):
    """What is saved in place of a type that is not plain data.

    hint : the type that is saved.
    save, restore : from a value to what is saved, and back.
    """

    hint: Any
    save: Callable[[Any], Any]
    restore: Callable[[Any], Any]


StandIns = Mapping[Any, StandIn]


def is_record(hint: Any) -> bool:
    """Return whether a hint is a NamedTuple or a dataclass."""
    return dataclasses.is_dataclass(hint) or (isinstance(hint, type) and hasattr(hint, "_fields"))


def field_hints(record: Any) -> dict[str, Any]:
    """Return the hint of each field of a NamedTuple or a dataclass."""
    is_dataclass = dataclasses.is_dataclass(record)
    names = [f.name for f in dataclasses.fields(record)] if is_dataclass else record._fields
    hints = typing.get_type_hints(record)
    return {name: hints[name] for name in names}


def alternatives(hint: Any) -> list[Any]:
    """Return the members of a union other than None."""
    return [member for member in typing.get_args(hint) if member is not type(None)]


def tuple_members(hint: Any, length: int) -> list[Any]:
    """Return the hint of each member of a tuple of that length, where it may have any."""
    members = typing.get_args(hint)
    return [members[0]] * length if members[1:] == (...,) else list(members)


def describe(hint: Any) -> str:
    """Return a hint as it stands in the code."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def stored_dtype(dtype: str) -> str:
    """Return the dtype in which an array is stored: netCDF has no bool."""
    return "uint8" if dtype == "bool" else dtype
