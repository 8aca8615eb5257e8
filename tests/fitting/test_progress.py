"""Reports of a fit in callbacks and in the log."""

import logging

import numpy as np
import pytest

import bgmm_jd

OPTIONS = {"progress": False, "execution": "graph", "seed": 2}


def test_callback_receives_every_phase_of_a_fit_in_order(two_clusters, caplog):
    found = []
    with caplog.at_level(logging.INFO, "bgmm_jd"):
        posterior = bgmm_jd.fit(two_clusters, 2, callback=found.append, **OPTIONS)
    phases = list(dict.fromkeys(progress.phase for progress in found))
    assert phases == ["starts", "optimization", "elbo", "calibration", "whole posterior"]
    assert {(progress.K, progress.covariance) for progress in found} == {(2, "diag")}
    seconds = [progress.seconds for progress in found]
    assert seconds == sorted(seconds)
    blocks = [progress for progress in found if progress.steps]
    assert blocks[-1].steps == posterior.restarts[-1].steps
    assert blocks[-1].max_steps == 20_000
    # The noisy elbo of a block: within ten standard deviations of a step's.
    assert abs(blocks[-1].elbo - posterior.elbo) < 10.0 * posterior.elbo_trace[-50:].std()
    with pytest.raises(AttributeError):
        found[0].steps = 1

    messages = [record.getMessage() for record in caplog.records]
    assert messages[:2] == ["K=2, diag: looking for starts", "K=2, diag: optimising"]
    runs = [message for message in messages if "run" in message]
    assert len(runs) == len(posterior.restarts)
    assert runs[0].startswith(f"K=2, diag: run 1 of {len(runs)}, CONVERGED after ")


def test_log_is_silent_unless_it_is_configured(two_clusters, capfd):
    bgmm_jd.fit(two_clusters, 2, finish="none", **OPTIONS)
    assert capfd.readouterr().err == ""


def test_exception_in_a_callback_goes_through(two_clusters):
    def failing(progress):
        if progress.steps:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bgmm_jd.fit(two_clusters, 2, callback=failing, **OPTIONS)


@pytest.mark.parametrize(
    ("phase", "is_calibrated"),
    [("elbo", False), ("calibration", False), ("whole posterior", True), ("optimization", True)],
)
def test_interrupt_in_a_callback_ends_the_phase_and_keeps_what_the_fit_has(
    two_clusters, phase, is_calibrated
):
    """An optimisation that is cut short is calibrated where it has come to."""

    def interrupting(progress):
        if progress.phase == phase and (phase != "optimization" or progress.steps):
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(two_clusters, 2, callback=interrupting, **OPTIONS)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert posterior.calibrated == is_calibrated
    assert np.isfinite(posterior.sample(5)["means"]).all()


def test_interrupt_in_a_callback_while_there_is_nothing_to_keep_is_raised(two_clusters):
    def interrupting(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bgmm_jd.fit(two_clusters, 2, callback=interrupting, **OPTIONS)


def test_callback_that_is_no_function_is_refused(two_clusters):
    with pytest.raises(TypeError, match=r"callback must be a function.*got int"):
        bgmm_jd.fit(two_clusters, 2, callback=1, **OPTIONS)
