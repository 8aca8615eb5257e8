"""The call of a fit as text, evaluated again."""

import types

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting.provenance import provenance_of


def record(X, K, *, form="diag", seed=0, level=0.5, prior=None, progress=None, flag=False):
    """Return the arguments of a call."""
    return {**locals()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"form": 'it\'s "full"', "seed": 3},
        {"level": np.float32(0.25), "flag": True, "seed": np.int64(7)},
    ],
)
def test_call_gives_the_same_arguments_again(options):
    arguments = record([[1.0]], np.int64(2), **options)
    call = provenance_of(record, {**arguments, "progress": True}).call
    library = types.SimpleNamespace(record=record)
    assert eval(call, {"bgmm_jd": library, "X": [[1.0]]}) == arguments


def test_objects_stand_for_themselves_and_defaults_are_left_out():
    call = provenance_of(record, record("rows", 2, prior=object(), form="".join(["di", "ag"]))).call
    assert call == "bgmm_jd.record(X, K=2, seed=0, prior=prior)"


def test_versions_are_those_of_the_libraries():
    versions = provenance_of(record, record(1, 2)).versions
    assert versions[0] == f"bgmm_jd {bgmm_jd.__version__}"
    assert any(version.startswith("Python 3.") for version in versions)


def test_executor_is_left_out_because_it_does_not_change_the_result():
    def spread(X, *, executor=None):
        return {**locals()}

    assert provenance_of(spread, spread("rows", executor=object())).call == "bgmm_jd.spread(X)"


def test_posterior_knows_its_call(two_clusters_posterior):
    assert two_clusters_posterior.provenance.call == "bgmm_jd.fit(X, K=2, seed=0)"
