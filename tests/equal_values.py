"""Whether two values are the same in every field, without the code that saves them."""

import dataclasses
import enum
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.variational.structure import Model


def assert_same(one, other, path="value"):
    """Assert that two values have the same type, the same fields and the same bits."""
    if isinstance(one, float | np.floating):
        assert isinstance(other, float), path
        assert one == other or (math.isnan(one) and math.isnan(other)), path
        return
    if isinstance(one, int | np.integer) and not isinstance(one, bool):
        assert type(other) is int, path
        assert one == other, path
        return
    if isinstance(one, tfd.JointDistributionCoroutine):
        # Those of the library are made again of equal arguments.
        assert arguments_of(one) == arguments_of(other), path
        return
    if isinstance(one, Model):
        assert_same(one.prior, other.prior, f"{path}.prior")
        assert one.covariance == other.covariance, path
        return
    assert type(one) is type(other), path
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), path
        assert one.tobytes() == other.tobytes(), path
    elif isinstance(one, tf.Tensor):
        assert_same(np.asarray(one.numpy()), np.asarray(other.numpy()), path)
    else:
        assert_same_parts(one, other, path)


def arguments_of(prior):
    """Return what a prior is made of, if it is one of the library, or the prior itself."""
    return getattr(prior.model, "arguments", prior)


def assert_same_parts(one, other, path):
    fields = fields_of(one)
    assert fields.keys() == fields_of(other).keys(), path
    for name, value in fields.items():
        assert_same(value, fields_of(other)[name], f"{path}.{name}")
    if not fields:
        assert one == other, path


def fields_of(value):
    """Return the parts of a value by name; nothing if it has none."""
    if isinstance(value, enum.Enum):
        return {}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, tuple) else {}
