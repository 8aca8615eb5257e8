"""Files with a right checksum and wrong contents: each is an error that says what is wrong."""

import copy
import json

import numpy as np
import pytest
from fits import fit_of

from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.storage import container
from bgmm_jd.storage.container import Contents
from bgmm_jd.storage.encoding import FORMAT, decode, encode


@pytest.fixture(scope="module")
def saved():
    """Return the document and the arrays of a file."""
    contents = container.from_bytes(encode(fit_of("mixture")))
    return json.loads(contents.text), contents.arrays


def with_contents(document, arrays):
    return container.to_bytes(Contents(json.dumps(document), arrays), {})


def changed(document, path, value):
    """Return the document with another value at a path."""
    found = copy.deepcopy(document)
    part = found
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return found


def leaves(tree, path=()):
    """Yield the path of each leaf of a document."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_document_as_it_is_has_the_posterior(saved):
    assert repr(decode(with_contents(*saved), None, "it")) == repr(fit_of("mixture"))


def test_errors_of_the_container_name_what_was_read():
    data = encode(fit_of("mixture"))
    changed = data[:1_000] + bytes([data[1_000] ^ 1]) + data[1_001:]
    for wrong in (changed, data[:1_000]):
        with pytest.raises(ValueError, match="the posterior cannot be loaded: it"):
            decode(wrong, None, "the posterior")


PRIOR = ("posterior", "prior", "WeaklyInformativeArguments")
PROBLEM = ("posterior", "approximation", "problem")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), "other", "not written by bgmm_jd.save"),
        (("format",), 0, "unknown format 0"),
        (("format",), "1", "unknown format '1'"),
        (("posterior",), None, "must be Posterior"),
        (("posterior", "status"), "EXCELLENT", "status must be Status"),
        (("posterior", "surprise"), 1, "unknown field 'surprise'"),
        (("posterior", "covariance"), "full", "form of covariance does not fit"),
        (("posterior", "covariance"), "other", "covariance does not fit"),
        (("posterior", "missing"), "zero", "missing must be"),
        (("posterior", "K"), 3, "K does not fit"),
        (("posterior", "K"), 2.0, "K must be int"),
        (("posterior", "D"), 3, "columns does not fit"),
        (("posterior", "feature_names"), ["a"], "names does not fit"),
        (("posterior", "component_names"), ["a", "b", "c"], "names does not fit"),
        (("posterior", "elbo"), "1", "elbo must be float"),
        (("posterior", "prior"), {"os.system": "x"}, "prior must be"),
        (("posterior", "prior"), "module.function", "prior must be"),
        ((*PRIOR, "K"), 10**12, "the file is too small for that"),
        ((*PRIOR, "K"), 0, "the file is too small for that"),
        ((*PRIOR, "covariance"), "none", "prior.*covariance must be"),
        ((*PRIOR, "dtype"), "object", "dtype 'object'"),
        ((*PROBLEM, "execution"), "shell", "execution does not fit"),
        ((*PROBLEM, "model", "covariance"), "spherical", "cannot be loaded"),
    ],
)
def test_wrong_value_is_an_error_that_names_it(saved, path, value, message):
    document, arrays = saved
    data = with_contents(changed(document, path, value), arrays)
    with pytest.raises(ValueError, match=message):
        decode(data, None, "it")


def test_newer_format_is_refused_with_advice(saved):
    document, arrays = saved
    newer = changed(changed(document, ("format",), FORMAT + 1), ("versions", "bgmm_jd"), "9.0")
    with pytest.raises(ValueError, match=r"^it has format .*bgmm_jd 9\.0; .*Install the newer ver"):
        decode(with_contents(newer, arrays), None, "it")


def test_array_that_does_not_fit_is_an_error(saved):
    document, arrays = saved
    order = arrays | {"approximation.order": np.array([0, 0])}
    with pytest.raises(ValueError, match="order must be a permutation"):
        decode(with_contents(document, order), None, "it")
    left = {name: array for name, array in arrays.items() if name != "approximation.order"}
    with pytest.raises(ValueError, match=r"approximation\.order must be a int64 array"):
        decode(with_contents(document, left), None, "it")


def test_text_that_is_no_document_is_an_error():
    for text in ("{", "[]", "[" * 100_000, '"x"', "\ud7ff"):
        with pytest.raises(ValueError, match="it cannot be loaded"):
            decode(container.to_bytes(Contents(text, {}), {}), None, "it")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of a prior with negative variances
@pytest.mark.parametrize("changes", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_any_leaf_with_another_value_is_an_error_or_a_posterior(saved, changes):
    """No part of the library reports such a change in its own way."""
    document, arrays = saved
    rng = np.random.default_rng(0)
    paths = list(leaves(document))
    values = [None, -1, 10**15, 1e300, True, "x", [], {}, [[0]], {"array": "x"}]
    found = []
    for _ in range(changes):
        path, value = paths[rng.integers(len(paths))], values[rng.integers(len(values))]
        found.append(decoded(with_contents(changed(document, path, value), arrays)))
    errors = [str(one) for one in found if not isinstance(one, Posterior)]
    assert len(errors) > changes / 2
    assert all(error.startswith("it ") for error in errors)


def decoded(data):
    """Return the posterior of bytes, or the error that they raise."""
    try:
        return decode(data, None, "it")
    except ValueError as error:
        return error
