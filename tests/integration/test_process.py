"""Fits, predictions and files do not depend on the state of the process around them.

What is refused is in `tests/backend/test_process_state.py`.
"""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from builders import QUICK
from equal_values import assert_same
from full_disk import no_file_longer_than

import bgmm_jd
from bgmm_jd.fitting import verdict


@pytest.fixture(scope="module")
def by_threads(X):
    """Return two fits that were made at the same time, before anything was compiled for them."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda seed: bgmm_jd.fit(X, 2, seed=seed, **QUICK), (0, 1)))


@pytest.fixture(scope="module")
def usual(X, by_threads):
    """Return what is computed in the usual state."""
    return everything(X)


@pytest.mark.parametrize("seed", [0, 1])
def test_fits_of_two_threads_are_those_of_one_after_the_other(X, by_threads, seed):
    assert_same_fit(by_threads[seed], bgmm_jd.fit(X, 2, seed=seed, **QUICK))


def test_predictions_of_several_threads_are_those_of_one(X, by_threads):
    posterior = by_threads[0]

    def predicted(seed):
        return bgmm_jd.log_density(posterior, X, seed=seed)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predicted, range(8)))
    np.testing.assert_array_equal(found, [predicted(seed) for seed in range(8)])


@contextlib.contextmanager
def default_float(name):
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx(name)
    try:
        yield
    finally:
        tf.keras.backend.set_floatx(before)


STATES = {
    "NumPy raises": lambda: np.errstate(all="raise"),
    "Keras has float64": lambda: default_float("float64"),
    "Keras has float16": lambda: default_float("float16"),
    "a tape": tf.GradientTape,
    "a tape that persists": lambda: tf.GradientTape(persistent=True),
    "a name scope": lambda: tf.name_scope("name"),
    "a device": lambda: tf.device("/cpu:0"),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_state_of_the_process_changes_no_bit(X, usual, tmp_path, state):
    with state():
        found = everything(X, tmp_path / "fit.nc")
    assert found.keys() == usual.keys()
    for name, values in usual.items():
        assert values.tobytes() == found[name].tobytes(), name


def everything(X, path=None):
    """Fit, save and load where there is a path, and return what is computed of the posterior.

    Some rows are so far from all components that densities underflow.
    """
    far = np.concatenate([X, [[60.0], [-1e4], [1e30]]])
    posterior = bgmm_jd.fit(X, 2, **QUICK)
    if path is not None:
        bgmm_jd.save(posterior, path)
        posterior = bgmm_jd.load(path)
    idata = bgmm_jd.to_inference_data(posterior, far, draws=50)
    given = bgmm_jd.marginal(posterior, [0])
    return {
        "means": posterior.sample(50)["means"],
        "probability": bgmm_jd.predict_proba(posterior, far),
        "log density": bgmm_jd.log_density(posterior, far),
        "rows": bgmm_jd.sample_predictive(posterior, 20),
        "blocks": np.concatenate(
            list(bgmm_jd.log_density(posterior, bgmm_jd.batches(lambda: [far])))
        ),
        "groups": np.asarray(idata.log_likelihood["x"]),
        "elpd": bgmm_jd.compare({"fit": posterior})["elpd_loo"].to_numpy(float),
        "marginal": given.cdf(np.linspace(-50.0, 50.0, 9)[:, np.newaxis]),
        "summary": posterior.summary(draws=100).to_numpy(),
    }


def assert_same_fit(one, other):
    assert one.elbo == other.elbo
    assert_same(one.approximation, other.approximation)


@pytest.mark.parametrize("before", [None, b"old"])
def test_save_to_a_full_disk_is_an_error_and_leaves_what_was_there(by_threads, tmp_path, before):
    path = tmp_path / "fit.nc"
    if before is not None:
        path.write_bytes(before)
    with no_file_longer_than(4096), pytest.raises(OSError, match=r"fit\.nc cannot be written"):
        bgmm_jd.save(by_threads[0], path)
    assert os.listdir(tmp_path) == ([] if before is None else ["fit.nc"])
    assert before is None or path.read_bytes() == before


def test_checkpoint_on_a_full_disk_is_an_error_and_the_one_before_it_serves(X, tmp_path):
    path = tmp_path / "fit.npz"
    with no_file_longer_than(256), pytest.raises(OSError, match=r"fit\.npz cannot be written"):
        bgmm_jd.fit(X, 2, checkpoint=path, **QUICK)  # before the search
    assert os.listdir(tmp_path) == []

    def fill_disk(progress):
        if progress.phase == "optimization" and not sizes:
            sizes.append(path.stat().st_size)
            limits.enter_context(no_file_longer_than(sizes[0]))

    sizes = []
    with contextlib.ExitStack() as limits, pytest.raises(OSError, match="cannot be written"):
        bgmm_jd.fit(X, 2, checkpoint=path, callback=fill_disk, **QUICK)  # after a run
    assert os.listdir(tmp_path) == ["fit.npz"]
    found = bgmm_jd.fit(X, 2, checkpoint=path, **QUICK)
    assert_same_fit(found, bgmm_jd.fit(X, 2, **QUICK))


def test_cache_on_a_full_disk_is_an_error_that_leaves_no_file(X, tmp_path):
    with no_file_longer_than(4096), pytest.raises(OSError, match=r"K2-diag-.*cannot be written"):
        bgmm_jd.select(X, 2, cache=tmp_path, **QUICK)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def ctrl_c_raises():
    """Let SIGINT raise KeyboardInterrupt, as by default: pytest-xdist has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_raises")
def test_interrupt_while_a_complete_fit_is_judged_keeps_it(X, by_threads, monkeypatch):
    def press(posterior):
        signal.raise_signal(signal.SIGINT)
        return np.inf

    monkeypatch.setattr(verdict, "smallest_expected_count", press)
    with pytest.warns(bgmm_jd.StatusWarning, match="interrupted"):
        found = bgmm_jd.fit(X, 2, seed=0, **QUICK)
    assert found.status is bgmm_jd.Status.INTERRUPTED
    assert_same_fit(found, by_threads[0])
