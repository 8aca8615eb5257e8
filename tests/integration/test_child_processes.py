"""Posteriors and fits in other processes, and signals that end a fit."""

import multiprocessing
import os
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor

import joblib
import numpy as np
import pytest
from builders import QUICK
from child_processes import child_process, wait_for
from equal_values import assert_same

import bgmm_jd


@pytest.fixture(scope="module")
def posterior(X):
    return bgmm_jd.fit(X, 2, **QUICK)


def predicted(posterior, X):
    """Return a posterior that has come to this process, and what it predicts here."""
    return posterior, bgmm_jd.predict_proba(posterior, X)


def fitted(X):
    return bgmm_jd.fit(X, 2, **QUICK)


def pool(method):
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(1, mp_context=context)


def test_posterior_goes_to_a_new_process_and_comes_back(X, posterior):
    with pool("forkserver") as executor:
        found, probabilities = executor.submit(predicted, posterior, X).result(120)
    assert_same(posterior, found)
    np.testing.assert_array_equal(probabilities, bgmm_jd.predict_proba(posterior, X))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_fit_in_a_new_process_is_the_fit_of_this_one(X, posterior, method):
    with pool(method) as executor:
        found = executor.submit(fitted, X).result(300)
    assert found.elbo == posterior.elbo
    assert_same(posterior.approximation, found.approximation)


@pytest.mark.slow
def test_joblib_fits_and_predicts_in_its_own_processes(X, posterior):
    jobs = [joblib.delayed(fitted)(X), joblib.delayed(predicted)(posterior, X)]
    found, (again, probabilities) = joblib.Parallel(n_jobs=2)(jobs)
    assert found.elbo == posterior.elbo
    assert_same(posterior, again)
    np.testing.assert_array_equal(probabilities, bgmm_jd.predict_proba(posterior, X))


AFTER_A_FORK = """
import os, pickle, sys
import numpy as np
import bgmm_jd

child = os.fork()  # TensorFlow is imported, and has run nothing
if child == 0:
    posterior, X = pickle.load(open(sys.argv[1], "rb"))
    print(bgmm_jd.predict(posterior, X).tolist(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_process_forked_before_tensorflow_has_started_works(X, posterior, tmp_path):
    path = tmp_path / "arguments"
    path.write_bytes(pickle.dumps((posterior, X)))
    with child_process(AFTER_A_FORK, path) as child:
        out, _ = child.communicate(timeout=120)
    assert out.split("\n")[0] == str(bgmm_jd.predict(posterior, X).tolist())


FIT = """
import sys
import numpy as np
import bgmm_jd

def show(progress):
    print(progress.phase, flush=True)

X = np.load(sys.argv[1])
for _ in range(2):
    found = bgmm_jd.fit(X, 2, checkpoint=sys.argv[2], callback=show, execution="graph",
                        restarts=1, finish="none", progress=False)
    print(found.status.name, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_end_a_fit_and_its_checkpoint_is_resumed(X, posterior, tmp_path):
    """While TensorFlow traces and compiles, which takes seconds after each begin of a phase."""
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(tmp_path / "X.npy", X)
    with child_process(FIT, tmp_path / "X.npy", folder / "fit.npz") as child:
        wait_for(child, "optimization")
        child.send_signal(signal.SIGINT)
        wait_for(child, "INTERRUPTED")
        wait_for(child, "optimization")  # of the second fit, which goes on from the checkpoint
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
    assert os.listdir(folder) == ["fit.npz"]
    found = bgmm_jd.fit(X, 2, checkpoint=folder / "fit.npz", **QUICK)
    assert found.elbo == posterior.elbo
    assert_same(posterior.approximation, found.approximation)
