"""What a fit depends on, in words: by it a file is recognised as that of the same fit.

Small values stand as they are, so that an error can show them. Of arrays, settings, priors and
posteriors there is a digest.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.versions import library_versions
from bgmm_jd.data.frames import column_names, frame_values, is_frame
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage.encoding import encode
from bgmm_jd.storage.prior_record import record_of

Identity = Mapping[str, str]

_PLAIN = bool | int | float | str | None
_BYTES = 2**24  # of rows that are read at a time


def identity_of(arguments: Mapping[str, Any]) -> Identity:
    """Return the identity of a fit from its arguments, with the versions of the libraries.

    Raises
    ------
    TypeError
        If an argument is of a kind that has no digest.
    """
    described = {name: _describe(name, value) for name, value in arguments.items()}
    return described | dict(library_versions())


def digest_of(value: Any) -> str:
    """Return a number of 32 hexadecimal digits that equal values share, and others do not.

    Raises
    ------
    TypeError
        If the value, or a part of it, is of a kind that has none.
    """
    found = hashlib.sha256()
    _read(value, found.update)
    return found.hexdigest()[:32]


def differences(file: Identity, call: Identity) -> list[str]:
    """Return what differs between the identities of a fit in a file and of a call, in words."""
    names = [*call, *(name for name in file if name not in call)]
    pairs = [(name, file.get(name, "nothing"), call.get(name, "nothing")) for name in names]
    return [
        f"another {name}" if _is_digest(was) or _is_digest(now) else f"{name}={was} and not {now}"
        for name, was, now in pairs
        if was != now
    ]


def _describe(name: str, value: Any) -> str:
    if isinstance(value, _PLAIN):
        return str(value)
    try:
        return "digest " + digest_of(value)
    except TypeError as error:
        raise TypeError(f"{name} cannot be recognised in a later call: {error}") from error


def _is_digest(description: str) -> bool:
    return description.startswith("digest ")


def _read(value: Any, update: Callable[[Any], None]) -> None:
    """Give all that a value consists of to a function, in a fixed order."""
    if isinstance(value, _PLAIN | bytes):
        update(f"{type(value).__name__} {value!r};".encode())
    elif isinstance(value, Posterior):
        update(encode(dataclasses.replace(value, seconds=MappingProxyType({}), provenance=None)))
    elif isinstance(value, tfd.JointDistributionCoroutine):
        _read(record_of(value), update)
    elif is_frame(value):
        _read((column_names(value), frame_values(value, "the frame")), update)
    elif isinstance(value, Mapping):
        _read(sorted(value.items()), update)
    elif dataclasses.is_dataclass(value):
        update(type(value).__name__.encode())
        _read([getattr(value, field.name) for field in dataclasses.fields(value)], update)
    elif isinstance(value, list | tuple):
        update(f"{len(value)} of ".encode())
        for part in value:
            _read(part, update)
    elif isinstance(value, tf.Tensor | np.ndarray | np.generic) or hasattr(value, "__array__"):
        _read_array(value if isinstance(value, np.ndarray) else np.asarray(value), update)
    else:
        raise TypeError(f"it is, or has, a {type(value).__name__}.")


def _read_array(array: np.ndarray, update: Callable[[Any], None]) -> None:
    """Read an array in its logical order, whatever its layout, and a part at a time."""
    if array.dtype.kind not in "biufU":
        raise TypeError(f"it is, or has, an array of dtype {array.dtype}.")
    update(f"{array.dtype.str} {array.shape};".encode())
    rows = np.atleast_1d(array)
    step = max(1, _BYTES // max(1, rows[:1].nbytes))
    for first in range(0, len(rows), step):
        update(np.ascontiguousarray(rows[first : first + step]).tobytes())
