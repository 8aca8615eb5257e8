"""How a fit ends when it does not converge: the status, one warning, and what is kept."""

import numpy as np
import pytest
import tensorflow as tf
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.optimization import svi


def test_interrupt_during_a_run_keeps_the_blocks_before_it(interrupt_in_third_block):
    """Ctrl-C in the third block: the parameters of the second, a status, one warning."""
    with pytest.warns(bgmm_jd.StatusWarning, match="interrupted"):
        posterior = bgmm_jd.fit(two_groups(64), 2)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert len(posterior.elbo_trace) == 40
    assert np.isfinite(posterior.sample(10)["means"]).all()


def test_divergence_keeps_finite_parameters(monkeypatch):
    """NaN in a block: what was reached before it is kept."""
    run = svi.Program.run

    def broken(self, *arguments):
        block, first = run(self, *arguments), arguments[4]
        if first < 40:
            return block
        return block._replace(average=tf.nest.map_structure(lambda v: v * np.nan, block.average))

    monkeypatch.setattr(svi.Program, "run", broken)
    with pytest.warns(RuntimeWarning, match="diverged"):
        posterior = bgmm_jd.fit(two_groups(64), 2, restarts=1)
    assert posterior.status is bgmm_jd.Status.DIVERGED
    assert all(np.isfinite(v).all() for v in posterior.sample(10).values())


def test_fit_that_reaches_max_steps_warns_of_the_step_limit():
    with pytest.warns(RuntimeWarning, match="step limit"):
        posterior = bgmm_jd.fit(two_groups(64), 2, restarts=1, max_steps=20)
    assert posterior.status is bgmm_jd.Status.STEP_LIMIT
