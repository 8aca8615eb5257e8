"""A file from which the search of a fit goes on where it was ended: `checkpoint` of `fit`.

It holds the identity of the fit and the state of its search, and is written whole, beside the
one before, whose place it then takes. Nothing in it is code.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bgmm_jd.fitting.identity import Identity, differences
from bgmm_jd.fitting.search_state import SearchLog, SearchState
from bgmm_jd.storage.container import Contents
from bgmm_jd.storage.decoder import Decoder
from bgmm_jd.storage.encoder import Encoder
from bgmm_jd.storage.files import write_whole
from bgmm_jd.storage.npz import from_npz, to_npz

# It rises with a change after which the state means something else, or has other fields: a version
# of the library resumes its own fits only.
FORMAT = 1
_NAME = "bgmm_jd checkpoint"


class Checkpoint(NamedTuple):
    """What the file holds."""

    identity: Identity
    state: SearchState


def open_checkpoint(path: Path, identity: Identity) -> SearchLog:
    """Return the log of a search that goes on from a file, if it exists, and is kept in it.

    Parameters
    ----------
    path : Path
    identity : of the fit.

    Raises
    ------
    ValueError
        If the file is damaged, or is not of this fit.
    OSError
        If it cannot be read or written.
    """
    state = SearchState()
    if path.exists():
        found = decode_checkpoint(path.read_bytes(), str(path))
        _check_identity(found.identity, identity, path)
        state = found.state
    else:
        write_whole(path, encode_checkpoint(Checkpoint(identity, state)))
    return SearchLog(state, _writer(path, identity))


@contextlib.contextmanager
def named_in_errors(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Add a note to any error that names the file from which the fit can go on."""
    try:
        yield
    except Exception as error:
        if path is not None:
            error.add_note(
                f"The checkpoint {os.fspath(path)} has what this fit had reached: repeat the call "
                "to go on from there."
            )
        raise


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as the bytes of a file."""
    encoder = Encoder({})
    tree = encoder.tree(checkpoint, Checkpoint, "")
    document = {"name": _NAME, "format": FORMAT, "checkpoint": tree}
    return to_npz(Contents(json.dumps(document, allow_nan=False), encoder.arrays))


def decode_checkpoint(data: bytes, source: str) -> Checkpoint:
    """Return the checkpoint that bytes hold.

    Parameters
    ----------
    data : bytes
    source : what the bytes are, in errors.

    Raises
    ------
    ValueError
        If they are no checkpoint, are damaged, or are of another format.
    """
    try:
        contents = from_npz(data)
        document = json.loads(contents.text)
        if not isinstance(document, dict) or document.get("name") != _NAME:
            raise ValueError("it was not written by bgmm_jd.fit")
        if document.get("format") != FORMAT:
            raise ValueError(f"it has format {document.get('format')!r} in place of {FORMAT}")
        decoder = Decoder({}, contents.arrays)
        found: Checkpoint = decoder.value(document.get("checkpoint"), Checkpoint, "")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{source} is not a checkpoint that can be resumed: {error}. Give another name, or "
            "delete the file if it is one, to begin anew."
        ) from error
    return found


def _writer(path: Path, identity: Identity) -> Callable[[SearchState], Any]:
    return lambda state: write_whole(path, encode_checkpoint(Checkpoint(identity, state)))


def _check_identity(file: Identity, call: Identity, path: Path) -> None:
    found = differences(file, call)
    if found:
        raise ValueError(
            f"{path} is the checkpoint of another fit: it is of {', '.join(found)}. Repeat the "
            "call that made it, with the same versions, to resume; delete it, or give another "
            "name, to begin anew. What an earlier fit has found serves fit(..., start=posterior) "
            "too."
        )
