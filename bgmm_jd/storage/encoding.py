"""A posterior as the bytes of a file, and back."""

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd._version import __version__
from bgmm_jd.backend.versions import library_versions
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage import container
from bgmm_jd.storage.consistency import check_consistency
from bgmm_jd.storage.container import Contents
from bgmm_jd.storage.decoder import Decoder
from bgmm_jd.storage.encoder import Encoder
from bgmm_jd.storage.prior_record import (
    PriorMismatchError,
    PriorRecord,
    prior_of_record,
    record_of,
)
from bgmm_jd.storage.type_hints import StandIn, StandIns
from bgmm_jd.variational.structure import Model, model_of

# It rises with a change after which older versions would read something else than was saved. A new
# field with a default needs no new number: older versions say that they do not know the field.
FORMAT = 1
_NAME = "bgmm_jd posterior"
# What making a prior, a model and their tensors of contents that were made to be wrong may raise.
_WRONG_CONTENTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)


class SavedModel(NamedTuple):
    """What a model is made of again: its sites follow from the prior."""

    prior: tfd.JointDistributionCoroutine
    covariance: str


def encode(posterior: Posterior) -> bytes:
    """Return a posterior as the bytes of a file, the same for the same posterior."""
    encoder = Encoder(_stand_ins(None, 0))
    document = {
        "name": _NAME,
        "format": FORMAT,
        "versions": library_versions(),
        "posterior": encoder.tree(posterior, Posterior, ""),
    }
    text = json.dumps(document, allow_nan=False)
    return container.to_bytes(Contents(text, encoder.arrays), _attributes(posterior))


def decode(data: bytes, prior: Any, source: str) -> Posterior:
    """Return the posterior that bytes hold.

    Parameters
    ----------
    data : bytes
    prior : tfd.JointDistributionCoroutine or None
        The user's own, if the fit had such a prior.
    source : what the bytes are, in errors.

    Raises
    ------
    ValueError
        If they are damaged or of a newer format, or the prior is not that of the fit.
    """
    try:
        contents = container.from_bytes(data)
        document = json.loads(contents.text)
        if not isinstance(document, dict) or document.get("name") != _NAME:
            raise ValueError("it was not written by bgmm_jd.save")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} cannot be loaded: {error}.") from error
    _check_format(document, source)
    try:
        decoder = Decoder(_stand_ins(prior, len(data)), contents.arrays)
        found = decoder.value(document.get("posterior"), Posterior, "")
        check_consistency(found)
    except PriorMismatchError:
        raise
    except _WRONG_CONTENTS as error:
        by = _made_by(document)
        raise ValueError(f"{source} cannot be loaded: {error}. It was written by {by}.") from error
    return replace(found, seconds=MappingProxyType(dict(found.seconds)))


def _stand_ins(own: Any, size: int) -> StandIns:
    """Return what is saved in place of priors and models.

    Parameters
    ----------
    own : the prior that the user has passed.
    size : of the file, in bytes. Every variable of the prior has a parameter in it, of 4 or 8 bytes
        for each entry.
    """
    return {
        tfd.JointDistributionCoroutine: StandIn(
            PriorRecord, record_of, lambda record: prior_of_record(record, own, size // 4)
        ),
        Model: StandIn(
            SavedModel,
            lambda model: SavedModel(model.prior, model.covariance),
            lambda saved: model_of(saved.prior, saved.covariance),
        ),
    }


def _attributes(posterior: Posterior) -> Mapping[str, Any]:
    """Return what a reader of the file sees at first."""
    return {
        "title": "Posterior of a Gaussian mixture: read it with bgmm_jd.load",
        "format": FORMAT,
        **{f"{name}_version": version for name, version in library_versions().items()},
        "K": posterior.K,
        "D": posterior.D,
        "covariance": posterior.covariance,
        "method": posterior.method,
        "status": posterior.status.name,
        "elbo": posterior.elbo,
        "log_evidence": posterior.log_evidence,
    }


def _check_format(document: Mapping[str, Any], source: str) -> None:
    number = document.get("format")
    if type(number) is not int or number < 1:
        raise ValueError(f"{source} cannot be loaded: it has the unknown format {number!r}.")
    if number > FORMAT:
        raise ValueError(
            f"{source} has format {number}, of {_made_by(document)}; bgmm_jd {__version__} reads "
            f"no format above {FORMAT}. Install the newer version to load it."
        )


def _made_by(document: Mapping[str, Any]) -> str:
    versions = document.get("versions")
    version = versions.get("bgmm_jd") if isinstance(versions, dict) else None
    return f"bgmm_jd {version}"
