"""The garbage collector is off inside, and afterwards as it was."""

import gc

import pytest

from bgmm_jd.backend.collector import collector_at_rest


@pytest.fixture(autouse=True)
def restored():
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("was_on", [True, False])
def test_collector_rests_and_is_then_as_before(was_on):
    (gc.enable if was_on else gc.disable)()
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_collector_is_on_again_after_an_error():
    gc.enable()
    with pytest.raises(ImportError), collector_at_rest():
        raise ImportError
    assert gc.isenabled()
